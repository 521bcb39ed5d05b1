use super::*;
use crate::objective::{Objective, TimeDistribution};
use crate::{Generate, RunConfig, Trainer, generate};
use fokker_models::{DiffusionModel, MlpConfig, ModelConfig, NetworkConfig};
use fokker_nn::{Adam, AdamConfig, Module, value_and_grad};
use fokker_sde::{Cond, Denoiser, Preconditioning, Reverse, SdeConfig, Times};
use fokker_solve::variational::Term;
use fokker_solve::{Ancestral, SamplerConfig, Variance};
use fokker_tensor::{Dtype, Noise};

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
            .map(|i| {
                bound.chain.term(sde, noised.times.of(i / 2)).at(v[i], x[i], error[i], levels.map(|n| 1.0 / (n as f64 - 1.0)))
            })
            .collect();
        let decoded = |t: &f64| matches!(bound.chain.term(sde, *t), Term::Decoder { .. });
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
        let chain = &bound.chain;
        let s = chain.time(chain.place(level) + 1.0);
        // The best variance makes up for the error of the mean: Σ = β̃ + a² Var(x_0 | x_t), or e^ρ = 1 + m.
        let given = 0.25 * level * level / (0.25 + level * level);
        let Term::Divergence { range, gain } = chain.term(&sde, level) else { panic!("not the last step") };
        let expected = (gain * given).ln_1p() / range;
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
