//! The sampler around the solvers: cost, batches, observers, precision, grids and errors.

mod oracle;

use fokker_sde::{Cond, Counted, Counter, Denoiser, Edm, Gaussian, LinearFlow, Sde, SdeConfig, Times, VariancePreserving};
use fokker_solve::{
    Ddim, Euler, Family, Grid, GridConfig, Heun, Karras, Kind, LogSnr, Observer, PredictorCorrector, Sampler, SamplerConfig,
    SolveError, Solver, SolverConfig, Spacing, StateDtype, Step, Threshold,
};
use fokker_tensor::{Dtype, Tensor};

use oracle::{NOISE, gaussian, latest_start, max_difference, mixture, solvers};

#[test]
fn evaluations_are_as_documented_for_every_solver_and_grid() {
    for sde in [SdeConfig::default(), SdeConfig::LinearFlow(LinearFlow::default())] {
        let model = mixture(sde.clone());
        for solver in [solvers(Kind::Ode), solvers(Kind::Sde)].concat() {
            for (steps, denoise_last) in [(1, true), (1, false), (2, true), (7, true), (7, false)] {
                let t_max = Some(latest_start(&solver, &sde));
                let grid = GridConfig { steps, denoise_last, t_max, ..GridConfig::default() }.build(&sde).unwrap();
                assert_eq!(grid.steps(), steps);
                let Some(documented) = solver.evaluations(grid.moves()) else {
                    assert_eq!(solver.family(), Family::Adaptive, "{}", solver.name());
                    continue;
                };
                let documented = documented + usize::from(denoise_last);
                let sampler = Sampler::new(&model, solver.clone(), grid).unwrap();
                let samples = sampler.sample_many(5, 2, &[2], &Cond::NONE, NOISE, 0, &mut []).unwrap();
                assert_eq!(samples.nfe, documented, "{} with {steps} steps, {denoise_last}", solver.name());
                assert_eq!(samples.evaluations, 3 * documented, "three batches");
            }
        }
    }
}

/// Remembers initial states and every step.
#[derive(Default)]
struct Recorder {
    starts: Vec<(Tensor, f64, u64)>,
    steps: Vec<(usize, usize, f64, f64, Tensor, u64)>,
}

impl Observer for Recorder {
    fn start(&mut self, x: &Tensor, t: f64, first_sample: u64) {
        self.starts.push((x.clone(), t, first_sample));
    }

    fn step(&mut self, step: &Step<'_>) {
        assert!(step.denoised.is_some_and(|denoised| denoised.shape() == step.x.shape()));
        self.steps.push((step.index, step.total, step.t, step.s, step.x.clone(), step.first_sample));
    }
}

#[test]
fn a_sample_does_not_depend_on_its_batch() {
    for sde in SdeConfig::all() {
        let model = mixture(sde.clone());
        for solver in [solvers(Kind::Ode), solvers(Kind::Sde)].concat() {
            let t_max = Some(latest_start(&solver, &sde));
            let grid = GridConfig { t_max, ..GridConfig::with_steps(8) }.build(&sde).unwrap();
            let sampler = Sampler::new(&model, solver.clone(), grid).unwrap().state(Dtype::F64);
            let mut whole = Recorder::default();
            let all = sampler.sample(&[11, 2], &Cond::NONE, NOISE, 0, &mut [&mut whole]).unwrap().x;
            let mut parts = Recorder::default();
            let many = sampler.sample_many(11, 3, &[2], &Cond::NONE, NOISE, 0, &mut [&mut parts]).unwrap().x;
            let scale = 1.0 + all.abs().max_all().item();
            assert!(max_difference(&all, &many) < 1e-10 * scale, "{solver:?} on {}", sde.name());
            let later = sampler.sample(&[4, 2], &Cond::NONE, NOISE, 5, &mut []).unwrap().x;
            assert!(max_difference(&all.slice(0, 5..9), &later) < 1e-10 * scale);
            // The noise is the same to the last bit.
            let joined: Vec<f64> = parts.starts.iter().flat_map(|(x, _, _)| x.to_vec::<f64>()).collect();
            assert_eq!(whole.starts[0].0.to_vec::<f64>(), joined);
            assert_eq!(parts.starts.iter().map(|s| s.2).collect::<Vec<_>>(), [0, 3, 6, 9]);
        }
    }
}

#[test]
fn observers_see_every_step_from_the_prior_to_the_sample() {
    let sde = VariancePreserving::default();
    let model = mixture(sde.clone());
    let grid = GridConfig::with_steps(5).build(&sde).unwrap();
    let times = grid.times().to_vec();
    let sampler = Sampler::new(&model, Euler::default(), grid).unwrap().state(Dtype::F64);
    let (mut recorder, mut count) = (Recorder::default(), 0);
    let mut counting = |_: &Step<'_>| count += 1;
    let x = sampler.sample(&[2, 2], &Cond::NONE, NOISE, 3, &mut [&mut recorder, &mut counting]).unwrap().x;
    assert_eq!(count, 5);
    assert_eq!(recorder.starts[0].1, 1.0);
    for (i, (index, total, t, s, _, first_sample)) in recorder.steps.iter().enumerate() {
        assert_eq!((*index, *total, *t, *first_sample), (i, 5, times[i], 3));
        assert_eq!(*s, times.get(i + 1).copied().unwrap_or(0.0));
    }
    assert_eq!(recorder.steps[4].4.to_vec::<f64>(), x.to_vec::<f64>());
    // The prior has the standard deviation of the noise at the start.
    let prior = &NOISE.normal(&[2, 2], 3, 0, Dtype::F64) * sde.sigma(1.0);
    assert_eq!(recorder.starts[0].0.to_vec::<f64>(), prior.to_vec::<f64>());
}

#[test]
fn a_single_precision_state_follows_the_double_precision_one() {
    for sde in SdeConfig::all() {
        let model = gaussian(sde.clone());
        for solver in [solvers(Kind::Ode), solvers(Kind::Sde)].concat() {
            let run = |state| {
                // Not down to t_min uniformly in t: there σ̇ of VP is so large that an explicit step multiplies rounding.
                let t_max = Some(sde.time_at_log_snr(-8.0).min(sde.span().1));
                let grid = GridConfig { steps: 30, spacing: LogSnr::default().into(), t_max, ..GridConfig::default() };
                let sampler = Sampler::new(&model, solver.clone(), grid.build(&sde).unwrap()).unwrap().state(state);
                sampler.sample(&[16, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap().x
            };
            let (single, double) = (run(Dtype::F32), run(Dtype::F64));
            assert_eq!((single.dtype(), double.dtype()), (Dtype::F32, Dtype::F64));
            let scale = 1.0 + double.abs().max_all().item();
            let difference = max_difference(&single, &double);
            assert!(difference < 2e-5 * scale, "{solver:?} on {}: {difference:e}", sde.name());
        }
    }
}

#[test]
fn conditions_follow_their_samples_through_batches() {
    let sde = VariancePreserving::default();
    let model = mixture(sde.clone()).with_classes(vec![0, 1, 2]);
    let grid = GridConfig { steps: 40, spacing: LogSnr::default().into(), ..GridConfig::default() }.build(&sde).unwrap();
    let sampler = Sampler::new(&model, Heun::default(), grid).unwrap();
    let labels: Vec<u32> = (0..30).map(|i| i % 3).collect();
    let x = sampler.sample_many(30, 7, &[2], &Cond::classes(labels), NOISE, 0, &mut []).unwrap().x;
    for (i, point) in x.to_vec::<f64>().chunks(2).enumerate() {
        let centre = [[-1.0, -0.5], [1.0, -0.5], [0.2, 1.2]][i % 3];
        let distance = (point[0] - centre[0]).hypot(point[1] - centre[1]);
        assert!(distance < 1.6, "sample {i} at {point:?} is {distance} from the centre of its class");
        let own = (point[0] < 0.0 && point[1] < 0.25, point[0] > 0.3 && point[1] < 0.7);
        match i % 3 {
            0 => assert!(own.0, "sample {i} at {point:?}"),
            1 => assert!(own.1, "sample {i} at {point:?}"),
            _ => {}
        }
    }
}

#[test]
fn thresholds_keep_samples_in_range_for_every_solver() {
    let sde = VariancePreserving::default();
    let model = gaussian(sde.clone());
    for solver in [solvers(Kind::Ode), solvers(Kind::Sde)].concat() {
        let run = |threshold: Threshold| {
            let grid = GridConfig::with_steps(20).build(&sde).unwrap();
            let sampler = Sampler::new(&model, solver.clone(), grid).unwrap().threshold(threshold).unwrap();
            sampler.sample(&[64, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap().x.abs().max_all().item()
        };
        assert!(run(Threshold::None) > 1.5);
        assert!(run(Threshold::Clip { bound: 0.8 }) <= 0.8 + 1e-6);
        assert!(run(Threshold::Dynamic { quantile: 0.9, bound: 1.0 }) <= 1.0 + 1e-6);
    }
}

/// A model that answers NaN from some time on, and runs twice per call.
struct Broken {
    inner: Counted<Gaussian>,
    below: f64,
}

impl Denoiser for Broken {
    fn sde(&self) -> &dyn Sde {
        self.inner.sde()
    }

    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        let first = self.inner.denoise(x, t, c);
        let second = self.inner.denoise(x, t, c);
        if t.of(0) < self.below { &first * f64::NAN } else { &(&first + &second) * 0.5 }
    }
}

#[test]
fn a_model_that_answers_nan_is_named_with_step_and_time() {
    let sde = VariancePreserving::default();
    let counter = Counter::new();
    let mut model = Broken { inner: Counted::new(gaussian(sde.clone()), counter.clone()), below: 0.5 };
    for solver in [solvers(Kind::Ode), solvers(Kind::Sde)].concat() {
        let grid = Grid::new(vec![1.0, 0.8, 0.6, 0.4, 0.2], true, &sde).unwrap();
        let sampler = Sampler::new(&model, solver, grid).unwrap();
        let error = sampler.sample(&[3, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap_err();
        // Solvers that look ahead meet it in the third step, at its end or before, the others in the fourth.
        let SolveError::NotFinite { step, total, t, .. } = error else { panic!("{error}") };
        assert!((step == 3 && (0.4..0.5).contains(&t) || step == 4 && t == 0.4) && total == 5, "{error}");
        let message = error.to_string();
        assert!(message.contains(&format!("step {step} of 5")) && message.contains(&format!("t = {t}")), "{message}");
    }
    // The runs inside of it can be counted too.
    model.below = 0.0;
    let grid = GridConfig::with_steps(5).build(&sde).unwrap();
    let sampler = Sampler::new(&model, Euler::default(), grid).unwrap();
    assert_eq!(sampler.sample(&[3, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap().nfe, 5);
    let sampler = sampler.counter(counter);
    assert_eq!(sampler.sample(&[3, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap().nfe, 10);
}

fn own_ends(spacing: &Spacing) -> bool {
    matches!(spacing, Spacing::List(_) | Spacing::Discrete(_))
}

#[test]
fn spacings_give_decreasing_times_with_the_ends_asked_for_on_every_sde() {
    for sde in SdeConfig::all() {
        let (low, high) = sde.span();
        let t_max = if sde.log_snr(high).is_finite() { high } else { 0.999 * high };
        for spacing in Spacing::all() {
            if own_ends(&spacing) {
                continue; // `grids.rs` has them
            }
            for steps in [1, 2, 3, 10, 1000] {
                if steps == 1000 && spacing.name() == "iddpm" {
                    continue; // fewer levels than that
                }
                let config = GridConfig { steps, spacing: spacing.clone(), t_max: Some(t_max), ..GridConfig::default() };
                let open = GridConfig { denoise_last: false, ..config.clone() }.build(&sde).unwrap();
                assert_eq!((open.first(), open.last(), open.times().len()), (t_max, low, steps + 1));
                let closed = config.build(&sde).unwrap();
                assert_eq!((closed.first(), closed.times().len(), closed.moves() + 1), (t_max, steps, steps));
                if steps > 1 {
                    assert_eq!(closed.last(), low);
                }
            }
        }
        let build = |spacing: Spacing| {
            let config = GridConfig { steps: 9, spacing, t_max: Some(t_max), denoise_last: false, ..GridConfig::default() };
            config.build(&sde).unwrap().times().to_vec()
        };
        // Equal steps in the variable each is named for.
        let equal = |values: Vec<f64>, what: &str| {
            let step = (values[9] - values[0]) / 9.0;
            for pair in values.windows(2) {
                assert!((pair[1] - pair[0] - step).abs() < 1e-8 * step.abs(), "{what} on {}: {values:?}", sde.name());
            }
        };
        equal(build(Spacing::default()), "uniform");
        equal(build(LogSnr::default().into()).iter().map(|&t| sde.log_snr(t)).collect(), "log-snr");
        for rho in [1.0, 7.0] {
            let times = build(Karras { rho }.into());
            equal(times.iter().map(|&t| (-0.5 * sde.log_snr(t) / rho).exp()).collect(), "karras");
        }
    }
}

#[test]
fn grids_that_make_no_sense_are_refused_with_what_was_expected() {
    let (vp, flow) = (SdeConfig::default(), LinearFlow::default());
    let bad_times = [
        (vec![1.0, 0.5, 0.5, 0.1], "decrease"),
        (vec![0.1, 0.5], "decrease"),
        (vec![1.5, 0.5], "outside of the span"),
        (vec![0.5, 0.0], "outside of the span"),
        (vec![f64::NAN, 0.5], "outside of the span"),
        (vec![0.5], "at least one step"),
        (vec![], "at least one step"),
    ];
    for (times, expected) in bad_times {
        let message = Grid::new(times.clone(), false, &vp).unwrap_err().to_string();
        assert!(message.contains(expected), "{times:?}: {message}");
    }
    let default = GridConfig::default();
    let bad_configs = [
        (GridConfig::with_steps(0), "steps"),
        (GridConfig { t_max: Some(2.0), ..default.clone() }, "t_max"),
        (GridConfig { t_min: Some(0.0), ..default.clone() }, "t_min"),
        (GridConfig { t_min: Some(0.8), t_max: Some(0.3), ..default.clone() }, "t_min < t_max"),
        (GridConfig { spacing: Karras { rho: 0.0 }.into(), ..default.clone() }, "rho"),
    ];
    for (config, expected) in bad_configs {
        let message = config.build(&vp).unwrap_err().to_string();
        assert!(message.contains(expected), "{config:?}: {message}");
    }
    for spacing in [Spacing::from(Karras::default()), LogSnr::default().into()] {
        let message = GridConfig { spacing, ..default.clone() }.build(&flow).unwrap_err().to_string();
        assert!(message.contains("uniform") && message.contains("t_max") && message.contains("flow"), "{message}");
    }
    // A grid made for one process is checked against the process it is used with.
    let grid = default.build(&Edm::default()).unwrap();
    let model = gaussian(vp);
    assert!(Sampler::new(&model, Euler::default(), grid).err().unwrap().to_string().contains("outside of the span"));
}

#[test]
fn solver_numbers_that_make_no_sense_are_refused_with_the_name_of_the_field() {
    let model = gaussian(VariancePreserving::default());
    let default = PredictorCorrector::default();
    let bad: [(SolverConfig, &str); 4] = [
        (Ddim { eta: 1.5 }.into(), "eta"),
        (Ddim { eta: f64::NAN }.into(), "eta"),
        (PredictorCorrector { snr: 0.0, ..default.clone() }.into(), "snr"),
        (PredictorCorrector { corrections: 256, ..default }.into(), "corrections"),
    ];
    for (solver, field) in bad {
        let grid = GridConfig::default().build(model.sde()).unwrap();
        let message = Sampler::new(&model, solver.clone(), grid).err().unwrap().to_string();
        assert!(message.contains(field) && message.contains(solver.name()), "{message}");
    }
    let grid = GridConfig::default().build(model.sde()).unwrap();
    let sampler = Sampler::new(&model, Euler::default(), grid).unwrap();
    let message = sampler.sample_many(5, 0, &[2], &Cond::NONE, NOISE, 0, &mut []).unwrap_err().to_string();
    assert!(message.contains("batch"), "{message}");
    assert!(sampler.threshold(Threshold::Clip { bound: -1.0 }).err().unwrap().to_string().contains("bound"));
}

#[test]
fn every_solver_and_spacing_is_listed_and_reads_its_own_configuration() {
    assert_eq!(SolverConfig::all().iter().map(|s| s.name()).collect::<Vec<_>>(), SolverConfig::KINDS);
    for solver in SolverConfig::all() {
        assert_eq!(solver.info().name, solver.name());
        assert!(solver.order() > 0 && solver.about().len() > 20 && solver.reference().len() > 4);
        assert_eq!(solver.info().cost.is_none(), solver.family() == Family::Adaptive);
        assert!(solver.info().cost != Some(0));
        assert_eq!(SolverConfig::from_kind(solver.name()), Some(solver.clone()));
        let text = serde_json::to_string(&solver).unwrap();
        assert_eq!(serde_json::from_str::<SolverConfig>(&text).unwrap(), solver);
        let unknown = serde_json::from_str::<SolverConfig>(&format!("{{\"kind\": \"{}\", \"bogus\": 1}}", solver.name()));
        assert!(unknown.unwrap_err().to_string().contains("bogus"));
    }
    for spacing in Spacing::all() {
        assert_eq!(Spacing::from_kind(spacing.name()), Some(spacing.clone()));
        let text = serde_json::to_string(&spacing).unwrap();
        assert_eq!(serde_json::from_str::<Spacing>(&text).unwrap(), spacing);
    }
    let text = r#"{
        "solver": {"kind": "predictor-corrector", "predictor": "euler-maruyama", "step_size": "norms"},
        "grid": {"steps": 20, "spacing": {"kind": "karras", "rho": 5}, "denoise_last": false},
        "threshold": {"kind": "dynamic", "quantile": 0.9},
        "state": "f64"
    }"#;
    let config: SamplerConfig = serde_json::from_str(text).unwrap();
    assert_eq!(config.state, StateDtype::F64);
    assert_eq!(config.threshold, Threshold::Dynamic { quantile: 0.9, bound: 1.0 });
    let model = gaussian(VariancePreserving::default());
    let sampler = config.build(&model).unwrap();
    assert_eq!(sampler.grid().moves(), 20);
    let samples = sampler.sample_many(3, 2, &[2], &Cond::NONE, NOISE, 0, &mut []).unwrap();
    assert_eq!((samples.x.shape(), samples.x.dtype(), samples.nfe), (&[3, 2][..], Dtype::F64, 40));
    assert!(serde_json::from_str::<SamplerConfig>(r#"{"stepz": 3}"#).unwrap_err().to_string().contains("stepz"));
}
