//! ```text
//! x_s = α_s x̂₀ + √(σ_s² − η² σ̃²) ε̂ + η σ̃ z        σ̃ = σ_{t|s} σ_s/σ_t
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::transition::Posterior;
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
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
        let sde = cx.sde();
        let (alpha_t, sigma_t) = (sde.alpha(t), sde.sigma(t));
        let (alpha_s, sigma_s) = (sde.alpha(s), sde.sigma(s));
        // No transition backwards in time is needed where no noise is added: the ODE may be run either way.
        let fresh = if self.eta == 0.0 { 0.0 } else { self.eta * Posterior::between(sde, s, t).std };
        let kept = (sigma_s * sigma_s - fresh * fresh).max(0.0).sqrt();
        let denoised = cx.denoise(&x, t)?;
        let state = kept / sigma_t;
        let sample = alpha_s - state * alpha_t;
        if fresh == 0.0 {
            return Ok(combine(state, x, &[(sample, &denoised)]));
        }
        let z = cx.normal(0, &x);
        Ok(combine(state, x, &[(sample, &denoised), (fresh, &z)]))
    }
}
