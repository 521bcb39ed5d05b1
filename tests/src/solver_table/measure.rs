//! One cell: the most accurate run within a number of evaluations.

use std::sync::atomic::{AtomicUsize, Ordering};

use fokker_sde::{Cond, Denoiser, Sde, Times};
use fokker_solve::{
    Family, Grid, GridConfig, GridFit, Karras, Sampler, Samples, SolveError, Solver, SolverConfig, optimise_grid,
};
use fokker_tensor::{Dtype, Noise, Tensor};

use super::distance::Judge;
use super::lineup::GridKind;
use super::oracle::{FITTED, Oracle, Stream, Target, rms};

/// A number of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// The error, or the ratio of distances.
    pub value: f64,
    /// The evaluations counted.
    pub nfe: usize,
    /// On which grid.
    pub grid: GridKind,
}

/// A denoiser that answers `left` times and then no more.
struct Budget<'a> {
    model: &'a dyn Denoiser,
    left: AtomicUsize,
}

impl Denoiser for Budget<'_> {
    fn sde(&self) -> &dyn Sde {
        self.model.sde()
    }

    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => self.model.denoise(x, t, c),
            // No number ends a run.
            Err(_) => Tensor::full(x.shape(), f64::NAN, x.dtype()),
        }
    }
}

/// Where a solver takes `x`, `[B, D]`; none if that costs more than `most` evaluations, or it leaves the range of numbers.
fn run(model: &dyn Denoiser, solver: &SolverConfig, grid: &Grid, x: &Tensor, noise: Noise, most: usize) -> Option<Samples> {
    let budget = Budget { model, left: AtomicUsize::new(most) };
    let sampler = Sampler::new(&budget, solver.clone(), grid.clone()).expect("a solver of EDM").state(Dtype::F64);
    match sampler.integrate(x.clone(), &Cond::NONE, noise, 0, &mut []) {
        Ok(samples) => {
            assert!(samples.nfe <= most, "{}: {} evaluations, at most {most} were allowed", solver.name(), samples.nfe);
            Some(samples)
        }
        Err(SolveError::NotFinite { .. } | SolveError::TooManySteps { .. }) => None,
        Err(error) => panic!("{}: {error}", solver.name()),
    }
}

/// A way to spend at most so many evaluations: the solver, perhaps with another tolerance, and the number of steps.
type Plan = (SolverConfig, usize);

/// Ways to spend `most` evaluations, those that cost more first.
fn plans(solver: &SolverConfig, most: usize) -> Vec<Plan> {
    match solver.family() {
        Family::Adaptive => TOLERANCES.rev().map(|n| (with_tolerance(solver, 10f64.powf(-f64::from(n) / 6.0)), 2)).collect(),
        // Its rounds are fewer than its steps.
        Family::Parallel => {
            let fewer = |steps: &usize| Some(steps * 7 / 8).filter(|steps| *steps > 1);
            std::iter::successors(Some(4 * most), fewer).map(|steps| (solver.clone(), steps)).collect()
        }
        _ => {
            let cost = |steps: usize| solver.evaluations(steps - 1).map(|n| n + 1);
            // With one step, which denoises, no solver is at work.
            let fits = (2..=most).rev().filter(|&steps| cost(steps).is_none_or(|cost| cost <= most));
            fits.map(|steps| (solver.clone(), steps)).collect()
        }
    }
}

/// Sixths of a power of ten.
const TOLERANCES: std::ops::Range<i32> = -9..48;

fn with_tolerance(solver: &SolverConfig, rtol: f64) -> SolverConfig {
    let mut solver = solver.clone();
    match &mut solver {
        SolverConfig::AdaptiveRungeKutta(s) => (s.control.rtol, s.control.atol) = (rtol, 0.1 * rtol),
        SolverConfig::DpmAdaptive(s) => (s.control.rtol, s.control.atol) = (rtol, 0.1 * rtol),
        SolverConfig::AdaptiveSde(s) => (s.rtol, s.atol) = (rtol, 0.78 * rtol),
        other => panic!("{}: an adaptive solver without a known tolerance", other.name()),
    }
    solver
}

/// The first plan that `most` evaluations are enough for, run on `x`.
fn within(model: &dyn Denoiser, solver: &SolverConfig, kind: GridKind, x: &Tensor, noise: Noise, most: usize) -> Option<Samples> {
    // A few states tell most of what is too expensive.
    let few = x.slice(0, 0..x.dim(0).min(16));
    plans(solver, most).into_iter().find_map(|(solver, steps)| {
        let grid = if kind == GridKind::Own { GridKind::LogSnr } else { kind }.grid(model.sde(), steps);
        let tried = solver.evaluations(1).is_some() || run(model, &solver, &grid, &few, noise, most).is_some();
        tried.then(|| run(model, &solver, &grid, x, noise, most)).flatten()
    })
}

/// The grids to try a solver on.
fn grids(solver: &SolverConfig) -> &'static [GridKind] {
    if solver.family() == Family::Adaptive { &[GridKind::Own] } else { &GridKind::USUAL }
}

/// The least of `value` over the grids.
fn best(solver: &SolverConfig, mut cell: impl FnMut(GridKind) -> Option<Cell>) -> Option<Cell> {
    let cells = grids(solver).iter().filter_map(|kind| cell(*kind)).filter(|cell| cell.value.is_finite());
    cells.min_by(|a, b| a.value.total_cmp(&b.value))
}

/// A deterministic solver's error on the best of the usual grids.
pub fn best_cell(oracle: &Oracle, target: &Target, solver: &SolverConfig, most: usize) -> Option<Cell> {
    best(solver, |kind| error_on(oracle, target, solver, kind, most))
}

/// A deterministic solver's error on one of the usual grids.
pub fn error_on(oracle: &Oracle, target: &Target, solver: &SolverConfig, kind: GridKind, most: usize) -> Option<Cell> {
    let samples = within(&oracle.model, solver, kind, &target.x, Noise::new(0, 0), most)?;
    Some(Cell { value: rms(&samples.x, &target.end), nfe: samples.nfe, grid: kind })
}

/// A stochastic solver's distance on the best of the usual grids, in the distance between exact sets.
pub fn best_ratio(oracle: &Oracle, judge: &Judge, solver: &SolverConfig, most: usize) -> Option<Cell> {
    let x = oracle.states(Stream::Samples, judge.size());
    best(solver, |kind| {
        let samples = within(&oracle.model, solver, kind, &x, Stream::Samples.noise(), most)?;
        Some(Cell { value: judge.ratio(&samples.x), nfe: samples.nfe, grid: kind })
    })
}

/// A deterministic solver's error on a grid fitted to it, on states that the fit has not seen.
pub fn fitted_cell(oracle: &Oracle, target: &Target, solver: &SolverConfig, most: usize) -> Option<Cell> {
    let grid = fitted_grid(oracle, solver, most)?;
    let samples = run(&oracle.model, solver, &grid, &target.x, Noise::new(0, 0), most)?;
    Some(Cell { value: rms(&samples.x, &target.end), nfe: samples.nfe, grid: GridKind::Fitted })
}

/// The grid that [`optimise_grid`] finds for a solver of fixed steps and at most so many evaluations; none if those do not do.
pub fn fitted_grid(oracle: &Oracle, solver: &SolverConfig, most: usize) -> Option<Grid> {
    let (_, steps) = plans(solver, most).into_iter().next()?;
    let grid = GridConfig { steps, spacing: Karras::default().into(), ..GridConfig::default() };
    let fit = GridFit::new(grid, solver.clone());
    let x = oracle.states(Stream::Fitted, FITTED);
    Some(optimise_grid(&oracle.model, &fit, &x, &Cond::NONE).expect("a solver of the ODE of EDM").grid)
}
