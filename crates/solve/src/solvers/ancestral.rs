//! `x_s ~ q(x_s | x_t, x_0 = x̂₀)`.

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::transition::Posterior;
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Context, Kind, Solver, Stepper};

/// DDPM's sampler (Ho et al. 2020, arXiv:2006.11239, eq. 7 and algorithm 2, with the posterior variance `β̃`), for any
/// process and any grid (Kingma et al. 2021, eq. 25–26).
///
/// It is the exact reverse transition for an `x̂₀` that does not change during the step, so that it needs no care where
/// `α = 0`. Weak order 1, 1 evaluation per step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ancestral {}

impl Solver for Ancestral {
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

impl Stepper for Ancestral {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let posterior = Posterior::between(cx.sde(), cx.s, cx.t);
        let denoised = cx.denoise(&x, cx.t)?;
        let z = cx.normal(0, &x);
        Ok(combine(posterior.state, x, &[(posterior.sample, &denoised), (posterior.std, &z)]))
    }
}
