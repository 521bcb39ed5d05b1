//! DPM-Solver of two neighbouring orders on the same evaluations, with the controller of [`adaptive`](super::adaptive).

use fokker_sde::{Quantity, Sde};
use serde::{Deserialize, Serialize};

use super::adams::check_order;
use super::adaptive::{Control, Embedded, start};
use super::exponential::{Prediction, Variable};
use super::singlestep::Singlestep;
use super::stages::{Row, Stages};
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Family, Kind, Solver, Stepper};

/// DPM-Solver-12 and -23: Lu et al. 2022 (arXiv:2206.00927), appendix C, with steps in `ln(α/σ)`. With `control = { rtol = 0.05,
/// atol = 0.0078, first = 0.05, safety = 1, accept = 0.81, p = 0, i = 1, per = "batch" }` it is k-diffusion's `dpm_adaptive`.
///
/// The grid's times are where the trajectory is wanted; give it few: a grid of 2 steps is one interval and the last denoising. A step
/// costs `order` evaluations, a rejected one `order − 1`. Gives up after `control.max_steps`.
///
/// What an error may be depends on the size of the less accurate of the two states, now and at the last accepted step, as the algorithms
/// say: not on the size of the state itself. The paper's rule for the next step is `p = 0`, `i = 1`, `safety = 0.9`, with an `E` that is the batch's
/// largest where [`Per::Batch`](super::Per) has its mean.
///
/// Gives states anywhere between ([`Trajectory`](crate::Trajectory)): its formula with the integrals up to there. An interpolant of order 2
/// keeps the accuracy of either order, and needs no evaluation at the end of a step, which Hermite's would; the last step has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmAdaptive {
    /// The order of the state that is kept, 2 or 3, default 3.
    pub order: usize,
    /// Tolerances and the controller.
    pub control: Control,
}

impl Default for DpmAdaptive {
    fn default() -> Self {
        Self { order: 3, control: Control::default() }
    }
}

impl Solver for DpmAdaptive {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        self.order as u32
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
        Quantity::Epsilon
    }

    fn takes_pure_noise(&self) -> bool {
        false
    }

    fn dense_order(&self) -> Option<u32> {
        Some(2)
    }

    fn check(&self) -> Result<(), SolveError> {
        check_order(Self::KIND, self.order, 2..=3)?;
        self.control.check(Self::KIND)
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        start(Pair(Singlestep { prediction: Prediction::Noise, order: self.order }), &self.control, sde, grid)
    }
}

struct Pair(Singlestep);

impl Embedded for Pair {
    fn name(&self) -> &'static str {
        DpmAdaptive::KIND
    }

    fn stages(&self, sde: &dyn Sde, t: f64, s: f64) -> Stages {
        self.0.stages(sde, t, s)
    }

    fn variable(&self) -> Variable {
        Variable::LogSnr
    }

    fn error_order(&self) -> f64 {
        self.0.order as f64
    }

    fn first_same_as_last(&self) -> bool {
        false
    }

    fn measures_by_lower(&self) -> bool {
        true
    }

    fn between(&self, sde: &dyn Sde, step: (f64, f64), time: f64) -> Row {
        self.0.between(sde, step, time)
    }
}
