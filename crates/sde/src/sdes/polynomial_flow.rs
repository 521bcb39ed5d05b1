//! Straight lines from data to noise, travelled at a speed that is a polynomial, in this project's direction of time:
//!
//! ```text
//! α = (1 − t)^n      σ = 1 − (1 − t)^n      ẋ = n (1 − t)^{n−1} (ε − x_0)      α + σ = 1
//! ```
//!
//! `n = 1` is the linear flow. For `n > 1` the speed is 0 at `t = 1`, where neither the velocity nor a network that predicts it
//! says anything of the data: the span ends before.

use serde::{Deserialize, Serialize};

use crate::error::{SdeError, increasing};
use crate::sde::Sde;

/// The polynomial convex scheduler of Lipman et al. 2024 (arXiv:2412.06264), `α = t^n`, `σ = 1 − t^n` with data at 1: convex
/// since the two add up to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolynomialFlow {
    /// The exponent `n`, default 2; at least 1.
    pub exponent: f64,
    /// Start of the span, default 1e-3.
    pub t_min: f64,
    /// End of the span, default 0.999 (α = 1e-6); below 1.
    pub t_max: f64,
}

impl Default for PolynomialFlow {
    fn default() -> Self {
        Self { exponent: 2.0, t_min: 1e-3, t_max: 0.999 }
    }
}

impl PolynomialFlow {
    /// The speed `n (1 − t)^{n−1}`.
    fn speed(&self, t: f64) -> f64 {
        self.exponent * (1.0 - t).powf(self.exponent - 1.0)
    }
}

impl Sde for PolynomialFlow {
    fn span(&self) -> (f64, f64) {
        (self.t_min, self.t_max)
    }

    fn alpha(&self, t: f64) -> f64 {
        (1.0 - t).powf(self.exponent)
    }

    fn sigma(&self, t: f64) -> f64 {
        -(self.exponent * (-t).ln_1p()).exp_m1()
    }

    fn d_alpha(&self, t: f64) -> f64 {
        -self.speed(t)
    }

    fn d_sigma(&self, t: f64) -> f64 {
        self.speed(t)
    }

    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        // (1 − t)^n = α = 1/(1 + e^(−λ/2)), so n ln(1 − t) = −ln(1 + e^(−λ/2)); no overflow for very negative λ.
        let half = -0.5 * log_snr;
        let log_alpha = -(half.max(0.0) + (-half.abs()).exp().ln_1p());
        -(log_alpha / self.exponent).exp_m1()
    }

    fn drift(&self, t: f64) -> f64 {
        -self.exponent / (1.0 - t)
    }

    fn diffusion_squared(&self, t: f64) -> f64 {
        // 2σ(σ̇ − fσ) with σ̇ = −fα and α + σ = 1.
        2.0 * self.sigma(t) * self.exponent / (1.0 - t)
    }

    fn check(&self) -> Result<(), SdeError> {
        if !(self.exponent >= 1.0 && self.exponent.is_finite()) {
            return Err(SdeError::new(Self::KIND, "exponent", format!("a number of at least 1, found {}", self.exponent)));
        }
        increasing(Self::KIND, "t_min, t_max", self.t_min, self.t_max)?;
        if self.t_max < 1.0 {
            return Ok(());
        }
        Err(SdeError::new(Self::KIND, "t_max", format!("below 1, where the path stands still, found {}", self.t_max)))
    }
}
