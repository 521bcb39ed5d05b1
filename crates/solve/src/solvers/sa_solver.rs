//! With `λ = ln(α/σ)`, `h = λ_s − λ_t`, the noise level `τ` during the step, and `K = (1 + τ²) h`:
//!
//! ```text
//! predictor  x^p_s = σ_s/σ_t e^(−τ²h) x_t + α_s Σ_j b_j D_j + σ_s √(1 − e^(−2τ²h)) ξ
//! corrector  x_s   = σ_s/σ_t e^(−τ²h) x_t + α_s Σ_j c_j D_j + c α_s D(x^p_s, s) + σ_s √(1 − e^(−2τ²h)) ξ
//! ```
//!
//! with the same `ξ`. The `D_j = x̂₀` are those of the last steps, and the weights `b`, `c` integrate the polynomial through them
//! exactly against `K e^(−K(1−ρ))`.

use std::collections::VecDeque;

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::exponential::{exponential_integrals, weights};
use super::transition::{Move, half_gain};
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::{NoiseLevel, NoiseSource};
use crate::solver::{Context, Family, Kind, Solver, Stepper};

/// SA-Solver, stochastic Adams with data prediction: Xue et al. 2023 (arXiv:2309.05019), algorithm 1.
///
/// The model runs at the predicted state only, and its answer is what later steps remember: 1 evaluation per step, and 1 more at
/// the start if there is a corrector. The first steps have as many nodes as there are; those with `α = 0` are left out.
///
/// Without noise (`τ = 0`) the order is that of the corrector, at most one more than the predictor's and at most 3 (2 without a
/// corrector, or on a process that starts where `α = 0`) because of how it starts. With noise the weak order is 2 at most and the strong order 1, as the paper's convergence
/// theorems have a term `sup τ · h`: more nodes make the deterministic part more accurate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SaSolver {
    /// `τ(t)`, default 1 at all times. The paper's experiments have it inside of an interval of medium noise levels.
    pub noise_level: NoiseLevel,
    /// Nodes of the predictor, 1 to 4, default 3.
    pub predictor: usize,
    /// Nodes of the corrector, the predicted one included, 1 to 4, default 3; 0 for none.
    pub corrector: usize,
    /// Where the noise comes from, default independent draws.
    pub noise: NoiseSource,
}

impl Default for SaSolver {
    fn default() -> Self {
        Self { noise_level: NoiseLevel::default(), predictor: 3, corrector: 3, noise: NoiseSource::default() }
    }
}

impl Solver for SaSolver {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        let deterministic = match self.corrector {
            0 => self.predictor.min(2),
            corrector => corrector.min(self.predictor + 1).min(3),
        };
        let most = if self.kind() == Kind::Ode { 3 } else { 2 };
        deterministic.min(most) as u32
    }

    fn strong_order(&self) -> Option<f64> {
        (self.kind() == Kind::Sde).then_some(1.0)
    }

    fn family(&self) -> Family {
        Family::Multistep
    }

    fn kind(&self) -> Kind {
        if self.noise_level.value == 0.0 { Kind::Ode } else { Kind::Sde }
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(if self.corrector == 0 || moves == 0 { moves } else { moves + 1 })
    }

    fn check(&self) -> Result<(), SolveError> {
        self.noise_level.check(Self::KIND)?;
        let bad = |field, expected| Err(SolveError::Config { what: "solver", kind: Self::KIND, field, expected });
        if !(1..=4).contains(&self.predictor) {
            return bad("predictor", format!("1 to 4, found {}", self.predictor));
        }
        if self.corrector > 4 {
            return bad("corrector", format!("0 to 4, found {}", self.corrector));
        }
        Ok(())
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.noise.check(Self::KIND, sde, grid)?;
        Ok(Box::new(History { solver: self.clone(), nodes: VecDeque::new() }))
    }
}

struct History {
    solver: SaSolver,
    /// Times and answers of the model, the last first.
    nodes: VecDeque<(f64, Tensor)>,
}

impl Stepper for History {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let SaSolver { predictor, corrector, noise, .. } = self.solver;
        if self.nodes.front().is_none_or(|(known, _)| *known != t) {
            let denoised = cx.denoise(&x, t)?;
            self.remember(t, denoised);
        }
        let eta = self.solver.noise_level.at(cx.sde(), t).powi(2);
        let step = Move::exponential(cx.sde(), t, s, eta);
        let stochastic = (step.std != 0.0).then(|| cx.noise(noise, 0, &x, t, s));
        let predicted = self.integrate(cx.sde(), t, s, step, eta, x.clone(), predictor, stochastic.as_ref());
        if corrector == 0 {
            return Ok(predicted);
        }
        let denoised = cx.denoise(&predicted, s)?;
        self.remember(s, denoised);
        Ok(self.integrate(cx.sde(), t, s, step, eta, x, corrector, stochastic.as_ref()))
    }
}

impl History {
    fn remember(&mut self, t: f64, denoised: Tensor) {
        self.nodes.push_front((t, denoised));
        self.nodes.truncate(self.solver.predictor.max(self.solver.corrector).max(1) + 1);
    }

    /// The step with the last `count` nodes.
    #[expect(clippy::too_many_arguments, reason = "the scalars of one equation")]
    fn integrate(
        &self,
        sde: &dyn Sde,
        t: f64,
        s: f64,
        step: Move,
        eta: f64,
        x: Tensor,
        count: usize,
        noise: Option<&Tensor>,
    ) -> Tensor {
        let h = half_gain(sde, t, s);
        // ρ = 0 at t and 1 at s. Where α = 0, λ is −∞: such a node is only used while there is no other.
        let place = |node: f64| {
            if node == t {
                0.0
            } else if node == s {
                1.0
            } else {
                half_gain(sde, t, node) / h
            }
        };
        let known: Vec<(f64, &Tensor)> = self.nodes.iter().map(|(node, d)| (place(*node), d)).collect();
        let finite = |node: f64| sde.log_snr(node).is_finite();
        let usable: Vec<(f64, &Tensor)> =
            known.iter().zip(&self.nodes).filter(|(_, (node, _))| finite(*node)).map(|(pair, _)| *pair).collect();
        let mut chosen = if usable.is_empty() { known } else { usable };
        chosen.truncate(count);
        let places: Vec<f64> = chosen.iter().map(|(place, _)| *place).collect();
        // ∫₀¹ K e^(−K(1−u)) u^k du = K I_k(−K), which is 1 for K = ∞, the step from pure noise.
        let k = (1.0 + eta) * h;
        let moments: Vec<f64> = exponential_integrals(-k, places.len())
            .into_iter()
            .map(|integral| if k.is_finite() { k * integral } else { 1.0 })
            .collect();
        let weights = weights(&places, &moments);
        let alpha = sde.alpha(s);
        let mut terms: Vec<(f64, &Tensor)> = weights.iter().zip(&chosen).map(|(b, (_, d))| (alpha * b, *d)).collect();
        terms.extend(noise.map(|z| (step.std, z)));
        combine(step.state, x, &terms)
    }
}
