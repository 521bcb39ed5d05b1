//! How a network `F` becomes a denoiser:
//!
//! ```text
//! x̂₀(x_t, t) = c_skip(t) x_t + c_out(t) F(c_in(t) x_t, c_noise(t))
//! ```
//!
//! (Karras et al. 2022, arXiv:2206.00364, eq. 7, with any α). For EDM's own form the state is first scaled to
//! `y = x_t/α`, whose noise level is `s = σ/α`; with `q² = σ² + α² σ_data²`,
//!
//! ```text
//! EDM, table 1:      c_skip = σ_data²/(s² + σ_data²)    c_out = s σ_data/√(s² + σ_data²)    c_in = 1/√(s² + σ_data²)
//! in terms of x_t:   c_skip = α σ_data²/q²              c_out = σ σ_data/q                  c_in = 1/q
//! ```
//!
//! which stays finite where `α = 0`. The others are the affine maps of [`Quantity::conversion`] to `x_0`, with the
//! input scaled to unit variance for data of unit variance, `c_in = 1/√(α² + σ²)`: 1 for variance-preserving
//! processes, as in DDPM, and table 1's `1/√(σ² + 1)` for exploding ones.
//!
//! `c_noise = ¼ ln(σ/α)` (EDM, table 1) for all of them: the same number for the same noise level under any
//! process, of order one over the whole span. It is limited to `±5` (noise levels of `e^±20`), which only
//! matters where `α` or `σ` vanishes.

use serde::{Deserialize, Serialize};

use crate::error::SdeError;
use crate::quantity::{Combination, Quantity};
use crate::sde::Sde;

/// The preconditioning of a network, as written in configuration files: `kind = "edm"` and so on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Preconditioning {
    /// Unit variance of input and target at every noise level: Karras et al. 2022, table 1 and appendix B.6.
    Edm {
        /// Standard deviation of the data, default 0.5 (images in `[−1, 1]`).
        #[serde(default = "default_sigma_data")]
        sigma_data: f64,
    },
    /// The network predicts the noise: Ho et al. 2020, eq. 11. Impossible where `α = 0`.
    Epsilon {},
    /// The network predicts the clean sample: Ho et al. 2020, section 3.2.
    Sample {},
    /// The network predicts `v`: Salimans & Ho 2022, section 4. Equal to [`Edm`](Self::Edm) with `σ_data = 1` up
    /// to the sign of the network.
    V {},
    /// The network predicts the probability-flow velocity `α̇ x_0 + σ̇ ε`: Lipman et al. 2023, eq. 15.
    Velocity {},
    /// The network predicts the score itself, unscaled: Song et al. 2021, eq. 7. Impossible where `α = 0`.
    Score {},
}

fn default_sigma_data() -> f64 {
    0.5
}

impl Default for Preconditioning {
    /// EDM's with `σ_data = 0.5`.
    fn default() -> Self {
        Self::Edm { sigma_data: default_sigma_data() }
    }
}

/// The numbers of one time: `x̂₀ = skip · x_t + out · F(in_ · x_t, noise)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficients {
    /// Factor of the state in `x̂₀`.
    pub skip: f64,
    /// Factor of the network's output in `x̂₀`. `|x̂₀ − x_0|² = out² |F − F*|²`.
    pub out: f64,
    /// Factor of the state at the network's input.
    pub in_: f64,
    /// The noise level as told to the network.
    pub noise: f64,
}

impl Preconditioning {
    /// Every kind, with its default numbers.
    pub fn all() -> Vec<Self> {
        vec![Self::default(), Self::Epsilon {}, Self::Sample {}, Self::V {}, Self::Velocity {}, Self::Score {}]
    }

    /// The tag of this kind in configuration files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Edm { .. } => "edm",
            Self::Epsilon {} => "epsilon",
            Self::Sample {} => "sample",
            Self::V {} => "v",
            Self::Velocity {} => "velocity",
            Self::Score {} => "score",
        }
    }

    /// The quantity that the network predicts as it is; `None` for EDM's mixture.
    pub fn quantity(&self) -> Option<Quantity> {
        match self {
            Self::Edm { .. } => None,
            Self::Epsilon {} => Some(Quantity::Epsilon),
            Self::Sample {} => Some(Quantity::Sample),
            Self::V {} => Some(Quantity::V),
            Self::Velocity {} => Some(Quantity::Velocity),
            Self::Score {} => Some(Quantity::Score),
        }
    }

    /// Whether this preconditioning can serve `sde` over its whole span.
    ///
    /// # Errors
    /// If `sigma_data` is not positive, or if the prediction does not determine `x̂₀` at the end of the span.
    pub fn check(&self, sde: &dyn Sde) -> Result<(), SdeError> {
        if let Self::Edm { sigma_data } = *self
            && !(sigma_data > 0.0 && sigma_data.is_finite())
        {
            let expected = format!("a positive number, found {sigma_data}");
            return Err(SdeError::preconditioning(self.name(), "sigma_data", expected));
        }
        let (t_min, t_max) = sde.span();
        for t in [t_min, t_max] {
            let c = self.coefficients(sde, t);
            if !(c.skip.is_finite() && c.out.is_finite()) {
                let expected = format!(
                    "a prediction that determines x_0 over the whole span, but sde `{}` has alpha = {} at t = {t}; \
                     use edm, sample, v or velocity, or a smaller t_max",
                    sde.name(),
                    sde.alpha(t)
                );
                return Err(SdeError::preconditioning(self.name(), "kind", expected));
            }
        }
        Ok(())
    }

    /// The coefficients at time `t`.
    pub fn coefficients(&self, sde: &dyn Sde, t: f64) -> Coefficients {
        let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
        let noise = (-0.125 * sde.log_snr(t)).clamp(-5.0, 5.0);
        match (self, self.quantity()) {
            (&Self::Edm { sigma_data }, _) => {
                let q = sigma.hypot(alpha * sigma_data);
                Coefficients { skip: alpha * sigma_data * sigma_data / (q * q), out: sigma * sigma_data / q, in_: 1.0 / q, noise }
            }
            (_, quantity) => {
                let quantity = quantity.expect("every kind but EDM predicts one quantity");
                let conversion = quantity.conversion(Quantity::Sample, sde, t);
                Coefficients { skip: conversion.state, out: conversion.value, in_: 1.0 / alpha.hypot(sigma), noise }
            }
        }
    }

    /// The network's ideal output `F*` for the pair `(x_0, ε)`, as a combination of the two: the solution of
    /// `c_skip x_t + c_out F* = x_0`, without the cancellation of computing it so.
    ///
    /// For EDM's (Karras et al. 2022, eq. 8) it is `F* = (σ x_0 − α σ_data² ε)/(σ_data q)`, of unit variance. An
    /// error of the network and one of the denoiser are related by `|x̂₀ − x_0|² = c_out² |F − F*|²`.
    pub fn target(&self, sde: &dyn Sde, t: f64) -> Combination {
        match (self, self.quantity()) {
            (&Self::Edm { sigma_data }, _) => {
                let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
                let q = sigma.hypot(alpha * sigma_data);
                Combination { sample: sigma / (sigma_data * q), noise: -alpha * sigma_data / q }
            }
            (_, quantity) => quantity.expect("every kind but EDM predicts one quantity").combination(sde, t),
        }
    }
}
