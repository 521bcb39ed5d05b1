//! With `λ = ln(α/σ)`, the step `A` of [`EulerAncestral`](super::EulerAncestral), `λ_d` where it is before its noise is added, and the time `m`
//! halfway there, `λ_m = (λ_t + λ_d)/2`:
//!
//! ```text
//! x_m = σ_m/σ_t x_t + (α_m − α_t σ_m/σ_t) x̂₀(x_t, t)        DDIM
//! x_s = A_{t→s}(x_t, D, z)                                  D = x̂₀(x_m, m)
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::check_noise;
use super::exponential::Prediction;
use super::transition::{Move, half_gain};
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::NoiseSource;
use crate::solver::{Context, Kind, Solver, Stepper};

/// "DPM++ 2S ancestral" of k-diffusion (Crowson 2022, `sample_dpmpp_2s_ancestral`): a step of DPM-Solver++ (2S) (Lu et al. 2022,
/// arXiv:2211.01095, algorithm 1) to below the level aimed at, then noise up to it, for any process.
///
/// Where `α_t = 0` there is no middle in `λ`: it is in `t` then. `η = 0` is [`DpmPpSinglestep`](super::DpmPpSinglestep) of order 2.
///
/// Weak order 2, with independent draws too: the noise added is exactly that between two levels, so that the error is that of the ODE
/// steps. Strong order 1. 2 evaluations per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dpmpp2sAncestral {
    /// How much of the posterior's noise to add, from 0 to 1, default 1. With more, the middle would be below the level aimed at.
    pub eta: f64,
    /// A factor of the noise added, default 1; any other changes the distribution sampled from.
    pub s_noise: f64,
    /// Where the noise comes from, default independent draws.
    pub noise: NoiseSource,
}

impl Default for Dpmpp2sAncestral {
    fn default() -> Self {
        Self { eta: 1.0, s_noise: 1.0, noise: NoiseSource::default() }
    }
}

impl Solver for Dpmpp2sAncestral {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        2
    }

    fn strong_order(&self) -> Option<f64> {
        (self.kind() == Kind::Sde).then_some(1.0)
    }

    fn kind(&self) -> Kind {
        if self.eta == 0.0 { Kind::Ode } else { Kind::Sde }
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(2 * moves)
    }

    fn check(&self) -> Result<(), SolveError> {
        check_ancestral(Self::KIND, self.eta, self.s_noise)
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.noise.check(Self::KIND, sde, grid)?;
        Ok(Box::new(self.clone()))
    }
}

impl Stepper for Dpmpp2sAncestral {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        second_order(cx, x, Prediction::Data, (self.eta, self.s_noise, self.noise))
    }
}

/// Refuses numbers of an ancestral step of second order that make no sense.
pub(super) fn check_ancestral(kind: &'static str, eta: f64, s_noise: f64) -> Result<(), SolveError> {
    if (0.0..=1.0).contains(&eta) {
        return check_noise(kind, s_noise);
    }
    let expected = format!("a number in [0, 1], found {eta}; `euler-ancestral` takes more");
    Err(SolveError::Config { what: "solver", kind, field: "eta", expected })
}

/// A step whose ODE part is of second order in data or noise.
///
/// With the noise at the middle, `ε̂ = (x_m − α_m x̂₀)/σ_m`, for the whole way, the end is that of a constant
/// `D = x̂₀(x_t, t) + e^(λ_m − λ_t) (x̂₀(x_m, m) − x̂₀(x_t, t))`.
pub(super) fn second_order(
    cx: &mut Context<'_>,
    x: Tensor,
    prediction: Prediction,
    (eta, s_noise, noise): (f64, f64, NoiseSource),
) -> Result<Tensor, SolveError> {
    let (t, s) = (cx.t, cx.s);
    let ancestral = Move::ancestral(cx.sde(), t, s, eta);
    let m = halfway(cx.sde(), t, s, ancestral);
    let gain = half_gain(cx.sde(), t, m);
    // From pure noise, where λ is −∞, the noise says nothing of the data.
    let weight = if prediction == Prediction::Noise && gain.is_finite() { gain.exp() } else { 1.0 };
    let denoised_t = cx.denoise(&x, t)?;
    let x_m = Move::exponential(cx.sde(), t, m, 0.0).take(cx, (t, m), x.clone(), &denoised_t, (noise, 0));
    let denoised_m = cx.denoise(&x_m, m)?;
    let denoised = combine(1.0 - weight, denoised_t, &[(weight, &denoised_m)]);
    Ok(ancestral.with_noise(s_noise).take(cx, (t, s), x, &denoised, (noise, 0)))
}

/// The time of the middle, in `λ`, between `t` and the level that the step reaches before its noise.
fn halfway(sde: &dyn Sde, t: f64, s: f64, step: Move) -> f64 {
    let (from, to) = (sde.log_snr(t), sde.log_snr(s));
    if !(from.is_finite() && to.is_finite()) {
        return 0.5 * (t + s);
    }
    let down = if step.std == 0.0 { to } else { -2.0 * (step.state * sde.sigma(t) / sde.alpha(s)).ln() };
    // For η ≤ 1 the middle is not beyond s, but for rounding over very long steps.
    sde.time_at_log_snr((0.5 * (from + down)).clamp(from.min(to), from.max(to)))
}
