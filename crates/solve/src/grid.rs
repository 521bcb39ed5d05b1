//! Time grids: the times at which a trajectory is computed.
//!
//! # What a number of steps means
//!
//! A grid of `n` steps makes `n` moves, and with a solver of one evaluation per move costs `n` evaluations.
//!
//! - With `denoise_last` (the default): the first `n − 1` moves go through `n` times from `t_max` to `t_min`, and the last
//!   replaces the state at `t_min` by the denoiser's answer there, so that no noise is left. This is EDM's final step to
//!   σ = 0 (Karras et al. 2022, algorithm 1), DDPM's mean at the last step (Ho et al. 2020, algorithm 2) and Song et al.'s
//!   final denoising step (2021, appendix G), which are the same thing.
//! - Without: `n` moves through `n + 1` times. The samples keep the noise of `t_min`: what to use when the trajectory
//!   itself is wanted (likelihoods, inversion, orders of convergence).

use fokker_sde::Sde;
use serde::{Deserialize, Serialize};

use crate::error::SolveError;
use crate::spacings::Spacing;

/// Decreasing times `t_0 > t_1 > … > t_N` inside a process's span, and whether a last denoising step follows. From data to noise, the
/// times of a [`reversed`](Self::reversed) grid increase.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    times: Vec<f64>,
    denoise_last: bool,
}

impl Grid {
    /// A grid of these times.
    ///
    /// # Errors
    /// If there is no step to make, a time is not finite or outside of the span, or the times do not decrease.
    pub fn new(times: Vec<f64>, denoise_last: bool, sde: &dyn Sde) -> Result<Self, SolveError> {
        if times.len() + usize::from(denoise_last) < 2 {
            return Err(SolveError::Grid(format!(
                "at least one step is needed, found {} times{}",
                times.len(),
                if denoise_last { " before the last denoising step" } else { " and no last denoising step" }
            )));
        }
        let (t_min, t_max) = sde.span();
        for (i, &t) in times.iter().enumerate() {
            if !(t_min..=t_max).contains(&t) {
                return Err(SolveError::Grid(format!(
                    "time {i} is {t}, outside of the span [{t_min}, {t_max}] of sde `{}`",
                    sde.name()
                )));
            }
        }
        for (i, pair) in times.windows(2).enumerate() {
            if pair[0] <= pair[1] {
                return Err(SolveError::Grid(format!(
                    "times must decrease, but time {i} is {} and time {} is {}",
                    pair[0],
                    i + 1,
                    pair[1]
                )));
            }
        }
        Ok(Self { times, denoise_last })
    }

    /// The same times from data to noise, without a last denoising step: what [`Sampler::encode`](crate::Sampler::encode) walks.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { times: self.times.iter().rev().copied().collect(), denoise_last: false }
    }

    /// The times, in the order of the steps.
    pub fn times(&self) -> &[f64] {
        &self.times
    }

    /// Whether the denoiser's answer at the last time is the result.
    pub fn denoise_last(&self) -> bool {
        self.denoise_last
    }

    /// The moves from one time to the next, without the last denoising step.
    pub fn moves(&self) -> usize {
        self.times.len() - 1
    }

    /// The times as text, one a line, each read back to the same bits: what [`List::of_file`](crate::List::of_file) reads.
    pub fn to_text(&self) -> String {
        let head = format!("# times of a grid of {} steps, from noise to data\n", self.steps());
        self.times.iter().fold(head, |text, t| text + &format!("{t:?}\n"))
    }

    /// All steps, the last denoising one included.
    pub fn steps(&self) -> usize {
        self.moves() + usize::from(self.denoise_last)
    }

    /// The time to start at.
    pub fn first(&self) -> f64 {
        self.times[0]
    }

    /// The last time.
    pub fn last(&self) -> f64 {
        self.times[self.times.len() - 1]
    }
}

/// A grid as written in configuration files. Fields that are left out take their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GridConfig {
    /// The number of steps, default 50; see the [module](self) for what it counts. A [`List`](crate::List) has its own number.
    pub steps: usize,
    /// How the times are spaced, default uniform.
    pub spacing: Spacing,
    /// Where to start instead of at the end of the span.
    pub t_max: Option<f64>,
    /// Where to stop instead of at the start of the span.
    pub t_min: Option<f64>,
    /// Whether the last step denoises, default true.
    pub denoise_last: bool,
}

impl Default for GridConfig {
    fn default() -> Self {
        Self { steps: 50, spacing: Spacing::default(), t_max: None, t_min: None, denoise_last: true }
    }
}

impl GridConfig {
    /// The default grid with this many steps.
    pub fn with_steps(steps: usize) -> Self {
        Self { steps, ..Self::default() }
    }

    /// The grid over the span of `sde`, or the part of it between `t_min` and `t_max` where they are given.
    ///
    /// # Errors
    /// If there are no steps, the ends are not inside of the span or not in order, or the spacing cannot serve them
    /// (spacings in the noise level need `α(t_max) > 0`).
    pub fn build(&self, sde: &dyn Sde) -> Result<Grid, SolveError> {
        if self.steps == 0 {
            return Err(SolveError::Config {
                what: "grid",
                kind: self.spacing.name(),
                field: "steps",
                expected: "at least 1, found 0".to_owned(),
            });
        }
        self.spacing.check()?;
        let (low, high) = sde.span();
        let points = if self.denoise_last { self.steps } else { self.steps + 1 };
        if self.spacing.own_ends() {
            for (field, given) in [("t_min", self.t_min), ("t_max", self.t_max)] {
                if let Some(t) = given {
                    let expected = format!("no value, since this spacing has its own ends, found {t}");
                    return Err(SolveError::Config { what: "grid", kind: self.spacing.name(), field, expected });
                }
            }
            return Grid::new(self.spacing.times(sde, high, low, points)?, self.denoise_last, sde);
        }
        let (t_min, t_max) = (self.t_min.unwrap_or(low), self.t_max.unwrap_or(high));
        for (field, t) in [("t_min", t_min), ("t_max", t_max)] {
            if !(low..=high).contains(&t) {
                return Err(SolveError::Config {
                    what: "grid",
                    kind: self.spacing.name(),
                    field,
                    expected: format!("a time in the span [{low}, {high}] of sde `{}`, found {t}", sde.name()),
                });
            }
        }
        if t_min >= t_max {
            return Err(SolveError::Config {
                what: "grid",
                kind: self.spacing.name(),
                field: "t_min, t_max",
                expected: format!("t_min < t_max, found {t_min} and {t_max}"),
            });
        }
        let mut times = if points == 1 { vec![t_max] } else { self.spacing.times(sde, t_max, t_min, points)? };
        // The ends are the ones asked for, not the ones that survive a round trip through the spacing's variable.
        times[0] = t_max;
        if points > 1 {
            times[points - 1] = t_min;
        }
        Grid::new(times, self.denoise_last, sde)
    }
}
