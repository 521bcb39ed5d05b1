//! Variance preserving, `α² + σ² = 1`, with linear `β(t) = β_min + (β_max − β_min) t`:
//!
//! ```text
//! dx = −½ β(t) x dt + √β(t) dw        B(t) = ∫₀ᵗ β = β_min t + ½ (β_max − β_min) t²
//! α = exp(−B/2)      σ² = 1 − exp(−B)      log_snr = −ln(exp(B) − 1)
//! ```

use serde::{Deserialize, Serialize};

use crate::error::{SdeError, increasing};
use crate::sde::Sde;

/// Song et al. 2021 (arXiv:2011.13456), eq. 11 and 33: DDPM's forward process in continuous time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VariancePreserving {
    /// `β(0)`, default 0.1.
    pub beta_min: f64,
    /// `β(1)`, default 20.
    pub beta_max: f64,
    /// Start of the span, default 1e-5 (σ = 0.001).
    pub t_min: f64,
    /// End of the span, default 1 (α = 0.0066).
    pub t_max: f64,
}

impl Default for VariancePreserving {
    fn default() -> Self {
        Self { beta_min: 0.1, beta_max: 20.0, t_min: 1e-5, t_max: 1.0 }
    }
}

/// `∫₀ᵗ β` of the linear `β`.
pub(super) fn beta_integral(beta_min: f64, beta_max: f64, t: f64) -> f64 {
    t * (beta_min + 0.5 * (beta_max - beta_min) * t)
}

/// The time at which `∫₀ᵗ β = integral`: the root of the quadratic in the form without cancellation.
pub(super) fn time_at_beta_integral(beta_min: f64, beta_max: f64, integral: f64) -> f64 {
    let root = (beta_min * beta_min + 2.0 * (beta_max - beta_min) * integral).sqrt();
    2.0 * integral / (beta_min + root)
}

impl VariancePreserving {
    /// `β(t)`, the rate at which noise is added.
    pub fn beta(&self, t: f64) -> f64 {
        self.beta_min + (self.beta_max - self.beta_min) * t
    }

    fn integral(&self, t: f64) -> f64 {
        beta_integral(self.beta_min, self.beta_max, t)
    }
}

impl Sde for VariancePreserving {
    fn span(&self) -> (f64, f64) {
        (self.t_min, self.t_max)
    }

    fn alpha(&self, t: f64) -> f64 {
        (-0.5 * self.integral(t)).exp()
    }

    fn sigma(&self, t: f64) -> f64 {
        (-(-self.integral(t)).exp_m1()).sqrt()
    }

    fn d_alpha(&self, t: f64) -> f64 {
        -0.5 * self.beta(t) * self.alpha(t)
    }

    fn d_sigma(&self, t: f64) -> f64 {
        0.5 * self.beta(t) * (-self.integral(t)).exp() / self.sigma(t)
    }

    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn log_snr(&self, t: f64) -> f64 {
        let integral = self.integral(t);
        // −ln(e^B − 1), written so that neither small nor large B loses digits or overflows.
        -integral - (-(-integral).exp_m1()).ln()
    }

    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        // B = ln(1 + e^−λ); for very negative λ, −λ + ln(1 + e^λ) is the same without overflow.
        let integral = (-log_snr).max(0.0) + (-log_snr.abs()).exp().ln_1p();
        time_at_beta_integral(self.beta_min, self.beta_max, integral)
    }

    fn drift(&self, t: f64) -> f64 {
        -0.5 * self.beta(t)
    }

    fn diffusion_squared(&self, t: f64) -> f64 {
        self.beta(t)
    }

    fn check(&self) -> Result<(), SdeError> {
        increasing(Self::KIND, "beta_min, beta_max", self.beta_min, self.beta_max)?;
        increasing(Self::KIND, "t_min, t_max", self.t_min, self.t_max)
    }
}
