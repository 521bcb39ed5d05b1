//! Step control: tolerances are met, steps are rejected, samples have steps of their own, and no loop is endless.

mod oracle;

use fokker_sde::{Cond, Denoiser, Edm, Sde, SdeConfig, Times, VariancePreserving, diffuse};
use fokker_solve::{
    AdaptiveRungeKutta, Control, DpmAdaptive, ExponentialAdams, Grid, LowerOrderFinal, Method, Per, RungeKutta, Sampler,
    SolveError, Solver, SolverConfig, Variable,
};
use fokker_tensor::{Dtype, Tensor};

use oracle::{NOISE, Recorded, gaussian, max_difference, mixture, time_within_span};

fn adaptive(control: &Control) -> Vec<SolverConfig> {
    let pair = |method, variable| AdaptiveRungeKutta { method, variable, control: control.clone() }.into();
    vec![
        pair(Method::Dopri5, Variable::T),
        pair(Method::Tsit5, Variable::T),
        pair(Method::Dopri5, Variable::Sigma),
        pair(Method::Tsit5, Variable::LogSnr),
        DpmAdaptive { order: 2, control: control.clone() }.into(),
        DpmAdaptive { order: 3, control: control.clone() }.into(),
    ]
}

fn both(tolerance: f64) -> Control {
    Control { rtol: tolerance, atol: tolerance, ..Control::default() }
}

/// Two times between which a step in any variable is a way to go.
fn ends(sde: &dyn Sde) -> (f64, f64) {
    (time_within_span(sde, -6.0), time_within_span(sde, 6.0))
}

/// The result and its cost for one interval, whatever is between.
fn cross(model: &dyn Denoiser, solver: &SolverConfig, times: &[f64], x: &Tensor) -> (Tensor, usize) {
    let grid = Grid::new(times.to_vec(), false, model.sde()).unwrap();
    let sampler = Sampler::new(model, solver.clone(), grid).unwrap().state(Dtype::F64);
    let samples = sampler.integrate(x.clone(), &Cond::NONE, NOISE, 0, &mut []).unwrap();
    (samples.x, samples.nfe)
}

#[test]
fn errors_are_below_ten_tolerances_over_five_decades_on_every_smooth_sde() {
    // But for ladders: an estimate of the error knows nothing of the jumps of the derivatives that it has stepped over.
    for sde in SdeConfig::all().into_iter().filter(|sde| sde.ladder().is_none()) {
        let model = gaussian(sde.clone());
        let (t, s) = ends(&sde);
        let x = diffuse(&sde, &t.into(), &model.sample(6, NOISE, 0), &NOISE.normal(&[6, 2], 0, 9, Dtype::F64));
        let exact = model.flow(&x, t, s);
        let scale = 1.0_f64.max(exact.abs().max_all().item()).max(x.abs().max_all().item());
        let mut costs = vec![Vec::new(); 6];
        for decade in 3..8 {
            let tolerance = 10.0_f64.powi(-decade);
            for (solver, costs) in adaptive(&both(tolerance)).iter().zip(&mut costs) {
                if solver.order() == 2 && decade > 6 {
                    continue; // a thousand steps and no more to learn
                }
                let (found, nfe) = cross(&model, solver, &[t, s], &x);
                let error = max_difference(&found, &exact) / scale;
                assert!(error < 10.0 * tolerance, "{solver:?} on {}: error {error:e}, {nfe} evaluations", sde.name());
                costs.push(nfe);
            }
        }
        // Accuracy costs: the order of the method says how much. At loose tolerances a rejected step more or less may weigh as much.
        for costs in costs {
            assert!(
                costs[1..].windows(2).all(|pair| pair[0] <= pair[1]) && costs.first() < costs.last(),
                "on {}: {costs:?}",
                sde.name()
            );
        }
    }
}

#[test]
fn errors_are_below_ten_tolerances_on_a_mixture() {
    let sde = VariancePreserving::default();
    let model = mixture(sde.clone());
    let (t, s) = ends(&sde);
    let x = &NOISE.normal(&[16, 2], 0, 9, Dtype::F64) * sde.sigma(t);
    let reference = RungeKutta { method: Method::Dopri5, variable: Variable::LogSnr };
    let mut fine: Vec<f64> = (0..=2000).map(|i| sde.time_at_log_snr(-6.0 + 12.0 * f64::from(i) / 2000.0)).collect();
    (fine[0], fine[2000]) = (t, s);
    let exact = cross(&model, &reference.into(), &fine, &x).0;
    for decade in 3..7 {
        let tolerance = 10.0_f64.powi(-decade);
        for solver in adaptive(&both(tolerance)) {
            let found = cross(&model, &solver, &[t, s], &x).0;
            let error = max_difference(&found, &exact);
            assert!(error < 10.0 * tolerance, "{solver:?}: error {error:e}");
        }
    }
}

#[test]
fn a_first_step_that_is_too_long_is_rejected_and_changes_no_sample() {
    let sde = Edm::default();
    let model = gaussian(sde.clone());
    let (t, s) = (20.0, 0.05);
    let x = diffuse(&sde, &t.into(), &model.sample(5, NOISE, 0), &NOISE.normal(&[5, 2], 0, 9, Dtype::F64));
    let exact = model.flow(&x, t, s);
    for (careful, bold) in adaptive(&both(1e-5)).iter().zip(adaptive(&Control { first: Some(1e6), ..both(1e-5) })) {
        let (found, cost) = cross(&model, careful, &[t, s], &x);
        let (from_bold, bold_cost) = cross(&model, &bold, &[t, s], &x);
        // The whole way in one step would cost one step; it is rejected several times first.
        assert!(bold_cost > 20, "{bold:?}: {bold_cost} evaluations");
        for found in [found, from_bold] {
            assert!(max_difference(&found, &exact) < 10.0 * 1e-5 * 20.0, "{bold:?} at {cost} evaluations");
        }
    }
}

#[test]
fn samples_have_steps_of_their_own_unless_the_tolerance_is_the_batchs() {
    let sde = VariancePreserving::default();
    let (t, s) = ends(&sde);
    let x = Tensor::from_vec(&[2, 2], vec![0.05, -0.02, 2.5, -1.5]);
    for per in [Per::Sample, Per::Batch] {
        let model = Recorded::new(mixture(sde.clone()));
        for solver in adaptive(&Control { per, ..both(1e-4) }) {
            let together = cross(&model, &solver, &[t, s], &x).0;
            let each = model.calls().iter().filter(|(times, _)| matches!(times, Times::Each(_))).count();
            assert_eq!(each > 0, per == Per::Sample, "{solver:?}");
            let alone = cross(&model.inner, &solver, &[t, s], &x.slice(0, 1..2)).0;
            let difference = max_difference(&together.slice(0, 1..2), &alone);
            assert_eq!(difference < 1e-11, per == Per::Sample, "{solver:?}: {difference:e}");
        }
    }
}

#[test]
fn the_grids_times_are_reached_exactly_and_the_step_is_remembered_between_them() {
    let sde = VariancePreserving::default();
    let model = gaussian(sde.clone());
    let (t, s) = ends(&sde);
    // One sample: several would wait for each other at every stop.
    let x = NOISE.normal(&[1, 2], 0, 9, Dtype::F64);
    let times: Vec<f64> = (0..=5).map(|i| t + (s - t) * f64::from(i) / 5.0).collect();
    for solver in adaptive(&both(1e-4)) {
        let mut seen = Vec::new();
        let mut observer = |step: &fokker_solve::Step<'_>| seen.push((step.s, step.x.clone()));
        let grid = Grid::new(times.clone(), false, &sde).unwrap();
        let sampler = Sampler::new(&model, solver.clone(), grid).unwrap().state(Dtype::F64);
        let samples = sampler.integrate(x.clone(), &Cond::NONE, NOISE, 0, &mut [&mut observer]).unwrap();
        for (time, state) in &seen {
            assert!(max_difference(state, &model.flow(&x, t, *time)) < 1e-3, "{solver:?} at {time}");
        }
        let (_, direct) = cross(&model, &solver, &[t, s], &x);
        // A stop costs the step it cuts and little more: no new start from a hundredth of the way.
        let per_step = if solver.order() == 5 { 6 } else { solver.order() as usize };
        assert!(samples.nfe <= direct + 3 * 4 * per_step, "{solver:?}: {} with stops, {direct} without", samples.nfe);
    }
}

#[test]
fn one_interval_of_dpm_adaptive_is_k_diffusions() {
    let sde = Edm::default();
    let model = mixture(sde.clone());
    let (t, s) = (10.0_f64, 0.1_f64);
    let x = &NOISE.normal(&[6, 2], 0, 9, Dtype::F64) * t;
    let control = Control {
        rtol: 0.05,
        atol: 0.0078,
        first: Some(0.05),
        safety: 1.0,
        accept: 0.81,
        per: Per::Batch,
        p: 0.3,
        i: 0.9,
        d: 0.1,
        ..Control::default()
    };
    for order in [2, 3] {
        let found = cross(&model, &DpmAdaptive { order, control: control.clone() }.into(), &[t, s], &x).0;
        let expected = k_diffusion(&model, x.clone(), (-t.ln(), -s.ln()), order, &control);
        let difference = max_difference(&found, &expected);
        assert!(difference < 1e-10, "order {order}: {difference:e}");
    }
}

/// The algorithm from its description, in `λ = −ln σ`, for the whole batch.
fn k_diffusion(model: &dyn Denoiser, mut x: Tensor, (mut l, end): (f64, f64), order: usize, control: &Control) -> Tensor {
    let noise = |x: &Tensor, l: f64| &(x - &model.denoise(x, &(-l).exp().into(), &Cond::NONE)) * l.exp();
    let step = |x: &Tensor, from: f64, to: f64, e: &Tensor| x + &(e * ((-to).exp() - (-from).exp()));
    let k = order as f64;
    let (b_1, b_2, b_3) = ((control.p + control.i + control.d) / k, -(control.p + 2.0 * control.d) / k, control.d / k);
    let (mut h, mut errors, mut previous) = (0.05, Vec::new(), x.to_vec::<f64>());
    while l < end - 1e-9 {
        let to = end.min(l + h);
        let width = to - l;
        let sigma = (-to).exp();
        let e = noise(&x, l);
        let two = |r: f64| {
            let middle = noise(&step(&x, l, l + r * width, &e), l + r * width);
            &step(&x, l, to, &e) - &(&(&middle - &e) * (sigma * width.exp_m1() / (2.0 * r)))
        };
        let (low, high) = if order == 2 {
            (step(&x, l, to, &e), two(0.5))
        } else {
            let (r_1, r_2) = (1.0 / 3.0, 2.0 / 3.0);
            let d_1 = &noise(&step(&x, l, l + r_1 * width, &e), l + r_1 * width) - &e;
            let bend = (-(l + r_2 * width)).exp() * r_2 / r_1 * ((r_2 * width).exp_m1() / (r_2 * width) - 1.0);
            let u_2 = &step(&x, l, l + r_2 * width, &e) - &(&d_1 * bend);
            let d_2 = &noise(&u_2, l + r_2 * width) - &e;
            (two(r_1), &step(&x, l, to, &e) - &(&d_2 * (sigma / r_2 * (width.exp_m1() / width - 1.0))))
        };
        let (low_values, high_values) = (low.to_vec::<f64>(), high.to_vec::<f64>());
        let squares = (0..low_values.len()).map(|i| {
            let allowed = control.atol.max(control.rtol * low_values[i].abs().max(previous[i].abs()));
            ((low_values[i] - high_values[i]) / allowed).powi(2)
        });
        let inverse = 1.0 / ((squares.sum::<f64>() / low_values.len() as f64).sqrt() + 1e-8);
        if errors.is_empty() {
            errors = vec![inverse; 3];
        }
        errors[0] = inverse;
        let factor: f64 = errors[0].powf(b_1) * errors[1].powf(b_2) * errors[2].powf(b_3);
        let factor = 1.0 + (factor - 1.0).atan();
        if factor >= control.accept {
            errors = vec![errors[0], errors[0], errors[1]];
            (x, l, previous) = (high, to, low_values);
        }
        h *= factor;
    }
    x
}

/// A denoiser that is smooth at a scale of 1e-9 only.
struct Jagged(Edm);

impl Denoiser for Jagged {
    fn sde(&self) -> &dyn Sde {
        &self.0
    }

    fn denoise(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        t.scale(&Tensor::full(x.shape(), 1e3, x.dtype()), |t| (1e9 * t).sin())
    }
}

#[test]
fn a_hopeless_problem_ends_in_an_error_that_says_where_and_what_to_do() {
    let model = Jagged(Edm::default());
    for solver in adaptive(&Control { max_steps: 50, ..both(1e-6) }) {
        let grid = Grid::new(vec![10.0, 0.1], true, &Edm::default()).unwrap();
        let sampler = Sampler::new(&model, solver.clone(), grid).unwrap().state(Dtype::F64);
        let error = sampler.sample(&[2, 2], &Cond::NONE, NOISE, 0, &mut []).unwrap_err();
        let SolveError::TooManySteps { steps, t, .. } = error else { panic!("{error}") };
        assert!(steps == 50 && t > 0.1, "{error}");
        let message = error.to_string();
        assert!(message.contains(solver.name()) && message.contains("larger tolerances"), "{message}");
    }
}

#[test]
fn controls_that_make_no_sense_are_refused_with_the_name_of_the_field() {
    let good = Control::default();
    let bad = [
        (Control { rtol: 0.0, ..good.clone() }, "control.rtol"),
        (Control { atol: -1.0, ..good.clone() }, "control.atol"),
        (Control { rtol: f64::NAN, ..good.clone() }, "control.rtol"),
        (Control { i: 0.0, ..good.clone() }, "control.i"),
        (Control { p: 2.0, ..good.clone() }, "control.p"),
        (Control { safety: 1.5, ..good.clone() }, "control.safety"),
        (Control { accept: 0.0, ..good.clone() }, "control.accept"),
        (Control { first: Some(0.0), ..good.clone() }, "control.first"),
        (Control { max_steps: 0, ..good.clone() }, "control.max_steps"),
    ];
    for (control, field) in bad {
        for solver in adaptive(&control) {
            let message = solver.check().unwrap_err().to_string();
            assert!(message.contains(field) && message.contains(solver.name()), "{message}");
        }
    }
    let message = AdaptiveRungeKutta { method: Method::Rk4, ..AdaptiveRungeKutta::default() }.check().unwrap_err().to_string();
    assert!(message.contains("dopri5"), "{message}");
    let text = r#"{"kind": "dpm-adaptive", "order": 2, "control": {"rtol": 0.01, "per": "batch"}}"#;
    let SolverConfig::DpmAdaptive(read) = serde_json::from_str(text).unwrap() else { panic!("another solver") };
    assert_eq!(read, DpmAdaptive { order: 2, control: Control { rtol: 0.01, per: Per::Batch, ..good } });
}

#[test]
fn fixed_steps_need_more_evaluations_for_the_same_accuracy_where_the_path_bends_in_one_place() {
    // Two narrow clusters: the path is straight but for where the sample decides.
    let sde = Edm::default();
    let model = mixture(sde.clone());
    let (t, s) = (50.0, 0.01);
    let x = &NOISE.normal(&[1, 2], 3, 9, Dtype::F64) * t;
    let exact = cross(&model, &adaptive(&both(1e-10))[3], &[t, s], &x).0;
    let (found, nfe) = cross(&model, &adaptive(&both(1e-6))[3], &[t, s], &x);
    let uniform: Vec<f64> = (0..=nfe).map(|i| t + (s - t) * i as f64 / nfe as f64).collect();
    let adams = ExponentialAdams { lower_order_final: LowerOrderFinal::Never, ..ExponentialAdams::default() };
    let fixed = cross(&model, &adams.into(), &uniform, &x).0;
    assert!(max_difference(&found, &exact) < 1e-2 * max_difference(&fixed, &exact));
}
