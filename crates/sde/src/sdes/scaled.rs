//! Karras et al.'s general form, a noise level and a scaling chosen apart:
//!
//! ```text
//! x_t = s(t) (x_0 + ς(t) ε)      α = s      σ = s ς      log_snr = −2 ln ς
//! ```
//!
//! with their `σ(t)` written `ς` here, since `σ` is the noise in `x_t` everywhere in this crate. Schedules and scalings of
//! their table 1 (`B(t) = β_min t + ½ (β_max − β_min) t²`):
//!
//! | | `ς(t)` | `t(ς)` | | `s(t)` |
//! |---|---|---|---|---|
//! | `linear` | `t` | `ς` | `none` | `1` |
//! | `ve` | `√t` | `ς²` | `vp` | `1/√(1 + ς²)`, so that `α² + σ² = 1` |
//! | `vp` | `√(e^B − 1)` | the root of `B(t) = ln(1 + ς²)` | | |
//!
//! The columns of the table: VP is schedule `vp` with scaling `vp`, which is the process `vp` of this crate exactly
//! (`β_d = β_max − β_min = 19.9`, `β_min = 0.1`); VE is schedule `ve` without scaling, the process `ve` in another time, with
//! noise levels from 0.02 to 100; iDDPM and EDM are schedule `linear` without scaling, the process `edm`. The other three
//! combinations are their ablation's.

use serde::{Deserialize, Serialize};

use super::variance_preserving::{beta_integral, time_at_beta_integral};
use crate::error::{SdeError, increasing};
use crate::sde::Sde;

/// Karras et al. 2022 (arXiv:2206.00364), eq. 2–4 and table 1, rows "schedule" and "scaling", over a range of noise levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scaled {
    /// Smallest noise level `ς = σ/α`, default 0.002, in data units: the start of the span.
    pub sigma_min: f64,
    /// Largest noise level `ς = σ/α`, default 80, in data units: the end of the span.
    pub sigma_max: f64,
    /// The scaling `s(t)`, default `vp`.
    pub scaling: Scaling,
    /// The noise level `ς(t)`, default `linear`.
    pub schedule: Schedule,
}

/// The scaling `s(t)` of [`Scaled`], `"none"` or `"vp"` in configuration files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// `s = 1`: the data keep their scale and the noise grows without limit.
    None,
    /// `s = 1/√(1 + ς²)`: the variance of unit data is kept.
    #[default]
    Vp,
}

/// The noise level `ς(t)` of [`Scaled`]: `{ kind = "linear" }` and so on in configuration files.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// `ς = t`.
    Linear {},
    /// `ς = √t`.
    Ve {},
    /// `ς = √(e^B − 1)` with `β` linear from `beta_min` to `beta_max`.
    Vp {
        /// `β(0)`, default 0.1.
        #[serde(default = "default_beta_min")]
        beta_min: f64,
        /// `β(1)`, default 20: `β_min + β_d` of the paper.
        #[serde(default = "default_beta_max")]
        beta_max: f64,
    },
}

fn default_beta_min() -> f64 {
    0.1
}

fn default_beta_max() -> f64 {
    20.0
}

impl Default for Schedule {
    /// `ς = t`.
    fn default() -> Self {
        Self::Linear {}
    }
}

impl Schedule {
    /// `ς(t)`.
    fn level(self, t: f64) -> f64 {
        match self {
            Self::Linear {} => t,
            Self::Ve {} => t.sqrt(),
            Self::Vp { beta_min, beta_max } => beta_integral(beta_min, beta_max, t).exp_m1().sqrt(),
        }
    }

    /// `dς/dt`.
    fn d_level(self, t: f64) -> f64 {
        match self {
            Self::Linear {} => 1.0,
            Self::Ve {} => 0.5 / t.sqrt(),
            Self::Vp { beta_min, beta_max } => {
                let beta = beta_min + (beta_max - beta_min) * t;
                0.5 * beta * beta_integral(beta_min, beta_max, t).exp() / self.level(t)
            }
        }
    }

    /// The time at which the noise level is `level`.
    fn time(self, level: f64) -> f64 {
        match self {
            Self::Linear {} => level,
            Self::Ve {} => level * level,
            // ln(1 + ς²), which must not overflow for the largest levels.
            Self::Vp { beta_min, beta_max } => {
                let integral = if level > 1e8 { 2.0 * level.ln() } else { (level * level).ln_1p() };
                time_at_beta_integral(beta_min, beta_max, integral)
            }
        }
    }
}

impl Default for Scaled {
    fn default() -> Self {
        Self { sigma_min: 0.002, sigma_max: 80.0, scaling: Scaling::default(), schedule: Schedule::default() }
    }
}

impl Sde for Scaled {
    fn span(&self) -> (f64, f64) {
        (self.schedule.time(self.sigma_min), self.schedule.time(self.sigma_max))
    }

    fn alpha(&self, t: f64) -> f64 {
        match self.scaling {
            Scaling::None => 1.0,
            Scaling::Vp => 1.0 / self.schedule.level(t).hypot(1.0),
        }
    }

    fn sigma(&self, t: f64) -> f64 {
        let level = self.schedule.level(t);
        match self.scaling {
            Scaling::None => level,
            Scaling::Vp => level / level.hypot(1.0),
        }
    }

    fn d_alpha(&self, t: f64) -> f64 {
        match self.scaling {
            Scaling::None => 0.0,
            // ṡ = −s³ ς ς̇.
            Scaling::Vp => -self.alpha(t).powi(2) * self.sigma(t) * self.schedule.d_level(t),
        }
    }

    fn d_sigma(&self, t: f64) -> f64 {
        match self.scaling {
            Scaling::None => self.schedule.d_level(t),
            // d(sς)/dt = s³ ς̇.
            Scaling::Vp => self.alpha(t).powi(3) * self.schedule.d_level(t),
        }
    }

    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn log_snr(&self, t: f64) -> f64 {
        -2.0 * self.schedule.level(t).ln()
    }

    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        self.schedule.time((-0.5 * log_snr).exp())
    }

    fn drift(&self, t: f64) -> f64 {
        match self.scaling {
            Scaling::None => 0.0,
            Scaling::Vp => -self.alpha(t) * self.sigma(t) * self.schedule.d_level(t),
        }
    }

    fn diffusion_squared(&self, t: f64) -> f64 {
        // g² = 2 s² ς ς̇.
        2.0 * self.alpha(t) * self.sigma(t) * self.schedule.d_level(t)
    }

    fn check(&self) -> Result<(), SdeError> {
        if let Schedule::Vp { beta_min, beta_max } = self.schedule {
            increasing(Self::KIND, "schedule.beta_min, schedule.beta_max", beta_min, beta_max)?;
        }
        increasing(Self::KIND, "sigma_min, sigma_max", self.sigma_min, self.sigma_max)
    }
}
