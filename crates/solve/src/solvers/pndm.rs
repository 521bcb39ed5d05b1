//! ```text
//! φ(x, ε, t, s) = (α_s/α_t) x + (σ_s − α_s σ_t/α_t) ε                      DDIM's step with a given noise
//! multistep:    x_s = φ(x_t, (55 ε̂_0 − 59 ε̂_1 + 37 ε̂_2 − 9 ε̂_3)/24, t, s)
//! Runge–Kutta:  ε_1 = ε̂(x_t, t)  ε_2 = ε̂(φ(x_t, ε_1, t, m), m)  ε_3 = ε̂(φ(x_t, ε_2, t, m), m)  ε_4 = ε̂(φ(x_t, ε_3, t, s), s)
//!               x_s = φ(x_t, (ε_1 + 2 ε_2 + 2 ε_3 + ε_4)/6, t, s)           m = (t + s)/2
//! improved Euler (PLMS):  ε_2 = ε̂(φ(x_t, ε_1, t, s), s)    x_s = φ(x_t, (ε_1 + ε_2)/2, t, s)
//! ```

use fokker_sde::{Quantity, Sde};
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::adams::History;
use super::exponential::{Interval, Prediction, Variable, power_moments, weights};
use super::stages::{Row, Stage, Stages};
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Context, Family, Kind, Solver, Stepper};

/// The first steps of [`Pndm`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarmUp {
    /// Three pseudo Runge–Kutta steps of four evaluations: F-PNDM.
    #[default]
    RungeKutta,
    /// One pseudo improved Euler step, then multistep formulas with the answers there are: PLMS, the sampler of latent diffusion.
    Plms,
}

/// Pseudo numerical methods: Liu et al. 2022 (arXiv:2202.09778), eq. 11–13 and algorithm 2.
///
/// Of second order on smooth grids, like [`Ipndm`](super::Ipndm) and for its reason. `n` moves cost `n + 9` evaluations (four each for
/// up to three of them), with PLMS `n + 1`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pndm {
    /// The first steps, default Runge–Kutta.
    pub warm_up: WarmUp,
}

impl Solver for Pndm {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        2
    }

    fn kind(&self) -> Kind {
        Kind::Ode
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(match self.warm_up {
            WarmUp::RungeKutta => moves + 3 * moves.min(3),
            WarmUp::Plms => moves + moves.min(1),
        })
    }

    fn family(&self) -> Family {
        Family::Multistep
    }

    fn quantity(&self) -> Quantity {
        Quantity::Epsilon
    }

    fn takes_pure_noise(&self) -> bool {
        false
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        Prediction::Noise.check(Self::KIND, sde, grid)?;
        Ok(Box::new(Walk { warm_up: self.warm_up, history: History::default(), made: 0 }))
    }
}

struct Walk {
    warm_up: WarmUp,
    history: History,
    /// The steps made so far.
    made: usize,
}

impl Stepper for Walk {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        self.made += 1;
        let stages = match self.warm_up {
            WarmUp::RungeKutta if self.made <= 3 => runge_kutta(cx.sde(), t, s),
            WarmUp::Plms if self.made == 1 => improved_euler(cx.sde(), t, s),
            _ => return self.multistep(cx, x),
        };
        let mut answers = stages.answers(cx, &x)?;
        let next = stages.result.apply(x, &answers);
        self.history.push(t, answers.swap_remove(0), 3);
        Ok(next)
    }
}

impl Walk {
    fn multistep(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let denoised = cx.denoise(&x, t)?;
        let older = self.history.newest(3);
        let (state, change) = transfer(cx.sde(), t, s);
        let places: Vec<f64> = (0..=older.len()).map(|j| -(j as f64)).collect();
        let weights = weights(&places, &power_moments(change, places.len()));
        let (q, next) = Prediction::Noise.answer_and_advance(cx.sde(), t, x, denoised, (state, &weights), &older);
        self.history.push(t, q, 3);
        Ok(next)
    }
}

/// The two factors of `φ`.
fn transfer(sde: &dyn Sde, t: f64, s: f64) -> (f64, f64) {
    let interval = Interval { sde, prediction: Prediction::Noise, variable: Variable::Sigma, t, s };
    (interval.state(), interval.moments(1)[0])
}

/// `φ` with the noise that is this combination of the answers so far.
fn row(sde: &dyn Sde, t: f64, s: f64, combination: &[f64]) -> Row {
    let (state, change) = transfer(sde, t, s);
    Row { state, weights: combination.iter().map(|c| c * change).collect() }
}

fn stage(sde: &dyn Sde, time: f64, row: Row) -> Stage {
    Stage { t: time, factors: Prediction::Noise.factors(sde, time), row }
}

fn runge_kutta(sde: &dyn Sde, t: f64, s: f64) -> Stages {
    let middle = 0.5 * (t + s);
    Stages {
        stages: vec![
            stage(sde, t, Row::start()),
            stage(sde, middle, row(sde, t, middle, &[1.0])),
            stage(sde, middle, row(sde, t, middle, &[0.0, 1.0])),
            stage(sde, s, row(sde, t, s, &[0.0, 0.0, 1.0])),
        ],
        result: row(sde, t, s, &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0]),
        error: Vec::new(),
    }
}

fn improved_euler(sde: &dyn Sde, t: f64, s: f64) -> Stages {
    Stages {
        stages: vec![stage(sde, t, Row::start()), stage(sde, s, row(sde, t, s, &[1.0]))],
        result: row(sde, t, s, &[0.5, 0.5]),
        error: Vec::new(),
    }
}
