//! At one time `t`, a step of relative size `c = ε/σ²`:
//!
//! ```text
//! x ← x + ε ∇ ln p_t(x) + √(2ε) z  =  (1 − c) x + c α x̂₀ + √(2c) σ z
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::transition::Move;
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::NoiseSource;
use crate::solver::{Context, DRAWS, Kind, Solver, Stepper};

/// The unadjusted Langevin algorithm at one noise level: the last time of the grid (Roberts & Tweedie 1996, Bernoulli 2,
/// 341–363).
///
/// The first step of the grid takes the state to that level at once by [`Ancestral`](super::Ancestral)'s transition; the times between
/// only count how many rounds of `iterations` there are. Where the modes of the noisy data are apart it does not go from one to
/// another: for sampling, use [`AnnealedLangevin`](super::AnnealedLangevin). What it converges to has an error of order 1 in
/// the step, the order stated: in a direction in which the noisy data have variance `V`, the variance is
/// `V/(1 − c σ²/(2V))`. `iterations` evaluations per step, and one more for the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Langevin {
    /// The relative step `c = ε/σ²`, in (0, 1], default 0.1.
    pub step: f64,
    /// Langevin steps per step of the grid, default 5, at most 255.
    pub iterations: u32,
}

impl Default for Langevin {
    fn default() -> Self {
        Self { step: 0.1, iterations: 5 }
    }
}

impl Solver for Langevin {
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
        Some(self.iterations as usize * moves + usize::from(moves > 0))
    }

    fn check(&self) -> Result<(), SolveError> {
        let bad = |field, expected| Err(SolveError::Config { what: "solver", kind: Self::KIND, field, expected });
        if !(0.0 < self.step && self.step <= 1.0) {
            return bad("step", format!("a number in (0, 1], found {}", self.step));
        }
        if !(1..DRAWS).contains(&self.iterations) {
            return bad("iterations", format!("1 to {}, found {}", DRAWS - 1, self.iterations));
        }
        Ok(())
    }

    fn start(&self, _sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        Ok(Box::new(AtLevel { solver: self.clone(), level: grid.last() }))
    }
}

struct AtLevel {
    solver: Langevin,
    /// The time it stays at.
    level: f64,
}

impl Stepper for AtLevel {
    fn step(&mut self, cx: &mut Context<'_>, mut x: Tensor) -> Result<Tensor, SolveError> {
        if cx.index() == 0 {
            let (t, s) = (cx.t, self.level);
            let denoised = cx.denoise(&x, t)?;
            x = Move::posterior(cx.sde(), t, s).take(cx, (t, s), x, &denoised, (NoiseSource::PerStep, 0));
        }
        for iteration in 1..=self.solver.iterations {
            x = langevin(cx, x, self.level, self.solver.step, iteration)?;
        }
        Ok(x)
    }
}

/// One Langevin step at time `t` of relative size `c`, with draw number `draw`.
pub(super) fn langevin(cx: &mut Context<'_>, x: Tensor, t: f64, c: f64, draw: u32) -> Result<Tensor, SolveError> {
    let denoised = cx.denoise(&x, t)?;
    let z = cx.normal(draw, &x);
    let (alpha, sigma) = (cx.sde().alpha(t), cx.sde().sigma(t));
    // ε ∇ ln p = (ε/σ²) (α x̂₀ − x).
    Ok(combine(1.0 - c, x, &[(c * alpha, &denoised), ((2.0 * c).sqrt() * sigma, &z)]))
}
