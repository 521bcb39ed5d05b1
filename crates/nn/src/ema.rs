//! Exponential moving averages of weights.

use fokker_tensor::update::lerp;
use serde::{Deserialize, Serialize};

use crate::Module;

/// How fast an average forgets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum EmaConfig {
    /// A constant decay per step, limited to `(1 + n)/(10 + n)` after `n` steps so that the start is forgotten (Ho et al. 2020's
    /// code, after TensorFlow's `num_updates`).
    Constant {
        /// Decay per step, such as 0.9999.
        decay: f64,
    },
    /// A half-life in images, limited to `rampup` times the images seen (Karras et al. 2022, appendix F.2).
    HalfLife {
        /// Images after which a weight's share has halved.
        images: f64,
        /// Fraction of the images seen that the half-life may be at most; EDM uses 0.05. Infinite switches it off.
        #[serde(default = "edm_rampup")]
        rampup: f64,
    },
}

fn edm_rampup() -> f64 {
    0.05
}

impl Default for EmaConfig {
    fn default() -> Self {
        EmaConfig::Constant { decay: 0.9999 }
    }
}

impl EmaConfig {
    /// The decay of update `n` (0, 1, …), made after `images` images with `batch` images per step.
    pub fn decay(self, n: u64, images: u64, batch: usize) -> f64 {
        match self {
            EmaConfig::Constant { decay } => decay.min((1.0 + n as f64) / (10.0 + n as f64)),
            EmaConfig::HalfLife { images: half_life, rampup } => {
                let half_life = half_life.min(images as f64 * rampup);
                0.5f64.powf(batch as f64 / half_life.max(1e-8))
            }
        }
    }
}

/// A moving average of a model's weights.
#[derive(Clone, Debug)]
pub struct Ema<M> {
    /// The average.
    pub model: M,
    /// Updates made.
    pub updates: u64,
    /// Settings.
    pub config: EmaConfig,
}

impl<M: Module> Ema<M> {
    /// Starts at the model itself.
    pub fn new(model: &M, config: EmaConfig) -> Ema<M> {
        Ema { model: model.clone(), updates: 0, config }
    }

    /// Moves towards the model, after `images` images in all with `batch` images per step.
    pub fn update(&mut self, model: &M, images: u64, batch: usize) {
        let weight = self.next_weight(images, batch);
        for (average, p) in self.model.tensors_mut().into_iter().zip(model.tensors()) {
            lerp(average, p, weight);
        }
    }

    /// Counts an update, and says how far it goes towards the model.
    pub(crate) fn next_weight(&mut self, images: u64, batch: usize) -> f64 {
        let decay = self.config.decay(self.updates, images, batch);
        self.updates += 1;
        1.0 - decay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fokker_tensor::{Dtype, Tensor};

    #[test]
    fn a_half_life_halves_the_distance() {
        let config = EmaConfig::HalfLife { images: 1000.0, rampup: f64::INFINITY };
        let mut ema = Ema::new(&Tensor::full(&[3], 1.0, Dtype::F64), config);
        let zero = Tensor::zeros(&[3], Dtype::F64);
        for step in 0..10 {
            ema.update(&zero, step * 100, 100);
        }
        assert!((ema.model.to_vec::<f64>()[0] - 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_ramp_forgets_the_start() {
        let constant = EmaConfig::Constant { decay: 0.999 };
        assert_eq!(constant.decay(0, 0, 1), 0.1);
        assert_eq!(constant.decay(1_000_000, 0, 1), 0.999);
        let half_life = EmaConfig::HalfLife { images: 500_000.0, rampup: 0.05 };
        assert!(half_life.decay(0, 0, 64) < 1e-9);
        assert_eq!(half_life.decay(0, 64_000, 3200), 0.5);
    }
}
