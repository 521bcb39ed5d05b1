//! ```text
//! x_s = x_t − h (f x_t − (1 + λ²)/2 g² ∇ ln p_t(x_t)) + λ g √h z        h = t − s
//!     = x_t − h (α̇ x̂₀ + σ̇ ε̂ + λ² g²/(2σ) ε̂) + λ g √h z
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::transition::{Move, Velocity};
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::{NoiseLevel, NoiseSource};
use crate::solver::{Context, Kind, Solver, Stepper};

/// Euler and Maruyama's method on the reverse SDE: Song et al. 2021 (arXiv:2011.13456), eq. 6; and on the family of SDEs
/// between it (`λ = 1`, the default) and the probability-flow ODE (`λ = 0`, where this is [`Euler`](super::Euler)).
///
/// Where `α = 0` (the linear flow at `t = 1`) the reverse SDE has infinite diffusion and no Euler step exists: that one
/// step is taken by its exact transition for a constant `x̂₀` ([`ExponentialEuler`](super::ExponentialEuler)). Steps next
/// to such an end should be short; `ancestral` does not need that. Weak and strong order 1, 1 evaluation
/// per step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EulerMaruyama {
    /// `λ(t)`, default 1 at all times.
    pub noise_level: NoiseLevel,
    /// Where the noise comes from, default independent draws.
    pub noise: NoiseSource,
}

impl Solver for EulerMaruyama {
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

impl Stepper for EulerMaruyama {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let denoised = cx.denoise(&x, t)?;
        let lambda = self.noise_level.at(cx.sde(), t);
        Ok(Move::euler_maruyama(cx.sde(), t, s, lambda).take(cx, (t, s), x, &denoised, (self.noise, 0)))
    }
}

impl Move {
    /// The step above.
    pub(super) fn euler_maruyama(sde: &dyn Sde, t: f64, s: f64, lambda: f64) -> Self {
        let (alpha, sigma, h) = (sde.alpha(t), sde.sigma(t), t - s);
        let velocity = Velocity::at(sde, t);
        if lambda == 0.0 {
            return Self { state: 1.0 - h * velocity.state, sample: -h * velocity.sample, std: 0.0 };
        }
        if alpha == 0.0 {
            return Self::exponential(sde, t, s, lambda * lambda);
        }
        let diffusion = lambda * lambda * sde.diffusion_squared(t);
        // λ² g²/(2σ) ε̂ = λ² g²/(2σ²) (x − α x̂₀).
        let pull = 0.5 * diffusion / (sigma * sigma);
        Self {
            state: 1.0 - h * (velocity.state + pull),
            sample: -h * (velocity.sample - pull * alpha),
            std: (diffusion * h).sqrt(),
        }
    }
}
