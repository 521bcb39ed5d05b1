//! Properties of every SDE, every preconditioning and the exact denoisers.

use fokker_sde::{
    Cond, Covariance, Denoiser, Edm, Gaussian, GaussianMixture, LinearFlow, Preconditioning, Quantity, Sde, SdeConfig,
    SubVariancePreserving, Times, VarianceExploding, VariancePreserving, convert, diffuse,
};
use fokker_tensor::{Dtype, Noise, Tensor, check, grad};
use proptest::prelude::*;

/// An SDE known only by its four functions: everything else is the trait's general formula.
#[derive(Debug)]
struct General(SdeConfig);

impl Sde for General {
    fn span(&self) -> (f64, f64) {
        self.0.span()
    }
    fn alpha(&self, t: f64) -> f64 {
        self.0.alpha(t)
    }
    fn sigma(&self, t: f64) -> f64 {
        self.0.sigma(t)
    }
    fn d_alpha(&self, t: f64) -> f64 {
        self.0.d_alpha(t)
    }
    fn d_sigma(&self, t: f64) -> f64 {
        self.0.d_sigma(t)
    }
    fn name(&self) -> &'static str {
        "general"
    }
}

/// The time a fraction `u` of the way through the span, on a logarithmic scale so that both ends are visited.
fn time(sde: &dyn Sde, u: f64) -> f64 {
    let (low, high) = sde.span();
    (low.ln() + u * (high.ln() - low.ln())).exp().clamp(low, high)
}

#[track_caller]
fn close(what: &str, sde: &dyn Sde, found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance * expected.abs().max(1e-300),
        "{what} of {}: {found:e}, expected {expected:e}",
        sde.name()
    );
}

fn max_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    (a - b).abs().max_all().item()
}

proptest! {
    #[test]
    fn derivatives_of_alpha_and_sigma_agree_with_differences(u in 0.001..0.999_f64) {
        for sde in SdeConfig::all() {
            let t = time(&sde, u);
            // Stay inside of [0, t_max] and on the scale on which the functions change.
            let h = 1e-3 * t.min(sde.span().1 - t).max(1e-6 * t);
            type Function = fn(&SdeConfig, f64) -> f64;
            let pairs: [(&str, Function, Function); 2] = [
                ("alpha", |s, t| s.alpha(t), |s, t| s.d_alpha(t)),
                ("sigma", |s, t| s.sigma(t), |s, t| s.d_sigma(t)),
            ];
            for (name, f, d) in pairs {
                let near = f(&sde, t + h) - f(&sde, t - h);
                let far = f(&sde, t + 2.0 * h) - f(&sde, t - 2.0 * h);
                let difference = (8.0 * near - far) / (12.0 * h);
                let rounding = 8.0 * f64::EPSILON * f(&sde, t) / h;
                prop_assert!(
                    (difference - d(&sde, t)).abs() <= 1e-8 * d(&sde, t).abs() + rounding,
                    "d_{name} of {} at t = {t}: {} by difference, {}", sde.name(), difference, d(&sde, t)
                );
            }
        }
    }

    #[test]
    fn log_snr_falls_strictly_with_time(u in 0.0..1.0_f64, v in 0.0..1.0_f64) {
        prop_assume!((u - v).abs() > 1e-9);
        for sde in SdeConfig::all() {
            let (early, late) = (time(&sde, u.min(v)), time(&sde, u.max(v)));
            prop_assert!(sde.log_snr(early) > sde.log_snr(late), "{} between {early} and {late}", sde.name());
        }
    }

    #[test]
    fn time_at_log_snr_inverts_log_snr(u in 0.0..0.999_f64) {
        for sde in SdeConfig::all() {
            let t = time(&sde, u);
            close("time_at_log_snr", &sde, sde.time_at_log_snr(sde.log_snr(t)), t, 1e-10);
            let general = General(sde.clone());
            close("general time_at_log_snr", &general, general.time_at_log_snr(sde.log_snr(t)), t, 1e-9);
        }
    }

    #[test]
    fn closed_forms_agree_with_the_general_formulas(u in 0.0..0.999_f64) {
        for sde in SdeConfig::all() {
            let t = time(&sde, u);
            let general = General(sde.clone());
            close("drift", &sde, sde.drift(t), general.drift(t), 1e-11);
            close("diffusion_squared", &sde, sde.diffusion_squared(t), general.diffusion_squared(t), 1e-9);
            let (special, formula) = (sde.log_snr(t), general.log_snr(t));
            prop_assert!((special - formula).abs() < 1e-9, "log_snr of {} at {t}: {special} and {formula}", sde.name());
        }
    }

    #[test]
    fn drift_and_diffusion_reproduce_the_marginals(u in 0.05..0.9_f64, v in 0.05..0.9_f64) {
        prop_assume!((u - v).abs() > 0.01);
        for sde in SdeConfig::all() {
            let (a, b) = (time(&sde, u.min(v)), time(&sde, u.max(v)));
            // d ln α = f dt and d σ² = (2 f σ² + g²) dt, by Runge and Kutta in w = ln t.
            let steps = 2000;
            let h = (b / a).ln() / f64::from(steps);
            let slope = |w: f64, variance: f64| {
                let t = w.exp();
                (t * sde.drift(t), t * (2.0 * sde.drift(t) * variance + sde.diffusion_squared(t)))
            };
            let (mut w, mut log_alpha, mut variance) = (a.ln(), sde.alpha(a).ln(), sde.sigma(a).powi(2));
            for _ in 0..steps {
                let k1 = slope(w, variance);
                let k2 = slope(w + 0.5 * h, variance + 0.5 * h * k1.1);
                let k3 = slope(w + 0.5 * h, variance + 0.5 * h * k2.1);
                let k4 = slope(w + h, variance + h * k3.1);
                log_alpha += h * (k1.0 + 2.0 * k2.0 + 2.0 * k3.0 + k4.0) / 6.0;
                variance += h * (k1.1 + 2.0 * k2.1 + 2.0 * k3.1 + k4.1) / 6.0;
                w += h;
            }
            close("integrated alpha", &sde, log_alpha.exp(), sde.alpha(b), 1e-9);
            close("integrated sigma²", &sde, variance, sde.sigma(b).powi(2), 1e-9);
        }
    }

    #[test]
    fn preconditioning_recovers_the_clean_sample_from_the_ideal_output(
        u in 0.0..1.0_f64, x_0 in -3.0..3.0_f64, noise in -3.0..3.0_f64,
    ) {
        for sde in SdeConfig::all() {
            let t = time(&sde, u);
            let x_t = sde.alpha(t) * x_0 + sde.sigma(t) * noise;
            for preconditioning in Preconditioning::all() {
                let c = preconditioning.coefficients(&sde, t);
                if preconditioning.check(&sde).is_err() && !(c.out.is_finite() && c.skip.is_finite()) {
                    continue;
                }
                let target = preconditioning.target(&sde, t);
                let ideal = target.sample * x_0 + target.noise * noise;
                let recovered = c.skip * x_t + c.out * ideal;
                // Rounding is relative to the two terms, which may cancel.
                let scale = (c.skip * x_t).abs() + (c.out * ideal).abs() + 1.0;
                prop_assert!(
                    (recovered - x_0).abs() < 1e-12 * scale,
                    "{} on {} at {t}: {recovered} for {x_0}", preconditioning.name(), sde.name()
                );
            }
        }
    }

    #[test]
    fn conversions_between_all_quantities_agree_with_their_definitions(
        u in 0.0..0.999_f64, x_0 in -3.0..3.0_f64, noise in -3.0..3.0_f64,
    ) {
        for sde in SdeConfig::all() {
            let t = time(&sde, u);
            let x_t = sde.alpha(t) * x_0 + sde.sigma(t) * noise;
            for from in Quantity::ALL {
                let c = from.combination(&sde, t);
                let value = c.sample * x_0 + c.noise * noise;
                for to in Quantity::ALL {
                    let expected = to.combination(&sde, t);
                    let expected = expected.sample * x_0 + expected.noise * noise;
                    let c = from.conversion(to, &sde, t);
                    let found = c.state * x_t + c.value * value;
                    let scale = (c.state * x_t).abs() + (c.value * value).abs() + expected.abs();
                    prop_assert!(
                        (found - expected).abs() <= 1e-11 * scale,
                        "{from:?} to {to:?} on {} at {t}: {found}, expected {expected}", sde.name()
                    );
                }
            }
        }
    }
}

#[test]
fn vp_has_the_closed_form_of_song_et_al_equation_33() {
    let sde = VariancePreserving::default();
    for t in [1e-5_f64, 0.01, 0.3, 1.0] {
        let log_mean = -0.25 * t * t * (20.0 - 0.1) - 0.5 * t * 0.1;
        close("alpha", &sde, sde.alpha(t), log_mean.exp(), 1e-14);
        close("sigma", &sde, sde.sigma(t), (1.0 - (2.0 * log_mean).exp()).sqrt(), 1e-9);
        close("g²", &sde, sde.diffusion_squared(t), 0.1 + t * 19.9, 1e-15);
    }
    // DDPM's linear ladder 1e-4 → 0.02 with 1000 steps is this process sampled at t = i/1000, to first order in β/1000.
    let mut log_alpha_bar = 0.0_f64;
    for i in 0..1000 {
        log_alpha_bar += (-(1e-4 + (0.02 - 1e-4) * f64::from(i) / 999.0)).ln_1p();
    }
    let discrete = (0.5 * log_alpha_bar).exp();
    assert!((sde.alpha(1.0) / discrete - 1.0).abs() < 0.05, "{} and DDPM's {discrete}", sde.alpha(1.0));
}

#[test]
fn sub_vp_has_the_closed_form_of_song_et_al_equation_29() {
    let sde = SubVariancePreserving::default();
    let vp = VariancePreserving::default();
    for t in [1e-5_f64, 0.01, 0.3, 1.0] {
        let integral = 0.1 * t + 0.5 * 19.9 * t * t;
        close("alpha", &sde, sde.alpha(t), (-0.5 * integral).exp(), 1e-14);
        close("sigma", &sde, sde.sigma(t), vp.sigma(t).powi(2), 1e-12);
        close("g²", &sde, sde.diffusion_squared(t), (0.1 + 19.9 * t) * (1.0 - (-2.0 * integral).exp()), 1e-8);
        assert!(sde.sigma(t) <= vp.sigma(t), "sub-VP never has more noise than VP");
    }
}

#[test]
fn ve_edm_and_flow_have_the_closed_forms_of_their_papers() {
    let ve = VarianceExploding::default();
    let edm = Edm::default();
    let flow = LinearFlow::default();
    for t in [1e-3_f64, 0.2, 0.7, 0.99] {
        let sigma = 0.01 * (50.0_f64 / 0.01).powf(t);
        close("sigma", &ve, ve.sigma(t), sigma, 1e-13);
        close("g", &ve, ve.diffusion_squared(t).sqrt(), sigma * (2.0 * 5000.0_f64.ln()).sqrt(), 1e-13);
        close("g²", &edm, edm.diffusion_squared(t), 2.0 * t, 1e-15);
        close("g²", &flow, flow.diffusion_squared(t), 2.0 * t / (1.0 - t), 1e-15);
        close("f", &flow, flow.drift(t), -1.0 / (1.0 - t), 1e-15);
    }
    assert_eq!(edm.prior_std(), 80.0);
    assert_eq!(flow.prior_std(), 1.0);
    assert_eq!(flow.log_snr(1.0), f64::NEG_INFINITY);
}

#[test]
fn cosine_has_the_closed_form_of_nichol_and_dhariwal_equation_17() {
    let sde = SdeConfig::from_kind("cosine").unwrap();
    let f = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
    for t in [1e-3, 0.2, 0.7, 0.99] {
        close("alpha²", &sde, sde.alpha(t).powi(2), f(t) / f(0.0), 1e-12);
        close("sigma²", &sde, sde.sigma(t).powi(2), 1.0 - f(t) / f(0.0), 1e-10);
    }
    assert_eq!(sde.alpha(1.0), 0.0, "the far end is pure noise exactly");
}

#[test]
fn noise_levels_keep_their_digits_next_to_the_data() {
    // Leading terms as t → 0, where 1 − α² has lost everything.
    let t = 1e-14;
    for (kind, sigma) in [("vp", (0.1 * t).sqrt()), ("sub-vp", 0.1 * t), ("edm", t), ("flow", t)] {
        let sde = SdeConfig::from_kind(kind).unwrap();
        close("sigma near 0", &sde, sde.sigma(t), sigma, 1e-6);
        close("log_snr near 0", &sde, sde.log_snr(t), -2.0 * sigma.ln(), 1e-12);
        close("time_at_log_snr near 0", &sde, sde.time_at_log_snr(sde.log_snr(t)), t, 1e-10);
    }
    let cosine = SdeConfig::from_kind("cosine").unwrap();
    let rate = std::f64::consts::FRAC_PI_2 / 1.008;
    let expected = (2.0 * rate * t * (rate * 0.008).tan()).sqrt();
    close("sigma near 0", &cosine, cosine.sigma(t), expected, 1e-6);
    close("time_at_log_snr near 0", &cosine, cosine.time_at_log_snr(cosine.log_snr(t)), t, 1e-10);
}

#[test]
fn every_sde_is_listed_with_its_tag_and_passes_its_own_check() {
    let all = SdeConfig::all();
    assert_eq!(all.iter().map(|sde| sde.name()).collect::<Vec<_>>(), SdeConfig::KINDS);
    for sde in all {
        sde.check().unwrap();
        assert_eq!(SdeConfig::from_kind(sde.name()), Some(sde.clone()));
        assert!(sde.about().len() > 20);
        let text = serde_json::to_string(&sde).unwrap();
        assert_eq!(serde_json::from_str::<SdeConfig>(&text).unwrap(), sde);
        let bare: SdeConfig = serde_json::from_str(&format!("{{\"kind\": \"{}\"}}", sde.name())).unwrap();
        assert_eq!(bare, sde, "fields left out take their defaults");
        let unknown = serde_json::from_str::<SdeConfig>(&format!("{{\"kind\": \"{}\", \"bogus\": 1}}", sde.name()));
        assert!(unknown.unwrap_err().to_string().contains("bogus"), "an unknown field of {} is named", sde.name());
    }
    let unknown = serde_json::from_str::<SdeConfig>("{\"kind\": \"vpp\"}").unwrap_err().to_string();
    assert!(unknown.contains("vpp") && unknown.contains("sub-vp"), "{unknown}");
}

#[test]
fn numbers_that_make_no_sense_are_refused_with_the_name_of_the_field() {
    for (text, field) in [
        (r#"{"kind": "vp", "beta_min": -1}"#, "beta_min"),
        (r#"{"kind": "vp", "t_max": 0}"#, "t_max"),
        (r#"{"kind": "sub-vp", "beta_max": 0.05}"#, "beta_max"),
        (r#"{"kind": "ve", "sigma_min": 60}"#, "sigma_min"),
        (r#"{"kind": "cosine", "s": 0}"#, "s"),
        (r#"{"kind": "cosine", "t_max": 1.5}"#, "t_max"),
        (r#"{"kind": "edm", "sigma_min": 0}"#, "sigma_min"),
        (r#"{"kind": "flow", "t_max": 2}"#, "t_max"),
    ] {
        let sde: SdeConfig = serde_json::from_str(text).unwrap();
        let error = sde.check().unwrap_err();
        assert!(error.field().contains(field), "{text}: {error}");
        assert!(error.to_string().contains(sde.name()), "{error}");
    }
}

#[test]
fn edm_preconditioning_has_table_1_on_edm_and_unit_variances_on_every_sde() {
    let sigma_data = 0.7_f64;
    let edm = Preconditioning::Edm { sigma_data };
    let (sde, t) = (Edm::default(), 3.0_f64);
    let c = edm.coefficients(&sde, t);
    let total = t * t + sigma_data * sigma_data;
    close("c_skip", &sde, c.skip, sigma_data * sigma_data / total, 1e-14);
    close("c_out", &sde, c.out, t * sigma_data / total.sqrt(), 1e-14);
    close("c_in", &sde, c.in_, 1.0 / total.sqrt(), 1e-14);
    close("c_noise", &sde, c.noise, t.ln() / 4.0, 1e-14);
    for sde in SdeConfig::all() {
        for u in [0.0, 0.3, 0.8, 1.0] {
            let t = time(&sde, u);
            let c = edm.coefficients(&sde, t);
            assert!(c.skip.is_finite() && c.out.is_finite() && c.in_.is_finite() && c.noise.is_finite());
            let input = c.in_.powi(2) * (sde.alpha(t).powi(2) * sigma_data.powi(2) + sde.sigma(t).powi(2));
            close("variance of the input", &sde, input, 1.0, 1e-12);
            let target = edm.target(&sde, t);
            let variance = target.sample.powi(2) * sigma_data.powi(2) + target.noise.powi(2);
            close("variance of the target", &sde, variance, 1.0, 1e-12);
        }
    }
}

#[test]
fn v_prediction_is_edm_with_unit_data_and_the_other_sign() {
    let (edm, v) = (Preconditioning::Edm { sigma_data: 1.0 }, Preconditioning::V {});
    for sde in SdeConfig::all() {
        for u in [0.0, 0.3, 0.8, 1.0] {
            let t = time(&sde, u);
            let (a, b) = (edm.coefficients(&sde, t), v.coefficients(&sde, t));
            close("c_skip", &sde, b.skip, a.skip, 1e-12);
            close("c_out", &sde, b.out, -a.out, 1e-12);
            close("c_in", &sde, b.in_, a.in_, 1e-12);
        }
    }
    let (flow, t) = (LinearFlow::default(), 0.4);
    let c = Preconditioning::Velocity {}.coefficients(&flow, t);
    close("c_skip", &flow, c.skip, 1.0, 1e-14);
    close("c_out", &flow, c.out, -t, 1e-14);
    let vp = VariancePreserving::default();
    close("c_in", &vp, Preconditioning::Epsilon {}.coefficients(&vp, t).in_, 1.0, 1e-14);
}

#[test]
fn predictions_that_cannot_know_the_sample_at_pure_noise_are_refused() {
    let flow = LinearFlow::default();
    for kind in [Preconditioning::Epsilon {}, Preconditioning::Score {}] {
        let message = kind.check(&flow).unwrap_err().to_string();
        assert!(message.contains(kind.name()) && message.contains("flow") && message.contains("velocity"), "{message}");
        kind.check(&LinearFlow { t_max: 0.999, ..flow.clone() }).unwrap();
    }
    for kind in [Preconditioning::default(), Preconditioning::Sample {}, Preconditioning::V {}, Preconditioning::Velocity {}] {
        kind.check(&flow).unwrap();
    }
    let error = Preconditioning::Edm { sigma_data: 0.0 }.check(&flow).unwrap_err();
    assert_eq!(error.field(), "sigma_data");
    // The noise itself is known there, and so is the score.
    let conversion = Quantity::Epsilon.conversion(Quantity::Score, &flow, 1.0);
    assert_eq!((conversion.state, conversion.value), (0.0, -1.0));
}

#[test]
fn squared_errors_convert_between_quantities_by_the_error_ratio() {
    let sde = VariancePreserving::default();
    let t = 0.4;
    let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
    close("ε", &sde, Quantity::Epsilon.error_ratio(&sde, t), (alpha / sigma).powi(2), 1e-13);
    close("score", &sde, Quantity::Score.error_ratio(&sde, t), (alpha / sigma.powi(2)).powi(2), 1e-13);
    close("v", &sde, Quantity::V.error_ratio(&sde, t), sigma.powi(-2), 1e-13);
    // And the preconditioning's factor is the inverse of it.
    for kind in Preconditioning::all() {
        if let Some(quantity) = kind.quantity() {
            close(kind.name(), &sde, kind.coefficients(&sde, t).out.powi(2), 1.0 / quantity.error_ratio(&sde, t), 1e-12);
        }
    }
}

/// A mixture in three dimensions with every kind of covariance.
fn mixture(sde: impl Sde + 'static) -> GaussianMixture {
    GaussianMixture::new(
        sde,
        &[1.0, 2.0, 1.0],
        &[vec![-1.0, 0.5, 0.0], vec![1.0, 0.0, 0.3], vec![0.2, -1.5, 1.0]],
        &[
            Covariance::Isotropic(0.3),
            Covariance::Diagonal(vec![0.1, 0.5, 0.2]),
            Covariance::Full(vec![0.5, 0.2, -0.1, 0.2, 0.4, 0.05, -0.1, 0.05, 0.3]),
        ],
    )
}

fn noisy(model: &GaussianMixture, t: &Times, n: usize) -> Tensor {
    let x_0 = model.sample(n, Noise::new(3, 1), 0);
    diffuse(model.sde(), t, &x_0, &Noise::new(3, 2).normal(x_0.shape(), 0, 0, Dtype::F64))
}

#[test]
fn the_score_of_a_mixture_is_the_gradient_of_its_log_density_by_tweedies_formula() {
    for sde in SdeConfig::all() {
        let model = mixture(sde.clone());
        for u in [0.3, 0.7, 1.0] {
            let t = Times::Same(time(&sde, u));
            let leaf = noisy(&model, &t, 20).track();
            let gradient = grad(model.log_density(&leaf, &t, &Cond::NONE).sum_all(), &[&leaf]).remove(0);
            let x = leaf.detach();
            let scale = gradient.abs().max_all().item();
            let score = model.score(&x, &t, &Cond::NONE);
            assert!(max_difference(&score, &gradient) < 1e-11 * scale, "score of {} at {t:?}", sde.name());
            // E[x_0 | x_t] = (x_t + σ² score)/α, written without the division.
            let (alpha, sigma) = (sde.alpha(t.of(0)), sde.sigma(t.of(0)));
            let denoised = model.denoise(&x, &t, &Cond::NONE);
            let left = &denoised * alpha;
            let right = &x + &(&gradient * (sigma * sigma));
            assert!(max_difference(&left, &right) < 1e-11 * (1.0 + x.abs().max_all().item()), "Tweedie on {}", sde.name());
        }
    }
}

#[test]
fn a_one_dimensional_mixture_agrees_with_bayes_rule_by_quadrature() {
    let weights = [0.3, 0.7];
    let (means, variances) = ([-0.8, 0.6], [0.04, 0.25]);
    let normal = |x: f64, variance: f64| (-0.5 * x * x / variance).exp() / (std::f64::consts::TAU * variance).sqrt();
    for sde in SdeConfig::all() {
        let model = GaussianMixture::new(
            sde.clone(),
            &weights,
            &[vec![means[0]], vec![means[1]]],
            &[Covariance::Isotropic(variances[0]), Covariance::Isotropic(variances[1])],
        );
        let t = sde.time_at_log_snr(0.5);
        let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
        for x_t in [-1.3, 0.1, 0.9] {
            // The trapezoidal rule converges geometrically for integrands like these.
            let (mut mass, mut first) = (0.0, 0.0);
            let h = 1e-3;
            for i in -6000..=6000 {
                let x_0 = f64::from(i) * h;
                let prior: f64 = (0..2).map(|k| weights[k] * normal(x_0 - means[k], variances[k])).sum();
                let joint = prior * normal(x_t - alpha * x_0, sigma * sigma) * h;
                mass += joint;
                first += joint * x_0;
            }
            let x = Tensor::from_vec(&[1, 1], vec![x_t]);
            let time = Times::Same(t);
            close("log-density", &sde, model.log_density(&x, &time, &Cond::NONE).item(), mass.ln(), 1e-10);
            let denoised = model.denoise(&x, &time, &Cond::NONE).item();
            assert!((denoised - first / mass).abs() < 1e-10, "{}: {denoised} and {}", sde.name(), first / mass);
        }
    }
}

#[test]
fn a_full_covariance_gives_the_matrix_formula_for_the_conditional_mean() {
    let (mean, c) = ([0.5, -1.0], [2.0, 0.6, 0.6, 0.5]);
    let sde = VariancePreserving::default();
    let model = Gaussian::new(sde.clone(), &mean, &Covariance::Full(c.to_vec()));
    let t = 0.35;
    let (alpha, variance) = (sde.alpha(t), sde.sigma(t).powi(2));
    let x = [0.7, 0.9];
    // μ + αΣ (α²Σ + σ²I)⁻¹ (x − αμ) with the inverse written out.
    let m = [alpha * alpha * c[0] + variance, alpha * alpha * c[1], alpha * alpha * c[3] + variance];
    let determinant = m[0] * m[2] - m[1] * m[1];
    let d = [x[0] - alpha * mean[0], x[1] - alpha * mean[1]];
    let y = [(m[2] * d[0] - m[1] * d[1]) / determinant, (m[0] * d[1] - m[1] * d[0]) / determinant];
    let expected = [mean[0] + alpha * (c[0] * y[0] + c[1] * y[1]), mean[1] + alpha * (c[2] * y[0] + c[3] * y[1])];
    let found = model.denoise(&Tensor::from_vec(&[1, 2], x.to_vec()), &t.into(), &Cond::NONE).to_vec::<f64>();
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-13, "{found} and {expected}");
    }
    let log_density = model.log_density(&Tensor::from_vec(&[1, 2], x.to_vec()), &t.into()).item();
    let expected = -0.5 * (d[0] * y[0] + d[1] * y[1]) - 0.5 * determinant.ln() - std::f64::consts::TAU.ln();
    assert!((log_density - expected).abs() < 1e-13, "{log_density} and {expected}");
}

#[test]
fn the_flow_of_a_gaussian_solves_the_probability_flow_equation() {
    // dx/ds along the closed form, by difference, equals α̇ x̂₀ + σ̇ ε̂.
    for sde in SdeConfig::all() {
        let model = Gaussian::new(sde.clone(), &[0.5, -1.0], &Covariance::Full(vec![2.0, 0.6, 0.6, 0.5]));
        let (t, s) = (time(&sde, 0.95), time(&sde, 0.6));
        let x = Noise::new(1, 0).normal(&[4, 2], 0, 0, Dtype::F64);
        let h = 1e-4 * s;
        let (after, before) = (model.flow(&x, t, s + h), model.flow(&x, t, s - h));
        let difference = &(&after - &before) * (0.5 / h);
        let velocity = model.predict(Quantity::Velocity, &model.flow(&x, t, s), &s.into(), &Cond::NONE);
        let scale = velocity.abs().max_all().item();
        assert!(max_difference(&difference, &velocity) < 1e-6 * scale, "{}", sde.name());
        let round_trip = model.flow(&model.flow(&x, t, s), s, t);
        assert!(max_difference(&round_trip, &x) < 1e-12);
    }
}

#[test]
fn per_sample_times_equal_one_sample_at_a_time() {
    let model = mixture(VariancePreserving::default());
    let times = vec![0.05, 0.3, 0.8];
    let each = Times::Each(times.clone());
    let x = noisy(&model, &each, 3);
    let together = model.denoise(&x, &each, &Cond::NONE);
    let density = model.log_density(&x, &each, &Cond::NONE);
    for (i, &t) in times.iter().enumerate() {
        let own = x.slice(0, i..i + 1);
        let alone = model.denoise(&own, &t.into(), &Cond::NONE);
        assert!(max_difference(&alone, &together.slice(0, i..i + 1)) < 1e-13);
        let alone = model.log_density(&own, &t.into(), &Cond::NONE);
        assert!(max_difference(&alone, &density.slice(0, i..i + 1)) < 1e-12);
    }
    for from in Quantity::ALL {
        for to in Quantity::ALL {
            let all = convert(from, to, model.sde(), &each, &x, &together);
            for (i, &t) in times.iter().enumerate() {
                let rows = i..i + 1;
                let one = convert(from, to, model.sde(), &t.into(), &x.slice(0, rows.clone()), &together.slice(0, rows.clone()));
                assert!(max_difference(&one, &all.slice(0, rows)) < 1e-12 * (1.0 + one.abs().max_all().item()));
            }
        }
    }
}

#[test]
fn exact_denoisers_can_be_differentiated_and_keep_the_shape_and_type_of_the_state() {
    let model = mixture(VariancePreserving::default());
    let t = Times::Each(vec![0.2, 0.6]);
    let x = noisy(&model, &t, 2);
    check::op("denoise", |x| model.denoise(&x[0], &t, &Cond::NONE), std::slice::from_ref(&x));
    check::op("log_density", |x| model.log_density(&x[0], &t, &Cond::NONE), std::slice::from_ref(&x));
    let image = x.reshape(&[2, 3, 1, 1]).to(Dtype::F32);
    let denoised = model.denoise(&image, &t, &Cond::NONE);
    assert_eq!((denoised.shape(), denoised.dtype()), (image.shape(), Dtype::F32));
    let exact = model.denoise(&x, &t, &Cond::NONE).reshape(&[2, 3, 1, 1]);
    assert!(max_difference(&denoised.to(Dtype::F64), &exact) < 1e-6);
}

#[test]
fn a_condition_restricts_a_mixture_to_its_class_and_the_null_class_does_not() {
    let sde = VariancePreserving::default();
    let (left, right) = (Covariance::Isotropic(0.1), Covariance::Diagonal(vec![0.2, 0.4]));
    let means = [vec![-1.0, 0.0], vec![1.0, 0.0], vec![0.0, 1.0]];
    let covariances = [left.clone(), right.clone(), left.clone()];
    let model = GaussianMixture::new(sde.clone(), &[0.2, 0.5, 0.3], &means, &covariances).with_classes(vec![0, 1, 0]);
    let zero =
        GaussianMixture::new(sde.clone(), &[0.4, 0.6], &[means[0].clone(), means[2].clone()], &[left.clone(), left.clone()]);
    let one = Gaussian::new(sde, &means[1], &right);
    let t = Times::Same(0.3);
    let x = noisy(&model, &t, 3);
    let denoised = model.denoise(&x, &t, &Cond::classes(vec![0, 1, 2]));
    let row = |i: usize| x.slice(0, i..i + 1);
    assert!(max_difference(&denoised.slice(0, 0..1), &zero.denoise(&row(0), &t, &Cond::NONE)) < 1e-13);
    assert!(max_difference(&denoised.slice(0, 1..2), &one.denoise(&row(1), &t, &Cond::NONE)) < 1e-13);
    assert!(max_difference(&denoised.slice(0, 2..3), &model.denoise(&row(2), &t, &Cond::NONE)) < 1e-13);
    let log_density = model.log_density(&x, &t, &Cond::classes(vec![0, 1, 2])).to_vec::<f64>();
    assert!((log_density[1] - one.log_density(&row(1), &t).item()).abs() < 1e-12);
}

#[test]
fn samples_of_a_mixture_have_its_mean_and_covariance_and_depend_only_on_their_index() {
    let model = mixture(Edm::default());
    let (n, d) = (40_000, 3);
    let x = model.sample(n, Noise::new(11, 0), 0);
    let rows = x.as_slice::<f64>();
    let (mean, covariance) = (model.mean(), model.covariance());
    for i in 0..d {
        let found: f64 = (0..n).map(|r| rows[r * d + i]).sum::<f64>() / n as f64;
        // Five standard errors.
        assert!((found - mean[i]).abs() < 5.0 * (covariance[i * d + i] / n as f64).sqrt(), "mean {found}, {}", mean[i]);
        for j in 0..d {
            let product = |r: usize| (rows[r * d + i] - mean[i]) * (rows[r * d + j] - mean[j]);
            let found: f64 = (0..n).map(product).sum::<f64>() / n as f64;
            let spread = (0..n).map(|r| (product(r) - found).powi(2)).sum::<f64>() / n as f64;
            let expected = covariance[i * d + j];
            assert!((found - expected).abs() < 5.0 * (spread / n as f64).sqrt(), "covariance {found}, {expected}");
        }
    }
    let later = model.sample(10, Noise::new(11, 0), 25);
    assert_eq!(later.to_vec::<f64>(), x.slice(0, 25..35).to_vec::<f64>());
}
