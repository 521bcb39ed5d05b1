//! With `h = λ_s − λ_t`, `λ = ln(α/σ)`, `H = (1 + η) h`, and `D = x̂₀` now, `D₁` one step ago, `r = h₁/h`:
//!
//! ```text
//! x_s = σ_s/σ_t e^(−ηh) x_t + α_s (1 − e^(−H)) D + α_s c (D − D₁)/r + σ_s √(1 − e^(−2ηh)) z
//! midpoint: c = ½ (1 − e^(−H))        heun: c = 1 − (1 − e^(−H))/H
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::transition::{Move, half_gain};
use super::{check_from_zero, check_noise};
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::NoiseSource;
use crate::solver::{Context, Family, Kind, Solver, Stepper};

/// The weight of the slope of `x̂₀` in [`Dpmpp2mSde`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlopeWeight {
    /// As if the slope were that at the middle of the step.
    #[default]
    Midpoint,
    /// The exact integral of a slope that does not change.
    Heun,
}

/// SDE-DPM-Solver++ (2M), multistep: Lu et al. 2022 (arXiv:2211.01095), with the `η` of k-diffusion (Crowson 2022,
/// `sample_dpmpp_2m_sde`), where `√η` is the noise level `λ` of the SDE.
///
/// The first step is [`ExponentialEuler`](super::ExponentialEuler)'s, and so are the first two if the first starts where
/// `α = 0`. `η = 0` is the ODE solver DPM-Solver++ (2M). A step that is much longer in `λ` than the one before
/// extrapolates far: with few steps, take a grid in the noise level (`karras`, `log-snr`), not one in `t`. Order 2: weak, as an error of a step's noise that the next step sees
/// through `D − D₁` is the one the step's own correction lacked. Strong order 1. 1 evaluation per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dpmpp2mSde {
    /// The square of the noise level `λ`, default 1.
    pub eta: f64,
    /// A factor of the noise added, default 1; any other changes the distribution sampled from.
    pub s_noise: f64,
    /// The weight of the slope, default midpoint.
    pub slope: SlopeWeight,
    /// Where the noise comes from, default independent draws.
    pub noise: NoiseSource,
}

impl Default for Dpmpp2mSde {
    fn default() -> Self {
        Self { eta: 1.0, s_noise: 1.0, slope: SlopeWeight::default(), noise: NoiseSource::default() }
    }
}

impl Solver for Dpmpp2mSde {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        2
    }

    fn strong_order(&self) -> Option<f64> {
        (self.kind() == Kind::Sde).then_some(1.0)
    }

    fn family(&self) -> Family {
        Family::Multistep
    }

    fn kind(&self) -> Kind {
        if self.eta == 0.0 { Kind::Ode } else { Kind::Sde }
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(moves)
    }

    fn check(&self) -> Result<(), SolveError> {
        check_from_zero(Self::KIND, "eta", self.eta)?;
        check_noise(Self::KIND, self.s_noise)
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.noise.check(Self::KIND, sde, grid)?;
        Ok(Box::new(History { solver: self.clone(), before: None }))
    }
}

struct History {
    solver: Dpmpp2mSde,
    /// The last step's `x̂₀` and length.
    before: Option<(Tensor, f64)>,
}

impl Stepper for History {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let denoised = cx.denoise(&x, t)?;
        let Dpmpp2mSde { eta, s_noise, slope, noise } = self.solver;
        let (h, alpha) = (half_gain(cx.sde(), t, s), cx.sde().alpha(s));
        let step = Move::exponential(cx.sde(), t, s, eta).with_noise(s_noise).take(cx, (t, s), x, &denoised, (noise, 0));
        let before = self.before.replace((denoised.clone(), h));
        let Some((denoised_1, h_1)) = before else { return Ok(step) };
        let total = (1.0 + eta) * h;
        let c = match slope {
            SlopeWeight::Midpoint => -0.5 * (-total).exp_m1(),
            SlopeWeight::Heun => 1.0 + (-total).exp_m1() / total,
        };
        // 0 after a step of infinite length.
        let weight = alpha * c * (h / h_1);
        Ok(combine(1.0, step, &[(weight, &denoised), (-weight, &denoised_1)]))
    }
}
