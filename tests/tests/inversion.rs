//! Data to noise and back with every deterministic solver.

mod oracle;

use fokker_sde::{Cond, LinearFlow, Sde, SdeConfig, VariancePreserving};
use fokker_solve::{
    Ancestral, CosineAngle, Ddim, Euler, Family, Grid, GridConfig, Heun, Kind, Method, RungeKutta, Sampler, Solver, SolverConfig,
    Step, Variable,
};
use fokker_tensor::{Dtype, Tensor};

use oracle::{NOISE, fitted_order, gaussian, max_difference, mixture, solvers};

/// The sampler of a solver over an inner part of the span.
fn sampler<'a>(model: &'a dyn fokker_sde::Denoiser, solver: &SolverConfig, steps: usize) -> Sampler<'a> {
    let config = GridConfig {
        steps,
        spacing: CosineAngle::default().into(),
        t_max: Some(model.sde().time_at_log_snr(-3.0)),
        t_min: Some(model.sde().time_at_log_snr(3.0)),
        denoise_last: false,
    };
    Sampler::new(model, solver.clone(), config.build(model.sde()).unwrap()).unwrap().state(Dtype::F64)
}

#[test]
fn every_deterministic_solver_returns_from_the_noise_it_encoded_with_an_error_of_its_order() {
    for sde in SdeConfig::all() {
        let model = mixture(sde.clone());
        // The error of ParaDiGMS is that of its tolerance.
        for solver in solvers(Kind::Ode).into_iter().filter(|solver| solver.family() != Family::Parallel) {
            let round_trip = |steps| {
                let sampler = sampler(&model, &solver, steps);
                let x = &model.sample(8, NOISE, 0) * sde.alpha(sampler.grid().last());
                let encoded = sampler.encode(x.clone(), &Cond::NONE, &mut []).unwrap();
                let decoded = sampler.integrate(encoded.x.clone(), &Cond::NONE, NOISE, 0, &mut []).unwrap();
                if solver.family() != Family::Adaptive {
                    assert_eq!(encoded.nfe, decoded.nfe, "{solver:?}");
                }
                (max_difference(&encoded.x, &x), max_difference(&decoded.x, &x))
            };
            let (coarse, fine) = (round_trip(20), round_trip(60));
            assert!(coarse.0 > 0.3, "{solver:?} on {}: nothing was encoded", sde.name());
            // Three times as many steps: at least twice as accurate for order 1, four times for others, until next to nothing is left.
            let gain = 2.0_f64.powi(solver.order().min(2) as i32);
            let (what, name) = (format!("{solver:?}"), sde.name());
            if solver.family() == Family::Adaptive {
                assert!(fine.1 < 0.03, "{what} on {name}: {fine:?}");
            } else {
                assert!(fine.1 < coarse.1 / gain || fine.1 < 1e-6, "{what} on {name}: {} and {}", coarse.1, fine.1);
            }
        }
    }
}

#[test]
fn encoding_follows_the_exact_flow_from_data_to_noise() {
    let sde = VariancePreserving::default();
    let model = gaussian(sde.clone());
    for solver in [SolverConfig::from(Euler::default()), Ddim::default().into(), Heun::default().into()] {
        let steps = [40, 80, 160];
        let errors = steps.map(|n| {
            let sampler = sampler(&model, &solver, n);
            let (t, s) = (sampler.grid().last(), sampler.grid().first());
            let x = model.sample(8, NOISE, 0);
            max_difference(&sampler.encode(x.clone(), &Cond::NONE, &mut []).unwrap().x, &model.flow(&x, t, s))
        });
        let order = fitted_order(&steps, &errors);
        assert!((order - f64::from(solver.order())).abs() < 0.2, "{solver:?}: {order:.3}, {errors:?}");
    }
}

#[test]
fn encoding_may_end_in_pure_noise_and_observers_see_it_run_backwards() {
    let flow = LinearFlow::default();
    let model = mixture(flow.clone());
    let grid = GridConfig::with_steps(20).build(&flow).unwrap();
    let times = grid.times().to_vec();
    let solver = RungeKutta { method: Method::Rk4, variable: Variable::T };
    let sampler = Sampler::new(&model, solver, grid).unwrap().state(Dtype::F64);
    let mut seen = Vec::new();
    let mut observer = |step: &Step<'_>| seen.push((step.t, step.s));
    let encoded = sampler.encode(model.sample(2000, NOISE, 0), &Cond::NONE, &mut [&mut observer]).unwrap().x;
    let backwards: Vec<(f64, f64)> = times.windows(2).rev().map(|pair| (pair[1], pair[0])).collect();
    assert_eq!(seen, backwards);
    // At α = 0 all that is left is noise of unit variance, up to four standard errors and those of 19 moves.
    let variance = encoded.square().mean(&[0]).to_vec::<f64>();
    assert!(variance.iter().all(|v| (v - 1.0).abs() < 0.15), "{variance:?}");
}

#[test]
fn what_cannot_be_encoded_is_refused() {
    let sde = VariancePreserving::default();
    let model = mixture(sde.clone());
    let x = Tensor::zeros(&[1, 2], Dtype::F32);
    for solver in [SolverConfig::from(Ancestral::default()), Ddim { eta: 0.5 }.into()] {
        let sampler = Sampler::new(&model, solver, GridConfig::with_steps(5).build(&sde).unwrap()).unwrap();
        let message = sampler.encode(x.clone(), &Cond::NONE, &mut []).unwrap_err().to_string();
        assert!(message.contains("draws noise") && message.contains("ddim"), "{message}");
    }
    let single = Sampler::new(&model, Ddim::default(), Grid::new(vec![1.0], true, &sde).unwrap()).unwrap();
    let message = single.encode(x, &Cond::NONE, &mut []).unwrap_err().to_string();
    assert!(message.contains("two times"), "{message}");
}
