//! The table of `docs/solvers.md`: how accurate each solver is for a given number of evaluations, on mixtures whose flow is known.
//!
//! ```text
//! deterministic:  √(mean over states and coordinates of (x̃ − x)²)      x̃ where the solver ends, x where the exact flow does
//! stochastic:     mean SW₂(samples, exact set) / mean SW₂(exact set, exact set)     sets of equal size
//! ```
//!
//! The process is EDM, `x = x_0 + σ ε`, from σ = 80 to 0.002, then the denoiser's answer there, in `f64`. A cell is the most accurate run
//! on one of the usual grids whose *counted* evaluations, the last one included, are at most those of its column. Fitted grids are
//! fitted on other states than those they are judged on.
//!
//! [`compute`] makes a [`Table`]; [`page::markdown`] and [`plot::svg`] show it beside what `tests/reference/solver_table.py` found other
//! libraries to reach on the same states ([`peers`]). `cargo xtask solvers` runs all of it.

pub mod distance;
pub mod lineup;
pub mod measure;
pub mod oracle;
pub mod page;
pub mod peers;
pub mod plot;

use std::ops::Range;

use fokker_solve::{Kind, Solver, SolverConfig};
use rayon::prelude::*;

use distance::Judge;
use measure::{Cell, best_cell, best_ratio, fitted_cell};
use oracle::Oracle;

/// The columns: the most evaluations.
pub const NFE: [usize; 5] = [5, 10, 20, 50, 100];

/// The columns for which grids are fitted, the first ones.
pub const FITTED: usize = 3;

/// One solver's line.
#[derive(Clone, Debug)]
pub struct Row {
    /// The solver with its settings.
    pub solver: SolverConfig,
    /// The best of the usual grids for each of [`NFE`]; none where so few evaluations do not do.
    pub cells: Vec<Option<Cell>>,
    /// On a grid fitted to the solver, for the first [`FITTED`] of them.
    pub fitted: Vec<Option<Cell>>,
}

/// All solvers on one mixture.
#[derive(Clone, Debug)]
pub struct Section {
    /// The mixture's name.
    pub name: &'static str,
    /// The root mean square error of the reference itself, by halving its steps.
    pub reference_error: f64,
    /// Between what ratios further exact sets are, in the place of samples.
    pub exact: Range<f64>,
    /// Deterministic solvers: errors in data units.
    pub deterministic: Vec<Row>,
    /// Stochastic solvers, and deterministic ones for comparison: distances in those between exact sets.
    pub stochastic: Vec<Row>,
}

/// Everything that was measured.
#[derive(Clone, Debug)]
pub struct Table {
    /// One for each of [`Oracle::all`].
    pub sections: Vec<Section>,
}

/// Measures every listed solver on these mixtures: some minutes for all. The same bits on every run.
pub fn compute(oracles: &[Oracle]) -> Table {
    Table { sections: oracles.iter().map(section).collect() }
}

/// One of the cells to fill.
enum Job {
    Usual(usize),
    Fitted(usize),
}

fn section(oracle: &Oracle) -> Section {
    let target = oracle.target();
    let judge = Judge::new(oracle);
    let deterministic = lineup::solvers(Kind::Ode);
    let stochastic: Vec<SolverConfig> = lineup::solvers(Kind::Sde).into_iter().chain(lineup::for_comparison()).collect();

    let fixed = |solver: &SolverConfig| solver.evaluations(1).is_some();
    let jobs = |solvers: &[SolverConfig], fit: bool| -> Vec<(usize, Job)> {
        // The longest first, so that no thread is left with one of them at the end.
        let usual = (0..NFE.len()).rev().flat_map(|column| (0..solvers.len()).map(move |row| (row, Job::Usual(column))));
        let fitted = (0..FITTED).rev().flat_map(|column| (0..solvers.len()).map(move |row| (row, Job::Fitted(column))));
        fitted.filter(|(row, _)| fit && fixed(&solvers[*row])).chain(usual).collect()
    };
    let ode = fill(&deterministic, jobs(&deterministic, true), |solver, job| match job {
        Job::Usual(column) => best_cell(oracle, &target, solver, NFE[*column]),
        Job::Fitted(column) => fitted_cell(oracle, &target, solver, NFE[*column]),
    });
    let sde = fill(&stochastic, jobs(&stochastic, false), |solver, job| match job {
        Job::Usual(column) => best_ratio(oracle, &judge, solver, NFE[*column]),
        Job::Fitted(_) => None,
    });
    let (name, reference_error, exact) = (oracle.name, target.error, judge.exact);
    Section { name, reference_error, exact, deterministic: ode, stochastic: sde }
}

/// Does all jobs on all threads, and sorts their cells into rows.
fn fill(
    solvers: &[SolverConfig],
    jobs: Vec<(usize, Job)>,
    measure: impl Fn(&SolverConfig, &Job) -> Option<Cell> + Sync,
) -> Vec<Row> {
    let empty = |solver: &SolverConfig| Row { solver: solver.clone(), cells: vec![None; NFE.len()], fitted: vec![None; FITTED] };
    let mut rows: Vec<Row> = solvers.iter().map(empty).collect();
    let cells: Vec<Option<Cell>> = jobs.par_iter().map(|(row, job)| measure(&solvers[*row], job)).collect();
    for ((row, job), cell) in jobs.into_iter().zip(cells) {
        match job {
            Job::Usual(column) => rows[row].cells[column] = cell,
            Job::Fitted(column) => rows[row].fitted[column] = cell,
        }
    }
    rows
}
