//! Variational bounds: tight but for the far end with exact denoisers, off by what theory says with others, and chains by their closed forms.

mod oracle;

use fokker_sde::{
    Cond, Covariance, Denoiser, Exact, Gaussian, LinearFlow, Points, Sde, SdeConfig, Times, VariancePreserving, diffuse,
};
use fokker_solve::variational::{Chain, Term};
use fokker_solve::{Bounded, SolveError, VariationalBound};
use fokker_tensor::{Dtype, Noise, Tensor};

use oracle::{NOISE, gaussian, mixture};

fn run(bound: &VariationalBound, model: &dyn Denoiser, x: &Tensor, levels: Option<usize>) -> Bounded {
    bound.evaluate(model, x, levels, &Cond::NONE, NOISE, 0).unwrap()
}

/// Mean and its standard error.
fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt())
}

/// That a mean is this number, up to `slack` and chance.
fn assert_mean(what: &str, values: &[f64], expected: f64, slack: f64) {
    let (mean, error) = mean(values);
    assert!((mean - expected).abs() < 4.5 * error + slack, "{what}: {mean} ± {error}, expected {expected}");
}

/// `ln q(x_t)` of noised data `x`, less `ln N(x_t; 0, σ²)` where that is the far end.
fn log_densities<M: Exact>(model: &M, x: &Tensor, t: f64, prior: bool) -> Vec<f64> {
    let epsilon = NOISE.normal(x.shape(), 0, 77, Dtype::F64);
    let x_t = diffuse(model.sde(), &t.into(), x, &epsilon);
    let exact = Exact::log_density(model, &x_t, &t.into(), &Cond::NONE).to_vec::<f64>();
    if !prior {
        return exact;
    }
    let variance = model.sde().sigma(t).powi(2);
    let rows = x_t.as_slice::<f64>().chunks(x.dim(1));
    let normal = rows.map(|x| x.iter().map(|x| -0.5 * (x * x / variance + (std::f64::consts::TAU * variance).ln())).sum::<f64>());
    exact.iter().zip(normal).map(|(q, normal)| q - normal).collect()
}

/// `E ln q(α x_0 + σ ε) − E[ln q(x_T) − ln N(x_T; 0, σ²) | x_0]` for `x_0` whose copies are the rows of `x`, one estimate for each.
fn theory<M: Exact>(model: &M, x: &Tensor) -> Vec<f64> {
    let (start, end) = model.sde().span();
    let near = log_densities(model, x, start, false);
    near.iter().zip(log_densities(model, x, end, true)).map(|(near, far)| near - far).collect()
}

#[test]
fn with_an_exact_denoiser_nothing_but_the_far_end_is_lost_on_every_process_for_every_datum() {
    fn check<M: Exact>(what: &str, model: &M) {
        for point in [[-0.9, -0.4], [0.3, 1.5], [2.0, -1.0]] {
            let x = Tensor::from_vec(&[1, 2], point.to_vec()).gather(&vec![0; 1500]);
            let found = run(&VariationalBound::Continuous { times: 40 }, model, &x, None);
            assert_eq!(found.nfe, 40);
            let gaps: Vec<f64> = found.log_density().iter().zip(theory(model, &x)).map(|(a, b)| a - b).collect();
            assert_mean(&format!("{what} on {} at {point:?}", model.sde().name()), &gaps, 0.0, 0.0);
            assert!(mean(&gaps).1 < 0.15, "{what} on {}: {:?} says little", model.sde().name(), mean(&gaps));
        }
    }
    for sde in SdeConfig::all() {
        check("a Gaussian", &gaussian(sde.clone()));
        check("a mixture", &mixture(sde));
    }
}

#[test]
fn the_mean_over_data_is_the_entropy_and_the_divergence_of_the_far_end() {
    // N(μ, 0.3) in one dimension, on a span that ends early: both ends in closed form.
    let (mu, c, d) = (0.7, 0.3, 1);
    let sde = VariancePreserving { t_min: 1e-3, t_max: 0.5, ..VariancePreserving::default() };
    let model = Gaussian::new(sde.clone(), &[mu], &Covariance::Isotropic(c));
    let x = model.sample(20_000, NOISE, 0);
    let found = run(&VariationalBound::Continuous { times: 8 }, &model, &x, None).log_density();
    let variance = |t: f64| sde.alpha(t).powi(2) * c + sde.sigma(t).powi(2);
    let entropy = 0.5 * f64::from(d) * (std::f64::consts::TAU * std::f64::consts::E * variance(1e-3)).ln();
    let (mean_end, ratio) = (sde.alpha(0.5) * mu, variance(0.5) / sde.sigma(0.5).powi(2));
    let end = 0.5 * (ratio - 1.0 - ratio.ln() + (mean_end / sde.sigma(0.5)).powi(2));
    assert!(end > 0.01, "nothing to see at the far end");
    assert_mean("the mean", &found, -entropy - end, 0.0);
}

/// A denoiser whose answer is off by `size · sin θ` in every number, `tan θ = σ/α`.
struct Off<M> {
    inner: M,
    size: f64,
}

impl<M: Denoiser> Denoiser for Off<M> {
    fn sde(&self) -> &dyn Sde {
        self.inner.sde()
    }

    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        let by = |t: f64| self.size * self.sde().sigma(t) / self.sde().sigma(t).hypot(self.sde().alpha(t));
        &self.inner.denoise(x, t, c) + &t.scale(&Tensor::ones(x.shape(), x.dtype()), by)
    }
}

#[test]
fn an_answer_that_is_off_costs_its_square_and_the_bound_is_below_the_exact_value() {
    for sde in [SdeConfig::default(), SdeConfig::from_kind("edm").unwrap(), LinearFlow::default().into()] {
        let exact = mixture(sde.clone());
        let x = exact.sample(4000, NOISE, 0);
        let bound = VariationalBound::Continuous { times: 16 };
        let best = run(&bound, &exact, &x, None).log_density();
        let off = run(&bound, &Off { inner: mixture(sde.clone()), size: 0.3 }, &x, None).log_density();
        // ½ ∫ 2 · 0.09 sin²θ d cot²θ, sin²θ = 1/(1 + snr).
        let (start, end) = sde.span();
        let expected = 0.09 * (sde.log_snr(start).exp().ln_1p() - sde.log_snr(end).exp().ln_1p());
        let gaps: Vec<f64> = best.iter().zip(&off).map(|(best, off)| best - off).collect();
        assert_mean(&format!("the cost on {}", sde.name()), &gaps, expected, 0.0);
        let (off, error) = mean(&off);
        let entropy = mean(&log_densities(&exact, &x, start, false)).0;
        assert!(off + 4.5 * error < entropy, "{}: {off} ± {error} is not below {entropy}", sde.name());
    }
}

#[test]
fn a_chains_terms_are_those_of_normal_data_in_closed_form() {
    let (mu, c) = (0.4, 0.3);
    for sde in [SdeConfig::default(), SdeConfig::from_kind("edm").unwrap(), SdeConfig::from_kind("cosine").unwrap()] {
        let model = Gaussian::new(sde.clone(), &[mu], &Covariance::Isotropic(c));
        let x = model.sample(6000, NOISE, 0);
        let chain = Chain::on(&sde, Some(12)).unwrap();
        let given = |t: f64| c * sde.sigma(t).powi(2) / (sde.alpha(t).powi(2) * c + sde.sigma(t).powi(2));
        for (fraction, times) in [(0.0, None), (0.6, None), (1.0, None), (0.6, Some(5))] {
            let found = run(&VariationalBound::Chain { steps: Some(12), times, fraction }, &model, &x, None);
            assert_eq!(found.nfe, times.unwrap_or(11) + 1);
            let (mut diffusion, mut reconstruction) = (0.0, 0.0);
            for &t in chain.times() {
                match chain.term(&sde, t) {
                    Term::Divergence { range, gain } => {
                        let rho = fraction * range;
                        diffusion += 0.5 * (rho - 1.0 + (-rho).exp() * (1.0 + gain * given(t)));
                    }
                    Term::Decoder { low, range } => {
                        let l = low + fraction * range;
                        reconstruction += 0.5 * (std::f64::consts::TAU.ln() + l + given(t) * (-l).exp());
                    }
                }
            }
            let what = format!("{} with v = {fraction} and {times:?} times", sde.name());
            assert_mean(&format!("{what}: diffusion"), &found.diffusion, diffusion, 0.0);
            assert_mean(&format!("{what}: reconstruction"), &found.reconstruction, reconstruction, 0.0);
            let prior = 0.5 * sde.log_snr(chain.times()[0]).exp() * (c + mu * mu);
            assert_mean(&format!("{what}: prior"), &found.prior, prior, 0.0);
        }
    }
}

#[test]
fn a_chain_of_many_steps_costs_what_continuous_time_does() {
    for sde in SdeConfig::all() {
        let c = 0.3;
        let given = |t: f64| c * sde.sigma(t).powi(2) / (sde.alpha(t).powi(2) * c + sde.sigma(t).powi(2));
        let sum = |steps: usize| {
            let chain = Chain::on(&sde, Some(steps)).unwrap();
            // Equal steps in arctan(σ/α) are long ones in the log-SNR near the data.
            let snr = |t: f64| sde.log_snr(t).exp();
            let times: Vec<f64> = chain.times().iter().copied().filter(|&t| snr(t) < 400.0).collect();
            let terms = times[..times.len() - 1].iter().map(|&t| match chain.term(&sde, t) {
                Term::Divergence { gain, .. } => 0.5 * gain * given(t),
                Term::Decoder { .. } => panic!("{}: step from {t} decodes", sde.name()),
            });
            let continuous = 0.5 * ((1.0 + c * snr(times[times.len() - 1])) / (1.0 + c * snr(times[0]))).ln();
            (terms.sum::<f64>() - continuous) / continuous
        };
        // Of first order in the step, and from above: conditional means at the noisier end of each step.
        let (coarse, fine) = (sum(2000), sum(4000));
        assert!(fine > 0.0 && fine < 0.6 * coarse && fine < 0.02, "{}: {coarse} and {fine}", sde.name());
    }
}

#[test]
fn discrete_data_are_decoded_and_their_probability_bounded() {
    // Five of the nine points with coordinates −1, 0 and 1, equally likely.
    let points = Tensor::from_vec(&[5, 2], vec![-1.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0, 1.0, 0.0, 1.0]);
    for sde in [SdeConfig::default(), SdeConfig::from_kind("edm").unwrap(), SdeConfig::from_kind("flow").unwrap()] {
        let model = Points::new(sde.clone(), &points);
        let x = points.gather(&(0..4000).map(|i| i % 5).collect::<Vec<_>>());
        let continuous = run(&VariationalBound::Continuous { times: 32 }, &model, &x, Some(3));
        assert_eq!(continuous.nfe, 33);
        let end = mean(&log_densities(&model, &x, sde.span().1, true)).0;
        assert_mean(sde.name(), &continuous.log_density(), -5.0_f64.ln() - end, 2e-3);
        // The noise at the start leaves no doubt.
        assert!(continuous.reconstruction.iter().all(|l| l.abs() < 1e-9), "{}", sde.name());
        let chain = run(&VariationalBound::Chain { steps: Some(400), times: Some(60), fraction: 0.0 }, &model, &x, Some(3));
        let (mean, error) = mean(&chain.log_density());
        assert!(mean < -5.0_f64.ln() + 4.5 * error && mean > -5.0_f64.ln() - 0.1, "{}: {mean} ± {error}", sde.name());
    }
}

#[test]
fn a_bound_does_not_depend_on_the_batch() {
    let model = mixture(VariancePreserving::default());
    let x = model.sample(9, NOISE, 0);
    let chain = VariationalBound::Chain { steps: Some(30), times: Some(4), fraction: 0.5 };
    for (bound, levels) in [(VariationalBound::Continuous { times: 3 }, None), (chain, None)] {
        let whole = run(&bound, &model, &x, levels).log_density();
        let part = bound.evaluate(&model, &x.slice(0, 4..7), levels, &Cond::NONE, NOISE, 4).unwrap().log_density();
        assert!(whole[4..7].iter().zip(&part).all(|(a, b)| (a - b).abs() < 1e-10 * a.abs()), "{whole:?} {part:?}");
        let other = bound.evaluate(&model, &x, levels, &Cond::NONE, Noise::new(5, 5), 0).unwrap().log_density();
        assert!(whole.iter().zip(&other).all(|(a, b)| a != b));
    }
    let nothing = run(&VariationalBound::default(), &model, &x.slice(0, 0..0), None);
    assert!(nothing.log_density().is_empty() && nothing.nfe == 0);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let model = mixture(VariancePreserving::default());
    let x = model.sample(3, NOISE, 0);
    let error = |bound: VariationalBound, x: &Tensor| bound.evaluate(&model, x, None, &Cond::NONE, NOISE, 2).unwrap_err();
    let message = |bound| error(bound, &x).to_string();
    assert!(message(VariationalBound::Continuous { times: 0 }).contains("`times`: expected at least 1"));
    let chain = |steps, times, fraction| VariationalBound::Chain { steps, times, fraction };
    assert!(message(chain(Some(1), None, 0.0)).contains("`steps`: expected at least 2, found 1"));
    assert!(message(chain(None, Some(0), 0.0)).contains("`times`: expected at least 1"));
    assert!(message(chain(None, None, 1.5)).contains("`fraction`: expected from 0 to 1, found 1.5"));
    let broken = Tensor::from_vec(&[2, 2], vec![0.0, 1.0, f64::NAN, 0.0]);
    assert!(matches!(
        error(VariationalBound::default(), &broken),
        SolveError::NotFiniteSample { sample: 3, what: "the data", .. }
    ));
}
