//! What a network is told of the noise level, `c_noise` in Karras et al. 2022 (arXiv:2206.00364), table 1:
//!
//! | `kind` | `c_noise` | column |
//! |---|---|---|
//! | `log-noise` | `¼ ln(σ/α)` | EDM |
//! | `log-sigma` | `ln(½ σ/α)` | VE (NCSN++) |
//! | `time` | `scale · t + offset` | VP (DDPM++): `scale = M − 1 = 999` |
//! | `step` | `argmin_i \|σ_i/α_i − σ/α\|` over the steps of the process's ladder | iDDPM (ADM): `M − 1 − argmin_j \|u_j − σ\|` |
//!
//! The steps of a ladder count from 0 at the data, so that iDDPM's `M − 1 − j` is the number of the step (its `u_j` count from
//! the noise). The first two depend on the noise level alone and are the same numbers under any process. They are limited to
//! noise levels of `e^±20`, which only matters where `α` or `σ` vanishes.

use serde::{Deserialize, Serialize};

use crate::error::SdeError;
use crate::sde::Sde;

/// How the noise level is told to a network: `{ kind = "log-noise" }` and so on in configuration files.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Conditioning {
    /// `¼ ln(σ/α)`, of order one over the whole span: EDM.
    LogNoise {},
    /// `ln(½ σ/α)`: NCSN++.
    LogSigma {},
    /// `scale · t + offset`. Networks of DDPM's kind know the number of a ladder's step: `scale` is `T` and `offset` −1 on a
    /// process `discrete` of `T` steps, 999 and 0 on the continuous `vp` as in Song et al. 2021 (arXiv:2011.13456).
    Time {
        /// Factor of the time, default 999.
        #[serde(default = "default_scale")]
        scale: f64,
        /// What is added, default 0.
        #[serde(default)]
        offset: f64,
    },
    /// The number of the ladder's step that is nearest in the noise level, from 0: for networks that know whole numbers only.
    /// The process must be `discrete`.
    Step {},
}

fn default_scale() -> f64 {
    999.0
}

impl Default for Conditioning {
    /// EDM's.
    fn default() -> Self {
        Self::LogNoise {}
    }
}

impl Conditioning {
    /// Every kind, with its default numbers.
    pub fn all() -> Vec<Self> {
        vec![Self::LogNoise {}, Self::LogSigma {}, Self::Time { scale: default_scale(), offset: 0.0 }, Self::Step {}]
    }

    /// The tag of this kind in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::LogNoise {} => "log-noise",
            Self::LogSigma {} => "log-sigma",
            Self::Time { .. } => "time",
            Self::Step {} => "step",
        }
    }

    /// `c_noise` at time `t`.
    ///
    /// # Panics
    /// If it is `step` and the process has no ladder, which [`Preconditioning::check`](crate::Preconditioning::check) refuses.
    #[track_caller]
    pub fn noise(self, sde: &dyn Sde, t: f64) -> f64 {
        // ln(σ/α).
        let log_noise = || (-0.5 * sde.log_snr(t)).clamp(-20.0, 20.0);
        match self {
            Self::LogNoise {} => 0.25 * log_noise(),
            Self::LogSigma {} => log_noise() - std::f64::consts::LN_2,
            Self::Time { scale, offset } => scale * t + offset,
            Self::Step {} => {
                let ladder = sde.ladder();
                let ladder = ladder.unwrap_or_else(|| panic!("conditioning `step` on sde `{}`, which has no steps", sde.name()));
                ladder.nearest_step_in_noise((-0.5 * sde.log_snr(t)).exp()) as f64
            }
        }
    }

    /// Whether this conditioning can serve `sde`; `kind` is the preconditioning's, for the message.
    pub(crate) fn check(self, kind: &'static str, sde: &dyn Sde) -> Result<(), SdeError> {
        match self {
            Self::Time { scale, offset } if !(scale != 0.0 && scale.is_finite() && offset.is_finite()) => {
                let expected = format!("a finite scale that is not 0 and a finite offset, found {scale} and {offset}");
                Err(SdeError::preconditioning(kind, "conditioning.scale, conditioning.offset", expected))
            }
            Self::Step {} if sde.ladder().is_none() => {
                let expected = format!(
                    "a kind that sde `{}` has, found `step`, for which it needs discrete steps; use sde `discrete`, or `log-noise`, \
                     `log-sigma` or `time`",
                    sde.name()
                );
                Err(SdeError::preconditioning(kind, "conditioning.kind", expected))
            }
            _ => Ok(()),
        }
    }
}
