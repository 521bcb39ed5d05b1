//! With the noise level `s = σ/α`: `ln s_i = ln s_min + (1 − i/N)^ρ (ln s_max − ln s_min)`.

use fokker_sde::Sde;
use serde::{Deserialize, Serialize};

use super::{Space, between, finite_log_snr};
use crate::error::SolveError;

/// The polyexponential grid of k-diffusion: [`Exponential`](super::Exponential) at `ρ = 1`, denser at low noise for `ρ > 1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Polyexponential {
    /// How much steps in `ln(σ/α)` shorten towards low noise, default 1: not at all.
    pub rho: f64,
}

impl Default for Polyexponential {
    fn default() -> Self {
        Self { rho: 1.0 }
    }
}

impl Space for Polyexponential {
    fn times(&self, sde: &dyn Sde, t_max: f64, t_min: f64, points: usize) -> Result<Vec<f64>, SolveError> {
        // In log_snr = −2 ln s, which turns the formula into the same one.
        let first = finite_log_snr(sde, Self::KIND, t_max)?;
        let last = finite_log_snr(sde, Self::KIND, t_min)?;
        Ok(between(1.0, 0.0, points).map(|ramp| sde.time_at_log_snr(last + ramp.powf(self.rho) * (first - last))).collect())
    }

    fn check(&self) -> Result<(), SolveError> {
        if self.rho > 0.0 && self.rho.is_finite() {
            return Ok(());
        }
        let expected = format!("a positive number, found {}", self.rho);
        Err(SolveError::Config { what: "grid", kind: Self::KIND, field: "rho", expected })
    }
}
