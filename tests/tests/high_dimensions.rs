//! Stochastic solvers on a mixture in 32 dimensions: mean, covariance and weights of the modes.

mod moments;
mod oracle;

use fokker_sde::{Cond, Covariance, GaussianMixture, Sde, VariancePreserving};
use fokker_solve::{GridConfig, Kind, LogSnr, Sampler, Solver, SolverConfig};
use fokker_tensor::Dtype;

use moments::with_paths;
use oracle::{NOISE, follows_paths, solvers};

const D: usize = 32;

/// Three clusters: the first two numbers tell them apart, every fourth direction is wider, neighbours are correlated.
fn clusters(sde: impl Sde + 'static) -> GaussianMixture {
    let mean = |a: f64, b: f64| {
        let mut mean = vec![0.3; D];
        (mean[0], mean[1]) = (a, b);
        mean
    };
    let mut full = vec![0.0; D * D];
    for i in 0..D {
        full[i * D + i] = if i % 4 == 3 { 0.5 } else { 0.1 };
        if i + 1 < D {
            full[i * D + i + 1] = 0.04;
            full[(i + 1) * D + i] = 0.04;
        }
    }
    GaussianMixture::new(
        sde,
        &[0.5, 0.3, 0.2],
        &[mean(-2.0, 0.0), mean(2.0, 0.0), mean(0.0, 2.5)],
        &[Covariance::Isotropic(0.05), Covariance::Full(full), Covariance::Isotropic(0.2)],
    )
}

#[test]
fn stochastic_solvers_reach_mean_covariance_and_weights_of_a_mixture_in_32_dimensions() {
    // Annealed Langevin dynamics needs more levels for that: `langevin.rs`.
    let fit = |solver: &SolverConfig| solver.name() != "annealed-langevin" && !follows_paths(solver);
    for solver in solvers(Kind::Sde).into_iter().filter(fit) {
        assert_reaches(&solver, 1000, 100, 0.04);
    }
}

#[test]
fn so_do_those_along_brownian_paths() {
    // A path costs much more than the model here: fewer samples and steps, and what that does to a method of first order.
    for solver in with_paths(SolverConfig::all()) {
        assert_reaches(&solver, 500, 50, if solver.order() > 1 { 0.04 } else { 0.08 });
    }
}

/// Asserts that `n` samples by `steps` steps have the moments and weights of the clusters, within five standard errors and a part of their
/// scale for the steps.
fn assert_reaches(solver: &SolverConfig, n: usize, steps: usize, part: f64) {
    let sde = VariancePreserving::default();
    let model = clusters(sde.clone());
    let (mean, covariance) = (model.mean(), model.covariance());
    let trace: f64 = (0..D).map(|i| covariance[i * D + i]).sum();
    let grid = GridConfig {
        steps,
        spacing: LogSnr::default().into(),
        t_max: Some(sde.time_at_log_snr(-6.0)),
        t_min: Some(sde.time_at_log_snr(7.0)),
        ..GridConfig::default()
    };
    let sampler = Sampler::new(&model, solver.clone(), grid.build(&sde).unwrap()).unwrap();
    let x = sampler.sample(&[n, D], &Cond::NONE, NOISE, 0, &mut []).unwrap().x.to(Dtype::F64).to_vec::<f64>();
    let rows: Vec<&[f64]> = x.chunks(D).collect();
    let check = |what: &str, f: &dyn Fn(&[f64]) -> f64, expected: f64, scale: f64| {
        let values: Vec<f64> = rows.iter().map(|row| f(row)).collect();
        let found = values.iter().sum::<f64>() / n as f64;
        let spread = (values.iter().map(|v| (v - found).powi(2)).sum::<f64>() / n as f64).sqrt();
        let bound = 5.0 * spread / (n as f64).sqrt() + part * scale;
        assert!((found - expected).abs() < bound, "{what} by {solver:?}: {found:.4}, expected {expected:.4} ± {bound:.4}");
    };
    for i in [0, 1, 2, 3, 17, 31] {
        check("mean", &|p| p[i], mean[i], 1.0);
    }
    for (i, j) in [(0, 0), (0, 1), (1, 1), (2, 2), (3, 3), (3, 4), (5, 20), (31, 31)] {
        check("covariance", &|p| (p[i] - mean[i]) * (p[j] - mean[j]), covariance[i * D + j], 1.0);
    }
    check("trace", &|p| p.iter().zip(&mean).map(|(x, m)| (x - m).powi(2)).sum(), trace, trace);
    let nearest = |p: &[f64]| {
        let to = |a: f64, b: f64| (p[0] - a).hypot(p[1] - b);
        let distances = [to(-2.0, 0.0), to(2.0, 0.0), to(0.0, 2.5)];
        (0..3).min_by(|&a, &b| distances[a].total_cmp(&distances[b])).unwrap()
    };
    for (k, weight) in [0.5, 0.3, 0.2].into_iter().enumerate() {
        check("weight", &|p| f64::from(u8::from(nearest(p) == k)), weight, 1.0);
    }
}
