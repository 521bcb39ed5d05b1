//! Picard iteration in a sliding window against the sequential solvers.

mod oracle;

use fokker_sde::{Cond, LinearFlow, Sde, SdeConfig, VariancePreserving};
use fokker_solve::{
    Ddim, Euler, EulerAncestral, EulerMaruyama, GridConfig, LogSnr, NoiseSource, Paradigms, ParallelStep, Sampler, Samples,
    Solver, SolverConfig,
};
use fokker_tensor::Dtype;

use oracle::{NOISE, max_difference, mixture, smooth_processes};

/// Nine samples of the mixture, three of each class.
fn run(sde: &SdeConfig, solver: impl Into<SolverConfig>, steps: usize) -> Samples {
    let model = mixture(sde.clone()).with_classes(vec![0, 1, 2]);
    let grid = GridConfig {
        steps,
        spacing: LogSnr::default().into(),
        t_max: Some(sde.time_at_log_snr(-8.0).min(sde.span().1)),
        ..GridConfig::default()
    };
    let sampler = Sampler::new(&model, solver.into(), grid.build(sde).unwrap()).unwrap().state(Dtype::F64);
    let cond = Cond::classes((0..9).map(|i| i % 3).collect());
    sampler.sample(&[9, 2], &cond, NOISE, 0, &mut []).unwrap()
}

/// Parallel solvers beside the sequential ones that they must agree with.
fn pairs() -> Vec<(Paradigms, SolverConfig)> {
    let mut all = Vec::new();
    for noise in [NoiseSource::PerStep, NoiseSource::Brownian] {
        let parallel = |step, stochasticity| Paradigms { step, stochasticity, noise, ..Paradigms::default() };
        all.push((parallel(ParallelStep::Ddim, 0.0), Ddim::default().into()));
        all.push((parallel(ParallelStep::Ddim, 0.6), EulerAncestral { eta: 0.6, noise, ..EulerAncestral::default() }.into()));
        all.push((parallel(ParallelStep::EulerMaruyama, 0.0), Euler::default().into()));
        all.push((parallel(ParallelStep::EulerMaruyama, 1.0), EulerMaruyama { noise, ..EulerMaruyama::default() }.into()));
    }
    all
}

#[test]
fn parallel_steps_end_where_sequential_ones_do_with_the_same_noise_and_classes() {
    for sde in smooth_processes() {
        for (parallel, sequential) in pairs() {
            let expected = run(&sde, sequential.clone(), 30);
            for (window, tolerance, allowed) in [(1, 0.0, 1e-10), (7, 0.0, 1e-10), (50, 0.0, 1e-10), (16, 1e-6, 1e-4)] {
                let solver = Paradigms { window, tolerance, ..parallel.clone() };
                let found = run(&sde, solver.clone(), 30);
                let apart = max_difference(&found.x, &expected.x);
                assert!(apart < allowed, "{solver:?} on {}: {apart:e}", sde.name());
                assert!(found.nfe <= expected.nfe, "{solver:?}: {} rounds for {} steps", found.nfe, expected.nfe);
                if window == 1 {
                    assert_eq!(found.nfe, expected.nfe);
                }
            }
        }
    }
}

#[test]
fn a_tolerance_saves_rounds_and_bounds_the_difference() {
    let sde = SdeConfig::VariancePreserving(VariancePreserving::default());
    for (parallel, sequential) in pairs().into_iter().filter(|(p, _)| p.step == ParallelStep::Ddim) {
        let expected = run(&sde, sequential, 120);
        let mut last = usize::MAX;
        for tolerance in [1e-4, 1e-2, 0.1] {
            let solver = Paradigms { tolerance, window: 40, ..parallel.clone() };
            let found = run(&sde, solver.clone(), 120);
            let apart = max_difference(&found.x, &expected.x);
            assert!(apart < 10.0 * tolerance, "{solver:?}: {apart:e}");
            assert!(found.nfe <= last && found.nfe < 120, "{solver:?}: {} rounds after {last}", found.nfe);
            last = found.nfe;
        }
        assert!(last <= 30, "{parallel:?}: {last} rounds for 120 steps");
    }
}

#[test]
fn rounds_and_samples_do_not_depend_on_the_batch() {
    let sde = LinearFlow::default();
    let model = mixture(sde.clone());
    let grid = || GridConfig::with_steps(25).build(&sde).unwrap();
    let solver = Paradigms { stochasticity: 1.0, window: 6, tolerance: 0.02, ..Paradigms::default() };
    let sampler = Sampler::new(&model, solver.clone(), grid()).unwrap().state(Dtype::F64);
    let all = sampler.sample(&[8, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap();
    let mut rounds = Vec::new();
    for i in 0..8 {
        let one = sampler.sample(&[1, 2], &Cond::NONE, NOISE, i, &mut []).unwrap();
        let i = i as usize;
        assert!(max_difference(&one.x, &all.x.slice(0, i..i + 1)) < 1e-11, "sample {i}");
        rounds.push(one.nfe);
    }
    assert_eq!(all.nfe, *rounds.iter().max().unwrap(), "{rounds:?}");
    assert!(rounds.iter().any(|r| *r != rounds[0]), "samples need different numbers of rounds: {rounds:?}");
    assert_eq!(solver.evaluations(24), None);
}
