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
use crate::combine::combine_two;
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
    /// The factor of the state at `t` and the weights of the answers of the state at `s`; `times` are the answers', and the first is `t`.
    fn weights(&self, sde: &dyn Sde, (t, s): (f64, f64), times: impl Iterator<Item = f64>) -> (f64, Vec<f64>) {
        let interval = Interval { sde, prediction: self.prediction, variable: self.variable, t, s };
        let mut nodes: Vec<f64> = times.map(|time| interval.place(time)).collect();
        if interval.first_order_only() {
            nodes[0] = 0.0;
            nodes[1..].fill(f64::INFINITY);
        }
        let mut places: Vec<f64> = nodes.iter().copied().filter(|place| place.is_finite()).collect();
        let mut moments = interval.moments(places.len());
        (self.approximation)(&interval, &mut places, &mut moments);
        let mut known = weights(&places, &moments).into_iter();
        let of = |place: f64| if place.is_finite() { known.next().expect("a weight for each place") } else { 0.0 };
        (interval.state(), nodes.into_iter().map(of).collect())
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
        let denoised = cx.denoise(&x, t)?;
        let sde = cx.sde();
        let older = self.history.newest(method.lower_order_final.limit(cx).min(method.order) - 1);
        let forward = method.weights(sde, (t, s), [t].into_iter().chain(older.iter().map(|(time, _)| *time)));
        let used = forward.1.len();
        let (q, corrected, next) = match self.before.take() {
            Some(before) => {
                let q = method.prediction.answer(sde, t, &x, denoised);
                let (corrected, next) = self.correct_and_predict(sde, t, before, x, &q, &forward);
                (q, Some(corrected), next)
            }
            None => {
                let kept = method.corrector.then(|| x.clone());
                let (q, next) = method.prediction.answer_and_advance(sde, t, x, denoised, (forward.0, &forward.1), &older);
                (q, kept, next)
            }
        };
        self.before = corrected.map(|x| Before { t, x, used });
        self.history.push(t, q, method.order);
        Ok(next)
    }
}

impl Walk {
    /// The state at `t`, corrected by `q`, and the next one, in one pass and in the buffer of the predicted state `x`. `forward` are the factor
    /// of the corrected state and the weights of `q` and the answers before it.
    fn correct_and_predict(
        &self,
        sde: &dyn Sde,
        t: f64,
        before: Before,
        x: Tensor,
        q: &Tensor,
        forward: &(f64, Vec<f64>),
    ) -> (Tensor, Tensor) {
        let nodes = self.history.newest(self.method.order);
        let times = nodes.iter().take(before.used).map(|(time, _)| *time).chain([t]);
        let backward = self.method.weights(sde, (before.t, t), times);
        let older = nodes.iter().enumerate().map(|(j, (_, answer))| {
            let weight = if j < before.used { backward.1[j] } else { 0.0 };
            (weight, forward.1.get(j + 1).copied().unwrap_or(0.0), *answer)
        });
        let terms: Vec<(f64, f64, &Tensor)> = older.chain([(backward.1[before.used], forward.1[0], q)]).collect();
        combine_two(before.x, x, (backward.0, 0.0), (0.0, forward.0), &terms)
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
