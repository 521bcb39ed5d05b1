//! ```text
//! x_s = (2 − α_{t|s}) x_t + σ²_{t|s} ∇ ln p_t(x_t) + σ_{t|s} z
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::transition::{Move, Transition};
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::NoiseSource;
use crate::solver::{Context, Kind, Solver, Stepper};

/// The reverse SDE discretised like the forward one: Song et al. 2021 (arXiv:2011.13456), eq. 46, for any process. On their
/// ladders it is the predictor of algorithms 2 (`α_{t|s} = 1`) and 3 (`α²_{t|s} = 1 − β_i`).
///
/// Weak and strong order 1, 1 evaluation per step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReverseDiffusion {
    /// Where the noise comes from, default independent draws.
    pub noise: NoiseSource,
}

impl Solver for ReverseDiffusion {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        1
    }

    fn strong_order(&self) -> Option<f64> {
        Some(1.0)
    }

    fn kind(&self) -> Kind {
        Kind::Sde
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(moves)
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.noise.check(Self::KIND, sde, grid)?;
        Ok(Box::new(self.clone()))
    }
}

impl Stepper for ReverseDiffusion {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let denoised = cx.denoise(&x, t)?;
        Ok(Move::reverse_diffusion(cx.sde(), t, s).take(cx, (t, s), x, &denoised, (self.noise, 0)))
    }
}

impl Move {
    /// The step above.
    pub(super) fn reverse_diffusion(sde: &dyn Sde, t: f64, s: f64) -> Self {
        let forward = Transition::between(sde, s, t);
        // σ²_{t|s} ∇ ln p = (σ²_{t|s}/σ_t²) (α_t x̂₀ − x).
        let pull = forward.variance / sde.sigma(t).powi(2);
        Self { state: 2.0 - forward.alpha - pull, sample: pull * sde.alpha(t), std: forward.variance.sqrt() }
    }
}
