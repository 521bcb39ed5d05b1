//! `x_s = x_t + (s − t) (α̇_t x̂₀ + σ̇_t ε̂)`.

use fokker_sde::{Quantity, Sde};
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::transition::Velocity;
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Context, Kind, Solver, Stepper};

/// Euler's method on the probability-flow ODE (Song et al. 2021, arXiv:2011.13456, eq. 13) in the time variable `t`.
///
/// The velocity is `α̇ x̂₀ + σ̇ ε̂`, which equals `f x − ½ g² ∇ ln p` and stays finite where `α = 0`. On EDM and linear
/// flows, whose paths are straight lines in `t`, this is DDIM. Order 1, 1 evaluation per step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Euler {}

impl Solver for Euler {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        1
    }

    fn kind(&self) -> Kind {
        Kind::Ode
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(moves)
    }

    fn quantity(&self) -> Quantity {
        Quantity::Velocity
    }

    fn start(&self, _sde: &dyn Sde, _grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        Ok(Box::new(self.clone()))
    }
}

impl Stepper for Euler {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let h = cx.s - cx.t;
        let velocity = Velocity::at(cx.sde(), cx.t);
        let denoised = cx.denoise(&x, cx.t)?;
        Ok(combine(1.0 + h * velocity.state, x, &[(h * velocity.sample, &denoised)]))
    }
}
