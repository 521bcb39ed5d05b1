//! Variance exploding, `α = 1`, with a geometric noise level:
//!
//! ```text
//! σ(t) = σ_min (σ_max/σ_min)^t      dx = σ(t) √(2 ln(σ_max/σ_min)) dw
//! ```
//!
//! `σ(0) = σ_min`, not 0: as everywhere in the field, the noise of the kernel is taken as `σ(t)` itself, not
//! `√(σ(t)² − σ(0)²)`, so that the process begins with data that already carries σ_min.

use serde::{Deserialize, Serialize};

use crate::error::{SdeError, increasing};
use crate::sde::Sde;

/// Song et al. 2021 (arXiv:2011.13456), eq. 9 and 30: NCSN's noise levels in continuous time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VarianceExploding {
    /// `σ(0)`, default 0.01, in data units.
    pub sigma_min: f64,
    /// `σ(1)`, default 50, in data units: about the largest distance between two data points.
    pub sigma_max: f64,
    /// Start of the span, default 1e-5.
    pub t_min: f64,
    /// End of the span, default 1.
    pub t_max: f64,
}

impl Default for VarianceExploding {
    fn default() -> Self {
        Self { sigma_min: 0.01, sigma_max: 50.0, t_min: 1e-5, t_max: 1.0 }
    }
}

impl VarianceExploding {
    /// `ln(σ_max/σ_min)`, the constant `σ̇/σ`.
    fn rate(&self) -> f64 {
        (self.sigma_max / self.sigma_min).ln()
    }
}

impl Sde for VarianceExploding {
    fn span(&self) -> (f64, f64) {
        (self.t_min, self.t_max)
    }

    fn alpha(&self, _t: f64) -> f64 {
        1.0
    }

    fn sigma(&self, t: f64) -> f64 {
        self.sigma_min * (self.rate() * t).exp()
    }

    fn d_alpha(&self, _t: f64) -> f64 {
        0.0
    }

    fn d_sigma(&self, t: f64) -> f64 {
        self.rate() * self.sigma(t)
    }

    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn log_snr(&self, t: f64) -> f64 {
        -2.0 * (self.sigma_min.ln() + self.rate() * t)
    }

    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        (-0.5 * log_snr - self.sigma_min.ln()) / self.rate()
    }

    fn check(&self) -> Result<(), SdeError> {
        increasing(Self::KIND, "sigma_min, sigma_max", self.sigma_min, self.sigma_max)?;
        increasing(Self::KIND, "t_min, t_max", self.t_min, self.t_max)
    }
}
