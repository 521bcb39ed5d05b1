//! Stochastic solvers without their noise: the deterministic solvers that they generalise.
//!
//! To the bit where both compute their weights in the same way. Elsewhere to rounding: the stochastic ones have them in closed form, as
//! `1 − e^{−h}` and so on, and those of the multistep and single-step engines are solutions of small systems.

mod oracle;

use fokker_sde::{Cond, Denoiser, Sde, SdeConfig, diffuse};
use fokker_solve::{
    Ancestral, Ddim, Dpm2Ancestral, DpmPpMultistep, DpmPpSinglestep, DpmSolver, Dpmpp2mSde, Dpmpp2sAncestral, Dpmpp3mSde,
    DpmppSde, EdmStochastic, Euler, EulerAncestral, EulerMaruyama, ExponentialAdams, ExponentialEuler, GridConfig, Heun, Inner,
    Kind, LogSnr, LowerOrderFinal, Paradigms, ParallelStep, Restart, SaSolver, Sampler, SlopeWeight, Solver, SolverConfig,
};
use fokker_tensor::{Dtype, Tensor};

use oracle::{
    FlatStart, NOISE, fitted_order, gaussian, log_snr_grid, max_difference, mixture, smooth_processes, time_within_span,
};

/// Samples of the model by `solver` on 12 steps, and the evaluations.
fn run_on(model: &dyn Denoiser, grid: &GridConfig, solver: &SolverConfig) -> (Tensor, usize) {
    let sampler = Sampler::new(model, solver.clone(), grid.build(model.sde()).unwrap()).unwrap();
    let samples = sampler.state(Dtype::F64).sample(&[6, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap();
    (samples.x, samples.nfe)
}

#[test]
fn solvers_that_share_their_weights_with_an_ode_solver_are_it_to_the_bit() {
    for sde in smooth_processes() {
        let (model, grid) = (mixture(sde.clone()), GridConfig::with_steps(12));
        let same = |a: SolverConfig, b: SolverConfig| {
            assert_eq!(a.kind(), Kind::Ode, "{a:?}");
            let ((x, n), (y, m)) = (run_on(&model, &grid, &a), run_on(&model, &grid, &b));
            assert_eq!((x.to_vec::<f64>(), n), (y.to_vec::<f64>(), m), "{a:?} on {}", sde.name());
        };
        let churn = |solver| EdmStochastic { s_churn: 0.0, solver, ..EdmStochastic::default() };
        same(churn(Inner::Heun).into(), Heun::default().into());
        same(churn(Inner::Euler).into(), Euler::default().into());
        same(EulerAncestral { eta: 0.0, ..EulerAncestral::default() }.into(), Ddim::default().into());
        same(EulerMaruyama { noise_level: 0.0.into(), ..EulerMaruyama::default() }.into(), Euler::default().into());
        same(Restart { intervals: Vec::new(), ..Restart::default() }.into(), Heun::default().into());
    }
}

/// A grid on which single-step methods can start, of 12 steps that are uniform in nothing special.
fn inner_grid(sde: &dyn Sde) -> GridConfig {
    GridConfig { t_max: Some(time_within_span(sde, -6.0)), t_min: Some(time_within_span(sde, 6.0)), ..GridConfig::with_steps(12) }
}

/// Asserts that both have the same samples and evaluations, up to rounding of the samples' size.
fn assert_same(model: &dyn Denoiser, grid: &GridConfig, a: &SolverConfig, b: &SolverConfig) {
    assert_eq!((a.kind(), b.kind()), (Kind::Ode, Kind::Ode), "{a:?}");
    let ((x, n), (y, m)) = (run_on(model, grid, a), run_on(model, grid, b));
    let apart = max_difference(&x, &y) / y.abs().max_all().item().max(1.0);
    assert!(apart < 1e-9, "{a:?} on {}: {apart:e}", model.sde().name());
    assert_eq!(n, m, "{a:?}");
}

#[test]
fn the_dpmpp_family_without_noise_is_dpm_solver_pp() {
    let never = LowerOrderFinal::Never;
    for sde in smooth_processes() {
        let (model, grid) = (mixture(sde.clone()), inner_grid(&sde));
        let same = |a: SolverConfig, b: SolverConfig| assert_same(&model, &grid, &a, &b);
        same(DpmppSde { eta: 0.0, ..DpmppSde::default() }.into(), DpmPpSinglestep { order: 2 }.into());
        same(Dpmpp2sAncestral { eta: 0.0, ..Dpmpp2sAncestral::default() }.into(), DpmPpSinglestep { order: 2 }.into());
        same(Dpm2Ancestral { eta: 0.0, ..Dpm2Ancestral::default() }.into(), DpmSolver { order: 2 }.into());
        let two = DpmPpMultistep { order: 2, lower_order_final: never };
        same(Dpmpp2mSde { eta: 0.0, ..Dpmpp2mSde::default() }.into(), two.into());
        // With the slope's exact weight it is the exact method.
        let exact = ExponentialAdams { order: 2, lower_order_final: never, ..ExponentialAdams::default() };
        same(Dpmpp2mSde { eta: 0.0, slope: SlopeWeight::Heun, ..Dpmpp2mSde::default() }.into(), exact.into());
    }
}

#[test]
fn three_steps_without_noise_are_dpm_solver_pps_but_for_the_second() {
    // k-diffusion's second step has the exact weight of the slope, the authors' has half of the first's: 2M with `heun` and `midpoint`. Where
    // the first two answers are the same there is no slope, and all steps agree.
    let mut apart = 0.0_f64;
    for sde in smooth_processes() {
        let grid = inner_grid(&sde);
        let from = grid.build(&sde).unwrap().times()[1];
        let flat = FlatStart { inner: mixture(sde.clone()), from };
        let three = Dpmpp3mSde { eta: 0.0, ..Dpmpp3mSde::default() }.into();
        let authors = DpmPpMultistep { order: 3, lower_order_final: LowerOrderFinal::Never }.into();
        assert_same(&flat, &grid, &three, &authors);
        let curved = mixture(sde.clone());
        apart = apart.max(max_difference(&run_on(&curved, &grid, &three).0, &run_on(&curved, &grid, &authors).0));
    }
    assert!(apart > 1e-4, "{apart:e}");
}

#[test]
fn first_order_and_adams_methods_without_noise_are_ddim_and_exponential_adams() {
    for sde in smooth_processes() {
        let (model, grid) = (mixture(sde.clone()), inner_grid(&sde));
        let same = |a: SolverConfig, b: SolverConfig| assert_same(&model, &grid, &a, &b);
        same(ExponentialEuler { noise_level: 0.0.into(), ..ExponentialEuler::default() }.into(), Ddim::default().into());
        for order in 1..=4 {
            let adams = ExponentialAdams { order, lower_order_final: LowerOrderFinal::Never, ..ExponentialAdams::default() };
            let sa = SaSolver { noise_level: 0.0.into(), predictor: order, corrector: 0, ..SaSolver::default() };
            same(sa.into(), adams.into());
        }
        let parallel = |step| Paradigms { step, stochasticity: 0.0, window: 1, tolerance: 0.0, ..Paradigms::default() };
        same(parallel(ParallelStep::Ddim).into(), Ddim::default().into());
        same(parallel(ParallelStep::EulerMaruyama).into(), Euler::default().into());
    }
}

#[test]
fn without_noise_solvers_of_second_order_are_of_second_order() {
    for sde in smooth_processes() {
        let model = gaussian(sde.clone());
        let solvers: [SolverConfig; 6] = [
            DpmppSde { eta: 0.0, ..DpmppSde::default() }.into(),
            Dpmpp2mSde { eta: 0.0, ..Dpmpp2mSde::default() }.into(),
            Dpmpp2mSde { eta: 0.0, slope: SlopeWeight::Heun, ..Dpmpp2mSde::default() }.into(),
            Dpmpp3mSde { eta: 0.0, ..Dpmpp3mSde::default() }.into(),
            Dpm2Ancestral { eta: 0.0, ..Dpm2Ancestral::default() }.into(),
            Dpmpp2sAncestral { eta: 0.0, ..Dpmpp2sAncestral::default() }.into(),
        ];
        for solver in solvers {
            assert_eq!((solver.kind(), solver.order()), (Kind::Ode, 2));
            let steps = [40, 80, 160, 320];
            let errors = steps.map(|n| {
                let grid = log_snr_grid(&sde, n, (-3.0, 3.0));
                let (t, s) = (grid.first(), grid.last());
                let x = diffuse(&sde, &t.into(), &model.sample(8, NOISE, 0), &NOISE.normal(&[8, 2], 0, 9, Dtype::F64));
                let exact = model.flow(&x, t, s);
                let sampler = Sampler::new(&model, solver.clone(), grid).unwrap().state(Dtype::F64);
                max_difference(&sampler.integrate(x, &Cond::NONE, NOISE, 0, &mut []).unwrap().x, &exact)
            });
            let order = fitted_order(&steps, &errors);
            assert!((order - 2.0).abs() < 0.25, "{solver:?} on {}: order {order:.3}, errors {errors:?}", sde.name());
        }
    }
}

#[test]
fn without_noise_a_trajectory_can_be_encoded() {
    let sde = SdeConfig::default();
    let model = mixture(sde.clone());
    let x = model.sample(8, NOISE, 0);
    let without: [SolverConfig; 3] = [
        Dpm2Ancestral { eta: 0.0, ..Dpm2Ancestral::default() }.into(),
        Dpmpp2sAncestral { eta: 0.0, ..Dpmpp2sAncestral::default() }.into(),
        EulerAncestral { eta: 0.0, ..EulerAncestral::default() }.into(),
    ];
    for solver in without {
        let grid = GridConfig { spacing: LogSnr::default().into(), denoise_last: false, steps: 80, ..inner_grid(&sde) };
        let sampler = Sampler::new(&model, solver.clone(), grid.build(&sde).unwrap()).unwrap().state(Dtype::F64);
        let encoded = sampler.encode(x.clone(), &Cond::NONE, &mut []).unwrap().x;
        let decoded = sampler.integrate(encoded, &Cond::NONE, NOISE, 0, &mut []).unwrap().x;
        let bound = if solver.order() == 2 { 0.01 } else { 0.3 };
        assert!(max_difference(&decoded, &x) < bound, "{solver:?}: {}", max_difference(&decoded, &x));
    }
    let sampler = Sampler::new(&model, Ancestral::default(), inner_grid(&sde).build(&sde).unwrap()).unwrap();
    assert!(sampler.encode(x, &Cond::NONE, &mut []).unwrap_err().to_string().contains("draws noise"));
}
