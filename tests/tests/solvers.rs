//! Every solver on every SDE against exact answers and the equations of its paper.

mod moments;
mod oracle;

use fokker_sde::{
    Cond, Denoiser, Edm, GaussianMixture, LinearFlow, Quantity, Sde, SdeConfig, VarianceExploding, VariancePreserving, diffuse,
};
use fokker_solve::{
    Ancestral, Ddim, Euler, EulerMaruyama, Family, Grid, GridConfig, Heun, Karras, Kind, LogSnr, NoiseSource, PredictorCorrector,
    Sampler, Solver, SolverConfig, StepSize, noise_step,
};
use fokker_tensor::{Dtype, Tensor};

use moments::with_paths;
use oracle::{NOISE, follows_paths, max_difference, mixture, solvers, time_within_span};

#[test]
fn every_solver_reaches_the_moments_and_weights_of_a_mixture_on_every_sde() {
    // Of the deterministic ones those that are listed: `convergence.rs` has every variant of them.
    let listed = SolverConfig::all().into_iter().filter(|solver| solver.kind() == Kind::Ode);
    let mut all: Vec<SolverConfig> = listed.chain(solvers(Kind::Sde).into_iter().filter(|s| !follows_paths(s))).collect();
    for solver in &mut all {
        if let SolverConfig::AdaptiveSde(solver) = solver {
            // Fresh noise after a rejected step is chosen noise: in two dimensions that biases the result, at any tolerance.
            solver.noise = NoiseSource::Brownian;
        }
    }
    std::thread::scope(|scope| {
        for sde in SdeConfig::all() {
            let all = &all;
            scope.spawn(move || all.iter().for_each(|solver| assert_reaches_the_mixture(&sde, solver)));
        }
    });
}

#[test]
fn every_solver_that_follows_brownian_paths_reaches_them_too() {
    // Every variant on one process, and those that are listed on one that starts at pure noise.
    let mut all = with_paths(solvers(Kind::Sde));
    all.extend(solvers(Kind::Sde).into_iter().filter(|s| follows_paths(s) && s.name() != "adaptive-sde"));
    for (_, solver) in all.iter().enumerate().filter(|(i, solver)| !all[..*i].contains(solver)) {
        assert!(follows_paths(solver), "{solver:?}");
        assert_reaches_the_mixture(&VariancePreserving::default().into(), solver);
    }
    for solver in with_paths(SolverConfig::all()) {
        assert_reaches_the_mixture(&LinearFlow::default().into(), &solver);
    }
}

/// Asserts that samples have the mean, the covariance and the weights of the clusters: within four standard errors, and 0.03 for the steps.
fn assert_reaches_the_mixture(sde: &SdeConfig, solver: &SolverConfig) {
    // The steps of its own on Brownian paths cost most of all.
    let n = if solver.name() == "adaptive-sde" { 400 } else { 1000 };
    let model = mixture(sde.clone());
    let (mean, covariance) = (model.mean(), model.covariance());
    let grid = GridConfig {
        steps: match (solver.kind(), solver.family()) {
            (_, Family::Adaptive) => 2,
            (Kind::Ode, _) if solver.order() > 1 => 25,
            (Kind::Sde, _) if solver.order() > 1 => 60,
            _ => 250,
        },
        spacing: LogSnr::default().into(),
        t_max: Some(time_within_span(sde, -5.0)),
        t_min: Some(time_within_span(sde, 8.0)),
        ..GridConfig::default()
    };
    let sampler = Sampler::new(&model, solver.clone(), grid.build(sde).unwrap()).unwrap().state(Dtype::F64);
    let samples = sampler.sample(&[n, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap().x;
    let rows: Vec<[f64; 2]> = samples.as_slice::<f64>().chunks(2).map(|p| [p[0], p[1]]).collect();
    let average = |f: &dyn Fn(&[f64; 2]) -> f64| rows.iter().map(f).sum::<f64>() / n as f64;
    let check = |what: &str, f: &dyn Fn(&[f64; 2]) -> f64, expected: f64| {
        let found = average(f);
        let spread = average(&|p| (f(p) - found).powi(2)).sqrt();
        let bound = 4.0 * spread / (n as f64).sqrt() + 0.03;
        assert!(
            (found - expected).abs() < bound,
            "{what} by {solver:?} on {}: {found:.4}, expected {expected:.4} ± {bound:.4}",
            sde.name()
        );
    };
    for i in 0..2 {
        check("mean", &|p| p[i], mean[i]);
        for j in 0..=i {
            check("covariance", &|p| (p[i] - mean[i]) * (p[j] - mean[j]), covariance[2 * i + j]);
        }
    }
    // The clusters are far enough apart for these lines to separate them but for a thousandth of each.
    check("weight of cluster 0", &|p| f64::from(p[0] < 0.0 && p[1] < 0.25), 0.5);
    check("weight of cluster 2", &|p| f64::from(p[1] > 0.4 && p[0] < 0.75), 0.2);
}

#[test]
fn stochastic_solvers_may_start_at_pure_noise() {
    let sde = LinearFlow::default();
    let model = mixture(sde.clone());
    for solver in solvers(Kind::Sde).into_iter().filter(|s| !follows_paths(s)) {
        let sampler =
            Sampler::new(&model, solver.clone(), GridConfig::with_steps(200).build(&sde).unwrap()).unwrap().state(Dtype::F64);
        let x = sampler.sample(&[2000, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap().x;
        let mean = x.mean(&[0]).to_vec::<f64>();
        for (found, expected) in mean.iter().zip(model.mean()) {
            assert!((found - expected).abs() < 0.1, "mean by {solver:?}: {found}, expected {expected}");
        }
    }
}

/// The state after one step of `solver` from `x` at `t` to `s`, in `f64`.
fn one_step(model: &dyn Denoiser, solver: impl Solver, x: &Tensor, t: f64, s: f64) -> Vec<f64> {
    let grid = Grid::new(vec![t, s], false, model.sde()).unwrap();
    let sampler = Sampler::new(model, solver, grid).unwrap().state(Dtype::F64);
    sampler.integrate(x.clone(), &Cond::NONE, NOISE, 0, &mut []).unwrap().x.to_vec::<f64>()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < tolerance * (1.0 + expected.abs()), "{found} and {expected}");
    }
}

/// Five states at time `t`, and noise, score, `x̂₀` there.
fn setting(model: &GaussianMixture, t: f64) -> (Tensor, Vec<f64>, Vec<f64>, Vec<f64>) {
    let x_0 = model.sample(5, NOISE, 100);
    let x = diffuse(model.sde(), &t.into(), &x_0, &NOISE.normal(&[5, 2], 0, 1, Dtype::F64));
    let z = NOISE.normal(&[5, 2], 0, noise_step(0, 0), Dtype::F64).to_vec::<f64>();
    let score = model.score(&x, &t.into(), &Cond::NONE).to_vec::<f64>();
    let denoised = model.denoise(&x, &t.into(), &Cond::NONE).to_vec::<f64>();
    (x, z, score, denoised)
}

#[test]
fn euler_and_euler_maruyama_are_the_equations_of_song_et_al() {
    for sde in SdeConfig::all() {
        let model = mixture(sde.clone());
        let (t, s) = (sde.time_at_log_snr(-1.0), sde.time_at_log_snr(0.0));
        let (f, g2, h) = (sde.drift(t), sde.diffusion_squared(t), t - s);
        let (x, z, score, _) = setting(&model, t);
        let rows = x.to_vec::<f64>();
        let ode: Vec<f64> = (0..10).map(|i| rows[i] - h * (f * rows[i] - 0.5 * g2 * score[i])).collect();
        assert_close(&one_step(&model, Euler::default(), &x, t, s), &ode, 1e-11);
        let reverse: Vec<f64> = (0..10).map(|i| rows[i] - h * (f * rows[i] - g2 * score[i]) + (g2 * h).sqrt() * z[i]).collect();
        assert_close(&one_step(&model, EulerMaruyama::default(), &x, t, s), &reverse, 1e-11);
    }
}

#[test]
fn ancestral_and_ddim_are_the_equations_of_their_papers_on_a_discrete_ladder() {
    let sde = VariancePreserving::default();
    let model = mixture(sde.clone());
    let (t, s) = (0.5, 0.45);
    // DDPM's symbols: ᾱ_t, β_t = 1 − ᾱ_t/ᾱ_s, eq. 7.
    let (bar_t, bar_s) = (sde.alpha(t).powi(2), sde.alpha(s).powi(2));
    let beta = 1.0 - bar_t / bar_s;
    let (x, z, _, x_0) = setting(&model, t);
    let rows = x.to_vec::<f64>();
    let posterior = beta * (1.0 - bar_s) / (1.0 - bar_t);
    let ddpm: Vec<f64> = (0..10)
        .map(|i| {
            (bar_s.sqrt() * beta * x_0[i] + (1.0 - beta).sqrt() * (1.0 - bar_s) * rows[i]) / (1.0 - bar_t)
                + posterior.sqrt() * z[i]
        })
        .collect();
    assert_close(&one_step(&model, Ancestral::default(), &x, t, s), &ddpm, 1e-12);
    assert_close(&one_step(&model, Ddim { eta: 1.0 }, &x, t, s), &ddpm, 1e-12);
    // DDIM, eq. 12 and 16.
    for eta in [0.0, 0.3] {
        let sigma = eta * posterior.sqrt();
        let ddim: Vec<f64> = (0..10)
            .map(|i| {
                let noise = (rows[i] - bar_t.sqrt() * x_0[i]) / (1.0 - bar_t).sqrt();
                bar_s.sqrt() * x_0[i] + (1.0 - bar_s - sigma * sigma).sqrt() * noise + sigma * z[i]
            })
            .collect();
        assert_close(&one_step(&model, Ddim { eta }, &x, t, s), &ddim, 1e-12);
    }
}

#[test]
fn predictor_corrector_is_algorithms_2_to_5_of_song_et_al() {
    let no_correction = PredictorCorrector { corrections: 0, ..PredictorCorrector::default() };
    // Algorithm 2: variance exploding.
    let sde = VarianceExploding::default();
    let model = mixture(sde.clone());
    let (t, s) = (0.6, 0.57);
    let (x, z, score, _) = setting(&model, t);
    let rows = x.to_vec::<f64>();
    let added = sde.sigma(t).powi(2) - sde.sigma(s).powi(2);
    let expected: Vec<f64> = (0..10).map(|i| rows[i] + added * score[i] + added.sqrt() * z[i]).collect();
    let predicted = one_step(&model, no_correction.clone(), &x, t, s);
    assert_close(&predicted, &expected, 1e-11);
    // Algorithm 3: variance preserving.
    let sde = VariancePreserving::default();
    let model = mixture(sde.clone());
    let (x, z, score, _) = setting(&model, t);
    let rows = x.to_vec::<f64>();
    let beta = 1.0 - (sde.alpha(t) / sde.alpha(s)).powi(2);
    let expected: Vec<f64> =
        (0..10).map(|i| (2.0 - (1.0 - beta).sqrt()) * rows[i] + beta * score[i] + beta.sqrt() * z[i]).collect();
    let predicted = one_step(&model, no_correction, &x, t, s);
    assert_close(&predicted, &expected, 1e-11);
    // Algorithm 5: its Langevin step, with both rules for its size.
    let x = Tensor::from_vec(&[5, 2], predicted.clone());
    let score = model.score(&x, &s.into(), &Cond::NONE).to_vec::<f64>();
    let z = NOISE.normal(&[5, 2], 0, noise_step(0, 1), Dtype::F64).to_vec::<f64>();
    for step_size in [StepSize::NoiseLevel, StepSize::Norms] {
        let solver = PredictorCorrector { snr: 0.2, step_size, ..PredictorCorrector::default() };
        let (before, _, _, _) = setting(&model, t);
        let found = one_step(&model, solver, &before, t, s);
        let expected: Vec<f64> = (0..10)
            .map(|i| {
                let own = i / 2 * 2..i / 2 * 2 + 2;
                let norm = |v: &[f64]| v[own.clone()].iter().map(|x| x * x).sum::<f64>().sqrt();
                let ratio = match step_size {
                    StepSize::NoiseLevel => sde.sigma(s),
                    StepSize::Norms => norm(&z) / norm(&score),
                };
                let epsilon = 2.0 * (1.0 - beta) * (0.2 * ratio).powi(2);
                predicted[i] + epsilon * score[i] + (2.0 * epsilon).sqrt() * z[i]
            })
            .collect();
        assert_close(&found, &expected, 1e-11);
    }
}

#[test]
fn heun_is_algorithm_1_of_karras_et_al_with_their_grid_and_last_step() {
    let sde = Edm::default();
    let model = mixture(sde.clone());
    let n = 9;
    let grid = GridConfig { steps: n, spacing: Karras::default().into(), ..GridConfig::default() };
    let sampler = Sampler::new(&model, Heun::default(), grid.build(&sde).unwrap()).unwrap().state(Dtype::F64);
    let samples = sampler.sample(&[4, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap();
    // The algorithm without churn, for one number at a time but for the denoiser.
    let mut times: Vec<f64> = (0..n)
        .map(|i| {
            let (high, low) = (80.0_f64.powf(1.0 / 7.0), 0.002_f64.powf(1.0 / 7.0));
            (high + i as f64 / (n - 1) as f64 * (low - high)).powf(7.0)
        })
        .collect();
    times.push(0.0);
    let slope = |x: &Tensor, t: f64| &(x - &model.denoise(x, &t.into(), &Cond::NONE)) * (1.0 / t);
    let mut x = &NOISE.normal(&[4, 2], 0, 0, Dtype::F64) * times[0];
    for pair in times.windows(2) {
        let (t, s) = (pair[0], pair[1]);
        let d = slope(&x, t);
        let mut next = &x + &(&d * (s - t));
        if s != 0.0 {
            next = &x + &(&(&d + &slope(&next, s)) * (0.5 * (s - t)));
        }
        x = next;
    }
    assert!(max_difference(&samples.x, &x) < 1e-11);
    assert_eq!(samples.nfe, 2 * n - 1);
}

#[test]
fn euler_is_ddim_where_paths_are_straight() {
    for sde in [SdeConfig::Edm(Edm::default()), SdeConfig::LinearFlow(LinearFlow::default())] {
        let model = mixture(sde.clone());
        let run = |solver: SolverConfig| {
            let sampler = Sampler::new(&model, solver, GridConfig::with_steps(12).build(&sde).unwrap()).unwrap();
            sampler.state(Dtype::F64).sample(&[6, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap().x
        };
        assert!(max_difference(&run(Euler::default().into()), &run(Ddim::default().into())) < 1e-11, "{}", sde.name());
    }
}

#[test]
fn scores_and_velocities_follow_from_any_denoiser() {
    let sde = VariancePreserving::default();
    let model = mixture(sde.clone());
    let t = 0.4;
    let (x, _, score, denoised) = setting(&model, t);
    let found = model.predict(Quantity::Score, &x, &t.into(), &Cond::NONE).to_vec::<f64>();
    assert_close(&found, &score, 1e-12);
    let found = model.predict(Quantity::Velocity, &x, &t.into(), &Cond::NONE).to_vec::<f64>();
    let expected: Vec<f64> = (0..10).map(|i| sde.d_alpha(t) * denoised[i] - sde.d_sigma(t) * sde.sigma(t) * score[i]).collect();
    assert_close(&found, &expected, 1e-12);
}
