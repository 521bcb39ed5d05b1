//! ```text
//! x_s = σ_s/σ_t e^(−λ²h) x_t + α_s (1 − e^(−(1+λ²)h)) x̂₀ + σ_s √(1 − e^(−2λ²h)) z
//! h = ln(α_s/σ_s) − ln(α_t/σ_t)
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::transition::Move;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::{NoiseLevel, NoiseSource};
use crate::solver::{Context, Kind, Solver, Stepper};

/// The first-order exponential integrator of the family of SDEs with noise level `λ(t)`: SDE-DPM-Solver++(1) (Lu et al. 2022,
/// arXiv:2211.01095) for `λ = 1`, with Xue et al.'s `λ` (2023, arXiv:2309.05019).
///
/// Exact for an `x̂₀` that does not change: `λ = 0` is [`Ddim`](super::Ddim), `λ = 1` (the default) is
/// [`Ancestral`](super::Ancestral), and any process may start where `α = 0`. Weak and strong order 1, 1 evaluation per step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExponentialEuler {
    /// `λ(t)`, default 1 at all times.
    pub noise_level: NoiseLevel,
    /// Where the noise comes from, default independent draws.
    pub noise: NoiseSource,
}

impl Solver for ExponentialEuler {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        1
    }

    fn strong_order(&self) -> Option<f64> {
        (self.kind() == Kind::Sde).then_some(1.0)
    }

    fn kind(&self) -> Kind {
        if self.noise_level.value == 0.0 { Kind::Ode } else { Kind::Sde }
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(moves)
    }

    fn check(&self) -> Result<(), SolveError> {
        self.noise_level.check(Self::KIND)
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.noise.check(Self::KIND, sde, grid)?;
        Ok(Box::new(self.clone()))
    }
}

impl Stepper for ExponentialEuler {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let denoised = cx.denoise(&x, t)?;
        let eta = self.noise_level.at(cx.sde(), t).powi(2);
        Ok(Move::exponential(cx.sde(), t, s, eta).take(cx, (t, s), x, &denoised, (self.noise, 0)))
    }
}
