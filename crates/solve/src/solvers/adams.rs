//! One engine for every multistep solver here: an Adams method for the integrals of [`exponential`](super::exponential).
//!
//! ```text
//! predict:  x_s = (S_s/S_t) x_t + Σ_j w_j q_j        over q_t and the n − 1 answers before it (Adams and Bashforth)
//! correct:  the same with q_s as one node more        once q_s is known (Adams and Moulton)
//! ```
//!
//! A named solver says which `q`, which variable, how many answers, and what its paper puts in the place of the exact moments.
//! The correction costs no evaluation: it waits for the one that the next step makes at the predicted state anyway, and moves the
//! state before that step goes on from it. The last state of a trajectory is the predicted one.
//!
//! Starting and ending: step `i` has `i` answers behind it, so the order rises from 1. A step that begins or ends at pure noise,
//! where `λ` is infinite, is of first order, and its answer is no node for later steps in a variable that is infinite there.

use std::collections::VecDeque;

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::exponential::{Interval, Prediction, Variable, weights};
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Context, Stepper};

/// Whether the order falls towards the end, so that with `i` steps left (a last denoising step included) it is at most `i`. This
/// keeps long last steps, over which a polynomial extrapolates badly, from spoiling the sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LowerOrderFinal {
    /// The full order to the end.
    Never,
    /// On grids of fewer than 15 steps: the rule of DPM-Solver's authors.
    #[default]
    FewSteps,
    /// On every grid: the rule of UniPC's authors.
    Always,
}

impl LowerOrderFinal {
    /// The order of a method of order `order` on long grids.
    pub(super) fn order(self, order: usize) -> u32 {
        // One step of first order at the end adds an error of second order.
        let order = if self == Self::Always { order.min(2) } else { order };
        order as u32
    }

    fn limit(self, cx: &Context<'_>) -> usize {
        match self {
            Self::Never => usize::MAX,
            Self::FewSteps if cx.total >= 15 => usize::MAX,
            Self::FewSteps | Self::Always => cx.total - cx.index,
        }
    }
}

/// Replaces exact places and moments by what a paper has instead.
pub(super) type Approximation = fn(&Interval<'_>, places: &mut [f64], moments: &mut [f64]);

/// The exact ones.
pub(super) fn exact(_: &Interval<'_>, _: &mut [f64], _: &mut [f64]) {}

/// An Adams method.
#[derive(Clone, Copy)]
pub(super) struct Adams {
    pub(super) prediction: Prediction,
    pub(super) variable: Variable,
    /// The most answers that a prediction uses.
    pub(super) order: usize,
    pub(super) approximation: Approximation,
    pub(super) corrector: bool,
    pub(super) lower_order_final: LowerOrderFinal,
}

impl Adams {
    /// The state `x` at `t`, moved to `s` by the answers at `nodes`, the first of which is at `t`.
    fn advance(&self, sde: &dyn Sde, (t, s): (f64, f64), x: Tensor, nodes: &[(f64, &Tensor)]) -> Tensor {
        let interval = Interval { sde, prediction: self.prediction, variable: self.variable, t, s };
        let nodes: Vec<(f64, &Tensor)> = if interval.first_order_only() {
            vec![(0.0, nodes[0].1)]
        } else {
            nodes.iter().map(|&(time, q)| (interval.place(time), q)).filter(|(place, _)| place.is_finite()).collect()
        };
        let mut places: Vec<f64> = nodes.iter().map(|(place, _)| *place).collect();
        let mut moments = interval.moments(places.len());
        (self.approximation)(&interval, &mut places, &mut moments);
        let weights = weights(&places, &moments);
        let terms: Vec<(f64, &Tensor)> = weights.into_iter().zip(nodes.iter().map(|(_, q)| *q)).collect();
        combine(interval.state(), x, &terms)
    }

    /// Begins a trajectory.
    pub(super) fn start(self, solver: &'static str, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.prediction.check(solver, sde, grid)?;
        Ok(Box::new(Walk { method: self, history: History::default(), before: None }))
    }
}

/// The last answers with their times, the newest first.
#[derive(Default)]
pub(super) struct History(VecDeque<(f64, Tensor)>);

impl History {
    /// Remembers an answer and forgets all but the newest `keep`.
    pub(super) fn push(&mut self, t: f64, q: Tensor, keep: usize) {
        self.0.push_front((t, q));
        self.0.truncate(keep);
    }

    /// The newest `n`, or as many as there are.
    pub(super) fn newest(&self, n: usize) -> Vec<(f64, &Tensor)> {
        self.0.iter().take(n).map(|(t, q)| (*t, q)).collect()
    }
}

/// A step that may still be corrected: where it began, the state there, and how many answers it used.
struct Before {
    t: f64,
    x: Tensor,
    used: usize,
}

struct Walk {
    method: Adams,
    history: History,
    before: Option<Before>,
}

impl Stepper for Walk {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s, method) = (cx.t, cx.s, self.method);
        let q = method.prediction.evaluate(cx, &x, t)?;
        let x = match self.before.take() {
            Some(before) => {
                let mut nodes = self.history.newest(before.used);
                nodes.push((t, &q));
                method.advance(cx.sde(), (before.t, t), before.x, &nodes)
            }
            None => x,
        };
        self.history.push(t, q, method.order);
        let nodes = self.history.newest(method.lower_order_final.limit(cx).min(method.order));
        if method.corrector {
            self.before = Some(Before { t, x: x.clone(), used: nodes.len() });
        }
        Ok(method.advance(cx.sde(), (t, s), x, &nodes))
    }
}

/// The error of an order out of range.
pub(super) fn check_order(kind: &'static str, order: usize, range: std::ops::RangeInclusive<usize>) -> Result<(), SolveError> {
    if range.contains(&order) {
        return Ok(());
    }
    let expected = format!("a number from {} to {}, found {order}", range.start(), range.end());
    Err(SolveError::Config { what: "solver", kind, field: "order", expected })
}
