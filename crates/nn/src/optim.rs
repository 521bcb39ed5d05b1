//! Optimisers. Moments are values of the model's own type, so they are saved and restored like a model.

use fokker_tensor::update::{AdamStep, SgdStep, adam, sgd};
use serde::{Deserialize, Serialize};

use crate::{Ema, Module};

/// Settings of [`Adam`]; with weight decay it is AdamW unless `decoupled` is off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamConfig {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// AdamW's decoupled weight decay (Loshchilov & Hutter 2019) rather than an L2 term in the gradient.
    pub decoupled: bool,
}

impl Default for AdamConfig {
    fn default() -> Self {
        AdamConfig { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, decoupled: true }
    }
}

/// Adam and AdamW, in one pass over each parameter.
#[derive(Clone, Debug)]
pub struct Adam<M> {
    /// Moving average of gradients.
    pub mean: M,
    /// Moving average of squared gradients.
    pub square: M,
    /// Steps taken.
    pub steps: u64,
    /// Settings.
    pub config: AdamConfig,
}

impl<M: Module> Adam<M> {
    /// Moments zero, no step taken.
    pub fn new(model: &M, config: AdamConfig) -> Adam<M> {
        Adam { mean: model.zeros_like(), square: model.zeros_like(), steps: 0, config }
    }

    /// One step with gradients multiplied by `gradient_scale` (see [`clip_scale`](crate::clip_scale)).
    pub fn step(&mut self, model: &mut M, grads: &M, learning_rate: f64, gradient_scale: f64) {
        self.step_with(model, grads, learning_rate, gradient_scale, None);
    }

    /// [`step`](Self::step) and then [`Ema::update`](crate::Ema::update) of `average`, after `images` images in all with `batch` images per
    /// step, in one pass over the parameters: the same bits in less time.
    #[expect(clippy::too_many_arguments, reason = "each is a different thing, none has a default")]
    pub fn step_and_average(
        &mut self,
        model: &mut M,
        grads: &M,
        learning_rate: f64,
        gradient_scale: f64,
        average: &mut Ema<M>,
        images: u64,
        batch: usize,
    ) {
        let weight = average.next_weight(images, batch);
        self.step_with(model, grads, learning_rate, gradient_scale, Some((&mut average.model, weight)));
    }

    fn step_with(&mut self, model: &mut M, grads: &M, learning_rate: f64, gradient_scale: f64, average: Option<(&mut M, f64)>) {
        self.steps += 1;
        let AdamConfig { beta1, beta2, epsilon, weight_decay, decoupled } = self.config;
        let c = AdamStep { learning_rate, beta1, beta2, epsilon, weight_decay, decoupled, step: self.steps, gradient_scale };
        let moments = self.mean.tensors_mut().into_iter().zip(self.square.tensors_mut());
        let (average, weight) = average.map_or((Vec::new(), 0.0), |(average, weight)| (average.tensors_mut(), weight));
        let mut average = average.into_iter();
        for ((p, g), (m, v)) in model.tensors_mut().into_iter().zip(grads.tensors()).zip(moments) {
            adam(p, m, v, average.next().map(|e| (e, weight)), g, &c);
        }
    }
}

/// Settings of [`Sgd`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SgdConfig {
    /// Decay of the velocity.
    pub momentum: f64,
    /// Nesterov's look-ahead.
    pub nesterov: bool,
    /// Joins the gradient.
    pub weight_decay: f64,
}

/// Gradient descent with momentum.
#[derive(Clone, Debug)]
pub struct Sgd<M> {
    /// The velocity.
    pub velocity: M,
    /// Settings.
    pub config: SgdConfig,
}

impl<M: Module> Sgd<M> {
    /// Velocity zero.
    pub fn new(model: &M, config: SgdConfig) -> Sgd<M> {
        Sgd { velocity: model.zeros_like(), config }
    }

    /// One step with gradients multiplied by `gradient_scale`.
    pub fn step(&mut self, model: &mut M, grads: &M, learning_rate: f64, gradient_scale: f64) {
        let SgdConfig { momentum, nesterov, weight_decay } = self.config;
        let c = SgdStep { learning_rate, momentum, nesterov, weight_decay, gradient_scale };
        for ((p, g), v) in model.tensors_mut().into_iter().zip(grads.tensors()).zip(self.velocity.tensors_mut()) {
            sgd(p, v, g, &c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EmaConfig;
    use fokker_tensor::{Dtype, Tensor};

    #[test]
    fn the_first_adam_step_moves_each_parameter_by_the_learning_rate() {
        let mut p = Tensor::from_vec(&[3], vec![1.0f64, 2.0, 3.0]);
        let g = Tensor::from_vec(&[3], vec![0.5f64, -7.0, 1e-3]);
        let mut adam = Adam::new(&p, AdamConfig { epsilon: 0.0, ..AdamConfig::default() });
        adam.step(&mut p, &g, 0.1, 1.0);
        for (got, want) in p.to_vec::<f64>().iter().zip([0.9, 2.1, 2.9]) {
            assert!((got - want).abs() < 1e-12);
        }
    }

    #[test]
    fn a_step_with_its_average_has_the_bits_of_one_after_the_other() {
        let noise = fokker_tensor::Noise::new(5, 0);
        for (dtype, n) in [(Dtype::F32, 40_001), (Dtype::F64, 77)] {
            let [start, g, h] = [0, 1, 2].map(|i| noise.normal(&[n], 0, i, dtype));
            let config = EmaConfig::HalfLife { images: 100.0, rampup: 0.5 };
            let begin = || (start.clone(), Adam::new(&start, AdamConfig::default()), Ema::new(&start, config));
            let ((mut p, mut adam, mut ema), (mut q, mut fused, mut average)) = (begin(), begin());
            for (i, g) in [g, h].iter().enumerate() {
                let images = 10 * (i as u64 + 1);
                adam.step(&mut p, g, 0.1, 0.5);
                ema.update(&p, images, 10);
                fused.step_and_average(&mut q, g, 0.1, 0.5, &mut average, images, 10);
            }
            assert_eq!(p.to_vec::<f64>(), q.to_vec::<f64>());
            assert_eq!(ema.model.to_vec::<f64>(), average.model.to_vec::<f64>());
            assert_ne!(ema.model.to_vec::<f64>(), p.to_vec::<f64>());
            assert_eq!((ema.updates, average.updates), (2, 2));
        }
    }

    #[test]
    fn decoupled_decay_shrinks_parameters_without_gradient() {
        let mut p = Tensor::full(&[40_000], 2.0, Dtype::F32);
        let g = Tensor::zeros(&[40_000], Dtype::F32);
        let mut adamw = Adam::new(&p, AdamConfig { weight_decay: 0.5, ..AdamConfig::default() });
        adamw.step(&mut p, &g, 0.1, 1.0);
        assert!(p.to_vec::<f64>().iter().all(|v| (v - 1.9).abs() < 1e-6));
    }
}
