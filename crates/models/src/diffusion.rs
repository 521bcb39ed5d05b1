//! A network with its process and preconditioning: a denoiser.
//!
//! A network with learned variances puts out `F` and `F_v`, one after the other in the last axis. `F` is what it would be without, and the
//! fraction of [`Denoiser::reverse`] is `v = (1 + F_v)/2`: halfway between the bounds in a new network, and not limited, as in Nichol &
//! Dhariwal 2021 (arXiv:2102.09672), section 3.1.

use std::path::Path;

use fokker_nn::{Init, Module};
use fokker_sde::{Cond, Denoiser, Preconditioning, Reverse, Sde, SdeConfig, Times};
use fokker_tensor::{Dtype, Tensor};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::error::ModelError;
use crate::network::{Network, NetworkConfig, Purpose};

/// Everything that defines a model except its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The shape of one sample: `[D]` or `[H, W, C]`.
    pub sample_shape: Vec<usize>,
    /// The number of classes the model can be conditioned on, if any.
    #[serde(default)]
    pub classes: Option<usize>,
    /// The noising process.
    #[serde(default)]
    pub sde: SdeConfig,
    /// How the network's output becomes a denoised sample.
    #[serde(default)]
    pub preconditioning: Preconditioning,
    /// Whether the network also answers, for each element, where between its bounds the variance of a reverse step lies (Nichol &
    /// Dhariwal 2021, eq. 15), default no. It then has twice the outputs.
    // Left out where it is not: a run is only resumed with the very configuration that its checkpoint has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub learned_variance: bool,
    /// The network.
    pub network: NetworkConfig,
}

/// A network trained (or to be trained) under a process: predicts `E[x_0 | x_t]`.
#[derive(Clone, Debug)]
pub struct DiffusionModel {
    /// The network.
    pub network: Network,
    /// What it was built from.
    pub config: ModelConfig,
}

impl Module for DiffusionModel {
    fn visit<'a>(&'a self, path: &mut fokker_nn::Path, f: &mut dyn FnMut(&str, &'a Tensor)) {
        self.network.visit(path, f);
    }

    fn visit_mut<'a>(&'a mut self, path: &mut fokker_nn::Path, f: &mut dyn FnMut(&str, &'a mut Tensor)) {
        self.network.visit_mut(path, f);
    }
}

/// The metadata key of the configuration.
const CONFIG: &str = "fokker.model";

impl DiffusionModel {
    /// A model with weights drawn from a seed.
    ///
    /// # Errors
    /// If the configuration is inconsistent.
    pub fn new(config: ModelConfig, seed: u64, dtype: Dtype) -> Result<DiffusionModel, ModelError> {
        if config.sample_shape.is_empty() || config.sample_shape.contains(&0) {
            let expected = format!("at least one axis and no empty one, found {:?}", config.sample_shape);
            return Err(ModelError::config("sample_shape", expected));
        }
        if config.classes == Some(0) {
            return Err(ModelError::config("classes", "at least 1, or none at all, found 0"));
        }
        config.sde.check()?;
        config.preconditioning.check(&config.sde)?;
        let outputs = if config.learned_variance { 2 } else { 1 };
        let purpose = Purpose { sample_shape: &config.sample_shape, classes: config.classes, outputs };
        let network = config.network.build(purpose, &mut Init::new(seed, dtype))?;
        Ok(DiffusionModel { network, config })
    }

    /// The element type of the weights, which the network computes in.
    pub fn dtype(&self) -> Dtype {
        self.tensors().first().map_or(Dtype::F32, |t| t.dtype())
    }

    /// The network's output at its own scale: `F(c_in x_t, c_noise)`. Training compares it with its target. What goes into the network is
    /// converted to its type, [`dtype`](Self::dtype), and what comes out to that of `x`: states of solvers, targets and losses are never of
    /// `bf16`.
    #[track_caller]
    pub fn raw(&self, x: &Tensor, t: &Times, cond: &Cond) -> Tensor {
        self.raw_and_fraction(x, t, cond).0
    }

    /// The same with the fraction `v` of a model with learned variances, `[B, ...]` like `x`. One run of the network gives both.
    #[track_caller]
    pub fn raw_and_fraction(&self, x: &Tensor, t: &Times, cond: &Cond) -> (Tensor, Option<Tensor>) {
        let coefficients = |t| self.config.preconditioning.coefficients(&self.config.sde, t);
        let input = t.column(x, |t| coefficients(t).in_);
        let noise: Vec<f64> = t.values().iter().map(|&t| coefficients(t).noise).collect();
        let classes = self.classes(cond, x.dim(0));
        let output = self.network.forward(&(x * &input).to(self.dtype()), &noise, classes.as_deref()).to(x.dtype());
        if !self.config.learned_variance {
            return (output, None);
        }
        let last = x.rank() - 1;
        let part = |i: usize| output.slice(last, i * x.dim(last)..(i + 1) * x.dim(last));
        (part(0), Some(&(&part(1) * 0.5) + 0.5))
    }

    /// `c_skip x_t + c_out F`.
    fn denoised(&self, x: &Tensor, t: &Times, raw: &Tensor) -> Tensor {
        let coefficients = |t| self.config.preconditioning.coefficients(&self.config.sde, t);
        let (skip, out) = (t.column(x, |t| coefficients(t).skip), t.column(x, |t| coefficients(t).out));
        &(x * &skip) + &(raw * &out)
    }

    /// One class index per sample, the number of classes standing for "none".
    #[track_caller]
    fn classes(&self, cond: &Cond, batch: usize) -> Option<Vec<usize>> {
        let n = self.config.classes;
        match (n, &cond.class) {
            (None, None) => None,
            (None, Some(_)) => panic!("denoise: a class was given to a model without classes"),
            (Some(n), None) => Some(vec![n; batch]),
            (Some(_), Some(classes)) => {
                assert_eq!(classes.len(), batch, "denoise: {} classes for a batch of {batch}", classes.len());
                Some(classes.iter().map(|&c| c as usize).collect())
            }
        }
    }

    /// The content of the model's `.safetensors` file.
    ///
    /// # Errors
    /// If it cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let mut checkpoint = Checkpoint::default();
        checkpoint.insert_module("", self);
        checkpoint.metadata.insert(CONFIG.into(), self.config_json()?);
        checkpoint.to_bytes()
    }

    fn config_json(&self) -> Result<String, ModelError> {
        serde_json::to_string(&self.config).map_err(|e| ModelError::config("model", format!("values that JSON can hold: {e}")))
    }

    /// A model from the content of its file; `file` is for messages.
    ///
    /// # Errors
    /// If it is not a model's file, or does not fit its configuration.
    pub fn from_bytes(bytes: &[u8], file: &Path) -> Result<DiffusionModel, ModelError> {
        DiffusionModel::from_checkpoint(&Checkpoint::from_bytes(bytes, file)?, "", file)
    }

    /// The model whose weights a checkpoint holds under `prefix`; `file` is for messages.
    ///
    /// # Errors
    /// If there is none, or it does not fit its configuration.
    pub fn from_checkpoint(checkpoint: &Checkpoint, prefix: &str, file: &Path) -> Result<DiffusionModel, ModelError> {
        let config: ModelConfig = serde_json::from_str(checkpoint.text(CONFIG, file)?)
            .map_err(|e| ModelError::file(file, format!("metadata `{CONFIG}`: {e}")))?;
        let dtype = checkpoint.tensors.values().next().map_or(Dtype::F32, Tensor::dtype);
        let mut model = DiffusionModel::new(config, 0, dtype).map_err(|e| ModelError::file(file, e.to_string()))?;
        checkpoint.load_module(prefix, &mut model, file)?;
        Ok(model)
    }

    /// Reads a model's file.
    ///
    /// # Errors
    /// If it cannot be read, is not a model's file, or does not fit its configuration.
    pub fn load(file: &Path) -> Result<DiffusionModel, ModelError> {
        let bytes = std::fs::read(file).map_err(|source| ModelError::Read { path: file.into(), source })?;
        DiffusionModel::from_bytes(&bytes, file)
    }
}

impl Denoiser for DiffusionModel {
    fn sde(&self) -> &dyn Sde {
        &self.config.sde
    }

    fn denoise(&self, x: &Tensor, t: &Times, cond: &Cond) -> Tensor {
        self.denoised(x, t, &self.raw(x, t, cond))
    }

    fn learns_variance(&self) -> bool {
        self.config.learned_variance
    }

    fn reverse(&self, x: &Tensor, t: &Times, _s: &Times, cond: &Cond) -> Reverse {
        let (raw, fraction) = self.raw_and_fraction(x, t, cond);
        Reverse { denoised: self.denoised(x, t, &raw), fraction }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MlpConfig, UNetConfig};
    use fokker_tensor::Noise;

    /// A model of two numbers, or of an image with two channels, with noise in all its weights: output layers start at zero.
    fn with_variance(sample_shape: &[usize], learned_variance: bool) -> DiffusionModel {
        let network = match sample_shape {
            [_] => NetworkConfig::Mlp(MlpConfig { hidden: 8, blocks: 1, embedding: 4, ..MlpConfig::default() }),
            _ => {
                NetworkConfig::UNet(UNetConfig { patch: 2, channels: vec![4, 6], blocks: 1, groups: 2, ..UNetConfig::default() })
            }
        };
        let config = ModelConfig {
            sample_shape: sample_shape.to_vec(),
            classes: None,
            sde: SdeConfig::default(),
            preconditioning: Preconditioning::default(),
            learned_variance,
            network,
        };
        let mut model = DiffusionModel::new(config, 0, Dtype::F64).unwrap();
        for (i, t) in model.tensors_mut().into_iter().enumerate() {
            *t = &*t + &(&Noise::new(9, i as u64).normal(&[1, t.len()], 0, 0, Dtype::F64).reshape(t.shape()) * 0.3);
        }
        model
    }

    #[test]
    fn the_variance_is_the_second_half_of_the_networks_outputs_and_passes_through_files() {
        for shape in [&[3][..], &[5, 4, 2]] {
            let model = with_variance(shape, true);
            let x = Noise::new(1, 0).normal(&[&[2], shape].concat(), 0, 0, Dtype::F64);
            let (t, s) = (Times::Each(vec![0.5, 0.9]), Times::Same(0.3));
            let Reverse { denoised, fraction } = model.reverse(&x, &t, &s, &Cond::NONE);
            let fraction = fraction.expect("a model with variances").to_vec::<f64>();
            assert!(model.learns_variance() && denoised.shape() == x.shape());
            assert_eq!(denoised.to_vec::<f64>(), model.denoise(&x, &t, &Cond::NONE).to_vec::<f64>());

            let coefficients = |t| model.config.preconditioning.coefficients(&model.config.sde, t);
            let input = t.scale(&x, |t| coefficients(t).in_);
            let output = model.network.forward(&input, &[coefficients(0.5).noise, coefficients(0.9).noise], None).to_vec::<f64>();
            let width = shape[shape.len() - 1];
            let halves = output.chunks(2 * width).flat_map(|both| &both[width..]);
            assert_eq!(fraction.len(), x.len());
            assert!(fraction.iter().zip(halves).all(|(v, f)| (v - 0.5 * (1.0 + f)).abs() < 1e-15));

            let again = DiffusionModel::from_bytes(&model.to_bytes().unwrap(), "memory".as_ref()).unwrap();
            assert_eq!(again.config, model.config);
            assert_eq!(again.reverse(&x, &t, &s, &Cond::NONE).fraction.unwrap().to_vec::<f64>(), fraction);
        }
    }

    #[test]
    fn a_model_without_variances_has_none_and_its_file_says_nothing_of_them() {
        let model = with_variance(&[3], false);
        let x = Noise::new(1, 0).normal(&[2, 3], 0, 0, Dtype::F64);
        let answer = model.reverse(&x, &Times::Same(0.5), &Times::Same(0.3), &Cond::NONE);
        assert!(!model.learns_variance() && answer.fraction.is_none());
        assert_eq!(answer.denoised.to_vec::<f64>(), model.denoise(&x, &Times::Same(0.5), &Cond::NONE).to_vec::<f64>());
        // A file from before there were variances.
        let json = model.config_json().unwrap();
        assert!(!json.contains("variance"), "{json}");
        assert_eq!(serde_json::from_str::<ModelConfig>(&json).unwrap(), model.config);
        // One that says it has variances must have them.
        let mut checkpoint = Checkpoint::default();
        checkpoint.insert_module("", &model);
        checkpoint.metadata.insert(CONFIG.into(), json.replacen('{', "{\"learned_variance\":true,", 1));
        let error = DiffusionModel::from_checkpoint(&checkpoint, "", "some/file".as_ref()).unwrap_err().to_string();
        assert!(error.contains("`output.weight` is f64 [8, 3], expected f64 [8, 6]"), "{error}");
    }

    #[test]
    fn a_wide_state_meets_a_narrow_network_at_the_models_border() {
        let config = ModelConfig {
            sample_shape: vec![2],
            classes: None,
            sde: SdeConfig::default(),
            preconditioning: Preconditioning::default(),
            learned_variance: false,
            network: NetworkConfig::Mlp(MlpConfig { hidden: 8, ..MlpConfig::default() }),
        };
        let mut model = DiffusionModel::new(config, 0, Dtype::F32).unwrap();
        for (i, t) in model.tensors_mut().into_iter().enumerate() {
            *t = &*t + &(&Noise::new(9, i as u64).normal(&[1, t.len()], 0, 0, Dtype::F32).reshape(t.shape()) * 0.3);
        }
        let x = Noise::new(1, 0).normal(&[4, 2], 0, 0, Dtype::F64);
        let wide = model.denoise(&x, &Times::Same(0.5), &Cond::NONE);
        assert_eq!(wide.dtype(), Dtype::F64);
        let narrow = model.denoise(&x.to(Dtype::F32), &Times::Same(0.5), &Cond::NONE).to_vec::<f64>();
        assert!(wide.to_vec::<f64>().iter().zip(narrow).all(|(a, b)| (a - b).abs() < 1e-6));
        // With weights and activations of bf16 the state stays what it is, and the answer is near.
        let coarse = model.to(Dtype::Bf16).denoise(&x, &Times::Same(0.5), &Cond::NONE);
        assert_eq!(coarse.dtype(), Dtype::F64);
        let distances = wide.to_vec::<f64>().into_iter().zip(coarse.to_vec::<f64>()).map(|(a, b)| (a - b).abs());
        let most = distances.fold(0.0, f64::max);
        assert!(0.0 < most && most < 0.02, "{most}");
    }
}
