//! Langevin dynamics: at one noise level, and annealed.

mod moments;
mod oracle;

use fokker_sde::{Cond, Covariance, Gaussian, Sde, VarianceExploding};
use fokker_solve::{AnnealedLangevin, Grid, GridConfig, Langevin, LogSnr, Sampler, Solver, SolverConfig, noise_step};
use fokker_tensor::{Dtype, Tensor};

use moments::exact_moments;
use oracle::{NOISE, log_snr_grid, max_difference, mixture, smooth_processes};

#[test]
fn annealed_langevin_is_algorithm_1_of_song_and_ermon() {
    let sde = VarianceExploding::default();
    let model = mixture(sde.clone());
    let sigmas = [2.0_f64, 1.0, 0.5];
    let (epsilon, t) = (0.05, 3);
    let mut x = NOISE.normal(&[5, 2], 0, 0, Dtype::F64);
    let start = x.clone();
    for (i, &sigma) in sigmas.iter().enumerate() {
        let alpha = epsilon * sigma * sigma / sigmas[2].powi(2);
        for step in 0..t {
            // The first level belongs to the first step too, with the draws after those of the second.
            let (index, draw) = if i == 0 { (0, t + step) } else { (i - 1, step) };
            let z = NOISE.normal(&[5, 2], 0, noise_step(index, draw), Dtype::F64);
            let time = sde.time_at_log_snr(-2.0 * sigma.ln());
            let score = model.score(&x, &time.into(), &Cond::NONE);
            x = &(&x + &(&score * (0.5 * alpha))) + &(&z * alpha.sqrt());
        }
    }
    let times = sigmas.iter().map(|sigma| sde.time_at_log_snr(-2.0 * sigma.ln())).collect();
    let solver = AnnealedLangevin { iterations: t, step: Some(epsilon / (2.0 * sigmas[2].powi(2))) };
    assert_eq!(solver.evaluations(2), Some(9));
    let sampler = Sampler::new(&model, solver, Grid::new(times, false, &sde).unwrap()).unwrap().state(Dtype::F64);
    let found = sampler.integrate(start, &Cond::NONE, NOISE, 0, &mut []).unwrap();
    assert!(max_difference(&found.x, &x) < 1e-11, "{}", max_difference(&found.x, &x));
}

#[test]
fn the_step_of_ncsnv2_for_cifar_10_follows_from_its_technique_4() {
    // 232 levels from 50 to 0.01 and T = 5; the paper states ε = 6.2e-6 at σ_L = 0.01, so c = 0.062.
    let sde = VarianceExploding { sigma_min: 0.01, sigma_max: 50.0, ..VarianceExploding::default() };
    let model = Gaussian::new(sde.clone(), &[0.0], &Covariance::Isotropic(1.0));
    let levels = GridConfig { steps: 231, spacing: LogSnr::default().into(), denoise_last: false, ..GridConfig::default() };
    let times = levels.build(&sde).unwrap().times()[..2].to_vec();
    let run = |step| {
        let solver = AnnealedLangevin { step, ..AnnealedLangevin::default() };
        let sampler = Sampler::new(&model, solver, Grid::new(times.clone(), false, &sde).unwrap()).unwrap().state(Dtype::F64);
        sampler.sample(&[20, 1], &Cond::NONE, NOISE, 0, &mut []).unwrap().x
    };
    let (own, published) = (run(None), run(Some(0.062)));
    let apart = max_difference(&own, &published);
    // As close as two digits of ε allow, and far from other steps.
    let far = max_difference(&published, &run(Some(0.08)));
    assert!(apart < 0.25 * far, "{apart} and {far}");
}

#[test]
fn unadjusted_langevin_has_the_variance_of_its_discretisation_on_every_sde() {
    let (mu, v) = (0.7, 0.4);
    for sde in smooth_processes() {
        let model = Gaussian::new(sde.clone(), &[mu], &Covariance::Isotropic(v));
        for c in [0.2, 0.5] {
            let solver: SolverConfig = Langevin { step: c, iterations: 2 }.into();
            let grid = log_snr_grid(&sde, 60, (-3.0, 0.0));
            let t = grid.last();
            let (mean, variance) = exact_moments(&model, &solver, grid, (0.0, 1.0));
            let total = sde.alpha(t).powi(2) * v + sde.sigma(t).powi(2);
            let expected = total / (1.0 - c * sde.sigma(t).powi(2) / (2.0 * total));
            assert!((mean / (sde.alpha(t) * mu) - 1.0).abs() < 1e-6, "mean on {}: {mean}", sde.name());
            assert!((variance / expected - 1.0).abs() < 1e-6, "variance on {}: {variance}, expected {expected}", sde.name());
        }
    }
}

#[test]
fn unadjusted_langevin_stays_at_the_last_level() {
    let sde = VarianceExploding::default();
    let model = mixture(sde.clone());
    let t = |sigma: f64| sde.time_at_log_snr(-2.0 * sigma.ln());
    let grid = Grid::new(vec![t(5.0), t(2.0), t(0.5)], false, &sde).unwrap();
    let mut levels = Vec::new();
    let mut observer = |step: &fokker_solve::Step<'_>| levels.push(step.x.clone());
    let solver = Langevin { step: 0.1, iterations: 1 };
    assert_eq!((solver.evaluations(2), solver.evaluations(0)), (Some(3), Some(0)));
    let sampler = Sampler::new(&model, solver, grid).unwrap().state(Dtype::F64);
    sampler.sample(&[5, 2], &Cond::NONE, NOISE, 0, &mut [&mut observer]).unwrap();
    let z = NOISE.normal(&[5, 2], 0, noise_step(1, 1), Dtype::F64);
    let score = model.score(&levels[0], &t(0.5).into(), &Cond::NONE);
    let epsilon = 0.1 * 0.25;
    let expected: Tensor = &(&levels[0] + &(&score * epsilon)) + &(&z * (2.0 * epsilon).sqrt());
    assert!(max_difference(&levels[1], &expected) < 1e-12);
}

#[test]
fn langevin_numbers_that_make_no_sense_are_refused() {
    let sde = VarianceExploding::default();
    let model = mixture(sde.clone());
    let bad: [(SolverConfig, &str); 4] = [
        (Langevin { step: 0.0, ..Langevin::default() }.into(), "step"),
        (Langevin { iterations: 256, ..Langevin::default() }.into(), "iterations"),
        (AnnealedLangevin { step: Some(1.5), ..AnnealedLangevin::default() }.into(), "step"),
        (AnnealedLangevin { iterations: 128, ..AnnealedLangevin::default() }.into(), "iterations"),
    ];
    for (solver, field) in bad {
        let message = Sampler::new(&model, solver, log_snr_grid(&sde, 5, (-3.0, 3.0))).err().unwrap().to_string();
        assert!(message.contains(field), "{message}");
    }
}

#[test]
fn annealed_langevin_with_enough_levels_samples_a_mixture_and_with_too_few_does_not() {
    let sde = VarianceExploding { sigma_max: 10.0, ..VarianceExploding::default() };
    let model = mixture(sde.clone());
    let n = 2000;
    let errors = |steps: usize, iterations: u32| {
        let grid = GridConfig { steps, spacing: LogSnr::default().into(), ..GridConfig::default() };
        let solver = AnnealedLangevin { iterations, step: None };
        let sampler = Sampler::new(&model, solver, grid.build(&sde).unwrap()).unwrap();
        let samples = sampler.sample(&[n, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap();
        assert_eq!(samples.nfe, iterations as usize * steps + 1);
        let x = samples.x.to(Dtype::F64).to_vec::<f64>();
        let rows: Vec<&[f64]> = x.chunks(2).collect();
        let average = |f: &dyn Fn(&[f64]) -> f64| rows.iter().map(|p| f(p)).sum::<f64>() / n as f64;
        let (mean, covariance) = (model.mean(), model.covariance());
        [
            average(&|p| p[0]) - mean[0],
            average(&|p| p[1]) - mean[1],
            average(&|p| (p[0] - mean[0]).powi(2)) - covariance[0],
            average(&|p| (p[0] - mean[0]) * (p[1] - mean[1])) - covariance[1],
            average(&|p| (p[1] - mean[1]).powi(2)) - covariance[3],
            average(&|p| f64::from(u8::from(p[0] < 0.0 && p[1] < 0.25))) - 0.5,
        ]
    };
    let largest = |errors: [f64; 6]| errors.iter().fold(0.0_f64, |m, e| m.max(e.abs()));
    // Four standard errors are about 0.09 (of the first number, whose standard deviation is 1) and 0.045 for the weight.
    let many = errors(400, 20);
    assert!(largest(many) < 0.1, "{many:?}");
    let few = errors(10, 2);
    assert!(largest(few) > 0.2, "{few:?}");
}

#[test]
fn langevin_counts_its_evaluations_and_samples_do_not_see_their_batch() {
    let sde = VarianceExploding::default();
    let model = mixture(sde.clone());
    let solver = Langevin { step: 0.2, iterations: 3 };
    let sampler = Sampler::new(&model, solver.clone(), log_snr_grid(&sde, 6, (-3.0, 0.0))).unwrap().state(Dtype::F64);
    let all = sampler.sample(&[7, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap();
    assert_eq!(Some(all.nfe), solver.evaluations(6));
    let some = sampler.sample(&[3, 2], &Cond::NONE, NOISE, 2, &mut []).unwrap();
    assert!(max_difference(&some.x, &all.x.slice(0, 2..5)) < 1e-12);
}
