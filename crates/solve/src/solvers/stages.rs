//! One-step methods as tables: states at given times, each a combination of the state at `t` and the answers before it.
//!
//! ```text
//! x_i = e_i x_t + Σ_{j<i} a_ij q_j        q_i = b_i x_i + c_i x̂₀(x_i, t_i)        x_s = e x_t + Σ_j w_j q_j
//! ```
//!
//! Everything that is special about a method, a variable and a step is in these numbers, computed in `f64` beforehand.

use fokker_tensor::Tensor;

use crate::combine::{combine, combine_two};
use crate::error::SolveError;
use crate::solver::Context;

/// `state · x_t + Σ_j weights_j q_j`.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) state: f64,
    /// One for each answer before it, or fewer.
    pub(super) weights: Vec<f64>,
}

impl Row {
    /// The state at `t` itself.
    pub(super) fn start() -> Self {
        Self { state: 1.0, weights: Vec::new() }
    }

    pub(super) fn apply(&self, x: Tensor, answers: &[Tensor]) -> Tensor {
        let terms: Vec<(f64, &Tensor)> = self.weights.iter().copied().zip(answers).collect();
        combine(self.state, x, &terms)
    }
}

/// One evaluation.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// The time of the evaluation.
    pub(super) t: f64,
    /// `b` and `c`: the answer `q = b x + c x̂₀`.
    pub(super) factors: (f64, f64),
    /// The state of the evaluation.
    pub(super) row: Row,
}

/// A step of a one-step method.
#[derive(Clone, Debug)]
pub(super) struct Stages {
    /// The first is at `t`, with [`Row::start`].
    pub(super) stages: Vec<Stage>,
    pub(super) result: Row,
    /// Weights of an estimate of the step's error; empty if there is none.
    pub(super) error: Vec<f64>,
}

impl Stages {
    /// The state at `s`.
    pub(super) fn run(&self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (answers, at_stage, denoised) = self.until_last(cx, &x)?;
        // The last answer is used once and needs no place of its own.
        let (state, sample) = self.stages[answers.len()].factors;
        let weight = self.result.weights.get(answers.len()).copied().unwrap_or(0.0);
        if answers.is_empty() {
            drop(at_stage);
            return Ok(combine(self.result.state + weight * state, x, &[(weight * sample, &denoised)]));
        }
        let terms = self.result.weights.iter().copied().zip(&answers);
        let terms: Vec<(f64, &Tensor)> = terms.chain([(weight * state, &at_stage), (weight * sample, &denoised)]).collect();
        Ok(combine(self.result.state, x, &terms))
    }

    /// The answers of all stages.
    pub(super) fn answers(&self, cx: &mut Context<'_>, x: &Tensor) -> Result<Vec<Tensor>, SolveError> {
        let (mut answers, last, denoised) = self.until_last(cx, x)?;
        let (state, sample) = self.stages[answers.len()].factors;
        answers.push(combine(sample, denoised, &[(state, &last)]));
        Ok(answers)
    }

    /// The answers of all stages but the last, and the last one's state and denoised sample.
    fn until_last(&self, cx: &mut Context<'_>, x: &Tensor) -> Result<(Vec<Tensor>, Tensor, Tensor), SolveError> {
        let mut answers: Vec<Tensor> = Vec::with_capacity(self.stages.len() + 1);
        let mut at_stage = x.clone();
        for (i, pair) in self.stages.windows(2).enumerate() {
            let ((state, sample), row) = (pair[0].factors, &pair[1].row);
            let denoised = cx.denoise(&at_stage, pair[0].t)?;
            let weight = |j: usize| row.weights.get(j).copied().unwrap_or(0.0);
            let mut terms: Vec<(f64, f64, &Tensor)> = answers.iter().enumerate().map(|(j, q)| (0.0, weight(j), q)).collect();
            // The next state takes the place of this one, but for the first, which is the step's own.
            let start = if i == 0 { row.state } else { 0.0 };
            if i > 0 {
                terms.push((0.0, row.state, x));
            }
            let (answer, next) = combine_two(denoised, at_stage, (sample, state), (start, weight(i)), &terms);
            answers.push(answer);
            at_stage = next;
        }
        let last = self.stages.last().expect("at least one stage");
        let denoised = cx.denoise(&at_stage, last.t)?;
        Ok((answers, at_stage, denoised))
    }
}
