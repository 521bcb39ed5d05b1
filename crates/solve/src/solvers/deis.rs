//! `x_s = (α_s/α_t) x_t + α_s ∫ ε̂ dρ` with `ρ = σ/α` and `ε̂` a polynomial in a variable, through the last answers.

use fokker_sde::{Quantity, Sde};
use serde::{Deserialize, Serialize};

use super::adams::{Adams, LowerOrderFinal, check_order, exact};
use super::exponential::{Prediction, Variable};
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Family, Kind, Solver, Stepper};

/// Diffusion exponential integrator sampler: Zhang & Chen 2023 (arXiv:2204.13902), eq. 14–15: tAB-DEIS with `variable = "t"`,
/// ρAB-DEIS with `variable = "sigma"`. With `log-snr`, the polynomial is in `ln ρ`, as in diffusers.
///
/// The integrals are exact in `sigma` and `log-snr`, to rounding by quadrature in `t`. Of order `order` (their order counts from 0:
/// tAB3 is order 4 here); the first steps are of lower order for want of answers. 1 evaluation per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deis {
    /// The number of answers used, from 1 to 4, default 4.
    pub order: usize,
    /// The variable of the polynomial, default `t`.
    pub variable: Variable,
    /// Whether the order falls towards the end, default never.
    pub lower_order_final: LowerOrderFinal,
}

impl Default for Deis {
    fn default() -> Self {
        Self { order: 4, variable: Variable::T, lower_order_final: LowerOrderFinal::Never }
    }
}

impl Solver for Deis {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        self.lower_order_final.order(self.order)
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
            variable: self.variable,
            order: self.order,
            approximation: exact,
            corrector: false,
            lower_order_final: self.lower_order_final,
        };
        method.start(Self::KIND, sde, grid)
    }
}
