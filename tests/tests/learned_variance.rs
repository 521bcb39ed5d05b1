//! Ancestral sampling with the variances of a model: exact for Gaussian data, under any process, with any number of steps.

mod moments;
mod oracle;

use fokker_models::{DiffusionModel, MlpConfig, ModelConfig, NetworkConfig};
use fokker_sde::{
    Cond, Counted, Counter, Covariance, Denoiser, Gaussian, LinearFlow, Reverse, Sde, SdeConfig, Times, Under, VariancePreserving,
};
use fokker_solve::{Ancestral, Grid, GridConfig, NoiseSource, Sampler, SolveError, SolverConfig, Variance, noise_step};
use fokker_tensor::{Dtype, Tensor};

use moments::exact_moments;
use oracle::{NOISE, interior_grid, mixture};

/// Independent Gaussian numbers of these means and variances, and the variance of the true reverse step of each.
///
/// Given `x_t` the state at `s` is normal with variance `β̃ + a² Γ`, where `Γ = Var(x_0 | x_t)` and `a² = β̃ (snr_s − snr_t)`:
///
/// ```text
/// v = ln(1 + (snr_s − snr_t) Γ)/ln(σ_t²/σ_s²)
/// ```
struct Optimal {
    model: Gaussian,
    variances: Vec<f64>,
}

impl Optimal {
    fn new(sde: impl Sde + 'static, means: &[f64], variances: &[f64]) -> Self {
        Self { model: Gaussian::new(sde, means, &Covariance::Diagonal(variances.to_vec())), variances: variances.to_vec() }
    }

    fn fraction(&self, variance: f64, t: f64, s: f64) -> f64 {
        let sde = self.model.sde();
        let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
        let given = variance * sigma * sigma / (alpha * alpha * variance + sigma * sigma);
        let gain = sde.log_snr(s).exp() - sde.log_snr(t).exp();
        (gain * given).ln_1p() / (2.0 * (sigma / sde.sigma(s)).ln())
    }
}

impl Denoiser for Optimal {
    fn sde(&self) -> &dyn Sde {
        self.model.sde()
    }

    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        self.model.denoise(x, t, c)
    }

    fn learns_variance(&self) -> bool {
        true
    }

    fn reverse(&self, x: &Tensor, t: &Times, s: &Times, c: &Cond) -> Reverse {
        let row = |b: usize| self.variances.iter().map(move |&variance| self.fraction(variance, t.of(b), s.of(b)));
        let fractions: Vec<f64> = (0..x.dim(0)).flat_map(row).collect();
        Reverse { denoised: self.denoise(x, t, c), fraction: Some(Tensor::from_f64(x.shape(), &fractions, x.dtype())) }
    }
}

fn learned() -> Ancestral {
    Ancestral { variance: Variance::Learned, ..Ancestral::default() }
}

/// Mean and variance of noisy data at `t`.
fn marginal(sde: &dyn Sde, (mean, variance): (f64, f64), t: f64) -> (f64, f64) {
    (sde.alpha(t) * mean, sde.alpha(t).powi(2) * variance + sde.sigma(t).powi(2))
}

#[test]
fn three_steps_with_the_right_variances_are_exact_on_every_process_and_with_fixed_ones_are_not() {
    for sde in SdeConfig::all() {
        for data in [(0.7, 0.4), (-1.0, 3.0)] {
            let model = Optimal::new(sde.clone(), &[data.0], &[data.1]);
            let grid = interior_grid(&sde, 3, (-4.0, 3.0));
            let (start, exact) = (marginal(&sde, data, grid.first()), marginal(&sde, data, grid.last()));
            let error = |solver: Ancestral| {
                let (mean, variance) = exact_moments(&model, &solver.into(), grid.clone(), start);
                assert!((mean - exact.0).abs() < 1e-9, "{}: mean {mean}, exact {}", sde.name(), exact.0);
                (variance / exact.1 - 1.0).abs()
            };
            for noise in [NoiseSource::PerStep, NoiseSource::Brownian] {
                let found = error(Ancestral { noise, ..learned() });
                assert!(found < 1e-9, "{}, variance {}: off by {found:e}", sde.name(), data.1);
            }
            let fixed = [Variance::Small, Variance::Large].map(|variance| error(Ancestral { variance, ..Ancestral::default() }));
            assert!(fixed.iter().all(|&off| off > 0.01), "{}, variance {}: {fixed:?}", sde.name(), data.1);
        }
    }
}

#[test]
fn every_number_of_a_sample_has_noise_of_its_own_variance() {
    let sde = VariancePreserving::default();
    let (t, s) = (0.6, 0.25);
    let variances = [0.01, 0.4, 1.0, 2.5];
    let model = Optimal::new(sde.clone(), &[0.1, -0.3, 0.0, 1.0], &variances);
    let counter = Counter::new();
    let counted = Counted::new(&model, counter.clone());
    let grid = Grid::new(vec![t, s], false, &sde).unwrap();
    let sampler = Sampler::new(&counted, learned(), grid).unwrap().state(Dtype::F64);
    let x = sampler.integrate(Tensor::zeros(&[2, 4], Dtype::F64), &Cond::NONE, NOISE, 0, &mut []).unwrap();
    assert_eq!((x.nfe, counter.get()), (1, 1));
    // The variance of a step is seen in the difference of two samples with the same state and different noise.
    let (x, z) = (x.x.to_vec::<f64>(), NOISE.normal(&[2, 4], 0, noise_step(0, 0), Dtype::F64).to_vec::<f64>());
    for (i, &variance) in variances.iter().enumerate() {
        let found = ((x[i] - x[i + 4]) / (z[i] - z[i + 4])).powi(2);
        // Of the true reverse transition: Var(x_s) less what x_t explains of it.
        let total = |t: f64| marginal(&sde, (0.0, variance), t).1;
        let expected = total(s) - (sde.alpha(t) / sde.alpha(s) * total(s)).powi(2) / total(t);
        assert!((found / expected - 1.0).abs() < 1e-10, "data of variance {variance}: {found} and {expected}");
    }
}

#[test]
fn a_model_of_one_process_has_the_right_variances_under_every_other() {
    let data = (0.7, 0.4);
    for a in SdeConfig::all() {
        for b in SdeConfig::all() {
            let under = Under::new(Optimal::new(a.clone(), &[data.0], &[data.1]), b.clone());
            assert!(under.learns_variance());
            let grid = interior_grid(&b, 3, (-4.0, 3.0));
            let (start, exact) = (marginal(&b, data, grid.first()), marginal(&b, data, grid.last()));
            let (mean, variance) = exact_moments(&under, &learned().into(), grid.clone(), start);
            let off = ((mean - exact.0).abs(), (variance / exact.1 - 1.0).abs());
            assert!(off.0 < 1e-7 && off.1 < 1e-7, "{} under {}: off by {off:?}", a.name(), b.name());
            // With times for each sample as with one for all.
            let x = NOISE.normal(&[3, 1], 0, 0, Dtype::F64);
            let (t, s) = (grid.times()[0], grid.times()[1]);
            let answer = |t: Times, s: Times| under.reverse(&x, &t, &s, &Cond::NONE).fraction.unwrap().to_vec::<f64>();
            let same = answer(t.into(), s.into());
            for (t, s) in [(vec![t; 3].into(), s.into()), (t.into(), vec![s; 3].into()), (vec![t; 3].into(), vec![s; 3].into())] {
                assert_eq!(answer(t, s), same);
            }
        }
    }
}

#[test]
fn learned_variances_serve_where_the_process_is_pure_noise() {
    let (sde, data) = (LinearFlow::default(), (0.7, 0.4));
    let model = Optimal::new(sde.clone(), &[data.0], &[data.1]);
    let grid = Grid::new(vec![1.0, 0.6, 0.1], false, &sde).unwrap();
    let exact = marginal(&sde, data, grid.last());
    let found = exact_moments(&model, &learned().into(), grid, (0.0, 1.0));
    assert!((found.0 - exact.0).abs() < 1e-10 && (found.1 - exact.1).abs() < 1e-10, "{found:?} and {exact:?}");
}

#[test]
fn a_model_without_variances_is_refused_with_what_to_do() {
    let model = mixture(VariancePreserving::default());
    let grid = GridConfig::with_steps(5).build(model.sde()).unwrap();
    let solver = SolverConfig::from(learned());
    let Err(error) = Sampler::new(&model, solver.clone(), grid.clone()) else { panic!("a sampler without variances") };
    let message = error.to_string();
    for part in ["solver `ancestral`", "learned", "\"small\"", "model.learned_variance = true"] {
        assert!(message.contains(part), "{message}");
    }
    // A denoiser that forgets to hand them on is found out in the first step.
    struct Forgetful(Optimal);
    impl Denoiser for Forgetful {
        fn sde(&self) -> &dyn Sde {
            self.0.sde()
        }
        fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
            self.0.denoise(x, t, c)
        }
        fn learns_variance(&self) -> bool {
            true
        }
    }
    let forgetful = Forgetful(Optimal::new(VariancePreserving::default(), &[0.0], &[1.0]));
    let sampler = Sampler::new(&forgetful, solver, grid).unwrap();
    assert_eq!(sampler.sample(&[2, 1], &Cond::NONE, NOISE, 0, &mut []).unwrap_err(), error);
}

#[test]
fn a_variance_that_is_not_finite_is_named_with_its_step() {
    struct Broken(Optimal);
    impl Denoiser for Broken {
        fn sde(&self) -> &dyn Sde {
            self.0.sde()
        }
        fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
            self.0.denoise(x, t, c)
        }
        fn learns_variance(&self) -> bool {
            true
        }
        fn reverse(&self, x: &Tensor, t: &Times, s: &Times, c: &Cond) -> Reverse {
            let answer = self.0.reverse(x, t, s, c);
            let broken = if t.of(0) < 0.5 { f64::NAN } else { 1.0 };
            Reverse { fraction: answer.fraction.map(|v| &v * broken), ..answer }
        }
    }
    let sde = VariancePreserving::default();
    let model = Broken(Optimal::new(sde.clone(), &[0.0], &[1.0]));
    let grid = Grid::new(vec![1.0, 0.6, 0.4, 0.2], true, &sde).unwrap();
    let error = Sampler::new(&model, learned(), grid).unwrap().sample(&[2, 1], &Cond::NONE, NOISE, 0, &mut []).unwrap_err();
    assert!(matches!(error, SolveError::NotFinite { step: 3, total: 4, t: 0.4, what: "the model's variance", .. }), "{error}");
}

#[test]
fn a_network_with_variances_is_sampled_with_one_run_for_each_step() {
    let config = ModelConfig {
        sample_shape: vec![2],
        classes: None,
        sde: VariancePreserving::default().into(),
        preconditioning: Default::default(),
        learned_variance: true,
        network: NetworkConfig::Mlp(MlpConfig { hidden: 8, blocks: 1, embedding: 4, ..MlpConfig::default() }),
    };
    let model = DiffusionModel::new(config, 0, Dtype::F32).unwrap();
    let run = |variance: Variance| {
        let grid = GridConfig::with_steps(6).build(model.sde()).unwrap();
        let sampler = Sampler::new(&model, Ancestral { variance, ..Ancestral::default() }, grid).unwrap().state(Dtype::F64);
        sampler.sample(&[16, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap()
    };
    let found = run(Variance::Learned);
    assert_eq!((found.nfe, found.x.dtype()), (6, Dtype::F64));
    // A new network says halfway.
    let off = (&found.x - &run(Variance::Interpolated { v: 0.5 }).x).abs().max_all().item();
    assert!(off < 1e-12, "{off:e}");
}

#[test]
fn a_variance_is_a_name_or_a_table_in_a_configuration() {
    let read = |variance: &str| {
        let text = format!("{{\"kind\": \"ancestral\", \"variance\": {variance}}}");
        serde_json::from_str::<SolverConfig>(&text)
    };
    for (name, variance) in [("small", Variance::Small), ("large", Variance::Large), ("learned", Variance::Learned)] {
        let solver = SolverConfig::from(Ancestral { variance, ..Ancestral::default() });
        assert_eq!(read(&format!("\"{name}\"")).unwrap(), solver);
        assert_eq!(read(&format!("{{\"kind\": \"{name}\"}}")).unwrap(), solver);
        assert_eq!(serde_json::from_str::<SolverConfig>(&serde_json::to_string(&solver).unwrap()).unwrap(), solver);
    }
    let interpolated = Ancestral { variance: Variance::Interpolated { v: 0.3 }, ..Ancestral::default() };
    assert_eq!(read("{\"kind\": \"interpolated\", \"v\": 0.3}").unwrap(), interpolated.into());
    for (text, part) in [
        ("\"magic\"", "unknown variant `magic`"),
        ("\"interpolated\"", "missing field `v`"),
        ("3", "the name of a variance, or a table with its `kind`"),
    ] {
        let message = read(text).unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
}
