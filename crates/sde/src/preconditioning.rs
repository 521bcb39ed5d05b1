//! How a network `F` becomes a denoiser:
//!
//! ```text
//! x̂₀(x_t, t) = c_skip(t) x_t + c_out(t) F(c_in(t) x_t, c_noise(t))
//! ```
//!
//! (Karras et al. 2022, arXiv:2206.00364, eq. 7, with any α). For EDM's own form the state is first scaled to
//! `y = x_t/α`, whose noise level is `s = σ/α`; with `q² = σ² + α² σ_data²`,
//!
//! ```text
//! EDM, table 1:      c_skip = σ_data²/(s² + σ_data²)    c_out = s σ_data/√(s² + σ_data²)    c_in = 1/√(s² + σ_data²)
//! in terms of x_t:   c_skip = α σ_data²/q²              c_out = σ σ_data/q                  c_in = 1/q
//! ```
//!
//! which stays finite where `α = 0`. The others are the affine maps of [`Combination::conversion`] to `x_0`, with the
//! input scaled to unit variance for data of unit variance, `c_in = 1/√(α² + σ²)`: 1 for variance-preserving
//! processes, as in DDPM, and table 1's `1/√(σ² + 1)` for exploding ones.
//!
//! The columns of table 1, which speak of `y`:
//!
//! | column | here | `c_skip` | `c_out` | `c_in` | `c_noise` |
//! |---|---|---|---|---|---|
//! | VP | `epsilon`, conditioning `time` with `scale = M − 1` under `vp` | 1 | `−s` | `1/√(s² + 1)` | `(M − 1) t` |
//! | VE | `ve` | 1 | `s` | 1 | `ln(½ s)` |
//! | iDDPM | `epsilon`, conditioning `step` under `discrete` with cosine `β` | 1 | `−s` | `1/√(s² + 1)` | `M − 1 − argmin_j \|u_j − s\|` |
//! | EDM | `edm` | above | above | above | `¼ ln s` |
//!
//! A network imported with one of them is sampled under another process through [`Under`](crate::Under).
//!
//! What is told to the network is chosen apart from what it predicts: [`Conditioning`], EDM's unless said otherwise.

use serde::{Deserialize, Serialize};

use crate::conditioning::Conditioning;
use crate::error::SdeError;
use crate::quantity::{Combination, Prediction, Quantity};
use crate::sde::Sde;

/// The preconditioning of a network, as written in configuration files: `kind = "edm"` and so on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Preconditioning {
    /// Unit variance of input and target at every noise level: Karras et al. 2022, table 1 and appendix B.6.
    Edm {
        /// Standard deviation of the data, default 0.5 (images in `[−1, 1]`).
        #[serde(default = "default_sigma_data")]
        sigma_data: f64,
        /// What the network is told of the noise level, default `log-noise`.
        #[serde(default)]
        conditioning: Conditioning,
    },
    /// The network predicts the noise: Ho et al. 2020, eq. 11. Impossible where `α = 0`.
    Epsilon {
        /// What the network is told of the noise level, default `log-noise`.
        #[serde(default)]
        conditioning: Conditioning,
    },
    /// The network predicts the clean sample: Ho et al. 2020, section 3.2.
    Sample {
        /// What the network is told of the noise level, default `log-noise`.
        #[serde(default)]
        conditioning: Conditioning,
    },
    /// The network predicts `v`: Salimans & Ho 2022, section 4. Equal to [`Edm`](Self::Edm) with `σ_data = 1` up
    /// to the sign of the network.
    V {
        /// What the network is told of the noise level, default `log-noise`.
        #[serde(default)]
        conditioning: Conditioning,
    },
    /// The network predicts the probability-flow velocity `α̇ x_0 + σ̇ ε`: Lipman et al. 2023, eq. 15.
    Velocity {
        /// What the network is told of the noise level, default `log-noise`.
        #[serde(default)]
        conditioning: Conditioning,
    },
    /// The network predicts the score itself, unscaled: Song et al. 2021, eq. 7. Impossible where `α = 0`.
    Score {
        /// What the network is told of the noise level, default `log-noise`.
        #[serde(default)]
        conditioning: Conditioning,
    },
    /// The network predicts `−ε` from `x_t/α`, whose variance grows with the noise: NCSN++ as in Karras et al. 2022, table 1,
    /// column VE. Impossible where `α = 0`.
    Ve {
        /// What the network is told of the noise level, default `log-sigma`.
        #[serde(default = "log_sigma")]
        conditioning: Conditioning,
    },
}

fn default_sigma_data() -> f64 {
    0.5
}

fn log_sigma() -> Conditioning {
    Conditioning::LogSigma {}
}

impl Default for Preconditioning {
    /// EDM's with `σ_data = 0.5`.
    fn default() -> Self {
        Self::edm(default_sigma_data())
    }
}

/// The preconditioning under which a network predicts the quantity as it is, with EDM's conditioning.
impl From<Quantity> for Preconditioning {
    fn from(quantity: Quantity) -> Self {
        let conditioning = Conditioning::default();
        match quantity {
            Quantity::Sample => Self::Sample { conditioning },
            Quantity::Epsilon => Self::Epsilon { conditioning },
            Quantity::Score => Self::Score { conditioning },
            Quantity::V => Self::V { conditioning },
            Quantity::Velocity => Self::Velocity { conditioning },
        }
    }
}

/// The numbers of one time: `x̂₀ = skip · x_t + out · F(in_ · x_t, noise)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficients {
    /// Factor of the state in `x̂₀`.
    pub skip: f64,
    /// Factor of the network's output in `x̂₀`. `|x̂₀ − x_0|² = out² |F − F*|²`.
    pub out: f64,
    /// Factor of the state at the network's input.
    pub in_: f64,
    /// The noise level as told to the network.
    pub noise: f64,
}

impl Preconditioning {
    /// EDM's for data of this standard deviation.
    pub fn edm(sigma_data: f64) -> Self {
        Self::Edm { sigma_data, conditioning: Conditioning::default() }
    }

    /// Every kind, with its default numbers.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::default()];
        all.extend([Quantity::Epsilon, Quantity::Sample, Quantity::V, Quantity::Velocity, Quantity::Score].map(Self::from));
        all.push(Self::Ve { conditioning: log_sigma() });
        all
    }

    /// The tag of this kind in configuration files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Edm { .. } => "edm",
            Self::Epsilon { .. } => "epsilon",
            Self::Sample { .. } => "sample",
            Self::V { .. } => "v",
            Self::Velocity { .. } => "velocity",
            Self::Score { .. } => "score",
            Self::Ve { .. } => "ve",
        }
    }

    /// The quantity that the network predicts as it is; `None` for EDM's mixture and for VE's negative noise.
    pub fn quantity(&self) -> Option<Quantity> {
        match self {
            Self::Edm { .. } | Self::Ve { .. } => None,
            Self::Epsilon { .. } => Some(Quantity::Epsilon),
            Self::Sample { .. } => Some(Quantity::Sample),
            Self::V { .. } => Some(Quantity::V),
            Self::Velocity { .. } => Some(Quantity::Velocity),
            Self::Score { .. } => Some(Quantity::Score),
        }
    }

    /// What the network is told of the noise level.
    pub fn conditioning(&self) -> Conditioning {
        match *self {
            Self::Edm { conditioning, .. }
            | Self::Epsilon { conditioning }
            | Self::Sample { conditioning }
            | Self::V { conditioning }
            | Self::Velocity { conditioning }
            | Self::Score { conditioning }
            | Self::Ve { conditioning } => conditioning,
        }
    }

    /// The same with another conditioning.
    pub fn with_conditioning(mut self, new: Conditioning) -> Self {
        match &mut self {
            Self::Edm { conditioning, .. }
            | Self::Epsilon { conditioning }
            | Self::Sample { conditioning }
            | Self::V { conditioning }
            | Self::Velocity { conditioning }
            | Self::Score { conditioning }
            | Self::Ve { conditioning } => *conditioning = new,
        }
        self
    }

    /// Whether this preconditioning can serve `sde` over its whole span.
    ///
    /// # Errors
    /// If `sigma_data` is not positive, if the process does not have what the conditioning needs, or if the prediction does not
    /// determine `x̂₀` at the end of the span.
    pub fn check(&self, sde: &dyn Sde) -> Result<(), SdeError> {
        if let Self::Edm { sigma_data, .. } = *self
            && !(sigma_data > 0.0 && sigma_data.is_finite())
        {
            let expected = format!("a positive number, found {sigma_data}");
            return Err(SdeError::preconditioning(self.name(), "sigma_data", expected));
        }
        self.conditioning().check(self.name(), sde)?;
        let (t_min, t_max) = sde.span();
        for t in [t_min, t_max] {
            let c = self.coefficients(sde, t);
            if !(c.skip.is_finite() && c.out.is_finite()) {
                let expected = format!(
                    "a prediction that determines x_0 over the whole span, but sde `{}` has alpha = {} at t = {t}; \
                     use edm, sample, v or velocity, or a smaller t_max",
                    sde.name(),
                    sde.alpha(t)
                );
                return Err(SdeError::preconditioning(self.name(), "kind", expected));
            }
        }
        Ok(())
    }

    /// The coefficients at time `t`.
    ///
    /// # Panics
    /// If the conditioning needs a ladder and the process has none, which [`check`](Self::check) refuses.
    #[track_caller]
    pub fn coefficients(&self, sde: &dyn Sde, t: f64) -> Coefficients {
        let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
        let to_sample = self.target(sde, t).conversion(Quantity::Sample.combination(sde, t), alpha, sigma);
        let in_ = match *self {
            Self::Edm { sigma_data, .. } => 1.0 / sigma.hypot(alpha * sigma_data),
            Self::Ve { .. } => 1.0 / alpha,
            _ => 1.0 / alpha.hypot(sigma),
        };
        Coefficients { skip: to_sample.state, out: to_sample.value, in_, noise: self.conditioning().noise(sde, t) }
    }

    /// The network's ideal output `F*` for the pair `(x_0, ε)`, as a combination of the two: the solution of
    /// `c_skip x_t + c_out F* = x_0`, without the cancellation of computing it so.
    ///
    /// For EDM's (Karras et al. 2022, eq. 8) it is `F* = (σ x_0 − α σ_data² ε)/(σ_data q)`, of unit variance. An
    /// error of the network and one of the denoiser are related by `|x̂₀ − x_0|² = c_out² |F − F*|²`.
    pub fn target(&self, sde: &dyn Sde, t: f64) -> Combination {
        let of = |quantity: Quantity| quantity.combination(sde, t);
        match *self {
            Self::Edm { sigma_data, .. } => {
                let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
                let q = sigma.hypot(alpha * sigma_data);
                Combination { sample: sigma / (sigma_data * q), noise: -alpha * sigma_data / q }
            }
            Self::Epsilon { .. } => of(Quantity::Epsilon),
            Self::Sample { .. } => of(Quantity::Sample),
            Self::V { .. } => of(Quantity::V),
            Self::Velocity { .. } => of(Quantity::Velocity),
            Self::Score { .. } => of(Quantity::Score),
            Self::Ve { .. } => Combination { sample: 0.0, noise: -1.0 },
        }
    }
}

/// The network's output at its own scale.
impl Prediction for Preconditioning {
    fn combination(&self, sde: &dyn Sde, t: f64) -> Combination {
        self.target(sde, t)
    }
}
