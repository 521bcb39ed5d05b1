//! Feature spaces of networks that others trained: an image as its 8-bit picture goes through the network of a file.
//!
//! ```text
//! x' = round(127.5 (clamp(x, −1, 1) + 1)) / 127.5 − 1        what a picture of x shows, in [−1, 1]
//! φ(x) = network(x')
//! ```
//!
//! Published scores are of image files, so samples are taken for the bytes that they would be saved as; data of bytes stay as they are. This is
//! the one place where numbers of samples become pixels; from there on a network's units are its own affair ([`ImageNetwork::features`]).

use std::path::Path;

use fokker_models::ImageNetwork;
use fokker_models::checkpoint::Checkpoint;
use fokker_tensor::{Dtype, Tensor};

use super::in_batches;
use crate::error::TrainError;

/// Images that go through a network at once: about half a gigabyte of activations.
const AT_ONCE: usize = 16;

/// The features of a network for photographs, whose weights are in a file that the user gives.
#[derive(Clone, Debug)]
pub struct PretrainedFeatures {
    network: ImageNetwork,
    id: String,
}

impl PretrainedFeatures {
    pub(super) fn new(checkpoint: &Checkpoint, id: String, file: &Path) -> Result<PretrainedFeatures, TrainError> {
        Ok(PretrainedFeatures { network: ImageNetwork::from_checkpoint(checkpoint, file)?.to(Dtype::F32), id })
    }

    /// The SHA-256 of the file, in hexadecimal: scores are comparable where it is the same.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The network.
    pub fn network(&self) -> &ImageNetwork {
        &self.network
    }

    /// Whether samples of this shape, without the batch, have such features: images of any size, grey or in colour.
    pub(super) fn fits(&self, sample_shape: &[usize], origin: &str) -> Result<(), TrainError> {
        if matches!(sample_shape, &[h, w, 1 | 3] if h > 0 && w > 0) {
            return Ok(());
        }
        let expected = "expected images of shape [H, W, 1] or [H, W, 3]";
        let problem = format!("{expected}, for features of {}, found samples of shape {sample_shape:?}", self.network.name());
        Err(TrainError::config(origin, problem))
    }

    /// See [`FeatureNetwork::of`](super::FeatureNetwork::of).
    pub(super) fn of(&self, x: &Tensor) -> Result<Tensor, TrainError> {
        in_batches(x, AT_ONCE, self.network.width(), |some| self.network.features(&pictured(some)))
    }
}

/// What 8-bit pictures of samples show, as data sets have it.
fn pictured(x: &Tensor) -> Tensor {
    let byte = |x: f32| (127.5 * (x.clamp(-1.0, 1.0) + 1.0)).round();
    let values = x.to(Dtype::F32).to_vec::<f32>().into_iter().map(|x| byte(x) / 127.5 - 1.0).collect::<Vec<f32>>();
    Tensor::from_vec(x.shape(), values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_what_they_are_and_other_numbers_become_the_nearest() {
        let bytes: Vec<f32> = (0..=255u8).map(|byte| f32::from(byte) / 127.5 - 1.0).collect();
        let x = Tensor::from_vec(&[1, 16, 16, 1], bytes.clone());
        assert_eq!(pictured(&x).to_vec::<f32>(), bytes);
        let near: Vec<f32> = bytes.iter().enumerate().map(|(i, x)| x + [0.0038, -0.0038][i % 2]).collect();
        assert_eq!(pictured(&Tensor::from_vec(&[1, 16, 16, 1], near)).to_vec::<f32>(), bytes);
        let outside = pictured(&Tensor::from_vec(&[2], vec![-7.0f64, 1.5]));
        assert_eq!(outside.to_vec::<f32>(), [-1.0, 1.0]);
    }
}
