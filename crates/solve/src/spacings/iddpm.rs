//! The noise levels `σ/α` that the networks of iDDPM were trained at, `u_0 > u_1 > … > u_M = 0`:
//!
//! ```text
//! u_{j−1} = √((u_j² + 1)/max(ᾱ_{j−1}/ᾱ_j, C₁) − 1)      ᾱ_j = sin²(π/2 · j/(M (1 + C₂)))
//! ```

use std::f64::consts::FRAC_PI_2;

use fokker_sde::Sde;
use serde::{Deserialize, Serialize};

use super::Space;
use crate::error::SolveError;

/// Karras et al. 2022 (arXiv:2206.00364), table 1, column iDDPM + DDIM, with `C₁ = 0.001` and `C₂ = 0.008`.
///
/// Of the levels between the two ends, those at equal distances in `j`, rounded to the nearest. Between two ends there are fewer
/// than `M` levels, and there cannot be more times than levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Iddpm {
    /// The number of levels `M`, default 1000.
    pub levels: usize,
}

impl Default for Iddpm {
    fn default() -> Self {
        Self { levels: 1000 }
    }
}

impl Iddpm {
    /// `u_0 … u_{M−1}`, all positive and decreasing.
    fn noise_levels(&self) -> Vec<f64> {
        let m = self.levels as f64;
        let bar_alpha = |j: usize| (FRAC_PI_2 * j as f64 / (m * 1.008)).sin().powi(2);
        let mut levels = vec![0.0_f64; self.levels + 1];
        for j in (1..=self.levels).rev() {
            let ratio = (bar_alpha(j - 1) / bar_alpha(j)).max(0.001);
            levels[j - 1] = ((levels[j].powi(2) + 1.0) / ratio - 1.0).sqrt();
        }
        levels.truncate(self.levels);
        levels
    }
}

impl Space for Iddpm {
    fn times(&self, sde: &dyn Sde, t_max: f64, t_min: f64, points: usize) -> Result<Vec<f64>, SolveError> {
        let inside = sde.log_snr(t_max)..=sde.log_snr(t_min);
        let levels: Vec<f64> =
            self.noise_levels().iter().map(|u| -2.0 * u.ln()).filter(|log_snr| inside.contains(log_snr)).collect();
        if points > levels.len() {
            return Err(SolveError::Grid(format!(
                "spacing `{}` has {} of its {} noise levels between t = {t_max} and t = {t_min}, and cannot make {points} times \
                 of them; use fewer steps, more levels, or spacing `cosine`",
                Self::KIND,
                levels.len(),
                self.levels
            )));
        }
        let stride = (levels.len() - 1) as f64 / (points - 1) as f64;
        Ok((0..points).map(|i| sde.time_at_log_snr(levels[(stride * i as f64).round() as usize])).collect())
    }

    fn check(&self) -> Result<(), SolveError> {
        if self.levels >= 2 {
            return Ok(());
        }
        let expected = format!("at least 2, found {}", self.levels);
        Err(SolveError::Config { what: "grid", kind: Self::KIND, field: "levels", expected })
    }
}
