//! Normally distributed data.

use std::sync::Arc;

use fokker_tensor::{Noise, Tensor};

use super::Exact;
use super::component::{Component, Covariance, back, rows, standard};
use crate::cond::Cond;
use crate::denoiser::Denoiser;
use crate::sde::Sde;
use crate::times::Times;

/// The exact denoiser of `N(μ, Σ)` under any process. States are `[B, ...]` with `D` numbers per sample.
///
/// ```
/// use fokker_sde::{Cond, Covariance, Denoiser, Edm, Gaussian};
/// use fokker_tensor::Tensor;
///
/// let model = Gaussian::new(Edm::default(), &[1.0, -2.0], &Covariance::Isotropic(4.0));
/// let x = Tensor::from_vec(&[1, 2], vec![6.0, 3.0]);
/// // At σ = 2 signal and noise have the same variance: halfway between the state and the mean.
/// let denoised = model.denoise(&x, &2.0.into(), &Cond::NONE);
/// assert_eq!(denoised.to_vec::<f64>(), [3.5, 0.5]);
/// ```
#[derive(Clone, Debug)]
pub struct Gaussian {
    sde: Arc<dyn Sde>,
    component: Component,
}

impl Gaussian {
    /// Data `N(mean, covariance)` under `sde`.
    ///
    /// # Panics
    /// If the covariance does not have the mean's dimension, is not symmetric, or has a negative eigenvalue.
    #[track_caller]
    pub fn new(sde: impl Sde + 'static, mean: &[f64], covariance: &Covariance) -> Self {
        Self { sde: Arc::new(sde), component: Component::new(mean, covariance) }
    }

    /// The number of dimensions `D`.
    pub fn dim(&self) -> usize {
        self.component.dim()
    }

    /// `∇ ln p_t(x_t)`, shape and type of `x` `[B, ...]`.
    #[track_caller]
    pub fn score(&self, x: &Tensor, t: &Times) -> Tensor {
        let z = self.coordinates(x, t);
        back(&self.component.score(&*self.sde, t, &z), x)
    }

    /// `ln p_t(x_t)` in nats, `[B]`, in `f64`.
    #[track_caller]
    pub fn log_density(&self, x: &Tensor, t: &Times) -> Tensor {
        let z = self.coordinates(x, t);
        self.component.log_density(&*self.sde, t, &z).reshape(&[x.dim(0)])
    }

    /// The exact solution at time `s` of the probability-flow ODE that is at `x`, `[B, ...]`, at time `t`:
    ///
    /// ```text
    /// x_s = α_s μ + U √((α_s²λ + σ_s²)/(α_t²λ + σ_t²)) Uᵀ (x_t − α_t μ)
    /// ```
    #[track_caller]
    pub fn flow(&self, x: &Tensor, t: f64, s: f64) -> Tensor {
        back(&self.component.flow(&*self.sde, t, s, &rows(x, self.dim())), x)
    }

    /// `n` clean samples, `[n, D]` in `f64`; sample `i` has index `first_sample + i` in `noise`.
    pub fn sample(&self, n: usize, noise: Noise, first_sample: u64) -> Tensor {
        self.component.colour(&standard(noise, n, self.dim(), first_sample))
    }

    #[track_caller]
    fn coordinates(&self, x: &Tensor, t: &Times) -> Tensor {
        t.assert_batch(x);
        self.component.coordinates(&*self.sde, t, &rows(x, self.dim()))
    }
}

impl Denoiser for Gaussian {
    fn sde(&self) -> &dyn Sde {
        &*self.sde
    }

    /// Conditions are ignored: there is only one class of data.
    fn denoise(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        let z = self.coordinates(x, t);
        back(&self.component.denoised(&*self.sde, t, &z), x)
    }
}

/// Conditions are ignored here too.
impl Exact for Gaussian {
    fn dim(&self) -> usize {
        Gaussian::dim(self)
    }

    fn log_density(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        Gaussian::log_density(self, x, t)
    }

    fn score(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        Gaussian::score(self, x, t)
    }

    fn jacobian(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        t.assert_batch(x);
        let (d, (matrix, _)) = (self.dim(), self.component.jacobian(&*self.sde, t));
        matrix.broadcast_to(&[rows(x, d).dim(0), d, d])
    }

    fn divergence(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        t.assert_batch(x);
        let (_, trace) = self.component.jacobian(&*self.sde, t);
        trace.broadcast_to(&[rows(x, self.dim()).dim(0), 1]).reshape(&[x.dim(0)])
    }

    fn score_divergence(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        t.assert_batch(x);
        let trace = self.component.score_divergence(&*self.sde, t);
        trace.broadcast_to(&[rows(x, self.dim()).dim(0), 1]).reshape(&[x.dim(0)])
    }

    fn sample(&self, n: usize, noise: Noise, first_sample: u64) -> Tensor {
        Gaussian::sample(self, n, noise, first_sample)
    }
}
