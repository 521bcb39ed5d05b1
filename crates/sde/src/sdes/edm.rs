//! The noise level is the time: `α = 1`, `σ = t`, so that `dx = √(2t) dw` and the probability-flow ODE is
//! `dx/dt = (x − x̂₀)/t`.

use serde::{Deserialize, Serialize};

use crate::error::{SdeError, increasing};
use crate::sde::Sde;

/// Karras et al. 2022 (arXiv:2206.00364), section 3 and table 1, last column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Edm {
    /// Smallest noise level, default 0.002, in data units: the start of the span.
    pub sigma_min: f64,
    /// Largest noise level, default 80, in data units: the end of the span.
    pub sigma_max: f64,
}

impl Default for Edm {
    fn default() -> Self {
        Self { sigma_min: 0.002, sigma_max: 80.0 }
    }
}

impl Sde for Edm {
    fn span(&self) -> (f64, f64) {
        (self.sigma_min, self.sigma_max)
    }

    fn alpha(&self, _t: f64) -> f64 {
        1.0
    }

    fn sigma(&self, t: f64) -> f64 {
        t
    }

    fn d_alpha(&self, _t: f64) -> f64 {
        0.0
    }

    fn d_sigma(&self, _t: f64) -> f64 {
        1.0
    }

    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        (-0.5 * log_snr).exp()
    }

    fn check(&self) -> Result<(), SdeError> {
        increasing(Self::KIND, "sigma_min, sigma_max", self.sigma_min, self.sigma_max)
    }
}
