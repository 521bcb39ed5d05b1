//! ```text
//! x_s = x_t − h (f x_t − g² ∇ ln p_t(x_t)) + g √h z        h = t − s
//!     = x_t − h (α̇ x̂₀ + σ̇ ε̂ + g²/(2σ) ε̂) + g √h z
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::transition::{Posterior, Velocity};
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Context, Kind, Solver, Stepper};

/// Euler and Maruyama's method on the reverse SDE: Song et al. 2021 (arXiv:2011.13456), eq. 6.
///
/// Where `α = 0` (the linear flow at `t = 1`) the reverse SDE has infinite diffusion and no Euler step exists: that one
/// step is taken by the posterior of [`Ancestral`](super::Ancestral), its exact transition for a constant `x̂₀`. Steps next
/// to such an end should be short; `ancestral` does not need that. Weak order 1, 1 evaluation per step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EulerMaruyama {}

impl Solver for EulerMaruyama {
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
        Some(moves)
    }

    fn start(&self, _sde: &dyn Sde, _grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        Ok(Box::new(self.clone()))
    }
}

impl Stepper for EulerMaruyama {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let denoised = cx.denoise(&x, cx.t)?;
        let z = cx.normal(0, &x);
        Ok(euler_maruyama(cx.sde(), cx.t, cx.s, x, &denoised, &z))
    }
}

/// The step above, for whoever needs it as a predictor.
pub(super) fn euler_maruyama(sde: &dyn Sde, t: f64, s: f64, x: Tensor, denoised: &Tensor, z: &Tensor) -> Tensor {
    let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
    if alpha == 0.0 {
        let posterior = Posterior::between(sde, s, t);
        return combine(posterior.state, x, &[(posterior.sample, denoised), (posterior.std, z)]);
    }
    let h = t - s;
    let diffusion_squared = sde.diffusion_squared(t);
    let velocity = Velocity::at(sde, t);
    // g²/(2σ) ε̂ = g²/(2σ²) (x − α x̂₀).
    let pull = 0.5 * diffusion_squared / (sigma * sigma);
    combine(
        1.0 - h * (velocity.state + pull),
        x,
        &[(-h * (velocity.sample - pull * alpha), denoised), ((diffusion_squared * h).sqrt(), z)],
    )
}
