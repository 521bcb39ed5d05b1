//! `d(x/α)/dρ = ε̂` with `ρ = σ/α`, and `ε̂` a polynomial in `ρ` through the last answers.

use fokker_sde::{Quantity, Sde};
use serde::{Deserialize, Serialize};

use super::adams::{Adams, LowerOrderFinal, check_order, exact};
use super::exponential::{Prediction, Variable};
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Family, Kind, Solver, Stepper};

/// The linear multistep method of k-diffusion: Adams and Bashforth's, for unequal steps, in the noise level. The same method as
/// ρAB-[`Deis`](super::Deis), Zhang & Chen 2023 (arXiv:2204.13902), eq. 15.
///
/// Of order `order`; the first steps are of lower order for want of answers. 1 evaluation per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lms {
    /// The number of answers used, from 1 to 4, default 4.
    pub order: usize,
}

impl Default for Lms {
    fn default() -> Self {
        Self { order: 4 }
    }
}

impl Solver for Lms {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        LowerOrderFinal::Never.order(self.order)
    }

    fn kind(&self) -> Kind {
        Kind::Ode
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(moves)
    }

    fn family(&self) -> Family {
        Family::Multistep
    }

    fn quantity(&self) -> Quantity {
        Quantity::Epsilon
    }

    fn takes_pure_noise(&self) -> bool {
        false
    }

    fn check(&self) -> Result<(), SolveError> {
        check_order(Self::KIND, self.order, 1..=4)
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        let method = Adams {
            prediction: Prediction::Noise,
            variable: Variable::Sigma,
            order: self.order,
            approximation: exact,
            corrector: false,
            lower_order_final: LowerOrderFinal::Never,
        };
        method.start(Self::KIND, sde, grid)
    }
}
