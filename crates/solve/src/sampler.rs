//! The [`Sampler`]: a denoiser, a solver and a grid, run from noise to data.

use std::collections::VecDeque;
use std::ops::Range;

use fokker_sde::{Cond, Counted, Counter, Denoiser, Sde, SdeConfig, Under};
use fokker_tensor::{Dtype, Noise, Tensor};
use serde::{Deserialize, Serialize};

use crate::dense::Wanted;
use crate::error::SolveError;
use crate::grid::{Grid, GridConfig};
use crate::observer::{Observer, Step};
use crate::solver::{Context, Kind, Solver};
use crate::solvers::SolverConfig;
use crate::threshold::Threshold;

/// Generated samples and what they cost.
#[derive(Clone, Debug)]
pub struct Samples {
    /// The samples, `[N, ...]` in the type of the state.
    pub x: Tensor,
    /// Evaluations of the model for one batch: the most, if batches differ.
    pub nfe: usize,
    /// Evaluations of the model for all batches together.
    pub evaluations: usize,
}

/// How to sample, as written in configuration files. Fields that are left out take their defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerConfig {
    /// The process to sample under, default the one the model was trained under; see [`Under`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sde: Option<SdeConfig>,
    /// The solver, default DDIM.
    pub solver: SolverConfig,
    /// The time grid.
    pub grid: GridConfig,
    /// Whether and how to keep `x̂₀` in the range of the data, default not.
    pub threshold: Threshold,
    /// The type of the state, default `f32`.
    pub state: StateDtype,
}

/// The element type of the state, `"f32"` or `"f64"` in configuration files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateDtype {
    /// 32 bits.
    #[default]
    F32,
    /// 64 bits, whatever the network computes in.
    F64,
}

impl From<StateDtype> for Dtype {
    fn from(state: StateDtype) -> Dtype {
        match state {
            StateDtype::F32 => Dtype::F32,
            StateDtype::F64 => Dtype::F64,
        }
    }
}

impl SamplerConfig {
    /// The sampler of `denoiser`.
    ///
    /// # Errors
    /// If a number makes no sense or the parts do not go together.
    pub fn build<'a>(&self, denoiser: &'a dyn Denoiser) -> Result<Sampler<'a>, SolveError> {
        let denoiser = self.model(denoiser)?;
        let grid = self.grid.build(denoiser.sde())?;
        Ok(Sampler::new(denoiser, self.solver.clone(), grid)?.threshold(self.threshold.clone())?.state(self.state.into()))
    }

    /// `denoiser` as a model of the process to sample under.
    ///
    /// # Errors
    /// If that process's numbers make no sense.
    pub fn model<'a>(&self, denoiser: &'a dyn Denoiser) -> Result<Box<dyn Denoiser + 'a>, SolveError> {
        let Some(sde) = &self.sde else { return Ok(Box::new(denoiser)) };
        sde.check()?;
        Ok(Box::new(Under::new(denoiser, sde.clone())))
    }
}

/// Runs a solver over a grid, for any number of samples.
///
/// The initial state is the prior `σ(t_0) ε` at the grid's first time. All noise is keyed by (seed, stream, sample index,
/// step), so that sample `i` is the same in any batch: noise exactly, samples to the rounding of the denoiser.
pub struct Sampler<'a> {
    denoiser: Box<dyn Denoiser + 'a>,
    solver: Box<dyn Solver + 'a>,
    grid: Grid,
    threshold: Threshold,
    state: Dtype,
    counter: Option<Counter>,
}

impl<'a> Sampler<'a> {
    /// A sampler with an `f32` state and no thresholding.
    ///
    /// # Errors
    /// If the solver's numbers make no sense, it cannot take the process or the model, or the grid is outside of the span.
    pub fn new(denoiser: impl Denoiser + 'a, solver: impl Solver + 'a, grid: Grid) -> Result<Self, SolveError> {
        solver.check()?;
        solver.check_model(&denoiser)?;
        denoiser.sde().check()?;
        // The grid may have been made for another process.
        let grid = Grid::new(grid.times().to_vec(), grid.denoise_last(), denoiser.sde())?;
        solver.start(denoiser.sde(), &grid)?;
        let (denoiser, solver) = (Box::new(denoiser), Box::new(solver));
        Ok(Self { denoiser, solver, grid, threshold: Threshold::None, state: Dtype::F32, counter: None })
    }

    /// Keeps every `x̂₀` in range.
    ///
    /// # Errors
    /// If its numbers make no sense.
    pub fn threshold(mut self, threshold: Threshold) -> Result<Self, SolveError> {
        threshold.check()?;
        self.threshold = threshold;
        Ok(self)
    }

    /// The type of the state, which may be wider than what the network computes in.
    pub fn state(mut self, state: Dtype) -> Self {
        self.state = state;
        self
    }

    /// Reads the number of evaluations from `counter` instead of counting calls of the denoiser: for denoisers that run
    /// a network more than once per call and count in it themselves ([`Counted`]).
    pub fn counter(mut self, counter: Counter) -> Self {
        self.counter = Some(counter);
        self
    }

    /// The process that is sampled: the denoiser's.
    pub fn sde(&self) -> &dyn Sde {
        self.denoiser.sde()
    }

    /// The time grid.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// The solver.
    pub fn solver(&self) -> &dyn Solver {
        &*self.solver
    }

    /// One batch of `shape` `[B, ...]` from the prior: samples number `first_sample` to `first_sample + B − 1` of `noise`.
    ///
    /// # Errors
    /// If the model's answer or the state is not finite: names the step and the time.
    ///
    /// # Panics
    /// If `cond` is not for `B` samples.
    #[track_caller]
    pub fn sample(
        &self,
        shape: &[usize],
        cond: &Cond,
        noise: Noise,
        first_sample: u64,
        observers: &mut [&mut dyn Observer],
    ) -> Result<Samples, SolveError> {
        let epsilon = noise.normal(shape, first_sample, 0, self.state);
        self.integrate(self.prior(&epsilon), cond, noise, first_sample, observers)
    }

    /// The initial state made of standard normal noise: `σ(t_0) ε` in the type of the state.
    pub fn prior(&self, epsilon: &Tensor) -> Tensor {
        &epsilon.to(self.state) * self.sde().sigma(self.grid.first())
    }

    /// The standard normal noise that an initial state is made of, as of [`encode`](Self::encode): the inverse of [`prior`](Self::prior).
    pub fn epsilon(&self, state: &Tensor) -> Tensor {
        state * (1.0 / self.sde().sigma(self.grid.first()))
    }

    /// `n` samples of `sample_shape` (without the batch axis) in batches of at most `batch`: samples number `first_sample` to
    /// `first_sample + n − 1` of `noise`, whatever `batch` is.
    ///
    /// # Errors
    /// As for [`sample`](Self::sample), and if `batch` is 0.
    ///
    /// # Panics
    /// If `cond` is not for `n` samples.
    #[track_caller]
    #[expect(clippy::too_many_arguments, reason = "each is a different thing, none has a default")]
    pub fn sample_many(
        &self,
        n: usize,
        batch: usize,
        sample_shape: &[usize],
        cond: &Cond,
        noise: Noise,
        first_sample: u64,
        observers: &mut [&mut dyn Observer],
    ) -> Result<Samples, SolveError> {
        assert!(cond.batch().is_none_or(|labels| labels == n), "{:?} labels for {n} samples", cond.batch());
        self.in_batches(n, batch, sample_shape, |rows| {
            let shape = [&[rows.len()], sample_shape].concat();
            self.sample(&shape, &cond.slice(rows.clone()), noise, first_sample + rows.start as u64, observers)
        })
    }

    /// Puts together what `part` makes of each batch's rows.
    ///
    /// # Errors
    /// As `part`, and if `batch` is 0.
    pub fn in_batches(
        &self,
        n: usize,
        batch: usize,
        sample_shape: &[usize],
        mut part: impl FnMut(Range<usize>) -> Result<Samples, SolveError>,
    ) -> Result<Samples, SolveError> {
        if batch == 0 {
            return Err(SolveError::Config {
                what: "sampler",
                kind: self.solver.name(),
                field: "batch",
                expected: "at least 1, found 0".to_owned(),
            });
        }
        let mut parts = Vec::new();
        let (mut nfe, mut evaluations) = (0, 0);
        for start in (0..n).step_by(batch) {
            let part = part(start..n.min(start + batch))?;
            nfe = nfe.max(part.nfe);
            evaluations += part.evaluations;
            parts.push(part.x);
        }
        let x = match parts.len() {
            0 => Tensor::zeros(&[&[0], sample_shape].concat(), self.state),
            1 => parts.remove(0),
            _ => Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0),
        };
        Ok(Samples { x, nfe, evaluations })
    }

    /// Takes a given state `x`, `[B, ...]`, from the grid's first time to its end.
    ///
    /// # Errors
    /// If the model's answer or the state is not finite: names the step and the time.
    ///
    /// # Panics
    /// If `cond` is not for `B` samples.
    #[track_caller]
    pub fn integrate(
        &self,
        x: Tensor,
        cond: &Cond,
        noise: Noise,
        first_sample: u64,
        observers: &mut [&mut dyn Observer],
    ) -> Result<Samples, SolveError> {
        self.counted(&self.grid, x, cond, noise, first_sample, observers)
    }

    /// Takes given data `x`, `[B, ...]`, to the noise it comes from: the grid backwards, from its last time to its first. Without a last
    /// denoising step, [`integrate`](Self::integrate) takes the result back to `x`, up to the errors of the solver both ways.
    ///
    /// `x` is the state at the grid's last time: clean data is that but for the noise of this time, `α ≈ 1` and `σ ≈ 0`.
    /// Costs what the moves cost the other way.
    ///
    /// # Errors
    /// As for [`integrate`](Self::integrate), and if the solver draws noise or the grid has no move.
    ///
    /// # Panics
    /// If `cond` is not for `B` samples.
    #[track_caller]
    pub fn encode(&self, x: Tensor, cond: &Cond, observers: &mut [&mut dyn Observer]) -> Result<Samples, SolveError> {
        if self.solver.kind() == Kind::Sde {
            return Err(SolveError::Unsupported {
                solver: self.solver.name(),
                reason: "it draws noise, and there is no way back through it; encode with a solver of the probability-flow ODE, \
                         `ddim` for example"
                    .to_owned(),
            });
        }
        let grid = self.grid.reversed();
        if grid.moves() == 0 {
            return Err(SolveError::Grid(format!("to encode, at least two times are needed, found one, {}", grid.first())));
        }
        // A solver of the ODE has no use for noise.
        self.counted(&grid, x, cond, Noise::new(0, 0), 0, observers)
    }

    #[track_caller]
    fn counted(
        &self,
        grid: &Grid,
        x: Tensor,
        cond: &Cond,
        noise: Noise,
        first_sample: u64,
        observers: &mut [&mut dyn Observer],
    ) -> Result<Samples, SolveError> {
        assert!(
            cond.batch().is_none_or(|labels| labels == x.dim(0)),
            "{:?} labels for a batch of shape {:?}",
            cond.batch(),
            x.shape()
        );
        let calls = Counter::new();
        let denoiser = Counted::new(&*self.denoiser, calls.clone());
        let counter = self.counter.as_ref().unwrap_or(&calls);
        let before = counter.get();
        let x = self.run(grid, &denoiser, x.to(self.state), cond, noise, first_sample, observers)?;
        let nfe = counter.get() - before;
        Ok(Samples { x, nfe, evaluations: nfe })
    }

    #[expect(clippy::too_many_arguments, reason = "each is a different thing, none has a default")]
    fn run(
        &self,
        grid: &Grid,
        denoiser: &dyn Denoiser,
        mut x: Tensor,
        cond: &Cond,
        noise: Noise,
        first_sample: u64,
        observers: &mut [&mut dyn Observer],
    ) -> Result<Tensor, SolveError> {
        let total = grid.steps();
        let mut stepper = self.solver.start(denoiser.sde(), grid)?;
        let wanted = Wanted::by(observers, &*self.solver, grid, &x)?;
        for observer in observers.iter_mut() {
            observer.start(&x, grid.first(), first_sample);
        }
        let mut context = Context {
            t: grid.first(),
            s: grid.first(),
            denoiser,
            cond,
            noise,
            first_sample,
            index: 0,
            total,
            threshold: &self.threshold,
            keep_denoised: !observers.is_empty(),
            denoised: None,
            wanted,
            points: VecDeque::new(),
        };
        context.wanted.deliver(observers);
        for (index, pair) in grid.times().windows(2).enumerate() {
            (context.index, context.t, context.s) = (index, pair[0], pair[1]);
            x = stepper.step(&mut context, x)?;
            context.wanted.deliver(observers);
            observe(observers, &mut context, &x);
        }
        if grid.denoise_last() {
            (context.index, context.t, context.s) = (total - 1, grid.last(), 0.0);
            x = context.denoise(&x, grid.last())?;
            observe(observers, &mut context, &x);
        }
        // The denoiser's answers were finite, but the last move may still have overflowed.
        if !x.all_finite() {
            return Err(context.not_finite(context.t, "the state", "; use more steps or another solver"));
        }
        Ok(x)
    }
}

/// Tells the observers of the step just made, and forgets its `x̂₀`.
fn observe(observers: &mut [&mut dyn Observer], context: &mut Context<'_>, x: &Tensor) {
    let denoised = context.denoised.take();
    let step = Step {
        index: context.index,
        total: context.total,
        t: context.t,
        s: context.s,
        x,
        denoised: denoised.as_ref(),
        first_sample: context.first_sample,
    };
    for observer in observers {
        observer.step(&step);
    }
}
