//! Sub-variance preserving: the drift of VP with less noise, so that `α² + σ² ≤ 1`:
//!
//! ```text
//! dx = −½ β(t) x dt + √(β(t) (1 − exp(−2B(t)))) dw        B(t) = ∫₀ᵗ β
//! α = exp(−B/2)      σ = 1 − exp(−B)      σ/α = 2 sinh(B/2)
//! ```
//!
//! The last identity gives the log-SNR and its inverse without cancellation.

use serde::{Deserialize, Serialize};

use super::variance_preserving::{beta_integral, time_at_beta_integral};
use crate::error::{SdeError, increasing};
use crate::sde::Sde;

/// Song et al. 2021 (arXiv:2011.13456), eq. 12 and 29, with the linear `β` of
/// [`VariancePreserving`](super::VariancePreserving).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubVariancePreserving {
    /// `β(0)`, default 0.1.
    pub beta_min: f64,
    /// `β(1)`, default 20.
    pub beta_max: f64,
    /// Start of the span, default 1e-3 (σ = 0.0001). The noise grows like `t`, not `√t`, near the data, so that
    /// VP's 1e-5 would be a σ of 1e-6.
    pub t_min: f64,
    /// End of the span, default 1.
    pub t_max: f64,
}

impl Default for SubVariancePreserving {
    fn default() -> Self {
        Self { beta_min: 0.1, beta_max: 20.0, t_min: 1e-3, t_max: 1.0 }
    }
}

impl SubVariancePreserving {
    /// `β(t)`, the rate of the drift.
    pub fn beta(&self, t: f64) -> f64 {
        self.beta_min + (self.beta_max - self.beta_min) * t
    }

    fn integral(&self, t: f64) -> f64 {
        beta_integral(self.beta_min, self.beta_max, t)
    }
}

impl Sde for SubVariancePreserving {
    fn span(&self) -> (f64, f64) {
        (self.t_min, self.t_max)
    }

    fn alpha(&self, t: f64) -> f64 {
        (-0.5 * self.integral(t)).exp()
    }

    fn sigma(&self, t: f64) -> f64 {
        -(-self.integral(t)).exp_m1()
    }

    fn d_alpha(&self, t: f64) -> f64 {
        -0.5 * self.beta(t) * self.alpha(t)
    }

    fn d_sigma(&self, t: f64) -> f64 {
        self.beta(t) * (-self.integral(t)).exp()
    }

    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn log_snr(&self, t: f64) -> f64 {
        let integral = self.integral(t);
        -integral - 2.0 * (-(-integral).exp_m1()).ln()
    }

    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        let integral = 2.0 * (0.5 * (-0.5 * log_snr).exp()).asinh();
        time_at_beta_integral(self.beta_min, self.beta_max, integral)
    }

    fn drift(&self, t: f64) -> f64 {
        -0.5 * self.beta(t)
    }

    fn diffusion_squared(&self, t: f64) -> f64 {
        self.beta(t) * -(-2.0 * self.integral(t)).exp_m1()
    }

    fn check(&self) -> Result<(), SdeError> {
        increasing(Self::KIND, "beta_min, beta_max", self.beta_min, self.beta_max)?;
        increasing(Self::KIND, "t_min, t_max", self.t_min, self.t_max)
    }
}
