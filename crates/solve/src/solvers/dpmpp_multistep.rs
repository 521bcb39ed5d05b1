//! With `λ = ln(α/σ)`, `h = λ_s − λ_t`, `r_j = (λ_j − λ_{j+1})/h` for the answers `x̂_0` (at `t`), `x̂_1`, `x̂_2` from new to old:
//!
//! ```text
//! 2M:  D = (1 + 1/(2 r_0)) x̂_0 − 1/(2 r_0) x̂_1             x_s = (σ_s/σ_t) x_t − α_s (e^{−h} − 1) D
//! 3M:  D¹ = d_0 + r_0 D²    D² = (d_0 − d_1)/(r_0 + r_1)    d_j = (x̂_j − x̂_{j+1})/r_j
//!      x_s = (σ_s/σ_t) x_t − α_s (e^{−h} − 1) x̂_0 + α_s ((e^{−h} − 1)/h + 1) D¹ − α_s (((e^{−h} − 1)/h + 1)/h − ½) D²
//! ```
//!
//! `x̂_0 + u D¹ + u² D²` is the parabola through the answers up to the choice of `D¹` in the paper's code, so that these are the weights
//! of [`adams`](super::adams) with two of the moments replaced: 2M has `m_1 = m_0/2`, and 3M has half of the exact `m_2`.

use fokker_sde::{Quantity, Sde};
use serde::{Deserialize, Serialize};

use super::adams::{Adams, LowerOrderFinal, check_order};
use super::exponential::{Interval, Prediction, Variable};
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Family, Kind, Solver, Stepper};

/// DPM-Solver++ (2M) and (3M): Lu et al. 2022 (arXiv:2211.01095), algorithm 2; 3M is in the authors' code (and in diffusers).
///
/// Both are of second order: 3M integrates the square of its parabola with half of the exact weight. For the third order use
/// [`ExponentialAdams`](super::ExponentialAdams), which has the exact weights. May start at pure noise, with a first step of first
/// order. 1 evaluation per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmPpMultistep {
    /// The number of answers used, 2 or 3, default 2; 1 is DDIM.
    pub order: usize,
    /// Whether the order falls towards the end, default on grids of fewer than 15 steps.
    pub lower_order_final: LowerOrderFinal,
}

impl Default for DpmPpMultistep {
    fn default() -> Self {
        Self { order: 2, lower_order_final: LowerOrderFinal::default() }
    }
}

impl Solver for DpmPpMultistep {
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
        Quantity::Sample
    }

    fn check(&self) -> Result<(), SolveError> {
        check_order(Self::KIND, self.order, 1..=3)
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        let method = Adams {
            prediction: Prediction::Data,
            variable: Variable::LogSnr,
            order: self.order,
            approximation: paper,
            corrector: false,
            lower_order_final: self.lower_order_final,
        };
        method.start(Self::KIND, sde, grid)
    }
}

fn paper(_: &Interval<'_>, _: &mut [f64], moments: &mut [f64]) {
    match moments {
        [m_0, m_1] => *m_1 = 0.5 * *m_0,
        [_, _, m_2] => *m_2 *= 0.5,
        _ => {}
    }
}
