//! Runs a solver along a trajectory of a reference implementation and compares the states after each step.

#![allow(dead_code, reason = "each test file uses some of them")]

pub(crate) mod ladder;

use fokker_sde::{Cond, Denoiser, Edm, Sde};
use fokker_solve::{Grid, Sampler, Solver, Step, noise_step};
use fokker_tensor::{Dtype, Noise, Tensor};

use crate::fixture::{Case, Fixture};
use crate::oracle::{NOISE, mixture};

/// The agreement asked for where both sides compute the same thing in `f64`, of the largest number in the state or 1.
pub(crate) const TOLERANCE: f64 = 1e-10;

/// EDM wide enough for all the noise levels in the fixtures.
pub(crate) fn edm() -> Edm {
    Edm { sigma_min: 1e-3, sigma_max: 200.0 }
}

/// Entry `n` of stacked arrays.
pub(crate) fn entry(stacked: &Tensor, n: usize) -> Tensor {
    stacked.slice(0, n..n + 1).reshape(&stacked.shape()[1..])
}

/// The states after each step of a case.
pub(crate) fn states(case: &Case) -> Vec<Tensor> {
    let states = case.tensor("states");
    (0..states.dim(0)).map(|n| entry(&states, n)).collect()
}

/// The times of a case: one more than states, or as many if its last step goes to no noise at all.
pub(crate) fn times(case: &Case) -> Vec<f64> {
    case.tensor("times").to_vec()
}

/// The states after each of `steps` steps from `x`, `[B, D]`, of the exact mixture under `sde`, with the tests' noise. With as
/// many times as steps the last one denoises.
pub(crate) fn run(sde: impl Sde + Clone + 'static, solver: impl Solver, times: &[f64], steps: usize, x: Tensor) -> Vec<Tensor> {
    run_model(&mixture(sde), solver, times, steps, x)
}

/// The same of any model.
pub(crate) fn run_model(model: &dyn Denoiser, solver: impl Solver, times: &[f64], steps: usize, x: Tensor) -> Vec<Tensor> {
    assert!(times.len() == steps || times.len() == steps + 1, "{} times of {steps} steps", times.len());
    let grid = Grid::new(times.to_vec(), times.len() == steps, model.sde()).unwrap_or_else(|e| panic!("{e}"));
    let sampler = Sampler::new(model, solver, grid).unwrap_or_else(|e| panic!("{e}")).state(Dtype::F64);
    let mut states = Vec::new();
    let mut observer = |step: &Step<'_>| states.push(step.x.clone());
    sampler.integrate(x, &Cond::NONE, NOISE, 0, &mut [&mut observer]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(states.len(), steps);
    states
}

/// Asserts that a state is the expected one to `tolerance`, of the largest number in it or 1.
pub(crate) fn assert_state(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let expected = expected.to_vec::<f64>();
    let scale = expected.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in found.to_vec::<f64>().iter().zip(&expected).enumerate() {
        let apart = (a - b).abs();
        // Written so that a NaN fails.
        assert!(apart <= tolerance * scale, "{what}: element {i} is {a}, the reference has {b}, {apart:e} apart");
    }
}

/// Asserts that these are the first states of the case.
pub(crate) fn assert_states(case: &Case, found: &[Tensor]) {
    let expected = states(case);
    assert!(!found.is_empty() && found.len() <= expected.len(), "{}: {} states", case.name, found.len());
    for (n, (found, expected_n)) in found.iter().zip(&expected).enumerate() {
        let what = format!("{}, step {} of {}", case.name, n + 1, expected.len());
        assert_state(&what, found, expected_n, TOLERANCE);
    }
}

/// Follows a case on the process, whose times are the case's, to its end.
pub(crate) fn follow_on(sde: impl Sde + Clone + 'static, case: &Case, solver: impl Solver) {
    assert_states(case, &run(sde, solver, &times(case), states(case).len(), case.tensor("x")));
}

/// Follows a case in noise levels, `x = x_0 + σ ε`, to its end.
pub(crate) fn follow(case: &Case, solver: impl Solver) {
    follow_on(edm(), case, solver);
}

/// Follows a case in noise levels but for its last step, to no noise at all, which the library makes in its own way.
pub(crate) fn follow_but_last(case: &Case, solver: impl Solver) {
    let mut found = run(edm(), solver, &times(case), states(case).len(), case.tensor("x"));
    found.pop();
    assert_states(case, &found);
}

/// The scripts draw fokker's noise themselves: here it is compared with what a solver gets.
pub(crate) fn assert_noise(fixture: &Fixture) {
    let case = fixture.case("noise");
    let (draws, initial) = (case.tensor("draws"), case.tensor("initial"));
    let noise = Noise::new(case.count("seed") as u64, case.count("stream") as u64);
    assert_eq!(noise, NOISE);
    let compare = |expected: Tensor, step: u32, what: &str| {
        let found = noise.normal(expected.shape(), 0, step, Dtype::F64);
        for (a, b) in found.to_vec::<f64>().iter().zip(expected.to_vec::<f64>()) {
            assert!((a - b).abs() < 1e-12, "{what}: {a} and {b}");
        }
    };
    compare(initial, 0, "the initial state");
    for step in 0..draws.dim(0) {
        for draw in 0..draws.dim(1) {
            let what = format!("step {step}, draw {draw}");
            compare(entry(&entry(&draws, step), draw), noise_step(step, draw as u32), &what);
        }
    }
}
