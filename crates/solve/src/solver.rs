//! The [`Solver`] and [`Stepper`] traits, and what a stepper sees of the world.

use std::collections::VecDeque;
use std::fmt::Debug;

use fokker_sde::{Cond, Denoiser, Quantity, Reverse, Sde, Times};
use fokker_tensor::noise::Point;
use fokker_tensor::{Noise, Tensor};

use crate::dense::Wanted;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::threshold::Threshold;

/// What a solver integrates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The probability-flow ODE: the same noise gives the same sample at every step count, up to the error of the solver.
    Ode,
    /// A reverse SDE: fresh noise enters at every step.
    Sde,
}

/// How a solver uses the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Every step begins anew.
    OneStep,
    /// A step uses answers of the steps before it.
    Multistep,
    /// Between two times of the grid it makes as many steps as a tolerance asks for.
    Adaptive,
    /// It makes many steps of the grid at once, and again until a tolerance is met.
    Parallel,
}

/// A numerical method that takes a state from noise to data.
///
/// A solver is a plain description; what it remembers along a trajectory lives in the [`Stepper`] it starts.
pub trait Solver: Send + Sync + Debug {
    /// The tag in configuration files and listings.
    fn name(&self) -> &'static str;

    /// The order of convergence in the step size: strong for ODE solvers, weak for SDE solvers. Of multistep methods, once they have
    /// enough answers: their first steps are of lower order, and on grids that do not shorten those steps, so may the whole be.
    fn order(&self) -> u32;

    /// The strong order of convergence of an SDE solver, sample by sample along one Brownian path; `None` for ODE solvers and
    /// where no such path is followed.
    fn strong_order(&self) -> Option<f64> {
        None
    }

    /// Whether the trajectory is deterministic.
    fn kind(&self) -> Kind;

    /// The evaluations of the denoiser for this many moves, a last denoising step not included; `None` if it depends on
    /// the trajectory. This documents the cost: runs count.
    fn evaluations(&self, moves: usize) -> Option<usize>;

    /// How it uses the grid.
    fn family(&self) -> Family {
        Family::OneStep
    }

    /// The quantity along the trajectory that the method takes for constant or polynomial. Any denoiser serves any of them.
    fn quantity(&self) -> Quantity {
        Quantity::Sample
    }

    /// The order of the states between the ends of its steps: an error of the order plus one in the length of a step, besides that of the
    /// ends. `None` if it has no such states. They cost no evaluations; ask for them by [`Trajectory`](crate::Trajectory).
    fn dense_order(&self) -> Option<u32> {
        None
    }

    /// Whether it can start where `α = 0`, as on the whole span of the linear flow.
    fn takes_pure_noise(&self) -> bool {
        true
    }

    /// Whether the numbers of the configuration make sense.
    ///
    /// # Errors
    /// Names the field that does not.
    fn check(&self) -> Result<(), SolveError> {
        Ok(())
    }

    /// Whether the model has what this method needs besides the denoised sample; nothing, by default.
    ///
    /// # Errors
    /// Says what is missing and what to do about it.
    fn check_model(&self, _denoiser: &dyn Denoiser) -> Result<(), SolveError> {
        Ok(())
    }

    /// Begins a trajectory of one batch over `grid`: computes coefficients, forgets any history.
    ///
    /// # Errors
    /// If the solver cannot take this process or grid.
    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError>;
}

/// A solver at work on one batch. Called once per interval of the grid, in order.
pub trait Stepper {
    /// Takes the state `x`, `[B, ...]`, from `cx.t` to `cx.s`.
    ///
    /// # Errors
    /// If the denoiser's answer is not finite.
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError>;
}

/// What a stepper may use during one step: the denoiser, the times, and noise.
pub struct Context<'a> {
    /// The time of the state.
    pub t: f64,
    /// The time to reach.
    pub s: f64,
    pub(crate) denoiser: &'a dyn Denoiser,
    pub(crate) cond: &'a Cond,
    pub(crate) noise: Noise,
    pub(crate) first_sample: u64,
    pub(crate) index: usize,
    pub(crate) total: usize,
    pub(crate) threshold: &'a Threshold,
    /// Whether anybody asks for the last `x̂₀` after the step. If not, its memory is the solver's.
    pub(crate) keep_denoised: bool,
    pub(crate) denoised: Option<Tensor>,
    /// States that observers want between the times of the grid.
    pub(crate) wanted: Wanted,
    /// Brownian paths at the last few times.
    pub(crate) points: VecDeque<(f64, Point)>,
}

/// Draws per step that have keys of their own.
pub(crate) const DRAWS: u32 = 256;

/// The `step` in the key of draw number `draw` of step number `index`: `256 (index + 1) + draw`. Key 0 is the initial state's.
///
/// # Panics
/// If there are more steps than keys, 2²⁴ − 1.
#[track_caller]
pub fn noise_step(index: usize, draw: u32) -> u32 {
    let step = u32::try_from(index + 1).ok().and_then(|step| step.checked_mul(DRAWS));
    step.expect("fewer than 2^24 steps") + draw
}

impl Context<'_> {
    /// The process.
    pub fn sde(&self) -> &dyn Sde {
        self.denoiser.sde()
    }

    /// The number of this step, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// `x̂₀` for the state `x`, `[B, ...]`, at time `t`: one evaluation, thresholded as the sampler was told to, in the
    /// state's type.
    ///
    /// # Errors
    /// If it is not finite.
    pub fn denoise(&mut self, x: &Tensor, t: f64) -> Result<Tensor, SolveError> {
        self.denoise_each(x, &Times::Same(t))
    }

    /// The same with a time for each sample.
    ///
    /// # Errors
    /// If it is not finite.
    pub fn denoise_each(&mut self, x: &Tensor, t: &Times) -> Result<Tensor, SolveError> {
        self.denoise_with(x, t, self.cond)
    }

    /// The same for any rows: row `i` of `x`, `[R, ...]`, is a state of sample `samples[i]` of the batch and has its condition.
    ///
    /// # Errors
    /// If it is not finite.
    ///
    /// # Panics
    /// If there are not as many samples as rows.
    #[track_caller]
    pub fn denoise_rows(&mut self, x: &Tensor, t: &Times, samples: &[usize]) -> Result<Tensor, SolveError> {
        assert_eq!(x.dim(0), samples.len(), "{} samples for {} rows", samples.len(), x.dim(0));
        let cond = Cond { class: self.cond.class.as_ref().map(|labels| samples.iter().map(|&i| labels[i]).collect()) };
        self.denoise_with(x, t, &cond)
    }

    fn denoise_with(&mut self, x: &Tensor, t: &Times, cond: &Cond) -> Result<Tensor, SolveError> {
        let denoised = self.denoiser.denoise(x, t, cond);
        self.accept(denoised.to(x.dtype()), t)
    }

    /// `x̂₀` as [`denoise`](Self::denoise) gives it, and the variance of the step from `t` to `s` if the model has learned one, in the
    /// state's type: one evaluation.
    ///
    /// # Errors
    /// If one of them is not finite.
    pub fn reverse(&mut self, x: &Tensor, t: f64, s: f64) -> Result<Reverse, SolveError> {
        let Reverse { denoised, fraction } = self.denoiser.reverse(x, &t.into(), &s.into(), self.cond);
        let fraction = fraction.map(|v| v.to(x.dtype()));
        if fraction.as_ref().is_some_and(|v| !v.all_finite()) {
            return Err(self.not_finite(t, "the model's variance", "; the model may have diverged in training"));
        }
        Ok(Reverse { denoised: self.accept(denoised.to(x.dtype()), &t.into())?, fraction })
    }

    /// The denoiser's answer at times `t`, thresholded, if it is finite.
    fn accept(&mut self, denoised: Tensor, t: &Times) -> Result<Tensor, SolveError> {
        if !denoised.all_finite() {
            let sample = (0..denoised.dim(0)).find(|&i| !denoised.slice(0, i..i + 1).all_finite()).unwrap_or(0);
            return Err(self.not_finite(t.of(sample), "the denoiser's answer", "; the model may have diverged in training"));
        }
        let denoised = self.threshold.apply(denoised);
        if self.keep_denoised {
            self.denoised = Some(denoised.clone());
        }
        Ok(denoised)
    }

    /// Standard normal noise of the shape and type of `x`, `[B, ...]`, for draw number `draw < 256` of this step. Sample
    /// `i` gets the same numbers in any batch: those of [`Noise::normal`] for step [`noise_step(index, draw)`](noise_step).
    ///
    /// # Panics
    /// If there is no such draw.
    #[track_caller]
    pub fn normal(&self, draw: u32, x: &Tensor) -> Tensor {
        assert!(draw < DRAWS, "a step has draws 0 to {}, asked for {draw}", DRAWS - 1);
        self.noise.normal(x.shape(), self.first_sample, noise_step(self.index, draw), x.dtype())
    }

    pub(crate) fn not_finite(&self, t: f64, what: &'static str, hint: &'static str) -> SolveError {
        SolveError::NotFinite { step: self.index + 1, total: self.total, t, what, hint }
    }
}
