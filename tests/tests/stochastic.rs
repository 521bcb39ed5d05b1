//! The stochastic solvers: weak orders from exact moments, strong orders along Brownian paths, their limits, and the
//! equations of their papers.

mod moments;
mod oracle;

use fokker_sde::{
    Cond, Covariance, Denoiser, Edm, Gaussian, GaussianMixture, LinearFlow, Sde, SdeConfig, VariancePreserving, diffuse,
};
use fokker_solve::{
    Ancestral, Ddim, Dpm2Ancestral, Dpmpp2mSde, Dpmpp2sAncestral, Dpmpp3mSde, DpmppSde, EdmStochastic, EulerAncestral,
    ExponentialEuler, Grid, GridConfig, Kind, LogSnr, NoiseSource, PosteriorVariance, PredictorCorrector, ReverseDiffusion,
    SaSolver, Sampler, SlopeWeight, Solver, SolverConfig, Srk, SrkMethod, Variance, noise_step,
};
use fokker_tensor::{Dtype, Tensor};

use moments::{exact_moments, noise_source, with_paths};
use oracle::{NOISE, fitted_order, interior_grid, log_snr_grid, max_difference, mixture, smooth_processes, solvers};

/// The mean and variance of the data of the one-dimensional tests.
const DATA: (f64, f64) = (0.7, 0.4);

fn one_dimensional(sde: impl Sde + 'static) -> Gaussian {
    Gaussian::new(sde, &[DATA.0], &Covariance::Isotropic(DATA.1))
}

/// Mean and variance of the noisy data at `t`.
fn marginal(sde: &dyn Sde, t: f64) -> (f64, f64) {
    (sde.alpha(t) * DATA.0, sde.alpha(t).powi(2) * DATA.1 + sde.sigma(t).powi(2))
}

/// Asserts that the errors of mean and variance together fall with the declared order.
fn assert_weak_order(sde: &SdeConfig, solver: &SolverConfig) {
    let model = one_dimensional(sde.clone());
    // The errors of mean and variance by Euler steps with churn cancel at 40 and 80 steps where σ̇ is far from constant.
    let steps = if solver.name() == "edm-stochastic" { [160, 320, 640] } else { [40, 80, 160] };
    let errors = steps.map(|n| {
        let grid = log_snr_grid(sde, n, (-3.0, 3.0));
        let (exact, start) = (marginal(sde, grid.last()), marginal(sde, grid.first()));
        let found = exact_moments(&model, solver, grid, start);
        (found.0 - exact.0).abs() + (found.1 - exact.1).abs()
    });
    let order = fitted_order(&steps, &errors);
    let declared = f64::from(solver.order());
    // On the straight paths of flows the ODE steps of EDM's sampler have hardly any error of their own order.
    let more = sde.name() == "flow" && solver.name() == "edm-stochastic";
    assert!(
        order - declared > -0.25 && (more || order - declared < 0.25),
        "{solver:?} on {}: weak order {order:.3}, declared {declared}; errors {errors:?}",
        sde.name()
    );
}

/// The solvers whose error is that of the grid, without what has an error of its own.
fn consistent(mut solvers: Vec<SolverConfig>) -> Vec<SolverConfig> {
    // Steps of their own, and Langevin steps of a fixed size.
    solvers.retain(|s| s.evaluations(1).is_some() && !s.name().contains("langevin"));
    for solver in &mut solvers {
        match solver {
            // A Langevin step of fixed size.
            SolverConfig::PredictorCorrector(solver) => solver.corrections = 0,
            SolverConfig::EdmStochastic(solver) => {
                // At all levels: which steps are in an interval changes by jumps.
                (solver.s_noise, solver.s_churn, solver.s_tmin, solver.s_tmax) = (1.0, 10.0, 0.0, None);
            }
            _ => {}
        }
    }
    solvers
}

#[test]
fn stochastic_solvers_have_their_weak_order_on_every_sde() {
    for sde in smooth_processes() {
        for solver in consistent(solvers(Kind::Sde)) {
            assert_weak_order(&sde, &solver);
        }
    }
}

#[test]
fn stochastic_solvers_have_their_weak_order_along_brownian_paths() {
    for sde in [VariancePreserving::default().into_config(), LinearFlow::default().into_config()] {
        for solver in with_paths(consistent(solvers(Kind::Sde))) {
            assert_weak_order(&sde, &solver);
        }
    }
}

/// Shorter than the variants' names.
trait IntoConfig {
    fn into_config(self) -> SdeConfig;
}

impl IntoConfig for VariancePreserving {
    fn into_config(self) -> SdeConfig {
        SdeConfig::VariancePreserving(self)
    }
}

impl IntoConfig for LinearFlow {
    fn into_config(self) -> SdeConfig {
        SdeConfig::LinearFlow(self)
    }
}

impl IntoConfig for Edm {
    fn into_config(self) -> SdeConfig {
        SdeConfig::Edm(self)
    }
}

/// Whether it solves the reverse SDE itself, not another of the family.
fn is_reverse_sde(solver: &SolverConfig) -> bool {
    match solver {
        SolverConfig::EulerMaruyama(s) => s.noise_level.value == 1.0,
        SolverConfig::ExponentialEuler(s) => s.noise_level.value == 1.0,
        SolverConfig::EulerAncestral(s) => s.eta == 1.0,
        SolverConfig::DpmppSde(s) => s.eta == 1.0,
        SolverConfig::Dpmpp2mSde(s) => s.eta == 1.0,
        SolverConfig::Dpmpp3mSde(s) => s.eta == 1.0,
        SolverConfig::SaSolver(s) => s.noise_level.value == 1.0,
        SolverConfig::Dpm2Ancestral(s) => s.eta == 1.0,
        SolverConfig::Dpmpp2sAncestral(s) => s.eta == 1.0,
        _ => true,
    }
}

#[test]
fn stochastic_solvers_converge_strongly_to_one_path_with_their_order() {
    for sde in [VariancePreserving::default().into_config(), LinearFlow::default().into_config(), Edm::default().into_config()] {
        // Not normal: with a linear denoiser some methods have a higher order than in general.
        let wide = Covariance::Isotropic(0.3);
        let model = GaussianMixture::new(sde.clone(), &[0.6, 0.4], &[vec![-0.7], vec![0.7]], &[wide.clone(), wide]);
        let x = {
            let t = log_snr_grid(&sde, 1, (-3.0, 3.0)).first();
            diffuse(&sde, &t.into(), &model.sample(64, NOISE, 0), &NOISE.normal(&[64, 1], 0, 9, Dtype::F64))
        };
        let run = |solver: &SolverConfig, n: usize| {
            let sampler = Sampler::new(&model, solver.clone(), log_snr_grid(&sde, n, (-3.0, 3.0))).unwrap().state(Dtype::F64);
            sampler.integrate(x.clone(), &Cond::NONE, NOISE, 0, &mut []).unwrap().x
        };
        let exact = run(&Srk { noise: NoiseSource::Brownian, ..Srk::default() }.into(), 2048);
        for solver in with_paths(solvers(Kind::Sde)) {
            let Some(declared) = solver.strong_order() else { continue };
            if declared > 1.0 {
                continue; // below
            }
            let own = (!is_reverse_sde(&solver)).then(|| run(&solver, 2048));
            let steps = [32, 64, 128];
            let errors = steps.map(|n| {
                let difference = &run(&solver, n) - own.as_ref().unwrap_or(&exact);
                difference.square().mean_all().item().sqrt()
            });
            let order = fitted_order(&steps, &errors);
            assert!(
                (order - declared).abs() < 0.25,
                "{solver:?} on {}: strong order {order:.3}, declared {declared}; errors {errors:?}",
                sde.name()
            );
        }
    }
}

#[test]
fn sra1_is_of_strong_order_2_for_linear_and_1_5_for_other_denoisers() {
    // With additive noise, what limits the order to 1.5 is the curvature of the drift.
    let sde = VariancePreserving::default();
    let narrow = Covariance::Isotropic(0.05);
    let curved = GaussianMixture::new(sde.clone(), &[0.6, 0.4], &[vec![-1.0], vec![1.0]], &[narrow.clone(), narrow]);
    let linear = one_dimensional(sde.clone());
    let order = |model: &dyn Denoiser, steps: [usize; 3]| {
        let t = sde.time_at_log_snr(-3.0);
        let x_0 = curved.sample(128, NOISE, 0);
        let x = diffuse(&sde, &t.into(), &x_0, &NOISE.normal(&[128, 1], 0, 9, Dtype::F64));
        let run = |n: usize| {
            let solver = Srk { noise: NoiseSource::Brownian, ..Srk::default() };
            assert_eq!(solver.strong_order(), Some(1.5));
            let sampler = Sampler::new(model, solver, log_snr_grid(&sde, n, (-3.0, 3.0))).unwrap().state(Dtype::F64);
            sampler.integrate(x.clone(), &Cond::NONE, NOISE, 0, &mut []).unwrap().x
        };
        let exact = run(8 * steps[2]);
        let errors = steps.map(|n| (&run(n) - &exact).square().mean_all().item().sqrt());
        (fitted_order(&steps, &errors), errors)
    };
    let (found, errors) = order(&linear, [64, 128, 256]);
    assert!((found - 2.0).abs() < 0.25, "linear: strong order {found:.3}; errors {errors:?}");
    let (found, errors) = order(&curved, [128, 256, 512]);
    assert!((found - 1.5).abs() < 0.25, "curved: strong order {found:.3}; errors {errors:?}");
}

#[test]
fn with_independent_draws_a_finer_grid_is_another_sample() {
    // What the strong orders above would not find otherwise.
    let sde = VariancePreserving::default();
    let model = one_dimensional(sde.clone());
    let run = |n: usize, noise: NoiseSource| {
        let solver = ExponentialEuler { noise, ..ExponentialEuler::default() };
        let grid = GridConfig { steps: n, spacing: LogSnr::default().into(), ..GridConfig::default() };
        let sampler = Sampler::new(&model, solver, grid.build(&sde).unwrap()).unwrap().state(Dtype::F64);
        sampler.sample(&[32, 1], &Cond::NONE, NOISE, 0, &mut []).unwrap().x
    };
    let apart = |noise| (&run(200, noise) - &run(400, noise)).square().mean_all().item().sqrt();
    assert!(apart(NoiseSource::PerStep) > 0.3, "{}", apart(NoiseSource::PerStep));
    assert!(apart(NoiseSource::Brownian) < 0.03, "{}", apart(NoiseSource::Brownian));
}

/// Samples of the mixture by `solver` on 12 steps, and the evaluations.
fn run_on(sde: &SdeConfig, solver: impl Into<SolverConfig>) -> (Tensor, usize) {
    let model = mixture(sde.clone());
    let sampler = Sampler::new(&model, solver.into(), GridConfig::with_steps(12).build(sde).unwrap()).unwrap();
    let samples = sampler.state(Dtype::F64).sample(&[6, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap();
    (samples.x, samples.nfe)
}

#[test]
fn euler_ancestral_is_ddim_with_its_eta() {
    for sde in smooth_processes() {
        for eta in [0.3, 1.0] {
            let (x, _) = run_on(&sde, EulerAncestral { eta, ..EulerAncestral::default() });
            assert_eq!(x.to_vec::<f64>(), run_on(&sde, Ddim { eta }).0.to_vec::<f64>(), "on {}", sde.name());
        }
    }
}

#[test]
fn the_exponential_family_has_ddim_and_the_posterior_at_its_ends() {
    for sde in smooth_processes() {
        for (lambda, end) in [(0.0, SolverConfig::from(Ddim::default())), (1.0, Ancestral::default().into())] {
            let found = run_on(&sde, ExponentialEuler { noise_level: lambda.into(), ..ExponentialEuler::default() }).0;
            let expected = run_on(&sde, end).0;
            assert!(
                max_difference(&found, &expected) < 1e-9,
                "λ = {lambda} on {}: {}",
                sde.name(),
                max_difference(&found, &expected)
            );
        }
    }
}

#[test]
fn solvers_in_the_noise_level_do_not_depend_on_the_process() {
    // The same denoiser under VP, where α falls, and EDM, where it is 1, at the same noise levels.
    let (vp, edm) = (VariancePreserving::default(), Edm::default());
    let log_snrs: Vec<f64> = (0..10).map(|i| -6.0 + 1.3 * f64::from(i)).collect();
    let run = |sde: &SdeConfig, solver: &SolverConfig| {
        let model = mixture(sde.clone());
        let grid = Grid::new(log_snrs.iter().map(|&l| sde.time_at_log_snr(l)).collect(), false, sde).unwrap();
        let (first, last) = (grid.first(), grid.last());
        let x = &NOISE.normal(&[5, 2], 0, 0, Dtype::F64) * sde.sigma(first);
        let sampler = Sampler::new(&model, solver.clone(), grid).unwrap().state(Dtype::F64);
        &sampler.integrate(x, &Cond::NONE, NOISE, 0, &mut []).unwrap().x * (1.0 / sde.alpha(last))
    };
    let exponential: Vec<SolverConfig> = vec![
        Ancestral::default().into(),
        Ancestral { variance: Variance::Interpolated { v: 0.0 }, ..Ancestral::default() }.into(),
        ExponentialEuler { noise_level: 0.6.into(), ..ExponentialEuler::default() }.into(),
        EulerAncestral { eta: 0.6, ..EulerAncestral::default() }.into(),
        DpmppSde::default().into(),
        Dpmpp2mSde { eta: 0.5, ..Dpmpp2mSde::default() }.into(),
        Dpmpp3mSde::default().into(),
        Srk::default().into(),
        Srk { method: SrkMethod::Heun, ..Srk::default() }.into(),
        SaSolver { noise_level: 0.7.into(), ..SaSolver::default() }.into(),
        Dpm2Ancestral::default().into(),
        Dpmpp2sAncestral { eta: 0.6, ..Dpmpp2sAncestral::default() }.into(),
    ];
    for solver in [exponential.clone(), with_paths(exponential)].concat() {
        let (a, b) = (run(&vp.clone().into_config(), &solver), run(&edm.clone().into_config(), &solver));
        // The log-SNRs agree to about 1e-14, and a Brownian path is as rough as the root of that.
        let tolerance = if noise_source(&solver) == Some(NoiseSource::Brownian) { 1e-6 } else { 1e-9 };
        assert!(max_difference(&a, &b) < tolerance, "{solver:?}: {}", max_difference(&a, &b));
    }
}

/// The draws of the steps, `[5, 2]` each.
fn draw(step: usize, draw: u32) -> Tensor {
    NOISE.normal(&[5, 2], 0, noise_step(step, draw), Dtype::F64)
}

#[test]
fn the_dpmpp_sde_family_is_the_equations_of_its_authors_on_edm() {
    // α = 1: with λ = −ln σ and all of it in σ, as the algorithms are published.
    let sde = Edm::default();
    let model = mixture(sde.clone());
    let sigmas = [30.0_f64, 11.0, 4.0, 1.5, 0.4, 0.11];
    let denoise = |x: &Tensor, sigma: f64| model.denoise(x, &sigma.into(), &Cond::NONE);
    let start = &NOISE.normal(&[5, 2], 0, 0, Dtype::F64) * sigmas[0];
    let run = |solver: SolverConfig| {
        let grid = Grid::new(sigmas.to_vec(), false, &sde).unwrap();
        let sampler = Sampler::new(&model, solver, grid).unwrap().state(Dtype::F64);
        sampler.integrate(start.clone(), &Cond::NONE, NOISE, 0, &mut []).unwrap().x
    };
    let (eta, s_noise) = (0.8, 1.1);
    let close = |found: &Tensor, expected: &Tensor, what: &str| {
        assert!(max_difference(found, expected) < 1e-11, "{what}: {}", max_difference(found, expected));
    };

    // Single-step: an ODE step down to σ_down, then noise of standard deviation σ_up.
    let ancestral = |from: f64, to: f64| {
        let up = to.min(eta * (to * to * (from * from - to * to) / (from * from)).sqrt());
        ((to * to - up * up).sqrt(), up)
    };
    let mut x = start.clone();
    for (i, pair) in sigmas.windows(2).enumerate() {
        let (from, to) = (pair[0], pair[1]);
        let middle = (from * to).sqrt();
        let first = denoise(&x, from);
        let (down, up) = ancestral(from, middle);
        let h = (from / down).ln();
        let x_2 = &(&(&x * (down / from)) - &(&first * (-h).exp_m1())) + &(&draw(i, 0) * (s_noise * up));
        let second = denoise(&x_2, middle);
        let (down, up) = ancestral(from, to);
        let h = (from / down).ln();
        x = &(&(&x * (down / from)) - &(&second * (-h).exp_m1())) + &(&draw(i, 1) * (s_noise * up));
    }
    close(&run(DpmppSde { eta, s_noise, ..DpmppSde::default() }.into()), &x, "single-step");

    // Multistep, in the published form of each.
    for order in [2, 3] {
        for slope in [SlopeWeight::Midpoint, SlopeWeight::Heun] {
            let mut x = start.clone();
            let mut known: Vec<(Tensor, f64)> = Vec::new();
            for (i, pair) in sigmas.windows(2).enumerate() {
                let d = denoise(&x, pair[0]);
                let h = (pair[0] / pair[1]).ln();
                let h_eta = h * (1.0 + eta);
                let noise = pair[1] * (-(-2.0 * h * eta).exp_m1()).sqrt() * s_noise;
                x = &(&(&x * (-h_eta).exp()) - &(&d * (-h_eta).exp_m1())) + &(&draw(i, 0) * noise);
                let phi_2 = (-h_eta).exp_m1() / h_eta + 1.0;
                match (order, &known[..]) {
                    (_, []) => {}
                    (3, [.., (d_2, h_2), (d_1, h_1)]) => {
                        let (r_0, r_1) = (h_1 / h, h_2 / h);
                        let d1_0 = &(&d - d_1) * (1.0 / r_0);
                        let d1_1 = &(d_1 - d_2) * (1.0 / r_1);
                        let d1 = &d1_0 + &(&(&d1_0 - &d1_1) * (r_0 / (r_0 + r_1)));
                        let d2 = &(&d1_0 - &d1_1) * (1.0 / (r_0 + r_1));
                        let phi_3 = phi_2 / h_eta - 0.5;
                        x = &(&x + &(&d1 * phi_2)) - &(&d2 * phi_3);
                    }
                    (_, [.., (d_1, h_1)]) => {
                        let weight = match (order, slope) {
                            (2, SlopeWeight::Midpoint) => -0.5 * (-h_eta).exp_m1(),
                            _ => phi_2,
                        };
                        x = &x + &(&(&d - d_1) * (weight * h / h_1));
                    }
                }
                known.push((d, h));
            }
            let solver: SolverConfig = match order {
                2 => Dpmpp2mSde { eta, s_noise, slope, ..Dpmpp2mSde::default() }.into(),
                _ => Dpmpp3mSde { eta, s_noise, ..Dpmpp3mSde::default() }.into(),
            };
            close(&run(solver), &x, &format!("order {order}, {slope:?}"));
        }
    }
}

#[test]
fn edm_stochastic_is_algorithm_2_of_karras_et_al() {
    let sde = Edm::default();
    let model = mixture(sde.clone());
    let solver = EdmStochastic { s_churn: 4.0, s_tmin: 0.3, s_tmax: Some(20.0), s_noise: 1.01, ..EdmStochastic::default() };
    let times = [30.0_f64, 11.0, 4.0, 1.5, 0.4, 0.11, 0.0];
    let n = times.len() - 1;
    let denoise = |x: &Tensor, t: f64| model.denoise(x, &t.into(), &Cond::NONE);
    let start = &NOISE.normal(&[5, 2], 0, 0, Dtype::F64) * times[0];
    let mut x = start.clone();
    for (i, pair) in times.windows(2).enumerate() {
        let (t, next) = (pair[0], pair[1]);
        let churned = (0.3..=20.0).contains(&t);
        let gamma = if churned { (4.0 / n as f64).min(2.0_f64.sqrt() - 1.0) } else { 0.0 };
        let t_hat = t + gamma * t;
        let mut x_hat = x.clone();
        if churned && next > 0.0 {
            x_hat = &x_hat + &(&draw(i, 0) * ((t_hat * t_hat - t * t).sqrt() * 1.01));
        }
        let d = &(&x_hat - &denoise(&x_hat, t_hat)) * (1.0 / t_hat);
        x = &x_hat + &(&d * (next - t_hat));
        if next > 0.0 {
            let d_next = &(&x - &denoise(&x, next)) * (1.0 / next);
            x = &x_hat + &(&(&d + &d_next) * (0.5 * (next - t_hat)));
        }
    }
    let grid = Grid::new(times[..n].to_vec(), true, &sde).unwrap();
    let sampler = Sampler::new(&model, solver, grid).unwrap().state(Dtype::F64);
    let found = sampler.integrate(start, &Cond::NONE, NOISE, 0, &mut []).unwrap();
    assert!(max_difference(&found.x, &x) < 1e-11, "{}", max_difference(&found.x, &x));
    assert_eq!(found.nfe, 2 * n - 1);
}

#[test]
fn the_variances_of_ancestral_sampling_are_those_of_their_papers() {
    let sde = VariancePreserving::default();
    let (t, s) = (0.5, 0.4);
    let (bar_t, bar_s) = (sde.alpha(t).powi(2), sde.alpha(s).powi(2));
    let beta = 1.0 - bar_t / bar_s;
    let small = beta * (1.0 - bar_s) / (1.0 - bar_t);
    let model = one_dimensional(sde.clone());
    // The variance of the step is seen in the difference of two samples with the same state and different noise.
    let variance = |variance: Variance| {
        let grid = Grid::new(vec![t, s], false, &sde).unwrap();
        let sampler = Sampler::new(&model, Ancestral { variance, ..Ancestral::default() }, grid).unwrap().state(Dtype::F64);
        let x = Tensor::zeros(&[2, 1], Dtype::F64);
        let x = sampler.integrate(x, &Cond::NONE, NOISE, 0, &mut []).unwrap().x.to_vec::<f64>();
        let z = NOISE.normal(&[2, 1], 0, noise_step(0, 0), Dtype::F64).to_vec::<f64>();
        ((x[0] - x[1]) / (z[0] - z[1])).powi(2)
    };
    let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-11, "{found} and {expected}");
    close(variance(Variance::Small), small);
    close(variance(Variance::Large), beta);
    close(variance(Variance::Interpolated { v: 0.3 }), (0.3 * beta.ln() + 0.7 * small.ln()).exp());
    // Analytic-DPM: for Gaussian data the optimal variance is that of the true reverse transition, which is normal.
    let total = |t: f64| marginal(&sde, t).1;
    let transition = total(s) - (bar_t / bar_s) * total(s).powi(2) / total(t);
    let given = DATA.1 * (1.0 - bar_t) / total(t);
    let table = PosteriorVariance { times: vec![t], variances: vec![given] };
    close(variance(Variance::Optimal(table)), transition);
}

#[test]
fn analytic_dpm_estimates_the_posterior_variance_and_makes_gaussian_sampling_exact() {
    let sde = VariancePreserving::default();
    let model = one_dimensional(sde.clone());
    let n = 20_000;
    let grid = interior_grid(&sde, 8, (-4.0, 3.0));
    let table = PosteriorVariance::calibrate(
        &model,
        grid.times(),
        &model.sample(n, NOISE, 0),
        &Cond::NONE,
        fokker_tensor::Noise::new(8, 8),
    )
    .unwrap();
    for (&t, &found) in grid.times().iter().zip(&table.variances) {
        let expected = DATA.1 * sde.sigma(t).powi(2) / marginal(&sde, t).1;
        // Five standard errors of the mean of ε̂², whose variance is 2 (E ε̂²)².
        let level = (-sde.log_snr(t)).exp();
        let mean_square = 1.0 - expected / level;
        let bound = 5.0 * level * mean_square * (2.0 / n as f64).sqrt();
        assert!((found - expected).abs() < bound, "t = {t}: {found}, expected {expected} ± {bound}");
    }
    // With the exact table eight steps have the exact moments, which β̃ and β are far from.
    let exact_table = PosteriorVariance {
        times: grid.times().to_vec(),
        variances: grid.times().iter().map(|&t| DATA.1 * sde.sigma(t).powi(2) / marginal(&sde, t).1).collect(),
    };
    let error = |variance: Variance| {
        let solver = Ancestral { variance, ..Ancestral::default() };
        let (start, exact) = (marginal(&sde, grid.first()), marginal(&sde, grid.last()));
        (exact_moments(&model, &solver.into(), grid.clone(), start).1 - exact.1).abs()
    };
    assert!(error(Variance::Optimal(exact_table)) < 1e-10);
    assert!(error(Variance::Optimal(table)) < 0.01);
    assert!(error(Variance::Small) > 0.02 && error(Variance::Large) > 0.02);
}

#[test]
fn calibration_refuses_what_it_cannot_estimate() {
    let sde = LinearFlow::default();
    let model = one_dimensional(sde);
    let calibrate = |times: &[f64], n: usize| {
        let x_0 = model.sample(n, NOISE, 0);
        PosteriorVariance::calibrate(&model, times, &x_0, &Cond::NONE, NOISE).unwrap_err().to_string()
    };
    assert!(calibrate(&[1.0, 0.5], 4).contains("α = 0"));
    assert!(calibrate(&[0.5, 0.7], 4).contains("decreasing"));
    assert!(calibrate(&[0.5], 0).contains("data are needed"));
}

#[test]
fn one_step_is_the_denoiser_and_two_are_the_posterior_for_exponential_solvers() {
    for sde in [VariancePreserving::default().into_config(), LinearFlow::default().into_config()] {
        let model = mixture(sde.clone());
        let run = |solver: &SolverConfig, steps: usize| {
            let grid = GridConfig::with_steps(steps).build(&sde).unwrap();
            let sampler = Sampler::new(&model, solver.clone(), grid).unwrap().state(Dtype::F64);
            sampler.sample(&[5, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap().x
        };
        let prior = &NOISE.normal(&[5, 2], 0, 0, Dtype::F64) * sde.sigma(1.0);
        let denoised = model.denoise(&prior, &1.0.into(), &Cond::NONE);
        for solver in [solvers(Kind::Sde), with_paths(solvers(Kind::Sde))].concat() {
            assert_eq!(run(&solver, 1).to_vec::<f64>(), denoised.to_vec::<f64>(), "{solver:?}");
            // Nothing explodes with very few steps, but for Euler and Maruyama, reverse diffusion and annealing, which need many, and noise
            // predicted to a higher order.
            let fragile = [
                "euler-maruyama",
                "reverse-diffusion",
                "predictor-corrector",
                "paradigms",
                "annealed-langevin",
                "dpm-2-ancestral",
            ];
            let fragile = fragile.contains(&solver.name());
            for steps in [2, 3].into_iter().filter(|_| !fragile) {
                let largest = run(&solver, steps).abs().max_all().item();
                assert!(largest < 4.0, "{solver:?} with {steps} steps: {largest}");
            }
        }
        let posterior = run(&Ancestral::default().into(), 2);
        for solver in
            [SolverConfig::from(Dpmpp2mSde::default()), Dpmpp3mSde::default().into(), ExponentialEuler::default().into()]
        {
            assert!(max_difference(&run(&solver, 2), &posterior) < 1e-9, "{solver:?}");
        }
    }
}

#[test]
fn langevin_corrections_leave_the_noise_level_where_it_is() {
    // The corrections add a bias of the second order in the signal-to-noise ratio and no more.
    for sde in SdeConfig::all().into_iter().filter(|sde| sde.ladder().is_none()) {
        let model = one_dimensional(sde.clone());
        let grid = || interior_grid(&sde, 100, (-3.0, 6.0));
        let (exact, start) = (marginal(&sde, grid().last()), marginal(&sde, grid().first()));
        let solver = PredictorCorrector { corrections: 2, ..PredictorCorrector::default() };
        let found = exact_moments(&model, &solver.into(), grid(), start);
        assert!((found.0 - exact.0).abs() < 0.01, "mean on {}: {} and {}", sde.name(), found.0, exact.0);
        assert!((found.1 / exact.1 - 1.0).abs() < 0.05, "variance on {}: {} and {}", sde.name(), found.1, exact.1);
    }
}

#[test]
fn reverse_diffusion_is_the_predictor_of_predictor_corrector() {
    for sde in smooth_processes() {
        let (found, _) = run_on(&sde, ReverseDiffusion::default());
        let (expected, _) = run_on(&sde, PredictorCorrector { corrections: 0, ..PredictorCorrector::default() });
        assert_eq!(found.to_vec::<f64>(), expected.to_vec::<f64>());
    }
}
