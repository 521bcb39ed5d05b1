//! Networks that others trained on photographs, whose features published scores are in: read from a file that the user gives.
//!
//! ```text
//! Inception-v3 (Szegedy et al. 2016) with the weights of 2015 that the FID is defined by (Heusel et al. 2017): 2048 features
//! DINOv2 (Oquab et al. 2023): 384, 768 or 1024 features of ViT-S, ViT-B, ViT-L, as the FD of Stein et al. 2023 (the last)
//! ```
//!
//! Files have PyTorch's names and layouts; what a file holds is told by its names. Batch norms and layer scales are folded into the layers
//! before them, in `f64`, when a file is read: nothing of them is left when images go through.

mod dinov2;
mod inception;
mod weights;

use std::path::Path;

use fokker_nn::Module;
use fokker_tensor::{Dtype, Tensor};

pub use dinov2::Dinov2;
pub use inception::Inception;

use crate::checkpoint::Checkpoint;
use crate::error::ModelError;

/// A network of features for photographs, of one of the kinds.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one of them, there are no collections")]
pub enum ImageNetwork {
    /// The network of the FID.
    Inception(Inception),
    /// A vision transformer trained without labels.
    Dinov2(Dinov2),
}

impl ImageNetwork {
    /// What network a file holds by the names in it, if it is one of these.
    pub fn kind(checkpoint: &Checkpoint) -> Option<&'static str> {
        if Inception::is_in(checkpoint) {
            Some("Inception-v3")
        } else if Dinov2::is_in(checkpoint) {
            Some("DINOv2")
        } else {
            None
        }
    }

    /// The network that a file holds, in the type of its weights; `file` is for messages.
    ///
    /// # Errors
    /// If it is no such file, or a tensor is missing, too many, of another shape, or has a number that is not finite: the message says
    /// which, and what was expected.
    pub fn from_checkpoint(checkpoint: &Checkpoint, file: &Path) -> Result<ImageNetwork, ModelError> {
        if Inception::is_in(checkpoint) {
            return Ok(ImageNetwork::Inception(Inception::from_checkpoint(checkpoint, file)?));
        }
        if Dinov2::is_in(checkpoint) {
            return Ok(ImageNetwork::Dinov2(Dinov2::from_checkpoint(checkpoint, file)?));
        }
        let expected = "expected the weights of pytorch-fid's Inception-v3 or of DINOv2";
        Err(ModelError::file(file, format!("{expected}, found {}", checkpoint.kind())))
    }

    /// The weights converted to another type.
    #[must_use]
    pub fn to(&self, dtype: Dtype) -> ImageNetwork {
        match self {
            ImageNetwork::Inception(network) => ImageNetwork::Inception(Module::to(network, dtype)),
            ImageNetwork::Dinov2(network) => ImageNetwork::Dinov2(Module::to(network, dtype)),
        }
    }

    /// Its name in one word, for identities: `inception-v3`, `dinov2-vit-b-14`.
    pub fn name(&self) -> String {
        match self {
            ImageNetwork::Inception(_) => "inception-v3".to_owned(),
            ImageNetwork::Dinov2(network) => network.name(),
        }
    }

    /// What is done to an image before it, and what its features are, for people.
    pub fn about(&self) -> String {
        match self {
            ImageNetwork::Inception(_) => Inception::ABOUT.to_owned(),
            ImageNetwork::Dinov2(network) => network.about(),
        }
    }

    /// The number of features `D`.
    pub fn width(&self) -> usize {
        match self {
            ImageNetwork::Inception(network) => network.width(),
            ImageNetwork::Dinov2(network) => network.width(),
        }
    }

    /// The number of weights after folding.
    pub fn parameter_count(&self) -> usize {
        match self {
            ImageNetwork::Inception(network) => network.parameter_count(),
            ImageNetwork::Dinov2(network) => network.parameter_count(),
        }
    }

    /// The features of images in `[−1, 1]`, grey or in colour, of any size: `[B, H, W, 1 or 3] -> [B, D]`. Resizing, the units and the grey of
    /// the network are its own affair. Memory is some 30 MB an image: split large batches.
    ///
    /// # Panics
    /// If these are no such images, or of another type than the weights.
    #[track_caller]
    pub fn features(&self, x: &Tensor) -> Tensor {
        match self {
            ImageNetwork::Inception(network) => network.features(x),
            ImageNetwork::Dinov2(network) => network.features(x),
        }
    }
}

/// `[B, H, W, 1 or 3]` with three channels.
#[track_caller]
fn coloured(x: &Tensor) -> Tensor {
    let fits = x.rank() == 4 && matches!(x.dim(3), 1 | 3);
    assert!(fits, "images of shape {:?}, expected [B, H, W, 1] or [B, H, W, 3]", x.shape());
    x.broadcast_to(&[x.dim(0), x.dim(1), x.dim(2), 3])
}
