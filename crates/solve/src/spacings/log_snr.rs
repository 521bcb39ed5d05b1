//! `λ_i = λ(t_max) + (i/N)(λ(t_min) − λ(t_max))` in `λ = log_snr`.

use fokker_sde::Sde;
use serde::{Deserialize, Serialize};

use super::{Space, between, finite_log_snr};
use crate::error::SolveError;

/// Uniform in the log-SNR: Lu et al. 2022 (arXiv:2206.00927), section 3.4.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSnr {}

impl Space for LogSnr {
    fn times(&self, sde: &dyn Sde, t_max: f64, t_min: f64, points: usize) -> Result<Vec<f64>, SolveError> {
        let first = finite_log_snr(sde, Self::KIND, t_max)?;
        let last = finite_log_snr(sde, Self::KIND, t_min)?;
        Ok(between(first, last, points).map(|log_snr| sde.time_at_log_snr(log_snr)).collect())
    }
}
