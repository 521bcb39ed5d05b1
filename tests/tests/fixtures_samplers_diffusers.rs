//! Trajectories of diffusers' schedulers.
//!
//! Those that walk a ladder of betas are fokker on [`Discrete`](fokker_sde::Discrete), the others on [`Edm`](fokker_sde::Edm) and [`LinearFlow`]. Most end in a step to
//! a level without noise (`final_sigmas_type = "zero"`), which gives the denoiser's answer: `denoise_last` here. The exact model
//! needs no clipping, and none is on. The stochastic ones are compared together with their solvers.

mod fixture;
mod oracle;
mod trajectory;

use std::collections::BTreeSet;

use fixture::{Case, Fixture};
use fokker_sde::{Cond, Denoiser, LinearFlow, Times};
use fokker_solve::{
    Ddim, Deis, Dpm2Ancestral, DpmPpMultistep, DpmPpSinglestep, DpmSolver, Euler, ExponentialAdams, FlowShift, GridConfig, Heun,
    Ipndm, Lms, LowerOrderFinal, Picking, Pndm, Prediction, Spacing, UniPc, UniPcVariant, Variable, WarmUp, combine,
};
use fokker_tensor::Tensor;
use oracle::{max_difference, mixture};
use trajectory::ladder::{discrete, follow_ladder, ladder_times, multistep, run_ladder};
use trajectory::{
    TOLERANCE, assert_noise, assert_state, assert_states, edm, follow, follow_but_last, follow_on, run, states, times,
};

const FILE: &str = "samplers_diffusers";

/// Compared in `fixtures_samplers_stochastic.rs`, as are some cases of `DPMSolverMultistepScheduler`.
const STOCHASTIC: [&str; 4] = ["DDPMScheduler", "DPMSolverSDEScheduler", "EulerAncestralDiscreteScheduler", "SASolverScheduler"];

#[test]
fn every_scheduler_in_the_fixture_is_compared() {
    let compared = [
        "noise",
        "ladder",
        "DDIMScheduler",
        "PNDMScheduler",
        "IPNDMScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "DEISMultistepScheduler",
        "UniPCMultistepScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "LMSDiscreteScheduler",
        "EDMEulerScheduler",
        "EDMDPMSolverMultistepScheduler",
        "FlowMatchEulerDiscreteScheduler",
        "FlowMatchHeunDiscreteScheduler",
    ];
    assert_eq!(BTreeSet::from_iter(compared.into_iter().chain(STOCHASTIC)), Fixture::load(FILE).ops());
}

#[test]
fn the_noise_of_the_fixture_is_the_noise_of_the_solvers() {
    assert_noise(&Fixture::load(FILE));
}

#[test]
fn ladders_are_those_of_diffusers() {
    for case in Fixture::load(FILE).of("ladder") {
        let process = discrete(&case);
        let (steps, expected) = (case.indices("steps"), case.tensor("alpha_bars").to_vec::<f64>());
        for (&step, &expected) in steps.iter().zip(&expected) {
            let found = process.alpha_bar(step);
            if case.name == "ladder-laplace" {
                // diffusers makes the betas from ratios of √(snr/(1 + snr)), which is α, where it wants those of ᾱ = snr/(1 + snr):
                // its ᾱ is the square root of the paper's (Hang et al. 2024). Its logarithm of a distance from an end has 1e-6
                // added, so that it begins with snr = 1000 at t = 0, by which the products are divided, and the ends differ.
                let squared = expected * expected * (1000.0 / 1001.0);
                if (99..=899).contains(&step) {
                    assert!((found / squared - 1.0).abs() < 1e-5, "step {step}: {found} and {squared}");
                }
                continue;
            }
            let tolerance = 1e-12 * expected.abs().max(1e-3);
            assert!((found - expected).abs() <= tolerance, "{}, step {step}: {found} and {expected}", case.name);
        }
    }
}

#[test]
fn ddim_takes_the_steps_of_diffusers() {
    for case in Fixture::load(FILE).of("DDIMScheduler").iter().filter(|case| case.name != "ddim-linspace") {
        follow_ladder(case, Ddim { eta: case.number_or("eta", 0.0) });
    }
}

#[test]
fn on_equally_spaced_steps_with_both_ends_diffusers_ddim_stops_short_of_the_next() {
    // With `timestep_spacing = "linspace"` the steps are 999, 888, …, 0 but DDIM still goes down by 1000/10, to 899, and takes the
    // state there for that at 888.
    let fixture = Fixture::load(FILE);
    let case = fixture.case("ddim-linspace");
    let process = discrete(&case);
    let states = [vec![case.tensor("x")], states(&case)].concat();
    for (n, step) in times(&case).into_iter().enumerate() {
        let step = step as usize;
        let mut way = vec![process.time_of_step(step)];
        if let Some(next) = step.checked_sub(100) {
            way.push(process.time_of_step(next));
        }
        let found = run(process.clone(), Ddim::default(), &way, 1, states[n].clone());
        assert_state(&format!("{}, step {}", case.name, n + 1), &found[0], &states[n + 1], TOLERANCE);
    }
}

#[test]
fn grids_of_a_ladder_are_those_of_diffusers() {
    for case in Fixture::load(FILE).of("DDIMScheduler") {
        let process = discrete(&case);
        let picking = match case.word_or("timestep_spacing", "leading") {
            "leading" => Picking::Leading,
            "trailing" => Picking::Trailing,
            "linspace" => Picking::Linspace,
            other => panic!("{}: {other}", case.name),
        };
        let spacing = Spacing::from(fokker_solve::Discrete { picking, ..fokker_solve::Discrete::default() });
        let grid = GridConfig { steps: 10, spacing, ..GridConfig::default() }.build(&process).unwrap();
        assert_eq!(grid.times(), ladder_times(&case, &process), "{}", case.name);
    }
}

#[test]
fn pndm_and_ipndm_take_the_steps_of_diffusers_until_the_last() {
    // Their last step goes on to no noise with a combination of the last answers. Here the last answer alone is the sample.
    let fixture = Fixture::load(FILE);
    for case in fixture.of("PNDMScheduler") {
        let warm_up = if case.flag("skip_prk_steps") { WarmUp::Plms } else { WarmUp::RungeKutta };
        let mut found = run_ladder(&case, Pndm { warm_up });
        found.pop();
        assert_states(&case, &found);
    }
    for case in fixture.of("IPNDMScheduler") {
        follow_but_last(&case, Ipndm::default());
    }
}

/// `lower_order_final` of the DPM-Solver and DEIS schedulers.
fn few_steps(case: &Case) -> LowerOrderFinal {
    if case.flag_or("lower_order_final", true) { LowerOrderFinal::FewSteps } else { LowerOrderFinal::Never }
}

#[test]
fn the_algorithms_of_the_multistep_dpm_solver_are_those_compared() {
    for case in Fixture::load(FILE).of("DPMSolverMultistepScheduler") {
        let algorithm = case.word_or("algorithm_type", "dpmsolver++");
        assert!(["dpmsolver++", "dpmsolver", "sde-dpmsolver++"].contains(&algorithm), "{}: {algorithm}", case.name);
    }
}

#[test]
fn multistep_dpm_solvers_take_the_steps_of_diffusers() {
    // 3M has half of the exact weight of the second divided difference, there and in the authors' code, which makes it a method
    // of second order. fokker's `DpmPpMultistep` is the same; the exact one is `ExponentialAdams`.
    let fixture = Fixture::load(FILE);
    let exact = |case: &Case, order, prediction| ExponentialAdams {
        order,
        prediction,
        lower_order_final: few_steps(case),
        ..ExponentialAdams::default()
    };
    for (case, order, heun) in multistep(&fixture, "dpmsolver++") {
        match (order, heun) {
            (1, _) => follow_ladder(&case, Ddim::default()),
            (2, true) => follow_ladder(&case, exact(&case, 2, Prediction::Data)),
            _ => follow_ladder(&case, DpmPpMultistep { order, lower_order_final: few_steps(&case) }),
        }
    }
    for (case, order, heun) in multistep(&fixture, "dpmsolver") {
        assert!(order == 2 && heun, "{}", case.name);
        follow_ladder(&case, exact(&case, 2, Prediction::Noise));
    }
}

#[test]
fn deis_takes_the_steps_of_diffusers() {
    // Its polynomials are in `ln ρ`, where the paper has them in `t` and in `ρ`.
    for case in Fixture::load(FILE).of("DEISMultistepScheduler") {
        let order = case.count("solver_order");
        follow_ladder(&case, Deis { order, variable: Variable::LogSnr, lower_order_final: few_steps(&case) });
    }
}

#[test]
fn unipc_takes_the_steps_of_diffusers() {
    for case in Fixture::load(FILE).of("UniPCMultistepScheduler") {
        let variant = match case.word_or("solver_type", "bh2") {
            "bh1" => UniPcVariant::Bh1,
            "bh2" => UniPcVariant::Bh2,
            other => panic!("{}: {other}", case.name),
        };
        let always = case.flag_or("lower_order_final", true);
        let solver = UniPc {
            order: case.number_or("solver_order", 2.0) as usize,
            variant,
            prediction: if case.flag_or("predict_x0", true) { Prediction::Data } else { Prediction::Noise },
            corrector: !case.has_parameter("disable_corrector"),
            lower_order_final: if always { LowerOrderFinal::Always } else { LowerOrderFinal::Never },
        };
        follow_ladder(&case, solver);
    }
}

#[test]
fn second_order_single_step_dpm_solvers_take_the_steps_of_diffusers() {
    // The case leaves out the steps of first order at the end.
    for case in
        Fixture::load(FILE).of("DPMSolverSinglestepScheduler").iter().filter(|case| case.number_or("solver_order", 2.0) == 2.0)
    {
        match case.word_or("algorithm_type", "dpmsolver++") {
            "dpmsolver++" => follow(case, DpmPpSinglestep { order: 2 }),
            "dpmsolver" => follow(case, DpmSolver { order: 2 }),
            other => panic!("{}: {other}", case.name),
        }
    }
}

#[test]
fn third_order_single_steps_of_diffusers_have_two_weights_for_the_stage_and_the_step() {
    // The authors' (3S), which is fokker's, integrates the line through the first two answers exactly for the stage at ⅔, and that
    // through the first and the third exactly for the step. The scheduler has one `solver_type` for both: with `midpoint` the stage is
    // 2S's (the answer at ⅓ for all of it), and with `heun` the step goes over the parabola through all three answers. Here both are
    // followed from the same formulas; states are `x/α`, so that σ is the level and α is 1.
    let fixture = Fixture::load(FILE);
    let model = mixture(edm());
    let cases: Vec<Case> = fixture.of("DPMSolverSinglestepScheduler");
    let third: Vec<&Case> = cases.iter().filter(|case| case.number_or("solver_order", 2.0) == 3.0).collect();
    assert_eq!(third.len(), 2);
    for case in third {
        let (times, states) = (times(case), [vec![case.tensor("x")], states(case)].concat());
        let heun = case.word_or("solver_type", "midpoint") == "heun";
        let own = run(edm(), DpmPpSinglestep { order: 3 }, &times, states.len() - 1, states[0].clone());
        let mut apart = 0.0_f64;
        for (n, pair) in times.windows(2).enumerate() {
            let (t, s, x) = (pair[0], pair[1], &states[n]);
            let h = (t / s).ln();
            let level = |r: f64| t * (-r * h).exp();
            let answer = |x: &Tensor, level: f64| model.denoise(x, &Times::Same(level), &Cond::NONE);
            // The end at a part r of the way, of a constant d_0 and of a slope d_1 per step.
            let moved = |r: f64, terms: &[(f64, &Tensor)]| combine((-r * h).exp(), x.clone(), terms);
            let (phi_1, phi_2) = (|r: f64| -(-r * h).exp_m1(), |r: f64| 1.0 + (-r * h).exp_m1() / (r * h));
            let (r_1, r_2) = (1.0 / 3.0, 2.0 / 3.0);
            let d_0 = answer(x, t);
            let d_1 = answer(&moved(r_1, &[(phi_1(r_1), &d_0)]), level(r_1));
            let slope = if heun { phi_2(r_2) } else { 0.5 * phi_1(r_2) } * r_2 / r_1;
            let d_2 = answer(&moved(r_2, &[(phi_1(r_2) - slope, &d_0), (slope, &d_1)]), level(r_2));
            let expected = if heun {
                // Newton's form: d_0 + u δ_1 + u (u − r_1) δ_2, where u integrates to φ₂ and u² to 1 − 2 φ₂/h.
                let of_second = (1.0 - 2.0 * phi_2(1.0) / h - r_1 * phi_2(1.0)) / (r_2 - r_1);
                let (one, two) = (phi_2(1.0) / r_1 - of_second / r_1, of_second / r_2);
                moved(1.0, &[(phi_1(1.0) - one - two, &d_0), (one, &d_1), (two, &d_2)])
            } else {
                let two = phi_2(1.0) / r_2;
                moved(1.0, &[(phi_1(1.0) - two, &d_0), (two, &d_2)])
            };
            assert_state(&format!("{}, step {}", case.name, n + 1), &states[n + 1], &expected, TOLERANCE);
            apart = apart.max(max_difference(&own[n], &states[n + 1]));
        }
        assert!(apart > 1e-5, "{}: {apart:e}", case.name);
    }
}

#[test]
fn schedulers_in_noise_levels_take_the_steps_of_diffusers() {
    let fixture = Fixture::load(FILE);
    let each = |name: &str, follow: &dyn Fn(&Case)| fixture.of(name).iter().for_each(follow);
    each("EulerDiscreteScheduler", &|case| follow(case, Euler::default()));
    each("EDMEulerScheduler", &|case| follow(case, Euler::default()));
    each("HeunDiscreteScheduler", &|case| follow(case, Heun::default()));
    each("KDPM2DiscreteScheduler", &|case| follow(case, DpmSolver { order: 2 }));
    each("KDPM2AncestralDiscreteScheduler", &|case| follow(case, Dpm2Ancestral::default()));
    each("EDMDPMSolverMultistepScheduler", &|case| {
        let order = case.count("solver_order");
        follow(case, DpmPpMultistep { order, lower_order_final: few_steps(case) });
    });
    // As k-diffusion's: the last step is a combination of the last answers.
    each("LMSDiscreteScheduler", &|case| follow_but_last(case, Lms::default()));
}

#[test]
fn flows_take_the_steps_of_diffusers_on_their_grids() {
    let fixture = Fixture::load(FILE);
    let flow = LinearFlow::default();
    for case in fixture.of("FlowMatchEulerDiscreteScheduler") {
        follow_on(flow.clone(), &case, Euler::default());
        // A uniform grid from 1 to the shifted 1/1000, and that shifted: diffusers shifts its last time twice.
        let shift = case.number_or("shift", 1.0);
        let shifted = |t: f64| shift * t / (1.0 + (shift - 1.0) * t);
        let t_min = Some(shifted(shifted(1e-3)));
        let grid = GridConfig { steps: 10, spacing: FlowShift { shift }.into(), t_min, ..GridConfig::default() };
        for (found, expected) in grid.build(&flow).unwrap().times().iter().zip(times(&case)) {
            assert!((found / expected - 1.0).abs() < 1e-12, "{}: {found} and {expected}", case.name);
        }
    }
    for case in fixture.of("FlowMatchHeunDiscreteScheduler") {
        follow_on(flow.clone(), &case, Heun::default());
    }
}
