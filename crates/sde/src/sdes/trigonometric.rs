//! A quarter turn from data to noise, variance preserving:
//!
//! ```text
//! α = cos(πt/2)      σ = sin(πt/2)      log_snr = −2 ln tan(πt/2)
//! ```
//!
//! `α(1) = 0`: as for the linear flow, `f` and `g` are infinite there and the probability-flow velocity is not.

use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

use crate::error::{SdeError, end_of_time, increasing};
use crate::sde::Sde;

/// The trigonometric interpolant of Albergo & Vanden-Eijnden 2023 (arXiv:2209.15571). As a noise schedule it is Nichol and
/// Dhariwal's cosine without offset (Salimans & Ho 2022, arXiv:2202.00512, section 2), and TrigFlow in the time `πt/2` (Lu &
/// Song 2024, arXiv:2410.11081).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trigonometric {
    /// Start of the span, default 1e-3 (σ = 0.0016).
    pub t_min: f64,
    /// End of the span, default 1, which is pure noise; at most 1.
    pub t_max: f64,
}

impl Default for Trigonometric {
    fn default() -> Self {
        Self { t_min: 1e-3, t_max: 1.0 }
    }
}

impl Sde for Trigonometric {
    fn span(&self) -> (f64, f64) {
        (self.t_min, self.t_max)
    }

    fn alpha(&self, t: f64) -> f64 {
        // The sine of the distance to t = 1, exact where it vanishes.
        (FRAC_PI_2 * (1.0 - t)).sin()
    }

    fn sigma(&self, t: f64) -> f64 {
        (FRAC_PI_2 * t).sin()
    }

    fn d_alpha(&self, t: f64) -> f64 {
        -FRAC_PI_2 * self.sigma(t)
    }

    fn d_sigma(&self, t: f64) -> f64 {
        FRAC_PI_2 * self.alpha(t)
    }

    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        // tan(πt/2) = e^(−λ/2), or its reciprocal where that is the small one.
        if log_snr > 0.0 { (-0.5 * log_snr).exp().atan() / FRAC_PI_2 } else { 1.0 - (0.5 * log_snr).exp().atan() / FRAC_PI_2 }
    }

    fn diffusion_squared(&self, t: f64) -> f64 {
        // Variance preserving: g² = −2f = π tan(πt/2).
        2.0 * FRAC_PI_2 * self.sigma(t) / self.alpha(t)
    }

    fn check(&self) -> Result<(), SdeError> {
        increasing(Self::KIND, "t_min, t_max", self.t_min, self.t_max)?;
        end_of_time(Self::KIND, self.t_max, 1.0)
    }
}
