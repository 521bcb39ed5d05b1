//! Variance preserving with a geometric variance of the noise:
//!
//! ```text
//! σ² = σ²_min (σ²_max/σ²_min)^t      α² = 1 − σ²      β(t) = g² = ln(σ²_max/σ²_min) σ²/(1 − σ²)
//! ```
//!
//! `σ(0)² = σ²_min`, not 0: the process begins with data that already carry that noise.

use serde::{Deserialize, Serialize};

use crate::error::{SdeError, end_of_time, increasing};
use crate::sde::Sde;

/// The geometric VPSDE of Vahdat et al. 2021 (LSGM, arXiv:2106.05931, appendix on diffusion processes).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Geometric {
    /// `σ(0)²`, default 1e-4.
    pub variance_min: f64,
    /// `σ(1)²`, default 0.99 (α = 0.1); below 1.
    pub variance_max: f64,
    /// Start of the span, default 1e-5.
    pub t_min: f64,
    /// End of the span, default 1; at most 1.
    pub t_max: f64,
}

impl Default for Geometric {
    fn default() -> Self {
        Self { variance_min: 1e-4, variance_max: 0.99, t_min: 1e-5, t_max: 1.0 }
    }
}

impl Geometric {
    /// `ln(σ²_max/σ²_min)`.
    fn rate(&self) -> f64 {
        (self.variance_max / self.variance_min).ln()
    }

    /// `ln σ²`.
    fn log_variance(&self, t: f64) -> f64 {
        self.variance_min.ln() + self.rate() * t
    }
}

impl Sde for Geometric {
    fn span(&self) -> (f64, f64) {
        (self.t_min, self.t_max)
    }

    fn alpha(&self, t: f64) -> f64 {
        (-self.log_variance(t).exp_m1()).sqrt()
    }

    fn sigma(&self, t: f64) -> f64 {
        (0.5 * self.log_variance(t)).exp()
    }

    fn d_alpha(&self, t: f64) -> f64 {
        // α² = 1 − σ² gives α α̇ = −σ σ̇ = −½ σ² rate.
        -0.5 * self.rate() * self.sigma(t).powi(2) / self.alpha(t)
    }

    fn d_sigma(&self, t: f64) -> f64 {
        0.5 * self.rate() * self.sigma(t)
    }

    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn log_snr(&self, t: f64) -> f64 {
        let log_variance = self.log_variance(t);
        (-log_variance.exp_m1()).ln() - log_variance
    }

    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        // ln σ² = −ln(1 + e^λ), without overflow for large λ.
        let log_variance = -(log_snr.max(0.0) + (-log_snr.abs()).exp().ln_1p());
        (log_variance - self.variance_min.ln()) / self.rate()
    }

    fn diffusion_squared(&self, t: f64) -> f64 {
        // σ²/(1 − σ²) = 1/(e^(−ln σ²) − 1).
        self.rate() / (-self.log_variance(t)).exp_m1()
    }

    fn check(&self) -> Result<(), SdeError> {
        increasing(Self::KIND, "variance_min, variance_max", self.variance_min, self.variance_max)?;
        if self.variance_max >= 1.0 {
            let expected = format!("below 1, of which alpha² is the rest, found {}", self.variance_max);
            return Err(SdeError::new(Self::KIND, "variance_max", expected));
        }
        increasing(Self::KIND, "t_min, t_max", self.t_min, self.t_max)?;
        end_of_time(Self::KIND, self.t_max, 1.0)
    }
}
