//! Processes against the closed forms of their papers, and at the ends of their spans.

mod schedules;

use std::f64::consts::{FRAC_PI_2, PI};

use fokker_sde::{
    Betas, Combination, Discrete, Edm, Geometric, IddpmLevels, Ladder, LinearFlow, Polynomial, PolynomialFlow, Quantity, Scaled,
    Scaling, Schedule, Sde, SdeConfig, Sigmoid, Trigonometric, VarianceExploding, VariancePreserving,
};

use schedules::{FUNCTIONS, close, ladder, processes, scaled};

#[test]
fn the_scaled_process_has_the_schedules_and_scalings_of_karras_et_al_table_1() {
    for sde in scaled() {
        for t in [1e-3_f64, 0.2, 0.7, 3.0] {
            let level = match sde.schedule {
                Schedule::Linear {} => t,
                Schedule::Ve {} => t.sqrt(),
                Schedule::Vp { .. } => ((0.5 * 19.9 * t * t + 0.1 * t).exp() - 1.0).sqrt(),
            };
            let scale = if sde.scaling == Scaling::None { 1.0 } else { 1.0 / (1.0 + level * level).sqrt() };
            close("s(t)", &sde, sde.alpha(t), scale, 1e-11);
            close("s(t) σ(t)", &sde, sde.sigma(t), scale * level, 1e-11);
            close("t(σ)", &sde, sde.time_at_log_snr(-2.0 * level.ln()), t, 1e-11);
        }
        close("start", &sde, (-0.5 * sde.log_snr(sde.span().0)).exp(), 0.002, 1e-12);
        close("end", &sde, (-0.5 * sde.log_snr(sde.span().1)).exp(), 80.0, 1e-12);
    }
}

#[test]
fn columns_of_karras_et_al_table_1_that_have_processes_of_their_own_are_those() {
    let vp = VariancePreserving::default();
    let schedule = Schedule::Vp { beta_min: 0.1, beta_max: 20.0 };
    let general = Scaled { schedule, scaling: Scaling::Vp, ..Scaled::default() };
    let (edm, ve) = (Edm::default(), VarianceExploding::default());
    let linear = Scaled { scaling: Scaling::None, ..Scaled::default() };
    let root = Scaled { schedule: Schedule::Ve {}, ..linear.clone() };
    for t in [1e-4, 0.1, 0.6, 1.0] {
        for (what, f) in FUNCTIONS {
            close(what, &general, f(&general, t), f(&vp, t), 1e-11);
            close(what, &linear, f(&linear, t), f(&edm, t), 1e-14);
        }
        // Geometric in time or not, the same noise levels.
        close("VE", &root, root.sigma(ve.sigma(t).powi(2)), ve.sigma(t), 1e-14);
        close("g² of VE", &root, root.diffusion_squared(t), 1.0, 1e-14);
    }
}

#[test]
fn trigonometric_velocity_is_v_prediction_in_another_unit_of_time() {
    let sde = Trigonometric::default();
    for t in [1e-3, 0.2, 0.7, 0.99, 1.0] {
        close("alpha", &sde, sde.alpha(t), if t == 1.0 { 0.0 } else { (FRAC_PI_2 * t).cos() }, 1e-13);
        close("sigma", &sde, sde.sigma(t), (FRAC_PI_2 * t).sin(), 1e-15);
        let (v, velocity) = (Quantity::V.combination(&sde, t), Quantity::Velocity.combination(&sde, t));
        close("x_0 in v", &sde, velocity.sample, FRAC_PI_2 * v.sample, 1e-13);
        close("ε in v", &sde, velocity.noise, FRAC_PI_2 * v.noise, 1e-13);
    }
    close("g²", &sde, sde.diffusion_squared(0.5), PI, 1e-13);
    assert_eq!((sde.alpha(1.0), sde.log_snr(1.0)), (0.0, f64::NEG_INFINITY));
    assert_eq!(sde.time_at_log_snr(f64::NEG_INFINITY), 1.0);
}

#[test]
fn polynomial_has_the_closed_form_of_hoogeboom_et_al() {
    let sde = Polynomial::default();
    for t in [1e-3_f64, 0.2, 0.7, 1.0] {
        let alpha = (1.0 - 2e-5) * (1.0 - t * t) + 1e-5;
        close("alpha", &sde, sde.alpha(t), alpha, 1e-11);
        close("sigma²", &sde, sde.sigma(t).powi(2), 1.0 - alpha * alpha, 1e-11);
    }
    // Without the precision s it is α = 1 − t^p and ends in pure noise.
    let bare = Polynomial { exponent: 3.0, s: 0.0, ..sde };
    close("alpha", &bare, bare.alpha(0.5), 0.875, 1e-15);
    assert_eq!((bare.alpha(1.0), bare.sigma(1.0)), (0.0, 1.0));
}

#[test]
fn polynomial_flow_has_the_closed_form_of_lipman_et_al_and_is_the_linear_flow_for_exponent_1() {
    let sde = PolynomialFlow { exponent: 3.0, ..PolynomialFlow::default() };
    let (one, flow) = (PolynomialFlow { exponent: 1.0, ..PolynomialFlow::default() }, LinearFlow::default());
    for t in [1e-3_f64, 0.2, 0.7, 0.99] {
        // Their time runs the other way.
        let theirs: f64 = 1.0 - t;
        close("alpha", &sde, sde.alpha(t), theirs.powi(3), 1e-13);
        close("sigma", &sde, sde.sigma(t), 1.0 - theirs.powi(3), 1e-12);
        for (what, f) in FUNCTIONS {
            close(what, &one, f(&one, t), f(&flow, t), 1e-12);
        }
    }
}

#[test]
fn geometric_has_the_beta_of_vahdat_et_al() {
    let sde = Geometric::default();
    for t in [1e-3, 0.2, 0.7, 1.0] {
        let variance = 1e-4 * 9900.0_f64.powf(t);
        close("sigma²", &sde, sde.sigma(t).powi(2), variance, 1e-12);
        close("alpha²", &sde, sde.alpha(t).powi(2), 1.0 - variance, 1e-12);
        close("β", &sde, sde.diffusion_squared(t), 9900.0_f64.ln() * variance / (1.0 - variance), 1e-11);
        close("−2f", &sde, -2.0 * sde.drift(t), 9900.0_f64.ln() * variance / (1.0 - variance), 1e-11);
    }
}

#[test]
fn sigmoid_has_algorithm_1_of_chen() {
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    for (start, end, tau) in [(-3.0, 3.0, 1.0), (0.0, 3.0, 0.3), (-3.0, 3.0, 1.1)] {
        let sde = Sigmoid { start, end, tau, ..Sigmoid::default() };
        let (v_start, v_end) = (logistic(start / tau), logistic(end / tau));
        for t in [1e-3, 0.2, 0.7, 0.99] {
            let gamma = (v_end - logistic((t * (end - start) + start) / tau)) / (v_end - v_start);
            close("alpha²", &sde, sde.alpha(t).powi(2), gamma, 1e-10);
            close("sigma²", &sde, sde.sigma(t).powi(2), 1.0 - gamma, 1e-10);
        }
    }
    // Its symmetry: as much signal as noise in the middle.
    assert!((Sigmoid::default().time_at_log_snr(0.0) - 0.5).abs() < 1e-15);
}

#[test]
fn ladders_have_the_betas_of_their_papers() {
    let t = |i: usize| i as f64 / 999.0;
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    type Beta<'a> = &'a dyn Fn(usize) -> f64;
    let cosine = |v: f64| ((v + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2);
    let laplace = |v: f64| {
        let sign = if v < 0.5 { 1.0 } else { -1.0 };
        let log_snr = -0.5 * sign * (1.0 - 2.0 * (v - 0.5).abs()).ln();
        logistic(log_snr)
    };
    let papers: [(&str, Beta<'_>); 5] = [
        ("linear", &|i| 1e-4 + t(i) * (0.02 - 1e-4)),
        ("scaled-linear", &|i| (0.00085_f64.sqrt() + t(i) * (0.012_f64.sqrt() - 0.00085_f64.sqrt())).powi(2)),
        ("sigmoid", &|i| logistic(-6.0 + 12.0 * t(i)) * (0.02 - 1e-4) + 1e-4),
        ("cosine", &|i| (1.0 - cosine((i + 1) as f64 / 1000.0) / cosine(i as f64 / 1000.0)).min(0.999)),
        ("laplace", &|i| {
            (1.0 - laplace((i + 1) as f64 / 1000.0) / if i == 0 { 1.0 } else { laplace(i as f64 / 1000.0) }).min(0.999)
        }),
    ];
    for (betas, (kind, paper)) in Betas::all().into_iter().zip(papers) {
        let text = format!("{{\"kind\": \"discrete\", \"betas\": {{\"kind\": \"{kind}\"}}}}");
        let SdeConfig::Discrete(sde) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        assert_eq!(sde, ladder(1000, betas, false));
        let mut alpha_bar = 1.0;
        for i in 0..1000 {
            alpha_bar *= 1.0 - paper(i);
            let at = sde.time_of_step(i);
            close("β", &sde, sde.beta(i), paper(i), 1e-9);
            close("ᾱ", &sde, sde.alpha_bar(i), alpha_bar, 1e-9);
            close("α²", &sde, sde.alpha(at).powi(2), alpha_bar, 1e-9);
            close("σ²", &sde, sde.sigma(at).powi(2), 1.0 - alpha_bar, 1e-9);
        }
    }
    // The last ᾱ of DDPM's ladder and of Stable Diffusion's, as the field knows them.
    close("ᾱ", &Discrete::default(), Discrete::default().alpha_bar(999), 4.0358e-5, 1e-4);
    let stable = ladder(1000, Betas::all().remove(1), false);
    close("ᾱ", &stable, stable.alpha_bar(999), 0.0046601, 1e-4);
}

#[test]
fn log_alpha_is_linear_between_the_steps_of_a_ladder() {
    let sde = Discrete::default();
    for i in [1, 17, 500, 999] {
        let (before, after) = (sde.time_of_step(i - 1), sde.time_of_step(i));
        for u in [0.0, 0.25, 0.8, 1.0] {
            let t = before + u * (after - before);
            let expected = (1.0 - u) * sde.alpha_bar(i - 1).ln() + u * sde.alpha_bar(i).ln();
            close("log α²", &sde, 2.0 * sde.alpha(t).ln(), expected, 1e-11);
            close("f", &sde, sde.drift(0.5 * (before + after)), 500.0 * (1.0 - sde.beta(i)).ln(), 1e-11);
        }
    }
    // From the data to the first step too.
    close("log α²", &sde, 2.0 * sde.alpha(2.5e-4).ln(), 0.25 * (-1e-4_f64).ln_1p(), 1e-11);
}

#[test]
fn zero_terminal_snr_is_algorithm_1_of_lin_et_al() {
    for betas in Betas::all() {
        let (plain, sde) = (ladder(1000, betas.clone(), false), ladder(1000, betas, true));
        let (first, last) = (plain.alpha_bar(0).sqrt(), plain.alpha_bar(999).sqrt());
        for i in 0..999 {
            let expected = (plain.alpha_bar(i).sqrt() - last) * first / (first - last);
            close("√ᾱ", &sde, sde.alpha(sde.time_of_step(i)), expected, 1e-9);
        }
        assert_eq!((sde.alpha(1.0), sde.sigma(1.0), sde.log_snr(1.0)), (0.0, 1.0, f64::NEG_INFINITY));
        close("√ᾱ", &sde, sde.alpha_bar(0).sqrt(), first, 1e-15);
        // α is linear on the last segment, with a finite velocity.
        let middle = 0.9995;
        close("α", &sde, sde.alpha(middle), 0.5 * sde.alpha(0.999), 1e-11);
        close("α̇", &sde, sde.d_alpha(1.0), -1000.0 * sde.alpha(0.999), 1e-12);
        close("t", &sde, sde.time_at_log_snr(sde.log_snr(middle)), middle, 1e-13);
        assert_eq!(sde.time_at_log_snr(f64::NEG_INFINITY), 1.0);
        assert_eq!(sde.noise_level(999), f64::INFINITY);
        assert_eq!(sde.nearest_step_in_noise(f64::INFINITY), 999);
    }
}

#[test]
fn steps_of_a_ladder_and_their_times_are_found_from_each_other() {
    for sde in [Discrete::default(), ladder(7, Betas::default(), false), ladder(1000, Betas::all().remove(3), false)] {
        let times = sde.times();
        assert_eq!((times.len(), times[sde.steps() - 1]), (sde.steps(), 1.0));
        assert_eq!(SdeConfig::from(sde.clone()).ladder(), Some(&sde), "the configuration passes it on");
        for (i, &t) in times.iter().enumerate() {
            let half = 0.5 / sde.steps() as f64;
            assert_eq!([sde.nearest_step(t), sde.nearest_step(t - 0.99 * half), sde.nearest_step(t + 0.99 * half)], [i; 3]);
            assert!((sde.step_at(t) - i as f64).abs() < 1e-12);
            let level = (-0.5 * sde.log_snr(t)).exp();
            close("noise level", &sde, sde.noise_level(i), level, 1e-10);
            assert_eq!(sde.nearest_step_in_noise(sde.noise_level(i)), i);
            if i > 0 {
                let below = sde.noise_level(i - 1);
                assert_eq!(sde.nearest_step_in_noise(below + 0.49 * (level - below)), i - 1);
                assert_eq!(sde.nearest_step_in_noise(below + 0.51 * (level - below)), i);
            }
            // The ladder's own numbers, to the last digits, from both directions.
            close("ᾱ", &sde, sde.alpha(t).powi(2), sde.alpha_bar(i), 1e-14);
            close("t", &sde, sde.time_at_log_snr(sde.log_snr(t)), t, 1e-13);
        }
        assert_eq!([sde.nearest_step(-1.0), sde.nearest_step(9.0)], [0, sde.steps() - 1]);
        assert_eq!([sde.nearest_step_in_noise(0.0), sde.nearest_step_in_noise(1e30)], [0, sde.steps() - 1]);
    }
    assert_eq!(VariancePreserving::default().ladder(), None);
}

#[test]
fn iddpms_noise_levels_are_those_of_the_cosine_ladder() {
    let levels = IddpmLevels::default();
    let u = levels.levels();
    let sde = ladder(1000, Betas::Cosine { s: 0.008, beta_max: 0.999 }, false);
    assert_eq!((u.len(), u[1000]), (1001, 0.0));
    for (j, &level) in u[..1000].iter().enumerate() {
        close("u_j", &sde, sde.noise_level(999 - j), level, 1e-9);
        assert_eq!(999 - sde.nearest_step_in_noise(level), j, "the paper's argmin");
    }
    for n in [1, 2, 18, 79, 250] {
        let grid = levels.grid(n);
        assert_eq!((grid.len(), grid[0]), (n, u[8]));
        assert!(n == 1 || grid[n - 1] == u[999]);
        assert!(grid.windows(2).all(|pair| pair[0] > pair[1]));
    }
    // j₀ = 8 makes the first level the 80 of the paper's other columns.
    assert!((75.0..85.0).contains(&u[8]), "{}", u[8]);
}

#[test]
fn ladders_that_make_no_sense_are_refused_with_the_name_of_the_field() {
    for (text, field) in [
        (r#"{"kind": "discrete", "steps": 1}"#, "steps"),
        (r#"{"kind": "discrete", "betas": {"kind": "linear", "first": 0}}"#, "betas.first"),
        (r#"{"kind": "discrete", "betas": {"kind": "scaled-linear", "last": 1.5}}"#, "betas.last"),
        (r#"{"kind": "discrete", "betas": {"kind": "sigmoid", "first": 0.1}}"#, "betas.first"),
        (r#"{"kind": "discrete", "betas": {"kind": "cosine", "s": -1}}"#, "betas.s"),
        (r#"{"kind": "discrete", "betas": {"kind": "cosine", "beta_max": 1}}"#, "betas.beta_max"),
        (r#"{"kind": "discrete", "betas": {"kind": "laplace", "b": 0}}"#, "betas.b"),
        (r#"{"kind": "discrete", "betas": {"kind": "array", "values": [0.1, 0.2]}}"#, "betas.values"),
        (r#"{"kind": "discrete", "steps": 2, "betas": {"kind": "array", "values": [0.1, 1.2]}}"#, "step 1"),
        (r#"{"kind": "discrete", "betas": {"kind": "linear", "bogus": 0}}"#, "bogus"),
    ] {
        let message = serde_json::from_str::<SdeConfig>(text).unwrap_err().to_string();
        assert!(message.contains(field), "{text}: {message}");
    }
    let error = Discrete::new(Ladder { steps: 0, ..Ladder::default() }).unwrap_err();
    assert_eq!(error.field(), "steps");
}

#[test]
fn both_ends_of_every_span_keep_their_digits_in_single_and_double_precision() {
    for sde in processes() {
        let (t_min, t_max) = sde.span();
        // Below the span too, and as near to the far end as a time of single precision gets.
        let near_end = t_max * (1.0 - f64::from(f32::EPSILON));
        for t in [1e-6 * t_min, 0.1 * t_min, t_min, near_end, t_max] {
            let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
            assert!(sigma > 0.0 && sigma.is_finite() && alpha >= 0.0 && alpha.is_finite(), "{sde:?} at {t}: {alpha}, {sigma}");
            assert!(alpha > 0.0 || t == t_max, "{sde:?} at {t}");
            assert!(sde.d_alpha(t) <= 0.0 && sde.d_alpha(t).is_finite() && sde.d_sigma(t) >= 0.0, "{sde:?} at {t}");
            let log_snr = sde.log_snr(t);
            if alpha > 0.0 {
                // The log-SNR and the coefficients agree: neither has lost its digits.
                close("σ/α", &sde, (-0.5 * log_snr).exp(), sigma / alpha, 1e-9);
                // As single-precision numbers too: nothing vanishes, nothing overflows.
                let (alpha_32, sigma_32) = (alpha as f32, sigma as f32);
                assert!(alpha_32.is_normal() && sigma_32.is_normal(), "{sde:?} at {t}");
                close("σ/α in f32", &sde, f64::from(sigma_32) / f64::from(alpha_32), sigma / alpha, 2e-7);
                for (what, rate) in [("α̇", sde.d_alpha(t)), ("σ̇", sde.d_sigma(t))] {
                    close(what, &sde, f64::from(rate as f32), rate, 1e-7);
                }
            }
            // From a log-SNR of single precision the time comes back as well as it can.
            let again = sde.log_snr(sde.time_at_log_snr(f64::from(log_snr as f32)));
            assert!(
                again == log_snr || (again - log_snr).abs() <= 1e-6 * log_snr.abs().max(1.0),
                "{sde:?} at {t}: {again}, {log_snr}"
            );
        }
    }
}

#[test]
fn new_processes_have_their_leading_terms_next_to_the_data() {
    // Where 1 − α² and differences of logistic functions have lost everything.
    let t = 1e-14_f64;
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    // Of the sigmoid schedule's variance at its start, and of 1 − variance at its end, which is alike.
    let slope = 6.0 * logistic(3.0) * logistic(-3.0) / (logistic(3.0) - logistic(-3.0));
    let cases: [(SdeConfig, f64); 7] = [
        (Scaled::default().into(), t),
        (Scaled { schedule: Schedule::Ve {}, ..Scaled::default() }.into(), t.sqrt()),
        (Trigonometric::default().into(), FRAC_PI_2 * t),
        (Polynomial { exponent: 1.0, s: 0.0, ..Polynomial::default() }.into(), (2.0 * t).sqrt()),
        (PolynomialFlow::default().into(), 2.0 * t),
        (Sigmoid::default().into(), (slope * t).sqrt()),
        (Discrete::default().into(), (-1000.0 * t * (-1e-4_f64).ln_1p()).sqrt()),
    ];
    for (sde, sigma) in cases {
        close("sigma near 0", &sde, sde.sigma(t), sigma, 1e-12);
        close("log_snr near 0", &sde, sde.log_snr(t), -2.0 * sigma.ln(), 1e-13);
        close("time_at_log_snr near 0", &sde, sde.time_at_log_snr(sde.log_snr(t)), t, 1e-12);
    }
    // And next to pure noise, in the distance that the floating-point time has from 1.
    let t = 1.0 - 1e-9_f64;
    let rest = 1.0 - t;
    let terminal = ladder(1000, Betas::default(), true);
    let cases: [(SdeConfig, f64); 5] = [
        (Trigonometric::default().into(), FRAC_PI_2 * rest),
        (Polynomial { exponent: 2.0, s: 0.0, ..Polynomial::default() }.into(), 2.0 * rest),
        (PolynomialFlow::default().into(), rest * rest),
        (Sigmoid::default().into(), (slope * rest).sqrt()),
        (terminal.clone().into(), 1000.0 * rest * terminal.alpha(0.999)),
    ];
    for (sde, alpha) in cases {
        close("alpha near 1", &sde, sde.alpha(t), alpha, 2e-9);
        close("log_snr near 1", &sde, sde.log_snr(t), 2.0 * alpha.ln(), 1e-9);
        close("time_at_log_snr near 1", &sde, sde.time_at_log_snr(sde.log_snr(t)), t, 4.0 * f64::EPSILON);
    }
}

#[test]
fn every_quantity_survives_single_precision_at_both_ends() {
    // x_t and the quantities of a pair (x_0, ε) as single-precision numbers, converted with single-precision factors.
    let (x_0, noise) = (0.7_f64, -1.3_f64);
    let round = |x: f64| f64::from(x as f32);
    for sde in processes() {
        let (t_min, t_max) = sde.span();
        for t in [t_min, t_max] {
            let x_t = sde.alpha(t) * x_0 + sde.sigma(t) * noise;
            for from in Quantity::ALL {
                for to in Quantity::ALL {
                    let value = |c: Combination| c.sample * x_0 + c.noise * noise;
                    let (given, expected) = (value(from.combination(&sde, t)), value(to.combination(&sde, t)));
                    let c = from.conversion(to, &sde, t);
                    if !(c.state.is_finite() && c.value.is_finite()) {
                        continue; // does not exist: the state is nothing but noise
                    }
                    let found = round(c.state) * round(x_t) + round(c.value) * round(given);
                    // Each factor and each number is off by half a unit, relative to its term.
                    let scale = (c.state * x_t).abs() + (c.value * given).abs();
                    assert!(
                        (found - expected).abs() <= 1.3e-7 * scale,
                        "{from:?} to {to:?} on {sde:?} at {t}: {found}, expected {expected}"
                    );
                }
            }
        }
    }
}
