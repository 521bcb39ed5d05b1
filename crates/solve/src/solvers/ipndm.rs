//! ```text
//! x_s = (α_s/α_t) x_t + α_s (ρ_s − ρ_t) ε'      ε' = (55 ε̂_0 − 59 ε̂_1 + 37 ε̂_2 − 9 ε̂_3)/24      ρ = σ/α
//! ```
//!
//! and Adams and Bashforth's numbers of fewer answers in the first steps: the weights of [`adams`](super::adams) for places that
//! are taken to be at equal distances, and `ρ` to be linear in them.

use fokker_sde::{Quantity, Sde};
use serde::{Deserialize, Serialize};

use super::adams::{Adams, LowerOrderFinal, check_order};
use super::exponential::{Interval, Prediction, Variable, power_moments};
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Family, Kind, Solver, Stepper};

/// Improved PNDM: Zhang & Chen 2023 (arXiv:2204.13902), section H.2: [`Pndm`](super::Pndm) whose first steps use the answers there are.
///
/// Second order on smooth grids for any `order ≥ 2`, since the numbers suit equal steps in `ρ` (there, it is of order `order`). For
/// weights that suit any grid use [`Deis`](super::Deis). 1 evaluation per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ipndm {
    /// The number of answers used, from 1 to 4, default 4.
    pub order: usize,
}

impl Default for Ipndm {
    fn default() -> Self {
        Self { order: 4 }
    }
}

impl Solver for Ipndm {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        self.order.min(2) as u32
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
            approximation: equal_steps,
            corrector: false,
            lower_order_final: LowerOrderFinal::Never,
        };
        method.start(Self::KIND, sde, grid)
    }
}

/// As if the answers were at `u = 0, −1, −2 …` and the integral were over `u`.
pub(super) fn equal_steps(_: &Interval<'_>, places: &mut [f64], moments: &mut [f64]) {
    places.iter_mut().enumerate().for_each(|(j, place)| *place = -(j as f64));
    moments.copy_from_slice(&power_moments(moments[0], moments.len()));
}
