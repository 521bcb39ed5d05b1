//! A chain of normal reverse steps, and each step's term of the variational bound.
//!
//! The reverse step from `t` to `s` is normal with the mean of `q(x_s | x_t, x_0 = x̂₀)` and, for each element, a variance between `β̃` and
//! `β` (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 15):
//!
//! ```text
//! ln Σ = v ln β + (1 − v) ln β̃      β = σ²_{t|s}      β̃ = β σ_s²/σ_t²
//! ```
//!
//! `L_t` is the divergence of that from the true posterior, whose variance is `β̃`. With `ρ = ln Σ − ln β̃ = v ln(σ_t²/σ_s²)` and the
//! signal-to-noise ratio `snr = α²/σ²`, by which the means differ (Kingma et al. 2021, arXiv:2107.00630, section 4),
//!
//! ```text
//! L_t = KL(q(x_s | x_t, x_0) ‖ p(x_s | x_t)) = ½ [ρ − 1 + e^−ρ (1 + (snr_s − snr_t) (x̂₀ − x_0)²)]
//! ```
//!
//! The last step of the chain, from its last level to the data, decodes: `L_t = −ln p(x_0 | x_t)` with mean `x̂₀`. Its bounds are those of
//! Nichol and Dhariwal: `β = σ_t²`, and for `β̃`, which is 0 there, that of the step before. Of data with `K` levels from −1 to 1 (`K = 256` for
//! images of bytes) it is the probability of the bin of `x_0`, of width `2/(K − 1)`, whose outermost ones reach to infinity (Ho et al. 2020,
//! arXiv:2006.11239, eq. 13), of real numbers the density.
//!
//! Times are real numbers: the chain of a time is the one whose levels are shifted by the part of a step that puts one of
//! them there.

use fokker_sde::Sde;

use super::normal;
use crate::error::SolveError;
use crate::grid::GridConfig;
use crate::spacings::CosineAngle;

/// The steps of a chain on one process.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Decreasing: a step leads from each to the next, and the last decodes.
    times: Vec<f64>,
}

/// `L_t` of one step as a function of `v` and the answer's error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Term {
    /// `ln β/β̃` and `snr_s − snr_t`.
    Divergence {
        /// `ln β/β̃`.
        range: f64,
        /// `snr_s − snr_t`.
        gain: f64,
    },
    /// `ln β̃` and `ln β/β̃`.
    Decoder {
        /// `ln β̃`.
        low: f64,
        /// `ln β/β̃`.
        range: f64,
    },
}

impl Chain {
    /// `steps` steps of `sde`, which are equally long in `arctan(σ/α)`, as those of the cosine schedule are; without a number, the steps of
    /// the process where it is a ladder, otherwise 1000.
    ///
    /// # Errors
    /// If there is no such chain on the process.
    pub fn on(sde: &dyn Sde, steps: Option<usize>) -> Result<Chain, SolveError> {
        let times = match (steps, sde.ladder()) {
            (None, Some(ladder)) if ladder.steps() > 1 => ladder.times().into_iter().rev().collect(),
            (steps, _) => {
                let spacing = CosineAngle::default().into();
                GridConfig { steps: steps.unwrap_or(1000), spacing, ..GridConfig::default() }.build(sde)?.times().to_vec()
            }
        };
        Ok(Chain { times })
    }

    /// The times that steps lead from, decreasing: as many as steps, of which the last decodes.
    pub fn times(&self) -> &[f64] {
        &self.times
    }

    /// The place of a time on the chain, in steps from its start: a whole number at its levels.
    pub fn place(&self, t: f64) -> f64 {
        let last = self.times.len() - 1;
        let t = t.clamp(self.times[last], self.times[0]);
        let i = (self.times.partition_point(|&level| level >= t).max(1) - 1).min(last - 1);
        i as f64 + (self.times[i] - t) / (self.times[i] - self.times[i + 1])
    }

    /// The time at a place from 0 to the last level's.
    pub fn time(&self, place: f64) -> f64 {
        let i = (place as usize).min(self.times.len() - 2);
        self.times[i] + (place - i as f64) * (self.times[i + 1] - self.times[i])
    }

    /// The step from a time of the span.
    pub fn term(&self, sde: &dyn Sde, t: f64) -> Term {
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
}

impl Term {
    /// `L_t` of one element in nats, and its derivative by `v`, for the answer `x_0 + error` to data `x_0`; `half_bin` is half the distance
    /// of two levels of discrete data.
    pub fn at(self, v: f64, x_0: f64, error: f64, half_bin: Option<f64>) -> (f64, f64) {
        match self {
            Term::Divergence { range, gain } => {
                let (value, slope) = normal::divergence(v * range, gain * error * error);
                (value, slope * range)
            }
            Term::Decoder { low, range } => {
                let (value, slope) = normal::surprise(x_0, error, low + v * range, half_bin);
                (value, slope * range)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fokker_sde::{Betas, Discrete, Ladder, SdeConfig};

    fn discrete(betas: Betas, steps: usize) -> Discrete {
        Discrete::new(Ladder { steps, betas, ..Ladder::default() }).unwrap()
    }

    #[test]
    fn the_steps_of_a_ladder_are_those_of_the_paper() {
        for sde in
            [discrete(Betas::Linear { first: 1e-4, last: 0.02 }, 1000), discrete(Betas::Cosine { s: 0.008, beta_max: 0.999 }, 40)]
        {
            let chain = Chain::on(&sde, None).unwrap();
            assert_eq!(chain.times.len(), sde.steps());
            let variance = |i: usize| 1.0 - sde.alpha_bar(i);
            // β̃_i.
            let small = |i: usize| sde.beta(i) * variance(i - 1) / variance(i);
            for i in [1, 2, sde.steps() / 2, sde.steps() - 1] {
                let Term::Divergence { range, gain } = chain.term(&sde, sde.time_of_step(i)) else { panic!("step {i} decodes") };
                let expected = (sde.beta(i) / small(i)).ln();
                assert!((range / expected - 1.0).abs() < 1e-9, "step {i}: {range} and {expected}");
                // The factor of (x̂₀ − x_0)²: the square of that of x_0 in the posterior's mean (Ho et al. 2020, eq. 7), by β̃.
                let factor = sde.alpha_bar(i - 1).sqrt() * sde.beta(i) / variance(i);
                let expected = factor * factor / small(i);
                assert!((gain / expected - 1.0).abs() < 1e-9, "step {i}: {gain} and {expected}");
            }
            // The first step back decodes, between β_1 and, clipped, β̃_2 in the paper's count from 1.
            let Term::Decoder { low, range } = chain.term(&sde, sde.time_of_step(0)) else { panic!("the last step decodes") };
            assert!((low - small(1).ln()).abs() < 1e-9 && (low + range - sde.beta(0).ln()).abs() < 1e-9);
        }
    }

    #[test]
    fn every_time_of_every_process_has_a_step_of_the_length_of_those_beside_it() {
        for sde in SdeConfig::all() {
            for steps in [None, Some(2), Some(30)] {
                let chain = Chain::on(&sde, steps).unwrap();
                let expected = steps.or(sde.ladder().map(Discrete::steps)).unwrap_or(1000);
                assert_eq!(chain.times.len(), expected, "{}", sde.name());
                let last = expected - 1;
                for i in 0..=8 {
                    let place = last as f64 * f64::from(i) / 8.0;
                    let t = chain.time(place);
                    assert!((chain.place(t) - place).abs() < 1e-6, "{}: place {place} is {}", sde.name(), chain.place(t));
                    match chain.term(&sde, t) {
                        Term::Divergence { range, gain } => {
                            assert!(place <= last as f64 - 1.0 + 1e-6 && range > 0.0 && gain > 0.0 && gain.is_finite());
                        }
                        // One bound only where the step before comes from pure noise.
                        Term::Decoder { low, range } => {
                            assert!(place > last as f64 - 1.0 - 1e-6 && range >= 0.0 && range.is_finite() && low.is_finite());
                        }
                    }
                }
                // Half a step further is half a step further at both ends.
                if last > 4 && sde.ladder().is_none() {
                    let (t, s) = (chain.time(2.5), chain.time(3.5));
                    let Term::Divergence { range, .. } = chain.term(&sde, t) else { panic!("not the last step") };
                    assert!((range - 2.0 * (sde.sigma(t) / sde.sigma(s)).ln()).abs() < 1e-9 * range.max(1e-3), "{}", sde.name());
                }
            }
        }
    }

    /// `Var(x_0 | x_t)` and the best `v` of a step for data of this variance: `Σ = β̃ + a² Γ`, the variance of the true reverse step.
    fn best(sde: &dyn Sde, variance: f64, t: f64, s: f64) -> (f64, f64) {
        let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
        let given = variance * sigma * sigma / (alpha * alpha * variance + sigma * sigma);
        let beta = sigma * sigma - (alpha / sde.alpha(s) * sde.sigma(s)).powi(2);
        let small = beta * (sde.sigma(s) / sigma).powi(2);
        let of_clean = sde.alpha(s) * beta / (sigma * sigma);
        (given, ((small + of_clean * of_clean * given) / small).ln() / (beta / small).ln())
    }

    #[test]
    fn the_bound_is_least_at_the_variance_of_the_true_reverse_step() {
        // The divergence is linear in the squared error of the mean, so that errors of its standard deviation are as good as all of them.
        for sde in SdeConfig::all() {
            let chain = Chain::on(&sde, Some(8)).unwrap();
            for variance in [0.25, 1.0, 4.0] {
                for place in [1.0, 3.5, 5.0] {
                    let (t, s) = (chain.time(place), chain.time(place + 1.0));
                    let (given, v) = best(&sde, variance, t, s);
                    let term = chain.term(&sde, t);
                    let at = |v: f64| term.at(v, 0.3, given.sqrt(), None);
                    let (value, slope) = at(v);
                    assert!(slope.abs() < 1e-9, "{} at {t}: slope {slope}", sde.name());
                    assert!(value < at(v - 0.01).0 && value < at(v + 0.01).0, "{} at {t}", sde.name());
                    assert!(v > 0.0, "{} at {t}: the variance cannot be below that of one point, v = {v}", sde.name());
                }
            }
        }
        // Decoding into real numbers, Σ = Var(x_0 | x_t).
        let sde = SdeConfig::default();
        let chain = Chain::on(&sde, Some(8)).unwrap();
        let t = sde.span().0;
        let (given, _) = best(&sde, 1.0, t, 0.5 * t);
        let Term::Decoder { low, range } = chain.term(&sde, t) else { panic!("the last step decodes") };
        let (_, slope) = chain.term(&sde, t).at((given.ln() - low) / range, 0.3, given.sqrt(), None);
        assert!(slope.abs() < 1e-9, "{slope}");
    }
}
