//! The base solver goes down the grid. Where it reaches the lower end `s_min` of a restart interval in the noise level `s = σ/α`,
//! `K` times:
//!
//! ```text
//! x_max = α_max/α_min x_min + α_max √(s_max² − s_min²) z
//! x_min = the base solver from s_max to s_min in N steps on a Karras grid
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Heun, SolverConfig};
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::{Grid, GridConfig};
use crate::solver::{Context, DRAWS, Kind, Solver, Stepper};
use crate::spacings::Karras;

/// An interval in which [`Restart`] goes back and forth, in noise levels `σ/α`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartInterval {
    /// `s_min`; replaced by the first level of the grid that is not above it.
    pub from: f64,
    /// `s_max`.
    pub to: f64,
    /// `K`, how often.
    pub times: u32,
    /// `N`, steps of the base solver from `s_max` to `s_min`: one fewer than the paper's `N_Restart`, which counts the levels (so that its
    /// evaluations with Heun are `2 (N_Restart − 1) K`).
    pub steps: usize,
}

/// Restart sampling: Xu et al. 2023 (arXiv:2306.14878), section 3.1, for any process through its noise level and any ODE solver.
///
/// Much noise added at once contracts the errors made before better than a little noise in every step. With `times = 0`
/// everywhere it is the base solver to the bit. An interval that the grid does not reach, or whose upper end is not above the level at
/// which it would start, does nothing; the upper end is kept within the process's span. After restarts a multistep solver starts
/// anew.
///
/// The order is the base solver's, if `steps` grow like the grid's. Evaluations are the base solver's on the grid and
/// `times · steps` more moves of it per interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Restart {
    /// The base solver, deterministic, default Heun.
    pub solver: Box<SolverConfig>,
    /// The intervals, default one from 0.06 to 0.3, twice, in 2 steps: `[N_Restart, K, t_min, t_max] = [3, 2, 0.06, 0.30]` in the
    /// paper's notation, its cheapest setting for CIFAR-10.
    pub intervals: Vec<RestartInterval>,
}

impl Default for Restart {
    fn default() -> Self {
        let interval = RestartInterval { from: 0.06, to: 0.3, times: 2, steps: 2 };
        Self { solver: Box::new(Heun::default().into()), intervals: vec![interval] }
    }
}

impl Restart {
    fn restarts(&self) -> u32 {
        self.intervals.iter().fold(0, |sum, interval| sum.saturating_add(interval.times))
    }
}

impl Solver for Restart {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        self.solver.order()
    }

    fn kind(&self) -> Kind {
        if self.restarts() == 0 { Kind::Ode } else { Kind::Sde }
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        if self.restarts() == 0 { self.solver.evaluations(moves) } else { None }
    }

    fn check(&self) -> Result<(), SolveError> {
        let bad = |field, expected| Err(SolveError::Config { what: "solver", kind: Self::KIND, field, expected });
        if self.solver.kind() != Kind::Ode {
            return bad("solver", format!("a deterministic solver, found `{}`, which draws noise", self.solver.name()));
        }
        for RestartInterval { from, to, times: _, steps } in &self.intervals {
            if !(0.0 < *from && from < to && to.is_finite()) {
                return bad("intervals", format!("0 < from < to, found {from} and {to}"));
            }
            if *steps == 0 {
                return bad("intervals", "at least 1 step, found 0".to_owned());
            }
        }
        if self.restarts() > DRAWS {
            return bad("intervals", format!("at most {DRAWS} restarts in all, found {}", self.restarts()));
        }
        self.solver.check()
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        let base = self.solver.start(sde, grid)?;
        Ok(Box::new(Restarting { solver: self.clone(), grid: grid.clone(), base }))
    }
}

struct Restarting {
    solver: Restart,
    grid: Grid,
    base: Box<dyn Stepper>,
}

impl Stepper for Restarting {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let mut x = self.base.step(cx, x)?;
        let (level_t, level_s) = (level(cx.sde(), t), level(cx.sde(), s));
        let mut draw = 0;
        for interval in &self.solver.intervals {
            if !(level_s <= interval.from && interval.from < level_t) {
                continue;
            }
            let top = cx.sde().time_at_log_snr(-2.0 * interval.to.ln()).min(cx.sde().span().1);
            if top <= s {
                continue;
            }
            for _ in 0..interval.times {
                x = rise(cx, x, s, top, draw);
                x = self.descend(cx, x, top, s, interval.steps)?;
                draw += 1;
            }
        }
        (cx.t, cx.s) = (t, s);
        let left = &self.grid.times()[cx.index() + 1..];
        if draw > 0 && left.len() > 1 {
            self.base = self.solver.solver.start(cx.sde(), &Grid::new(left.to_vec(), self.grid.denoise_last(), cx.sde())?)?;
        }
        Ok(x)
    }
}

impl Restarting {
    /// The base solver from `top` to `s`.
    fn descend(&self, cx: &mut Context<'_>, mut x: Tensor, top: f64, s: f64, steps: usize) -> Result<Tensor, SolveError> {
        let spacing = Karras::default().into();
        let config = GridConfig { steps, spacing, t_max: Some(top), t_min: Some(s), denoise_last: false };
        let grid = config.build(cx.sde())?;
        let mut base = self.solver.solver.start(cx.sde(), &grid)?;
        for pair in grid.times().windows(2) {
            (cx.t, cx.s) = (pair[0], pair[1]);
            x = base.step(cx, x)?;
        }
        Ok(x)
    }
}

/// The state at `top` from that at `s`: the forward process.
fn rise(cx: &Context<'_>, x: Tensor, s: f64, top: f64, draw: u32) -> Tensor {
    let z = cx.normal(draw, &x);
    let sde = cx.sde();
    // √(s_max² − s_min²), without its cancellation.
    let added = level(sde, s) * (sde.log_snr(s) - sde.log_snr(top)).exp_m1().sqrt();
    combine(sde.alpha(top) / sde.alpha(s), x, &[(sde.alpha(top) * added, &z)])
}

/// The noise level `σ/α`; infinite where `α = 0`.
fn level(sde: &dyn Sde, t: f64) -> f64 {
    (-0.5 * sde.log_snr(t)).exp()
}
