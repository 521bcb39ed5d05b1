//! With the angle `θ = arctan(σ/α)`: `θ_i = θ(t_max) + (i/N)(θ(t_min) − θ(t_max))`.

use fokker_sde::Sde;
use serde::{Deserialize, Serialize};

use super::{Space, between};
use crate::error::SolveError;

/// The noise levels of the cosine schedule at uniform times, on any process: Nichol & Dhariwal 2021 (arXiv:2102.09672), eq. 17,
/// whose `σ/α` is the tangent of an angle that grows uniformly. Their small offset at the data is the end `t_min` here.
///
/// The angle is finite where `α = 0` (a right angle), so that this grid serves processes that end in pure noise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CosineAngle {}

impl Space for CosineAngle {
    fn times(&self, sde: &dyn Sde, t_max: f64, t_min: f64, points: usize) -> Result<Vec<f64>, SolveError> {
        // tan θ = exp(−log_snr/2), infinite for pure noise.
        let angle = |t: f64| (-0.5 * sde.log_snr(t)).exp().atan();
        Ok(between(angle(t_max), angle(t_min), points).map(|theta| sde.time_at_log_snr(-2.0 * theta.tan().ln())).collect())
    }
}
