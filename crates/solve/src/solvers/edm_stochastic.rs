//! With the noise level `s = σ/α` of a time, `N` steps, and for times with `s_tmin ≤ s_t ≤ s_tmax`:
//!
//! ```text
//! γ = min(S_churn/N, √2 − 1)        s_t̂ = (1 + γ) s_t
//! x̂ = α_t̂/α_t x_t + α_t̂ √(s_t̂² − s_t²) S_noise z
//! x_s = a step of the ODE solver from x̂ at t̂
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Euler, Heun, check_from_zero, check_noise};
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Context, Kind, Solver, Stepper};

/// The ODE step of [`EdmStochastic`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inner {
    /// [`Heun`](super::Heun), as in the paper.
    #[default]
    Heun,
    /// [`Euler`](super::Euler).
    Euler,
}

/// EDM's stochastic sampler: Karras et al. 2022 (arXiv:2206.00364), algorithm 2, for any process through its noise level
/// `σ/α` (their eq. 4 with `s(t) = α`).
///
/// Noise is added and a slightly longer ODE step taken. With many steps (`S_churn` fixed) the churn vanishes; `S_churn = 0` is the
/// ODE solver itself, to the bit. Defaults are the paper's for CIFAR-10, table 5 for the VP model: `S_churn` 30,
/// `S_tmin` 0.01, `S_tmax` 1, `S_noise` 1.007; it has 80, 0.05, 1, 1.007 for the VE model, and 80 or 40, 0.05, 50, 1.003 for ImageNet.
/// `t̂` is kept within the process's span; a step from `α = 0`, where the noise level is
/// infinite, is not churned.
///
/// The last denoising step is the sampler's and is not churned. The algorithm would churn it if `S_tmin` let it, and answer for a noisier state;
/// in table 5 `S_tmin` is above its level.
///
/// `N` counts the last denoising step, as in the paper. Order 2 with Heun and 1 with Euler, where it means that of the ODE solver:
/// the noise added is exactly that between the two levels, and `S_noise ≠ 1` makes its own error. 2 evaluations per step with
/// Heun, 1 with Euler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdmStochastic {
    /// The total amount of churn, default 30.
    pub s_churn: f64,
    /// The least noise level with churn, default 0.01.
    pub s_tmin: f64,
    /// The largest noise level with churn, default 1; none is no limit.
    pub s_tmax: Option<f64>,
    /// A factor of the noise added, default 1.007.
    pub s_noise: f64,
    /// The ODE solver, default Heun.
    pub solver: Inner,
}

impl Default for EdmStochastic {
    fn default() -> Self {
        Self { s_churn: 30.0, s_tmin: 0.01, s_tmax: Some(1.0), s_noise: 1.007, solver: Inner::default() }
    }
}

impl Solver for EdmStochastic {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        match self.solver {
            Inner::Heun => 2,
            Inner::Euler => 1,
        }
    }

    fn kind(&self) -> Kind {
        if self.s_churn == 0.0 { Kind::Ode } else { Kind::Sde }
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        match self.solver {
            Inner::Heun => Some(2 * moves),
            Inner::Euler => Some(moves),
        }
    }

    fn check(&self) -> Result<(), SolveError> {
        check_from_zero(Self::KIND, "s_churn", self.s_churn)?;
        check_noise(Self::KIND, self.s_noise)?;
        let s_tmax = self.s_tmax.unwrap_or(f64::INFINITY);
        if self.s_tmin >= 0.0 && self.s_tmin <= s_tmax {
            return Ok(());
        }
        let expected = format!("0 <= s_tmin <= s_tmax, found {} and {s_tmax}", self.s_tmin);
        Err(SolveError::Config { what: "solver", kind: Self::KIND, field: "s_tmin, s_tmax", expected })
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        let gamma = (self.s_churn / grid.steps() as f64).min(2.0_f64.sqrt() - 1.0);
        let inner = match self.solver {
            Inner::Heun => Heun::default().start(sde, grid)?,
            Inner::Euler => Euler::default().start(sde, grid)?,
        };
        Ok(Box::new(Churning { solver: self.clone(), gamma, inner }))
    }
}

struct Churning {
    solver: EdmStochastic,
    gamma: f64,
    inner: Box<dyn Stepper>,
}

impl Stepper for Churning {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (x, t_hat) = self.churn(cx, x);
        let t = std::mem::replace(&mut cx.t, t_hat);
        let x = self.inner.step(cx, x);
        cx.t = t;
        x
    }
}

impl Churning {
    /// The state with more noise, and the time it is at.
    fn churn(&self, cx: &Context<'_>, x: Tensor) -> (Tensor, f64) {
        let (sde, t) = (cx.sde(), cx.t);
        let log_snr = sde.log_snr(t);
        let level = (-0.5 * log_snr).exp();
        let inside = self.solver.s_tmin <= level && self.solver.s_tmax.is_none_or(|most| level <= most);
        if self.gamma == 0.0 || !inside || log_snr == f64::NEG_INFINITY {
            return (x, t);
        }
        let t_hat = sde.time_at_log_snr(log_snr - 2.0 * self.gamma.ln_1p()).min(sde.span().1);
        if t_hat <= t {
            return (x, t);
        }
        let alpha = sde.alpha(t_hat);
        // √(s_t̂² − s_t²), without its cancellation.
        let added = level * (log_snr - sde.log_snr(t_hat)).exp_m1().sqrt();
        let noise = cx.normal(0, &x);
        let state = alpha / sde.alpha(t);
        (combine(state, x, &[(alpha * added * self.solver.s_noise, &noise)]), t_hat)
    }
}
