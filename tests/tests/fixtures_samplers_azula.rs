//! Trajectories of azula's samplers, and its noise schedules.
//!
//! azula's samplers are written for any schedule of `α` and `σ`, like fokker's, so that both take the same process. They are
//! followed on its variance-preserving and its rectified schedule, without its extra noise at `t = 0`.

mod fixture;
mod oracle;
mod trajectory;

use std::collections::BTreeSet;

use fixture::{Case, Fixture};
use fokker_sde::{LinearFlow, Sde, SdeConfig, Trigonometric, VarianceExploding, VariancePreserving};
use fokker_solve::{
    Ancestral, Ddim, Deis, ExponentialAdams, Lms, LowerOrderFinal, Method, Prediction, RungeKutta, Solver, Variable,
};
use fokker_tensor::Tensor;
use trajectory::{assert_noise, assert_states, follow_on, run, states, times};

const FILE: &str = "samplers_azula";

#[test]
fn every_sampler_in_the_fixture_is_compared() {
    let compared = [
        "noise",
        "schedule",
        "DDPMSampler",
        "DDIMSampler",
        "EulerSampler",
        "HeunSampler",
        "zABSampler",
        "vABSampler",
        "zEABSampler",
        "xEABSampler",
    ];
    assert_eq!(BTreeSet::from(compared), Fixture::load(FILE).ops());
}

#[test]
fn the_noise_of_the_fixture_is_the_noise_of_the_solvers() {
    assert_noise(&Fixture::load(FILE));
}

/// azula's `α = exp(t² ln α_min)` is a linear `β` that starts at 0 (which a configuration may not quite have).
fn variance_preserving(alpha_min: f64) -> SdeConfig {
    VariancePreserving { beta_min: 1e-300, beta_max: -4.0 * alpha_min.ln(), ..VariancePreserving::default() }.into()
}

/// The process of a case.
fn process(case: &Case) -> SdeConfig {
    match case.word_or("process", "none") {
        "vp" => variance_preserving(0.01),
        "rectified" => LinearFlow::default().into(),
        other => panic!("{}: {other}", case.name),
    }
}

#[test]
fn processes_are_the_schedules_of_azula() {
    for case in Fixture::load(FILE).of("schedule") {
        let sde: SdeConfig = match case.word_or("schedule", "none") {
            "vp" => variance_preserving(case.number("alpha_min")),
            "ve" => {
                let (sigma_min, sigma_max) = (case.number("sigma_min"), case.number("sigma_max"));
                VarianceExploding { sigma_min, sigma_max, ..VarianceExploding::default() }.into()
            }
            "cosine" => Trigonometric::default().into(),
            "rectified" => LinearFlow::default().into(),
            other => panic!("{}: {other}", case.name),
        };
        let (alphas, sigmas) = (case.tensor("alphas").to_vec::<f64>(), case.tensor("sigmas").to_vec::<f64>());
        for ((t, alpha), sigma) in times(&case).into_iter().zip(alphas).zip(sigmas) {
            let found = (sde.alpha(t), sde.sigma(t));
            assert!((found.0 - alpha).abs() < 1e-13, "{} at {t}: α = {} and {alpha}", case.name, found.0);
            assert!((found.1 / sigma - 1.0).abs() < 1e-13, "{} at {t}: σ = {} and {sigma}", case.name, found.1);
        }
    }
}

/// Follows every case of a sampler on its process.
fn follow<S: Solver>(name: &str, solver: impl Fn(&Case) -> S) {
    for case in Fixture::load(FILE).of(name) {
        follow_on(process(&case), &case, solver(&case));
    }
}

#[test]
fn ancestral_and_ddim_take_the_steps_of_azula() {
    follow("DDPMSampler", |_| Ancestral::default());
    // azula's η multiplies the variance of the noise where the paper's multiplies its deviation.
    follow("DDIMSampler", |case| Ddim { eta: case.number("eta").sqrt() });
}

#[test]
fn eulers_and_heuns_methods_in_the_noise_level_take_the_steps_of_azula() {
    // The first is DDIM.
    follow("EulerSampler", |_| Ddim::default());
    follow("EulerSampler", |_| RungeKutta { method: Method::Euler, variable: Variable::Sigma });
    follow("HeunSampler", |_| RungeKutta { method: Method::Heun, variable: Variable::Sigma });
}

/// An Adams method with exact weights and its full order to the end.
fn adams(case: &Case, prediction: Prediction, variable: Variable) -> ExponentialAdams {
    let order = case.count("order");
    ExponentialAdams { order, prediction, variable, corrector: false, lower_order_final: LowerOrderFinal::Never }
}

#[test]
fn adams_methods_in_noise_and_data_take_the_steps_of_azula() {
    follow("zABSampler", |case| Lms { order: case.count("order") });
    follow("zABSampler", |case| adams(case, Prediction::Noise, Variable::Sigma));
    follow("zEABSampler", |case| adams(case, Prediction::Noise, Variable::LogSnr));
    follow("zEABSampler", |case| {
        let lower_order_final = LowerOrderFinal::Never;
        Deis { order: case.count("order"), variable: Variable::LogSnr, lower_order_final }
    });
    follow("xEABSampler", |case| adams(case, Prediction::Data, Variable::LogSnr));
}

#[test]
fn adams_method_in_velocity_takes_the_steps_of_azula() {
    // azula changes to the straight flow, whatever the schedule: `x/(α + σ)` in `σ/(α + σ)`. fokker's velocity is the process's own.
    for case in Fixture::load(FILE).of("vABSampler") {
        let (alphas, sigmas) = (case.tensor("alphas").to_vec::<f64>(), case.tensor("sigmas").to_vec::<f64>());
        let sums: Vec<f64> = alphas.iter().zip(&sigmas).map(|(alpha, sigma)| alpha + sigma).collect();
        let times: Vec<f64> = sigmas.iter().zip(&sums).map(|(sigma, sum)| sigma / sum).collect();
        let steps = states(&case).len();
        let x = &case.tensor("x") * (1.0 / sums[0]);
        let found = run(LinearFlow::default(), adams(&case, Prediction::Velocity, Variable::T), &times, steps, x);
        let scaled: Vec<Tensor> = found.iter().zip(&sums[1..]).map(|(x, &sum)| x * sum).collect();
        assert_states(&case, &scaled);
    }
}
