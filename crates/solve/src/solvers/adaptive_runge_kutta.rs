//! The embedded pairs of [`tableau`](super::tableau) with the controller of [`adaptive`](super::adaptive).

use fokker_sde::{Quantity, Sde};
use serde::{Deserialize, Serialize};

use super::adaptive::{Control, Embedded, start};
use super::exponential::Variable;
use super::stages::{Row, Stages};
use super::tableau::Method;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Family, Kind, Solver, Stepper};

/// Runge–Kutta of order 5 with error estimates of order 4 and step control: Dormand & Prince 1980 or Tsitouras 2011, in `t` as in
/// Song et al. 2021 (arXiv:2011.13456), section 4.3, or in another variable.
///
/// The grid's times are where the trajectory is wanted; give it few: a grid of 2 steps is one interval and the last denoising. The first
/// step costs 7 evaluations, each further one, rejected ones too, 6. Gives up after `control.max_steps`.
///
/// Gives states anywhere between ([`Trajectory`](crate::Trajectory)) by the interpolants of order 4 that belong to the methods: Hairer, Nørsett &
/// Wanner 1993, eq. 6.12, and Tsitouras 2011, in the variable of the steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaptiveRungeKutta {
    /// `dopri5` (default) or `tsit5`.
    pub method: Method,
    /// The variable, default `t`, the only one in which it may start at pure noise.
    pub variable: Variable,
    /// Tolerances and the controller.
    pub control: Control,
}

impl Default for AdaptiveRungeKutta {
    fn default() -> Self {
        Self { method: Method::Dopri5, variable: Variable::T, control: Control::default() }
    }
}

impl Solver for AdaptiveRungeKutta {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        self.method.tableau().order
    }

    fn kind(&self) -> Kind {
        Kind::Ode
    }

    fn evaluations(&self, _moves: usize) -> Option<usize> {
        None
    }

    fn family(&self) -> Family {
        Family::Adaptive
    }

    fn quantity(&self) -> Quantity {
        self.variable.quantity()
    }

    fn takes_pure_noise(&self) -> bool {
        self.variable == Variable::T
    }

    fn dense_order(&self) -> Option<u32> {
        Some(4)
    }

    fn check(&self) -> Result<(), SolveError> {
        if !self.method.tableau().is_embedded() {
            let expected = "`dopri5` or `tsit5`, which estimate their errors".to_owned();
            return Err(SolveError::Config { what: "solver", kind: Self::KIND, field: "method", expected });
        }
        self.control.check(Self::KIND)
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        start(Pair { method: self.method, variable: self.variable }, &self.control, sde, grid)
    }
}

struct Pair {
    method: Method,
    variable: Variable,
}

impl Embedded for Pair {
    fn name(&self) -> &'static str {
        AdaptiveRungeKutta::KIND
    }

    fn stages(&self, sde: &dyn Sde, t: f64, s: f64) -> Stages {
        self.method.tableau().stages(self.variable, sde, t, s, true)
    }

    fn variable(&self) -> Variable {
        self.variable
    }

    fn error_order(&self) -> f64 {
        f64::from(self.method.tableau().order)
    }

    fn first_same_as_last(&self) -> bool {
        true
    }

    fn measures_by_lower(&self) -> bool {
        false
    }

    fn between(&self, sde: &dyn Sde, step: (f64, f64), time: f64) -> Row {
        self.method.tableau().between(self.variable, sde, step, time)
    }
}
