//! A network with its process and preconditioning: a denoiser.

use std::path::Path;

use fokker_nn::{Init, Module};
use fokker_sde::{Cond, Denoiser, Preconditioning, Sde, SdeConfig, Times};
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
        let purpose = Purpose { sample_shape: &config.sample_shape, classes: config.classes };
        let network = config.network.build(purpose, &mut Init::new(seed, dtype))?;
        Ok(DiffusionModel { network, config })
    }

    /// The element type of the weights, which the network computes in.
    pub fn dtype(&self) -> Dtype {
        self.tensors().first().map_or(Dtype::F32, |t| t.dtype())
    }

    /// The network's output at its own scale: `F(c_in x_t, c_noise)`, in the network's type. Training compares it with its
    /// target.
    #[track_caller]
    pub fn raw(&self, x: &Tensor, t: &Times, cond: &Cond) -> Tensor {
        let coefficients = |t| self.config.preconditioning.coefficients(&self.config.sde, t);
        let input = t.column(x, |t| coefficients(t).in_);
        let noise: Vec<f64> = t.values().iter().map(|&t| coefficients(t).noise).collect();
        let classes = self.classes(cond, x.dim(0));
        self.network.forward(&(x * &input).to(self.dtype()), &noise, classes.as_deref())
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
        let coefficients = |t| self.config.preconditioning.coefficients(&self.config.sde, t);
        let (skip, out) = (t.column(x, |t| coefficients(t).skip), t.column(x, |t| coefficients(t).out));
        &(x * &skip) + &(&self.raw(x, t, cond).to(x.dtype()) * &out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MlpConfig;
    use fokker_tensor::Noise;

    #[test]
    fn a_wide_state_meets_a_narrow_network_at_the_models_border() {
        let config = ModelConfig {
            sample_shape: vec![2],
            classes: None,
            sde: SdeConfig::default(),
            preconditioning: Preconditioning::default(),
            network: NetworkConfig::Mlp(MlpConfig { hidden: 8, ..MlpConfig::default() }),
        };
        let model = DiffusionModel::new(config, 0, Dtype::F32).unwrap();
        let x = Noise::new(1, 0).normal(&[4, 2], 0, 0, Dtype::F64);
        let wide = model.denoise(&x, &Times::Same(0.5), &Cond::NONE);
        assert_eq!(wide.dtype(), Dtype::F64);
        let narrow = model.denoise(&x.to(Dtype::F32), &Times::Same(0.5), &Cond::NONE).to_vec::<f64>();
        assert!(wide.to_vec::<f64>().iter().zip(narrow).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
