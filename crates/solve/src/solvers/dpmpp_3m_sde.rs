//! With `h = λ_s − λ_t`, `λ = ln(α/σ)`, `H = (1 + η) h`, and `D = x̂₀` now, `D₁`, `D₂` one and two steps ago, `r₀ = h₁/h`,
//! `r₁ = h₂/h`:
//!
//! ```text
//! δ₀ = (D − D₁)/r₀        δ₁ = (D₁ − D₂)/r₁        d₂ = (δ₀ − δ₁)/(r₀ + r₁)        d₁ = δ₀ + r₀ d₂
//! φ₂ = 1 − (1 − e^(−H))/H        φ₃ = φ₂/H − ½
//! x_s = σ_s/σ_t e^(−ηh) x_t + α_s [(1 − e^(−H)) D + φ₂ d₁ − φ₃ d₂] + σ_s √(1 − e^(−2ηh)) z
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

/// DPM-Solver++ (3M) for the SDE, multistep: k-diffusion's `sample_dpmpp_3m_sde` (Crowson 2022), an extension of Lu et al. 2022
/// (arXiv:2211.01095) with `√η` the noise level `λ` of the SDE.
///
/// The first step is [`ExponentialEuler`](super::ExponentialEuler)'s, the second that of [`Dpmpp2mSde`](super::Dpmpp2mSde)
/// (heun). It is of order 2 all the same: the weight `−φ₃` of `d₂`, a divided difference and so half the second derivative, is half
/// of what the integral of a quadratic has ([`SaSolver`](super::SaSolver) has all of it), and the first step is of the first
/// order. For few steps, see there. Weak order 2, strong order 1, 1 evaluation per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dpmpp3mSde {
    /// The square of the noise level `λ`, default 1.
    pub eta: f64,
    /// A factor of the noise added, default 1; any other changes the distribution sampled from.
    pub s_noise: f64,
    /// Where the noise comes from, default independent draws.
    pub noise: NoiseSource,
}

impl Default for Dpmpp3mSde {
    fn default() -> Self {
        Self { eta: 1.0, s_noise: 1.0, noise: NoiseSource::default() }
    }
}

impl Solver for Dpmpp3mSde {
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
        Ok(Box::new(History { solver: self.clone(), before: Vec::new() }))
    }
}

struct History {
    solver: Dpmpp3mSde,
    /// `x̂₀` and length of the last step and the one before, the last first.
    before: Vec<(Tensor, f64)>,
}

impl Stepper for History {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let denoised = cx.denoise(&x, t)?;
        let Dpmpp3mSde { eta, s_noise, noise } = self.solver;
        let (h, alpha) = (half_gain(cx.sde(), t, s), cx.sde().alpha(s));
        let step = Move::exponential(cx.sde(), t, s, eta).with_noise(s_noise).take(cx, (t, s), x, &denoised, (noise, 0));
        let total = (1.0 + eta) * h;
        let phi_2 = 1.0 + (-total).exp_m1() / total;
        let phi_3 = phi_2 / total - 0.5;
        // Steps of infinite length, from α = 0, have r = ∞ and divided differences of 0.
        let step = match &self.before[..] {
            [] => step,
            [(denoised_1, h_1)] => {
                let weight = alpha * phi_2 * (h / h_1);
                combine(1.0, step, &[(weight, &denoised), (-weight, denoised_1)])
            }
            [(denoised_1, h_1), (denoised_2, h_2), ..] => {
                let (r_0, r_1) = (h_1 / h, h_2 / h);
                // r₀/(r₀ + r₁) and 1/(r₀ + r₁), and the weight of δ₀ and −δ₁ that d₁ and d₂ add up to.
                let (part, inverse) = (h_1 / (h_1 + h_2), 1.0 / (r_0 + r_1));
                let curved = phi_2 * part - phi_3 * inverse;
                let (of_0, of_1) = (alpha * (phi_2 + curved) / r_0, alpha * curved / r_1);
                combine(1.0, step, &[(of_0, &denoised), (-of_0 - of_1, denoised_1), (of_1, denoised_2)])
            }
        };
        self.before.insert(0, (denoised, h));
        self.before.truncate(2);
        Ok(step)
    }
}
