//! ```text
//! x_s = α_s x̂₀ + √(σ_s² − η² σ̃²) ε̂ + η σ̃ z        σ̃ = σ_{t|s} σ_s/σ_t
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::transition::Move;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::NoiseSource;
use crate::solver::{Context, Kind, Solver, Stepper};

/// Song, Meng & Ermon 2021 (arXiv:2010.02502), eq. 12 and 16, for any process.
///
/// `eta = 0` is the first-order exponential integrator of the probability-flow ODE (DPM-Solver-1), exact where `x̂₀` does not
/// change along the path; `eta = 1` is [`Ancestral`](super::Ancestral). Order 1, 1 evaluation per step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ddim {
    /// How much of the ancestral noise to add, in `[0, 1]`, default 0.
    pub eta: f64,
}

impl Solver for Ddim {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        1
    }

    fn kind(&self) -> Kind {
        if self.eta == 0.0 { Kind::Ode } else { Kind::Sde }
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(moves)
    }

    fn check(&self) -> Result<(), SolveError> {
        if (0.0..=1.0).contains(&self.eta) {
            return Ok(());
        }
        let expected = format!("a number in [0, 1], found {}", self.eta);
        Err(SolveError::Config { what: "solver", kind: Self::KIND, field: "eta", expected })
    }

    fn start(&self, _sde: &dyn Sde, _grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        Ok(Box::new(self.clone()))
    }
}

impl Stepper for Ddim {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let denoised = cx.denoise(&x, t)?;
        Ok(Move::ancestral(cx.sde(), t, s, self.eta).take(cx, (t, s), x, &denoised, (NoiseSource::PerStep, 0)))
    }
}
