//! Grids fitted to a model: the times at which a solver of few steps ends nearest to where the exact flow ends.
//!
//! ```text
//! minimise over t_1 > … > t_{N−1}:    E = √(mean over samples and numbers of (x̃(t_0, …, t_N) − x)²)
//! ```
//!
//! `x̃` is where the solver takes a state, `x` where a fine reference takes it: the error at the end of the trajectory, not a
//! bound of it, for this model and this solver (Watson et al. 2021, arXiv:2106.03802, search times by a dynamic programme for a loss
//! that is a sum over steps; Sabour et al. 2024, arXiv:2404.14507, minimise a bound of the end's error). The error at the end is no
//! such sum, so that times are moved one by one, in the log-SNR, by fractions of the gaps to their neighbours that shrink when
//! no move helps (coordinate search). It begins from the best of the usual spacings and never gets worse.
//!
//! A fitted grid is kept as a list: [`Grid::to_text`], [`List`](crate::List).

use fokker_sde::{Cond, Denoiser};
use fokker_tensor::{Dtype, Noise, Tensor};

use crate::error::SolveError;
use crate::grid::{Grid, GridConfig};
use crate::sampler::Sampler;
use crate::solver::{Kind, Solver};
use crate::solvers::{ExponentialAdams, LowerOrderFinal, SolverConfig};
use crate::spacings::{CosineAngle, Karras, LogSnr, Quadratic, Spacing, Uniform};

/// What to fit, and how long to try.
#[derive(Clone, Debug, PartialEq)]
pub struct GridFit {
    /// The number of steps, the ends, and whether a last step denoises. Its spacing is one of the grids to begin from.
    pub grid: GridConfig,
    /// The solver that the grid is for: one without noise.
    pub solver: SolverConfig,
    /// The steps of the reference, an exponential Adams method of order 3, on a grid uniform in `arctan(σ/α)`: default 500.
    pub reference_steps: usize,
    /// The most trajectories of the solver, each as long as the grid: default 400.
    pub trials: usize,
}

impl GridFit {
    /// With the default reference and number of trials.
    pub fn new(grid: GridConfig, solver: impl Into<SolverConfig>) -> Self {
        Self { grid, solver: solver.into(), reference_steps: 500, trials: 400 }
    }
}

/// A fitted grid and its error.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedGrid {
    /// The grid.
    pub grid: Grid,
    /// `E` on the states it was fitted to, in data units.
    pub error: f64,
    /// `E` of the best of the usual spacings there, from which the search began.
    pub first_error: f64,
}

/// Fits the inner times of a grid to `denoiser`, for trajectories from the states `x`, `[B, ...]`, at its first time: `σ ε` from the
/// prior. A few dozen states are enough; judge the result by others.
///
/// Costs `reference_steps` evaluations and `trials` times what the solver costs, each on the whole batch.
///
/// # Errors
/// If the solver draws noise, no spacing can serve the ends, or the model's answers are not finite.
///
/// # Panics
/// If `cond` is not for `B` samples.
#[track_caller]
pub fn optimise_grid(denoiser: &dyn Denoiser, fit: &GridFit, x: &Tensor, cond: &Cond) -> Result<FittedGrid, SolveError> {
    if fit.solver.kind() == Kind::Sde {
        let reason =
            "its end is random, and no grid can be fitted to it; fit for a solver of the probability-flow ODE".to_owned();
        return Err(SolveError::Unsupported { solver: fit.solver.name(), reason });
    }
    let own = fit.grid.build(denoiser.sde())?;
    let reference = ExponentialAdams { lower_order_final: LowerOrderFinal::Never, ..ExponentialAdams::default() };
    let fine = GridConfig {
        steps: fit.reference_steps,
        spacing: CosineAngle::default().into(),
        t_max: Some(own.first()),
        t_min: Some(own.last()),
        denoise_last: own.denoise_last(),
    };
    let mut search = Search { denoiser, solver: &fit.solver, x, cond, target: None, left: fit.trials };
    if own.moves() > 0 {
        let sampler = Sampler::new(denoiser, reference, fine.build(denoiser.sde())?)?.state(Dtype::F64);
        search.target = Some(end(&sampler, x, cond)?);
    }
    let (mut grid, mut error) = search.best_start(&own)?;
    let first_error = error;
    let mut part = 0.4;
    while part > 0.01 && search.left > 0 {
        let before = error;
        for i in 1..grid.moves() {
            for towards in [i - 1, i + 1] {
                let moved = search.moved(&grid, i, towards, part)?;
                let found = search.error(&moved)?;
                if found < error {
                    (grid, error) = (moved, found);
                }
            }
        }
        // A pass that gained nothing to speak of asks for smaller moves.
        if error >= 0.99 * before {
            part *= 0.5;
        }
    }
    Ok(FittedGrid { grid, error, first_error })
}

fn end(sampler: &Sampler<'_>, x: &Tensor, cond: &Cond) -> Result<Tensor, SolveError> {
    // A solver of the ODE has no use for noise.
    Ok(sampler.integrate(x.clone(), cond, Noise::new(0, 0), 0, &mut [])?.x)
}

struct Search<'a> {
    denoiser: &'a dyn Denoiser,
    solver: &'a SolverConfig,
    x: &'a Tensor,
    cond: &'a Cond,
    /// Where the reference ends; none if there is no move to make.
    target: Option<Tensor>,
    left: usize,
}

impl Search<'_> {
    /// `E` of a grid; infinite if the solver leaves the range of numbers on it, or there are no trials left.
    fn error(&mut self, grid: &Grid) -> Result<f64, SolveError> {
        let Some(target) = &self.target else { return Ok(0.0) };
        if self.left == 0 {
            return Ok(f64::INFINITY);
        }
        self.left -= 1;
        let sampler = Sampler::new(self.denoiser, self.solver.clone(), grid.clone())?.state(Dtype::F64);
        match end(&sampler, self.x, self.cond) {
            Ok(found) => Ok((&found - target).square().mean_all().item().sqrt()),
            Err(SolveError::NotFinite { .. } | SolveError::TooManySteps { .. }) => Ok(f64::INFINITY),
            Err(error) => Err(error),
        }
    }

    /// The best of the grid given and the usual spacings between its ends, with its error.
    fn best_start(&mut self, own: &Grid) -> Result<(Grid, f64), SolveError> {
        let sde = self.denoiser.sde();
        let usual: [Spacing; 5] = [
            Uniform::default().into(),
            Quadratic::default().into(),
            CosineAngle::default().into(),
            LogSnr::default().into(),
            Karras::default().into(),
        ];
        let mut best = (own.clone(), self.error(own)?);
        for spacing in usual {
            let config = GridConfig {
                steps: own.steps(),
                spacing,
                t_max: Some(own.first()),
                t_min: Some(own.last()),
                denoise_last: own.denoise_last(),
            };
            // A spacing that cannot serve these ends is no place to begin from.
            let Ok(grid) = config.build(sde) else { continue };
            let error = self.error(&grid)?;
            if error < best.1 {
                best = (grid, error);
            }
        }
        Ok(best)
    }

    /// The grid with time `i` moved by a part of the gap to a neighbour, in the log-SNR.
    fn moved(&self, grid: &Grid, i: usize, towards: usize, part: f64) -> Result<Grid, SolveError> {
        let sde = self.denoiser.sde();
        let (from, to) = (sde.log_snr(grid.times()[i]), sde.log_snr(grid.times()[towards]));
        // Pure noise is infinitely far away: two units at a time.
        let gap = if to.is_finite() { to - from } else { 2.0 * (to - from).signum() };
        let mut times = grid.times().to_vec();
        times[i] = sde.time_at_log_snr(from + part * gap);
        Grid::new(times, grid.denoise_last(), sde)
    }
}
