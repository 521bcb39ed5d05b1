//! With the noise level `s = σ/α` and `y = x/α`:
//!
//! ```text
//! s_up = min(s_s, η √(s_s² (s_t² − s_s²)/s_t²))        s_down = √(s_s² − s_up²)
//! y_s  = y_t + (s_down − s_t) (y_t − x̂₀)/s_t + s_up z
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::transition::Move;
use super::{check_from_zero, check_noise};
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::NoiseSource;
use crate::solver::{Context, Kind, Solver, Stepper};

/// "Euler ancestral" of k-diffusion (Crowson 2022, `sample_euler_ancestral`): an Euler step of the probability-flow ODE in the
/// noise level to below the level aimed at, then noise up to it.
///
/// An Euler step in `σ/α` is DDIM's, so that up to `η = 1` this is [`Ddim`](super::Ddim) with its `η`, for any process; here `η`
/// may be larger and the noise scaled. `η = 0` is an ODE solver. Weak order 1, strong order 1, 1 evaluation per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EulerAncestral {
    /// How much of the posterior's noise to add, default 1.
    pub eta: f64,
    /// A factor of the noise added, default 1; any other changes the distribution sampled from.
    pub s_noise: f64,
    /// Where the noise comes from, default independent draws.
    pub noise: NoiseSource,
}

impl Default for EulerAncestral {
    fn default() -> Self {
        Self { eta: 1.0, s_noise: 1.0, noise: NoiseSource::default() }
    }
}

impl Solver for EulerAncestral {
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
        if self.eta == 0.0 { Kind::Ode } else { Kind::Sde }
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(moves)
    }

    fn check(&self) -> Result<(), SolveError> {
        check_from_zero(Self::KIND, "eta", self.eta)?;
        check_noise(Self::KIND, self.s_noise)
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.noise.check(Self::KIND, sde, grid)?;
        Ok(Box::new(self.clone()))
    }
}

impl Stepper for EulerAncestral {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let denoised = cx.denoise(&x, t)?;
        let step = Move::ancestral(cx.sde(), t, s, self.eta).with_noise(self.s_noise);
        Ok(step.take(cx, (t, s), x, &denoised, (self.noise, 0)))
    }
}
