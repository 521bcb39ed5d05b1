//! The straight path of flow matching and rectified flow in this project's direction of time (data at 0; the
//! papers put data at 1):
//!
//! ```text
//! x_t = (1 − t) x_0 + t ε      ẋ = ε − x_0      f = −1/(1 − t)      g² = 2t/(1 − t)
//! ```
//!
//! The last step is to pure noise: `α(1) = 0`, where `f` and `g` of the SDE are infinite while the
//! probability-flow ODE, `dx/dt = ε̂ − x̂₀`, is not.

use serde::{Deserialize, Serialize};

use crate::error::{SdeError, end_of_time, increasing};
use crate::sde::Sde;

/// Lipman et al. 2023 (arXiv:2210.02747), eq. 20–23 with σ_min = 0; Liu et al. 2023 (arXiv:2209.03003), eq. 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinearFlow {
    /// Start of the span, default 1e-3.
    pub t_min: f64,
    /// End of the span, default 1, which is pure noise; at most 1.
    pub t_max: f64,
}

impl Default for LinearFlow {
    fn default() -> Self {
        Self { t_min: 1e-3, t_max: 1.0 }
    }
}

impl Sde for LinearFlow {
    fn span(&self) -> (f64, f64) {
        (self.t_min, self.t_max)
    }

    fn alpha(&self, t: f64) -> f64 {
        1.0 - t
    }

    fn sigma(&self, t: f64) -> f64 {
        t
    }

    fn d_alpha(&self, _t: f64) -> f64 {
        -1.0
    }

    fn d_sigma(&self, _t: f64) -> f64 {
        1.0
    }

    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        1.0 / (1.0 + (0.5 * log_snr).exp())
    }

    fn diffusion_squared(&self, t: f64) -> f64 {
        2.0 * t / (1.0 - t)
    }

    fn check(&self) -> Result<(), SdeError> {
        increasing(Self::KIND, "t_min, t_max", self.t_min, self.t_max)?;
        end_of_time(Self::KIND, self.t_max, 1.0)
    }
}
