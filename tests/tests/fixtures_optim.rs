//! Optimisers, clipping, learning-rate schedules and weight averages against PyTorch and closed forms.

mod fixture;

use fixture::{Case, Fixture};
use fokker_nn::{Adam, AdamConfig, Ema, EmaConfig, Schedule, Sgd, SgdConfig, clip_scale, global_norm};
use fokker_tensor::{Dtype, Tensor};

const NAMES: [&str; 2] = ["a", "b"];
const STEPS: usize = 10;

/// The parameters `a` and `b` of a case.
fn pair(case: &Case, dtype: Dtype) -> Vec<Tensor> {
    NAMES.iter().map(|name| case.tensor(name).to(dtype)).collect()
}

/// Entry `n` of stacked arrays.
fn entry(stacked: &Tensor, n: usize) -> Tensor {
    stacked.slice(0, n..n + 1).reshape(&stacked.shape()[1..])
}

/// Applies `step(n, parameters, gradients, learning rate)` ten times and compares the parameters after each.
fn follow(fixture: &Fixture, case: &Case, dtype: Dtype, mut step: impl FnMut(&mut Vec<Tensor>, &Vec<Tensor>, f64)) {
    let mut parameters = pair(&fixture.case("start"), dtype);
    let gradients = pair(&fixture.case("grads"), dtype);
    let rates = if case.has_parameter("rates") { case.list("rates") } else { vec![case.number("lr"); STEPS] };
    let tolerance = if dtype == Dtype::F64 { 1e-12 } else { 1e-5 };
    for (n, &rate) in rates.iter().enumerate() {
        let gradients = gradients.iter().map(|g| entry(g, n)).collect();
        step(&mut parameters, &gradients, rate);
        for (name, found) in NAMES.iter().zip(&parameters) {
            assert_eq!(found.dtype(), dtype, "{}", case.name);
            let expected = entry(&case.tensor(name), n).to_vec::<f64>();
            for (i, (a, b)) in found.to_vec::<f64>().iter().zip(&expected).enumerate() {
                let what = format!("{}/{name} in {dtype:?}, step {n}, element {i}", case.name);
                assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{what}: {a:e}, PyTorch has {b:e}");
            }
        }
    }
}

fn follow_adam(op: &str, decoupled: bool) {
    let fixture = Fixture::load("optim");
    for case in fixture.of(op) {
        let betas = case.list("betas");
        let config = AdamConfig {
            beta1: betas[0],
            beta2: betas[1],
            epsilon: case.number("eps"),
            weight_decay: case.number_or("weight_decay", 0.0),
            decoupled,
        };
        for dtype in [Dtype::F64, Dtype::F32] {
            let mut adam = Adam::new(&pair(&fixture.case("start"), dtype), config);
            follow(&fixture, &case, dtype, |parameters, gradients, rate| adam.step(parameters, gradients, rate, 1.0));
        }
    }
}

#[test]
fn adam_takes_the_steps_of_pytorch() {
    follow_adam("Adam", false);
}

#[test]
fn adamw_takes_the_steps_of_pytorch() {
    follow_adam("AdamW", true);
}

#[test]
fn gradient_descent_with_momentum_takes_the_steps_of_pytorch() {
    let fixture = Fixture::load("optim");
    for case in fixture.of("SGD") {
        let config = SgdConfig {
            momentum: case.number_or("momentum", 0.0),
            nesterov: case.has_parameter("nesterov") && case.flag("nesterov"),
            weight_decay: case.number_or("weight_decay", 0.0),
        };
        for dtype in [Dtype::F64, Dtype::F32] {
            let mut sgd = Sgd::new(&pair(&fixture.case("start"), dtype), config);
            follow(&fixture, &case, dtype, |parameters, gradients, rate| sgd.step(parameters, gradients, rate, 1.0));
        }
    }
}

#[test]
fn a_gradient_scale_is_the_same_as_scaled_gradients() {
    let fixture = Fixture::load("optim");
    let start = pair(&fixture.case("start"), Dtype::F64);
    let gradients = pair(&fixture.case("grads"), Dtype::F64);
    let adam_config = AdamConfig { weight_decay: 0.1, decoupled: false, ..AdamConfig::default() };
    let sgd_config = SgdConfig { momentum: 0.9, nesterov: true, weight_decay: 0.1 };
    let (mut adam, mut adam_scaled) = (Adam::new(&start, adam_config), Adam::new(&start, adam_config));
    let (mut sgd, mut sgd_scaled) = (Sgd::new(&start, sgd_config), Sgd::new(&start, sgd_config));
    let mut parameters = [start.clone(), start.clone(), start.clone(), start.clone()];
    for n in 0..STEPS {
        let given: Vec<Tensor> = gradients.iter().map(|g| entry(g, n)).collect();
        let scaled: Vec<Tensor> = given.iter().map(|g| g * 0.25).collect();
        adam.step(&mut parameters[0], &given, 0.01, 0.25);
        adam_scaled.step(&mut parameters[1], &scaled, 0.01, 1.0);
        sgd.step(&mut parameters[2], &given, 0.01, 0.25);
        sgd_scaled.step(&mut parameters[3], &scaled, 0.01, 1.0);
    }
    for (a, b) in [(0, 1), (2, 3)] {
        for (a, b) in parameters[a].iter().zip(&parameters[b]) {
            for (a, b) in a.to_vec::<f64>().iter().zip(b.to_vec::<f64>()) {
                assert!((a - b).abs() < 1e-13, "{a} and {b}");
            }
        }
    }
}

#[test]
fn clipping_by_the_global_norm_is_that_of_pytorch() {
    let fixture = Fixture::load("optim");
    for case in fixture.of("clip_grad_norm") {
        let given: Vec<Tensor> = NAMES.iter().map(|name| case.tensor(&format!("given-{name}"))).collect();
        let norm = global_norm(&given);
        assert!((norm / case.tensor("norm").item() - 1.0).abs() < 1e-14, "{}: norm {norm}", case.name);
        let scale = clip_scale(norm, case.number("max_norm"));
        for (name, gradient) in NAMES.iter().zip(&given) {
            let clipped = gradient * scale;
            case.assert_close(&format!("exact-{name}"), &clipped, 1e-14);
            // PyTorch divides by the norm plus 1e-6.
            case.assert_close(name, &clipped, 1.1e-6);
        }
    }
}

#[test]
fn learning_rates_follow_their_closed_forms() {
    let fixture = Fixture::load("optim");
    for name in ["schedule-cosine", "schedule-inverse-sqrt"] {
        let case = fixture.case(name);
        let warmup = case.count("warm_up") as u64;
        let (schedule, total) = match name {
            "schedule-cosine" => (Schedule::Cosine { warmup, floor: 0.0 }, case.count("last") as u64 + 1),
            _ => (Schedule::InverseSqrt { warmup, reference: case.count("hold") as u64 }, 0),
        };
        for (n, expected) in case.tensor("factor").to_vec::<f64>().into_iter().enumerate() {
            let found = schedule.factor(n as u64, total);
            assert!((found - expected).abs() < 1e-14, "{name}, step {n}: {found}, expected {expected}");
        }
    }
}

fn follow_average(name: &str, config: impl Fn(&Case) -> EmaConfig) {
    let fixture = Fixture::load("optim");
    let (path, case) = (fixture.case("path").tensor("x"), fixture.case(name));
    let batch = case.number_or("batch", 1.0) as usize;
    let mut ema = Ema::new(&entry(&path, 0), config(&case));
    let mut averages = Vec::new();
    for n in 0..path.dim(0) - 1 {
        ema.update(&entry(&path, n + 1), (n * batch) as u64, batch);
        averages.push(ema.model.reshape(&[1, path.dim(1)]));
    }
    case.assert_close("x", &Tensor::concat(&averages.iter().collect::<Vec<_>>(), 0), 1e-13);
}

#[test]
fn an_average_with_constant_decay_starts_with_the_ramp_of_ddpm() {
    follow_average("ema-ramp", |case| EmaConfig::Constant { decay: case.number("decay") });
}

#[test]
fn an_average_with_a_half_life_counts_images() {
    let no_ramp = f64::INFINITY;
    follow_average("ema-half-life", |c| EmaConfig::HalfLife { images: c.number("half_life"), rampup: no_ramp });
    follow_average("ema-half-life-ramp", |c| EmaConfig::HalfLife { images: c.number("half_life"), rampup: c.number("ramp") });
}
