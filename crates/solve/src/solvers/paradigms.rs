//! A first-order step is `x_{k+1} = a_k x_k + b_k x̂₀(x_k, t_k) + c_k z_k` with fixed noise `z_k`. Picard iteration guesses the
//! whole trajectory and improves all of it at once: with the guess `x^n`, from a point `x_p` known exactly,
//!
//! ```text
//! x^{n+1}_p = x_p        x^{n+1}_{k+1} = a_k x^{n+1}_k + b_k x̂₀(x^n_k, t_k) + c_k z_k        k = p, …, p + W − 1
//! ```
//!
//! One round runs the model on all `W` points of the window in one batch. Point `p + 1` is then exact. The window slides to
//! the first point that still changed by more than the tolerance.

use std::ops::Range;

use fokker_sde::{Sde, Times};
use fokker_tensor::{Dtype, Element, Tensor};
use serde::{Deserialize, Serialize};

use super::transition::Move;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::NoiseSource;
use crate::solver::{Context, Family, Kind, Solver, Stepper};

/// The step that [`Paradigms`] takes many of at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParallelStep {
    /// [`Ddim`](super::Ddim), its `η` being the noise.
    #[default]
    Ddim,
    /// [`EulerMaruyama`](super::EulerMaruyama), its noise level `λ` being the noise; 0 is [`Euler`](super::Euler).
    EulerMaruyama,
}

/// ParaDiGMS, parallel in time: Shih et al. 2023 (arXiv:2305.16317), algorithm 1, deterministic or with noise that is drawn
/// beforehand. The linear part of a step is carried along exactly instead of being iterated.
///
/// The result is the sequential solver's up to the tolerance, with the same noise. One evaluation is a *round*: one run of the
/// model on up to `window` times the batch, with a time for each. Rounds are at most the steps of the grid, and as many where the
/// tolerance is 0 or the window 1. Each sample has its own window, so that it does not depend on its batch; the batch's rounds are
/// those of the slowest sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paradigms {
    /// The step, default DDIM.
    pub step: ParallelStep,
    /// The amount of noise: `η` or `λ`, in `[0, 1]`, default 0.
    pub stochasticity: f64,
    /// Points in the window `W`, default 16.
    pub window: usize,
    /// The change of a point that counts as none: root mean square, relative to the noise `σ` of its time; default 0.1 (the
    /// paper's `τ`).
    pub tolerance: f64,
    /// Where the noise comes from, default independent draws.
    pub noise: NoiseSource,
}

impl Default for Paradigms {
    fn default() -> Self {
        Self { step: ParallelStep::Ddim, stochasticity: 0.0, window: 16, tolerance: 0.1, noise: NoiseSource::default() }
    }
}

impl Solver for Paradigms {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        1
    }

    fn strong_order(&self) -> Option<f64> {
        (self.kind() == Kind::Sde).then_some(1.0)
    }

    fn family(&self) -> Family {
        Family::Parallel
    }

    fn kind(&self) -> Kind {
        if self.stochasticity == 0.0 { Kind::Ode } else { Kind::Sde }
    }

    fn evaluations(&self, _moves: usize) -> Option<usize> {
        None
    }

    fn check(&self) -> Result<(), SolveError> {
        let bad = |field, expected| Err(SolveError::Config { what: "solver", kind: Self::KIND, field, expected });
        if !(0.0..=1.0).contains(&self.stochasticity) {
            return bad("stochasticity", format!("a number in [0, 1], found {}", self.stochasticity));
        }
        if self.window == 0 {
            return bad("window", "at least 1, found 0".to_owned());
        }
        if !(self.tolerance >= 0.0 && self.tolerance.is_finite()) {
            return bad("tolerance", format!("a finite number from 0, found {}", self.tolerance));
        }
        Ok(())
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.noise.check(Self::KIND, sde, grid)?;
        let times = grid.times().to_vec();
        let step = |pair: &[f64]| match self.step {
            ParallelStep::Ddim => Move::ancestral(sde, pair[0], pair[1], self.stochasticity),
            ParallelStep::EulerMaruyama => Move::euler_maruyama(sde, pair[0], pair[1], self.stochasticity),
        };
        Ok(Box::new(Window {
            solver: self.clone(),
            moves: times.windows(2).map(step).collect(),
            scales: times.iter().map(|&t| sde.sigma(t)).collect(),
            times,
            done: 0,
            points: Vec::new(),
            denoised: Vec::new(),
            exact: Vec::new(),
            guessed: Vec::new(),
        }))
    }
}

/// The trajectory so far.
struct Window {
    solver: Paradigms,
    times: Vec<f64>,
    moves: Vec<Move>,
    /// `σ` at each time.
    scales: Vec<f64>,
    /// Steps handed out.
    done: usize,
    /// The state at each time, `[B, ...]`: exact, guessed or not yet anything, by sample; what was handed out is dropped.
    points: Vec<Tensor>,
    /// The last `x̂₀` at each time.
    denoised: Vec<Tensor>,
    /// The last exact point of each sample.
    exact: Vec<usize>,
    /// The last point of each sample that has a guess.
    guessed: Vec<usize>,
}

impl Stepper for Window {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        if self.done == 0 {
            let batch = x.dim(0);
            // Clones share their elements until they differ.
            self.points = vec![x.clone(); self.times.len()];
            self.denoised = vec![x; self.times.len()];
            (self.exact, self.guessed) = (vec![0; batch], vec![0; batch]);
        }
        while self.exact.iter().any(|&exact| exact <= self.done) {
            self.round(cx)?;
        }
        let nothing = Tensor::zeros(&[0], self.points[self.done].dtype());
        self.points[self.done] = nothing.clone();
        cx.denoised = Some(std::mem::replace(&mut self.denoised[self.done], nothing));
        self.done += 1;
        Ok(self.points[self.done].clone())
    }
}

impl Window {
    /// The points of sample `i` that the model runs at.
    fn window(&self, i: usize) -> Range<usize> {
        self.exact[i]..(self.exact[i] + self.solver.window).min(self.moves.len())
    }

    /// One round for every sample.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<(), SolveError> {
        let batch = self.exact.len();
        self.guess();
        let last = (0..batch).map(|i| self.window(i).end).max().expect("a batch is not empty");
        let first = *self.exact.iter().min().expect("a batch is not empty");
        // The samples whose window each point is in.
        let rows: Vec<(usize, Vec<usize>)> =
            (first..last).map(|k| (k, (0..batch).filter(|&i| self.window(i).contains(&k)).collect())).collect();
        let parts: Vec<Tensor> = rows.iter().map(|(k, rows)| self.points[*k].gather(rows)).collect();
        let times = rows.iter().flat_map(|(k, rows)| rows.iter().map(|_| self.times[*k])).collect();
        let samples: Vec<usize> = rows.iter().flat_map(|(_, rows)| rows.iter().copied()).collect();
        let all = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0);
        let answers = cx.denoise_rows(&all, &Times::Each(times), &samples)?;
        // Whether a point is no more than the tolerance from the last guess.
        let mut settled = vec![vec![false; self.times.len()]; batch];
        let mut from = 0;
        for (k, rows) in &rows {
            let answer = answers.slice(0, from..from + rows.len());
            from += rows.len();
            scatter(&mut self.denoised[*k], rows, &answer);
            let changes = self.advance(cx, *k, rows, &answer);
            for (&i, change) in rows.iter().zip(changes) {
                settled[i][k + 1] = change <= self.solver.tolerance * self.scales[k + 1];
            }
        }
        for i in 0..batch {
            let end = self.window(i).end;
            if self.exact[i] < end {
                self.exact[i] += 1;
                while self.exact[i] < end && settled[i][self.exact[i]] {
                    self.exact[i] += 1;
                }
            }
        }
        Ok(())
    }

    /// Guesses points that have just come into the window to be like the last before.
    fn guess(&mut self) {
        for i in 0..self.exact.len() {
            let end = self.window(i).end;
            for k in self.guessed[i]..end {
                let row = self.points[k].slice(0, i..i + 1);
                scatter(&mut self.points[k + 1], &[i], &row);
                self.guessed[i] = k + 1;
            }
        }
    }

    /// Steps the samples `rows` from point `k` with `x̂₀` = `answer`; how far point `k + 1` moved, root mean square.
    fn advance(&mut self, cx: &mut Context<'_>, k: usize, rows: &[usize], answer: &Tensor) -> Vec<f64> {
        let Move { state, sample, std } = self.moves[k];
        let mut next = &(&self.points[k].gather(rows) * state) + &(answer * sample);
        if std != 0.0 {
            let z = cx.noise_of_step(self.solver.noise, k, &self.points[k], self.times[k], self.times[k + 1]);
            next = &next + &(&z.gather(rows) * std);
        }
        let axes: Vec<usize> = (1..next.rank()).collect();
        let change = (&next - &self.points[k + 1].gather(rows)).square().mean_keep(&axes).sqrt();
        scatter(&mut self.points[k + 1], rows, &next);
        change.to_vec::<f64>()
    }
}

/// Writes the samples of `from`, `[R, ...]`, over the samples `rows` of `to`, `[B, ...]`.
fn scatter(to: &mut Tensor, rows: &[usize], from: &Tensor) {
    fn copy<T: Element>(to: &mut Tensor, rows: &[usize], from: &Tensor) {
        let each = from.len() / rows.len().max(1);
        to.update::<T>(|to| {
            for (&i, row) in rows.iter().zip(from.as_slice::<T>().chunks(each.max(1))) {
                to[i * each..(i + 1) * each].copy_from_slice(row);
            }
        });
    }
    match to.dtype() {
        Dtype::F32 => copy::<f32>(to, rows, from),
        Dtype::F64 => copy::<f64>(to, rows, from),
        Dtype::Bf16 => panic!("a state of bf16: states are f32 or f64"),
    }
}
