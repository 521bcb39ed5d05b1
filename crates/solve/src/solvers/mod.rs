//! The solvers, one file each, listed once below.

use fokker_sde::{Denoiser, Quantity, Sde};
use serde::{Deserialize, Serialize};

use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Family, Kind, Solver, Stepper};

/// From one line per solver: its module, its variant of [`SolverConfig`], and its place in [`SolverConfig::all`].
macro_rules! solvers {
    ($($module:ident :: $Type:ident = $kind:literal, $about:literal, $reference:literal;)+) => {
        $(mod $module; pub use $module::$Type;)+

        /// Any of the solvers of this crate, as written in configuration files: `kind = "heun"` and so on.
        ///
        /// Fields that are left out take their defaults; unknown fields are errors. It is itself a [`Solver`].
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum SolverConfig {
            $(
                #[doc = concat!($about, ": ", $reference)]
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

            /// One line for a listing: what it is.
            pub fn about(&self) -> &'static str {
                match self { $(Self::$Type(_) => $about),+ }
            }

            /// The paper, with its equation or algorithm.
            pub fn reference(&self) -> &'static str {
                match self { $(Self::$Type(_) => $reference),+ }
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
        "Euler's method on the probability-flow ODE in t",
        "Song et al. 2021, eq. 13";
    heun::Heun = "heun",
        "Heun's second-order method on the probability-flow ODE in t",
        "Karras et al. 2022, algorithm 1";
    ddim::Ddim = "ddim",
        "DDIM, exact for a constant denoised sample; eta from 0 (ODE) to 1 (ancestral)",
        "Song, Meng & Ermon 2021, eq. 12";
    euler_maruyama::EulerMaruyama = "euler-maruyama",
        "Euler and Maruyama's method on the reverse SDE in t",
        "Song et al. 2021, eq. 6";
    ancestral::Ancestral = "ancestral",
        "DDPM's sampler: draws from the posterior of the next state given the denoised sample",
        "Ho et al. 2020, eq. 7";
    predictor_corrector::PredictorCorrector = "predictor-corrector",
        "A reverse-diffusion predictor, then Langevin corrections at each noise level",
        "Song et al. 2021, algorithms 1 to 5";
    exponential_adams::ExponentialAdams = "exponential-adams",
        "Exponential Adams methods of any order with exact weights, in data, noise or velocity, with or without corrector",
        "Hochbruck & Ostermann 2010, section 2.5; Lu et al. 2022b, proposition 4.1";
    deis::Deis = "deis",
        "DEIS: the noise is a polynomial in t (tAB), sigma (rhoAB) or the log-SNR through the last answers",
        "Zhang & Chen 2023, eq. 14 and 15";
    lms::Lms = "lms",
        "Linear multistep method in the noise level",
        "k-diffusion; Zhang & Chen 2023, eq. 15";
    pndm::Pndm = "pndm",
        "PNDM: DDIM's step with the noise of a linear multistep method, after Runge-Kutta steps or as PLMS",
        "Liu et al. 2022, algorithm 2";
    ipndm::Ipndm = "ipndm",
        "Improved PNDM: the first steps use the answers there are",
        "Zhang & Chen 2023, section H.2";
    dpm_solver::DpmSolver = "dpm-solver",
        "DPM-Solver-1, -2 (which is DPM-2) and -3, single-step in noise",
        "Lu et al. 2022a, algorithms 1 and 2; Karras et al. 2022";
    dpmpp_singlestep::DpmPpSinglestep = "dpmpp-singlestep",
        "DPM-Solver++ (2S) and (3S), single-step in data",
        "Lu et al. 2022b, algorithm 1";
    dpmpp_multistep::DpmPpMultistep = "dpmpp-multistep",
        "DPM-Solver++ (2M) and (3M), multistep in data, with the paper's approximate weights",
        "Lu et al. 2022b, algorithm 2";
    unipc::UniPc = "unipc",
        "UniPC: a multistep predictor, and a corrector that costs no evaluation",
        "Zhao et al. 2023, algorithms 1 and 2";
    runge_kutta::RungeKutta = "runge-kutta",
        "Explicit Runge-Kutta methods of order 1 to 5 in t, the noise level or the log-SNR",
        "Hairer, Nørsett & Wanner 1993, section II.1";
    adaptive_runge_kutta::AdaptiveRungeKutta = "adaptive-runge-kutta",
        "Runge-Kutta of order 5 with steps as long as a tolerance allows",
        "Dormand & Prince 1980, table 2; Tsitouras 2011, table 1";
    dpm_adaptive::DpmAdaptive = "dpm-adaptive",
        "DPM-Solver-12 and -23: single-step in noise, with steps as long as a tolerance allows",
        "Lu et al. 2022a, appendix C";
    reverse_diffusion::ReverseDiffusion = "reverse-diffusion",
        "The reverse SDE discretised like the forward one",
        "Song et al. 2021, eq. 46";
    exponential_euler::ExponentialEuler = "exponential-euler",
        "First-order exponential integrator of the SDEs between the ODE and the reverse SDE",
        "Lu et al. 2022, SDE-DPM-Solver++(1); Xue et al. 2023";
    euler_ancestral::EulerAncestral = "euler-ancestral",
        "An Euler step in the noise level to below the level aimed at, then noise up to it",
        "Crowson 2022, k-diffusion";
    dpmpp_sde::DpmppSde = "dpmpp-sde",
        "DPM-Solver++ (2S) for the reverse SDE, single-step with two stages",
        "Lu et al. 2022 (DPM-Solver++), algorithm 1; Crowson 2022, k-diffusion";
    dpmpp_2m_sde::Dpmpp2mSde = "dpmpp-2m-sde",
        "DPM-Solver++ (2M) for the SDE, multistep",
        "Lu et al. 2022, SDE-DPM-Solver++(2M); Crowson 2022, k-diffusion";
    dpmpp_3m_sde::Dpmpp3mSde = "dpmpp-3m-sde",
        "DPM-Solver++ (3M) for the SDE, multistep",
        "Crowson 2022, k-diffusion";
    edm_stochastic::EdmStochastic = "edm-stochastic",
        "EDM's stochastic sampler: noise is added (churn) before each step of an ODE solver",
        "Karras et al. 2022, algorithm 2";
    srk::Srk = "srk",
        "Stochastic Runge-Kutta methods for additive noise in the clock of the signal-to-noise ratio",
        "Rößler 2010, SRA1";
    sa_solver::SaSolver = "sa-solver",
        "SA-Solver: stochastic Adams predictor and corrector with a noise level in time",
        "Xue et al. 2023, algorithm 1";
    adaptive_sde::AdaptiveSde = "adaptive-sde",
        "Gotta go fast: an adaptive solver of the reverse SDE with steps of its own for each sample",
        "Jolicoeur-Martineau et al. 2021, algorithm 1";
    restart::Restart = "restart",
        "An ODE solver that goes back to higher noise and down again in some intervals",
        "Xu et al. 2023, section 3.1";
    annealed_langevin::AnnealedLangevin = "annealed-langevin",
        "Langevin dynamics at one noise level after the other (NCSN, NCSNv2)",
        "Song & Ermon 2019, algorithm 1; 2020, technique 4";
    langevin::Langevin = "langevin",
        "The unadjusted Langevin algorithm at the last noise level of the grid",
        "Roberts & Tweedie 1996";
    paradigms::Paradigms = "paradigms",
        "ParaDiGMS: many first-order steps at once by Picard iteration in a sliding window",
        "Shih et al. 2023, algorithm 1";
    dpm_2_ancestral::Dpm2Ancestral = "dpm-2-ancestral",
        "A step of DPM-2 to below the level aimed at, then noise up to it",
        "Karras et al. 2022; Crowson 2022, k-diffusion";
    dpmpp_2s_ancestral::Dpmpp2sAncestral = "dpmpp-2s-ancestral",
        "A step of DPM-Solver++ (2S) to below the level aimed at, then noise up to it",
        "Lu et al. 2022b, algorithm 1; Crowson 2022, k-diffusion";
}

mod adams;
mod adaptive;
mod continuous;
mod exponential;
mod initial_value;
mod singlestep;
mod stages;
mod tableau;
mod transition;
mod variable_adams;

pub use adams::LowerOrderFinal;
pub use adaptive::{Control, Per};
pub use exponential::{Prediction, Variable};
pub(crate) use initial_value::{Adaptive, fixed};
pub use pndm::WarmUp;
pub use predictor_corrector::{Predictor, StepSize};
pub use tableau::Method;
pub use unipc::UniPcVariant;
pub use variable_adams::VariableAdams;

pub use ancestral::Variance;
pub use dpmpp_2m_sde::SlopeWeight;
pub use edm_stochastic::Inner;
pub use paradigms::ParallelStep;
pub use restart::RestartInterval;
pub use srk::SrkMethod;

/// Refuses a field that is not a finite number from 0.
fn check_from_zero(kind: &'static str, field: &'static str, value: f64) -> Result<(), SolveError> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    let expected = format!("a finite number from 0, found {value}");
    Err(SolveError::Config { what: "solver", kind, field, expected })
}

/// Refuses a factor of the noise that is not a positive number.
fn check_noise(kind: &'static str, s_noise: f64) -> Result<(), SolveError> {
    if s_noise > 0.0 && s_noise.is_finite() {
        return Ok(());
    }
    let expected = format!("a positive number, found {s_noise}");
    Err(SolveError::Config { what: "solver", kind, field: "s_noise", expected })
}

impl Default for SolverConfig {
    /// [`Ddim`] without noise: accurate on any process and any grid, where Euler and Heun in `t` want short steps near the data
    /// on processes whose `σ̇` is large there (VP, cosine).
    fn default() -> Self {
        Self::Ddim(Ddim::default())
    }
}

/// A row of the table of solvers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SolverInfo {
    /// The tag in configuration files.
    pub name: &'static str,
    /// `ode` or `sde`.
    pub kind: &'static str,
    /// The order of convergence: strong for ODE solvers, weak for SDE solvers.
    pub order: u32,
    /// The strong order of an SDE solver along one Brownian path; none for ODE solvers and where no path is followed.
    pub strong_order: Option<f64>,
    /// `one-step`, `multistep`, `adaptive` or `parallel`.
    pub family: &'static str,
    /// Evaluations of the model per step of a long trajectory with the default numbers; none if it depends on the trajectory.
    pub cost: Option<usize>,
    /// The quantity that the method takes for constant or polynomial. Networks of any prediction serve any of them.
    pub quantity: Quantity,
    /// Whether it can start where `α = 0`, or needs a process, or a `t_max`, with some signal at its first time.
    pub takes_pure_noise: bool,
    /// The order of the states between its steps; none if it has no dense output.
    pub dense_order: Option<u32>,
    /// What it is.
    pub about: &'static str,
    /// The paper, with its equation or algorithm.
    pub reference: &'static str,
}

impl SolverConfig {
    /// What a listing says of it.
    pub fn info(&self) -> SolverInfo {
        SolverInfo {
            name: self.name(),
            kind: match self.kind() {
                Kind::Ode => "ode",
                Kind::Sde => "sde",
            },
            order: self.order(),
            strong_order: self.strong_order(),
            family: match self.family() {
                Family::OneStep => "one-step",
                Family::Multistep => "multistep",
                Family::Adaptive => "adaptive",
                Family::Parallel => "parallel",
            },
            // Of one step more, after any warm-up.
            cost: self.evaluations(101).zip(self.evaluations(100)).map(|(more, less)| more - less),
            quantity: self.quantity(),
            takes_pure_noise: self.takes_pure_noise(),
            dense_order: self.dense_order(),
            about: self.about(),
            reference: self.reference(),
        }
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
    fn strong_order(&self) -> Option<f64> {
        self.inner().strong_order()
    }
    fn kind(&self) -> Kind {
        self.inner().kind()
    }
    fn evaluations(&self, moves: usize) -> Option<usize> {
        self.inner().evaluations(moves)
    }
    fn family(&self) -> Family {
        self.inner().family()
    }
    fn quantity(&self) -> Quantity {
        self.inner().quantity()
    }
    fn takes_pure_noise(&self) -> bool {
        self.inner().takes_pure_noise()
    }
    fn dense_order(&self) -> Option<u32> {
        self.inner().dense_order()
    }
    fn check(&self) -> Result<(), SolveError> {
        self.inner().check()
    }
    fn check_model(&self, denoiser: &dyn Denoiser) -> Result<(), SolveError> {
        self.inner().check_model(denoiser)
    }
    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.inner().start(sde, grid)
    }
}
