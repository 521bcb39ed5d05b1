//! Where the noise of stochastic solvers comes from, and the one Brownian motion behind all of them.
//!
//! # One path for every solver and every grid
//!
//! The reverse SDE of noise level `λ` (Song et al. 2021, arXiv:2011.13456, eq. 6 at `λ = 1`; Karras et al. 2022,
//! arXiv:2206.00364, eq. 6; Xue et al. 2023, arXiv:2309.05019),
//!
//! ```text
//! dx = [f x − (1 + λ²)/2 g² ∇ ln p_t(x)] dt + λ g dw̄        (backwards in t)
//! ```
//!
//! is, for any process, in `y = x/α` and the clock `u = σ²/α²` (for which `g² dt = α² du`)
//!
//! ```text
//! dy = (1 + λ²)/2 (y − x̂₀)/u du + λ dB_u                    (backwards in u)
//! ```
//!
//! with additive noise. For `λ = 1` the linear part goes too: `q = y/u = α x/σ²` in the clock `v = 1/u = α²/σ²`, the
//! signal-to-noise ratio, obeys
//!
//! ```text
//! dq = x̂₀ dv + dM_v        M_v a standard Brownian motion, dM = dB/u
//! ```
//!
//! forwards in `v`: the noisier observation `q_v = v x_0 + M_v` of the data gets better with time. It starts at `v = 0`,
//! where `α = 0`, without singularity, and no coefficient depends on the process. **`M` in the clock `v` is the path that
//! belongs to a sample.** A [`Brownian`] tree keyed by the sample gives it at any times, so that
//! a finer grid, another solver or another batch sees the same path, and solvers converge *strongly*, sample by sample.
//!
//! # What a step asks for
//!
//! A step from `t` to `s` gets `ξ = ΔM/√Δv`, `N(0, 1)`, and, where it wants it, the area `ζ`, `N(0, 1)` and independent:
//! `ΔZ = ∫ (M − M_t) dv = ½ Δv^(3/2) (ξ + ζ/√3)`.
//!
//! - At `λ = 1` the noise of an exponential step, `σ_s²/α_s ΔM`, is exactly its `std · ξ`.
//! - Else it is `λ u_s^((1+λ²)/2) ∫ u^((1−λ²)/2) dM`, whose integrand changes by `O(h)` during a step; `std · ξ` differs from it
//!   by `O(h^(3/2))` of mean 0, which costs a solver of strong order 1 nothing. The same is true of the `√h g z` of Euler
//!   and Maruyama.

use fokker_sde::Sde;
use fokker_tensor::noise::{Brownian, Increment};
use fokker_tensor::{Noise, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Context, noise_step};

/// Where a stochastic solver's noise comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseSource {
    /// Independent draws, keyed by the number of the step: as the papers' algorithms say, and cheap.
    #[default]
    PerStep,
    /// Increments of one Brownian path per sample, whatever the grid: the limit of many steps is the same sample. Costs
    /// 25 pairs of normal numbers per element and time.
    Brownian,
}

impl NoiseSource {
    /// Whether the path reaches to the end of `grid`.
    ///
    /// # Errors
    /// If the signal-to-noise ratio there is above the path's last time.
    pub(crate) fn check(self, solver: &'static str, sde: &dyn Sde, grid: &Grid) -> Result<(), SolveError> {
        let log_snr = sde.log_snr(grid.last());
        if self == Self::PerStep || log_snr <= 64.0 {
            return Ok(());
        }
        let reason = format!(
            "its Brownian path ends at a log-SNR of 64, but sde `{}` has {log_snr} at t = {}; use noise = \"per-step\" or a larger t_min",
            sde.name(),
            grid.last()
        );
        Err(SolveError::Unsupported { solver, reason })
    }
}

impl Context<'_> {
    /// The Brownian path `M` of each sample of `x`, `[B, ...]`, from time `t` to `s ≤ t`. See the [module](self) for its clock. What was
    /// evaluated for the last steps is used again.
    pub fn brownian(&mut self, x: &Tensor, t: f64, s: f64) -> Increment {
        for time in [t, s] {
            if !self.points.iter().any(|(known, _)| *known == time) {
                let log_snr = self.sde().log_snr(time);
                let point = Brownian::new(self.noise).at(x.shape(), self.first_sample, &[log_snr]);
                self.points.push_back((time, point));
            }
        }
        let point = |time: f64| &self.points.iter().find(|(known, _)| *known == time).expect("evaluated above").1;
        let increment = point(t).until(point(s), x.dtype());
        while self.points.len() > 3 {
            self.points.pop_front();
        }
        increment
    }

    /// The same with times of its own for each sample.
    ///
    /// # Panics
    /// If there are not `B` pairs `(t, s)`.
    #[track_caller]
    pub fn brownian_each(&self, x: &Tensor, times: &[(f64, f64)]) -> Increment {
        let sde = self.sde();
        let log_times: Vec<(f64, f64)> = times.iter().map(|&(t, s)| (sde.log_snr(t), sde.log_snr(s))).collect();
        Brownian::new(self.noise).increment(x.shape(), self.first_sample, &log_times, x.dtype())
    }

    /// The standard normal noise `ξ` of a step from `t` to `s`, of the shape and type of `x`, `[B, ...]`: draw number `draw`
    /// of this step, or what the path does between.
    ///
    /// # Panics
    /// If there is no such draw.
    #[track_caller]
    pub fn noise(&mut self, source: NoiseSource, draw: u32, x: &Tensor, t: f64, s: f64) -> Tensor {
        match source {
            NoiseSource::PerStep => self.normal(draw, x),
            NoiseSource::Brownian => self.brownian(x, t, s).value,
        }
    }

    /// The same for step number `index` of the grid whatever the present step is: for solvers that make many at once. It is what
    /// [`noise`](Self::noise) gives as draw 0 of that step.
    #[track_caller]
    pub fn noise_of_step(&mut self, source: NoiseSource, index: usize, x: &Tensor, t: f64, s: f64) -> Tensor {
        match source {
            NoiseSource::PerStep => self.noise.normal(x.shape(), self.first_sample, noise_step(index, 0), x.dtype()),
            NoiseSource::Brownian => self.brownian(x, t, s).value,
        }
    }

    /// The same for attempt number `attempt` of this step, of which there may be any number, with times for each sample.
    #[track_caller]
    pub fn noise_of_attempt(&self, source: NoiseSource, attempt: u32, x: &Tensor, times: &[(f64, f64)]) -> Tensor {
        match source {
            NoiseSource::PerStep => {
                // The keys of a step are too few: a stream for each step.
                let stream = self.noise.stream ^ (self.index as u64 + 1) << 32;
                Noise::new(self.noise.seed, stream).normal(x.shape(), self.first_sample, attempt, x.dtype())
            }
            NoiseSource::Brownian => self.brownian_each(x, times).value,
        }
    }

    /// The noise `ξ` and the area `ζ` of a step from `t` to `s`: draws number `draw` and `draw + 1`, or what the path does.
    ///
    /// # Panics
    /// If there are no such draws.
    #[track_caller]
    pub fn noise_and_area(&mut self, source: NoiseSource, draw: u32, x: &Tensor, t: f64, s: f64) -> Increment {
        match source {
            NoiseSource::PerStep => Increment { value: self.normal(draw, x), area: self.normal(draw + 1, x) },
            NoiseSource::Brownian => self.brownian(x, t, s),
        }
    }
}

/// The noise level `λ` of the family of SDEs between the probability-flow ODE (0) and the reverse SDE (1): all have the
/// same marginals.
///
/// Constant where `from ≤ σ/α ≤ to`, and 0 elsewhere: noise helps most at medium noise levels (Karras et al. 2022,
/// section 4; Xue et al. 2023).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoiseLevel {
    /// `λ` inside of the interval, default 1.
    pub value: f64,
    /// The least `σ/α`, default 0.
    pub from: f64,
    /// The largest `σ/α`, default none.
    pub to: Option<f64>,
}

impl Default for NoiseLevel {
    fn default() -> Self {
        Self { value: 1.0, from: 0.0, to: None }
    }
}

impl From<f64> for NoiseLevel {
    /// The same at all times.
    fn from(value: f64) -> Self {
        Self { value, ..Self::default() }
    }
}

impl NoiseLevel {
    /// `λ(t)`.
    pub fn at(&self, sde: &dyn Sde, t: f64) -> f64 {
        let level = (-0.5 * sde.log_snr(t)).exp();
        let inside = self.from <= level && self.to.is_none_or(|to| level <= to);
        if inside { self.value } else { 0.0 }
    }

    pub(crate) fn check(&self, kind: &'static str) -> Result<(), SolveError> {
        let bad = |field, expected| Err(SolveError::Config { what: "solver", kind, field, expected });
        if !(self.value >= 0.0 && self.value.is_finite()) {
            return bad("noise_level.value", format!("a finite number from 0, found {}", self.value));
        }
        let to = self.to.unwrap_or(f64::INFINITY);
        if !(self.from >= 0.0 && self.from < to) {
            return bad("noise_level.from, to", format!("0 <= from < to, found {} and {to}", self.from));
        }
        Ok(())
    }
}
