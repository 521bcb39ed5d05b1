//! SDEs and noise schedules, denoisers and preconditioning.
//!
//! A forward process takes data to noise, `x_t = α(t) x_0 + σ(t) ε`; a denoiser answers `E[x_0 | x_t]`, and with it the
//! process can be run backwards. This crate has the processes ([`Sde`], [`SdeConfig`]), what a network may predict
//! and how one prediction becomes another ([`Quantity`], [`Preconditioning`]), the [`Denoiser`] trait, and denoisers that are
//! exact ([`Exact`]: [`Gaussian`], [`GaussianMixture`], [`Points`], [`Sphere`]).
//!
//! ```
//! use fokker_sde::{Cond, Covariance, Denoiser, GaussianMixture, Quantity, Sde, SdeConfig, Times};
//! use fokker_tensor::{Dtype, Noise, grad};
//!
//! // Schedules are scalar functions in f64.
//! let sde = SdeConfig::from_kind("vp").unwrap();
//! let t = sde.time_at_log_snr(0.0); // as much signal as noise
//! assert!((sde.alpha(t) - sde.sigma(t)).abs() < 1e-12);
//!
//! // An exact model of two clusters in the plane.
//! let clusters = [Covariance::Isotropic(0.1), Covariance::Full(vec![0.3, 0.1, 0.1, 0.2])];
//! let model = GaussianMixture::new(sde, &[0.4, 0.6], &[vec![-1.0, 0.0], vec![1.0, 0.5]], &clusters);
//! let x = Noise::new(7, 0).normal(&[16, 2], 0, 0, Dtype::F64);
//!
//! // Tweedie's formula: the score that follows from the denoiser is the gradient of the log-density.
//! let score = model.predict(Quantity::Score, &x, &Times::Same(t), &Cond::NONE);
//! let leaf = x.track();
//! let gradient = grad(model.log_density(&leaf, &t.into(), &Cond::NONE).sum_all(), &[&leaf]).remove(0);
//! assert!((&score - &gradient).abs().max_all().item() < 1e-12);
//! ```
//!
//! A process in a configuration file is a table with a tag: `kind = "vp"`, then fields that differ from the defaults.

mod cond;
mod conditioning;
mod denoiser;
mod error;
mod exact;
mod preconditioning;
mod quantity;
mod sde;
mod sdes;
mod times;
mod under;

pub use cond::Cond;
pub use conditioning::Conditioning;
pub use denoiser::{Counted, Counter, Denoiser, Reverse, convert, diffuse};
pub use error::SdeError;
pub use exact::{Covariance, Exact, Gaussian, GaussianMixture, Points, Sphere};
pub use preconditioning::{Coefficients, Preconditioning};
pub use quantity::{Combination, Conversion, Prediction, Quantity, conversion};
pub use sde::Sde;
pub use sdes::{
    Betas, Cosine, Discrete, Edm, Geometric, IddpmLevels, Ladder, LinearFlow, Polynomial, PolynomialFlow, Scaled, Scaling,
    Schedule, SdeConfig, Sigmoid, SubVariancePreserving, Trigonometric, VarianceExploding, VariancePreserving,
};
pub use times::Times;
pub use under::Under;
