//! SA-Solver, the adaptive SDE solver and restarts.

mod moments;
mod oracle;

use fokker_sde::{Cond, Covariance, Denoiser, Edm, Gaussian, Sde, SdeConfig, VariancePreserving, diffuse};
use fokker_solve::{
    AdaptiveSde, Dpmpp2mSde, ExponentialEuler, Grid, GridConfig, Heun, Kind, NoiseSource, Restart, RestartInterval, SaSolver,
    Sampler, SlopeWeight, Solver, SolverConfig, Srk, noise_step,
};
use fokker_tensor::{Dtype, Noise, Tensor};

use moments::exact_moments;
use oracle::{
    NOISE, fitted_order, gaussian, interior_grid, log_snr_grid, max_difference, mixture, smooth_processes, solvers,
    time_within_span,
};

/// The mean and variance of the data of the one-dimensional tests.
const DATA: (f64, f64) = (0.7, 0.4);

fn one_dimensional(sde: impl Sde + 'static) -> Gaussian {
    Gaussian::new(sde, &[DATA.0], &Covariance::Isotropic(DATA.1))
}

fn marginal(sde: &dyn Sde, t: f64) -> (f64, f64) {
    (sde.alpha(t) * DATA.0, sde.alpha(t).powi(2) * DATA.1 + sde.sigma(t).powi(2))
}

#[test]
fn sa_solver_without_noise_has_the_order_of_its_nodes_on_every_sde() {
    for sde in smooth_processes() {
        let model = gaussian(sde.clone());
        for (predictor, corrector, order) in [(1, 0, 1), (2, 0, 2), (1, 2, 2), (2, 3, 3), (3, 3, 3)] {
            let solver = SaSolver { noise_level: 0.0.into(), predictor, corrector, ..SaSolver::default() };
            assert_eq!((solver.kind(), solver.order()), (Kind::Ode, order));
            let steps = [40, 80, 160];
            let errors = steps.map(|n| {
                let grid = log_snr_grid(&sde, n, (-3.0, 3.0));
                let (t, s) = (grid.first(), grid.last());
                let x = diffuse(&sde, &t.into(), &model.sample(8, NOISE, 0), &NOISE.normal(&[8, 2], 0, 9, Dtype::F64));
                let exact = model.flow(&x, t, s);
                let sampler = Sampler::new(&model, solver.clone(), grid).unwrap().state(Dtype::F64);
                max_difference(&sampler.integrate(x, &Cond::NONE, NOISE, 0, &mut []).unwrap().x, &exact)
            });
            let found = fitted_order(&steps, &errors);
            assert!((found - f64::from(order)).abs() < 0.25, "{solver:?} on {}: {found:.3}, {errors:?}", sde.name());
        }
    }
}

#[test]
fn sa_solver_with_few_nodes_is_the_dpmpp_family() {
    for sde in smooth_processes() {
        let model = mixture(sde.clone());
        let run = |solver: SolverConfig| {
            let sampler = Sampler::new(&model, solver, GridConfig::with_steps(9).build(&sde).unwrap()).unwrap();
            sampler.state(Dtype::F64).sample(&[5, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap().x
        };
        let sa = |predictor| SaSolver { noise_level: 0.8.into(), predictor, corrector: 0, ..SaSolver::default() };
        let one = run(ExponentialEuler { noise_level: 0.8.into(), ..ExponentialEuler::default() }.into());
        assert!(max_difference(&run(sa(1).into()), &one) < 1e-10, "on {}", sde.name());
        let two = run(Dpmpp2mSde { eta: 0.8 * 0.8, slope: SlopeWeight::Heun, ..Dpmpp2mSde::default() }.into());
        assert!(max_difference(&run(sa(2).into()), &two) < 1e-10, "on {}", sde.name());
    }
}

#[test]
fn sa_solver_corrects_with_the_predicted_answer_and_the_same_noise() {
    // One step on EDM with both ends as nodes of the corrector: D linear in λ.
    let sde = Edm::default();
    let model = mixture(sde.clone());
    let (t, s, tau) = (3.0_f64, 1.2_f64, 0.7_f64);
    let x = &NOISE.normal(&[5, 2], 0, 0, Dtype::F64) * t;
    let z = NOISE.normal(&[5, 2], 0, noise_step(0, 0), Dtype::F64);
    let h = (t / s).ln();
    let k = (1.0 + tau * tau) * h;
    let kept = &(&x * (-k).exp()) + &(&z * (s * (1.0 - (-2.0 * tau * tau * h).exp()).sqrt()));
    let d_t = model.denoise(&x, &t.into(), &Cond::NONE);
    let d_s = model.denoise(&(&kept + &(&d_t * (1.0 - (-k).exp()))), &s.into(), &Cond::NONE);
    let slope = 1.0 - (1.0 - (-k).exp()) / k;
    let expected = &kept + &(&(&d_t * (1.0 - (-k).exp() - slope)) + &(&d_s * slope));
    let solver = SaSolver { noise_level: tau.into(), corrector: 2, ..SaSolver::default() };
    let sampler = Sampler::new(&model, solver, Grid::new(vec![t, s], false, &sde).unwrap()).unwrap().state(Dtype::F64);
    let found = sampler.integrate(x, &Cond::NONE, NOISE, 0, &mut []).unwrap();
    assert!(max_difference(&found.x, &expected) < 1e-12);
    assert_eq!(found.nfe, 2);
}

#[test]
fn adaptive_sde_is_algorithm_1_of_jolicoeur_martineau_et_al() {
    let sde = VariancePreserving::default();
    let model = one_dimensional(sde.clone());
    let (start, end) = (1.0, 1e-3);
    let solver = AdaptiveSde { rtol: 0.02, ..AdaptiveSde::default() };
    let grid = Grid::new(vec![start, end], false, &sde).unwrap();
    let sampler = Sampler::new(&model, solver, grid).unwrap().state(Dtype::F64);
    let noise = Noise::new(NOISE.seed, NOISE.stream ^ (1 << 32));
    for sample in 0..4 {
        let x_0 = NOISE.normal(&[1, 1], sample, 0, Dtype::F64);
        let found = sampler.integrate(x_0.clone(), &Cond::NONE, NOISE, sample, &mut []).unwrap();
        // The algorithm for one number.
        let reverse = |x: f64, t: f64| {
            let state = Tensor::from_vec(&[1, 1], vec![x]);
            sde.diffusion_squared(t) * model.score(&state, &t.into()).item() - sde.drift(t) * x
        };
        let (mut x, mut t, mut h, mut evaluations, mut rejected) = (x_0.item(), start, 0.01 * (start - end), 0, 0);
        let mut previous = x;
        while t > end {
            let z = noise.normal(&[1, 1], sample, evaluations / 2, Dtype::F64).item();
            let s = if h < t - end { t - h } else { end };
            h = t - s;
            let first = x + h * reverse(x, t) + (sde.diffusion_squared(t) * h).sqrt() * z;
            let second = x + h * reverse(first, s) + (sde.diffusion_squared(s) * h).sqrt() * z;
            let both = 0.5 * (first + second);
            evaluations += 2;
            let delta = 0.0078_f64.max(0.02 * first.abs().max(previous.abs()));
            let error = (first - both).abs() / delta;
            if error <= 1.0 {
                (x, previous, t) = (both, first, s);
            } else {
                rejected += 1;
            }
            h = 0.9 * h * error.powf(-0.9);
        }
        assert!((found.x.item() - x).abs() < 1e-9, "sample {sample}: {} and {x}", found.x.item());
        assert_eq!(found.nfe, evaluations as usize);
        assert!(rejected > 0 && evaluations > 60, "{rejected} rejected of {evaluations} evaluations");
    }
}

#[test]
fn adaptive_samples_take_steps_of_their_own_and_do_not_see_their_batch() {
    let sde = VariancePreserving::default();
    let model = one_dimensional(sde.clone());
    for noise in [NoiseSource::PerStep, NoiseSource::Brownian] {
        let grid = GridConfig::with_steps(3).build(&sde).unwrap();
        let sampler = Sampler::new(&model, AdaptiveSde { noise, ..AdaptiveSde::default() }, grid).unwrap().state(Dtype::F64);
        // States of very different sizes need very different steps.
        let scales = [1.0, 30.0, 1.0, 300.0];
        let x = Tensor::from_vec(&[4, 1], scales.to_vec());
        let all = sampler.integrate(x.clone(), &Cond::NONE, NOISE, 10, &mut []).unwrap();
        let mut evaluations = Vec::new();
        for i in 0..4 {
            let one = sampler.integrate(x.slice(0, i..i + 1), &Cond::NONE, NOISE, 10 + i as u64, &mut []).unwrap();
            assert_eq!(one.x.item(), all.x.slice(0, i..i + 1).item(), "sample {i}");
            evaluations.push(one.nfe);
        }
        // The batch waits at each time of the grid for the slowest.
        let most = *evaluations.iter().max().unwrap();
        assert!(all.nfe >= most && evaluations.iter().any(|&n| n < most), "{} and {evaluations:?}", all.nfe);
    }
}

#[test]
fn adaptive_steps_on_a_path_come_closer_to_it_with_smaller_tolerances_whatever_the_first_step() {
    let sde = VariancePreserving::default();
    // Many dimensions: the error estimate of one number may be small by chance.
    let model = Gaussian::new(sde.clone(), &[DATA.0; 64], &Covariance::Isotropic(DATA.1));
    let x = NOISE.normal(&[8, 64], 0, 0, Dtype::F64);
    let (start, end) = (1.0, 0.01);
    let run = |solver: SolverConfig, grid: Grid| {
        let sampler = Sampler::new(&model, solver, grid).unwrap().state(Dtype::F64);
        sampler.integrate(x.clone(), &Cond::NONE, NOISE, 0, &mut []).unwrap()
    };
    let fine = log_snr_grid(&sde, 4096, (sde.log_snr(start), sde.log_snr(end)));
    let noise = NoiseSource::Brownian;
    let exact = run(Srk { noise, ..Srk::default() }.into(), fine).x;
    for first_step in [0.01, 1.0] {
        let found = [3e-2, 3e-3, 3e-4].map(|tolerance| {
            let solver = AdaptiveSde { rtol: tolerance, atol: tolerance, first_step, noise, ..AdaptiveSde::default() };
            let found = run(solver.into(), Grid::new(vec![start, end], false, &sde).unwrap());
            ((&found.x - &exact).square().mean_all().item().sqrt(), found.nfe)
        });
        for pair in found.windows(2) {
            assert!(pair[1].0 < 0.5 * pair[0].0 && pair[1].1 > pair[0].1, "first step {first_step}: {found:?}");
        }
        assert!(found[0].0 < 0.15 && found[2].0 < 6e-3, "first step {first_step}: {found:?}");
    }
}

#[test]
fn adaptive_sde_that_does_not_get_on_says_so() {
    let sde = VariancePreserving::default();
    let model = one_dimensional(sde.clone());
    let solver = AdaptiveSde { rtol: 1e-6, atol: 1e-6, max_attempts: 20, ..AdaptiveSde::default() };
    let sampler = Sampler::new(&model, solver, GridConfig::with_steps(2).build(&sde).unwrap()).unwrap();
    let message = sampler.sample(&[2, 1], &Cond::NONE, NOISE, 0, &mut []).unwrap_err().to_string();
    assert!(message.contains("20 attempts") && message.contains("rtol = 0.000001") && message.contains("larger"), "{message}");
}

#[test]
fn restarts_of_number_zero_or_out_of_reach_are_the_base_solver_to_the_bit() {
    for sde in smooth_processes() {
        let model = mixture(sde.clone());
        let run = |solver: SolverConfig| {
            let t_max = Some(time_within_span(&sde, -12.0));
            let grid = GridConfig { steps: 9, t_max, ..GridConfig::default() }.build(&sde).unwrap();
            let sampler = Sampler::new(&model, solver, grid).unwrap().state(Dtype::F64);
            let samples = sampler.sample(&[5, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap();
            (samples.x.to_vec::<f64>(), samples.nfe)
        };
        for base in solvers(Kind::Ode) {
            let restart = |from, to, times| {
                let interval = RestartInterval { from, to, times, steps: 3 };
                SolverConfig::from(Restart { solver: Box::new(base.clone()), intervals: vec![interval] })
            };
            assert_eq!(restart(0.06, 0.3, 0).kind(), Kind::Ode);
            assert_eq!(run(restart(0.06, 0.3, 0)), run(base.clone()), "{base:?} on {}", sde.name());
            assert_eq!(run(restart(1e-9, 1e-8, 2)), run(base.clone()), "{base:?} on {}", sde.name());
        }
    }
}

#[test]
fn restart_is_the_algorithm_of_xu_et_al() {
    let sde = Edm::default();
    let model = mixture(sde.clone());
    let times = [10.0_f64, 4.0, 1.0, 0.25, 0.06];
    let heun = |x: Tensor, times: &[f64]| {
        let sampler = Sampler::new(&model, Heun::default(), Grid::new(times.to_vec(), false, &sde).unwrap()).unwrap();
        sampler.state(Dtype::F64).integrate(x, &Cond::NONE, NOISE, 0, &mut []).unwrap().x
    };
    let start = &NOISE.normal(&[5, 2], 0, 0, Dtype::F64) * times[0];
    // The interval from 0.3 starts at the level of the grid below, 0.25, in the third step.
    let (low, high, n) = (0.25_f64, 2.0_f64, 3);
    let mut x = heun(start.clone(), &times[..4]);
    let inner: Vec<f64> = (0..=n)
        .map(|i| (high.powf(1.0 / 7.0) + i as f64 / n as f64 * (low.powf(1.0 / 7.0) - high.powf(1.0 / 7.0))).powf(7.0))
        .collect();
    for k in 0..2 {
        let z = NOISE.normal(&[5, 2], 0, noise_step(2, k), Dtype::F64);
        x = &x + &(&z * (high * high - low * low).sqrt());
        let mut inner = inner.clone();
        (inner[0], inner[n]) = (high, low);
        x = heun(x, &inner);
    }
    x = heun(x, &times[3..]);
    let interval = RestartInterval { from: 0.3, to: high, times: 2, steps: n };
    let solver = Restart { intervals: vec![interval], ..Restart::default() };
    let sampler = Sampler::new(&model, solver, Grid::new(times.to_vec(), false, &sde).unwrap()).unwrap().state(Dtype::F64);
    let found = sampler.integrate(start, &Cond::NONE, NOISE, 0, &mut []).unwrap();
    assert!(max_difference(&found.x, &x) < 1e-11, "{}", max_difference(&found.x, &x));
    assert_eq!(found.nfe, 2 * 4 + 2 * 2 * n);
}

fn restarting(times: u32, steps: usize) -> SolverConfig {
    let interval = RestartInterval { from: 0.1, to: 1.0, times, steps };
    Restart { intervals: vec![interval], ..Restart::default() }.into()
}

#[test]
fn restarts_have_the_weak_order_of_the_base_solver_on_every_smooth_sde() {
    for sde in SdeConfig::all().into_iter().filter(|sde| sde.ladder().is_none()) {
        let model = one_dimensional(sde.clone());
        let steps = [32, 64, 128];
        let errors = steps.map(|n| {
            let grid = log_snr_grid(&sde, n, (-3.0, 5.0));
            let (exact, start) = (marginal(&sde, grid.last()), marginal(&sde, grid.first()));
            (exact_moments(&model, &restarting(2, n / 4), grid, start).1 - exact.1).abs()
        });
        let order = fitted_order(&steps, &errors);
        assert!((order - 2.0).abs() < 0.3, "on {}: weak order {order:.3}, errors {errors:?}", sde.name());
    }
}

#[test]
fn restarts_contract_errors_made_before() {
    // The theory of the paper: an error of the distribution shrinks with every restart.
    let sde = Edm::default();
    let model = one_dimensional(sde.clone());
    let error = |solver: SolverConfig| {
        let grid = log_snr_grid(&sde, 100, (-1.0, 5.0));
        let (exact, (mean, variance)) = (marginal(&sde, grid.last()), marginal(&sde, grid.first()));
        (exact_moments(&model, &solver, grid, (mean, 1.5 * variance)).1 / exact.1 - 1.0).abs()
    };
    let errors = [0, 1, 2].map(|times| error(restarting(times, 50)));
    assert!(errors[0] > 0.4 && errors[1] < 0.4 * errors[0] && errors[2] < 0.4 * errors[1], "{errors:?}");
}

#[test]
fn numbers_that_make_no_sense_are_refused_with_the_name_of_the_field() {
    let model = one_dimensional(VariancePreserving::default());
    let interval = RestartInterval { from: 0.06, to: 0.3, times: 2, steps: 3 };
    let restart = |interval| Restart { intervals: vec![interval], ..Restart::default() };
    let bad: Vec<(SolverConfig, &str)> = vec![
        (AdaptiveSde { rtol: 0.0, ..AdaptiveSde::default() }.into(), "rtol"),
        (AdaptiveSde { atol: -1.0, ..AdaptiveSde::default() }.into(), "atol"),
        (AdaptiveSde { first_step: 0.0, ..AdaptiveSde::default() }.into(), "first_step"),
        (SaSolver { predictor: 0, ..SaSolver::default() }.into(), "predictor"),
        (SaSolver { corrector: 5, ..SaSolver::default() }.into(), "corrector"),
        (SaSolver { noise_level: (-1.0).into(), ..SaSolver::default() }.into(), "noise_level"),
        (restart(RestartInterval { to: 0.01, ..interval.clone() }).into(), "intervals"),
        (restart(RestartInterval { steps: 0, ..interval.clone() }).into(), "intervals"),
        (restart(RestartInterval { times: 300, ..interval }).into(), "intervals"),
        (Restart { solver: Box::new(ExponentialEuler::default().into()), ..Restart::default() }.into(), "deterministic"),
    ];
    for (solver, field) in bad {
        let grid = interior_grid(model.sde(), 5, (-3.0, 3.0));
        let message = Sampler::new(&model, solver.clone(), grid).err().unwrap().to_string();
        assert!(message.contains(field) && message.contains(solver.name()), "{message}");
    }
}
