//! With the noise level `s = σ/α`: `s_i = (s_max^(1/ρ) + (i/N)(s_min^(1/ρ) − s_max^(1/ρ)))^ρ`.

use fokker_sde::Sde;
use serde::{Deserialize, Serialize};

use super::{Space, between, finite_log_snr};
use crate::error::SolveError;

/// Karras et al. 2022 (arXiv:2206.00364), eq. 5, for any process through its noise level `σ/α`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Karras {
    /// How much steps shorten towards low noise, default 7; 1 is uniform in `σ/α`.
    pub rho: f64,
}

impl Default for Karras {
    fn default() -> Self {
        Self { rho: 7.0 }
    }
}

impl Space for Karras {
    fn times(&self, sde: &dyn Sde, t_max: f64, t_min: f64, points: usize) -> Result<Vec<f64>, SolveError> {
        // ln s = −log_snr/2, so that s^(1/ρ) = exp(−log_snr/(2ρ)).
        let warp = -0.5 / self.rho;
        let first = (warp * finite_log_snr(sde, Self::KIND, t_max)?).exp();
        let last = (warp * finite_log_snr(sde, Self::KIND, t_min)?).exp();
        Ok(between(first, last, points).map(|level| sde.time_at_log_snr(level.ln() / warp)).collect())
    }

    fn check(&self) -> Result<(), SolveError> {
        if self.rho > 0.0 && self.rho.is_finite() {
            return Ok(());
        }
        let expected = format!("a positive number, found {}", self.rho);
        Err(SolveError::Config { what: "grid", kind: Self::KIND, field: "rho", expected })
    }
}
