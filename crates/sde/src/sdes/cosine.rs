//! The cosine schedule, variance preserving:
//!
//! ```text
//! θ(t) = (π/2) (t + s)/(1 + s)      α = cos θ(t) / cos θ(0)      σ² = 1 − α²
//! ```
//!
//! Near the data `1 − α²` would cancel; `σ² = sin(θ − θ₀) sin(θ + θ₀) / cos² θ₀` does not.

use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

use crate::error::{SdeError, end_of_time, increasing};
use crate::sde::Sde;

/// Nichol & Dhariwal 2021 (arXiv:2102.09672), eq. 17, in continuous time.
///
/// `α` reaches 0 at `t = 1`. The paper clips its discrete β at 0.999 there; here the span ends at 0.9946, as in
/// DPM-Solver (arXiv:2206.00927, appendix D), where α = 0.0084 is close to VP's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cosine {
    /// Offset that keeps the noise from being too small near the data, default 0.008.
    pub s: f64,
    /// Start of the span, default 1e-5.
    pub t_min: f64,
    /// End of the span, default 0.9946; at most 1.
    pub t_max: f64,
}

impl Default for Cosine {
    fn default() -> Self {
        Self { s: 0.008, t_min: 1e-5, t_max: 0.9946 }
    }
}

impl Cosine {
    /// `θ̇`.
    fn rate(&self) -> f64 {
        FRAC_PI_2 / (1.0 + self.s)
    }

    fn theta_0(&self) -> f64 {
        self.rate() * self.s
    }

    /// `cos θ(t)`, written as a sine of the distance to `t = 1` so that it is exact where it vanishes.
    fn cos_theta(&self, t: f64) -> f64 {
        (self.rate() * (1.0 - t)).sin()
    }

    fn sin_theta(&self, t: f64) -> f64 {
        (self.rate() * (1.0 - t)).cos()
    }
}

impl Sde for Cosine {
    fn span(&self) -> (f64, f64) {
        (self.t_min, self.t_max)
    }

    fn alpha(&self, t: f64) -> f64 {
        self.cos_theta(t) / self.theta_0().cos()
    }

    fn sigma(&self, t: f64) -> f64 {
        let between = self.rate() * t;
        let product = between.sin() * (between + 2.0 * self.theta_0()).sin();
        product.max(0.0).sqrt() / self.theta_0().cos()
    }

    fn d_alpha(&self, t: f64) -> f64 {
        -self.rate() * self.sin_theta(t) / self.theta_0().cos()
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
        let (alpha_squared, sigma_squared) = (1.0 / (1.0 + (-log_snr).exp()), 1.0 / (1.0 + log_snr.exp()));
        let (sin_0, cos_0) = self.theta_0().sin_cos();
        let sin_squared = sin_0 * sin_0 + sigma_squared * cos_0 * cos_0;
        if alpha_squared < 0.5 {
            // Far from the data: cos θ is the small one.
            1.0 - (cos_0 * alpha_squared.sqrt()).asin() / self.rate()
        } else {
            let theta = sin_squared.sqrt().asin();
            // sin(θ − θ₀) = σ² cos² θ₀ / sin(θ + θ₀) gives the distance to θ₀ with full relative accuracy.
            let distance = sigma_squared * cos_0 * cos_0 / (theta + self.theta_0()).sin();
            distance.asin() / self.rate()
        }
    }

    fn diffusion_squared(&self, t: f64) -> f64 {
        // Variance preserving: g² = −2f = 2 θ̇ tan θ.
        2.0 * self.rate() * self.sin_theta(t) / self.cos_theta(t)
    }

    fn check(&self) -> Result<(), SdeError> {
        if !(self.s > 0.0 && self.s.is_finite()) {
            let expected = format!("a positive number, found {}", self.s);
            return Err(SdeError::new(Self::KIND, "s", expected));
        }
        increasing(Self::KIND, "t_min, t_max", self.t_min, self.t_max)?;
        end_of_time(Self::KIND, self.t_max, 1.0)
    }
}
