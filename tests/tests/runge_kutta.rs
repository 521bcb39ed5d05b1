//! Runge–Kutta solvers against their formulas, and what every deterministic solver does with few steps.

mod oracle;

use fokker_sde::{
    Cond, Denoiser, Edm, Gaussian, GaussianMixture, LinearFlow, Quantity, Sde, SdeConfig, Times, VariancePreserving,
};
use fokker_solve::{
    Ddim, DpmPpMultistep, Euler, Grid, GridConfig, GridFit, Heun, Karras, Kind, List, LogSnr, Method, RungeKutta, Sampler,
    Solver, SolverConfig, Uniform, Variable, optimise_grid,
};
use fokker_tensor::{Dtype, Tensor};

use oracle::{NOISE, latest_start, max_difference, mixture, solvers, time_within_span};

/// One step from `x` at `t` to `s`.
fn step(model: &dyn Denoiser, solver: impl Solver, x: &Tensor, t: f64, s: f64) -> Tensor {
    let grid = Grid::new(vec![t, s], false, model.sde()).unwrap();
    let sampler = Sampler::new(model, solver, grid).unwrap().state(Dtype::F64);
    sampler.integrate(x.clone(), &Cond::NONE, NOISE, 0, &mut []).unwrap().x
}

#[test]
fn tables_of_known_methods_are_those_methods() {
    for sde in SdeConfig::all() {
        let model = mixture(sde.clone());
        let (t, s) = (sde.time_at_log_snr(-1.0), sde.time_at_log_snr(0.5));
        let x = &NOISE.normal(&[5, 2], 0, 0, Dtype::F64) * (sde.sigma(t) + sde.alpha(t));
        let table = |method, variable| step(&model, RungeKutta { method, variable }, &x, t, s);
        let pairs: [(Tensor, SolverConfig); 4] = [
            (table(Method::Euler, Variable::T), Euler::default().into()),
            (table(Method::Heun, Variable::T), Heun::default().into()),
            // A constant noise and a constant clean sample are the same first-order step.
            (table(Method::Euler, Variable::Sigma), Ddim::default().into()),
            (table(Method::Euler, Variable::LogSnr), Ddim::default().into()),
        ];
        for (found, solver) in pairs {
            let expected = step(&model, solver.clone(), &x, t, s);
            assert!(max_difference(&found, &expected) < 1e-11, "{solver:?} on {}", sde.name());
        }
    }
}

#[test]
fn the_classical_method_is_kuttas_in_the_noise_level() {
    let sde = VariancePreserving::default();
    let model = mixture(sde.clone());
    let (t, s) = (0.6, 0.45);
    let x = NOISE.normal(&[5, 2], 0, 0, Dtype::F64);
    // dy/dρ = ε̂ with y = x/α and ρ = σ/α.
    let rho = |t: f64| sde.sigma(t) / sde.alpha(t);
    let slope = |y: &Tensor, rho: f64| {
        let time = sde.time_at_log_snr(-2.0 * rho.ln());
        let state = y * sde.alpha(time);
        &(y - &model.denoise(&state, &time.into(), &Cond::NONE)) * (1.0 / rho)
    };
    let y = &x * (1.0 / sde.alpha(t));
    let h = rho(s) - rho(t);
    let k_1 = slope(&y, rho(t));
    let k_2 = slope(&(&y + &(&k_1 * (0.5 * h))), rho(t) + 0.5 * h);
    let k_3 = slope(&(&y + &(&k_2 * (0.5 * h))), rho(t) + 0.5 * h);
    let k_4 = slope(&(&y + &(&k_3 * h)), rho(s));
    let sum = &(&k_1 + &k_4) + &(&(&k_2 + &k_3) * 2.0);
    let expected = &(&y + &(&sum * (h / 6.0))) * sde.alpha(s);
    let found = step(&model, RungeKutta { method: Method::Rk4, variable: Variable::Sigma }, &x, t, s);
    assert!(max_difference(&found, &expected) < 1e-10);
}

#[test]
fn heun_in_the_noise_level_is_edms_sampler_on_any_process() {
    // A change of variables: the same denoiser under VP and under EDM gives x_vp = α x_edm at equal noise levels.
    let (vp, edm) = (VariancePreserving::default(), Edm::default());
    let solver = || RungeKutta { method: Method::Heun, variable: Variable::Sigma };
    let levels = [50.0, 10.0, 2.0, 0.5, 0.1];
    let noise = &NOISE.normal(&[5, 2], 0, 0, Dtype::F64) * levels[0];
    let run = |model: &GaussianMixture, x: &Tensor| {
        let config = GridConfig { spacing: List::of_noise_levels(levels.to_vec()).into(), ..GridConfig::default() };
        let sampler = Sampler::new(model, solver(), config.build(model.sde()).unwrap()).unwrap().state(Dtype::F64);
        sampler.integrate(x.clone(), &Cond::NONE, NOISE, 0, &mut []).unwrap().x
    };
    let first = vp.time_at_log_snr(-2.0 * levels[0].ln());
    let under_vp = run(&mixture(vp.clone()), &(&noise * vp.alpha(first)));
    assert!(max_difference(&under_vp, &run(&mixture(edm), &noise)) < 1e-10);
}

/// A model of one point: its answer never changes.
struct Point(SdeConfig);

impl Denoiser for Point {
    fn sde(&self) -> &dyn Sde {
        &self.0
    }

    fn denoise(&self, x: &Tensor, _t: &Times, _c: &Cond) -> Tensor {
        Tensor::full(x.shape(), 0.7, x.dtype())
    }
}

#[test]
fn one_two_and_three_steps_work_with_every_deterministic_solver() {
    for sde in SdeConfig::all() {
        let model = mixture(sde.clone());
        let point = Point(sde.clone());
        for solver in solvers(Kind::Ode) {
            for steps in [1, 2, 3] {
                // From pure noise, or from where there is some signal: α = 1e-5 would be what noise prediction divides by.
                let latest = latest_start(&solver, &sde);
                let (t_max, spacing) = match sde.alpha(latest) > 0.0 {
                    true => (latest.min(time_within_span(&sde, -12.0)), Karras::default().into()),
                    false => (latest, Uniform::default().into()),
                };
                let config = GridConfig { steps, spacing, t_max: Some(t_max), ..GridConfig::default() };
                let grid = config.build(&sde).unwrap();
                let run = |model: &dyn Denoiser| {
                    let sampler = Sampler::new(model, solver.clone(), grid.clone()).unwrap().state(Dtype::F64);
                    sampler.sample(&[8, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap().x
                };
                let x = run(&model);
                // Steps that are this long: what predicts the data with its linear part exact stays where the data are; what
                // predicts the noise or the velocity to a higher order may leave, but not the range of numbers.
                let bound = if solver.quantity() == Quantity::Sample { 6.0 } else { 1e7 };
                let farthest = x.abs().max_all().item();
                assert!(farthest < bound, "{solver:?} on {} with {steps} steps: {farthest}", sde.name());
                assert!((&run(&point) - 0.7).abs().max_all().item() < 1e-12);
            }
        }
    }
}

#[test]
fn methods_with_the_exact_linear_part_take_any_step_to_a_constant_answer_without_error() {
    for sde in SdeConfig::all() {
        let point = Point(sde.clone());
        let (t, s) = (time_within_span(&sde, -6.0), time_within_span(&sde, 8.0));
        let x = &NOISE.normal(&[4, 2], 0, 0, Dtype::F64) * sde.sigma(t);
        // x_s = α_s x_0 + (σ_s/σ_t) (x_t − α_t x_0)
        let ratio = sde.sigma(s) / sde.sigma(t);
        let expected = &(&x * ratio) + 0.7 * (sde.alpha(s) - ratio * sde.alpha(t));
        for solver in solvers(Kind::Ode) {
            let exact = match &solver {
                SolverConfig::Euler(_) | SolverConfig::Heun(_) | SolverConfig::AdaptiveRungeKutta(_) => false,
                SolverConfig::RungeKutta(solver) => solver.variable == Variable::LogSnr,
                SolverConfig::ExponentialAdams(solver) => solver.variable != Variable::T,
                _ => true,
            };
            // In noise a constant clean sample is a constant noise too.
            if exact {
                let found = step(&point, solver.clone(), &x, t, s);
                // Solvers in noise divide the rounding of x̂₀ by a small σ on the way.
                assert!(max_difference(&found, &expected) < 1e-8, "{solver:?} on {}", sde.name());
            }
        }
    }
}

#[test]
fn a_fitted_grid_beats_karras_and_uniform_at_few_steps_on_noise_it_has_not_seen() {
    let state = |sde: &dyn Sde, t: f64, first| &NOISE.normal(&[64, 2], first, 0, Dtype::F64) * sde.sigma(t);
    for sde in ["vp", "edm"].map(|kind| SdeConfig::from_kind(kind).unwrap()) {
        let model = mixture(sde.clone());
        let solver = DpmPpMultistep::default();
        for steps in [5, 8] {
            let config = GridConfig::with_steps(steps);
            let fit = GridFit::new(config.clone(), solver.clone());
            let t = sde.span().1;
            let fitted = optimise_grid(&model, &fit, &state(&sde, t, 0), &Cond::NONE).unwrap();
            assert_eq!((fitted.grid.first(), fitted.grid.last(), fitted.grid.steps()), (t, sde.span().0, steps));
            assert!(fitted.error < fitted.first_error);
            let x = state(&sde, t, 1000);
            let end = |solver: SolverConfig, grid: Grid| {
                let sampler = Sampler::new(&model, solver, grid).unwrap().state(Dtype::F64);
                sampler.integrate(x.clone(), &Cond::NONE, NOISE, 0, &mut []).unwrap().x
            };
            let fine = GridConfig { steps: 400, spacing: LogSnr::default().into(), ..config.clone() }.build(&sde).unwrap();
            let exact = end(RungeKutta::default().into(), fine);
            let error = |grid: Grid| (&end(solver.clone().into(), grid) - &exact).square().mean_all().item().sqrt();
            let usual = [Karras::default().into(), Uniform::default().into()]
                .map(|spacing| error(GridConfig { spacing, ..config.clone() }.build(&sde).unwrap()));
            let found = error(fitted.grid.clone());
            assert!(
                usual.iter().all(|usual| found < 0.7 * usual),
                "{} with {steps} steps: fitted {found}, Karras and uniform {usual:?}",
                sde.name()
            );
            // It is kept as a list.
            let times = fitted.grid.to_text().lines().skip(1).map(|line| line.parse().unwrap()).collect();
            let again = GridConfig { spacing: List::of_times(times).into(), ..config }.build(&sde).unwrap();
            assert_eq!(again, fitted.grid);
        }
    }
}

#[test]
fn a_grid_can_be_fitted_from_pure_noise_and_not_to_a_solver_that_draws_noise() {
    let flow = LinearFlow::default();
    let model = mixture(flow.clone());
    let x = NOISE.normal(&[32, 2], 0, 0, Dtype::F64);
    let fit = GridFit { trials: 120, ..GridFit::new(GridConfig::with_steps(6), Heun::default()) };
    let fitted = optimise_grid(&model, &fit, &x, &Cond::NONE).unwrap();
    assert!(fitted.error < 0.8 * fitted.first_error && fitted.grid.first() == 1.0, "{fitted:?}");
    let noisy = GridFit::new(GridConfig::with_steps(6), Ddim { eta: 1.0 });
    let message = optimise_grid(&model, &noisy, &x, &Cond::NONE).unwrap_err().to_string();
    assert!(message.contains("random"), "{message}");
    // Without a move there is nothing to fit.
    let gaussian: Gaussian = oracle::gaussian(flow);
    let one = optimise_grid(&gaussian, &GridFit::new(GridConfig::with_steps(1), Heun::default()), &x, &Cond::NONE).unwrap();
    assert_eq!((one.error, one.grid.steps()), (0.0, 1));
}
