//! Trajectories of k-diffusion's samplers, and its schedules of noise levels.
//!
//! k-diffusion works in noise levels: it is fokker on [`Edm`](fokker_sde::Edm), where the time is the noise level. Its samplers
//! end at level 0, and their last step gives the denoiser's answer, which is `denoise_last` here; where it does not, a test says
//! so. The stochastic samplers are compared together with their solvers.

mod fixture;
mod oracle;
mod trajectory;

use std::collections::BTreeSet;

use fixture::{Case, Fixture};
use fokker_sde::{Cond, Edm, Sde, VariancePreserving};
use fokker_solve::{
    Control, DpmAdaptive, DpmPpMultistep, DpmSolver, Euler, Exponential, Grid, GridConfig, Heun, Karras, Lms, LowerOrderFinal,
    Polyexponential, Sampler, Spacing,
};
use fokker_tensor::Dtype;
use oracle::{NOISE, mixture};
use trajectory::{TOLERANCE, assert_noise, assert_state, assert_states, edm, follow, follow_but_last, run, states, times};

const FILE: &str = "samplers_kdiffusion";

/// Compared in `fixtures_samplers_stochastic.rs`.
const STOCHASTIC: [&str; 6] =
    ["euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde"];

#[test]
fn every_sampler_in_the_fixture_is_compared() {
    let compared = [
        "noise",
        "euler",
        "heun",
        "dpm_2",
        "lms",
        "dpmpp_2m",
        "dpm_fast",
        "dpm_adaptive",
        "sigmas_karras",
        "sigmas_exponential",
        "sigmas_polyexponential",
        "sigmas_vp",
    ];
    assert_eq!(BTreeSet::from_iter(compared.into_iter().chain(STOCHASTIC)), Fixture::load(FILE).ops());
}

#[test]
fn the_noise_of_the_fixture_is_the_noise_of_the_solvers() {
    assert_noise(&Fixture::load(FILE));
}

#[test]
fn euler_and_heun_take_the_steps_of_k_diffusion() {
    let fixture = Fixture::load(FILE);
    for case in fixture.of("euler").iter().filter(|case| !case.has_parameter("s_churn")) {
        follow(case, Euler::default());
    }
    for case in fixture.of("heun").iter().filter(|case| !case.has_parameter("s_churn")) {
        follow(case, Heun::default());
    }
}

#[test]
fn dpm_2_is_dpm_solver_2() {
    // The middle of a step in the logarithm of the noise level, and only the noise there.
    for case in Fixture::load(FILE).of("dpm_2") {
        follow(&case, DpmSolver { order: 2 });
    }
}

#[test]
fn the_linear_multistep_method_takes_the_steps_of_k_diffusion_until_the_last() {
    // The last step goes on to level 0 with the polynomial through the last answers, and gives a combination of them. Here
    // the last answer alone is the sample.
    for case in Fixture::load(FILE).of("lms") {
        follow_but_last(&case, Lms { order: case.count("order") });
    }
}

#[test]
fn dpm_solver_pp_2m_takes_the_steps_of_k_diffusion() {
    for case in Fixture::load(FILE).of("dpmpp_2m") {
        follow(&case, DpmPpMultistep { order: 2, lower_order_final: LowerOrderFinal::Never });
    }
}

#[test]
fn dpm_solver_fast_is_steps_of_orders_3_then_2_or_1() {
    for case in Fixture::load(FILE).of("dpm_fast") {
        let steps = states(&case).len();
        // n evaluations are ⌊n/3⌋ + 1 steps, the last one or two of which are shorter of evaluations.
        let orders = match case.count("n") % 3 {
            0 => [vec![3; steps - 2], vec![2, 1]].concat(),
            rest => [vec![3; steps - 1], vec![rest]].concat(),
        };
        let times = times(&case);
        let mut found = vec![case.tensor("x")];
        for (n, &order) in orders.iter().enumerate() {
            found.extend(run(edm(), DpmSolver { order }, &times[n..n + 2], 1, found[n].clone()));
        }
        assert_states(&case, &found[1..]);
    }
}

#[test]
fn dpm_solver_adaptive_takes_the_steps_of_k_diffusion() {
    for case in Fixture::load(FILE).of("dpm_adaptive") {
        let (times, states, order) = (times(&case), states(&case), case.count("order"));
        assert_eq!(states.len(), case.count("accepted"));
        // The states: DpmSolver's on the grid that the controller chose.
        assert_states(&case, &run(edm(), DpmSolver { order }, &times, states.len(), case.tensor("x")));
        // The controller: as many attempts, and the same end.
        let control = Control {
            rtol: case.number_or("rtol", 0.05),
            atol: case.number_or("atol", 0.0078),
            first: Some(0.05),
            p: case.number_or("pcoeff", 0.0),
            i: case.number_or("icoeff", 1.0),
            d: case.number_or("dcoeff", 0.0),
            safety: 1.0,
            accept: 0.81,
            ..Control::default()
        };
        let model = mixture(edm());
        let grid = Grid::new(vec![times[0], times[times.len() - 1]], false, &edm()).unwrap();
        let sampler = Sampler::new(&model, DpmAdaptive { order, control }, grid).unwrap().state(Dtype::F64);
        let samples = sampler.integrate(case.tensor("x"), &Cond::NONE, NOISE, 0, &mut []).unwrap();
        // k-diffusion evaluates its state again for another try from it.
        let (accepted, rejected) = (case.count("accepted"), case.count("rejected"));
        assert_eq!(samples.nfe, order * accepted + (order - 1) * rejected, "{}", case.name);
        assert_state(case.name, &samples.x, &states[states.len() - 1], TOLERANCE);
    }
}

/// The noise levels `σ/α` of a grid on a process are those of a schedule, to which k-diffusion appends 0.
fn assert_levels(case: &Case, config: &GridConfig, sde: &dyn Sde) {
    let expected = times(case);
    let grid = GridConfig { steps: expected.len(), ..config.clone() }.build(sde).unwrap();
    assert!(grid.denoise_last());
    for (&t, expected) in grid.times().iter().zip(&expected) {
        let found = sde.sigma(t) / sde.alpha(t);
        assert!((found / expected - 1.0).abs() < 1e-12, "{}: {found} and {expected}", case.name);
    }
}

#[test]
fn grids_are_the_schedules_of_k_diffusion() {
    let fixture = Fixture::load(FILE);
    let on_edm = |case: &Case, spacing: Spacing| {
        let sde = Edm { sigma_min: case.number("sigma_min"), sigma_max: case.number("sigma_max") };
        assert_levels(case, &GridConfig { spacing, ..GridConfig::default() }, &sde);
    };
    for case in fixture.of("sigmas_karras") {
        on_edm(&case, Karras { rho: case.number("rho") }.into());
    }
    for case in fixture.of("sigmas_exponential") {
        on_edm(&case, Exponential::default().into());
    }
    for case in fixture.of("sigmas_polyexponential") {
        on_edm(&case, Polyexponential { rho: case.number("rho") }.into());
    }
    for case in fixture.of("sigmas_vp") {
        let beta_min = case.number("beta_min");
        let sde = VariancePreserving { beta_min, beta_max: beta_min + case.number("beta_d"), ..VariancePreserving::default() };
        assert_levels(&case, &GridConfig { t_min: Some(case.number("eps_s")), ..GridConfig::default() }, &sde);
    }
}
