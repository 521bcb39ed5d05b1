//! The time of the straight flow, `w = σ/(α + σ)`, shifted towards the noise:
//!
//! ```text
//! w_i = m v_i/(1 + (m − 1) v_i)      v_i uniform      w/(1 − w) = σ/α = m v/(1 − v)
//! ```
//!
//! The last identity says what a shift is: every noise level of a uniform grid is multiplied by `m`.

use fokker_sde::Sde;
use serde::{Deserialize, Serialize};

use super::{Space, between};
use crate::error::SolveError;

/// Esser et al. 2024 (arXiv:2403.03206), eq. 23, for any process through its noise level `σ/α`.
///
/// The ends stay where they are asked to be; only the times between them move. On [`LinearFlow`](fokker_sde::LinearFlow), where
/// `w = t`, a shift of 1 is the uniform grid. With `t_max = 1`, a uniform grid that ended in `v_min` before the shift is the one
/// with `t_min = m v_min/(1 + (m − 1) v_min)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowShift {
    /// The factor `m` of the noise level, default 3 (Stable Diffusion 3 at 1024²).
    pub shift: f64,
}

impl Default for FlowShift {
    fn default() -> Self {
        Self { shift: 3.0 }
    }
}

impl FlowShift {
    /// The shift `√(pixels/base)` that makes a grid tuned at `base` pixels fit `pixels` of them (or tokens, or numbers): averaging
    /// over more pixels hides more noise, so that the same information is lost at a noise level that is higher by this factor.
    ///
    /// # Panics
    /// If a number is not positive.
    #[track_caller]
    pub fn for_resolution(pixels: f64, base: f64) -> Self {
        assert!(pixels > 0.0 && base > 0.0, "resolutions are positive, found {pixels} and {base}");
        Self { shift: (pixels / base).sqrt() }
    }
}

impl Space for FlowShift {
    fn times(&self, sde: &dyn Sde, t_max: f64, t_min: f64, points: usize) -> Result<Vec<f64>, SolveError> {
        // v = s/(m + s) for the noise level s = σ/α, infinite for pure noise, written with 1/s = exp(log_snr/2).
        let unshifted = |t: f64| 1.0 / (1.0 + self.shift * (0.5 * sde.log_snr(t)).exp());
        let log_snr = |v: f64| 2.0 * ((1.0 - v) / (self.shift * v)).ln();
        Ok(between(unshifted(t_max), unshifted(t_min), points).map(|v| sde.time_at_log_snr(log_snr(v))).collect())
    }

    fn check(&self) -> Result<(), SolveError> {
        if self.shift > 0.0 && self.shift.is_finite() {
            return Ok(());
        }
        let expected = format!("a positive number, found {}", self.shift);
        Err(SolveError::Config { what: "grid", kind: Self::KIND, field: "shift", expected })
    }
}
