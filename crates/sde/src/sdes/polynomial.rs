//! The polynomial schedule, variance preserving, with `α` (not `α²`) a polynomial:
//!
//! ```text
//! α = (1 − 2s)(1 − t^p) + s      σ² = 1 − α²
//! ```
//!
//! With `d = 1 − α = s + (1 − 2s) t^p`, `σ² = d (2 − d)` keeps its digits near the data. `s` keeps both ends away from 0: the
//! process begins with `σ(0)² ≈ 2s` and ends with `α(1) = s`. With `s = 0` it ends in pure noise, `α(1) = 0`.

use serde::{Deserialize, Serialize};

use crate::error::{SdeError, end_of_time, increasing};
use crate::sde::Sde;

/// The noise schedule of Hoogeboom et al. 2022 (equivariant diffusion, arXiv:2203.17003, appendix), in continuous time and
/// with any exponent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Polynomial {
    /// The exponent `p`, default 2; at least 1.
    pub exponent: f64,
    /// The precision `s`, default 1e-5; from 0 to below ½.
    pub s: f64,
    /// Start of the span, default 1e-3, the first of the paper's 1000 steps (σ = 0.0047).
    pub t_min: f64,
    /// End of the span, default 1; at most 1.
    pub t_max: f64,
}

impl Default for Polynomial {
    fn default() -> Self {
        Self { exponent: 2.0, s: 1e-5, t_min: 1e-3, t_max: 1.0 }
    }
}

impl Polynomial {
    /// `d = 1 − α`.
    fn distance(&self, t: f64) -> f64 {
        self.s + (1.0 - 2.0 * self.s) * t.powf(self.exponent)
    }

    /// The time at which `t^p` is `power`.
    fn root(&self, power: f64) -> f64 {
        power.max(0.0).powf(1.0 / self.exponent)
    }
}

impl Sde for Polynomial {
    fn span(&self) -> (f64, f64) {
        (self.t_min, self.t_max)
    }

    fn alpha(&self, t: f64) -> f64 {
        // 1 − t^p = −(e^{p ln t} − 1).
        self.s - (1.0 - 2.0 * self.s) * (self.exponent * t.ln()).exp_m1()
    }

    fn sigma(&self, t: f64) -> f64 {
        let d = self.distance(t);
        (d * (2.0 - d)).sqrt()
    }

    fn d_alpha(&self, t: f64) -> f64 {
        -(1.0 - 2.0 * self.s) * self.exponent * t.powf(self.exponent - 1.0)
    }

    fn d_sigma(&self, t: f64) -> f64 {
        // σ² = 1 − α² gives σ σ̇ = −α α̇.
        -self.alpha(t) * self.d_alpha(t) / self.sigma(t)
    }

    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        // α² = sigmoid(λ), σ² = sigmoid(−λ), each from the side on which it is small.
        let alpha = (1.0 / (1.0 + (-log_snr).exp())).sqrt();
        if alpha < 0.5 {
            // Far from the data 1 − t^p is the small one.
            let gap = (alpha - self.s) / (1.0 - 2.0 * self.s);
            ((-gap).ln_1p() / self.exponent).exp()
        } else {
            let sigma_squared = 1.0 / (1.0 + log_snr.exp());
            self.root((sigma_squared / (1.0 + alpha) - self.s) / (1.0 - 2.0 * self.s))
        }
    }

    fn diffusion_squared(&self, t: f64) -> f64 {
        // Variance preserving: g² = −2f.
        -2.0 * self.drift(t)
    }

    fn check(&self) -> Result<(), SdeError> {
        if !(self.exponent >= 1.0 && self.exponent.is_finite()) {
            return Err(SdeError::new(Self::KIND, "exponent", format!("a number of at least 1, found {}", self.exponent)));
        }
        if !(0.0..0.5).contains(&self.s) {
            return Err(SdeError::new(Self::KIND, "s", format!("a number from 0 to below 0.5, found {}", self.s)));
        }
        increasing(Self::KIND, "t_min, t_max", self.t_min, self.t_max)?;
        end_of_time(Self::KIND, self.t_max, 1.0)
    }
}
