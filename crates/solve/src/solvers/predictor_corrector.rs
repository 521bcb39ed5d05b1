//! Song et al. 2021 (arXiv:2011.13456), algorithm 1: a predictor takes the state from `t` to `s`, then Langevin steps at
//! `s` move it towards `p_s` without changing the noise level.
//!
//! ```text
//! reverse diffusion (eq. 46):  x_s = (2 − α_{t|s}) x_t + σ²_{t|s} ∇ ln p_t(x_t) + σ_{t|s} z
//! Langevin (algorithms 4, 5):  x ← x + ε ∇ ln p_s(x) + √(2ε) z        ε = 2 α²_{t|s} (r ‖z‖/‖∇ ln p_s(x)‖)²
//! ```
//!
//! (`α_{t|s}² = 1 − β_i` on their VP ladder and 1 on VE: both of their algorithms in one formula.)

use fokker_sde::{Quantity, Sde, Times, convert};
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::langevin::langevin;
use super::transition::{Move, Transition};
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::NoiseSource;
use crate::solver::{Context, DRAWS, Kind, Solver, Stepper};

/// The predictor of [`PredictorCorrector`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Predictor {
    /// [`ReverseDiffusion`](super::ReverseDiffusion).
    #[default]
    ReverseDiffusion,
    /// [`EulerMaruyama`](super::EulerMaruyama).
    EulerMaruyama,
    /// [`Ancestral`](super::Ancestral).
    Ancestral,
}

/// The step size of the Langevin corrections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepSize {
    /// `ε = 2 α²_{t|s} (r σ_s)²`: the paper's rule with the norms replaced by what they are in many dimensions,
    /// `‖z‖ = √D` and `‖∇ ln p_s‖ = √D/σ_s`. It does not depend on the state, so that the corrections leave `p_s`
    /// unchanged up to their discretisation in any number of dimensions.
    #[default]
    NoiseLevel,
    /// The paper's rule with the norms of each sample (the paper averages them over the batch; samples here never
    /// depend on their batch). For images only: with few dimensions the score of a sample near a mode vanishes and
    /// its step explodes.
    Norms,
}

/// A predictor with `corrections` Langevin steps after each of its steps: Song et al. 2021, algorithms 1–5.
///
/// `1 + corrections` evaluations per step. The order stated is the predictor's weak order; the corrections add an error of
/// their own step size `ε`, which does not vanish with finer grids but shrinks with `snr²`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PredictorCorrector {
    /// The predictor, default reverse diffusion.
    pub predictor: Predictor,
    /// Langevin steps per noise level, default 1, at most 255.
    pub corrections: u32,
    /// The signal-to-noise ratio `r` of a Langevin step, default 0.16.
    pub snr: f64,
    /// How the step size follows from `r`, default from the noise level.
    pub step_size: StepSize,
}

impl Default for PredictorCorrector {
    fn default() -> Self {
        Self { predictor: Predictor::default(), corrections: 1, snr: 0.16, step_size: StepSize::default() }
    }
}

impl Solver for PredictorCorrector {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        1
    }

    fn kind(&self) -> Kind {
        Kind::Sde
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some((1 + self.corrections as usize) * moves)
    }

    fn check(&self) -> Result<(), SolveError> {
        let bad = |field, expected| Err(SolveError::Config { what: "solver", kind: Self::KIND, field, expected });
        if !(self.snr > 0.0 && self.snr.is_finite()) {
            return bad("snr", format!("a positive number, found {}", self.snr));
        }
        if self.corrections >= DRAWS {
            return bad("corrections", format!("at most {}, found {}", DRAWS - 1, self.corrections));
        }
        Ok(())
    }

    fn start(&self, _sde: &dyn Sde, _grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        Ok(Box::new(self.clone()))
    }
}

impl Stepper for PredictorCorrector {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let mut x = self.predict(cx, x)?;
        for correction in 0..self.corrections {
            x = self.correct(cx, x, 1 + correction)?;
        }
        Ok(x)
    }
}

impl PredictorCorrector {
    fn predict(&self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let denoised = cx.denoise(&x, t)?;
        let sde = cx.sde();
        let step = match self.predictor {
            Predictor::EulerMaruyama => Move::euler_maruyama(sde, t, s, 1.0),
            Predictor::Ancestral => Move::posterior(sde, t, s),
            Predictor::ReverseDiffusion => Move::reverse_diffusion(sde, t, s),
        };
        Ok(step.take(cx, (t, s), x, &denoised, (NoiseSource::PerStep, 0)))
    }

    fn correct(&self, cx: &mut Context<'_>, x: Tensor, draw: u32) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let scale = 2.0 * (Transition::between(cx.sde(), s, t).alpha * self.snr).powi(2);
        match self.step_size {
            StepSize::NoiseLevel => langevin(cx, x, s, scale, draw),
            StepSize::Norms => {
                let denoised = cx.denoise(&x, s)?;
                let z = cx.normal(draw, &x);
                let sde = cx.sde();
                let score = convert(Quantity::Sample, Quantity::Score, sde, &Times::Same(s), &x, &denoised);
                let axes: Vec<usize> = (1..x.rank()).collect();
                let squared_ratio = &z.square().sum_keep(&axes) / &score.square().sum_keep(&axes);
                let step = &squared_ratio * scale;
                let moved = &x + &(&score * &step);
                Ok(&moved + &(&z * &(&step * 2.0).sqrt()))
            }
        }
    }
}
