//! Time grids against the formulas of their papers and programs, computed independently.

use std::f64::consts::FRAC_PI_2;

use fokker_sde::{Edm, LinearFlow, Sde, SdeConfig, VariancePreserving};
use fokker_solve::{
    CosineAngle, Discrete, Exponential, FlowShift, Grid, GridConfig, Iddpm, Karras, List, LogSnr, Picking, Polyexponential,
    Quadratic, Spacing,
};

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-9 * expected.abs(), "{found} and {expected}");
    }
}

/// Ten times of a spacing, the ends where they are asked for.
fn ten(sde: &dyn Sde, spacing: impl Into<Spacing>) -> Vec<f64> {
    GridConfig { steps: 10, spacing: spacing.into(), ..GridConfig::default() }.build(sde).unwrap().times().to_vec()
}

#[test]
fn quadratic_cosine_and_polyexponential_times_are_uniform_in_what_they_say() {
    let sde = VariancePreserving::default();
    let uniform = |values: Vec<f64>| {
        let step = (values[9] - values[0]) / 9.0;
        values.windows(2).all(|pair| (pair[1] - pair[0] - step).abs() < 1e-9 * step.abs())
    };
    assert!(uniform(ten(&sde, Quadratic::default()).iter().map(|t| t.sqrt()).collect()));
    let angles = ten(&sde, CosineAngle::default()).iter().map(|&t| sde.sigma(t).atan2(sde.alpha(t))).collect();
    assert!(uniform(angles));
    let rho = 3.0;
    let (last, first) = (sde.log_snr(1e-5), sde.log_snr(1.0));
    let ramps = ten(&sde, Polyexponential { rho });
    assert!(uniform(ramps.iter().map(|&t| ((sde.log_snr(t) - last) / (first - last)).max(0.0).powf(1.0 / rho)).collect()));
}

#[test]
fn the_cosine_grid_on_the_cosine_schedule_is_uniform_but_for_its_offset_and_serves_pure_noise() {
    let cosine = SdeConfig::from_kind("cosine").unwrap();
    let (low, high) = cosine.span();
    let uniform: Vec<f64> = (0..10).map(|i| high + i as f64 / 9.0 * (low - high)).collect();
    // Their schedule runs through the angles at a constant rate but for the offset of 0.008 in time.
    for (found, expected) in ten(&cosine, CosineAngle::default()).iter().zip(&uniform) {
        assert!((found - expected).abs() < 8e-3, "{found} and {expected}");
    }
    let flow = ten(&LinearFlow::default(), CosineAngle::default());
    assert_eq!(flow[0], 1.0);
    assert!(flow[1] < 0.9);
}

#[test]
fn exponential_grids_are_geometric_in_the_noise_level_and_those_of_log_snr() {
    // k-diffusion: exp(linspace(ln σ_max, ln σ_min, n)), on the process whose time is σ.
    let edm = Edm::default();
    let expected: Vec<f64> =
        (0..10).map(|i| (80.0_f64.ln() + f64::from(i) / 9.0 * (0.002_f64.ln() - 80.0_f64.ln())).exp()).collect();
    assert_close(&ten(&edm, Exponential::default()), &expected);
    for sde in SdeConfig::all().into_iter().filter(|sde| sde.alpha(sde.span().1) > 0.0) {
        let exponential = ten(&sde, Exponential::default());
        assert_eq!(exponential, ten(&sde, LogSnr::default()), "{}", sde.name());
        assert_close(&exponential, &ten(&sde, Polyexponential { rho: 1.0 }));
    }
}

#[test]
fn iddpm_levels_are_table_1_of_karras_et_al() {
    let m = 1000;
    let bar = |j: usize| (FRAC_PI_2 * j as f64 / (m as f64 * 1.008)).sin().powi(2);
    let mut u = vec![0.0; m + 1];
    for j in (1..=m).rev() {
        let ratio = bar(j - 1) / bar(j);
        u[j - 1] = ((u[j] * u[j] + 1.0) / if ratio < 0.001 { 0.001 } else { ratio } - 1.0_f64).sqrt();
    }
    // Their levels for images in [−1, 1] end at σ_max ≈ 81 once j_0 = 8 levels are left out.
    assert!((u[8] - 80.0).abs() < 2.0, "{}", u[8]);
    let edm = Edm::default();
    let inside: Vec<f64> = u.into_iter().filter(|u| (0.002..=80.0).contains(u)).collect();
    let mut expected: Vec<f64> = (0..10).map(|i| inside[(i as f64 * (inside.len() - 1) as f64 / 9.0).round() as usize]).collect();
    (expected[0], expected[9]) = (80.0, 0.002);
    assert_close(&ten(&edm, Iddpm::default()), &expected);
    let message = GridConfig { spacing: Iddpm::default().into(), ..GridConfig::with_steps(1000) }.build(&edm).unwrap_err();
    assert!(message.to_string().contains("cannot make 1000"), "{message}");
}

#[test]
fn discrete_times_are_steps_of_the_ladder() {
    let vp = VariancePreserving::default();
    let build = |steps, denoise_last, picking, offset| {
        let spacing = Discrete { ladder: 1000, picking, offset }.into();
        GridConfig { steps, spacing, denoise_last, ..GridConfig::default() }.build(&vp)
    };
    assert_close(build(4, true, Picking::Trailing, 0).unwrap().times(), &[1.0, 0.75, 0.5, 0.25]);
    assert_close(build(4, true, Picking::Leading, 1).unwrap().times(), &[0.752, 0.502, 0.252, 0.002]);
    assert_close(build(3, false, Picking::Linspace, 0).unwrap().times(), &[1.0, 0.667, 0.334, 0.001]);
    assert_eq!(build(1000, true, Picking::Trailing, 0).unwrap().steps(), 1000);
    assert_eq!(build(1, true, Picking::Trailing, 0).unwrap().first(), 1.0);
    for (grid, expected) in [
        (build(1001, true, Picking::Leading, 0), "1001 times"),
        (build(1000, true, Picking::Leading, 1), "offset"),
        (build(10, true, Picking::Trailing, 1), "`leading`"),
    ] {
        let message = grid.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let cut = GridConfig { spacing: Discrete::default().into(), t_max: Some(0.5), ..GridConfig::default() };
    let message = cut.build(&vp).unwrap_err().to_string();
    assert!(message.contains("t_max") && message.contains("own ends"), "{message}");
}

#[test]
fn a_flow_shift_is_equation_23_of_esser_et_al_and_multiplies_noise_levels() {
    let flow = LinearFlow::default();
    // Their grid of n = 5 uniform times from 1 to 0.2, shifted, with both ends of the shifted grid asked for.
    let shift = |v: f64| 3.0 * v / (1.0 + 2.0 * v);
    let config = GridConfig { steps: 5, spacing: FlowShift::default().into(), t_min: Some(shift(0.2)), ..GridConfig::default() };
    assert_close(config.build(&flow).unwrap().times(), &[1.0, 0.8, 0.6, 0.4, 0.2].map(shift));
    assert_close(&ten(&flow, FlowShift { shift: 1.0 }), &ten(&flow, Spacing::default()));
    assert_eq!(FlowShift::for_resolution(1024.0 * 1024.0, 256.0 * 256.0), FlowShift { shift: 4.0 });
    // The noise level t/(1 − t) of the time in the middle is that of the unshifted one times the shift.
    let vp = VariancePreserving::default();
    let (t_max, t_min) = (vp.time_at_log_snr(-2.0 * 4.0_f64.ln()), vp.time_at_log_snr(2.0 * 4.0_f64.ln()));
    let config = GridConfig {
        steps: 3,
        spacing: FlowShift { shift: 2.0 }.into(),
        t_max: Some(t_max),
        t_min: Some(t_min),
        ..GridConfig::default()
    };
    let middle = (-0.5 * vp.log_snr(config.build(&vp).unwrap().times()[1])).exp();
    // Levels 4 and ¼, unshifted 2 and ⅛: flow times ⅔ and 1/9, in the middle 7/18, which is level 7/11.
    assert!((middle - 2.0 * 7.0 / 11.0).abs() < 1e-9, "{middle}");
}

#[test]
fn explicit_lists_give_their_times_and_refuse_what_makes_no_sense() {
    let vp = VariancePreserving::default();
    let build = |list: List| GridConfig { spacing: list.into(), ..GridConfig::default() }.build(&vp);
    let grid = build(List::of_times(vec![1.0, 0.5, 0.1])).unwrap();
    assert_eq!((grid.times(), grid.steps()), (&[1.0, 0.5, 0.1][..], 3));
    let levels = vec![100.0, 3.0, 0.5];
    let by_level = build(List::of_noise_levels(levels.clone())).unwrap();
    assert_close(&by_level.times().iter().map(|&t| (-0.5 * vp.log_snr(t)).exp()).collect::<Vec<_>>(), &levels);
    // The ends of a span survive the round trip through noise levels.
    let ends: Vec<f64> = [1.0, 1e-5].iter().map(|&t| (-0.5 * vp.log_snr(t)).exp()).collect();
    assert_close(build(List::of_noise_levels(ends)).unwrap().times(), &[1.0, 1e-5]);
    let both = List { times: Some(vec![1.0]), noise_levels: Some(vec![1.0]), file: None };
    for (list, expected) in [
        (List::default(), "exactly one of the three, found 0"),
        (both, "exactly one of the three, found 2"),
        (List::of_times(vec![0.1, 0.5]), "decrease"),
        (List::of_noise_levels(vec![3.0, 0.0]), "denoise_last"),
        (List::of_noise_levels(vec![3.0, -1.0]), "noise level 1 is -1"),
        (List::of_noise_levels(vec![1e9, 1.0]), "outside of the span"),
    ] {
        let message = build(list).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let text = r#"{"spacing": {"kind": "list", "times": [1, 0.5]}, "denoise_last": false}"#;
    let config: GridConfig = serde_json::from_str(text).unwrap();
    assert_eq!(config.build(&vp).unwrap().moves(), 1);
}

#[test]
fn a_grid_survives_a_file_to_the_last_bit_and_a_bad_file_names_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("grid.txt");
    let vp = VariancePreserving::default();
    let build = || GridConfig { spacing: List::of_file(&file).into(), ..GridConfig::default() }.build(&vp);
    let missing = build().unwrap_err().to_string();
    assert!(missing.contains("grid.txt") && missing.contains("cannot be read"), "{missing}");
    let grid = GridConfig { spacing: Karras::default().into(), ..GridConfig::with_steps(7) }.build(&vp).unwrap();
    std::fs::write(&file, grid.to_text()).unwrap();
    assert_eq!(build().unwrap(), grid);
    std::fs::write(&file, "# by hand\n1.0, 0.5 # the middle\n\n0.1\n").unwrap();
    assert_eq!(build().unwrap().times(), [1.0, 0.5, 0.1]);
    for (text, expected) in [("1.0\n0.5 half\n", "line 2: expected a time, found `half`"), ("# nothing\n", "found none")] {
        std::fs::write(&file, text).unwrap();
        let message = build().unwrap_err().to_string();
        assert!(message.contains("grid.txt") && message.contains(expected), "{message}");
    }
}

#[test]
fn a_reversed_grid_has_the_times_from_data_to_noise() {
    let grid = Grid::new(vec![1.0, 0.5, 0.1], true, &VariancePreserving::default()).unwrap();
    let reversed = grid.reversed();
    assert_eq!((reversed.times(), reversed.denoise_last()), (&[0.1, 0.5, 1.0][..], false));
}
