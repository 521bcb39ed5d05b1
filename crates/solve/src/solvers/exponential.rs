//! The probability-flow ODE with its linear part solved exactly, and the weights that integrate a polynomial in it.
//!
//! ```text
//! x_s = (S_s/S_t) x_t + S_s ∫_t^s q dμ
//!
//! prediction   q                     S    μ
//! noise        ε̂                     α    σ/α = e^{−λ}        λ = ln(α/σ) = log_snr/2
//! data         x̂₀                    σ    α/σ = e^{λ}
//! velocity     α̇ x̂₀ + σ̇ ε̂            1    t
//! ```
//!
//! All three are the same ODE (Lu et al. 2022a, arXiv:2206.00927, proposition 3.1; Lu et al. 2022b, arXiv:2211.01095,
//! proposition 4.1); a method is what it does about `q`. Here `q` is a polynomial in the place `u` of a [`Variable`] `p`, with
//! `u = 0` at `t` and `u = 1` at `s`, through known values `q_j` at places `u_j`. Its integral is `Σ_j w_j q_j` with
//!
//! ```text
//! Σ_j w_j u_j^k = m_k        m_k = S_s ∫_t^s u^k dμ        k = 0 … n − 1
//! ```
//!
//! which is a Vandermonde system for each step, in `f64`. With `p = λ` the moments are `φ`-functions of the step `h = λ_s − λ_t`:
//! `m_k = α_s h I_k(−h)` for data and `−σ_s h I_k(h)` for noise, `I_k(z) = ∫₀¹ u^k e^{(1−u)z} du = k! φ_{k+1}(z)`.

use fokker_sde::{Quantity, Sde};
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::transition::Velocity;
use crate::combine::{combine, combine_two};
use crate::error::SolveError;
use crate::grid::Grid;

/// What is taken for a polynomial along the trajectory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prediction {
    /// The noise `ε̂`. It says nothing of the data where `α = 0`: no trajectory can start there. Long steps from high noise, as on grids
    /// of two or three, divide its errors by a small `α`: for those use the data.
    Noise,
    /// The clean sample `x̂₀`.
    #[default]
    Data,
    /// The probability-flow velocity `α̇ x̂₀ + σ̇ ε̂`, with no linear part taken out.
    Velocity,
}

/// The variable in which it is a polynomial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variable {
    /// The time `t`.
    T,
    /// The log-SNR.
    #[default]
    LogSnr,
    /// The noise level `σ/α`.
    Sigma,
}

impl Prediction {
    /// The quantity.
    pub(super) fn quantity(self) -> Quantity {
        match self {
            Self::Noise => Quantity::Epsilon,
            Self::Data => Quantity::Sample,
            Self::Velocity => Quantity::Velocity,
        }
    }

    /// `q = state · x_t + sample · x̂₀`.
    pub(super) fn factors(self, sde: &dyn Sde, t: f64) -> (f64, f64) {
        match self {
            Self::Noise => (1.0 / sde.sigma(t), -sde.alpha(t) / sde.sigma(t)),
            Self::Data => (0.0, 1.0),
            Self::Velocity => {
                let velocity = Velocity::at(sde, t);
                (velocity.state, velocity.sample)
            }
        }
    }

    /// `q` for the state `x`, `[B, ...]`, at time `t` from the denoised sample there.
    pub(super) fn answer(self, sde: &dyn Sde, t: f64, x: &Tensor, denoised: Tensor) -> Tensor {
        let (state, sample) = self.factors(sde, t);
        if self == Self::Data { denoised } else { combine(sample, denoised, &[(state, x)]) }
    }

    /// The same `q`, and the state `a x + w_0 q + Σ_j w_j q_j` with the answers before it, in one pass.
    pub(super) fn answer_and_advance(
        self,
        sde: &dyn Sde,
        t: f64,
        x: Tensor,
        denoised: Tensor,
        (a, weights): (f64, &[f64]),
        before: &[(f64, &Tensor)],
    ) -> (Tensor, Tensor) {
        assert_eq!(weights.len(), before.len() + 1, "a weight for each answer");
        let before = weights[1..].iter().zip(before);
        if self == Self::Data {
            let terms: Vec<(f64, &Tensor)> =
                [(weights[0], &denoised)].into_iter().chain(before.map(|(w, (_, q))| (*w, *q))).collect();
            let next = combine(a, x, &terms);
            return (denoised, next);
        }
        let (state, sample) = self.factors(sde, t);
        let terms: Vec<(f64, f64, &Tensor)> = before.map(|(w, (_, q))| (0.0, *w, *q)).collect();
        combine_two(denoised, x, (sample, state), (a, weights[0]), &terms)
    }

    /// Whether a trajectory can start at the grid's first time.
    pub(super) fn check(self, solver: &'static str, sde: &dyn Sde, grid: &Grid) -> Result<(), SolveError> {
        if self == Self::Noise && sde.alpha(grid.first()) == 0.0 {
            return Err(pure_noise(solver, sde, grid.first()));
        }
        Ok(())
    }
}

/// The error of a method that cannot start at pure noise.
pub(super) fn pure_noise(solver: &'static str, sde: &dyn Sde, t: f64) -> SolveError {
    let (t_min, end) = sde.span();
    let reason = format!(
        "it cannot start at pure noise, and sde `{}` has alpha = 0 at t = {t}; use `dpmpp-multistep`, `exponential-adams` or \
         `euler`, or set t_max to {} for example",
        sde.name(),
        t_min.max(0.999 * end)
    );
    SolveError::Unsupported { solver, reason }
}

/// One interval of integration.
pub(super) struct Interval<'a> {
    pub(super) sde: &'a dyn Sde,
    pub(super) prediction: Prediction,
    pub(super) variable: Variable,
    /// Where the state is.
    pub(super) t: f64,
    /// Where it goes; later than `t` where the grid runs from data to noise.
    pub(super) s: f64,
}

/// `λ = ln(α/σ)`, half the log-SNR.
pub(super) fn half_log_snr(sde: &dyn Sde, t: f64) -> f64 {
    0.5 * sde.log_snr(t)
}

impl Interval<'_> {
    /// `h = λ_s − λ_t`; infinite if an end is pure noise.
    pub(super) fn h(&self) -> f64 {
        half_log_snr(self.sde, self.s) - half_log_snr(self.sde, self.t)
    }

    /// `S_s/S_t`.
    pub(super) fn state(&self) -> f64 {
        match self.prediction {
            Prediction::Noise => self.sde.alpha(self.s) / self.sde.alpha(self.t),
            Prediction::Data => self.sde.sigma(self.s) / self.sde.sigma(self.t),
            Prediction::Velocity => 1.0,
        }
    }

    /// `S_s dμ/dλ` at `s` times `h`: what [`moments`](Self::moments) begins with for a short step.
    pub(super) fn derivative_step(&self) -> f64 {
        match self.prediction {
            Prediction::Noise => -self.sde.sigma(self.s) * self.h(),
            Prediction::Data => self.sde.alpha(self.s) * self.h(),
            Prediction::Velocity => self.s - self.t,
        }
    }

    /// The place `u` of a time.
    pub(super) fn place(&self, time: f64) -> f64 {
        let p = |t: f64| self.coordinate(t);
        if time == self.t { 0.0 } else { (p(time) - p(self.t)) / (p(self.s) - p(self.t)) }
    }

    fn coordinate(&self, time: f64) -> f64 {
        match self.variable {
            Variable::T => time,
            Variable::LogSnr => half_log_snr(self.sde, time),
            Variable::Sigma => (-half_log_snr(self.sde, time)).exp(),
        }
    }

    /// Whether only a constant `q` can be integrated: an end is pure noise, and `λ` infinite there.
    pub(super) fn first_order_only(&self) -> bool {
        self.prediction != Prediction::Velocity && !self.h().is_finite()
    }

    /// `m_0 … m_{count − 1}`. Only `m_0` exists where [`first_order_only`](Self::first_order_only).
    pub(super) fn moments(&self, count: usize) -> Vec<f64> {
        let (sde, h) = (self.sde, self.h());
        let scaled = |factor: f64, z: f64| exponential_integrals(z, count).iter().map(|i| factor * h * i).collect::<Vec<_>>();
        if self.first_order_only() {
            assert_eq!(count, 1, "a step from or to pure noise is of first order");
            let (alpha_s, sigma_s) = (sde.alpha(self.s), sde.sigma(self.s));
            return vec![match self.prediction {
                Prediction::Noise => sigma_s - alpha_s * sde.sigma(self.t) / sde.alpha(self.t),
                _ => alpha_s - sigma_s * sde.alpha(self.t) / sde.sigma(self.t),
            }];
        }
        match (self.prediction, self.variable) {
            (Prediction::Data, Variable::LogSnr) => scaled(sde.alpha(self.s), -h),
            (Prediction::Noise, Variable::LogSnr) => scaled(-sde.sigma(self.s), h),
            (Prediction::Noise, Variable::Sigma) => power_moments(-sde.sigma(self.s) * h.exp_m1(), count),
            (Prediction::Velocity, Variable::T) => power_moments(self.s - self.t, count),
            _ => self.quadrature(count),
        }
    }

    /// The moments of noise and data in any variable, by Gauss and Legendre's rule in `λ` on pieces of at most ½.
    fn quadrature(&self, count: usize) -> Vec<f64> {
        let (lambda_t, h) = (half_log_snr(self.sde, self.t), self.h());
        let pieces = (2.0 * h.abs()).ceil().max(1.0);
        let length = h / pieces;
        let mut moments = vec![0.0; count];
        for piece in 0..pieces as usize {
            for (node, weight) in GAUSS_LEGENDRE {
                for sign in [-1.0, 1.0] {
                    let from_t = length * (piece as f64 + 0.5 * (1.0 + sign * node));
                    // S_s dμ/dλ, as a multiple of its value at s.
                    let density = match self.prediction {
                        Prediction::Noise => -self.sde.sigma(self.s) * (h - from_t).exp(),
                        _ => self.sde.alpha(self.s) * (from_t - h).exp(),
                    };
                    let u = self.place(self.sde.time_at_log_snr(2.0 * (lambda_t + from_t)));
                    let mut term = 0.5 * length * weight * density;
                    for moment in &mut moments {
                        *moment += term;
                        term *= u;
                    }
                }
            }
        }
        moments
    }
}

/// Positive nodes and weights of the rule with eight nodes on `[−1, 1]`.
const GAUSS_LEGENDRE: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_48),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
];

/// The moments where `μ` is the variable itself: `m_0/(k + 1)`.
pub(super) fn power_moments(m_0: f64, count: usize) -> Vec<f64> {
    (0..count).map(|k| m_0 / (k + 1) as f64).collect()
}

/// `I_k(z) = ∫₀¹ u^k e^{(1−u)z} du` for `k < count`.
pub(super) fn exponential_integrals(z: f64, count: usize) -> Vec<f64> {
    if z.abs() < 2.0 {
        // Σ_j z^j k!/(k+j+1)!: 30 terms are below the rounding of the first.
        let series = |k: usize| {
            let mut term = 1.0 / (k + 1) as f64;
            (1..30).fold(term, |sum, j| {
                term *= z / (k + j + 1) as f64;
                sum + term
            })
        };
        return (0..count).map(series).collect();
    }
    // By parts, I_k = (k I_{k−1} − 1)/z, which would cancel for small z.
    let mut integrals = vec![z.exp_m1() / z];
    for k in 1..count {
        integrals.push((k as f64 * integrals[k - 1] - 1.0) / z);
    }
    integrals
}

/// The weights `w_j` with `Σ_j w_j u_j^k = m_k`, by elimination with partial pivoting. There are as many moments as places.
pub(super) fn weights(places: &[f64], moments: &[f64]) -> Vec<f64> {
    let n = places.len();
    assert_eq!(n, moments.len(), "as many moments as places");
    let mut rows: Vec<Vec<f64>> = (0..n).map(|k| places.iter().map(|u| u.powi(k as i32)).chain([moments[k]]).collect()).collect();
    for k in 0..n {
        let pivot = (k..n).max_by(|&i, &j| rows[i][k].abs().total_cmp(&rows[j][k].abs())).expect("rows are left");
        rows.swap(k, pivot);
        let (done, rest) = rows.split_at_mut(k + 1);
        for row in rest {
            let factor = row[k] / done[k][k];
            row.iter_mut().zip(&done[k]).skip(k).for_each(|(x, p)| *x -= factor * p);
        }
    }
    let mut solution = vec![0.0; n];
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|j| rows[k][j] * solution[j]).sum();
        solution[k] = (rows[k][n] - known) / rows[k][k];
    }
    solution
}

#[cfg(test)]
mod tests {
    use super::*;
    use fokker_sde::{Edm, VariancePreserving};

    #[test]
    fn exponential_integrals_agree_with_their_closed_forms_on_both_sides_of_the_switch() {
        for z in [-8.0, -2.5, -1.9, -1e-3, 1e-9, 0.7, 1.99, 2.01, 6.0_f64] {
            let found = exponential_integrals(z, 6);
            // Simpson's rule on fine intervals, independently.
            for (k, found) in found.iter().enumerate() {
                let f = |u: f64| u.powi(k as i32) * ((1.0 - u) * z).exp();
                let n = 2000;
                let sum: f64 = (0..n)
                    .map(|i| {
                        let (a, b) = (i as f64 / n as f64, (i + 1) as f64 / n as f64);
                        (f(a) + 4.0 * f(0.5 * (a + b)) + f(b)) / (6.0 * n as f64)
                    })
                    .sum();
                assert!((found - sum).abs() < 1e-11 * sum.abs().max(1e-2), "I_{k}({z}) = {found}, expected {sum}");
            }
        }
    }

    #[test]
    fn the_quadrature_agrees_with_the_closed_forms() {
        let sde = VariancePreserving::default();
        for (prediction, variable) in
            [(Prediction::Data, Variable::LogSnr), (Prediction::Noise, Variable::LogSnr), (Prediction::Noise, Variable::Sigma)]
        {
            for (t, s) in [(0.5, 0.45), (1.0, 0.3), (0.3, 0.9)] {
                let interval = Interval { sde: &sde, prediction, variable, t, s };
                for (a, b) in interval.moments(5).iter().zip(interval.quadrature(5)) {
                    assert!((a - b).abs() < 1e-12 * a.abs(), "{prediction:?} in {variable:?} from {t} to {s}: {a} and {b}");
                }
            }
        }
        // In t on EDM, where t is the noise level.
        let interval =
            |variable| Interval { sde: &Edm::default(), prediction: Prediction::Noise, variable, t: 3.0, s: 1.0 }.moments(4);
        for (a, b) in interval(Variable::T).iter().zip(interval(Variable::Sigma)) {
            assert!((a - b).abs() < 1e-12 * a.abs(), "{a} and {b}");
        }
    }

    #[test]
    fn weights_integrate_polynomials_and_are_adams_and_bashforths_for_equal_steps() {
        let found = weights(&[0.0, -1.0, -2.0, -3.0], &power_moments(24.0, 4));
        for (found, expected) in found.iter().zip([55.0, -59.0, 37.0, -9.0]) {
            assert!((found - expected).abs() < 1e-12, "{found} and {expected}");
        }
        let sde = VariancePreserving::default();
        let interval = Interval { sde: &sde, prediction: Prediction::Data, variable: Variable::LogSnr, t: 0.6, s: 0.5 };
        let (places, moments) = ([0.0, -0.7, -2.1, 1.0], interval.moments(4));
        for (k, moment) in moments.iter().enumerate() {
            let sum: f64 = weights(&places, &moments).iter().zip(places).map(|(w, u)| w * u.powi(k as i32)).sum();
            assert!((sum - moment).abs() < 1e-13, "u^{k}: {sum} and {moment}");
        }
    }
}
