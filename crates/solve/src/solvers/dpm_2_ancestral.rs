//! With `λ = ln(α/σ)`, the step `A` of [`EulerAncestral`](super::EulerAncestral), `λ_d` where it is before its noise is added, and the time `m`
//! halfway there, `λ_m = (λ_t + λ_d)/2`:
//!
//! ```text
//! x_m = σ_m/σ_t x_t + (α_m − α_t σ_m/σ_t) x̂₀(x_t, t)        DDIM
//! x_s = A_{t→s}(x_t, D, z)                                  D = x̂₀(x_t, t) + e^(λ_m − λ_t) (x̂₀(x_m, m) − x̂₀(x_t, t))
//! ```
//!
//! which is `x_s = α_s/α_t x_t + (σ_d − α_s σ_t/α_t) ε̂(x_m, m) + σ_up z`, the noise at the middle for the whole way.

use fokker_sde::{Quantity, Sde};
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::dpmpp_2s_ancestral::{check_ancestral, second_order};
use super::exponential::Prediction;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::NoiseSource;
use crate::solver::{Context, Kind, Solver, Stepper};

/// "DPM2 ancestral" of k-diffusion (Crowson 2022, `sample_dpm_2_ancestral`): a step of DPM-2 (Karras et al. 2022, which is DPM-Solver-2 of
/// Lu et al. 2022, arXiv:2206.00927, algorithm 1) to below the level aimed at, then noise up to it, for any process.
///
/// Where `α_t = 0` the noise says nothing of the data, and the step is that of [`Dpmpp2sAncestral`](super::Dpmpp2sAncestral). Long steps from
/// high noise divide errors of the noise by a small `α`: for few steps use that one. `η = 0` is [`DpmSolver`](super::DpmSolver) of order 2.
///
/// Weak order 2, with independent draws too; strong order 1. 2 evaluations per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dpm2Ancestral {
    /// How much of the posterior's noise to add, from 0 to 1, default 1. With more, the middle would be below the level aimed at.
    pub eta: f64,
    /// A factor of the noise added, default 1; any other changes the distribution sampled from.
    pub s_noise: f64,
    /// Where the noise comes from, default independent draws.
    pub noise: NoiseSource,
}

impl Default for Dpm2Ancestral {
    fn default() -> Self {
        Self { eta: 1.0, s_noise: 1.0, noise: NoiseSource::default() }
    }
}

impl Solver for Dpm2Ancestral {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        2
    }

    fn strong_order(&self) -> Option<f64> {
        (self.kind() == Kind::Sde).then_some(1.0)
    }

    fn kind(&self) -> Kind {
        if self.eta == 0.0 { Kind::Ode } else { Kind::Sde }
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(2 * moves)
    }

    fn quantity(&self) -> Quantity {
        Quantity::Epsilon
    }

    fn check(&self) -> Result<(), SolveError> {
        check_ancestral(Self::KIND, self.eta, self.s_noise)
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.noise.check(Self::KIND, sde, grid)?;
        Ok(Box::new(self.clone()))
    }
}

impl Stepper for Dpm2Ancestral {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        second_order(cx, x, Prediction::Noise, (self.eta, self.s_noise, self.noise))
    }
}
