//! A small convolutional classifier of images, whose last hidden layer is a feature space for metrics.
//!
//! ```text
//! h₀ = x                                                                [B, H, W, C]
//! hₗ = conv_b(conv_a(hₗ₋₁)),   conv(h) = SiLU(GroupNorm(W * h))          for each level, all 3×3; W_a of later levels has stride 2
//! φ  = mean of h_L over the positions                                   [B, D]: the features
//! p(class | x) = softmax(W φ + b)                                       [B, K]
//! ```
//!
//! Group norm (Wu & He 2018) depends on no other image of the batch: an image's features are its own. Pooling over all positions (Lin et
//! al. 2014, section 3.2) takes images of any size.

use std::path::Path;

use fokker_nn::{Conv2d, Gain, GroupNorm, Init, Linear, module};
use fokker_tensor::{Dtype, Tensor};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::error::ModelError;
use crate::network::{MOST_WIDE, within};

/// The largest number of levels: more halve any image to nothing.
const MOST_LEVELS: usize = 16;

/// Positions of the first level, in one direction, from which on the first convolution has a stride.
const MOST_POSITIONS: usize = 64;

/// Size of a [`Classifier`], and what it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// The shape of an image, `[H, W, C]`.
    pub sample_shape: Vec<usize>,
    /// The number of classes `K`.
    pub classes: usize,
    /// Channels of each level, from the first down; the last are the features `D`.
    pub channels: Vec<usize>,
    /// Groups of group norm, or the largest smaller number that divides a layer's channels.
    pub groups: usize,
    /// Stride `s` of the first convolution, whose kernel is `2 s + 1` wide.
    pub stride: usize,
}

impl ClassifierConfig {
    /// Four levels of up to 128 channels, with a stride that leaves the first at most 64 positions in each direction.
    ///
    /// # Errors
    /// If the samples are no images.
    pub fn new(sample_shape: &[usize], classes: usize) -> Result<ClassifierConfig, ModelError> {
        let config = ClassifierConfig {
            sample_shape: sample_shape.to_vec(),
            classes,
            channels: vec![16, 32, 64, 128],
            groups: 8,
            stride: 1,
        };
        let [height, width, _] = config.check()?;
        let stride = height.max(width).div_ceil(MOST_POSITIONS).next_power_of_two();
        Ok(ClassifierConfig { stride, ..config })
    }

    /// Height, width and channels.
    fn check(&self) -> Result<[usize; 3], ModelError> {
        let &[height, width, channels] = self.sample_shape.as_slice() else {
            let expected = format!("images of shape [H, W, C], found samples of shape {:?}", self.sample_shape);
            return Err(ModelError::config("sample_shape", expected));
        };
        for (field, value, most) in [
            ("sample_shape", height, 1 << 20),
            ("sample_shape", width, 1 << 20),
            ("sample_shape", channels, MOST_WIDE),
            ("channels: the number of levels", self.channels.len(), MOST_LEVELS),
            ("groups", self.groups, MOST_WIDE),
            ("stride", self.stride, 1 << 15),
        ] {
            within(field, value, most)?;
        }
        for &channels in &self.channels {
            within("channels", channels, MOST_WIDE)?;
        }
        if !(2..=1 << 16).contains(&self.classes) {
            let expected = format!("from 2 to {}, found {}", 1 << 16, self.classes);
            return Err(ModelError::config("classes", expected));
        }
        Ok([height, width, channels])
    }
}

/// The network; see the module's equations.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// What it was built from.
    pub config: ClassifierConfig,
    levels: Vec<Level>,
    output: Linear,
}
module!(Classifier { levels, output });

/// Two convolutions, each with its norm.
#[derive(Clone, Debug)]
struct Level {
    conv_a: Conv2d,
    norm_a: GroupNorm,
    conv_b: Conv2d,
    norm_b: GroupNorm,
}
module!(Level { conv_a, norm_a, conv_b, norm_b });

impl Level {
    fn new(inputs: usize, outputs: usize, stride: usize, kernel: usize, groups: usize, init: &mut Init) -> Level {
        Level {
            conv_a: Conv2d::with_gain(inputs, outputs, kernel, stride, Gain::Kaiming, init),
            norm_a: GroupNorm::new(groups, outputs, init),
            conv_b: Conv2d::with_gain(outputs, outputs, 3, 1, Gain::Kaiming, init),
            norm_b: GroupNorm::new(groups, outputs, init),
        }
    }

    fn forward(&self, h: &Tensor) -> Tensor {
        let h = self.norm_a.forward_silu(&self.conv_a.forward(h));
        self.norm_b.forward_silu(&self.conv_b.forward(&h))
    }
}

/// The metadata key of the configuration.
const CONFIG: &str = "fokker.classifier";

impl Classifier {
    /// A classifier with weights drawn from a seed; all classes are equally likely to it.
    ///
    /// # Errors
    /// If a size is out of range, or the samples are no images.
    pub fn new(config: ClassifierConfig, seed: u64, dtype: Dtype) -> Result<Classifier, ModelError> {
        let [_, _, mut inputs] = config.check()?;
        let mut init = Init::new(seed, dtype);
        let mut levels = Vec::new();
        for (i, &outputs) in config.channels.iter().enumerate() {
            let (stride, kernel) = if i == 0 { (config.stride, 2 * config.stride + 1) } else { (2, 3) };
            levels.push(Level::new(inputs, outputs, stride, kernel, config.groups, &mut init));
            inputs = outputs;
        }
        let output = Linear::with_gain(inputs, config.classes, Gain::Zero, &mut init);
        Ok(Classifier { config, levels, output })
    }

    /// The number of features `D`.
    pub fn width(&self) -> usize {
        self.output.weight.dim(0)
    }

    /// The features of images in `[−1, 1]`: `[B, H, W, C] -> [B, D]`, in the type of the weights.
    ///
    /// # Panics
    /// If the images have another shape or type than the classifier is for.
    #[track_caller]
    pub fn features(&self, x: &Tensor) -> Tensor {
        let shape = &self.config.sample_shape;
        let fits = x.rank() == 4 && x.shape()[1..] == **shape;
        assert!(fits, "classifier: images of shape {:?}, expected [B, {}, {}, {}]", x.shape(), shape[0], shape[1], shape[2]);
        self.levels.iter().fold(x.clone(), |h, level| level.forward(&h)).mean(&[1, 2])
    }

    /// `ln p(class | x)` up to a constant of each image, from the features: `[B, D] -> [B, K]`.
    ///
    /// # Panics
    /// If there are not `D` features.
    #[track_caller]
    pub fn logits(&self, features: &Tensor) -> Tensor {
        self.output.forward(features)
    }

    /// A checkpoint of the weights and the configuration; the caller may add to it.
    ///
    /// # Errors
    /// If the configuration cannot be serialised.
    pub fn to_checkpoint(&self) -> Result<Checkpoint, ModelError> {
        let mut checkpoint = Checkpoint::default();
        checkpoint.insert_module("", self);
        let config = serde_json::to_string(&self.config)
            .map_err(|e| ModelError::config(CONFIG, format!("values that JSON can hold: {e}")))?;
        checkpoint.metadata.insert(CONFIG.into(), config);
        Ok(checkpoint)
    }

    /// Whether a checkpoint is a classifier's.
    pub fn is_in(checkpoint: &Checkpoint) -> bool {
        checkpoint.metadata.contains_key(CONFIG)
    }

    /// The classifier that a checkpoint holds; `file` is for messages.
    ///
    /// # Errors
    /// If it is no classifier's, or does not fit its configuration.
    pub fn from_checkpoint(checkpoint: &Checkpoint, file: &Path) -> Result<Classifier, ModelError> {
        if !Classifier::is_in(checkpoint) {
            return Err(ModelError::file(file, format!("expected a classifier's file, found {}", checkpoint.kind())));
        }
        let config: ClassifierConfig = serde_json::from_str(checkpoint.text(CONFIG, file)?)
            .map_err(|e| ModelError::file(file, format!("metadata `{CONFIG}`: {e}")))?;
        let dtype = checkpoint.tensors.values().next().map_or(Dtype::F32, Tensor::dtype);
        let mut classifier = Classifier::new(config, 0, dtype).map_err(|e| ModelError::file(file, e.to_string()))?;
        checkpoint.load_module("", &mut classifier, file)?;
        Ok(classifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fokker_nn::Module;
    use fokker_tensor::Noise;

    fn small(sample_shape: &[usize]) -> Classifier {
        let config = ClassifierConfig { channels: vec![4, 6], groups: 2, ..ClassifierConfig::new(sample_shape, 3).unwrap() };
        let mut classifier = Classifier::new(config, 0, Dtype::F64).unwrap();
        for (i, t) in classifier.tensors_mut().into_iter().enumerate() {
            *t = &*t + &(&Noise::new(9, i as u64).normal(&[1, t.len()], 0, 0, Dtype::F64).reshape(t.shape()) * 0.3);
        }
        classifier
    }

    #[test]
    fn images_of_any_size_have_features_of_their_own() {
        for shape in [[7, 9, 2], [1, 1, 1], [3, 70, 1]] {
            let classifier = small(&shape);
            let x = Noise::new(1, 0).normal(&[&[5], &shape[..]].concat(), 0, 0, Dtype::F64);
            let features = classifier.features(&x);
            assert_eq!((features.shape(), classifier.width()), (&[5, 6][..], 6));
            assert_eq!(classifier.logits(&features).shape(), [5, 3]);
            let alone = classifier.features(&x.slice(0, 3..4)).to_vec::<f64>();
            let together = features.slice(0, 3..4).to_vec::<f64>();
            assert!(alone.iter().zip(together).all(|(a, b)| (a - b).abs() < 1e-12), "{shape:?}");
        }
    }

    #[test]
    fn large_images_begin_with_a_stride() {
        let stride = |height, width| ClassifierConfig::new(&[height, width, 3], 10).unwrap().stride;
        assert_eq!([stride(28, 28), stride(64, 10), stride(65, 1), stride(96, 128), stride(256, 256)], [1, 1, 2, 2, 4]);
    }

    #[test]
    fn a_new_classifier_prefers_no_class() {
        let classifier = Classifier::new(ClassifierConfig::new(&[8, 8, 1], 4).unwrap(), 7, Dtype::F32).unwrap();
        let x = Noise::new(1, 0).normal(&[2, 8, 8, 1], 0, 0, Dtype::F32);
        assert_eq!(classifier.logits(&classifier.features(&x)).to_vec::<f64>(), [0.0; 8]);
    }

    #[test]
    fn a_file_gives_the_same_bits_and_another_kind_of_file_is_named() {
        let classifier = small(&[5, 5, 1]);
        let bytes = classifier.to_checkpoint().unwrap().to_bytes().unwrap();
        let read =
            |bytes: &[u8]| Classifier::from_checkpoint(&Checkpoint::from_bytes(bytes, "f".as_ref()).unwrap(), "f".as_ref());
        let again = read(&bytes).unwrap();
        let x = Noise::new(1, 0).normal(&[2, 5, 5, 1], 0, 0, Dtype::F64);
        assert_eq!(again.config, classifier.config);
        assert_eq!(again.features(&x).to_vec::<f64>(), classifier.features(&x).to_vec::<f64>());

        let mut other = Checkpoint::default();
        assert_eq!(
            Classifier::from_checkpoint(&other, "f".as_ref()).unwrap_err().to_string(),
            "f: expected a classifier's file, found a file that fokker did not write"
        );
        other.metadata.insert("fokker.model".into(), "{}".into());
        assert_eq!(
            Classifier::from_checkpoint(&other, "f".as_ref()).unwrap_err().to_string(),
            "f: expected a classifier's file, found a diffusion model"
        );
    }

    #[test]
    fn sizes_out_of_range_name_the_field() {
        let error = |shape: &[usize], classes| ClassifierConfig::new(shape, classes).unwrap_err().to_string();
        assert!(error(&[2], 3).contains("`sample_shape`") && error(&[2], 3).contains("images of shape [H, W, C]"));
        assert!(error(&[0, 2, 1], 3).contains("`sample_shape`"));
        assert!(error(&[2, 2, 1], 1).contains("`classes`: expected from 2"));
        let config = ClassifierConfig { channels: vec![4, 0], ..ClassifierConfig::new(&[2, 2, 1], 2).unwrap() };
        assert!(Classifier::new(config, 0, Dtype::F32).unwrap_err().to_string().contains("`channels`"));
    }
}
