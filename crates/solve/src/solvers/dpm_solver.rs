//! With `λ = ln(α/σ)`, `h = λ_s − λ_t`, and times `s_i` at `λ_t + r_i h`:
//!
//! ```text
//! 1:  x_s = (α_s/α_t) x_t − σ_s (e^h − 1) ε̂_t
//! 2:  x_s = (α_s/α_t) x_t − σ_s (e^h − 1) ε̂_t − σ_s/(2 r_1) (e^h − 1) (ε̂_1 − ε̂_t)                       r_1 = ½
//! 3:  x_2 = (α_2/α_t) x_t − σ_2 (e^{r_2 h} − 1) ε̂_t − σ_2 (r_2/r_1) ((e^{r_2 h} − 1)/(r_2 h) − 1) (ε̂_1 − ε̂_t)
//!     x_s = (α_s/α_t) x_t − σ_s (e^h − 1) ε̂_t − σ_s/r_2 ((e^h − 1)/h − 1) (ε̂_2 − ε̂_t)                 r_1, r_2 = ⅓, ⅔
//! ```
//!
//! The stages are [`singlestep`](super::singlestep)'s, which has them for the data too.

use fokker_sde::{Quantity, Sde};
use serde::{Deserialize, Serialize};

use super::adams::check_order;
use super::exponential::Prediction;
use super::singlestep::Singlestep;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Kind, Solver, Stepper};

/// DPM-Solver-1, -2 and -3: Lu et al. 2022 (arXiv:2206.00927), eq. 3.7 and algorithms 1 and 2.
///
/// Order 1 is DDIM. Order 2 is the DPM-2 of Karras et al. 2022 and k-diffusion without churn: with `r_1 = ½` the step uses the noise
/// at the middle in `ln σ` alone. Of order `order`, `order` evaluations per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmSolver {
    /// 1, 2 or 3, default 3.
    pub order: usize,
}

impl Default for DpmSolver {
    fn default() -> Self {
        Self { order: 3 }
    }
}

impl Solver for DpmSolver {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        self.order as u32
    }

    fn kind(&self) -> Kind {
        Kind::Ode
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(self.order * moves)
    }

    fn quantity(&self) -> Quantity {
        Quantity::Epsilon
    }

    fn takes_pure_noise(&self) -> bool {
        false
    }

    fn check(&self) -> Result<(), SolveError> {
        check_order(Self::KIND, self.order, 1..=3)
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        Singlestep { prediction: Prediction::Noise, order: self.order }.start(Self::KIND, sde, grid)
    }
}
