//! In the clock `v = α²/σ²` the reverse SDE is, for any process, `dq = x̂₀(q, v) dv + dM_v` with `q = α x/σ²` (see
//! [`path`](crate::path)): additive noise of size 1. A step of length `h` with `ΔM` and `ΔZ = ∫ (M − M_t) dv`:
//!
//! ```text
//! heun   H = q + h D₁ + ΔM                           q_s = q + h (D₁ + D₂)/2 + ΔM          D₂ = x̂₀(H, v + h)
//! sra1   H = q + ¾ h D₁ + (3/2) ΔZ/h                 q_s = q + h (D₁ + 2 D₂)/3 + ΔM        D₂ = x̂₀(H, v + ¾h)
//! ```

use fokker_sde::Sde;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::NoiseSource;
use crate::solver::{Context, Kind, Solver, Stepper};

/// The method of [`Srk`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SrkMethod {
    /// Rößler's SRA1, of strong order 1.5.
    #[default]
    Sra1,
    /// The stochastic Heun method, of strong order 1.
    Heun,
}

/// Stochastic Runge–Kutta methods for additive noise: Rößler 2010 (SIAM J. Numer. Anal. 48, 922–952), SRA1;
/// the stochastic Heun method (Rümelin 1982).
///
/// Where the clock starts, `v = 0` at `α = 0`, nothing is special. The clock runs fast towards the data: with few steps, in which
/// `σ/α` falls by more than about 3 each, exponential multistep solvers are better.
///
/// Strong order 1.5 (SRA1) or 1 (Heun) with `noise = "brownian"`, whose areas are those of the path; weak order 2. 2 evaluations
/// per step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Srk {
    /// The method, default SRA1.
    pub method: SrkMethod,
    /// Where the noise comes from, default independent draws.
    pub noise: NoiseSource,
}

impl Solver for Srk {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        2
    }

    fn strong_order(&self) -> Option<f64> {
        match self.method {
            SrkMethod::Sra1 => Some(1.5),
            SrkMethod::Heun => Some(1.0),
        }
    }

    fn kind(&self) -> Kind {
        Kind::Sde
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(2 * moves)
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.noise.check(Self::KIND, sde, grid)?;
        Ok(Box::new(self.clone()))
    }
}

/// Scalars at one time, with which `x = state · q` and `q = x/state`.
#[derive(Clone, Copy)]
struct Clock {
    v: f64,
    /// `σ²/α`; infinite where `v = 0`.
    state: f64,
    t: f64,
}

impl Clock {
    fn at(sde: &dyn Sde, t: f64) -> Self {
        Self { v: sde.log_snr(t).exp(), state: sde.sigma(t).powi(2) / sde.alpha(t), t }
    }
}

impl Stepper for Srk {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let sde = cx.sde();
        let (now, next) = (Clock::at(sde, cx.t), Clock::at(sde, cx.s));
        let h = next.v - now.v;
        let middle = Clock::at(sde, sde.time_at_log_snr((now.v + 0.75 * h).ln()));
        let noise = cx.noise_and_area(self.noise, 0, &x, cx.t, cx.s);
        let denoised = cx.denoise(&x, cx.t)?;
        // ΔM = √h ξ and ΔZ = ½ h^(3/2) (ξ + ζ/√3).
        let root = h.sqrt();
        match self.method {
            SrkMethod::Heun => {
                let terms = [(h, &denoised), (root, &noise.value)];
                let stage = from_q(now, next, x.clone(), &terms);
                let denoised_2 = cx.denoise(&stage, next.t)?;
                Ok(from_q(now, next, x, &[(0.5 * h, &denoised), (0.5 * h, &denoised_2), (root, &noise.value)]))
            }
            SrkMethod::Sra1 => {
                let area = 0.75 * root;
                let terms = [(0.75 * h, &denoised), (area, &noise.value), (area / 3.0_f64.sqrt(), &noise.area)];
                let stage = from_q(now, middle, x.clone(), &terms);
                let denoised_2 = cx.denoise(&stage, middle.t)?;
                Ok(from_q(now, next, x, &[(h / 3.0, &denoised), (2.0 * h / 3.0, &denoised_2), (root, &noise.value)]))
            }
        }
    }
}

/// `x` at the time `to` for `q = q_from + Σ_i c_i y_i`, with `q_from` that of the state `x` at the time `from`.
fn from_q(from: Clock, to: Clock, x: Tensor, terms: &[(f64, &Tensor)]) -> Tensor {
    let terms: Vec<(f64, &Tensor)> = terms.iter().map(|(c, y)| (to.state * c, *y)).collect();
    combine(to.state / from.state, x, &terms)
}
