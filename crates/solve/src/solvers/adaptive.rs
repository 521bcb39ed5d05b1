//! Steps as long as a tolerance allows: a one-step method with an estimate `e` of its error, and a controller.
//!
//! ```text
//! E = √(mean of (e/δ)²)        δ = max(atol, rtol max(|x_low|, |x_prev|))        x_low = x_s − e
//! factor = 1 + arctan(safety E_n^{−(p+i+d)/k} E_{n−1}^{(p+2d)/k} E_{n−2}^{−d/k} − 1)      e is of order k in the step
//! ```
//!
//! `x_prev` is the state before the step; for DPM-Solver it is `x_low` of the last accepted step, as in the algorithms of Lu et al. 2022,
//! appendix C (where Jolicoeur-Martineau et al. 2021 have the same), and the initial state at first.
//!
//! A step is accepted if `factor ≥ accept`, which is about `E ≤ 1` with the defaults, and tried again otherwise; the next is `factor` times as long
//! either way (Söderlind 2003, doi:10.1145/641876.641877, for the exponents; Söderlind & Wang 2006,
//! doi:10.1016/j.cam.2005.03.008, for the smooth limit; k-diffusion has the same rule). `p = d = 0` is the rule of Lu et al. 2022
//! (arXiv:2206.00927), appendix C, up to the limit. `E_{n−1}` and `E_{n−2}` are of accepted steps.
//!
//! A pair of the grid's times is an interval to cross: its end is reached exactly, and the length of a step is remembered across it.
//! States that are wanted between come from the accepted steps that go over them, by the method's own continuous extension. A sample that
//! makes its step alone costs one pass over the batch for each of them.
//!
//! Each sample has its own steps, unless the tolerance is for the batch. Samples that have crossed wait at the end while others
//! go on: a batch costs what its slowest sample costs.

use fokker_sde::{Sde, Times};
use fokker_tensor::{Dtype, Element, Tensor};
use serde::{Deserialize, Serialize};

use super::exponential::Variable;
use super::stages::{Row, Stages};
use crate::combine::{combine, combine_each, select};
use crate::dense::goes_over;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Context, Stepper};

/// Whose error a tolerance bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// Each sample's, by steps of its own: a sample does not depend on its batch.
    #[default]
    Sample,
    /// The batch's, by common steps: `E` is over all of its numbers.
    Batch,
}

/// Tolerances and the step controller of the adaptive solvers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// The error of a step relative to the state, default 1e-3. k-diffusion's DPM-Solver has 0.05.
    pub rtol: f64,
    /// The error of a step in data units, default 1e-4. k-diffusion's DPM-Solver has 0.0078, half of an image's 8-bit step.
    pub atol: f64,
    /// Whose error, default each sample's.
    pub per: Per,
    /// The proportional coefficient `p`, default 0.4: with `i = 0.3`, steps grow slowly after errors that were small by chance. k-diffusion
    /// has 0.
    pub p: f64,
    /// The integral coefficient `i`, default 0.3. k-diffusion has 1.
    pub i: f64,
    /// The derivative coefficient `d`, default 0.
    pub d: f64,
    /// How much shorter than the estimate allows the next step is, in `(0, 1]`, default 0.9. k-diffusion has 1.
    pub safety: f64,
    /// The smallest factor at which a step is accepted, in `(0, 1]`, default 0.9. k-diffusion has 0.81.
    pub accept: f64,
    /// The length of the first step in the method's variable (`ln(α/σ)` for DPM-Solver), default a hundredth of the way.
    pub first: Option<f64>,
    /// The most steps of a trajectory, rejected ones included, default 10000.
    pub max_steps: usize,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            rtol: 1e-3,
            atol: 1e-4,
            per: Per::default(),
            p: 0.4,
            i: 0.3,
            d: 0.0,
            safety: 0.9,
            accept: 0.9,
            first: None,
            max_steps: 10_000,
        }
    }
}

impl Control {
    pub(crate) fn check(&self, kind: &'static str) -> Result<(), SolveError> {
        let bad = |field, expected| Err(SolveError::Config { what: "solver", kind, field, expected });
        for (field, value) in [("control.rtol", self.rtol), ("control.atol", self.atol)] {
            if !(value > 0.0 && value.is_finite()) {
                return bad(field, format!("a positive number, found {value}"));
            }
        }
        for (field, value) in [("control.p", self.p), ("control.d", self.d)] {
            if !(0.0..=1.0).contains(&value) {
                return bad(field, format!("a number in [0, 1], found {value}"));
            }
        }
        if !(0.0 < self.i && self.i <= 1.0) {
            return bad("control.i", format!("a number in (0, 1], found {}", self.i));
        }
        for (field, value) in [("control.safety", self.safety), ("control.accept", self.accept)] {
            if !(0.0 < value && value <= 1.0) {
                return bad(field, format!("a number in (0, 1], found {value}"));
            }
        }
        if let Some(first) = self.first
            && !(first > 0.0 && first.is_finite())
        {
            return bad("control.first", format!("a positive number, found {first}"));
        }
        if self.max_steps == 0 {
            return bad("control.max_steps", "at least 1, found 0".to_owned());
        }
        Ok(())
    }
}

impl Control {
    /// Whether `sample` takes its step of error `size`, which is of order `k` in the step; either way, how long its next one is.
    pub(super) fn decide(&self, k: f64, sample: &mut Sample, to: &Try, size: f64) -> bool {
        let Control { p, i: integral, d, safety, accept, .. } = *self;
        // A step that left the range of numbers is a step that was far too long.
        let now = if size.is_finite() { 1.0 / (size + 1e-8) } else { 0.0 };
        let [one, two] = sample.before.unwrap_or([now, now]);
        let raw = now.powf((p + integral + d) / k) * one.powf(-(p + 2.0 * d) / k) * two.powf(d / k);
        let factor = 1.0 + (safety * raw - 1.0).atan();
        let accepted = factor >= accept;
        // A step that the interval cut short says little about longer ones.
        sample.h = if to.cut && accepted { sample.h.max(to.length * factor) } else { to.length * factor };
        if accepted {
            sample.before = Some([now, one]);
            sample.t = to.s;
        }
        accepted
    }
}

/// The error `e` of a number of the state in units of what is allowed for a step to `next` from `before`.
pub(super) fn in_units(rtol: f64, atol: f64, e: f64, next: f64, before: f64) -> f64 {
    e / atol.max(rtol * (next - e).abs().max(before.abs()))
}

/// A one-step method with an error estimate.
pub(super) trait Embedded {
    /// The tag of the solver.
    fn name(&self) -> &'static str;

    /// The step from `t` to `s`, its error estimate included; with weights 0 where `t = s`.
    fn stages(&self, sde: &dyn Sde, t: f64, s: f64) -> Stages;

    /// The variable in which steps are measured.
    fn variable(&self) -> Variable;

    /// The order `k` of the error estimate in the step.
    fn error_order(&self) -> f64;

    /// Whether the last stage is the first of the next step.
    fn first_same_as_last(&self) -> bool;

    /// Whether the errors of a step are measured by the less accurate of the two states that the step before gave, instead of its own.
    fn measures_by_lower(&self) -> bool;

    /// The state at `time` during a step, from the answers of its stages.
    fn between(&self, sde: &dyn Sde, step: (f64, f64), time: f64) -> Row;
}

/// Begins a trajectory.
pub(super) fn start(
    method: impl Embedded + 'static,
    control: &Control,
    sde: &dyn Sde,
    grid: &Grid,
) -> Result<Box<dyn Stepper>, SolveError> {
    let variable = method.variable();
    variable.check(method.name(), sde, grid)?;
    let way = variable.tau(sde, grid.last()) - variable.tau(sde, grid.first());
    let first = control.first.unwrap_or(0.01 * way.abs());
    Ok(Box::new(Walk {
        method: Box::new(method),
        control: control.clone(),
        first,
        samples: Vec::new(),
        slopes: None,
        lower: None,
        tried: 0,
    }))
}

/// Where one sample is.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) t: f64,
    /// The length of its next step in the method's variable.
    h: f64,
    /// `1/E` of its last two accepted steps.
    before: Option<[f64; 2]>,
}

impl Sample {
    /// At `t`, with a first step of length `h`.
    pub(super) fn new(t: f64, h: f64) -> Self {
        Self { t, h, before: None }
    }

    /// The length of its next step.
    pub(super) fn length(&self) -> f64 {
        self.h
    }

    /// Where its next step on the way to `end` ends. It is `from` in the variable of the length, and the end `to`; `time` is the inverse of
    /// the variable.
    pub(super) fn aim(&self, end: f64, (from, to): (f64, f64), time: impl Fn(f64) -> f64) -> Try {
        let left = (to - from).abs();
        if self.t == end {
            return Try { s: end, length: 0.0, cut: true };
        }
        // A rest that is next to nothing is taken along.
        if self.h * (1.0 + 1e-9) >= left {
            return Try { s: end, length: left, cut: self.h > left };
        }
        let s = time(from + self.h * (to - from).signum());
        Try { s: s.clamp(self.t.min(end), self.t.max(end)), length: self.h, cut: false }
    }
}

struct Walk {
    method: Box<dyn Embedded>,
    control: Control,
    first: f64,
    samples: Vec<Sample>,
    /// The first stage of the next step, where it is known.
    slopes: Option<Tensor>,
    /// `x_low` of each sample's last accepted step, where errors are measured by it.
    lower: Option<Tensor>,
    tried: usize,
}

impl Stepper for Walk {
    fn step(&mut self, cx: &mut Context<'_>, mut x: Tensor) -> Result<Tensor, SolveError> {
        if self.samples.is_empty() {
            self.samples = vec![Sample::new(cx.t, self.first); x.dim(0)];
        }
        while self.samples.iter().any(|sample| sample.t != cx.s) {
            if self.tried == self.control.max_steps {
                return Err(self.gives_up(cx));
            }
            self.tried += 1;
            x = self.attempt(cx, x)?;
        }
        Ok(x)
    }
}

/// One sample's try: where it goes, and how long the step is.
pub(super) struct Try {
    pub(super) s: f64,
    length: f64,
    /// Whether the end of the interval made it shorter than wanted.
    cut: bool,
}

impl Walk {
    /// One step of every sample that is not at the end, accepted or not.
    fn attempt(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let tries: Vec<Try> = self.samples.iter().map(|sample| self.aim(cx.sde(), sample, cx.s)).collect();
        let steps: Vec<(f64, f64)> = self.samples.iter().zip(&tries).map(|(from, to)| (from.t, to.s)).collect();
        let stages: Vec<Stages> = steps.iter().map(|&(t, s)| self.method.stages(cx.sde(), t, s)).collect();
        let answers = self.answers(cx, &x, &stages)?;
        let next = apply(&stages, |stages| (stages.result.state, &stages.result.weights), x.clone(), &answers);
        let error = apply(&stages, |stages| (0.0, &stages.error), x.clone(), &answers);
        let moving: Vec<bool> = self.samples.iter().map(|sample| sample.t != cx.s).collect();
        let before = self.lower.take().unwrap_or_else(|| x.clone());
        let sizes = self.sizes(&error, &next, &before, &moving);
        let mut moved = vec![false; tries.len()];
        for (i, to) in tries.iter().enumerate().filter(|(i, _)| moving[*i]) {
            moved[i] = self.decide(i, to, sizes[i]);
        }
        if self.method.measures_by_lower() {
            self.lower = Some(select(&moved, combine(1.0, next.clone(), &[(-1.0, &error)]), &before));
        }
        self.fill(cx, &steps, &moved, (&x, &next), &answers);
        self.slopes = match answers {
            _ if !moved.contains(&true) => answers.into_iter().next(),
            mut answers if self.method.first_same_as_last() => {
                let last = answers.pop().expect("a method has stages");
                Some(select(&moved, last, &answers[0]))
            }
            _ => None,
        };
        Ok(select(&moved, next, &x))
    }

    /// The states that observers want and that accepted steps went over: of each sample on its own step.
    fn fill(
        &self,
        cx: &mut Context<'_>,
        steps: &[(f64, f64)],
        moved: &[bool],
        (x, next): (&Tensor, &Tensor),
        answers: &[Tensor],
    ) {
        let mut wanted = std::mem::take(&mut cx.wanted);
        for (time, state) in wanted.on((cx.t, cx.s)) {
            let over: Vec<bool> = steps.iter().zip(moved).map(|(&step, &moved)| moved && goes_over(step, time)).collect();
            if !over.contains(&true) {
                continue;
            }
            let ends: Vec<bool> = steps.iter().zip(&over).map(|((_, s), &over)| over && *s == time).collect();
            let row = |i: usize| {
                let nothing = Row { state: 0.0, weights: vec![0.0; answers.len()] };
                if over[i] && !ends[i] { self.method.between(cx.sde(), steps[i], time) } else { nothing }
            };
            let rows: Vec<Row> = (0..steps.len()).map(row).collect();
            let inside = apply(&rows, |row| (row.state, &row.weights), x.clone(), answers);
            // At the end of a step the state itself, to the bit.
            let known = select(&ends, next.clone(), &inside);
            *state = Some(match state.take() {
                Some(others) => select(&over, known, &others),
                None => known,
            });
        }
        cx.wanted = wanted;
    }

    /// Where a sample's next step ends.
    fn aim(&self, sde: &dyn Sde, sample: &Sample, end: f64) -> Try {
        let variable = self.method.variable();
        sample.aim(end, (variable.tau(sde, sample.t), variable.tau(sde, end)), |tau| variable.time(sde, tau))
    }

    /// The answers of all stages, each sample at its own times.
    fn answers(&mut self, cx: &mut Context<'_>, x: &Tensor, stages: &[Stages]) -> Result<Vec<Tensor>, SolveError> {
        let mut answers: Vec<Tensor> = self.slopes.take().into_iter().collect();
        for i in answers.len()..stages[0].stages.len() {
            let at_stage = match i {
                0 => x.clone(),
                _ => apply(stages, |all| (all.stages[i].row.state, &all.stages[i].row.weights), x.clone(), &answers),
            };
            let denoised = cx.denoise_each(&at_stage, &times(stages.iter().map(|all| all.stages[i].t).collect()))?;
            let factors = |part: fn((f64, f64)) -> f64| stages.iter().map(|all| part(all.stages[i].factors)).collect::<Vec<_>>();
            answers.push(combine_each(&factors(|f| f.1), denoised, &[(&factors(|f| f.0), &at_stage)]));
        }
        Ok(answers)
    }

    /// `E` of each sample, of which those that do not move have no part in the batch's.
    fn sizes(&self, error: &Tensor, next: &Tensor, before: &Tensor, moving: &[bool]) -> Vec<f64> {
        let squares = match before.dtype() {
            Dtype::F32 => self.mean_squares::<f32>(error, next, before),
            Dtype::F64 => self.mean_squares::<f64>(error, next, before),
            Dtype::Bf16 => panic!("a state of bf16: states are f32 or f64"),
        };
        match self.control.per {
            Per::Sample => squares.iter().map(|square| square.sqrt()).collect(),
            Per::Batch => {
                let counted: Vec<f64> = squares.iter().zip(moving).filter(|(_, moves)| **moves).map(|(s, _)| *s).collect();
                vec![(counted.iter().sum::<f64>() / counted.len() as f64).sqrt(); squares.len()]
            }
        }
    }

    fn mean_squares<T: Element>(&self, error: &Tensor, next: &Tensor, before: &Tensor) -> Vec<f64> {
        let size = (before.len() / before.dim(0).max(1)).max(1);
        let square = |e: f64, next: f64, before: f64| in_units(self.control.rtol, self.control.atol, e, next, before).powi(2);
        let sum = |((e, next), before): ((&[T], &[T]), &[T])| {
            e.iter().zip(next).zip(before).map(|((e, next), before)| square(e.wide(), next.wide(), before.wide())).sum::<f64>()
        };
        let [error, next, before] = [error, next, before].map(|x| x.as_slice::<T>().chunks(size));
        error.zip(next).zip(before).map(|row| sum(row) / size as f64).collect()
    }

    /// Whether sample `i` takes its step of error `size`; either way, how long the next one is.
    fn decide(&mut self, i: usize, to: &Try, size: f64) -> bool {
        self.control.decide(self.method.error_order(), &mut self.samples[i], to, size)
    }

    fn gives_up(&self, cx: &Context<'_>) -> SolveError {
        let slowest = self.samples.iter().find(|sample| sample.t != cx.s).expect("not all are at the end");
        SolveError::TooManySteps { solver: self.method.name(), steps: self.control.max_steps, t: slowest.t, length: slowest.h }
    }
}

/// One row of each sample, applied.
fn apply<'a, S>(of: &'a [S], row: impl Fn(&'a S) -> (f64, &'a Vec<f64>), x: Tensor, answers: &[Tensor]) -> Tensor {
    let rows: Vec<(f64, &Vec<f64>)> = of.iter().map(row).collect();
    let states: Vec<f64> = rows.iter().map(|(state, _)| *state).collect();
    let count = rows.iter().map(|(_, weights)| weights.len()).max().unwrap_or(0);
    let columns: Vec<Vec<f64>> = (0..count).map(|j| rows.iter().map(|(_, weights)| weights[j]).collect()).collect();
    let terms: Vec<(&[f64], &Tensor)> = columns.iter().map(Vec::as_slice).zip(answers).collect();
    combine_each(&states, x, &terms)
}

/// One time if all are the same: models may know a short cut.
fn times(times: Vec<f64>) -> Times {
    if times.windows(2).all(|pair| pair[0] == pair[1]) { Times::Same(times[0]) } else { Times::Each(times) }
}
