//! Denoising score matching for any process (Vincent 2011; Song et al. 2021, eq. 7; Karras et al. 2022, eq. 2).
//!
//! ```text
//! L = E_{t, x_0, ε} [ λ(t) |x̂_0(x_t, t) - x_0|² ],   x_t = α x_0 + σ ε
//! ```
//!
//! averaged over elements. With the preconditioning `x̂_0 = c_skip x_t + c_out F` this is `λ c_out² |F - F*|²` for the network's
//! own target `F* = (x_0 - c_skip x_t)/c_out = a x_0 + b ε`; `a` and `b` are computed in `f64`, so nothing cancels at small noise.
//!
//! A model with learned variances adds `λ L_vlb`: see [`VarianceBound`].
//!
//! Times are not drawn independently: sample `i` of a run has the quantile `frac(u + i/φ)` of their distribution, with the golden ratio
//! `φ` and one uniform draw `u` for the run. Any stretch of consecutive samples, such as a batch, then covers the noise levels
//! evenly, which lowers the variance of the loss and its gradient as Kingma et al.'s low-discrepancy sampler does (2021,
//! arXiv:2107.00630, appendix I.1), while a sample's time still follows from its number alone.
//!
//! [Importance sampling](TimeDistribution::Importance) draws times where the likelihood's weight `g² α²/σ⁴` is large, and divides it by their
//! density `p` (Song et al. 2021b, arXiv:2101.09258, section 5):
//!
//! ```text
//! p(t) = (g²/σ²)/Λ      Λ = ∫ g²/σ² dt = ln snr(t_min)/snr(t_max)      E_uniform[λ |x̂_0 − x_0|²] = E_p[λ/(p T) |x̂_0 − x_0|²]
//! ```
//!
//! with `T` the length of the span. `g²/σ²` is the rate at which the log-SNR falls, for every process, so that such times are
//! uniform in the log-SNR and found by its inverse: in closed form for VP, sub-VP and most others, by bisection for the rest. With
//! `weighting = "likelihood"` what is left of the weight is `Λ/T α²/σ²`, that of the noise's error.

use fokker_models::{DiffusionModel, ModelConfig};
use fokker_sde::{Cond, Preconditioning, Sde, Times, diffuse};
use fokker_tensor::{Dtype, Noise, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::variance::{Bound, VarianceBound};

/// Streams of a run's randomness.
pub(crate) mod stream {
    pub(crate) const NOISE: u64 = 0x7261_0001;
    pub(crate) const TIME: u64 = 0x7261_0002;
    pub(crate) const LABEL: u64 = 0x7261_0003;
}

/// Which times a step trains at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TimeDistribution {
    /// Uniform over the process's span.
    Uniform,
    /// `ln(σ/α)` normal (Karras et al. 2022, table 1), limited to the span.
    LogNormal {
        /// Mean of `ln(σ/α)`.
        #[serde(default = "edm_mean")]
        mean: f64,
        /// Its standard deviation.
        #[serde(default = "edm_std")]
        std: f64,
    },
    /// Density proportional to `g²/σ²`, with weights divided by it: the loss is that of uniform times, with less variance where the
    /// weighting is `likelihood` (see [`Objective`]). Not for processes that end in pure noise: set their `t_max` below that.
    Importance,
}

fn edm_mean() -> f64 {
    -1.2
}

fn edm_std() -> f64 {
    1.2
}

/// The factor `λ(t)` of the squared error of `x̂_0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// `α²/σ²`: uniform in the error of the noise (Ho et al. 2020, eq. 14).
    Epsilon,
    /// Uniform in the error of the network's own output: EDM's `λ = 1/c_out²` (Karras et al. 2022, table 1) for its
    /// preconditioning.
    Edm,
    /// `g² α²/σ⁴`: twice the integrand of the likelihood bound (Song et al. 2021b, theorem 1), as an average over the span.
    Likelihood,
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Objective {
    /// Which times.
    pub times: TimeDistribution,
    /// How they are weighted.
    pub weighting: Weighting,
    /// Probability of training a sample without its label, for classifier-free guidance (Ho & Salimans 2022).
    pub label_dropout: f64,
    /// How variances are learned, by models with `model.learned_variance`.
    pub variance: VarianceBound,
}

impl Default for Objective {
    fn default() -> Self {
        Objective {
            times: TimeDistribution::LogNormal { mean: edm_mean(), std: edm_std() },
            weighting: Weighting::Edm,
            label_dropout: 0.0,
            variance: VarianceBound::default(),
        }
    }
}

impl TimeDistribution {
    /// The time below which the share `quantile`, inside of `(0, 1)`, of all times lies.
    fn time(self, sde: &dyn Sde, quantile: f64) -> f64 {
        let (start, end) = sde.span();
        match self {
            TimeDistribution::Uniform => start + (end - start) * quantile,
            TimeDistribution::LogNormal { mean, std } => {
                sde.time_at_log_snr(-2.0 * (mean + std * normal_quantile(quantile))).clamp(start, end)
            }
            TimeDistribution::Importance => {
                let (high, low) = (sde.log_snr(start), sde.log_snr(end));
                sde.time_at_log_snr(high + quantile * (low - high)).clamp(start, end)
            }
        }
    }

    /// What weights are multiplied with: `1/(p T)` where the loss is that of uniform times, 1 where the distribution belongs to the loss.
    fn correction(self, sde: &dyn Sde, t: f64) -> f64 {
        match self {
            TimeDistribution::Uniform | TimeDistribution::LogNormal { .. } => 1.0,
            TimeDistribution::Importance => {
                let (start, end) = sde.span();
                let total = sde.log_snr(start) - sde.log_snr(end);
                total * sde.sigma(t).powi(2) / (sde.diffusion_squared(t) * (end - start))
            }
        }
    }
}

/// `frac(u + i/φ)` for `i = first, first + 1, …`, strictly inside of `(0, 1)`.
fn quantiles(u: f64, first: u64, count: usize) -> Vec<f64> {
    // 2⁶⁴/φ: whole turns drop out of the wrapping product exactly, however large i is.
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let turn = |i: u64| i.wrapping_mul(GOLDEN) as f64 / 2.0f64.powi(64);
    let inside = |q: f64| q.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
    (0..count as u64).map(|k| inside((u + turn(first + k)).fract())).collect()
}

/// `Φ⁻¹(p)` for the distribution function `Φ` of the standard normal distribution, `0 < p < 1`.
fn normal_quantile(p: f64) -> f64 {
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    // Newton's method on ln Φ, which is concave: from below the root it climbs to it without overshooting. The start is below
    // it, since Φ(z) ≤ ½ e^(−z²/2) for z ≤ 0.
    let mut z = -(-2.0 * (2.0 * p).ln()).max(0.0).sqrt();
    for _ in 0..60 {
        let phi = 0.5 * libm::erfc(-z * std::f64::consts::FRAC_1_SQRT_2);
        let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
        let step = (p / phi).ln() * phi / density;
        z += step;
        if step.abs() <= 1e-14 * z.abs() {
            break;
        }
    }
    z
}

/// The noised samples of one step and what the network should put out.
pub(crate) struct Noised {
    pub(crate) x_0: Tensor,
    pub(crate) x_t: Tensor,
    pub(crate) times: Times,
    pub(crate) target: Tensor,
    /// `√(λ c_out²)` per sample, `[B, 1, ...]`.
    pub(crate) root_weight: Tensor,
}

impl Objective {
    pub(crate) fn check(&self, origin: &str) -> Result<(), TrainError> {
        if !(0.0..=1.0).contains(&self.label_dropout) {
            let problem = format!("`objective.label_dropout`: expected a probability, found {}", self.label_dropout);
            return Err(TrainError::config(origin, problem));
        }
        if let TimeDistribution::LogNormal { mean, std } = self.times
            && !(mean.is_finite() && std > 0.0 && std.is_finite())
        {
            let problem = format!("`objective.times`: expected a finite mean and a std above 0, found {mean} and {std}");
            return Err(TrainError::config(origin, problem));
        }
        self.variance.check(origin)
    }

    /// Whether its times are those of this process.
    pub(crate) fn check_times(&self, sde: &dyn Sde, origin: &str) -> Result<(), TrainError> {
        let end = sde.span().1;
        // Where α is below 1e-9 σ there is none, as cos(π/2) is not quite 0.
        if self.times == TimeDistribution::Importance && sde.log_snr(end) < -40.0 {
            let problem = format!(
                "`objective.times`: expected a process with some signal at its end for `importance`, but `{}` is pure noise at t = \
                 {end}: set `model.sde.t_max` below that, or use other times",
                sde.name()
            );
            return Err(TrainError::config(origin, problem));
        }
        Ok(())
    }

    /// The bound that the model's variances are learned by, if it has any, for data of `levels` levels or of real numbers.
    ///
    /// # Errors
    /// If there is no such ladder on the process.
    pub(crate) fn bound(&self, model: &ModelConfig, levels: Option<usize>) -> Result<Option<Bound>, TrainError> {
        model.learned_variance.then(|| self.variance.on(&model.sde, levels)).transpose()
    }

    /// `λ(t)`, divided by the density of times where these are drawn by importance.
    pub fn weight(&self, sde: &dyn Sde, preconditioning: &Preconditioning, t: f64) -> f64 {
        let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
        let weight = match self.weighting {
            Weighting::Epsilon => (alpha / sigma).powi(2),
            Weighting::Edm => preconditioning.coefficients(sde, t).out.powi(-2),
            Weighting::Likelihood => sde.diffusion_squared(t) * (alpha / (sigma * sigma)).powi(2),
        };
        weight * self.times.correction(sde, t)
    }

    /// The noised batch of samples `first, first + 1, …` of a run.
    pub(crate) fn noise(&self, model: &DiffusionModel, x_0: &Tensor, seed: u64, first: u64) -> Noised {
        let (sde, preconditioning) = (&model.config.sde, &model.config.preconditioning);
        let batch = x_0.dim(0);
        let u = Noise::new(seed, stream::TIME).uniform(&[1, 1], 0, 0, Dtype::F64).item();
        let times = Times::Each(quantiles(u, first, batch).into_iter().map(|q| self.times.time(sde, q)).collect());
        let epsilon = Noise::new(seed, stream::NOISE).normal(x_0.shape(), first, 0, x_0.dtype());
        let x_t = diffuse(sde, &times, x_0, &epsilon);
        let target_of = |t: f64| preconditioning.target(sde, t);
        let target =
            &(x_0 * &times.column(x_0, |t| target_of(t).sample)) + &(&epsilon * &times.column(x_0, |t| target_of(t).noise));
        let root_weight =
            times.column(x_0, |t| (self.weight(sde, preconditioning, t)).sqrt() * preconditioning.coefficients(sde, t).out.abs());
        Noised { x_0: x_0.clone(), x_t, times, target, root_weight }
    }

    /// The condition of samples `first, …`: their labels, some of them dropped.
    pub(crate) fn condition(&self, model: &DiffusionModel, labels: Option<&[u32]>, seed: u64, first: u64) -> Cond {
        let (Some(classes), Some(labels)) = (model.config.classes, labels) else { return Cond::NONE };
        let draws = Noise::new(seed, stream::LABEL).uniform(&[labels.len(), 1], first, 0, Dtype::F64).to_vec::<f64>();
        let kept = labels.iter().zip(draws).map(|(&label, u)| if u < self.label_dropout { classes as u32 } else { label });
        Cond::classes(kept.collect())
    }

    /// The loss of a noised batch: a scalar. `bound` is that of a model with learned variances.
    pub(crate) fn loss(model: &DiffusionModel, noised: &Noised, cond: &Cond, bound: Option<&Bound>) -> Tensor {
        let (raw, fraction) = model.raw_and_fraction(&noised.x_t, &noised.times, cond);
        let error = &raw - &noised.target;
        let simple = (&error * &noised.root_weight).square().mean_all();
        let (Some(bound), Some(fraction)) = (bound, fraction) else { return simple };
        // x̂₀ − x_0, through which the bound must not reach the mean.
        let (sde, preconditioning) = (&model.config.sde, &model.config.preconditioning);
        let error = noised.times.scale(&error.detach(), |t| preconditioning.coefficients(sde, t).out);
        &simple + &bound.loss(sde, noised.times.values(), &noised.x_0, &error, &fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fokker_models::{MlpConfig, NetworkConfig};
    use fokker_sde::{Denoiser, SdeConfig};

    fn model(sde: SdeConfig, preconditioning: Preconditioning) -> DiffusionModel {
        let network = NetworkConfig::Mlp(MlpConfig { hidden: 8, blocks: 1, embedding: 4, ..MlpConfig::default() });
        let config = ModelConfig { sample_shape: vec![3], classes: None, sde, preconditioning, learned_variance: false, network };
        let mut model = DiffusionModel::new(config, 1, Dtype::F64).unwrap();
        // Output layers start at zero: anything else makes the test say more.
        for (i, t) in fokker_nn::Module::tensors_mut(&mut model).into_iter().enumerate() {
            *t = &*t + &(&Noise::new(9, i as u64).normal(&[1, t.len()], 0, 0, Dtype::F64).reshape(t.shape()) * 0.3);
        }
        model
    }

    #[test]
    fn the_loss_is_the_weighted_squared_error_of_the_denoised_sample() {
        let x_0 = Noise::new(4, 4).normal(&[64, 3], 0, 0, Dtype::F64);
        for sde in SdeConfig::all() {
            for preconditioning in Preconditioning::all() {
                if preconditioning.check(&sde).is_err() {
                    continue;
                }
                for weighting in [Weighting::Epsilon, Weighting::Edm, Weighting::Likelihood] {
                    let objective = Objective { weighting, ..Objective::default() };
                    let model = model(sde.clone(), preconditioning.clone());
                    let noised = objective.noise(&model, &x_0, 7, 0);
                    let loss = Objective::loss(&model, &noised, &Cond::NONE, None).item();
                    let denoised = model.denoise(&noised.x_t, &noised.times, &Cond::NONE);
                    let weight = noised.times.column(&x_0, |t| objective.weight(&sde, &preconditioning, t));
                    let direct = (&(&denoised - &x_0).square() * &weight).mean_all().item();
                    let close = (loss - direct).abs() <= 1e-6 * direct.abs();
                    assert!(close, "{} {} {weighting:?}: {loss} for {direct}", sde.name(), preconditioning.name());
                }
            }
        }
    }

    #[test]
    fn normal_quantiles_are_those_of_published_tables() {
        // Wichura 1988, algorithm AS 241: its three check values; and 1.959964, the two-sided 95 % point.
        let table = [(0.25, -0.674_489_750_196_081_7), (0.001, -3.090_232_306_167_813_5), (1e-20, -9.262_340_089_798_408)];
        for (p, z) in table {
            assert!((normal_quantile(p) - z).abs() < 1e-13 * z.abs(), "{p}: {}", normal_quantile(p));
        }
        assert!((normal_quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-13);
        assert_eq!(normal_quantile(0.5), 0.0);
        assert!(normal_quantile(f64::EPSILON).is_finite() && normal_quantile(1.0 - f64::EPSILON).is_finite());
    }

    #[test]
    fn every_batch_covers_the_noise_levels_evenly() {
        for (u, first, count) in [(0.3, 0, 64), (0.9, 12_345_678_901, 64), (0.0, 7, 16)] {
            let mut q = quantiles(u, first, count);
            q.sort_by(f64::total_cmp);
            assert!(q[0] > 0.0 && q[count - 1] < 1.0);
            // No gap is larger than φ² /count; independent draws of 64 leave gaps of about ln 64 / 64.
            let gaps = q.windows(2).map(|pair| pair[1] - pair[0]).chain([q[0] + 1.0 - q[count - 1]]);
            let widest = gaps.fold(0.0, f64::max);
            assert!(widest < 2.62 / count as f64, "{widest} for {count} samples from {first}");
        }
    }

    #[test]
    fn log_normal_times_have_their_mean_and_standard_deviation() {
        let sde = SdeConfig::from_kind("edm").unwrap();
        let times = TimeDistribution::LogNormal { mean: 0.2, std: 0.7 };
        let levels: Vec<f64> = quantiles(0.1, 0, 4000).into_iter().map(|q| times.time(&sde, q).ln()).collect();
        let mean = levels.iter().sum::<f64>() / 4000.0;
        let std = (levels.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / 4000.0).sqrt();
        assert!((mean - 0.2).abs() < 1e-3 && (std - 0.7).abs() < 1e-3, "{mean} {std}");
    }

    /// Every process, those that end in pure noise stopped before.
    fn with_signal() -> Vec<SdeConfig> {
        let finite = |sde: SdeConfig| match sde {
            SdeConfig::LinearFlow(flow) => fokker_sde::LinearFlow { t_max: 0.99, ..flow }.into(),
            SdeConfig::Trigonometric(path) => fokker_sde::Trigonometric { t_max: 0.99, ..path }.into(),
            other => other,
        };
        SdeConfig::all().into_iter().map(finite).collect()
    }

    #[test]
    fn importance_has_the_closed_forms_of_the_paper() {
        // ∫ g²/σ² is ln(e^B − 1) for VP and ln((1 − e^−B)²/e^−B) for sub-VP.
        let b = |t: f64| 0.1 * t + 0.5 * 19.9 * t * t;
        let vp = |t: f64| b(t).exp_m1().ln();
        let sub_vp = |t: f64| 2.0 * (-(-b(t)).exp_m1()).ln() + b(t);
        let closed: [(&str, &dyn Fn(f64) -> f64); 2] = [("vp", &vp), ("sub-vp", &sub_vp)];
        for (kind, cumulative) in closed {
            let sde = SdeConfig::from_kind(kind).unwrap();
            let (start, end) = sde.span();
            for q in [1e-6, 0.1, 0.5, 0.77, 1.0 - 1e-9] {
                let t = TimeDistribution::Importance.time(&sde, q);
                let share = (cumulative(t) - cumulative(start)) / (cumulative(end) - cumulative(start));
                assert!((share - q).abs() < 1e-9, "{kind}: {share} at the quantile {q}");
            }
        }
    }

    #[test]
    fn importance_has_the_same_loss_as_uniform_times() {
        // λ(t) Var(x_0 | x_t) for data N(0, 1) and λ = g² α²/σ⁴ is −d ln snr/dt · snr/(1 + snr), whose integral is ln(1 + snr).
        let objective =
            Objective { times: TimeDistribution::Importance, weighting: Weighting::Likelihood, ..Objective::default() };
        let n = 200_000;
        for sde in with_signal() {
            let (start, end) = sde.span();
            let variance = |t: f64| sde.sigma(t).powi(2) / (sde.alpha(t).powi(2) + sde.sigma(t).powi(2));
            let at = |i: i32| {
                let t = objective.times.time(&sde, (f64::from(i) + 0.5) / f64::from(n));
                objective.weight(&sde, &Preconditioning::default(), t) * variance(t)
            };
            let found = (0..n).map(at).sum::<f64>() / f64::from(n) * (end - start);
            let expected = sde.log_snr(start).exp().ln_1p() - sde.log_snr(end).exp().ln_1p();
            assert!((found / expected - 1.0).abs() < 1e-4, "{}: {found} and {expected}", sde.name());
        }
    }

    #[test]
    fn the_loss_with_importance_is_unbiased_and_less_scattered() {
        let sde: SdeConfig = fokker_sde::VariancePreserving { t_min: 1e-4, ..Default::default() }.into();
        // F = 0, which is exact for these data.
        let model = fokker_nn::Module::map(&model(sde, Preconditioning::edm(1.0)), |weights| weights * 0.0);
        let run = |times| {
            let objective = Objective { times, weighting: Weighting::Likelihood, ..Objective::default() };
            let losses: Vec<f64> = (0..400)
                .map(|run| {
                    let x_0 = Noise::new(4, 4).normal(&[200, 3], 200 * run, 0, Dtype::F64);
                    let noised = objective.noise(&model, &x_0, 7 + run, 0);
                    Objective::loss(&model, &noised, &Cond::NONE, None).item()
                })
                .collect();
            let mean = losses.iter().sum::<f64>() / 400.0;
            (mean, losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / 399.0)
        };
        let (uniform, importance) = (run(TimeDistribution::Uniform), run(TimeDistribution::Importance));
        let z = (uniform.0 - importance.0) / ((uniform.1 + importance.1) / 400.0).sqrt();
        assert!(z.abs() < 4.0, "{uniform:?} and {importance:?}");
        assert!(importance.1 < 0.2 * uniform.1, "variances {} and {}", importance.1, uniform.1);
    }

    #[test]
    fn samples_are_noised_alike_whatever_the_batch() {
        let model = model(SdeConfig::default(), Preconditioning::default());
        let x_0 = Noise::new(4, 4).normal(&[8, 3], 0, 0, Dtype::F64);
        let objective = Objective::default();
        let whole = objective.noise(&model, &x_0, 7, 100);
        let part = objective.noise(&model, &x_0.slice(0, 5..8), 7, 105);
        assert_eq!(whole.x_t.slice(0, 5..8).to_vec::<f64>(), part.x_t.to_vec::<f64>());
        assert_eq!(whole.target.slice(0, 5..8).to_vec::<f64>(), part.target.to_vec::<f64>());
    }
}
