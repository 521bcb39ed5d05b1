//! The cases of diffusers' schedulers that walk a ladder of betas.

use fokker_sde::{Betas, Denoiser, Discrete, Ladder, Sde};
use fokker_solve::Solver;
use fokker_tensor::Tensor;

use super::{assert_states, run, run_model, states, times};
use crate::fixture::{Case, Fixture};

/// The process of a case's ladder.
pub(crate) fn discrete(case: &Case) -> Discrete {
    let (first, last) = (case.number_or("beta_start", 1e-4), case.number_or("beta_end", 0.02));
    let betas = match case.word_or("beta_schedule", "linear") {
        "linear" => Betas::Linear { first, last },
        "scaled_linear" => Betas::ScaledLinear { first, last },
        "sigmoid" => Betas::Sigmoid { first, last },
        "squaredcos_cap_v2" => Betas::Cosine { s: 0.008, beta_max: 0.999 },
        "laplace" => Betas::Laplace { mu: 0.0, b: 0.5, beta_max: 0.999 },
        other => panic!("{}: {other}", case.name),
    };
    let zero_terminal_snr = case.flag_or("rescale_betas_zero_snr", false);
    Discrete::new(Ladder { steps: 1000, zero_terminal_snr, betas }).unwrap()
}

/// The times on the ladder's process of the steps in a case, whose noise is compared on the way.
pub(crate) fn ladder_times(case: &Case, process: &Discrete) -> Vec<f64> {
    let steps = times(case);
    for (&step, expected) in steps.iter().zip(case.tensor("alpha_bars").to_vec::<f64>()) {
        let found = process.alpha(process.time_of_step(step as usize)).powi(2);
        assert!((found - expected).abs() < 1e-13, "{}, step {step}: {found} and {expected}", case.name);
    }
    steps.into_iter().map(|step| process.time_of_step(step as usize)).collect()
}

/// The states after each step on the case's ladder.
pub(crate) fn run_ladder(case: &Case, solver: impl Solver) -> Vec<Tensor> {
    let process = discrete(case);
    let times = ladder_times(case, &process);
    run(process, solver, &times, states(case).len(), case.tensor("x"))
}

/// Follows a case on its ladder to its end, with the model of the case instead of the mixture.
pub(crate) fn follow_ladder_of(case: &Case, model: &dyn Denoiser, solver: impl Solver) {
    let times = ladder_times(case, &discrete(case));
    assert_states(case, &run_model(model, solver, &times, states(case).len(), case.tensor("x")));
}

/// Follows a case on its ladder to its end.
pub(crate) fn follow_ladder(case: &Case, solver: impl Solver) {
    assert_states(case, &run_ladder(case, solver));
}

/// The cases of the multistep DPM-Solver with this algorithm: their order, and whether `solver_type` is `heun`.
pub(crate) fn multistep<'a>(fixture: &'a Fixture, algorithm: &str) -> Vec<(Case<'a>, usize, bool)> {
    let of = |case: &Case| case.word_or("algorithm_type", "dpmsolver++") == algorithm;
    let cases = fixture.of("DPMSolverMultistepScheduler").into_iter().filter(of);
    let described = |case: Case<'a>| {
        let heun = case.word_or("solver_type", "midpoint") == "heun";
        (case, case.number_or("solver_order", 2.0) as usize, heun)
    };
    let cases: Vec<_> = cases.map(described).collect();
    assert!(!cases.is_empty(), "no case of {algorithm}");
    cases
}
