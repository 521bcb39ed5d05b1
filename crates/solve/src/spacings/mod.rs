//! The spacings of time grids, one file each, listed once below.

use fokker_sde::Sde;
use serde::{Deserialize, Serialize};

use crate::error::SolveError;

/// A way of spacing times.
trait Space {
    /// `points ≥ 2` decreasing times from `t_max` to `t_min`, both inside of the span.
    fn times(&self, sde: &dyn Sde, t_max: f64, t_min: f64, points: usize) -> Result<Vec<f64>, SolveError>;

    /// Whether the numbers of the configuration make sense.
    fn check(&self) -> Result<(), SolveError> {
        Ok(())
    }

    /// Whether the ends follow from the spacing itself: it then gets the span, is asked even for a single time, and what it answers
    /// is taken as it is.
    fn own_ends(&self) -> bool {
        false
    }
}

macro_rules! spacings {
    ($($module:ident :: $Type:ident = $kind:literal, $about:literal;)+) => {
        $(mod $module; pub use $module::$Type;)+

        /// How the times of a grid are spaced, as written in configuration files: `kind = "karras"` and so on.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum Spacing {
            $(
                #[doc = $about]
                #[serde(rename = $kind)]
                $Type($Type),
            )+
        }

        impl Spacing {
            /// Every spacing with its default numbers, in the order of the list.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$Type($Type::default())),+]
            }

            /// The tags that `kind` may have.
            pub const KINDS: &'static [&'static str] = &[$($kind),+];

            /// The spacing with the tag `kind` and its default numbers; `None` if there is none.
            pub fn from_kind(kind: &str) -> Option<Self> {
                match kind {
                    $($kind => Some(Self::$Type($Type::default())),)+
                    _ => None,
                }
            }

            /// The tag in configuration files.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$Type(_) => $kind),+ }
            }

            /// One line for a listing: what it is, and the paper.
            pub fn about(&self) -> &'static str {
                match self { $(Self::$Type(_) => $about),+ }
            }

            fn inner(&self) -> &dyn Space {
                match self { $(Self::$Type(spacing) => spacing),+ }
            }
        }

        $(
            impl From<$Type> for Spacing {
                fn from(spacing: $Type) -> Self {
                    Self::$Type(spacing)
                }
            }

            impl $Type {
                /// The tag of this spacing in configuration files.
                pub const KIND: &'static str = $kind;
            }
        )+
    };
}

spacings! {
    uniform::Uniform = "uniform", "Uniform in t";
    karras::Karras = "karras", "Uniform in (σ/α)^(1/ρ), dense at low noise: Karras et al. 2022, eq. 5";
    log_snr::LogSnr = "log-snr", "Uniform in the log-SNR: Lu et al. 2022 (DPM-Solver), section 3.4";
    quadratic::Quadratic = "quadratic", "Uniform in √t: Song, Meng & Ermon 2021 (DDIM), appendix D.2";
    exponential::Exponential = "exponential", "Uniform in ln(σ/α), the same times as log-snr: k-diffusion's name of it";
    polyexponential::Polyexponential = "polyexponential", "Uniform in a power of the place in ln(σ/α): k-diffusion";
    cosine::CosineAngle = "cosine", "Uniform in arctan(σ/α), the cosine schedule's levels: Nichol & Dhariwal 2021, eq. 17";
    iddpm::Iddpm = "iddpm", "The discrete noise levels of iDDPM: Karras et al. 2022, table 1";
    discrete::Discrete = "discrete", "Leading, trailing or equally spaced steps of a ladder: Lin et al. 2024, table 2";
    flow_shift::FlowShift = "flow-shift", "The straight flow's time, its noise levels multiplied by a shift: Esser et al. 2024, eq. 23";
    list::List = "list", "An explicit list of times or noise levels, or a file of times";
}

pub use discrete::Picking;

impl Default for Spacing {
    /// [`Uniform`].
    fn default() -> Self {
        Self::Uniform(Uniform::default())
    }
}

impl Spacing {
    /// `points ≥ 2` decreasing times from `t_max` to `t_min`.
    ///
    /// # Errors
    /// If the spacing cannot serve these ends.
    pub(crate) fn times(&self, sde: &dyn Sde, t_max: f64, t_min: f64, points: usize) -> Result<Vec<f64>, SolveError> {
        self.inner().times(sde, t_max, t_min, points)
    }

    pub(crate) fn check(&self) -> Result<(), SolveError> {
        self.inner().check()
    }

    /// Whether the ends follow from the spacing, not from `t_min` and `t_max`.
    pub(crate) fn own_ends(&self) -> bool {
        self.inner().own_ends()
    }
}

/// `points` equally spaced numbers from `first` to `last`.
fn between(first: f64, last: f64, points: usize) -> impl Iterator<Item = f64> {
    let intervals = (points - 1) as f64;
    (0..points).map(move |i| first + (last - first) * (i as f64 / intervals))
}

/// The error of a spacing in the noise level on a process that ends in pure noise, unless `log_snr` is finite.
fn finite_log_snr(sde: &dyn Sde, kind: &'static str, t_max: f64) -> Result<f64, SolveError> {
    let log_snr = sde.log_snr(t_max);
    if log_snr.is_finite() {
        return Ok(log_snr);
    }
    let (t_min, end) = sde.span();
    Err(SolveError::Grid(format!(
        "spacing `{kind}` needs a finite noise level at both ends, but sde `{}` is pure noise at t = {t_max}; \
         use spacing `uniform` or `cosine`, or set t_max to {} for example",
        sde.name(),
        t_min.max(0.999 * end)
    )))
}
