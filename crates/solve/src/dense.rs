//! States of a trajectory between the ends of its steps.
//!
//! An adaptive solver steps where it wants to. What it has evaluated for a step from `t` to `s` also gives the state anywhere between, by the
//! continuous extension of its method: no evaluation more, no step shorter, and the trajectory is the same to the bit.

use std::collections::VecDeque;

use fokker_tensor::Tensor;

use crate::error::SolveError;
use crate::grid::Grid;
use crate::observer::{Observer, Step};
use crate::solver::Solver;

/// An observer that collects the states at given times, for solvers with [dense output](Solver::dense_order).
///
/// ```
/// use fokker_sde::{Cond, Covariance, Edm, Gaussian};
/// use fokker_solve::{DpmAdaptive, Grid, Sampler, Trajectory};
/// use fokker_tensor::Noise;
///
/// let model = Gaussian::new(Edm::default(), &[1.0, -1.0], &Covariance::Isotropic(0.25));
/// let grid = Grid::new(vec![80.0, 0.01], true, &Edm::default())?;
/// let sampler = Sampler::new(&model, DpmAdaptive::default(), grid)?;
/// let mut path = Trajectory::at(&[40.0, 5.0, 0.5]);
/// sampler.sample(&[100, 2], &Cond::NONE, Noise::new(42, 0), 0, &mut [&mut path])?;
/// assert_eq!(path.states().shape(), [3, 100, 2]);
/// # Ok::<(), fokker_solve::SolveError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Trajectory {
    times: Vec<f64>,
    /// For each time the states of the batches.
    parts: Vec<Vec<Tensor>>,
}

impl Trajectory {
    /// Wants the states at these times, in any order, each between the grid's first and last.
    pub fn at(times: &[f64]) -> Self {
        Self { times: times.to_vec(), parts: vec![Vec::new(); times.len()] }
    }

    /// The states `[T, N, ...]` in the order of the times: of all batches seen, one after the other.
    ///
    /// # Panics
    /// If no trajectory has come to its end.
    #[track_caller]
    pub fn states(&self) -> Tensor {
        let stacked = |parts: &Vec<Tensor>| {
            assert!(!parts.is_empty(), "no trajectory was observed at {:?}", self.times);
            let joined = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0);
            let shape = [&[1], joined.shape()].concat();
            joined.reshape(&shape)
        };
        let states: Vec<Tensor> = self.parts.iter().map(stacked).collect();
        Tensor::concat(&states.iter().collect::<Vec<_>>(), 0)
    }
}

impl Observer for Trajectory {
    fn times(&self) -> &[f64] {
        &self.times
    }

    fn state(&mut self, t: f64, x: &Tensor) {
        for (_, parts) in self.times.iter().zip(&mut self.parts).filter(|(time, _)| **time == t) {
            parts.push(x.clone());
        }
    }

    fn step(&mut self, _step: &Step<'_>) {}
}

/// Whether a step from `t` to `s` goes over a time, or ends there; either may be the earlier one.
pub(crate) fn goes_over((t, s): (f64, f64), time: f64) -> bool {
    (t > time && time >= s) || (t < time && time <= s)
}

/// The times that observers want, in the order in which the trajectory comes to them, with the states there once they are known.
#[derive(Default)]
pub(crate) struct Wanted(VecDeque<(f64, Option<Tensor>)>);

impl Wanted {
    /// What these observers want of a trajectory that starts with `x`.
    ///
    /// # Errors
    /// If the solver has no dense output, or a time is not on the way.
    pub(crate) fn by(observers: &[&mut dyn Observer], solver: &dyn Solver, grid: &Grid, x: &Tensor) -> Result<Self, SolveError> {
        let mut times: Vec<f64> = observers.iter().flat_map(|observer| observer.times().iter().copied()).collect();
        let (first, last) = (grid.first(), grid.last());
        if let Some(t) = times.iter().find(|&&t| t != first && !goes_over((first, last), t)) {
            let reason = format!("the state is wanted at t = {t}, but the grid goes from {first} to {last}");
            return Err(SolveError::Grid(reason));
        }
        if !times.is_empty() && solver.dense_order().is_none() {
            return Err(SolveError::Unsupported {
                solver: solver.name(),
                reason:
                    "it has no states between its steps; use `adaptive-runge-kutta` or `dpm-adaptive`, or put the times into \
                         the grid (spacing `list`) and observe its steps"
                        .to_owned(),
            });
        }
        times.sort_by(|a, b| if first < last { a.total_cmp(b) } else { b.total_cmp(a) });
        times.dedup();
        Ok(Self(times.into_iter().map(|t| (t, (t == first).then(|| x.clone()))).collect()))
    }

    /// The times that a step goes over, with the states there as far as they are known.
    pub(crate) fn on(&mut self, step: (f64, f64)) -> impl Iterator<Item = (f64, &mut Option<Tensor>)> {
        self.0.iter_mut().filter(move |(time, _)| goes_over(step, *time)).map(|(time, state)| (*time, state))
    }

    /// Hands the states that are known to those who want them.
    pub(crate) fn deliver(&mut self, observers: &mut [&mut dyn Observer]) {
        while let Some((t, Some(x))) = self.0.pop_front_if(|(_, state)| state.is_some()) {
            for observer in observers.iter_mut().filter(|observer| observer.times().contains(&t)) {
                observer.state(t, &x);
            }
        }
    }
}
