//! With `λ = ln(α/σ)`, the time `m` at which `λ_m = λ_t + r (λ_s − λ_t)`, and the ancestral step `A` of
//! [`EulerAncestral`](super::EulerAncestral):
//!
//! ```text
//! x_m = A_{t→m}(x_t, x̂₀(x_t, t), z_0)
//! x_s = A_{t→s}(x_t, (1 − 1/(2r)) x̂₀(x_t, t) + 1/(2r) x̂₀(x_m, m), z_1)
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::transition::Move;
use super::{check_from_zero, check_noise};
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::NoiseSource;
use crate::solver::{Context, Kind, Solver, Stepper};

/// DPM-Solver++ (2S) for the reverse SDE, single-step with two stages: Lu et al. 2022 (arXiv:2211.01095), algorithm 1, made
/// stochastic by k-diffusion (Crowson 2022, `sample_dpmpp_sde`).
///
/// Where `α_t = 0` there is no middle in `λ`: it is in `t` then. `η = 0` is the ODE
/// solver DPM-Solver++ (2S), of order 2.
///
/// Weak order 2 with `noise = "brownian"` and `η = 1`: then the noise at the middle is a part of the step's, and its effect on `x̂₀` is
/// correlated with it as it should be. With independent draws the algorithm is of weak order 1. Strong order 1. 2 evaluations
/// per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpmppSde {
    /// How much of the posterior's noise to add, default 1.
    pub eta: f64,
    /// A factor of the noise added, default 1; any other changes the distribution sampled from.
    pub s_noise: f64,
    /// Where between `t` and `s` the second evaluation is, default ½.
    pub r: f64,
    /// Where the noise comes from, default independent draws.
    pub noise: NoiseSource,
}

impl Default for DpmppSde {
    fn default() -> Self {
        Self { eta: 1.0, s_noise: 1.0, r: 0.5, noise: NoiseSource::default() }
    }
}

impl Solver for DpmppSde {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        let correlated = self.noise == NoiseSource::Brownian && self.eta == 1.0;
        if self.eta == 0.0 || correlated { 2 } else { 1 }
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
        check_from_zero(Self::KIND, "eta", self.eta)?;
        check_noise(Self::KIND, self.s_noise)?;
        if 0.0 < self.r && self.r <= 1.0 {
            return Ok(());
        }
        let expected = format!("a number in (0, 1], found {}", self.r);
        Err(SolveError::Config { what: "solver", kind: Self::KIND, field: "r", expected })
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.noise.check(Self::KIND, sde, grid)?;
        Ok(Box::new(self.clone()))
    }
}

impl Stepper for DpmppSde {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let (log_snr_t, log_snr_s) = (cx.sde().log_snr(t), cx.sde().log_snr(s));
        let middle = match log_snr_t {
            f64::NEG_INFINITY => t + self.r * (s - t),
            _ => cx.sde().time_at_log_snr(log_snr_t + self.r * (log_snr_s - log_snr_t)),
        };
        let ancestral = |cx: &Context<'_>, to: f64| Move::ancestral(cx.sde(), t, to, self.eta).with_noise(self.s_noise);
        let denoised_t = cx.denoise(&x, t)?;
        let x_middle = ancestral(cx, middle).take(cx, (t, middle), x.clone(), &denoised_t, (self.noise, 0));
        let denoised_middle = cx.denoise(&x_middle, middle)?;
        let weight = 0.5 / self.r;
        let denoised = combine(1.0 - weight, denoised_t, &[(weight, &denoised_middle)]);
        Ok(ancestral(cx, s).take(cx, (t, s), x, &denoised, (self.noise, 1)))
    }
}
