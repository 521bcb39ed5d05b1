//! Trajectories of the stochastic samplers of k-diffusion and diffusers, with given noise.
//!
//! The scripts draw fokker's own numbers and hand them to the samplers, so that trajectories agree number by number (that the
//! numbers are the same, `fixtures_samplers_kdiffusion.rs` and `fixtures_samplers_diffusers.rs` say). k-diffusion's Brownian tree
//! is replaced by the independent draws of a step, which its other samplers take anyway.

mod fixture;
mod oracle;
mod trajectory;

use fixture::{Case, Fixture};
use fokker_sde::{Cond, Denoiser, Discrete, GaussianMixture, Reverse, Sde, Times};
use fokker_solve::{
    Ancestral, Dpm2Ancestral, DpmPpSinglestep, DpmSolver, Dpmpp2mSde, Dpmpp2sAncestral, Dpmpp3mSde, DpmppSde, EdmStochastic,
    EulerAncestral, ExponentialEuler, Grid, Inner, NoiseLevel, SaSolver, Sampler, SlopeWeight, Step, Variance, combine,
    noise_step,
};
use fokker_tensor::{Dtype, Tensor};
use oracle::{FlatStart, NOISE, mixture};
use trajectory::ladder::{discrete, follow_ladder, follow_ladder_of, ladder_times, multistep};
use trajectory::{TOLERANCE, assert_state, assert_states, edm, entry, follow, follow_but_last, run, states, times};

const K_DIFFUSION: &str = "samplers_kdiffusion";
const DIFFUSERS: &str = "samplers_diffusers";

/// Karras et al.'s churn, none if the case says nothing of it.
fn churn(case: &Case, solver: Inner) -> EdmStochastic {
    EdmStochastic {
        s_churn: case.number_or("s_churn", 0.0),
        s_tmin: case.number_or("s_tmin", 0.0),
        s_tmax: case.has_parameter("s_tmax").then(|| case.number("s_tmax")),
        s_noise: case.number_or("s_noise", 1.0),
        solver,
    }
}

#[test]
fn edms_stochastic_sampler_takes_the_steps_of_k_diffusion_with_and_without_churn() {
    let fixture = Fixture::load(K_DIFFUSION);
    for case in fixture.of("euler") {
        follow(&case, churn(&case, Inner::Euler));
    }
    for case in fixture.of("heun").iter().filter(|case| case.name != "heun-churn-most") {
        follow(case, churn(case, Inner::Heun));
    }
}

#[test]
fn the_last_denoising_step_is_not_churned_as_that_of_k_diffusion_is_below_all_levels() {
    // Without a least level for churn, algorithm 2 of Karras et al. 2022 (and k-diffusion) adds noise before its last step, to
    // level 0, too, and answers for the noisier state. Their own settings do not: `S_tmin` is above the last level. fokker's last
    // step belongs to the sampler, and is the same for all solvers.
    let fixture = Fixture::load(K_DIFFUSION);
    let case = fixture.case("heun-churn-most");
    follow_but_last(&case, churn(&case, Inner::Heun));
    let states = states(&case);
    let [.., before, last] = &states[..] else { panic!("two states") };
    let sigma = times(&case)[states.len() - 1];
    let raised = 2.0_f64.sqrt() * sigma;
    let noise = NOISE.normal(last.shape(), 0, noise_step(states.len() - 1, 0), Dtype::F64);
    let noisier = combine(1.0, before.clone(), &[((raised * raised - sigma * sigma).sqrt(), &noise)]);
    let answer = mixture(edm()).denoise(&noisier, &Times::Same(raised), &Cond::NONE);
    assert_state(case.name, &answer, last, TOLERANCE);
}

#[test]
fn euler_ancestral_takes_the_steps_of_k_diffusion_and_is_the_posterior_of_ddpm() {
    for case in Fixture::load(K_DIFFUSION).of("euler_ancestral") {
        let (eta, s_noise) = (case.number_or("eta", 1.0), case.number_or("s_noise", 1.0));
        follow(&case, EulerAncestral { eta, s_noise, ..EulerAncestral::default() });
        if eta == 1.0 && s_noise == 1.0 {
            follow(&case, Ancestral::default());
        }
    }
}

#[test]
fn second_order_ancestral_solvers_take_the_steps_of_k_diffusion() {
    let fixture = Fixture::load(K_DIFFUSION);
    for case in fixture.of("dpm_2_ancestral") {
        let (eta, s_noise) = (case.number_or("eta", 1.0), case.number_or("s_noise", 1.0));
        follow(&case, Dpm2Ancestral { eta, s_noise, ..Dpm2Ancestral::default() });
        if eta == 0.0 {
            follow(&case, DpmSolver { order: 2 });
        }
    }
    for case in fixture.of("dpmpp_2s_ancestral") {
        let (eta, s_noise) = (case.number_or("eta", 1.0), case.number_or("s_noise", 1.0));
        follow(&case, Dpmpp2sAncestral { eta, s_noise, ..Dpmpp2sAncestral::default() });
        if eta == 0.0 {
            follow(&case, DpmPpSinglestep { order: 2 });
        }
    }
}

#[test]
fn the_stochastic_dpm_solvers_take_the_steps_of_k_diffusion() {
    // 3M has half of the exact weight of the second divided difference there and here: see `Dpmpp3mSde`, and the test of
    // diffusers' 3M for what that is.
    let fixture = Fixture::load(K_DIFFUSION);
    for case in fixture.of("dpmpp_sde") {
        follow(&case, DpmppSde { eta: case.number("eta"), ..DpmppSde::default() });
    }
    for case in fixture.of("dpmpp_2m_sde") {
        let slope = match case.word_or("solver_type", "midpoint") {
            "midpoint" => SlopeWeight::Midpoint,
            "heun" => SlopeWeight::Heun,
            other => panic!("{}: {other}", case.name),
        };
        follow(&case, Dpmpp2mSde { eta: case.number("eta"), slope, ..Dpmpp2mSde::default() });
    }
    for case in fixture.of("dpmpp_3m_sde") {
        follow(&case, Dpmpp3mSde { eta: case.number("eta"), ..Dpmpp3mSde::default() });
    }
}

/// The mixture with variances, those of the script: the network's second output, `2v − 1`, is `2.4 x/(1 + x²)` for each number of the
/// state.
struct WithVariance(GaussianMixture);

impl Denoiser for WithVariance {
    fn sde(&self) -> &dyn Sde {
        self.0.sde()
    }

    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        self.0.denoise(x, t, c)
    }

    fn learns_variance(&self) -> bool {
        true
    }

    fn reverse(&self, x: &Tensor, t: &Times, _s: &Times, c: &Cond) -> Reverse {
        let output = &(x * &(&x.square() + 1.0).recip()) * 2.4;
        Reverse { denoised: self.denoise(x, t, c), fraction: Some(&(&output + 1.0) * 0.5) }
    }
}

#[test]
fn ancestral_with_learned_variances_takes_the_steps_of_diffusers_ddpm() {
    let fixture = Fixture::load(DIFFUSERS);
    let cases = fixture.of("DDPMScheduler").into_iter().filter(|case| case.word_or("variance_type", "") == "learned_range");
    let cases: Vec<Case> = cases.collect();
    // Of a linear and of a cosine ladder, ten steps of a thousand: respaced.
    assert_eq!(cases.len(), 2);
    for case in cases {
        let solver = Ancestral { variance: Variance::Learned, ..Ancestral::default() };
        follow_ladder_of(&case, &WithVariance(mixture(discrete(&case))), solver);
    }
}

#[test]
fn ancestral_with_either_variance_takes_the_steps_of_diffusers_ddpm() {
    for case in Fixture::load(DIFFUSERS).of("DDPMScheduler") {
        let variance = match case.word_or("variance_type", "fixed_small") {
            "fixed_small" => Variance::Small,
            "fixed_large" => Variance::Large,
            "learned_range" => continue, // above
            other => panic!("{}: {other}", case.name),
        };
        follow_ladder(&case, Ancestral { variance, ..Ancestral::default() });
    }
}

#[test]
fn stochastic_multistep_dpm_solvers_take_the_steps_of_diffusers() {
    for (case, order, heun) in multistep(&Fixture::load(DIFFUSERS), "sde-dpmsolver++") {
        let slope = if heun { SlopeWeight::Heun } else { SlopeWeight::Midpoint };
        match order {
            1 => follow_ladder(&case, ExponentialEuler::default()),
            2 => follow_ladder(&case, Dpmpp2mSde { slope, ..Dpmpp2mSde::default() }),
            _ => assert_eq!(order, 3, "{}: see below", case.name),
        }
    }
}

#[test]
fn the_third_order_of_diffusers_stochastic_dpm_solver_has_a_wrong_sign() {
    // With `φ₂ = 1 − (1 − e^(−2h))/(2h)` and `φ₃ = φ₂/(2h) − ½`, its formula has `((1 − e^(−2h) − 2h)/(2h)² − ½) D₂ = (−φ₃ − 1) D₂` where
    // k-diffusion, and `sde-dpmsolver++` at `h` for `2h`, have `−φ₃ D₂`: the last ½ should be added. As `h → 0` the weight of the second
    // divided difference `D₂` goes to −1 instead of 0. (k-diffusion's 3M SDE is fokker's: `fixtures_samplers_kdiffusion.rs`.)
    //
    // Besides, its second step is the second order's `midpoint` where k-diffusion's is `heun`: the first two are `Dpmpp2mSde`'s.
    let fixture = Fixture::load(DIFFUSERS);
    let (case, ..) = multistep(&fixture, "sde-dpmsolver++").into_iter().find(|(_, order, _)| *order == 3).expect("a case");
    let process = discrete(&case);
    let times = ladder_times(&case, &process);
    let model = mixture(process.clone());
    let all = [vec![case.tensor("x")], states(&case)].concat();
    let halves = run(process.clone(), Dpmpp2mSde::default(), &times[..3], 2, case.tensor("x"));
    assert_states(&case, &halves);
    let answer = |n: usize| model.denoise(&all[n], &Times::Same(times[n]), &Cond::NONE);
    let lambda = |n: usize| 0.5 * process.log_snr(times[n]);
    for n in 2..states(&case).len() {
        let h = lambda(n + 1) - lambda(n);
        let (r_0, r_1) = ((lambda(n) - lambda(n - 1)) / h, (lambda(n - 1) - lambda(n - 2)) / h);
        let (d, d_1, d_2) = (answer(n), answer(n - 1), answer(n - 2));
        let (delta_0, delta_1) = (&(&d - &d_1) * (1.0 / r_0), &(&d_1 - &d_2) * (1.0 / r_1));
        let second = &(&delta_0 - &delta_1) * (1.0 / (r_0 + r_1));
        let first = &delta_0 + &(&second * r_0);
        let phi_2 = 1.0 + (-2.0 * h).exp_m1() / (2.0 * h);
        let phi_3 = phi_2 / (2.0 * h) - 0.5;
        let (t, s) = (times[n], times[n + 1]);
        let (alpha, sigma) = (process.alpha(s), process.sigma(s));
        let noise = NOISE.normal(d.shape(), 0, noise_step(n, 0), Dtype::F64);
        let step = |of_second: f64| {
            combine(
                sigma / process.sigma(t) * (-h).exp(),
                all[n].clone(),
                &[
                    (-alpha * (-2.0 * h).exp_m1(), &d),
                    (alpha * phi_2, &first),
                    (alpha * of_second, &second),
                    (sigma * (-(-2.0 * h).exp_m1()).sqrt(), &noise),
                ],
            )
        };
        let what = format!("{}, step {}", case.name, n + 1);
        assert_state(&what, &step(-phi_3 - 1.0), &all[n + 1], TOLERANCE);
    }
}

#[test]
fn stochastic_schedulers_in_noise_levels_take_the_steps_of_diffusers() {
    // diffusers' Euler with `s_churn` is not compared: it adds the noise after the model has answered for the state without it,
    // where algorithm 2 of Karras et al. 2022 evaluates the noisier state at the higher level.
    let fixture = Fixture::load(DIFFUSERS);
    for case in fixture.of("EulerAncestralDiscreteScheduler") {
        follow(&case, EulerAncestral::default());
    }
    for case in fixture.of("DPMSolverSDEScheduler") {
        follow(&case, DpmppSde::default());
    }
}

/// `τ(t)` of a case: a number, or the scheduler's default, 1 where 200 ≤ t ≤ 800.
fn tau(case: &Case, process: &Discrete) -> NoiseLevel {
    if case.has_parameter("tau") {
        return case.number("tau").into();
    }
    let level = |step: usize| (-0.5 * process.log_snr(process.time_of_step(step))).exp();
    NoiseLevel { value: 1.0, from: level(200) * (1.0 - 1e-12), to: Some(level(800) * (1.0 + 1e-12)) }
}

#[test]
fn sa_solver_takes_the_corrected_steps_of_diffusers_but_for_those_of_two_nodes() {
    // The scheduler corrects a state at the beginning of its next step, so that its last one is only predicted. What it does with two nodes is
    // below. It has two on the way to more, in the first step's corrector and the second's predictor: where the model's first two answers
    // are the same they do not matter, and all other steps are as in the paper. (The scheduler can predict the noise too, which the paper
    // advises against and fokker's does not.)
    let mut followed = 0;
    for case in Fixture::load(DIFFUSERS).of("SASolverScheduler").iter().filter(|case| case.name != "sa-2-2") {
        let process = discrete(case);
        let times = ladder_times(case, &process);
        let from = case.count("flat").checked_sub(1).map_or(f64::INFINITY, |last| times[last]);
        let model = FlatStart { inner: mixture(process.clone()), from };
        let (predictor, corrector) = (case.count("predictor_order"), case.count("corrector_order"));
        let solver = SaSolver { noise_level: tau(case, &process), predictor, corrector, ..SaSolver::default() };
        let grid = Grid::new(times, false, &process).unwrap();
        let sampler = Sampler::new(&model, solver, grid).unwrap().state(Dtype::F64);
        let mut found = Vec::new();
        let mut observer = |step: &Step<'_>| found.push(step.x.clone());
        sampler.integrate(case.tensor("x"), &Cond::NONE, NOISE, 0, &mut [&mut observer]).unwrap();
        assert_eq!(found.len(), states(case).len());
        assert_states(case, &found);
        followed += 1;
    }
    assert_eq!(followed, 6);
}

#[test]
fn with_two_nodes_diffusers_sa_solver_has_another_weight_of_the_slope() {
    // With K = (1 + τ²) h, the line through two answers adds α φ (h/Δλ) (D_0 − D_1) with φ = 1 − (1 − e^{−K})/K. The scheduler has K/2 for φ, both
    // in the predictor and in the corrector, which differs by O(h²) and is meant for few steps; the paper's algorithm 1 has φ, and so has fokker.
    let fixture = Fixture::load(DIFFUSERS);
    let case = fixture.case("sa-2-2");
    let process = discrete(&case);
    let times = ladder_times(&case, &process);
    let model = mixture(process.clone());
    let tau = case.number("tau");
    let corrected = [vec![case.tensor("x")], states(&case)].concat();
    let rest = case.tensor("predicted");
    let predicted: Vec<Tensor> = [case.tensor("x")].into_iter().chain((0..rest.dim(0)).map(|n| entry(&rest, n))).collect();
    let lambda = |n: usize| 0.5 * process.log_snr(times[n]);
    let answers: Vec<Tensor> = predicted.iter().zip(&times).map(|(x, &t)| model.denoise(x, &t.into(), &Cond::NONE)).collect();
    for n in 0..times.len() - 1 {
        let (t, s, h) = (times[n], times[n + 1], lambda(n + 1) - lambda(n));
        let (alpha, sigma, k) = (process.alpha(s), process.sigma(s), (1.0 + tau * tau) * h);
        let noise = NOISE.normal(corrected[n].shape(), 0, noise_step(n, 0), Dtype::F64);
        let std = sigma * (-(-2.0 * tau * tau * h).exp_m1()).sqrt();
        // The step with a slope of D per step.
        let step = |slope: &[(f64, &Tensor)]| {
            let state = sigma / process.sigma(t) * (-tau * tau * h).exp();
            let constant = [(-alpha * (-k).exp_m1(), &answers[n]), (std, &noise)];
            let slope: Vec<(f64, &Tensor)> = slope.iter().map(|(c, d)| (alpha * 0.5 * k * c, *d)).collect();
            combine(state, corrected[n].clone(), &[&constant[..], &slope].concat())
        };
        let before = n.checked_sub(1).map(|before| (h / (lambda(n) - lambda(before)), &answers[before]));
        let found = before.map_or_else(|| step(&[]), |(r, d)| step(&[(r, &answers[n]), (-r, d)]));
        assert_state(&format!("{}, prediction {}", case.name, n + 1), &found, &predicted[n + 1], TOLERANCE);
        let found = step(&[(1.0, &answers[n + 1]), (-1.0, &answers[n])]);
        assert_state(&format!("{}, step {}", case.name, n + 1), &found, &corrected[n + 1], TOLERANCE);
    }
}
