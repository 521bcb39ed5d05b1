//! Explicit Runge–Kutta methods for any ODE, on the rows of a batch side by side.
//!
//! ```text
//! dy/dp = f(y, p)        y_i = y + h Σ_{j<i} a_ij k_j      k_i = f(y_i, p + c_i h)      y' = y + h Σ_i b_i k_i      e = h Σ_i e_i k_i
//! ```
//!
//! with the numbers of a [`tableau`](super::tableau), in steps of one length or as long as a [`Control`] allows. With step
//! control each row has steps of its own, and leaves the batch when it is at the end: others that go on cost nothing for it.

use std::ops::Range;

use fokker_tensor::Tensor;

use super::adaptive::{Control, Per, Sample, Try, in_units};
use super::tableau::Method;
use crate::combine::{combine, combine_each, select};
use crate::error::SolveError;

/// The right-hand side: slopes of the states `[A, N]` of some rows, each at its own place, in `f64`. The third argument says which rows.
/// If the last is false, the slopes have weight 0 in the result and only lead to later stages: columns that no slope depends on may be
/// left out, as 0.
pub(crate) type Slope<'a> = dyn FnMut(&Tensor, &[f64], &[usize], bool) -> Result<Tensor, SolveError> + 'a;

/// Takes `y`, `[B, N]`, from one place to another in `steps` equal steps. As many evaluations per step as the method has stages.
pub(crate) fn fixed(
    method: Method,
    steps: usize,
    mut y: Tensor,
    (from, to): (f64, f64),
    slope: &mut Slope<'_>,
) -> Result<Tensor, SolveError> {
    let table = method.tableau();
    let rows: Vec<usize> = (0..y.dim(0)).collect();
    let h = (to - from) / steps as f64;
    let sum = |y: &Tensor, factors: &[f64], k: &[Tensor]| {
        let terms: Vec<(f64, &Tensor)> = factors.iter().map(|a| h * a).zip(k).collect();
        combine(1.0, y.clone(), &terms)
    };
    for n in 0..steps {
        let place = |c: f64| if n + 1 == steps && c == 1.0 { to } else { from + (n as f64 + c) * h };
        let mut k = Vec::with_capacity(table.evaluations());
        for i in 0..table.evaluations() {
            let (a, c) = table.stage(i);
            let weighs = table.weights().0[i] != 0.0;
            k.push(slope(&sum(&y, a, &k), &vec![place(c); rows.len()], &rows, weighs)?);
        }
        y = sum(&y, table.weights().0, &k);
    }
    Ok(y)
}

/// Steps as long as a tolerance allows.
pub(crate) struct Adaptive<'a> {
    /// One of the methods that estimate their errors.
    pub(crate) method: Method,
    pub(crate) control: &'a Control,
    /// Whose errors give up is.
    pub(crate) name: &'static str,
    /// The columns whose errors are measured apart: a step's error is the root of the sum of their mean squares.
    pub(crate) parts: &'a [Range<usize>],
}

/// How errors are measured: in units of what is allowed of each number.
pub(super) struct Errors<'a> {
    pub(super) rtol: f64,
    pub(super) atol: f64,
    pub(super) per: Per,
    /// The columns that are measured apart: an error is the root of the sum of their mean squares.
    pub(super) parts: &'a [Range<usize>],
}

impl Errors<'_> {
    /// The square of the error `scale · of` of one row, for a step to `next` from `before`.
    pub(super) fn square(&self, of: &[f64], scale: f64, next: &[f64], before: &[f64]) -> f64 {
        let square = |j: usize| in_units(self.rtol, self.atol, scale * of[j], next[j], before[j]).powi(2);
        self.parts.iter().map(|part| part.clone().map(square).sum::<f64>() / part.len() as f64).sum()
    }

    /// The same of each row.
    fn squares(&self, of: &Tensor, next: &Tensor, before: &Tensor) -> Vec<f64> {
        let [of, next, before] = [of, next, before].map(|tensor| tensor.as_slice::<f64>().chunks(tensor.dim(1)));
        of.zip(next.zip(before)).map(|(of, (next, before))| self.square(of, 1.0, next, before)).collect()
    }

    /// The error of each row from the squares, or that of all of them.
    pub(super) fn sizes(&self, squares: impl IntoIterator<Item = f64>) -> Vec<f64> {
        let squares: Vec<f64> = squares.into_iter().collect();
        match self.per {
            Per::Sample => squares.into_iter().map(f64::sqrt).collect(),
            Per::Batch => vec![(squares.iter().sum::<f64>() / squares.len() as f64).sqrt(); squares.len()],
        }
    }
}

/// Where a row is on its way.
pub(super) trait UnderWay: Clone {
    /// Where it is.
    fn place(&self) -> f64;
    /// How long its next step is.
    fn length(&self) -> f64;
}

impl UnderWay for Sample {
    fn place(&self) -> f64 {
        self.t
    }

    fn length(&self) -> f64 {
        self.length()
    }
}

/// The rows that are under way.
pub(super) struct Batch<S> {
    /// Which they are.
    pub(super) rows: Vec<usize>,
    pub(super) y: Tensor,
    /// What the method remembers of them, `[A, N]` each.
    pub(super) memory: Vec<Tensor>,
    pub(super) samples: Vec<S>,
}

impl<S: UnderWay> Batch<S> {
    /// Takes every row to the end by attempts, each a step of all rows, accepted or not. `name` is whose errors giving up is.
    pub(super) fn run(
        mut self,
        to: f64,
        max_steps: usize,
        name: &'static str,
        mut attempt: impl FnMut(&mut Self) -> Result<(), SolveError>,
    ) -> Result<Tensor, SolveError> {
        let (shape, width) = (self.y.shape().to_vec(), self.y.dim(1));
        let mut result = vec![0.0; self.y.len()];
        for _ in 0..max_steps {
            attempt(&mut self)?;
            let (there, left): (Vec<usize>, Vec<usize>) = (0..self.rows.len()).partition(|&i| self.samples[i].place() == to);
            for i in there.iter().copied() {
                let start = self.rows[i] * width;
                result[start..start + width].copy_from_slice(row(&self.y, i));
            }
            if left.is_empty() {
                return Ok(Tensor::from_vec(&shape, result));
            }
            if !there.is_empty() {
                self = self.only(&left);
            }
        }
        let slowest = &self.samples[0];
        Err(SolveError::TooManySteps { solver: name, steps: max_steps, t: slowest.place(), length: slowest.length() })
    }

    fn only(self, left: &[usize]) -> Self {
        Self {
            rows: left.iter().map(|&i| self.rows[i]).collect(),
            y: self.y.gather(left),
            memory: self.memory.iter().map(|memory| memory.gather(left)).collect(),
            samples: left.iter().map(|&i| self.samples[i].clone()).collect(),
        }
    }
}

/// A row of `[A, N]`.
pub(super) fn row(of: &Tensor, i: usize) -> &[f64] {
    &of.as_slice::<f64>()[i * of.dim(1)..(i + 1) * of.dim(1)]
}

impl Adaptive<'_> {
    /// Takes `y`, `[B, N]` in `f64`, from one place to another. The first step costs 8 evaluations, or 7 if its length is given,
    /// each further one, rejected ones too, 6.
    pub(crate) fn run(&self, y: Tensor, (from, to): (f64, f64), slope: &mut Slope<'_>) -> Result<Tensor, SolveError> {
        let rows: Vec<usize> = (0..y.dim(0)).collect();
        let k = slope(&y, &vec![from; rows.len()], &rows, true)?;
        let lengths = match self.control.first {
            Some(first) => vec![first; rows.len()],
            None => self.first_lengths(&y, &k, (from, to), slope)?,
        };
        let lengths = match self.control.per {
            Per::Sample => lengths,
            // Common steps from the first one on: rows that are never at one place would cost a model its short cuts.
            Per::Batch => vec![lengths.iter().copied().fold(f64::INFINITY, f64::min); lengths.len()],
        };
        let samples = lengths.into_iter().map(|h| Sample::new(from, h)).collect();
        let batch = Batch { rows, y, memory: vec![k], samples };
        batch.run(to, self.control.max_steps, self.name, |batch| self.attempt(batch, to, slope))
    }

    /// One step of every row, accepted or not. The batch remembers the slopes at `y`.
    fn attempt(&self, batch: &mut Batch<Sample>, to: f64, slope: &mut Slope<'_>) -> Result<(), SolveError> {
        let table = self.method.tableau();
        let tries: Vec<Try> = batch.samples.iter().map(|sample| sample.aim(to, (sample.t, to), |place| place)).collect();
        let steps: Vec<f64> = batch.samples.iter().zip(&tries).map(|(sample, to)| to.s - sample.t).collect();
        let (b, e) = table.weights();
        let mut k = batch.memory.clone();
        for i in 1..table.evaluations() {
            let (a, c) = table.stage(i);
            let places: Vec<f64> = batch.samples.iter().zip(&tries).map(|(from, to)| between(from.t, to.s, c)).collect();
            let weighs = b[i] != 0.0 || e[i] != 0.0;
            k.push(slope(&sum(1.0, &batch.y, &steps, a, &k), &places, &batch.rows, weighs)?);
        }
        let next = sum(1.0, &batch.y, &steps, b, &k);
        let ends: Vec<f64> = tries.iter().map(|to| to.s).collect();
        k.push(slope(&next, &ends, &batch.rows, true)?);
        let error = sum(0.0, &batch.y, &steps, e, &k);
        let errors = self.errors();
        let sizes = errors.sizes(errors.squares(&error, &next, &batch.y));
        let order = f64::from(table.order);
        let moved: Vec<bool> =
            (0..sizes.len()).map(|i| self.control.decide(order, &mut batch.samples[i], &tries[i], sizes[i])).collect();
        let last = k.pop().expect("a method has stages");
        batch.memory[0] = select(&moved, last, &k[0]);
        batch.y = select(&moved, next, &batch.y);
        Ok(())
    }

    fn errors(&self) -> Errors<'_> {
        Errors { rtol: self.control.rtol, atol: self.control.atol, per: self.control.per, parts: self.parts }
    }

    /// The length of each row's first step: one evaluation says how fast slopes change (Hairer, Nørsett & Wanner 1993, section II.4).
    fn first_lengths(
        &self,
        y: &Tensor,
        k: &Tensor,
        (from, to): (f64, f64),
        slope: &mut Slope<'_>,
    ) -> Result<Vec<f64>, SolveError> {
        let errors = self.errors();
        let norms = |of: &Tensor| errors.squares(of, y, y).into_iter().map(f64::sqrt);
        let way = (to - from).abs();
        let tiny = |x: f64| x.is_nan() || x < 1e-10;
        let trial: Vec<f64> = norms(y)
            .zip(norms(k))
            .map(|(state, slope)| if tiny(state) || tiny(slope) { 1e-6 * way } else { (0.01 * state / slope).min(way) })
            .collect();
        let signed: Vec<f64> = trial.iter().map(|h| h.copysign(to - from)).collect();
        let rows: Vec<usize> = (0..trial.len()).collect();
        let places: Vec<f64> = signed.iter().map(|h| between(from, to, h / (to - from))).collect();
        let moved = slope(&sum(1.0, y, &signed, &[1.0], std::slice::from_ref(k)), &places, &rows, true)?;
        let changes: Vec<f64> = norms(&combine(1.0, moved, &[(-1.0, k)])).collect();
        let order = f64::from(self.method.tableau().order);
        let lengths = norms(k).zip(changes).zip(&trial).map(|((slope, change), &trial)| {
            let steepest = slope.max(change / trial);
            let wanted = if tiny(steepest) { trial } else { (0.01 / steepest).powf(1.0 / order) };
            wanted.min(100.0 * trial).min(way)
        });
        Ok(lengths.collect())
    }
}

/// A part `c` of the way, the end exactly.
fn between(from: f64, to: f64, c: f64) -> f64 {
    if c == 1.0 { to } else { from + c * (to - from) }
}

/// `scale · y + h Σ_j a_j k_j` with a step `h` for each row.
fn sum(scale: f64, y: &Tensor, steps: &[f64], a: &[f64], k: &[Tensor]) -> Tensor {
    let columns: Vec<Vec<f64>> = a.iter().map(|a| steps.iter().map(|h| a * h).collect()).collect();
    let terms: Vec<(&[f64], &Tensor)> = columns.iter().map(Vec::as_slice).zip(k).collect();
    combine_each(&vec![scale; steps.len()], y.clone(), &terms)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `y' = (−y_1, p)` from rows that begin differently.
    pub(in crate::solvers) fn slopes(y: &Tensor, places: &[f64], _rows: &[usize], _weighs: bool) -> Result<Tensor, SolveError> {
        let pairs = y.as_slice::<f64>().chunks(2).zip(places);
        Ok(Tensor::from_vec(y.shape(), pairs.flat_map(|(y, p)| [-y[0], *p]).collect::<Vec<f64>>()))
    }

    pub(in crate::solvers) fn start() -> Tensor {
        Tensor::from_vec(&[3, 2], vec![1.0, 0.0, 1e-3, 0.0, 50.0, 1.0])
    }

    pub(in crate::solvers) fn largest_error(found: &Tensor) -> f64 {
        let exact = start().to_vec::<f64>().chunks(2).flat_map(|y| [y[0] * (-3.0_f64).exp(), y[1] + 4.5]).collect::<Vec<f64>>();
        found.to_vec::<f64>().iter().zip(exact).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn a_tolerance_of_the_batch_has_steps_that_all_rows_take_together() {
        let control = Control { rtol: 1e-6, atol: 1e-6, per: Per::Batch, ..Control::default() };
        let walk = Adaptive { method: Method::Dopri5, control: &control, name: "test", parts: &[0..1, 1..2] };
        let mut asked = Vec::new();
        let mut recording = |y: &Tensor, places: &[f64], rows: &[usize], weighs: bool| {
            asked.push(places.to_vec());
            slopes(y, places, rows, weighs)
        };
        let end = walk.run(start(), (0.0, 3.0), &mut recording).unwrap();
        assert!(largest_error(&end) < 1e-4, "{}", largest_error(&end));
        // All but the second evaluation, which looks for the first length of each.
        asked.remove(1);
        assert!(asked.len() > 30 && asked.iter().all(|places| places.len() == 3 && places.iter().all(|p| *p == places[0])));
    }

    #[test]
    fn fixed_steps_are_of_the_methods_order() {
        for (method, order) in [(Method::Euler, 1), (Method::Heun, 2), (Method::Rk3, 3), (Method::Rk4, 4), (Method::Tsit5, 5)] {
            let error = |steps| largest_error(&fixed(method, steps, start(), (0.0, 3.0), &mut slopes).unwrap());
            let found = (error(40) / error(80)).log2();
            assert!((found - f64::from(order)).abs() < 0.25, "{method:?}: {found}");
        }
    }

    #[test]
    fn rows_go_at_their_own_pace_and_meet_the_tolerance_forwards_and_backwards() {
        for method in [Method::Dopri5, Method::Tsit5] {
            for tolerance in [1e-4, 1e-7] {
                let control = Control { rtol: tolerance, atol: tolerance, ..Control::default() };
                let walk = Adaptive { method, control: &control, name: "test", parts: &[0..1, 1..2] };
                let mut asked = Vec::new();
                let mut counting = |y: &Tensor, places: &[f64], rows: &[usize], weighs: bool| {
                    asked.push(rows.len());
                    slopes(y, places, rows, weighs)
                };
                let end = walk.run(start(), (0.0, 3.0), &mut counting).unwrap();
                assert!(largest_error(&end) < 50.0 * 10.0 * tolerance, "{method:?} at {tolerance:e}: {}", largest_error(&end));
                assert!(asked.first() == Some(&3) && asked.last() < Some(&3), "{asked:?}");
                let back = walk.run(end, (3.0, 0.0), &mut slopes).unwrap();
                let difference = (&back - &start()).abs().max_all().item();
                assert!(difference < 50.0 * 200.0 * tolerance, "{method:?} at {tolerance:e}: {difference:e}");
                // A row alone takes the same steps.
                let alone = walk.run(start().slice(0, 1..2), (0.0, 3.0), &mut slopes).unwrap();
                let whole = walk.run(start(), (0.0, 3.0), &mut slopes).unwrap();
                assert_eq!(alone.to_vec::<f64>(), whole.slice(0, 1..2).to_vec::<f64>());
            }
        }
    }
}
