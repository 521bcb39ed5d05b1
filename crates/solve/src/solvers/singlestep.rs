//! The stages that DPM-Solver and DPM-Solver++ share: the integrals of [`exponential`](super::exponential) over a polynomial through
//! answers at `u = 0` and one other place.
//!
//! ```text
//! order 2:  q_1 at r_1                                                x_s: nodes {0, r_1}, with m_1 = m_0/2
//! order 3:  q_1 at r_1 = ⅓; q_2 at r_2 = ⅔ by nodes {0, r_1/r_2}      x_s: nodes {0, r_2}
//! ```
//!
//! The error estimate of order 2 is against order 1, that of order 3 against order 2 with its `r_1`: DPM-Solver-12 and -23.

use fokker_sde::Sde;

use super::exponential::{Interval, Prediction, Variable, half_log_snr, weights};
use super::stages::{Row, Stage, Stages};

/// A single-step method of order 1 to 3.
#[derive(Clone, Copy, Debug)]
pub(super) struct Singlestep {
    pub(super) prediction: Prediction,
    pub(super) order: usize,
}

impl Singlestep {
    pub(super) fn stages(self, sde: &dyn Sde, t: f64, s: f64) -> Stages {
        let (lambda_t, h) = (half_log_snr(sde, t), half_log_snr(sde, s) - half_log_snr(sde, t));
        let time = |r: f64| sde.time_at_log_snr(2.0 * (lambda_t + r * h));
        // The integral from t to `end` of what is 1 · q_0, or linear through q_0 and the answer at place `node`.
        let interval = |end: f64| Interval { sde, prediction: self.prediction, variable: Variable::LogSnr, t, s: end };
        let constant = |end: f64| Row { state: interval(end).state(), weights: interval(end).moments(1) };
        let linear = |end: f64, node: f64, midpoint: bool| {
            let mut moments = interval(end).moments(2);
            if midpoint {
                moments[1] = 0.5 * moments[0];
            }
            Row { state: interval(end).state(), weights: weights(&[0.0, node], &moments) }
        };
        let stage = |t: f64, row: Row| Stage { t, factors: self.prediction.factors(sde, t), row };
        let first = stage(t, Row::start());
        match self.order {
            1 => Stages { stages: vec![first], result: constant(s), error: Vec::new() },
            2 => {
                let t_1 = time(0.5);
                let (result, lower) = (linear(s, 0.5, true), constant(s));
                let error = vec![result.weights[0] - lower.weights[0], result.weights[1]];
                Stages { stages: vec![first, stage(t_1, constant(t_1))], result, error }
            }
            3 => {
                let (r_1, r_2) = (1.0 / 3.0, 2.0 / 3.0);
                let (t_1, t_2) = (time(r_1), time(r_2));
                let (mut result, lower) = (linear(s, r_2, false), linear(s, r_1, true));
                result.weights.insert(1, 0.0);
                let error = vec![result.weights[0] - lower.weights[0], -lower.weights[1], result.weights[2]];
                let stages = vec![first, stage(t_1, constant(t_1)), stage(t_2, linear(t_2, r_1 / r_2, false))];
                Stages { stages, result, error }
            }
            order => unreachable!("order {order} was checked"),
        }
    }
}
