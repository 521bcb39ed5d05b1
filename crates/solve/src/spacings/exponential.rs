//! With the noise level `s = σ/α`: `ln s_i = ln s_max + (i/N)(ln s_min − ln s_max)`.
//!
//! `ln s = −log_snr/2`, so that these are the times of [`LogSnr`]: two names of one grid, that of k-diffusion and that of
//! DPM-Solver.

use fokker_sde::Sde;
use serde::{Deserialize, Serialize};

use super::{LogSnr, Space, finite_log_snr};
use crate::error::SolveError;

/// Uniform in `ln(σ/α)`: the exponential grid of k-diffusion, the same times as [`LogSnr`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exponential {}

impl Space for Exponential {
    fn times(&self, sde: &dyn Sde, t_max: f64, t_min: f64, points: usize) -> Result<Vec<f64>, SolveError> {
        finite_log_snr(sde, Self::KIND, t_max)?;
        LogSnr::default().times(sde, t_max, t_min, points)
    }
}
