//! ```text
//! v_t = α̇_t x̂₀(x_t, t) + σ̇_t ε̂(x_t, t)        x' = x_t + (s − t) v_t
//! v_s = α̇_s x̂₀(x', s) + σ̇_s ε̂(x', s)          x_s = x_t + (s − t) (v_t + v_s)/2
//! ```

use fokker_sde::{Quantity, Sde};
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::transition::Velocity;
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Context, Kind, Solver, Stepper};

/// Heun's method (the explicit trapezoidal rule) on the probability-flow ODE: Karras et al. 2022 (arXiv:2206.00364),
/// algorithm 1, which is this on [`Edm`](fokker_sde::Edm) with a `karras` grid and `denoise_last`.
///
/// Order 2, 2 evaluations per step; with `denoise_last`, `n` steps cost `2n − 1`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heun {}

impl Solver for Heun {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        2
    }

    fn kind(&self) -> Kind {
        Kind::Ode
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(2 * moves)
    }

    fn quantity(&self) -> Quantity {
        Quantity::Velocity
    }

    fn start(&self, _sde: &dyn Sde, _grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        Ok(Box::new(self.clone()))
    }
}

impl Stepper for Heun {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let h = s - t;
        let (v_t, v_s) = (Velocity::at(cx.sde(), t), Velocity::at(cx.sde(), s));
        let denoised_t = cx.denoise(&x, t)?;
        let predicted = combine(1.0 + h * v_t.state, x.clone(), &[(h * v_t.sample, &denoised_t)]);
        let denoised_s = cx.denoise(&predicted, s)?;
        let half = 0.5 * h;
        Ok(combine(
            1.0 + half * v_t.state,
            x,
            &[(half * v_t.sample, &denoised_t), (half * v_s.state, &predicted), (half * v_s.sample, &denoised_s)],
        ))
    }
}
