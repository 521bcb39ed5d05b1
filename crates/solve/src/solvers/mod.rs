//! The solvers, one file each, listed once below.

use fokker_sde::Sde;
use serde::{Deserialize, Serialize};

use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Kind, Solver, Stepper};

/// From one line per solver: its module, its variant of [`SolverConfig`], and its place in [`SolverConfig::all`].
macro_rules! solvers {
    ($($module:ident :: $Type:ident = $kind:literal, $about:literal;)+) => {
        $(mod $module; pub use $module::$Type;)+

        /// Any of the solvers of this crate, as written in configuration files: `kind = "heun"` and so on.
        ///
        /// Fields that are left out take their defaults; unknown fields are errors. It is itself a [`Solver`].
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum SolverConfig {
            $(
                #[doc = $about]
                #[serde(rename = $kind)]
                $Type($Type),
            )+
        }

        impl SolverConfig {
            /// Every solver with its default numbers, in the order of the list.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$Type($Type::default())),+]
            }

            /// The tags that `kind` may have.
            pub const KINDS: &'static [&'static str] = &[$($kind),+];

            /// The solver with the tag `kind` and its default numbers; `None` if there is none.
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

            fn inner(&self) -> &dyn Solver {
                match self { $(Self::$Type(solver) => solver),+ }
            }
        }

        $(
            impl From<$Type> for SolverConfig {
                fn from(solver: $Type) -> Self {
                    Self::$Type(solver)
                }
            }

            impl $Type {
                /// The tag of this solver in configuration files.
                pub const KIND: &'static str = $kind;
            }
        )+
    };
}

solvers! {
    euler::Euler = "euler",
        "Euler's method on the probability-flow ODE in t: Song et al. 2021, eq. 13";
    heun::Heun = "heun",
        "Heun's second-order method on the probability-flow ODE in t: Karras et al. 2022, algorithm 1";
    ddim::Ddim = "ddim",
        "DDIM, exact for a constant x̂₀; eta from 0 (ODE) to 1 (ancestral): Song, Meng & Ermon 2021, eq. 12";
    euler_maruyama::EulerMaruyama = "euler-maruyama",
        "Euler–Maruyama on the reverse SDE: Song et al. 2021, eq. 6 and appendix E";
    ancestral::Ancestral = "ancestral",
        "Ancestral sampling by the posterior q(x_s | x_t, x̂₀) of DDPM: Ho et al. 2020, eq. 7";
    predictor_corrector::PredictorCorrector = "predictor-corrector",
        "A reverse-diffusion predictor and Langevin corrections at each noise level: Song et al. 2021, algorithms 1–5";
}

mod transition;

pub use predictor_corrector::{Predictor, StepSize};

impl Default for SolverConfig {
    /// [`Ddim`] without noise: accurate on any process and any grid, where Euler and Heun in `t` want short steps near the data
    /// on processes whose `σ̇` is large there (VP, cosine).
    fn default() -> Self {
        Self::Ddim(Ddim::default())
    }
}

/// Hands every method to the solver inside.
impl Solver for SolverConfig {
    fn name(&self) -> &'static str {
        self.inner().name()
    }
    fn order(&self) -> u32 {
        self.inner().order()
    }
    fn kind(&self) -> Kind {
        self.inner().kind()
    }
    fn evaluations(&self, moves: usize) -> Option<usize> {
        self.inner().evaluations(moves)
    }
    fn check(&self) -> Result<(), SolveError> {
        self.inner().check()
    }
    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.inner().start(sde, grid)
    }
}
