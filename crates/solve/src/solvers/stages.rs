//! One-step methods as tables: states at given times, each a combination of the state at `t` and the answers before it.
//!
//! ```text
//! x_i = e_i x_t + Σ_{j<i} a_ij q_j        q_i = b_i x_i + c_i x̂₀(x_i, t_i)        x_s = e x_t + Σ_j w_j q_j
//! ```
//!
//! Everything that is special about a method, a variable and a step is in these numbers, computed in `f64` beforehand.

use fokker_tensor::Tensor;

use crate::combine::combine;
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
        let answers = self.answers(cx, &x)?;
        Ok(self.result.apply(x, &answers))
    }

    /// The answers of all stages.
    pub(super) fn answers(&self, cx: &mut Context<'_>, x: &Tensor) -> Result<Vec<Tensor>, SolveError> {
        let mut answers = Vec::with_capacity(self.stages.len());
        for (i, stage) in self.stages.iter().enumerate() {
            let at_stage = if i == 0 { x.clone() } else { stage.row.apply(x.clone(), &answers) };
            let denoised = cx.denoise(&at_stage, stage.t)?;
            let (state, sample) = stage.factors;
            answers.push(combine(sample, denoised, &[(state, &at_stage)]));
        }
        Ok(answers)
    }
}
