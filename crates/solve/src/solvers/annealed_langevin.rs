//! With the noise levels `s_i = σ/α` of the times of the grid, at each of them in turn, `T` times:
//!
//! ```text
//! y ← y + ε_i ∇ ln p_i(y) + √(2ε_i) z        y = x/α        ε_i = c s_i²
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::langevin::langevin;
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Context, DRAWS, Kind, Solver, Stepper};

/// Annealed Langevin dynamics alone as a sampler: NCSN (Song & Ermon 2019, arXiv:1907.05600, algorithm 1) and NCSNv2 (Song &
/// Ermon 2020, arXiv:2006.09011, algorithm 1), for any process through its noise level. NCSNv2's final denoising is the
/// grid's `denoise_last`; its geometric levels are a `log-snr` grid.
///
/// NCSN's `ε` and `T` for CIFAR-10, 2·10⁻⁵ at `s_L = 0.01` and 100, are `step = 0.1` (its `α_i/2` is `ε_i` here) and
/// `iterations = 100`. By default `c` follows from NCSNv2's technique 4: such that the variance stays in balance while the level
/// falls by the ratio `γ` of the grid,
///
/// ```text
/// c minimises |(1 − c)^(2T) (γ² − A) + A − 1|        A = 2/(2 − c)
/// ```
///
/// The first step also equilibrates the first level. `T` evaluations per step and `T` more. No grid makes the error vanish for a given `c`: the order stated, 1, is in `c`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnnealedLangevin {
    /// Langevin steps per level `T`, default 5 as in NCSNv2 for CIFAR-10 (232 levels from 50 to 0.01, where its `ε = 6.2·10⁻⁶` is
    /// `c = 0.062`), at most 127.
    pub iterations: u32,
    /// The relative step `c` in (0, 1]; by default from technique 4.
    pub step: Option<f64>,
}

impl Default for AnnealedLangevin {
    fn default() -> Self {
        Self { iterations: 5, step: None }
    }
}

impl Solver for AnnealedLangevin {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        1
    }

    fn kind(&self) -> Kind {
        Kind::Sde
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(if moves == 0 { 0 } else { self.iterations as usize * (moves + 1) })
    }

    fn check(&self) -> Result<(), SolveError> {
        let bad = |field, expected| Err(SolveError::Config { what: "solver", kind: Self::KIND, field, expected });
        if let Some(step) = self.step.filter(|step| !(0.0 < *step && *step <= 1.0)) {
            return bad("step", format!("a number in (0, 1], found {step}"));
        }
        if !(1..DRAWS / 2).contains(&self.iterations) {
            return bad("iterations", format!("1 to {}, found {}", DRAWS / 2 - 1, self.iterations));
        }
        Ok(())
    }

    fn start(&self, _sde: &dyn Sde, _grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        Ok(Box::new(self.clone()))
    }
}

impl Stepper for AnnealedLangevin {
    fn step(&mut self, cx: &mut Context<'_>, mut x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let (alpha_t, alpha_s) = (cx.sde().alpha(t), cx.sde().alpha(s));
        // y keeps its value from level to level. Pure noise has no y: it takes on the scale of the next level.
        let scale = if alpha_t == 0.0 { cx.sde().sigma(s) / cx.sde().sigma(t) } else { alpha_s / alpha_t };
        let ratio = (0.5 * (cx.sde().log_snr(s) - cx.sde().log_snr(t))).exp();
        let c = self.step.unwrap_or_else(|| technique_4(ratio, self.iterations));
        if cx.index() == 0 {
            for iteration in 0..self.iterations {
                x = langevin(cx, x, t, c, self.iterations + iteration)?;
            }
        }
        x = combine(scale, x, &[]);
        for iteration in 0..self.iterations {
            x = langevin(cx, x, s, c, iteration)?;
        }
        Ok(x)
    }
}

/// NCSNv2's `c` for levels with the ratio `γ` and `T` steps at each, among 2000 from 10⁻⁶ to 1 spaced geometrically.
fn technique_4(gamma: f64, iterations: u32) -> f64 {
    let imbalance = |c: f64| {
        let limit = 2.0 / (2.0 - c);
        let left = (1.0 - c).powi(2 * iterations as i32);
        // What is left of an infinite ratio is 0 where nothing is left.
        let before = if left == 0.0 { 0.0 } else { left * (gamma * gamma - limit) };
        (before + limit - 1.0).abs()
    };
    let candidates = (0..=2000).map(|i| 1e-6_f64.powf(1.0 - f64::from(i) / 2000.0));
    candidates.min_by(|a, b| imbalance(*a).total_cmp(&imbalance(*b))).expect("candidates are not none")
}
