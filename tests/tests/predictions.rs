//! Every prediction as every other, the preconditionings of Karras et al., and denoisers under other processes than their own.

mod schedules;

use fokker_sde::{
    Betas, Combination, Cond, Conditioning, Conversion, Covariance, Denoiser, Edm, GaussianMixture, IddpmLevels, LinearFlow,
    Preconditioning, Prediction, Quantity, Sde, SdeConfig, Times, Trigonometric, Under, VarianceExploding, VariancePreserving,
    conversion, convert, diffuse,
};
use fokker_tensor::{Dtype, Noise, Tensor};
use proptest::prelude::*;

use schedules::{close, ladder, processes, time};

/// Every quantity, and what every preconditioned network puts out.
fn predictions() -> Vec<(String, Box<dyn Prediction>)> {
    let mut all: Vec<(String, Box<dyn Prediction>)> = Vec::new();
    for quantity in Quantity::ALL {
        all.push((format!("{quantity:?}"), Box::new(quantity)));
    }
    for kind in [Preconditioning::all(), vec![Preconditioning::edm(1.7)]].concat() {
        all.push((format!("{kind:?}"), Box::new(kind)));
    }
    all
}

/// `second` after `first`, and the sizes of the terms its state's factor is a sum of.
fn compose(first: Conversion, second: Conversion) -> (Conversion, f64) {
    let through = second.value * first.state;
    (Conversion { state: second.state + through, value: second.value * first.value }, second.state.abs() + through.abs())
}

proptest! {
    // Each case goes over every process and every three predictions.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_conversion_undone_is_the_identity_and_every_detour_is_the_direct_way(u in 0.0..0.999_f64) {
        for sde in processes() {
            let t = time(&sde, u);
            let all = predictions();
            let all: Vec<(&str, &dyn Prediction)> = all.iter().map(|(name, p)| (name.as_str(), &**p)).collect();
            for &(a, from) in &all {
                for &(b, through) in &all {
                    let there = conversion(from, through, &sde, t);
                    for &(c, to) in &all {
                        let (found, scale) = compose(there, conversion(through, to, &sde, t));
                        let direct = conversion(from, to, &sde, t);
                        let expected = if a == c { Conversion { state: 0.0, value: 1.0 } } else { direct };
                        // Rounding is relative to what cancels, and to the factors of the way there.
                        prop_assert!(
                            (found.state - expected.state).abs() <= 1e-12 * scale,
                            "state from {a} by {b} to {c} on {sde:?} at {t}: {found:?}, expected {expected:?}"
                        );
                        let lost = conditioning(from, through, &sde, t) + conditioning(through, to, &sde, t);
                        prop_assert!(
                            (found.value - expected.value).abs() <= 1e-14 * lost * found.value.abs(),
                            "value from {a} by {b} to {c} on {sde:?} at {t}: {found:?}, expected {expected:?}"
                        );
                    }
                }
            }
        }
    }
}

/// How many times larger the terms are than what is left of them in the factors of a conversion: near one end of a span, two
/// predictions may be nearly multiples of each other, or of the state.
fn conditioning(from: &dyn Prediction, to: &dyn Prediction, sde: &dyn Sde, t: f64) -> f64 {
    let state = Combination { sample: sde.alpha(t), noise: sde.sigma(t) };
    let loss = |a: Combination, b: Combination| {
        let (left, right) = (a.sample * b.noise, a.noise * b.sample);
        let rest = (left - right).abs();
        if rest == 0.0 { 1.0 } else { (left.abs() + right.abs()) / rest }
    };
    let (from, to) = (from.combination(sde, t), to.combination(sde, t));
    10.0 + loss(state, from) + loss(state, to)
}

#[test]
fn networks_outputs_convert_alike_for_one_time_and_for_many() {
    let (x_0, noise) = (Noise::new(1, 0).normal(&[4, 3], 0, 0, Dtype::F64), Noise::new(1, 1).normal(&[4, 3], 0, 0, Dtype::F64));
    for sde in SdeConfig::all() {
        let each = Times::Each([0.1, 0.4, 0.7, 0.95].map(|u| time(&sde, u)).to_vec());
        let x_t = diffuse(&sde, &each, &x_0, &noise);
        let value = |p: &dyn Prediction| {
            &each.scale(&x_0, |t| p.combination(&sde, t).sample) + &each.scale(&noise, |t| p.combination(&sde, t).noise)
        };
        for (a, from) in predictions() {
            for (b, to) in predictions() {
                let (given, expected) = (value(&*from), value(&*to));
                let many = convert(&*from, &*to, &sde, &each, &x_t, &given);
                for i in 0..4 {
                    let (row, t) = (|x: &Tensor| x.slice(0, i..i + 1), each.of(i));
                    let one = convert(&*from, &*to, &sde, &t.into(), &row(&x_t), &row(&given));
                    let c = conversion(&*from, &*to, &sde, t);
                    let scale = 10.0 * (c.state.abs() * 5.0 + c.value.abs() * given.abs().max_all().item());
                    let off = |other: &Tensor| (&one - &row(other)).abs().max_all().item();
                    assert!(off(&many) <= 1e-15 * scale, "{a} to {b} on {sde:?}");
                    assert!(off(&expected) <= 1e-13 * scale, "{a} to {b} on {sde:?} at {t}: off by {:e}", off(&expected));
                }
            }
        }
    }
}

/// Table 1 speaks of data plus noise of level `sigma`; what it says of the state of `sde` at the time with that level.
fn column(preconditioning: &Preconditioning, sde: &dyn Sde, sigma: f64) -> [f64; 4] {
    let t = sde.time_at_log_snr(-2.0 * sigma.ln());
    let (c, alpha) = (preconditioning.coefficients(sde, t), sde.alpha(t));
    [c.skip * alpha, c.out, c.in_ * alpha, c.noise]
}

#[test]
fn preconditionings_are_the_columns_of_karras_et_al_table_1() {
    let (vp, ve, edm) = (VariancePreserving::default(), VarianceExploding::default(), Edm::default());
    let time = Conditioning::Time { scale: 999.0, offset: 0.0 };
    let ddpm = Preconditioning::from(Quantity::Epsilon).with_conditioning(time);
    let ncsn = Preconditioning::all().into_iter().find(|kind| kind.name() == "ve").unwrap();
    let adm = Preconditioning::from(Quantity::Epsilon).with_conditioning(Conditioning::Step {});
    let cosine = ladder(1000, Betas::Cosine { s: 0.008, beta_max: 0.999 }, false);
    let levels = IddpmLevels::default().levels();
    for sigma in [0.02_f64, 0.3, 1.0, 7.0, 45.0] {
        let in_ = 1.0 / (sigma * sigma + 1.0).sqrt();
        // σ⁻¹ of their VP schedule.
        let t = ((0.1_f64.powi(2) + 2.0 * 19.9 * (sigma * sigma + 1.0).ln()).sqrt() - 0.1) / 19.9;
        let argmin = (0..1000).min_by(|&i, &j| (levels[i] - sigma).abs().total_cmp(&(levels[j] - sigma).abs())).unwrap();
        let q = (sigma * sigma + 0.25).sqrt();
        let columns: [(&Preconditioning, &dyn Sde, [f64; 4]); 4] = [
            (&ddpm, &vp, [1.0, -sigma, in_, 999.0 * t]),
            (&ncsn, &ve, [1.0, sigma, 1.0, (0.5 * sigma).ln()]),
            (&adm, &cosine, [1.0, -sigma, in_, (999 - argmin) as f64]),
            (&Preconditioning::default(), &edm, [0.25 / (q * q), sigma * 0.5 / q, 1.0 / q, 0.25 * sigma.ln()]),
        ];
        for (kind, sde, expected) in columns {
            kind.check(sde).unwrap();
            for ((what, found), expected) in
                ["c_skip", "c_out", "c_in", "c_noise"].iter().zip(column(kind, sde, sigma)).zip(expected)
            {
                // Relative, but for a logarithm of 1.
                assert!(
                    (found - expected).abs() <= 1e-11 * expected.abs().max(1.0),
                    "{what} of {kind:?}: {found}, expected {expected}"
                );
            }
        }
    }
}

#[test]
fn networks_of_ladders_are_told_the_number_of_the_step() {
    let sde = ladder(1000, Betas::default(), false);
    let counted = Conditioning::Time { scale: 1000.0, offset: -1.0 };
    for i in [0, 1, 500, 999] {
        let t = sde.time_of_step(i);
        assert_eq!(Conditioning::Step {}.noise(&sde, t), i as f64);
        assert!((counted.noise(&sde, t) - i as f64).abs() < 1e-12);
    }
    // Between the steps one goes on and the other jumps.
    assert!((counted.noise(&sde, 0.3004) - 299.4).abs() < 1e-10);
    assert_eq!(Conditioning::Step {}.noise(&sde, 0.3004), 299.0);
}

#[test]
fn conditionings_are_read_from_configurations_and_refused_where_they_make_no_sense() {
    let text = r#"{"kind": "epsilon", "conditioning": {"kind": "time", "scale": 1000, "offset": -1}}"#;
    let read: Preconditioning = serde_json::from_str(text).unwrap();
    assert_eq!(read.conditioning(), Conditioning::Time { scale: 1000.0, offset: -1.0 });
    assert_eq!(serde_json::from_str::<Preconditioning>(&serde_json::to_string(&read).unwrap()).unwrap(), read);
    for conditioning in Conditioning::all() {
        let bare = format!("{{\"kind\": \"{}\"}}", conditioning.name());
        assert_eq!(serde_json::from_str::<Conditioning>(&bare).unwrap(), conditioning);
        let unknown = serde_json::from_str::<Conditioning>(&format!("{{\"kind\": \"{}\", \"bogus\": 1}}", conditioning.name()));
        assert!(unknown.unwrap_err().to_string().contains("bogus"));
        for kind in Preconditioning::all() {
            assert_eq!(kind.clone().with_conditioning(conditioning).conditioning(), conditioning);
        }
    }
    let (vp, kind) = (VariancePreserving::default(), Preconditioning::default());
    let message = kind.clone().with_conditioning(Conditioning::Step {}).check(&vp).unwrap_err().to_string();
    assert!(message.contains("conditioning.kind") && message.contains("`discrete`") && message.contains("`vp`"), "{message}");
    for (scale, offset) in [(0.0, 0.0), (f64::NAN, 0.0), (1.0, f64::INFINITY)] {
        let error = kind.clone().with_conditioning(Conditioning::Time { scale, offset }).check(&vp).unwrap_err();
        assert!(error.field().contains("conditioning.scale"), "{error}");
    }
    // NCSN's network sees x/α: nothing can be seen where α = 0.
    let ve = Preconditioning::all().into_iter().find(|kind| kind.name() == "ve").unwrap();
    assert!(ve.check(&LinearFlow::default()).unwrap_err().to_string().contains("alpha = 0"));
}

/// One law of data under any process.
fn mixture(sde: impl Sde + 'static) -> GaussianMixture {
    let covariances = [Covariance::Full(vec![0.5, 0.2, 0.2, 0.3]), Covariance::Diagonal(vec![0.1, 0.4])];
    GaussianMixture::new(sde, &[0.3, 0.7], &[vec![-1.0, 0.4], vec![0.8, -0.3]], &covariances)
}

#[test]
fn a_denoiser_of_one_process_is_one_of_every_other_where_their_noise_levels_meet() {
    let normal = Noise::new(5, 0).normal(&[6, 2], 0, 0, Dtype::F64);
    for a in SdeConfig::all() {
        for b in processes() {
            let (inner, exact) = (mixture(a.clone()), mixture(b.clone()));
            let under = Under::new(&inner, b.clone());
            assert_eq!(under.sde().name(), b.name());
            for log_snr in [-4.5, -1.0, 2.0, 7.0] {
                let t = b.time_at_log_snr(log_snr);
                let (low, high) = b.span();
                if t < low || t > high {
                    continue;
                }
                close("log-SNR", &a, a.log_snr(under.inner_time(t)), log_snr, 1e-10);
                let x = diffuse(&b, &t.into(), &inner.sample(6, Noise::new(5, 1), 0), &normal);
                for t in [Times::Same(t), Times::Each(vec![t; 6])] {
                    let found = under.denoise(&x, &t, &Cond::NONE);
                    let expected = exact.denoise(&x, &t, &Cond::NONE);
                    let off = (&found - &expected).abs().max_all().item();
                    assert!(off < 1e-10, "{a:?} under {b:?} at log-SNR {log_snr}: off by {off:e}");
                    for quantity in [Quantity::Score, Quantity::Velocity] {
                        let expected = exact.predict(quantity, &x, &t, &Cond::NONE);
                        let off = (&under.predict(quantity, &x, &t, &Cond::NONE) - &expected).abs().max_all().item();
                        assert!(
                            off < 1e-9 * expected.abs().max_all().item(),
                            "{quantity:?} of {a:?} under {b:?}: off by {off:e}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_denoiser_under_another_process_answers_at_both_ends_of_it() {
    let normal = Noise::new(5, 0).normal(&[6, 2], 0, 0, Dtype::F64);
    for a in SdeConfig::all() {
        for b in
            [SdeConfig::from(LinearFlow::default()), Trigonometric::default().into(), ladder(1000, Betas::default(), true).into()]
        {
            let (inner, exact) = (mixture(a.clone()), mixture(b.clone()));
            let under = Under::new(&inner, b.clone());
            let (t_min, t_max) = b.span();
            // Pure noise: asked at the end of A's span, where the answer is the data's mean up to A's signal-to-noise ratio.
            assert_eq!((b.alpha(t_max), under.inner_time(t_max)), (0.0, a.span().1));
            let snr = (0.5 * a.log_snr(a.span().1)).exp();
            let off = |t: f64| {
                let x = diffuse(&b, &t.into(), &inner.sample(6, Noise::new(5, 1), 0), &normal);
                let (found, expected) = (under.denoise(&x, &t.into(), &Cond::NONE), exact.denoise(&x, &t.into(), &Cond::NONE));
                assert!(found.all_finite());
                (&found - &expected).abs().max_all().item()
            };
            assert!(off(t_max) <= 4.0 * snr + 1e-12, "{a:?} under {b:?}: {} for a ratio of {snr}", off(t_max));
            // Near the data: asked at the beginning of A's span, off by no more than a few of its noise levels.
            let level = (-0.5 * a.log_snr(a.span().0)).exp().max((-0.5 * b.log_snr(t_min)).exp());
            assert!(off(t_min) <= 4.0 * level, "{a:?} under {b:?}: {} for a noise level of {level}", off(t_min));
            let closest = under.inner_time(1e-3 * t_min);
            assert!(closest >= a.span().0 && closest <= a.span().1);
        }
    }
}
