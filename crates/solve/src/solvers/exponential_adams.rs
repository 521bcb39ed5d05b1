//! `x_s = (S_s/S_t) x_t + S_s ∫ q dμ` with `q` a polynomial through the last `n` answers, integrated exactly: see
//! [`exponential`](super::exponential) for `S`, `q` and `μ`, and [`adams`](super::adams) for the steps.

use fokker_sde::{Quantity, Sde};
use serde::{Deserialize, Serialize};

use super::adams::{Adams, LowerOrderFinal, check_order, exact};
use super::exponential::{Prediction, Variable};
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Family, Kind, Solver, Stepper};

/// The exponential Adams–Bashforth method of any order, with exact weights on any grid: Hochbruck & Ostermann 2010
/// (doi:10.1017/S0962492910000048), section 2.5, for the ODE of Lu et al. 2022 (arXiv:2211.01095), proposition 4.1; with the
/// corrector, the exponential Adams–Moulton step of one order more.
///
/// Where a solver of this list is named after a paper it has the paper's weights; this one has the exact ones. At order 2 in data and
/// log-SNR it is DPM-Solver++ (2M) with `φ₂` in the place of its midpoint-like approximation; in noise, a variant of
/// [`Deis`](super::Deis). In velocity and `t` it is Adams and Bashforth's method itself.
///
/// Of order `order`, one more with the corrector; the first steps are of lower order for want of answers. 1 evaluation per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExponentialAdams {
    /// The number of answers used, from 1 to 8, default 3.
    pub order: usize,
    /// What is taken for a polynomial, default the data.
    pub prediction: Prediction,
    /// In which variable, default the log-SNR; with `velocity` only `t`.
    pub variable: Variable,
    /// Whether the next answer corrects each state, default not.
    pub corrector: bool,
    /// Whether the order falls towards the end, default on grids of fewer than 15 steps.
    pub lower_order_final: LowerOrderFinal,
}

impl Default for ExponentialAdams {
    fn default() -> Self {
        Self {
            order: 3,
            prediction: Prediction::default(),
            variable: Variable::default(),
            corrector: false,
            lower_order_final: LowerOrderFinal::default(),
        }
    }
}

impl Solver for ExponentialAdams {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        self.lower_order_final.order(self.order + usize::from(self.corrector))
    }

    fn kind(&self) -> Kind {
        Kind::Ode
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(moves)
    }

    fn family(&self) -> Family {
        Family::Multistep
    }

    fn quantity(&self) -> Quantity {
        self.prediction.quantity()
    }

    fn takes_pure_noise(&self) -> bool {
        self.prediction != Prediction::Noise
    }

    fn check(&self) -> Result<(), SolveError> {
        check_order(Self::KIND, self.order, 1..=8)?;
        if self.prediction == Prediction::Velocity && self.variable != Variable::T {
            let expected = "`t` with prediction `velocity`, whose integral is over t".to_owned();
            return Err(SolveError::Config { what: "solver", kind: Self::KIND, field: "variable", expected });
        }
        Ok(())
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        let method = Adams {
            prediction: self.prediction,
            variable: self.variable,
            order: self.order,
            approximation: exact,
            corrector: self.corrector,
            lower_order_final: self.lower_order_final,
        };
        method.start(Self::KIND, sde, grid)
    }
}
