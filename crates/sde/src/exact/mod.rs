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
//! (any textbook on Gaussian mixtures; Bishop 2006, sections 2.3.3 and 9.2).
//!
//! All arithmetic is in `f64` whatever the type of the state, and is made of recorded operations, so that denoisers, scores
//! and log-densities can be differentiated like a network.

mod component;
mod gaussian;
mod mixture;
mod symmetric;

pub use component::Covariance;
pub use gaussian::Gaussian;
pub use mixture::GaussianMixture;
