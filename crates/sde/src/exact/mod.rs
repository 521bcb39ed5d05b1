//! Denoisers known in closed form: the oracles that everything else is tested with.
//!
//! For data `x_0 ~ N(μ, Σ)` the noisy marginal is `N(αμ, α²Σ + σ²I)` and the conditional mean is linear,
//!
//! ```text
//! E[x_0 | x_t] = μ + αΣ (α²Σ + σ²I)⁻¹ (x_t − αμ)
//! ```
//!
//! With `Σ = U diag(λ) Uᵀ` everything is elementwise in the coordinates `z = Uᵀ (x_t − αμ)`, at every time, with one
//! decomposition. A mixture weighs its components by their posterior probabilities given `x_t`
//! (any textbook on Gaussian mixtures; Bishop 2006, sections 2.3.3 and 9.2). A finite set of points is a mixture without
//! widths, and a sphere one without gaps; each has its own closed form.
//!
//! Whatever the data, the derivative of the denoiser is the covariance of what it averages over (the second-order form of
//! Tweedie's formula; Efron 2011, Meng et al. 2021, arXiv:2111.04726, theorem 1):
//!
//! ```text
//! ∂x̂₀/∂x_t = (α/σ²) Cov[x_0 | x_t]      ∂²ln p_t = (α ∂x̂₀/∂x_t − I)/σ²
//! ```
//!
//! All arithmetic is in `f64` whatever the type of the state, and is made of recorded operations, so that denoisers, scores
//! and log-densities can be differentiated like a network.

mod component;
mod fisher;
mod gaussian;
mod mixture;
mod points;
mod sphere;
mod symmetric;

pub use component::Covariance;
pub use gaussian::Gaussian;
pub use mixture::GaussianMixture;
pub use points::Points;
pub use sphere::Sphere;

use fokker_tensor::{Noise, Tensor};

use crate::cond::Cond;
use crate::denoiser::Denoiser;
use crate::quantity::Quantity;
use crate::times::Times;

/// A denoiser of data whose law is known, and everything else that follows from that law.
///
/// States are `[B, ...]` with [`dim`](Self::dim) numbers `D` per sample. Panics are those of
/// [`denoise`](Denoiser::denoise): a state of another size, times or conditions that are not as many as samples.
pub trait Exact: Denoiser {
    /// The number of dimensions `D`.
    fn dim(&self) -> usize;

    /// `ln p_t(x_t)` in nats, `[B]`, in `f64`; differentiable. Infinite or NaN where `σ = 0` and the data have no density.
    #[track_caller]
    fn log_density(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor;

    /// `∇ ln p_t(x_t)`, shape and type of `x` `[B, ...]`; differentiable.
    #[track_caller]
    fn score(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        self.predict(Quantity::Score, x, t, c)
    }

    /// `∂x̂₀/∂x_t` of each sample, a symmetric matrix: `[B, D, D]` in `f64`, not recorded.
    #[track_caller]
    fn jacobian(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor;

    /// The divergence of the denoiser, `tr ∂x̂₀/∂x_t`: `[B]` in `f64`, not recorded.
    #[track_caller]
    fn divergence(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor;

    /// The divergence of the score, `Δ ln p_t(x_t) = (α tr ∂x̂₀/∂x_t − D)/σ²`: `[B]` in `f64`, not recorded.
    #[track_caller]
    fn score_divergence(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        let divergence = self.divergence(x, t, c);
        let signal = t.scale(&divergence, |t| self.sde().alpha(t));
        t.scale(&(&signal - self.dim() as f64), |t| self.sde().sigma(t).powi(-2))
    }

    /// `n` clean samples, `[n, D]` in `f64`; sample `i` has index `first_sample + i` in `noise`.
    fn sample(&self, n: usize, noise: Noise, first_sample: u64) -> Tensor;
}
