//! The stages that DPM-Solver and DPM-Solver++ share: the integrals of [`exponential`](super::exponential) over a polynomial through
//! answers at `u = 0` and one other place.
//!
//! ```text
//! order 2:  q_1 at r_1                                                x_s: nodes {0, r_1}, with m_1 = m_0/2
//! order 3:  q_1 at r_1 = ⅓; q_2 at r_2 = ⅔ by nodes {0, r_1/r_2}      x_s: nodes {0, r_2}
//! ```
//!
//! During a step, the state at a part `θ` of it in `λ` is the same formula with its integrals to there: `O(h³)` from the solution that starts at `x_t`.
//!
//! The error estimate of order 2 is against order 1, that of order 3 against order 2 with its `r_1`: DPM-Solver-12 and -23.

use fokker_sde::Sde;
use fokker_tensor::Tensor;

use super::exponential::{Interval, Prediction, Variable, half_log_snr, pure_noise, weights};
use super::stages::{Row, Stage, Stages};
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Context, Stepper};

/// A single-step method of order 1 to 3.
#[derive(Clone, Copy, Debug)]
pub(super) struct Singlestep {
    pub(super) prediction: Prediction,
    pub(super) order: usize,
}

impl Singlestep {
    /// Begins a trajectory, which must have a finite log-SNR at both ends.
    pub(super) fn start(self, solver: &'static str, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        let bad = [grid.first(), grid.last()].into_iter().find(|&t| !sde.log_snr(t).is_finite());
        bad.map_or_else(|| Ok(Box::new(self) as Box<dyn Stepper>), |t| Err(pure_noise(solver, sde, t)))
    }

    pub(super) fn stages(self, sde: &dyn Sde, t: f64, s: f64) -> Stages {
        let (lambda_t, h) = (half_log_snr(sde, t), half_log_snr(sde, s) - half_log_snr(sde, t));
        let time = |r: f64| sde.time_at_log_snr(2.0 * (lambda_t + r * h));
        let (constant, linear) = (|end| self.constant(sde, t, end), |end, node, bend| self.linear(sde, t, end, node, bend));
        let stage = |t: f64, row: Row| Stage { t, factors: self.prediction.factors(sde, t), row };
        let first = stage(t, Row::start());
        match self.order {
            1 => Stages { stages: vec![first], result: constant(s), error: Vec::new() },
            2 => {
                let t_1 = time(0.5);
                let (result, lower) = (linear(s, 0.5, Bend::Midpoint), constant(s));
                let error = vec![result.weights[0] - lower.weights[0], result.weights[1]];
                Stages { stages: vec![first, stage(t_1, constant(t_1))], result, error }
            }
            3 => {
                let (r_1, r_2) = (1.0 / 3.0, 2.0 / 3.0);
                let (t_1, t_2) = (time(r_1), time(r_2));
                let (mut result, lower) = (linear(s, r_2, Bend::Exact), linear(s, r_1, Bend::Midpoint));
                result.weights.insert(1, 0.0);
                let error = vec![result.weights[0] - lower.weights[0], -lower.weights[1], result.weights[2]];
                let stages = vec![first, stage(t_1, constant(t_1)), stage(t_2, linear(t_2, r_1 / r_2, Bend::Exact))];
                Stages { stages, result, error }
            }
            order => unreachable!("order {order} was checked"),
        }
    }

    /// The state at `time` during the step from `t` to `s`, from the answers of its stages: the formula of `x_s` with its line through the
    /// same answers, integrated to there.
    pub(super) fn between(self, sde: &dyn Sde, (t, s): (f64, f64), time: f64) -> Row {
        let theta = (half_log_snr(sde, time) - half_log_snr(sde, t)) / (half_log_snr(sde, s) - half_log_snr(sde, t));
        match self.order {
            1 => self.constant(sde, t, time),
            2 => self.linear(sde, t, time, 0.5 / theta, Bend::Midpoint),
            3 => {
                let mut row = self.linear(sde, t, time, 2.0 / 3.0 / theta, Bend::Exact);
                row.weights.insert(1, 0.0);
                row
            }
            order => unreachable!("order {order} was checked"),
        }
    }

    /// The integral from `t` to `end` of what is `q_0`.
    fn constant(self, sde: &dyn Sde, t: f64, end: f64) -> Row {
        let interval = self.interval(sde, t, end);
        Row { state: interval.state(), weights: interval.moments(1) }
    }

    /// The same of the line through `q_0` and the answer at place `node`.
    fn linear(self, sde: &dyn Sde, t: f64, end: f64, node: f64, bend: Bend) -> Row {
        let interval = self.interval(sde, t, end);
        let mut moments = interval.moments(2);
        if bend == Bend::Midpoint {
            moments[1] = 0.5 * moments[0];
        }
        Row { state: interval.state(), weights: weights(&[0.0, node], &moments) }
    }

    fn interval(self, sde: &dyn Sde, t: f64, s: f64) -> Interval<'_> {
        Interval { sde, prediction: self.prediction, variable: Variable::LogSnr, t, s }
    }
}

/// The moment `m_1` of a line.
#[derive(Clone, Copy, PartialEq)]
enum Bend {
    Exact,
    /// `m_0/2`.
    Midpoint,
}

impl Stepper for Singlestep {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        self.stages(cx.sde(), cx.t, cx.s).run(cx, x)
    }
}
