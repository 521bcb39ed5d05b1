//! States between the steps of adaptive solvers: their order and accuracy, where they join the steps, and that they change nothing.

mod oracle;

use fokker_sde::{Cond, Denoiser, LinearFlow, Sde, SdeConfig, VariancePreserving, diffuse};
use fokker_solve::{
    AdaptiveRungeKutta, Control, DpmAdaptive, Grid, GridConfig, Kind, Method, Sampler, Samples, SolveError, Solver, SolverConfig,
    Step, Trajectory, Variable,
};
use fokker_tensor::{Dtype, Tensor};

use oracle::{NOISE, Recorded, fitted_order, gaussian, max_difference, mixture, smooth_processes, solvers, time_within_span};

/// Solvers with dense output, and the variable of their steps.
fn dense(control: &Control) -> Vec<(SolverConfig, Variable)> {
    let pair = |method, variable| (AdaptiveRungeKutta { method, variable, control: control.clone() }.into(), variable);
    let dpm = |order| (DpmAdaptive { order, control: control.clone() }.into(), Variable::LogSnr);
    vec![
        pair(Method::Dopri5, Variable::T),
        pair(Method::Tsit5, Variable::T),
        pair(Method::Dopri5, Variable::Sigma),
        pair(Method::Tsit5, Variable::Sigma),
        pair(Method::Dopri5, Variable::LogSnr),
        pair(Method::Tsit5, Variable::LogSnr),
        dpm(2),
        dpm(3),
    ]
}

fn both(tolerance: f64) -> Control {
    Control { rtol: tolerance, atol: tolerance, ..Control::default() }
}

/// The time a part `theta` of the way from `t` to `s` in a variable.
fn part(sde: &dyn Sde, variable: Variable, (t, s): (f64, f64), theta: f64) -> f64 {
    let between = |f: &dyn Fn(f64) -> f64| f(t) + theta * (f(s) - f(t));
    match variable {
        Variable::T => between(&|t| t),
        Variable::LogSnr => sde.time_at_log_snr(between(&|t| sde.log_snr(t))),
        Variable::Sigma => sde.time_at_log_snr(-2.0 * between(&|t| (-0.5 * sde.log_snr(t)).exp()).ln()),
    }
}

fn sampler<'a>(model: &'a dyn Denoiser, solver: &SolverConfig, times: &[f64]) -> Sampler<'a> {
    let grid = Grid::new(times.to_vec(), false, model.sde()).unwrap();
    Sampler::new(model, solver.clone(), grid).unwrap().state(Dtype::F64)
}

/// The end of the trajectory from `x`, and the states at the wanted times.
fn walk(sampler: &Sampler<'_>, x: &Tensor, wanted: &[f64]) -> (Samples, Tensor) {
    let mut path = Trajectory::at(wanted);
    let samples = sampler.integrate(x.clone(), &Cond::NONE, NOISE, 0, &mut [&mut path]).unwrap();
    (samples, path.states())
}

fn entry(states: &Tensor, i: usize) -> Tensor {
    states.slice(0, i..i + 1).reshape(&states.shape()[1..])
}

#[test]
fn the_states_within_a_step_have_the_order_declared_on_every_sde() {
    // One step whatever its error, of a length that halves: the error of a state in it is of one order more.
    let one_step = Control { first: Some(1e9), accept: 1e-9, ..both(1e6) };
    let mut wrong = Vec::new();
    for sde in smooth_processes() {
        let model = gaussian(sde.clone());
        for (solver, variable) in dense(&one_step) {
            let halvings = [8, 16, 32];
            let errors = halvings.map(|n| {
                let h = 1.6 / n as f64;
                let (t, s) = (sde.time_at_log_snr(0.3 - h), sde.time_at_log_snr(0.3 + h));
                let x = diffuse(&sde, &t.into(), &model.sample(4, NOISE, 0), &NOISE.normal(&[4, 2], 0, 9, Dtype::F64));
                let wanted = [0.2, 0.5, 0.8].map(|theta| part(&sde, variable, (t, s), theta));
                let (samples, states) = walk(&sampler(&model, &solver, &[t, s]), &x, &wanted);
                assert_eq!(samples.nfe, if solver.order() == 5 { 7 } else { solver.order() as usize }, "{solver:?}");
                let error = |(i, &time): (usize, &f64)| max_difference(&entry(&states, i), &model.flow(&x, t, time));
                wanted.iter().enumerate().map(error).fold(0.0, f64::max)
            });
            let found = fitted_order(&halvings, &errors);
            let expected = f64::from(solver.dense_order().unwrap() + 1);
            if (found - expected).abs() >= 0.3 {
                wrong.push(format!("{solver:?} on {}: order {found:.2}, expected {expected}; {errors:?}", sde.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn states_between_steps_are_as_accurate_as_the_steps() {
    for sde in SdeConfig::all().into_iter().filter(|sde| sde.ladder().is_none()) {
        let model = gaussian(sde.clone());
        let (t, s) = (time_within_span(&sde, -6.0), time_within_span(&sde, 6.0));
        let x = diffuse(&sde, &t.into(), &model.sample(5, NOISE, 0), &NOISE.normal(&[5, 2], 0, 9, Dtype::F64));
        for tolerance in [1e-3, 1e-5] {
            // The error controlled is that at the ends of steps. Between, it is of the same order with a larger constant.
            for (solver, _) in dense(&both(tolerance)) {
                let wanted: Vec<f64> = (1..40).map(|i| part(&sde, Variable::LogSnr, (t, s), f64::from(i) / 40.0)).collect();
                let (_, states) = walk(&sampler(&model, &solver, &[t, s]), &x, &wanted);
                for (i, &time) in wanted.iter().enumerate() {
                    let exact = model.flow(&x, t, time);
                    let scale = 1.0_f64.max(exact.abs().max_all().item()).max(x.abs().max_all().item());
                    let error = max_difference(&entry(&states, i), &exact) / scale;
                    assert!(error < 30.0 * tolerance, "{solver:?} on {} at {time}: {error:e}", sde.name());
                }
            }
        }
    }
}

#[test]
fn wanting_states_changes_no_bit_of_the_trajectory_and_costs_no_evaluation() {
    let sde = VariancePreserving::default();
    let model = mixture(sde.clone());
    let times = [0.9, 0.5, 0.1];
    let x = NOISE.normal(&[7, 2], 0, 9, Dtype::F64);
    for (solver, _) in dense(&both(1e-4)) {
        let sampler = sampler(&model, &solver, &times);
        let run = |wanted: &[f64]| {
            let mut path = Trajectory::at(wanted);
            let mut ends = Vec::new();
            let mut observer =
                |step: &Step<'_>| ends.push((step.s, step.x.to_vec::<f64>(), step.denoised.unwrap().to_vec::<f64>()));
            let samples = sampler.integrate(x.clone(), &Cond::NONE, NOISE, 0, &mut [&mut path, &mut observer]).unwrap();
            (samples.x.to_vec::<f64>(), samples.nfe, ends)
        };
        let wanted: Vec<f64> = (0..100).map(|i| 0.9 - 0.8 * f64::from(i) / 100.0).collect();
        assert_eq!(run(&[]), run(&wanted), "{solver:?}");
    }
}

#[test]
fn at_the_ends_of_steps_and_of_the_grids_intervals_it_is_the_state_itself() {
    let sde = VariancePreserving::default();
    let grid = [0.95, 0.4, 0.05];
    let x = Tensor::from_vec(&[1, 2], vec![0.3, -1.1]);
    for (solver, _) in dense(&both(1e-4)) {
        let model = Recorded::new(gaussian(sde.clone()));
        let sampler = sampler(&model, &solver, &grid);
        let mut ends = vec![(grid[0], x.to_vec::<f64>())];
        let mut observer = |step: &Step<'_>| ends.push((step.s, step.x.to_vec::<f64>()));
        sampler.integrate(x.clone(), &Cond::NONE, NOISE, 0, &mut [&mut observer]).unwrap();
        let calls = model.calls();
        for (t, state) in &ends {
            let (_, states) = walk(&sampler, &x, &[*t]);
            assert_eq!(&entry(&states, 0).to_vec::<f64>(), state, "{solver:?} at {t}");
        }
        // The model was run where each step ended: a Runge–Kutta step's last evaluation, DPM-Solver's next first one. There the state is what
        // the model saw; at the other stages it is not.
        let wanted: Vec<f64> = calls.iter().map(|(t, _)| t.of(0)).collect();
        let (_, states) = walk(&sampler, &x, &wanted);
        let same =
            calls.iter().enumerate().filter(|(i, (_, seen))| entry(&states, *i).to_vec::<f64>() == seen.to_vec::<f64>()).count();
        let steps = calls.len() / if solver.order() == 5 { 6 } else { solver.order() as usize };
        // But for steps that are rejected, which cost evaluations too.
        assert!(steps > 6 && same <= steps + 1 && 2 * same >= steps, "{solver:?}: {same} of {steps} steps");
    }
}

#[test]
fn states_of_a_batch_are_those_of_its_samples_in_any_order_and_in_any_batches() {
    let sde = VariancePreserving::default();
    let model = mixture(sde.clone());
    let grid = GridConfig { t_min: Some(0.01), ..GridConfig::with_steps(3) }.build(&sde).unwrap();
    let wanted = [0.3, 0.9, 0.02, 0.6];
    for (solver, variable) in dense(&both(1e-4)) {
        let grid = if variable == Variable::T { grid.clone() } else { Grid::new(vec![0.98, 0.4, 0.01], true, &sde).unwrap() };
        let sampler = Sampler::new(&model, solver.clone(), grid).unwrap().state(Dtype::F64);
        let mut whole = Trajectory::at(&wanted);
        sampler.sample(&[5, 2], &Cond::NONE, NOISE, 0, &mut [&mut whole]).unwrap();
        let mut parts = Trajectory::at(&wanted);
        sampler.sample_many(5, 2, &[2], &Cond::NONE, NOISE, 0, &mut [&mut parts]).unwrap();
        assert_eq!(whole.states().shape(), [4, 5, 2]);
        assert!(max_difference(&whole.states(), &parts.states()) < 1e-10, "{solver:?}");
        // Each at its own time, whatever the order they were asked for.
        for (i, &t) in wanted.iter().enumerate() {
            let mut one = Trajectory::at(&[t]);
            sampler.sample(&[5, 2], &Cond::NONE, NOISE, 0, &mut [&mut one]).unwrap();
            assert_eq!(entry(&one.states(), 0).to_vec::<f64>(), entry(&whole.states(), i).to_vec::<f64>(), "{solver:?} at {t}");
        }
    }
}

#[test]
fn encoding_has_states_between_its_steps_too_and_flows_have_them_from_pure_noise() {
    let flow = LinearFlow::default();
    let model = gaussian(flow.clone());
    let solver = AdaptiveRungeKutta { control: both(1e-6), ..AdaptiveRungeKutta::default() };
    let sampler = sampler(&model, &solver.into(), &[1.0, 0.1]);
    let x = model.sample(4, NOISE, 0);
    let wanted = [1.0, 0.8, 0.35, 0.1];
    let mut path = Trajectory::at(&wanted);
    sampler.encode(x.clone(), &Cond::NONE, &mut [&mut path]).unwrap();
    for (i, &t) in wanted.iter().enumerate() {
        assert!(max_difference(&entry(&path.states(), i), &model.flow(&x, 0.1, t)) < 1e-5, "encoded at {t}");
    }
    let noise = NOISE.normal(&[4, 2], 0, 9, Dtype::F64);
    let (_, states) = walk(&sampler, &noise, &wanted);
    for (i, &t) in wanted.iter().enumerate() {
        assert!(max_difference(&entry(&states, i), &model.flow(&noise, 1.0, t)) < 1e-5, "from noise at {t}");
    }
}

#[test]
fn states_that_cannot_be_had_are_refused_with_what_to_use_instead() {
    let sde = VariancePreserving::default();
    let model = mixture(sde.clone());
    for solver in [solvers(Kind::Ode), solvers(Kind::Sde)].concat() {
        assert_eq!(solver.info().dense_order, solver.dense_order());
        let sampler = sampler(&model, &solver, &[0.9, 0.1]);
        let run = |t: f64| {
            let mut path = Trajectory::at(&[0.5, t]);
            sampler.integrate(Tensor::zeros(&[1, 2], Dtype::F64), &Cond::NONE, NOISE, 0, &mut [&mut path]).map(|_| path.states())
        };
        if solver.dense_order().is_some() {
            assert_eq!(run(0.9).unwrap().shape(), [2, 1, 2], "{solver:?}");
        } else {
            let message = run(0.9).unwrap_err().to_string();
            assert!(message.contains(solver.name()) && message.contains("use `adaptive-runge-kutta`"), "{message}");
        }
        for t in [0.95, 0.05, f64::NAN] {
            let error = run(t).unwrap_err();
            assert!(matches!(error, SolveError::Grid(_)) && error.to_string().contains("from 0.9 to 0.1"), "{error}");
        }
    }
}
