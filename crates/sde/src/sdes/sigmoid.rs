//! The sigmoid schedule, variance preserving. With `S` the logistic function and `y(t) = (start + t (end − start))/τ`,
//! `a = y(0)`, `b = y(1)`:
//!
//! ```text
//! α² = (S(b) − S(y))/(S(b) − S(a))      σ² = (S(y) − S(a))/(S(b) − S(a))
//! ```
//!
//! Differences of logistic functions are quotients of hyperbolic ones, `S(v) − S(u) = sinh((v−u)/2) / (2 cosh(u/2) cosh(v/2))`,
//! so that neither end cancels:
//!
//! ```text
//! α² = sinh((b−y)/2) cosh(a/2) / (sinh((b−a)/2) cosh(y/2))      α²/σ² = sinh((b−y)/2) cosh(a/2) / (sinh((y−a)/2) cosh(b/2))
//! ```
//!
//! `α² ~ 1 − t` at the end, where `α̇` is infinite: the span ends before.

use serde::{Deserialize, Serialize};

use crate::error::{SdeError, increasing};
use crate::sde::Sde;

/// Jabri et al. 2022 (arXiv:2212.11972), appendix B, and Chen 2023 (arXiv:2301.10972), algorithm 1, `γ = α²`; their clip of
/// `γ` at 1e-9 is the end of the span here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sigmoid {
    /// Argument of the logistic function at `t = 0`, default −3.
    pub start: f64,
    /// Argument of the logistic function at `t = 1`, default 3; above `start`.
    pub end: f64,
    /// Temperature `τ` both are divided by, default 1; above 0.
    pub tau: f64,
    /// Start of the span, default 1e-5 (σ = 0.0017).
    pub t_min: f64,
    /// End of the span, default 0.9999 (α = 0.0055); below 1.
    pub t_max: f64,
}

impl Default for Sigmoid {
    fn default() -> Self {
        Self { start: -3.0, end: 3.0, tau: 1.0, t_min: 1e-5, t_max: 0.9999 }
    }
}

impl Sigmoid {
    /// Half of `a`, `b` and `b − a`.
    fn halves(&self) -> (f64, f64, f64) {
        let half = 0.5 / self.tau;
        (half * self.start, half * self.end, half * (self.end - self.start))
    }

    /// `cosh(y/2)`.
    fn cosh_y(&self, t: f64) -> f64 {
        let (a, _, length) = self.halves();
        (a + length * t).cosh()
    }

    fn alpha_squared(&self, t: f64) -> f64 {
        let (a, _, length) = self.halves();
        (length * (1.0 - t)).sinh() * a.cosh() / (length.sinh() * self.cosh_y(t))
    }

    fn sigma_squared(&self, t: f64) -> f64 {
        let (_, b, length) = self.halves();
        (length * t).sinh() * b.cosh() / (length.sinh() * self.cosh_y(t))
    }

    /// `dσ²/dt = −dα²/dt`.
    fn d_variance(&self, t: f64) -> f64 {
        let (a, b, length) = self.halves();
        // (b − a) S′(y)/(S(b) − S(a)) with S′(y) = 1/(4 cosh²(y/2)).
        length * a.cosh() * b.cosh() / (length.sinh() * self.cosh_y(t).powi(2))
    }
}

impl Sde for Sigmoid {
    fn span(&self) -> (f64, f64) {
        (self.t_min, self.t_max)
    }

    fn alpha(&self, t: f64) -> f64 {
        self.alpha_squared(t).sqrt()
    }

    fn sigma(&self, t: f64) -> f64 {
        self.sigma_squared(t).sqrt()
    }

    fn d_alpha(&self, t: f64) -> f64 {
        -0.5 * self.d_variance(t) / self.alpha(t)
    }

    fn d_sigma(&self, t: f64) -> f64 {
        0.5 * self.d_variance(t) / self.sigma(t)
    }

    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn log_snr(&self, t: f64) -> f64 {
        let (a, b, length) = self.halves();
        ((length * (1.0 - t)).sinh() * a.cosh()).ln() - ((length * t).sinh() * b.cosh()).ln()
    }

    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        // With L = (b − a)/2, u = Lt: sinh(L − u)/sinh(u) = Q gives e^{2u} = (Q + e^L)/(Q + e^−L), and for L − u the same
        // with 1/Q.
        let (a, b, length) = self.halves();
        let log_q = log_snr + (b.cosh() / a.cosh()).ln();
        let distance = |q: f64| 0.5 * (2.0 * length.sinh() / (q + (-length).exp())).ln_1p() / length;
        if log_q > 0.0 { distance(log_q.exp()) } else { 1.0 - distance((-log_q).exp()) }
    }

    fn diffusion_squared(&self, t: f64) -> f64 {
        // Variance preserving: g² = −2f = −(dα²/dt)/α².
        self.d_variance(t) / self.alpha_squared(t)
    }

    fn check(&self) -> Result<(), SdeError> {
        if !(self.tau > 0.0 && self.tau.is_finite()) {
            return Err(SdeError::new(Self::KIND, "tau", format!("a positive number, found {}", self.tau)));
        }
        let (a, b, _) = self.halves();
        // Beyond 30 the logistic function is 0 or 1 to within rounding, and so is the schedule nearly everywhere.
        if !(a < b && a.abs() <= 15.0 && b.abs() <= 15.0) {
            let expected = format!(
                "start < end with start/tau and end/tau within ±30, found {} and {} with tau {}",
                self.start, self.end, self.tau
            );
            return Err(SdeError::new(Self::KIND, "start, end", expected));
        }
        increasing(Self::KIND, "t_min, t_max", self.t_min, self.t_max)?;
        if self.t_max < 1.0 {
            return Ok(());
        }
        Err(SdeError::new(Self::KIND, "t_max", format!("below 1, where the velocity is infinite, found {}", self.t_max)))
    }
}
