//! With `λ = ln(α/σ)`, `h = λ_s − λ_t`, and times `s_i` at `λ_t + r_i h`:
//!
//! ```text
//! 2S:  x_s = (σ_s/σ_t) x_t − α_s (e^{−h} − 1) D        D = (1 − 1/(2 r_1)) x̂_t + 1/(2 r_1) x̂_1              r_1 = ½
//! 3S:  x_2 = (σ_2/σ_t) x_t − α_2 (e^{−r_2 h} − 1) x̂_t + α_2 (r_2/r_1) ((e^{−r_2 h} − 1)/(r_2 h) + 1) (x̂_1 − x̂_t)
//!      x_s = (σ_s/σ_t) x_t − α_s (e^{−h} − 1) x̂_t + α_s/r_2 ((e^{−h} − 1)/h + 1) (x̂_2 − x̂_t)            r_1, r_2 = ⅓, ⅔
//! ```
//!
//! The stages are [`singlestep`](super::singlestep)'s, those of [`DpmSolver`](super::DpmSolver) in data.

use fokker_sde::{Quantity, Sde};
use serde::{Deserialize, Serialize};

use super::adams::check_order;
use super::exponential::Prediction;
use super::singlestep::Singlestep;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Kind, Solver, Stepper};

/// DPM-Solver++ (2S): Lu et al. 2022 (arXiv:2211.01095), algorithm 1; (3S) is in the authors' code.
///
/// Of order `order`, `order` evaluations per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmPpSinglestep {
    /// 2 or 3, default 2; 1 is DDIM.
    pub order: usize,
}

impl Default for DpmPpSinglestep {
    fn default() -> Self {
        Self { order: 2 }
    }
}

impl Solver for DpmPpSinglestep {
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
        Quantity::Sample
    }

    fn takes_pure_noise(&self) -> bool {
        false
    }

    fn check(&self) -> Result<(), SolveError> {
        check_order(Self::KIND, self.order, 1..=3)
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        Singlestep { prediction: Prediction::Data, order: self.order }.start(Self::KIND, sde, grid)
    }
}
