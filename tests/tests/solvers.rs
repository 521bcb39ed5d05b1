//! Every solver on every SDE against exact answers and the equations of its paper.

mod oracle;

use fokker_sde::{
    Cond, Covariance, Denoiser, Edm, Gaussian, GaussianMixture, LinearFlow, Quantity, Sde, SdeConfig, VarianceExploding,
    VariancePreserving, diffuse,
};
use fokker_solve::{
    Ancestral, Ddim, Euler, EulerMaruyama, Grid, GridConfig, Heun, Karras, Kind, LogSnr, Observer, PredictorCorrector, Sampler,
    Solver, SolverConfig, Step, StepSize, noise_step,
};
use fokker_tensor::{Dtype, Tensor};

use oracle::{NOISE, fitted_order, interior_grid, max_difference, mixture, smooth_processes, solvers, time_within_span};

/// The mean and variance at the end of a trajectory of one-dimensional Gaussian data, exactly.
///
/// With a linear denoiser every step is `x_s = a x_t + b + Σ_j c_j z_j` with the same numbers for all samples. They are found
/// from as many samples as there are unknowns, whose noise is known; then mean and variance are carried along.
fn exact_moments(model: &Gaussian, solver: &SolverConfig, grid: Grid, draws: usize, start: (f64, f64)) -> (f64, f64) {
    struct Steps(Vec<Vec<f64>>);
    impl Observer for Steps {
        fn start(&mut self, x: &Tensor, _t: f64, _first_sample: u64) {
            self.0.push(x.to_vec::<f64>());
        }
        fn step(&mut self, step: &Step<'_>) {
            self.0.push(step.x.to_vec::<f64>());
        }
    }
    let unknowns = 2 + draws;
    let mut seen = Steps(Vec::new());
    let sampler = Sampler::new(model, solver.clone(), grid).unwrap().state(Dtype::F64);
    sampler.sample(&[unknowns, 1], &Cond::NONE, NOISE, 0, &mut [&mut seen]).unwrap();
    let (mut mean, mut variance) = start;
    for (index, pair) in seen.0.windows(2).enumerate() {
        let z: Vec<Vec<f64>> = (0..draws)
            .map(|j| NOISE.normal(&[unknowns, 1], 0, noise_step(index, j as u32), Dtype::F64).to_vec::<f64>())
            .collect();
        let rows = (0..unknowns).map(|i| {
            let mut row = vec![pair[0][i], 1.0];
            row.extend(z.iter().map(|z| z[i]));
            row.push(pair[1][i]);
            row
        });
        let solution = solve_linear(rows.collect());
        mean = solution[0] * mean + solution[1];
        variance = solution[0].powi(2) * variance + solution[2..].iter().map(|c| c * c).sum::<f64>();
    }
    (mean, variance)
}

/// Solves a linear system given as augmented rows, by elimination with partial pivoting.
fn solve_linear(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let n = rows.len();
    for k in 0..n {
        let pivot = (k..n).max_by(|&i, &j| rows[i][k].abs().total_cmp(&rows[j][k].abs())).unwrap();
        rows.swap(k, pivot);
        let pivot_row = rows[k].clone();
        for (i, row) in rows.iter_mut().enumerate() {
            if i != k {
                let factor = row[k] / pivot_row[k];
                row.iter_mut().zip(&pivot_row).skip(k).for_each(|(x, p)| *x -= factor * p);
            }
        }
    }
    (0..n).map(|k| rows[k][n] / rows[k][k]).collect()
}

#[test]
fn stochastic_solvers_have_their_weak_order_on_every_sde() {
    let (mu, v) = (0.7, 0.4);
    for sde in smooth_processes() {
        let model = Gaussian::new(sde.clone(), &[mu], &Covariance::Isotropic(v));
        for mut solver in solvers(Kind::Sde) {
            if let SolverConfig::PredictorCorrector(solver) = &mut solver {
                // A Langevin step of fixed size has an error of its own.
                solver.corrections = 0;
            }
            let steps = [100, 200, 400, 800];
            let errors = steps.map(|n| {
                let grid = interior_grid(&sde, n, (-3.0, 3.0));
                let at = |t: f64| (sde.alpha(t) * mu, sde.alpha(t).powi(2) * v + sde.sigma(t).powi(2));
                let (exact, start) = (at(grid.last()), at(grid.first()));
                let found = exact_moments(&model, &solver, grid, 1, start);
                [(found.0 - exact.0).abs(), (found.1 - exact.1).abs()]
            });
            for (moment, what) in ["mean", "variance"].into_iter().enumerate() {
                let errors = errors.map(|e| e[moment]);
                if errors.iter().all(|e| *e < 1e-10) {
                    continue; // exact but for rounding, as the mean by the posterior is
                }
                let order = fitted_order(&steps, &errors);
                assert!(
                    (order - f64::from(solver.order())).abs() < 0.2,
                    "{what} of {solver:?} on {}: weak order {order:.3}; errors {errors:?}",
                    sde.name()
                );
            }
        }
    }
}

#[test]
fn langevin_corrections_leave_the_noise_level_where_it_is() {
    // The corrections add a bias of the second order in the signal-to-noise ratio and no more.
    let (mu, v) = (0.7, 0.4);
    for sde in SdeConfig::all() {
        let model = Gaussian::new(sde.clone(), &[mu], &Covariance::Isotropic(v));
        let grid = || interior_grid(&sde, 400, (-3.0, 6.0));
        let at = |t: f64| (sde.alpha(t) * mu, sde.alpha(t).powi(2) * v + sde.sigma(t).powi(2));
        let (exact, start) = (at(grid().last()), at(grid().first()));
        let solver = PredictorCorrector { corrections: 2, ..PredictorCorrector::default() };
        let found = exact_moments(&model, &solver.into(), grid(), 3, start);
        assert!((found.0 - exact.0).abs() < 0.01, "mean on {}: {} and {}", sde.name(), found.0, exact.0);
        assert!((found.1 / exact.1 - 1.0).abs() < 0.03, "variance on {}: {} and {}", sde.name(), found.1, exact.1);
    }
}

#[test]
fn every_solver_reaches_the_moments_and_weights_of_a_mixture_on_every_sde() {
    let n = 2000;
    for sde in SdeConfig::all() {
        let model = mixture(sde.clone());
        let (mean, covariance) = (model.mean(), model.covariance());
        for solver in [solvers(Kind::Ode), solvers(Kind::Sde)].concat() {
            let grid = GridConfig {
                steps: if solver.kind() == Kind::Ode && solver.order() > 1 { 25 } else { 250 },
                spacing: LogSnr::default().into(),
                t_max: Some(time_within_span(&sde, -5.0)),
                t_min: Some(time_within_span(&sde, 8.0)),
                ..GridConfig::default()
            };
            let sampler = Sampler::new(&model, solver.clone(), grid.build(&sde).unwrap()).unwrap().state(Dtype::F64);
            let samples = sampler.sample(&[n, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap().x;
            let rows: Vec<[f64; 2]> = samples.as_slice::<f64>().chunks(2).map(|p| [p[0], p[1]]).collect();
            let average = |f: &dyn Fn(&[f64; 2]) -> f64| rows.iter().map(f).sum::<f64>() / n as f64;
            let check = |what: &str, f: &dyn Fn(&[f64; 2]) -> f64, expected: f64| {
                let found = average(f);
                let spread = average(&|p| (f(p) - found).powi(2)).sqrt();
                // Four standard errors, and 0.03 for 250 steps of a first-order method or 25 of another.
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
    }
}

#[test]
fn stochastic_solvers_may_start_at_pure_noise() {
    let sde = LinearFlow::default();
    let model = mixture(sde.clone());
    for solver in solvers(Kind::Sde) {
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
