use super::*;
use crate::objective::{Objective, TimeDistribution};
use crate::{Generate, RunConfig, Trainer, generate};
use fokker_models::{DiffusionModel, MlpConfig, ModelConfig, NetworkConfig};
use fokker_nn::{Adam, AdamConfig, Module, value_and_grad};
use fokker_sde::{Betas, Cond, Denoiser, Discrete, Ladder, Preconditioning, Reverse, SdeConfig, Times};
use fokker_solve::{Ancestral, SamplerConfig, Variance};
use fokker_tensor::{Dtype, Noise};

/// `∫ f` from `low` to `high` by Simpson's rule.
fn integral(low: f64, high: f64, f: impl Fn(f64) -> f64) -> f64 {
    let n = 4000;
    let h = (high - low) / f64::from(n);
    let weight = |i: i32| if i == 0 || i == n { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
    (0..=n).map(|i| weight(i) * f(low + f64::from(i) * h)).sum::<f64>() * h / 3.0
}

/// `ln N(x; mean, variance)`.
fn ln_normal(x: f64, mean: f64, variance: f64) -> f64 {
    -0.5 * ((x - mean).powi(2) / variance + (std::f64::consts::TAU * variance).ln())
}

/// That `f` has the derivative it says at `at`.
fn assert_derivative(what: &str, at: f64, f: impl Fn(f64) -> (f64, f64)) {
    let (h, slope) = (1e-5, f(at).1);
    let difference = (f(at + h).0 - f(at - h).0) / (2.0 * h);
    assert!((slope - difference).abs() <= 1e-8 * (1.0 + slope.abs()), "{what} at {at}: {slope}, by differences {difference}");
}

fn discrete(betas: Betas, steps: usize) -> Discrete {
    Discrete::new(Ladder { steps, betas, ..Ladder::default() }).unwrap()
}

/// The bound with default numbers.
fn bound(sde: &dyn Sde, steps: Option<usize>) -> Bound {
    VarianceBound { steps, ..VarianceBound::default() }.on(sde, None).unwrap()
}

#[test]
fn a_divergence_is_the_integral_of_its_definition() {
    // q = N(0, 1), p = N(√m, e^ρ).
    for rho in [-0.7, -1e-3, 0.0, 0.4, 2.0] {
        for misfit in [0.0, 0.3, 5.0_f64] {
            let (found, _) = divergence(rho, misfit);
            let expected = integral(-12.0, 12.0, |x| {
                let ln_q = ln_normal(x, 0.0, 1.0);
                ln_q.exp() * (ln_q - ln_normal(x, misfit.sqrt(), rho.exp()))
            });
            assert!((found - expected).abs() < 1e-10, "ρ = {rho}, m = {misfit}: {found} and {expected}");
            assert_derivative("divergence", rho, |rho| divergence(rho, misfit));
        }
    }
    // Nothing cancels where the variances are almost the same.
    assert!((divergence(1e-6, 0.0).0 / 0.25e-12 - 1.0).abs() < 1e-3);
}

#[test]
fn a_bin_has_the_integral_of_the_density_over_it() {
    let half = 1.0 / 255.0;
    for (mean, log_variance) in [(0.0, -9.0), (0.5, -8.0), (0.498, -14.0), (-1.02, -6.0), (0.99, 0.5)] {
        let inside = |low: f64, high: f64| integral(low, high, |x| ln_normal(x, mean, f64::exp(log_variance)).exp());
        let far = 12.0 * f64::exp(0.5 * log_variance);
        for byte in [0_u8, 1, 127, 191, 254, 255] {
            let x = f64::from(byte) / 127.5 - 1.0;
            let (found, _) = bin(x, half, mean, log_variance);
            let low = if byte == 0 { mean.min(x) - far } else { x - half };
            let high = if byte == 255 { mean.max(x) + far } else { x + half };
            let expected = inside(low, high);
            if expected > 1e-200 {
                let off = (found + expected.ln()).abs();
                assert!(off < 1e-8 * found.max(1.0), "byte {byte} of N({mean}, e^{log_variance}): off by {off:e}");
            }
            assert_derivative(&format!("byte {byte}"), log_variance, |l| bin(x, half, mean, l));
        }
        let total: f64 = (0..=255_u8).map(|byte| (-bin(f64::from(byte) / 127.5 - 1.0, half, mean, log_variance).0).exp()).sum();
        assert!((total - 1.0).abs() < 1e-12, "{total}");
    }
}

#[test]
fn a_bin_is_finite_and_falls_like_a_gaussian_however_far_the_mean_is() {
    // −ln P = z²/2 + ln(z √2π) up to O(1/z²), and slope ½ z² up to O(1), with z the nearer end of the bin in standard deviations.
    let half = 1.0 / 255.0;
    for log_variance in [-10.0, -14.0, -20.0_f64] {
        let z = (0.5 - half) / (0.5 * log_variance).exp();
        for mean in [0.5, -0.5] {
            let (value, slope) = bin(0.0, half, mean, log_variance);
            let expected = 0.5 * z * z + (z * std::f64::consts::TAU.sqrt()).ln();
            assert!((value - expected).abs() < 2.0 / (z * z), "{value} and {expected}");
            assert!((slope + 0.5 * z * z).abs() < 1.0, "{slope} at {z}");
        }
    }
    // Where one formula of the tail gives way to the other, both are right.
    assert!((ln_tail(30.0 - 1e-12) - ln_tail(30.0)).abs() < 1e-9);
}

#[test]
fn a_density_is_that_of_the_normal_distribution() {
    for (error, log_variance) in [(0.0, -3.0), (0.2, -3.0), (-1.5, 0.4_f64)] {
        let expected = -ln_normal(0.3, 0.3 + error, log_variance.exp());
        assert!((density(error, log_variance).0 - expected).abs() < 1e-14);
        assert_derivative("density", log_variance, |l| density(error, l));
    }
}

#[test]
fn the_steps_of_a_ladder_are_those_of_the_paper() {
    for sde in
        [discrete(Betas::Linear { first: 1e-4, last: 0.02 }, 1000), discrete(Betas::Cosine { s: 0.008, beta_max: 0.999 }, 40)]
    {
        let bound = bound(&sde, None);
        assert_eq!(bound.times.len(), sde.steps());
        let variance = |i: usize| 1.0 - sde.alpha_bar(i);
        // β̃_i.
        let small = |i: usize| sde.beta(i) * variance(i - 1) / variance(i);
        for i in [1, 2, sde.steps() / 2, sde.steps() - 1] {
            let Term::Divergence { range, gain } = bound.term(&sde, sde.time_of_step(i)) else { panic!("step {i} decodes") };
            let expected = (sde.beta(i) / small(i)).ln();
            assert!((range / expected - 1.0).abs() < 1e-9, "step {i}: {range} and {expected}");
            // The factor of (x̂₀ − x_0)²: the square of that of x_0 in the posterior's mean (Ho et al. 2020, eq. 7), by β̃.
            let factor = sde.alpha_bar(i - 1).sqrt() * sde.beta(i) / variance(i);
            let expected = factor * factor / small(i);
            assert!((gain / expected - 1.0).abs() < 1e-9, "step {i}: {gain} and {expected}");
        }
        // The first step back decodes, between β_1 and, clipped, β̃_2 in the paper's count from 1.
        let Term::Decoder { low, range } = bound.term(&sde, sde.time_of_step(0)) else { panic!("the last step decodes") };
        assert!((low - small(1).ln()).abs() < 1e-9 && (low + range - sde.beta(0).ln()).abs() < 1e-9);
    }
}

#[test]
fn every_time_of_every_process_has_a_step_of_the_length_of_those_beside_it() {
    for sde in SdeConfig::all() {
        for steps in [None, Some(2), Some(30)] {
            let bound = bound(&sde, steps);
            let expected = steps.or(sde.ladder().map(Discrete::steps)).unwrap_or(1000);
            assert_eq!(bound.times.len(), expected, "{}", sde.name());
            let last = expected - 1;
            for i in 0..=8 {
                let place = last as f64 * f64::from(i) / 8.0;
                let t = bound.time(place);
                assert!((bound.place(t) - place).abs() < 1e-6, "{}: place {place} is {}", sde.name(), bound.place(t));
                match bound.term(&sde, t) {
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
                let (t, s) = (bound.time(2.5), bound.time(3.5));
                let Term::Divergence { range, .. } = bound.term(&sde, t) else { panic!("not the last step") };
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
        let bound = bound(&sde, Some(8));
        for variance in [0.25, 1.0, 4.0] {
            for place in [1.0, 3.5, 5.0] {
                let (t, s) = (bound.time(place), bound.time(place + 1.0));
                let (given, v) = best(&sde, variance, t, s);
                let term = bound.term(&sde, t);
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
    let bound = bound(&sde, Some(8));
    let t = sde.span().0;
    let (given, _) = best(&sde, 1.0, t, 0.5 * t);
    let Term::Decoder { low, range } = bound.term(&sde, t) else { panic!("the last step decodes") };
    let (_, slope) = bound.term(&sde, t).at((given.ln() - low) / range, 0.3, given.sqrt(), None);
    assert!(slope.abs() < 1e-9, "{slope}");
}

/// A small model of two numbers with learned variances, of data of standard deviation ½ in EDM's preconditioning: `F = 0` is exact.
fn model(noise: f64) -> DiffusionModel {
    let config = ModelConfig {
        sample_shape: vec![2],
        classes: None,
        sde: SdeConfig::from_kind("edm").unwrap(),
        preconditioning: Preconditioning::edm(0.5),
        learned_variance: true,
        network: NetworkConfig::Mlp(MlpConfig { hidden: 16, blocks: 1, embedding: 8, ..MlpConfig::default() }),
    };
    let mut model = DiffusionModel::new(config, 1, Dtype::F64).unwrap();
    for (i, t) in model.tensors_mut().into_iter().enumerate() {
        *t = &*t + &(&Noise::new(9, i as u64).normal(&[1, t.len()], 0, 0, Dtype::F64).reshape(t.shape()) * noise);
    }
    model
}

#[test]
fn the_loss_adds_the_weighted_bound_of_each_element_and_its_derivatives() {
    let model = model(0.3);
    let x_0 = &Noise::new(4, 4).normal(&[16, 2], 0, 0, Dtype::F64) * 0.5;
    let objective = Objective { times: TimeDistribution::LogNormal { mean: -2.0, std: 3.0 }, ..Objective::default() };
    for levels in [None, Some(256)] {
        let bound = VarianceBound { weight: 0.7, steps: Some(20) }.on(&model.config.sde, levels).unwrap();
        let noised = objective.noise(&model, &x_0, 7, 0);
        let sde = &model.config.sde;
        let denoised = model.denoise(&noised.x_t, &noised.times, &Cond::NONE);
        let error = (&denoised - &x_0).to_vec::<f64>();
        let Reverse { fraction, .. } = model.reverse(&noised.x_t, &noised.times, &Times::Same(0.01), &Cond::NONE);
        let fraction = fraction.unwrap();
        let (v, x) = (fraction.to_vec::<f64>(), x_0.to_vec::<f64>());
        let terms: Vec<(f64, f64)> = (0..32)
            .map(|i| bound.term(sde, noised.times.of(i / 2)).at(v[i], x[i], error[i], levels.map(|n| 1.0 / (n as f64 - 1.0))))
            .collect();
        let decoded = |t: &f64| matches!(bound.term(sde, *t), Term::Decoder { .. });
        assert!(noised.times.values().iter().any(decoded) && !noised.times.values().iter().all(decoded));
        let simple = Objective::loss(&model, &noised, &Cond::NONE, None).item();
        let hybrid = Objective::loss(&model, &noised, &Cond::NONE, Some(&bound)).item();
        let expected = 0.7 * 20.0 * terms.iter().map(|(value, _)| value).sum::<f64>() / 32.0;
        assert!((hybrid - simple - expected).abs() < 1e-6 * expected.abs(), "{hybrid} − {simple} and {expected}");

        let leaf = fraction.track();
        let loss = bound.loss(sde, noised.times.values(), &x_0, &(&denoised - &x_0), &leaf);
        let gradient = fokker_tensor::grad(loss, &[&leaf]).remove(0).to_vec::<f64>();
        for (found, (_, slope)) in gradient.iter().zip(&terms) {
            let expected = 0.7 * 20.0 * slope / 32.0;
            assert!((found - expected).abs() <= 1e-12 * expected.abs(), "{found} and {expected}");
        }
    }
}

#[test]
fn the_bound_has_no_gradient_in_the_mean() {
    let model = model(0.3);
    let x_0 = &Noise::new(4, 4).normal(&[16, 2], 0, 0, Dtype::F64) * 0.5;
    let noised = Objective::default().noise(&model, &x_0, 7, 0);
    // What the weights of the outputs F, and those of the outputs F_v, get from a loss.
    let outputs = |weight: Option<f64>| {
        let bound = weight.map(|weight| VarianceBound { weight, steps: None }.on(&model.config.sde, None).unwrap());
        let (_, grads) = value_and_grad(&model, |m| Objective::loss(m, &noised, &Cond::NONE, bound.as_ref()));
        let parameters = grads.parameters();
        let (_, weight) = parameters.iter().find(|(path, _)| path == "output.weight").expect("an output layer");
        (weight.slice(1, 0..2).to_vec::<f64>(), weight.slice(1, 2..4).to_vec::<f64>())
    };
    let (simple, hybrid) = (outputs(None), outputs(Some(1.0)));
    assert_eq!(simple.0, hybrid.0);
    assert!(simple.0.iter().all(|g| *g != 0.0) && hybrid.1.iter().all(|g| *g != 0.0));
    assert!(simple.1.iter().all(|g| *g == 0.0));
}

#[test]
fn a_small_model_learns_the_variance_of_the_true_reverse_step() {
    let mut model = model(0.0);
    let sde = model.config.sde.clone();
    let objective = Objective {
        times: TimeDistribution::LogNormal { mean: -0.5, std: 1.0 },
        variance: VarianceBound { weight: 0.05, steps: Some(20) },
        ..Objective::default()
    };
    let bound = objective.bound(&model.config, None).unwrap();
    let mut adam = Adam::new(&model, AdamConfig::default());
    let (batch, steps) = (256, 400);
    for step in 0..steps {
        let first = (step * batch) as u64;
        let x_0 = &Noise::new(4, 4).normal(&[batch, 2], first, 0, Dtype::F64) * 0.5;
        let noised = objective.noise(&model, &x_0, 7, first);
        let (_, grads) = value_and_grad(&model, |m| Objective::loss(m, &noised, &Cond::NONE, bound.as_ref()));
        adam.step(&mut model, &grads, 2e-2 * (1.0 - step as f64 / steps as f64), 1.0);
    }
    let bound = bound.expect("variances are learned");
    for level in [0.3, 0.6, 1.2] {
        let place = bound.place(level);
        let s = bound.time(place + 1.0);
        let (_, expected) = best(&sde, 0.25, level, s);
        let x = &Noise::new(5, 5).normal(&[64, 2], 0, 0, Dtype::F64) * (0.25 + level * level).sqrt();
        let v = model.reverse(&x, &Times::Same(level), &Times::Same(s), &Cond::NONE).fraction.unwrap();
        let (mean, off) = (v.mean_all().item(), (&v - expected).abs().max_all().item());
        // A new model says ½ everywhere.
        assert!(
            (mean - expected).abs() < 0.05 && off < 0.2,
            "σ = {level}: {mean} on average, off by up to {off}, best {expected}"
        );
    }
}

/// A small run of a recipe whose model learns variances, and samples with them.
fn run(recipe: &str, settings: &[&str]) -> Result<Trainer, TrainError> {
    let common = ["train.steps=3", "train.batch=4", "sample.count=3", "sample.sampler.solver.kind=ancestral"];
    let variance = ["sample.sampler.solver.variance=learned", "sample.sampler.grid.steps=4"];
    let all: Vec<String> = common.iter().chain(&variance).chain(settings).map(|&s| s.to_owned()).collect();
    Trainer::new(RunConfig::load(recipe, &all)?, ".".as_ref())
}

#[test]
fn recipes_learn_variances_when_told_to_and_sample_with_them() {
    let small = ["model.learned_variance=true", "model.network.channels=[4, 4]", "sample.guidance.scale=1.0"];
    for (recipe, settings, levels) in
        [("moons", &["model.learned_variance=true", "model.network.hidden=4"][..], None), ("glyphs", &small[..], Some(256))]
    {
        let mut trainer = run(recipe, settings).unwrap();
        assert_eq!(trainer.dataset().levels(), levels);
        let reports: Vec<_> = (0..2).map(|_| trainer.step().unwrap()).collect();
        assert!(reports.iter().all(|r| r.loss.is_finite() && r.gradient_norm > 0.0));

        // The weights of the variance go through a checkpoint, and the resumed run has the same bits.
        let mut resumed = Trainer::resume(&trainer.checkpoint().unwrap(), "checkpoint".as_ref(), ".".as_ref()).unwrap();
        assert_eq!(resumed.step().unwrap(), trainer.step().unwrap(), "{recipe}");
        let request = Generate::new(&trainer.config().sample, trainer.model(), 1);
        let samples = generate(trainer.model(), &request, &mut []).unwrap();
        assert!(samples.nfe == 4 && samples.x.dim(0) == 3, "{recipe}");
        let again = generate(resumed.model(), &request, &mut []).unwrap();
        assert_eq!(samples.x.to_vec::<f32>(), again.x.to_vec::<f32>());
        // Training has moved the variances, and they matter.
        let halfway = Variance::Interpolated { v: 0.5 };
        let solver = Ancestral { variance: halfway, ..Ancestral::default() }.into();
        let halfway = Generate { sampler: SamplerConfig { solver, ..request.sampler.clone() }, ..request };
        assert_ne!(samples.x.to_vec::<f32>(), generate(trainer.model(), &halfway, &mut []).unwrap().x.to_vec::<f32>());
    }
}

#[test]
fn sampling_with_variances_that_are_not_learned_is_refused_before_training() {
    let Err(error) = run("moons", &["model.network.hidden=4"]) else { panic!("a run without variances") };
    assert!(error.to_string().contains("model.learned_variance = true"), "{error}");
}
