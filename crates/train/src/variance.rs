//! The variational bound that learned variances are trained with: Nichol & Dhariwal 2021 (arXiv:2102.09672), section 3.1.
//!
//! On a ladder of `N` steps the reverse step from `t` to `s` is normal with the mean of `q(x_s | x_t, x_0 = x̂₀)` and, for each element,
//! a variance between `β̃` and `β` (eq. 15):
//!
//! ```text
//! ln Σ = v ln β + (1 − v) ln β̃      β = σ²_{t|s}      β̃ = β σ_s²/σ_t²
//! L_hybrid = L_simple + λ L_vlb     L_vlb = N E_t[L_t]                                                (eq. 16)
//! ```
//!
//! `L_t` is the divergence of that from the true posterior, whose variance is `β̃`. With `ρ = ln Σ − ln β̃ = v ln(σ_t²/σ_s²)` and the
//! signal-to-noise ratio `snr = α²/σ²`, by which the means differ (Kingma et al. 2021, arXiv:2107.00630, section 4),
//!
//! ```text
//! L_t = KL(q(x_s | x_t, x_0) ‖ p(x_s | x_t)) = ½ [ρ − 1 + e^−ρ (1 + (snr_s − snr_t) (x̂₀ − x_0)²)]
//! ```
//!
//! The last step of the ladder, from its first level to the data, decodes: `L_t = −ln p(x_0 | x_t)` with mean `x̂₀`. Its bounds are those of
//! the authors: `β = σ_t²`, and for `β̃`, which is 0 there, that of the step before. Of data with `K` levels from −1 to 1 (`K = 256` for
//! images of bytes) it is the probability of the bin of `x_0`, of width `2/(K − 1)`, whose outermost ones reach to infinity (Ho et al. 2020,
//! arXiv:2006.11239, eq. 13), of real numbers the density.
//!
//! All are means over elements in nats; the authors' program counts bits, which makes its `λ` larger by 1/ln 2. The divergence of
//! the prior, which has nothing to learn, is left out. The expectation is over the times of the objective: a bound of the
//! likelihood where they are uniform on the ladder, and otherwise one whose steps have other weights. Only `v` learns from it: `x̂₀` is
//! taken as given (the paper's stop-gradient).
//!
//! Times are real numbers: the ladder of a time is the one whose levels are shifted by the part of a step that puts one of
//! them there.

use fokker_sde::Sde;
use fokker_solve::{CosineAngle, GridConfig};
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// How variances are learned, by models with `model.learned_variance`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VarianceBound {
    /// `λ`, default 0.001.
    pub weight: f64,
    /// The number `N` of steps, which are equally long in `arctan(σ/α)`, as those of the cosine schedule are. Default: the steps of the
    /// process where it is a ladder, otherwise 1000.
    pub steps: Option<usize>,
}

impl Default for VarianceBound {
    fn default() -> Self {
        VarianceBound { weight: 0.001, steps: None }
    }
}

/// The largest ladder that memory is taken for.
const MOST_STEPS: usize = 1 << 20;

impl VarianceBound {
    pub(crate) fn check(&self, origin: &str) -> Result<(), TrainError> {
        if !(self.weight >= 0.0 && self.weight.is_finite()) {
            let problem = format!("`objective.variance.weight`: expected 0 or a number above it, found {}", self.weight);
            return Err(TrainError::config(origin, problem));
        }
        match self.steps {
            Some(n) if !(2..=MOST_STEPS).contains(&n) => {
                let problem = format!("`objective.variance.steps`: expected from 2 to {MOST_STEPS}, found {n}");
                Err(TrainError::config(origin, problem))
            }
            _ => Ok(()),
        }
    }

    /// The bound under `sde`, for data of `levels` levels or of real numbers.
    ///
    /// # Errors
    /// If there is no such ladder on the process.
    pub(crate) fn on(&self, sde: &dyn Sde, levels: Option<usize>) -> Result<Bound, TrainError> {
        let times = match (self.steps, sde.ladder()) {
            (None, Some(ladder)) if ladder.steps() > 1 => ladder.times().into_iter().rev().collect(),
            (steps, _) => {
                let spacing = CosineAngle::default().into();
                GridConfig { steps: steps.unwrap_or(1000), spacing, ..GridConfig::default() }.build(sde)?.times().to_vec()
            }
        };
        let half_bin = levels.map(|levels| 1.0 / (levels - 1) as f64);
        Ok(Bound { weight: self.weight, times, half_bin })
    }
}

/// The bound on one ladder.
#[derive(Debug)]
pub(crate) struct Bound {
    weight: f64,
    /// Decreasing: a step leads from each to the next, and the last decodes.
    times: Vec<f64>,
    half_bin: Option<f64>,
}

/// `L_t` of one step as a function of `v` and the answer's error.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Term {
    /// `ln β/β̃` and `snr_s − snr_t`.
    Divergence { range: f64, gain: f64 },
    /// `ln β̃` and `ln β/β̃`.
    Decoder { low: f64, range: f64 },
}

impl Bound {
    /// The place of a time on the ladder, in steps from its start: a whole number at its levels.
    fn place(&self, t: f64) -> f64 {
        let last = self.times.len() - 1;
        let t = t.clamp(self.times[last], self.times[0]);
        let i = (self.times.partition_point(|&level| level >= t).max(1) - 1).min(last - 1);
        i as f64 + (self.times[i] - t) / (self.times[i] - self.times[i + 1])
    }

    /// The time at a place from 0 to the last level's.
    fn time(&self, place: f64) -> f64 {
        let i = (place as usize).min(self.times.len() - 2);
        self.times[i] + (place - i as f64) * (self.times[i + 1] - self.times[i])
    }

    fn term(&self, sde: &dyn Sde, t: f64) -> Term {
        let place = self.place(t);
        // 1 − snr_t/snr_s of a step from t to s, by which β is short of σ_t² and β̃ of σ_s².
        let share = |t: f64, s: f64| -(sde.log_snr(t) - sde.log_snr(s)).exp_m1();
        if place + 1.0 <= (self.times.len() - 1) as f64 {
            let s = self.time(place + 1.0);
            let range = 2.0 * (sde.sigma(t) / sde.sigma(s)).ln();
            Term::Divergence { range, gain: sde.log_snr(s).exp() * share(t, s) }
        } else {
            let before = self.time((place - 1.0).max(0.0));
            let range = -share(before, t).ln();
            Term::Decoder { low: 2.0 * sde.sigma(t).ln() - range, range }
        }
    }

    /// `λ L_vlb` of a batch as a scalar that only depends on `v`, `[B, ...]`, for clean samples `x_0` and answers `x_0 + error` at
    /// times `t`, all `[B, ...]`.
    pub(crate) fn loss(&self, sde: &dyn Sde, t: &[f64], x_0: &Tensor, error: &Tensor, fraction: &Tensor) -> Tensor {
        let [v, error, x_0] = [fraction, error, x_0].map(|values| values.detach().to_vec::<f64>());
        let size = v.len() / t.len();
        let (mut sum, mut slopes) = (0.0, Vec::with_capacity(v.len()));
        for (b, &t) in t.iter().enumerate() {
            let term = self.term(sde, t);
            for i in b * size..(b + 1) * size {
                let (value, slope) = term.at(v[i], x_0[i], error[i], self.half_bin);
                sum += value;
                slopes.push(slope);
            }
        }
        // The function of v with this value and these derivatives, which is all that is asked of a loss.
        let linear = (fraction * &Tensor::from_f64(fraction.shape(), &slopes, fraction.dtype())).mean_all();
        let constant = sum / v.len() as f64 - linear.detach().item();
        &(&linear + constant) * (self.weight * self.times.len() as f64)
    }
}

impl Term {
    /// `L_t` of one element in nats, and its derivative by `v`.
    fn at(self, v: f64, x_0: f64, error: f64, half_bin: Option<f64>) -> (f64, f64) {
        match self {
            Term::Divergence { range, gain } => {
                let (value, slope) = divergence(v * range, gain * error * error);
                (value, slope * range)
            }
            Term::Decoder { low, range } => {
                let log_variance = low + v * range;
                let (value, slope) = match half_bin {
                    Some(half) => bin(x_0, half, x_0 + error, log_variance),
                    None => density(error, log_variance),
                };
                (value, slope * range)
            }
        }
    }
}

/// `½ [ρ − 1 + e^−ρ (1 + m)]`, and its derivative by `ρ`: the divergence of a Gaussian of `e^ρ` times the variance whose mean is off
/// by `√m` standard deviations.
fn divergence(rho: f64, misfit: f64) -> (f64, f64) {
    let (short, off) = ((-rho).exp_m1(), misfit * (-rho).exp());
    (0.5 * (rho + short + off), -0.5 * (short + off))
}

/// `−ln N(x; x + error, e^l)`, and its derivative by `l`.
fn density(error: f64, log_variance: f64) -> (f64, f64) {
    let square = error * error * (-log_variance).exp();
    (0.5 * (std::f64::consts::TAU.ln() + log_variance + square), 0.5 * (1.0 - square))
}

/// `−ln P(x − half < X < x + half)` for `X ~ N(mean, e^l)`, and its derivative by `l`. The lowest bin, of `x = −1`, has no lower end, the
/// highest no upper one.
fn bin(x: f64, half: f64, mean: f64, log_variance: f64) -> (f64, f64) {
    let std = (0.5 * log_variance).exp();
    let low = if x < half - 1.0 { f64::NEG_INFINITY } else { (x - half - mean) / std };
    let high = if x > 1.0 - half { f64::INFINITY } else { (x + half - mean) / std };
    // In the tail that both ends are nearer to, nothing cancels.
    let (low, high) = if low + high < 0.0 { (-high, -low) } else { (low, high) };
    let log_p = ln_tail(low) + (-(ln_tail(high) - ln_tail(low)).exp()).ln_1p();
    // z φ(z)/P.
    let part = |z: f64| if z.is_finite() { z * (-0.5 * z * z - 0.5 * std::f64::consts::TAU.ln() - log_p).exp() } else { 0.0 };
    (-log_p, 0.5 * (part(high) - part(low)))
}

/// `ln P(Z > z)` for a standard normal `Z`.
fn ln_tail(z: f64) -> f64 {
    if z < 30.0 {
        return (0.5 * libm::erfc(z * std::f64::consts::FRAC_1_SQRT_2)).ln();
    }
    // Mills' ratio (Abramowitz & Stegun 1964, 26.2.12); what is left out is below 1e-11.
    let r = (z * z).recip();
    let series = 1.0 - r * (1.0 - 3.0 * r * (1.0 - 5.0 * r * (1.0 - 7.0 * r)));
    -0.5 * z * z - (z * std::f64::consts::TAU.sqrt()).ln() + series.ln()
}

#[cfg(test)]
mod tests;
