//! What a file of features holds, of whichever kind.

use std::path::Path;

use fokker_models::checkpoint::Checkpoint;
use fokker_models::{Classifier, ImageNetwork, ModelError};
use fokker_tensor::Tensor;

use super::{PretrainedFeatures, TrainedFeatures};
use crate::error::TrainError;
use crate::evaluation::sha256;

/// A feature space for images that a file holds.
#[derive(Clone, Debug)]
pub enum FeatureNetwork {
    /// Learned from a data set's labels by [`train_features`](super::train_features).
    Trained(Box<TrainedFeatures>),
    /// Of a network that others trained on photographs.
    Pretrained(Box<PretrainedFeatures>),
}

impl FeatureNetwork {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or as [`from_bytes`](Self::from_bytes).
    pub fn load(file: &Path) -> Result<FeatureNetwork, TrainError> {
        if file.extension().is_some_and(|e| ["pth", "pt", "bin"].iter().any(|known| e == *known)) {
            let problem = "expected a .safetensors file; `fokker features --help` says how weights of PyTorch become one";
            return Err(TrainError::file(file, problem));
        }
        let bytes = std::fs::read(file).map_err(|source| ModelError::Read { path: file.into(), source })?;
        FeatureNetwork::from_bytes(&bytes, file)
    }

    /// The features that the content of a file is; `file` is for messages.
    ///
    /// # Errors
    /// If it is another kind of file or damaged, or a tensor is not as the network's: the message says which, and what was expected.
    pub fn from_bytes(bytes: &[u8], file: &Path) -> Result<FeatureNetwork, TrainError> {
        let checkpoint = Checkpoint::from_bytes(bytes, file)?;
        if Classifier::is_in(&checkpoint) {
            return Ok(FeatureNetwork::Trained(Box::new(TrainedFeatures::from_bytes(bytes, file)?)));
        }
        if ImageNetwork::kind(&checkpoint).is_some() {
            let features = PretrainedFeatures::new(&checkpoint, sha256(bytes), file)?;
            return Ok(FeatureNetwork::Pretrained(Box::new(features)));
        }
        let expected =
            "expected features that `fokker features train` wrote, or the weights of pytorch-fid's Inception-v3 or of DINOv2";
        Err(TrainError::file(file, format!("{expected}, found {}", checkpoint.kind())))
    }

    /// The SHA-256 of the file, in hexadecimal: scores are comparable where it is the same.
    pub fn id(&self) -> &str {
        match self {
            FeatureNetwork::Trained(features) => features.id(),
            FeatureNetwork::Pretrained(features) => features.id(),
        }
    }

    /// What kind of features these are, in a word: `trained`, `inception-v3`, `dinov2-vit-b-14`.
    pub fn name(&self) -> String {
        match self {
            FeatureNetwork::Trained(_) => "trained".to_owned(),
            FeatureNetwork::Pretrained(features) => features.network().name(),
        }
    }

    /// The number of features `D`.
    pub fn width(&self) -> usize {
        match self {
            FeatureNetwork::Trained(features) => features.width(),
            FeatureNetwork::Pretrained(features) => features.network().width(),
        }
    }

    /// Whether samples of this shape, without the batch, have such features. `origin`, where the samples come from, is for the message.
    ///
    /// # Errors
    /// If they are no images, or of another shape than those of the data that features were learned from.
    pub fn fits(&self, sample_shape: &[usize], origin: &str) -> Result<(), TrainError> {
        match self {
            FeatureNetwork::Trained(features) => features.fits(sample_shape, origin),
            FeatureNetwork::Pretrained(features) => features.fits(sample_shape, origin),
        }
    }

    /// The features of images in `[−1, 1]`, in batches of bounded memory: `[N, H, W, C] -> f32 [N, D]`. Numbers outside are taken for the
    /// nearest inside, and by a network of photographs every number for the nearest byte's.
    ///
    /// # Errors
    /// If the images do not [fit](Self::fits), or one has a number that is not finite.
    pub fn of(&self, x: &Tensor) -> Result<Tensor, TrainError> {
        self.fits(x.shape().get(1..).unwrap_or_default(), "images")?;
        match self {
            FeatureNetwork::Trained(features) => features.of(x),
            FeatureNetwork::Pretrained(features) => features.of(x),
        }
    }
}
