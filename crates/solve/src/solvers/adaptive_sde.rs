//! For each sample on its own, with the reverse drift `b(x, t) = −(f x − g² ∇ ln p_t(x))` (per unit of time downwards):
//!
//! ```text
//! x'  = x + h b(x, t) + g_t √h z                     Euler and Maruyama
//! x~  = x + h b(x', t − h) + g_{t−h} √h z
//! x'' = (x' + x~)/2
//! E   = ‖(x' − x'')/δ‖/√D        δ = max(ε_abs, ε_rel max(|x'|, |x'_prev|))    for each number
//! E ≤ 1: x ← x'', x'_prev ← x', t ← t − h
//! h   ← min(t − t_end, θ h E^(−r))
//! ```

use fokker_sde::{Sde, Times};
use fokker_tensor::{Dtype, Element, Tensor};
use serde::{Deserialize, Serialize};

use super::transition::Move;
use crate::combine::combine_each;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::NoiseSource;
use crate::solver::{Context, Family, Kind, Solver, Stepper};

/// "Gotta go fast": Jolicoeur-Martineau et al. 2021 (arXiv:2105.14080), algorithm 1, with steps of their own for each sample.
///
/// It takes steps of its own lengths and only has to meet the times of the grid: for the algorithm as published, use 2 steps with
/// `denoise_last`, so that the grid is one interval. Samples that are done wait for the slowest of the batch, which changes
/// nothing about them. A step from `α = 0`, where the diffusion is infinite, is of the first length, exact for a constant `x̂₀`,
/// and not controlled.
///
/// As published, a rejected step is tried again with fresh noise, which favours small noise slightly; with
/// `noise = "brownian"` it is tried again on the same path. 2 evaluations per attempt. For given steps the method is of weak
/// order 2 and strong order 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaptiveSde {
    /// The relative tolerance `ε_rel`, default 0.01.
    pub rtol: f64,
    /// The absolute tolerance `ε_abs`, default 0.0078: one step of 8-bit pixels in `[−1, 1]`.
    pub atol: f64,
    /// The first step as a part of the time to go, default 0.01: that of the authors, where `T = 1`.
    pub first_step: f64,
    /// The safety factor `θ`, default 0.9.
    pub safety: f64,
    /// The exponent `r` of the step size control, default 0.9.
    pub exponent: f64,
    /// The most attempts for one interval of the grid, default 10 000.
    pub max_attempts: u32,
    /// Where the noise comes from, default independent draws.
    pub noise: NoiseSource,
}

impl Default for AdaptiveSde {
    fn default() -> Self {
        Self {
            rtol: 0.01,
            atol: 0.0078,
            first_step: 0.01,
            safety: 0.9,
            exponent: 0.9,
            max_attempts: 10_000,
            noise: NoiseSource::default(),
        }
    }
}

impl Solver for AdaptiveSde {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        2
    }

    fn strong_order(&self) -> Option<f64> {
        Some(1.0)
    }

    fn family(&self) -> Family {
        Family::Adaptive
    }

    fn kind(&self) -> Kind {
        Kind::Sde
    }

    fn evaluations(&self, _moves: usize) -> Option<usize> {
        None
    }

    fn check(&self) -> Result<(), SolveError> {
        let bad = |field, expected| Err(SolveError::Config { what: "solver", kind: Self::KIND, field, expected });
        for (field, value) in [("rtol", self.rtol), ("atol", self.atol), ("exponent", self.exponent)] {
            if !(value > 0.0 && value.is_finite()) {
                return bad(field, format!("a positive number, found {value}"));
            }
        }
        for (field, value) in [("first_step", self.first_step), ("safety", self.safety)] {
            if !(0.0 < value && value <= 1.0) {
                return bad(field, format!("a number in (0, 1], found {value}"));
            }
        }
        if self.max_attempts == 0 {
            return bad("max_attempts", "at least 1, found 0".to_owned());
        }
        Ok(())
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.noise.check(Self::KIND, sde, grid)?;
        let first = self.first_step * (grid.first() - grid.last());
        Ok(Box::new(Walk { solver: self.clone(), first, proposed: Vec::new(), previous: None }))
    }
}

/// The state between intervals of the grid.
struct Walk {
    solver: AdaptiveSde,
    /// The first step.
    first: f64,
    /// The step that each sample will try next.
    proposed: Vec<f64>,
    /// `x'_prev`.
    previous: Option<Tensor>,
}

impl Stepper for Walk {
    fn step(&mut self, cx: &mut Context<'_>, mut x: Tensor) -> Result<Tensor, SolveError> {
        let batch = x.dim(0);
        self.proposed.resize(batch, self.first);
        let mut previous = self.previous.take().unwrap_or_else(|| x.clone());
        let mut at = vec![cx.t; batch];
        for attempt in 0..self.solver.max_attempts {
            if at.iter().all(|&t| t == cx.s) {
                self.previous = Some(previous);
                return Ok(x);
            }
            let to: Vec<f64> = at.iter().zip(&self.proposed).map(|(&t, &h)| if h < t - cx.s { t - h } else { cx.s }).collect();
            let (first, second) = self.pair(cx, attempt, &x, &at, &to)?;
            let errors = self.errors(&first, &second, &previous);
            let mut accepted = vec![false; batch];
            for i in 0..batch {
                if at[i] == cx.s {
                    continue; // done, and waiting
                }
                let uncontrolled = cx.sde().alpha(at[i]) == 0.0;
                let h = at[i] - to[i];
                if !uncontrolled {
                    self.proposed[i] = self.solver.safety * h * errors[i].powf(-self.solver.exponent);
                }
                accepted[i] = uncontrolled || errors[i] <= 1.0;
                if accepted[i] {
                    at[i] = to[i];
                } else if self.proposed[i].is_nan() || self.proposed[i] <= 1e-12 * at[i] {
                    return Err(self.stuck(format!("its step became {:e} at t = {}", self.proposed[i], at[i])));
                }
            }
            previous = choose(&accepted, &first, previous);
            x = choose(&accepted, &second, x);
        }
        let slowest = at.iter().copied().fold(cx.s, f64::max);
        Err(self.stuck(format!("{} attempts led only to t = {slowest}, not to {}", self.solver.max_attempts, cx.s)))
    }
}

impl Walk {
    /// `x'` and `x''` of every sample for the step from its time in `at` to its time in `to`.
    fn pair(
        &self,
        cx: &mut Context<'_>,
        attempt: u32,
        x: &Tensor,
        at: &[f64],
        to: &[f64],
    ) -> Result<(Tensor, Tensor), SolveError> {
        let times: Vec<(f64, f64)> = at.iter().copied().zip(to.iter().copied()).collect();
        let z = cx.noise_of_attempt(self.solver.noise, attempt, x, &times);
        let denoised = cx.denoise_each(x, &Times::Each(at.to_vec()))?;
        let moves: Vec<Move> = times.iter().map(|&(t, s)| Move::euler_maruyama(cx.sde(), t, s, 1.0)).collect();
        let column = |f: &dyn Fn(&Move) -> f64, moves: &[Move]| moves.iter().map(f).collect::<Vec<f64>>();
        let (state, sample, std) = (column(&|m| m.state, &moves), column(&|m| m.sample, &moves), column(&|m| m.std, &moves));
        let first = combine_each(&state, x.clone(), &[(&sample, &denoised), (&std, &z)]);
        let denoised = cx.denoise_each(&first, &Times::Each(to.to_vec()))?;
        // The same step with drift and diffusion at its end, applied to x': b(x', s) = (state − 1) x' + sample · x̂₀. Half of each.
        let ends: Vec<Move> = times.iter().map(|&(t, s)| Move::euler_maruyama(cx.sde(), s, s - (t - s), 1.0)).collect();
        let moved = |f: &dyn Fn(&Move) -> f64| {
            let half = |(end, &(t, _)): (&Move, &(f64, f64))| if cx.sde().alpha(t) == 0.0 { 0.0 } else { 0.5 * f(end) };
            ends.iter().zip(&times).map(half).collect::<Vec<f64>>()
        };
        let (state, sample, std) = (moved(&|m| m.state - 1.0), moved(&|m| m.sample), moved(&|m| m.std));
        // From α = 0 the first step stands: x'' = x'.
        let half: Vec<f64> = at.iter().map(|&t| if cx.sde().alpha(t) == 0.0 { 0.0 } else { 0.5 }).collect();
        let of_first: Vec<f64> = state.iter().zip(&half).map(|(s, half)| (1.0 - half) + s).collect();
        let second = combine_each(&half, x.clone(), &[(&of_first, &first), (&sample, &denoised), (&std, &z)]);
        Ok((first, second))
    }

    /// `E` of every sample.
    fn errors(&self, first: &Tensor, second: &Tensor, previous: &Tensor) -> Vec<f64> {
        let AdaptiveSde { rtol, atol, .. } = self.solver;
        let size = (&first.abs().maximum(&previous.abs()) * rtol).maximum(&Tensor::scalar(atol, first.dtype()));
        let axes: Vec<usize> = (1..first.rank()).collect();
        (&(first - second) / &size).square().mean_keep(&axes).sqrt().to_vec::<f64>()
    }

    fn stuck(&self, what: String) -> SolveError {
        let AdaptiveSde { rtol, atol, .. } = self.solver;
        let reason =
            format!("{what} with rtol = {rtol} and atol = {atol}; use larger tolerances, a larger t_min, or another solver");
        SolveError::Unsupported { solver: AdaptiveSde::KIND, reason }
    }
}

/// The samples of `new` where `accepted`, of `old` elsewhere.
fn choose(accepted: &[bool], new: &Tensor, old: Tensor) -> Tensor {
    fn copy<T: Element>(accepted: &[bool], new: &Tensor, mut old: Tensor) -> Tensor {
        let each = new.len() / accepted.len().max(1);
        old.update::<T>(|old| {
            for (i, _) in accepted.iter().enumerate().filter(|(_, accepted)| **accepted) {
                old[i * each..(i + 1) * each].copy_from_slice(&new.as_slice::<T>()[i * each..(i + 1) * each]);
            }
        });
        old
    }
    match old.dtype() {
        Dtype::F32 => copy::<f32>(accepted, new, old),
        Dtype::F64 => copy::<f64>(accepted, new, old),
        Dtype::Bf16 => panic!("a state of bf16: states are f32 or f64"),
    }
}
