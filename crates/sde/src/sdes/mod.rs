//! The forward processes, one file each, listed once below.

mod ladder;

pub use ladder::{Betas, IddpmLevels, Ladder};
pub use scaled::{Scaling, Schedule};

use serde::{Deserialize, Serialize};

use crate::error::SdeError;
use crate::sde::Sde;

/// From one line per process: its module, its variant of [`SdeConfig`], and its place in [`SdeConfig::all`].
macro_rules! sdes {
    ($($module:ident :: $Type:ident = $kind:literal, $about:literal;)+) => {
        $(mod $module; pub use $module::$Type;)+

        /// Any of the processes of this crate, as written in configuration files: `kind = "vp"` and so on.
        ///
        /// Fields that are left out take their defaults; unknown fields are errors. It is itself an [`Sde`].
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum SdeConfig {
            $(
                #[doc = $about]
                #[serde(rename = $kind)]
                $Type($Type),
            )+
        }

        impl SdeConfig {
            /// Every process with its default numbers, in the order of the list.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$Type($Type::default())),+]
            }

            /// The tags that `kind` may have.
            pub const KINDS: &'static [&'static str] = &[$($kind),+];

            /// The process with the tag `kind` and its default numbers; `None` if there is none.
            pub fn from_kind(kind: &str) -> Option<Self> {
                match kind {
                    $($kind => Some(Self::$Type($Type::default())),)+
                    _ => None,
                }
            }

            /// One line for a listing: what it is, and the paper.
            pub fn about(&self) -> &'static str {
                match self { $(Self::$Type(_) => $about),+ }
            }

            fn inner(&self) -> &dyn Sde {
                match self { $(Self::$Type(sde) => sde),+ }
            }
        }

        $(
            impl From<$Type> for SdeConfig {
                fn from(sde: $Type) -> Self {
                    Self::$Type(sde)
                }
            }

            impl $Type {
                /// The tag of this process in configuration files.
                pub const KIND: &'static str = $kind;
            }
        )+
    };
}

sdes! {
    variance_preserving::VariancePreserving = "vp",
        "Variance preserving, linear β (DDPM in continuous time): Song et al. 2021, eq. 11";
    sub_variance_preserving::SubVariancePreserving = "sub-vp",
        "Sub-variance preserving, linear β: Song et al. 2021, eq. 12";
    variance_exploding::VarianceExploding = "ve",
        "Variance exploding, geometric σ (NCSN in continuous time): Song et al. 2021, eq. 9";
    cosine::Cosine = "cosine",
        "Cosine schedule, variance preserving: Nichol & Dhariwal 2021, eq. 17";
    edm::Edm = "edm",
        "EDM, α = 1 and σ = t: Karras et al. 2022, section 3";
    linear_flow::LinearFlow = "flow",
        "Linear interpolation of flow matching, α = 1 − t and σ = t: Lipman et al. 2023; Liu et al. 2023";
    scaled::Scaled = "scaled",
        "EDM's general form, noise level linear, √t or VP's, with or without VP's scaling: Karras et al. 2022, table 1";
    trigonometric::Trigonometric = "trigonometric",
        "α = cos(πt/2) and σ = sin(πt/2): Albergo & Vanden-Eijnden 2023; Salimans & Ho 2022";
    polynomial::Polynomial = "polynomial",
        "Variance preserving with α = 1 − t^p: Hoogeboom et al. 2022 (equivariant diffusion)";
    polynomial_flow::PolynomialFlow = "polynomial-flow",
        "Flow with α = (1 − t)^n and σ = 1 − α: Lipman et al. 2024";
    geometric::Geometric = "geometric",
        "Variance preserving with geometric σ²: Vahdat et al. 2021 (LSGM)";
    sigmoid::Sigmoid = "sigmoid",
        "Variance preserving with sigmoid α²: Jabri et al. 2022; Chen 2023";
    discrete::Discrete = "discrete",
        "A ladder of discrete steps (linear, scaled-linear, sigmoid, cosine, Laplace β or an array): Ho et al. 2020, eq. 2";
}

impl Default for SdeConfig {
    /// [`VariancePreserving`].
    fn default() -> Self {
        Self::VariancePreserving(VariancePreserving::default())
    }
}

/// Hands every method to the process inside, so that its closed forms are used.
impl Sde for SdeConfig {
    fn span(&self) -> (f64, f64) {
        self.inner().span()
    }
    fn alpha(&self, t: f64) -> f64 {
        self.inner().alpha(t)
    }
    fn sigma(&self, t: f64) -> f64 {
        self.inner().sigma(t)
    }
    fn d_alpha(&self, t: f64) -> f64 {
        self.inner().d_alpha(t)
    }
    fn d_sigma(&self, t: f64) -> f64 {
        self.inner().d_sigma(t)
    }
    fn name(&self) -> &'static str {
        self.inner().name()
    }
    fn ladder(&self) -> Option<&Discrete> {
        self.inner().ladder()
    }
    fn log_snr(&self, t: f64) -> f64 {
        self.inner().log_snr(t)
    }
    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        self.inner().time_at_log_snr(log_snr)
    }
    fn drift(&self, t: f64) -> f64 {
        self.inner().drift(t)
    }
    fn diffusion_squared(&self, t: f64) -> f64 {
        self.inner().diffusion_squared(t)
    }
    fn prior_std(&self) -> f64 {
        self.inner().prior_std()
    }
    fn check(&self) -> Result<(), SdeError> {
        self.inner().check()
    }
}
