//! Properties of every SDE, every quantity and every preconditioning.

mod schedules;

use fokker_sde::{
    Edm, LinearFlow, Preconditioning, Quantity, Sde, SdeConfig, SubVariancePreserving, VarianceExploding, VariancePreserving,
};
use proptest::prelude::*;

use schedules::{close, kinks, processes, time};

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

proptest! {
    #[test]
    fn derivatives_of_alpha_and_sigma_agree_with_differences(u in 0.001..0.999_f64) {
        for sde in processes() {
            let t = time(&sde, u);
            // Stay inside of [0, t_max], on the scale on which the functions change, and between kinks.
            let kink = kinks(&sde, 0.0, 1.0).iter().fold(f64::INFINITY, |d, kink| d.min((kink - t).abs()));
            let h = (1e-3 * t.min(sde.span().1 - t).max(1e-6 * t)).min(0.02 * kink);
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
                    "d_{name} of {sde:?} at t = {t}: {} by difference, {}", difference, d(&sde, t)
                );
            }
        }
    }

    #[test]
    fn log_snr_falls_strictly_with_time(u in 0.0..1.0_f64, v in 0.0..1.0_f64) {
        prop_assume!((u - v).abs() > 1e-9);
        for sde in processes() {
            let (early, late) = (time(&sde, u.min(v)), time(&sde, u.max(v)));
            prop_assert!(sde.log_snr(early) > sde.log_snr(late), "{} between {early} and {late}", sde.name());
        }
    }

    #[test]
    fn time_at_log_snr_inverts_log_snr(u in 0.0..0.999_f64) {
        for sde in processes() {
            let t = time(&sde, u);
            let log_snr = sde.log_snr(t);
            // What a rounding of the log-SNR is in time: much where it hardly changes, as next to the data where σ starts above 0.
            let rate = 2.0 * (sde.d_alpha(t) / sde.alpha(t) - sde.d_sigma(t) / sde.sigma(t)).abs();
            let rounding = 4.0 * f64::EPSILON * (1.0 + log_snr.abs()) / (rate * t);
            close("time_at_log_snr", &sde, sde.time_at_log_snr(log_snr), t, 1e-10 + rounding);
            let general = General(sde.clone());
            close("general time_at_log_snr", &general, general.time_at_log_snr(log_snr), t, 1e-9 + rounding);
        }
    }

    #[test]
    fn closed_forms_agree_with_the_general_formulas(u in 0.0..0.999_f64) {
        for sde in processes() {
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
        for sde in processes() {
            let (a, b) = (time(&sde, u.min(v)), time(&sde, u.max(v)));
            // d ln α = f dt and d σ² = (2 f σ² + g²) dt, by Runge and Kutta in w = ln t, from kink to kink.
            let mut ends = kinks(&sde, a, b);
            ends.push(b);
            let (mut log_alpha, mut variance, mut start) = (sde.alpha(a).ln(), sde.sigma(a).powi(2), a);
            let steps = 2000_usize.div_ceil(ends.len());
            for end in ends {
                let h = (end / start).ln() / steps as f64;
                let slope = |w: f64, variance: f64| {
                    // At a kink the derivatives are those of its left.
                    let t = w.exp().clamp(start * (1.0 + 1e-13), end);
                    (t * sde.drift(t), t * (2.0 * sde.drift(t) * variance + sde.diffusion_squared(t)))
                };
                let mut w = start.ln();
                for _ in 0..steps {
                    let k1 = slope(w, variance);
                    let k2 = slope(w + 0.5 * h, variance + 0.5 * h * k1.1);
                    let k3 = slope(w + 0.5 * h, variance + 0.5 * h * k2.1);
                    let k4 = slope(w + h, variance + h * k3.1);
                    log_alpha += h * (k1.0 + 2.0 * k2.0 + 2.0 * k3.0 + k4.0) / 6.0;
                    variance += h * (k1.1 + 2.0 * k2.1 + 2.0 * k3.1 + k4.1) / 6.0;
                    w += h;
                }
                start = end;
            }
            close("integrated alpha", &sde, log_alpha.exp(), sde.alpha(b), 1e-9);
            close("integrated sigma²", &sde, variance, sde.sigma(b).powi(2), 1e-9);
        }
    }

    #[test]
    fn preconditioning_recovers_the_clean_sample_from_the_ideal_output(
        u in 0.0..1.0_f64, x_0 in -3.0..3.0_f64, noise in -3.0..3.0_f64,
    ) {
        for sde in processes() {
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
        for sde in processes() {
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
    let t = 1e-14_f64;
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
        (r#"{"kind": "scaled", "sigma_max": 0.001}"#, "sigma_max"),
        (r#"{"kind": "scaled", "schedule": {"kind": "vp", "beta_min": 30}}"#, "schedule.beta_min"),
        (r#"{"kind": "trigonometric", "t_max": 1.1}"#, "t_max"),
        (r#"{"kind": "polynomial", "exponent": 0.5}"#, "exponent"),
        (r#"{"kind": "polynomial", "s": 0.5}"#, "s"),
        (r#"{"kind": "polynomial-flow", "exponent": 0}"#, "exponent"),
        (r#"{"kind": "polynomial-flow", "t_max": 1}"#, "t_max"),
        (r#"{"kind": "geometric", "variance_max": 1}"#, "variance_max"),
        (r#"{"kind": "geometric", "t_min": 0}"#, "t_min"),
        (r#"{"kind": "sigmoid", "tau": 0}"#, "tau"),
        (r#"{"kind": "sigmoid", "start": 4}"#, "start"),
        (r#"{"kind": "sigmoid", "end": 1000}"#, "end"),
        (r#"{"kind": "sigmoid", "t_max": 1}"#, "t_max"),
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
    let edm = Preconditioning::edm(sigma_data);
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
    let (edm, v) = (Preconditioning::edm(1.0), Preconditioning::from(Quantity::V));
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
    let c = Preconditioning::from(Quantity::Velocity).coefficients(&flow, t);
    close("c_skip", &flow, c.skip, 1.0, 1e-14);
    close("c_out", &flow, c.out, -t, 1e-14);
    let vp = VariancePreserving::default();
    close("c_in", &vp, Preconditioning::from(Quantity::Epsilon).coefficients(&vp, t).in_, 1.0, 1e-14);
}

#[test]
fn predictions_that_cannot_know_the_sample_at_pure_noise_are_refused() {
    let flow = LinearFlow::default();
    for kind in [Preconditioning::from(Quantity::Epsilon), Preconditioning::from(Quantity::Score)] {
        let message = kind.check(&flow).unwrap_err().to_string();
        assert!(message.contains(kind.name()) && message.contains("flow") && message.contains("velocity"), "{message}");
        kind.check(&LinearFlow { t_max: 0.999, ..flow.clone() }).unwrap();
    }
    for kind in [
        Preconditioning::default(),
        Preconditioning::from(Quantity::Sample),
        Preconditioning::from(Quantity::V),
        Preconditioning::from(Quantity::Velocity),
    ] {
        kind.check(&flow).unwrap();
    }
    let error = Preconditioning::edm(0.0).check(&flow).unwrap_err();
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

#[test]
fn every_preconditioning_reads_its_own_configuration_and_refuses_unknown_fields() {
    for kind in Preconditioning::all() {
        let text = serde_json::to_string(&kind).unwrap();
        assert_eq!(serde_json::from_str::<Preconditioning>(&text).unwrap(), kind);
        let bare = format!("{{\"kind\": \"{}\"}}", kind.name());
        assert_eq!(serde_json::from_str::<Preconditioning>(&bare).unwrap(), kind);
        let unknown = serde_json::from_str::<Preconditioning>(&format!("{{\"kind\": \"{}\", \"bogus\": 1}}", kind.name()));
        assert!(unknown.unwrap_err().to_string().contains("bogus"), "an unknown field of {} is named", kind.name());
    }
}
