//! `y' = y + H Σ_i b_i k_i` with the numbers of a [`tableau`](super::tableau), for the probability-flow ODE in a variable of choice.

use fokker_sde::{Quantity, Sde};
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::exponential::{Variable, pure_noise};
use super::tableau::Method;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Context, Kind, Solver, Stepper};

/// Explicit Runge–Kutta methods: Hairer, Nørsett & Wanner 1993, section II.1, on the ODE of Song et al. 2021 (arXiv:2011.13456),
/// eq. 13, in `t`, in the noise level `σ/α` (Karras et al. 2022, arXiv:2206.00364, eq. 4, for any process), or in the log-SNR with
/// the linear part solved exactly (Krogstad 2005, doi:10.1016/j.jcp.2004.08.006).
///
/// `heun` in `t` is [`Heun`](super::Heun); `heun` in `sigma` is Karras et al.'s algorithm 1 on any process. Of the method's order;
/// as many evaluations per step as the method has stages: 1, 2, 2, 2, 3, 4, 6, 6. In `sigma` and `log-snr` it cannot start at pure
/// noise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RungeKutta {
    /// The method, default the classical one of order 4.
    pub method: Method,
    /// The variable, default the log-SNR.
    pub variable: Variable,
}

impl Solver for RungeKutta {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        self.method.tableau().order
    }

    fn kind(&self) -> Kind {
        Kind::Ode
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(self.method.tableau().evaluations() * moves)
    }

    fn quantity(&self) -> Quantity {
        self.variable.quantity()
    }

    fn takes_pure_noise(&self) -> bool {
        self.variable == Variable::T
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.variable.check(Self::KIND, sde, grid)?;
        Ok(Box::new(self.clone()))
    }
}

impl Stepper for RungeKutta {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        self.method.tableau().stages(self.variable, cx.sde(), cx.t, cx.s, false).run(cx, x)
    }
}

impl Variable {
    /// Whether the variable is finite over the whole grid.
    pub(super) fn check(self, solver: &'static str, sde: &dyn Sde, grid: &Grid) -> Result<(), SolveError> {
        let bad = [grid.first(), grid.last()].into_iter().find(|&t| !self.tau(sde, t).is_finite());
        bad.map_or(Ok(()), |t| Err(pure_noise(solver, sde, t)))
    }
}
