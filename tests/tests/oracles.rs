//! All exact denoisers alike: Tweedie's formula, derivatives, densities that integrate to one, samples; and what each is in closed
//! form.

mod schedules;

use std::f64::consts::{PI, TAU};

use fokker_sde::{
    Cond, Covariance, Denoiser, Edm, Exact, Gaussian, GaussianMixture, Points, Sde, SdeConfig, Sphere, Times, VariancePreserving,
    diffuse,
};
use fokker_tensor::{Dtype, Noise, Tensor, check, grad, linearize};

use schedules::time;

const NONE: &Cond = &Cond::NONE;

fn max_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    (a - b).abs().max_all().item()
}

/// Numbers that follow no pattern, of order one.
fn numbers(n: usize, stream: u64) -> Vec<f64> {
    Noise::new(99, stream).normal(&[1, n], 0, 0, Dtype::F64).to_vec::<f64>()
}

/// A full covariance `A Aᵀ/D + I/10`.
fn full(d: usize, stream: u64) -> Covariance {
    let a = numbers(d * d, stream);
    let entry = |i: usize| (0..d).map(|k| a[i / d * d + k] * a[i % d * d + k]).sum::<f64>() / d as f64;
    Covariance::Full((0..d * d).map(|i| entry(i) + if i / d == i % d { 0.1 } else { 0.0 }).collect())
}

/// Each kind of exact denoiser in `d` dimensions.
fn oracles(sde: &SdeConfig, d: usize) -> Vec<(&'static str, Box<dyn Exact>)> {
    let variances: Vec<f64> = numbers(d, 1).iter().map(|x| 0.05 + 0.3 * x * x).collect();
    let mixture = GaussianMixture::new(
        sde.clone(),
        &[0.2, 0.5, 0.3],
        &[numbers(d, 2), numbers(d, 3), numbers(d, 4)],
        &[Covariance::Isotropic(0.2), Covariance::Diagonal(variances), full(d, 5)],
    );
    let points = Tensor::from_vec(&[7, d], numbers(7 * d, 6));
    vec![
        ("gaussian", Box::new(Gaussian::new(sde.clone(), &numbers(d, 7), &full(d, 8)))),
        ("mixture", Box::new(mixture)),
        ("points", Box::new(Points::new(sde.clone(), &points))),
        ("sphere", Box::new(Sphere::new(sde.clone(), 1.3, d))),
    ]
}

/// `n` states of an oracle at time `t`.
fn noisy(model: &dyn Exact, t: &Times, n: usize) -> Tensor {
    let x_0 = model.sample(n, Noise::new(3, 1), 0);
    diffuse(model.sde(), t, &x_0, &Noise::new(3, 2).normal(x_0.shape(), 0, 0, Dtype::F64))
}

#[test]
fn scores_are_gradients_of_log_densities_and_follow_from_denoisers_by_tweedies_formula() {
    for sde in SdeConfig::all() {
        for d in [1, 3] {
            for (name, model) in oracles(&sde, d) {
                for u in [0.4, 0.7, 1.0] {
                    let t = Times::Same(time(&sde, u));
                    let leaf = noisy(&*model, &t, 12).track();
                    let gradient = grad(model.log_density(&leaf, &t, NONE).sum_all(), &[&leaf]).remove(0);
                    let x = leaf.detach();
                    let (alpha, sigma) = (sde.alpha(t.of(0)), sde.sigma(t.of(0)));
                    // Relative to the noise in the state, which is all that is left of the score where signal and state cancel.
                    let scale = gradient.abs().max_all().item() + 1e-4 * x.abs().max_all().item() / (sigma * sigma);
                    let off = max_difference(&model.score(&x, &t, NONE), &gradient);
                    assert!(off < 1e-10 * scale, "score of {name} on {} at {t:?}: off by {off:e}", sde.name());
                    let left = &model.denoise(&x, &t, NONE) * alpha;
                    let right = &x + &(&gradient * (sigma * sigma));
                    let off = max_difference(&left, &right);
                    assert!(
                        off < 1e-11 * (1.0 + x.abs().max_all().item()),
                        "Tweedie for {name} on {}: off by {off:e}",
                        sde.name()
                    );
                }
            }
        }
    }
}

#[test]
fn jacobians_are_derivatives_of_denoisers_and_divergences_their_traces() {
    for sde in SdeConfig::all() {
        for d in [1, 2, 3] {
            for (name, model) in oracles(&sde, d) {
                let times = [-3.0, 0.5, 2.0, 5.0].map(|log_snr| sde.time_at_log_snr(log_snr)).to_vec();
                let t = Times::Each(times);
                let x = noisy(&*model, &t, 4);
                let jacobian = model.jacobian(&x, &t, NONE);
                assert_eq!((jacobian.shape(), jacobian.is_tracked()), (&[4, d, d][..], false));
                let scale = 1.0 + jacobian.abs().max_all().item();
                let denoise = |x: &Tensor| model.denoise(x, &t, NONE);
                let (_, linear) = linearize(denoise, &x);
                for i in 0..d {
                    let unit = Tensor::from_vec(&[1, d], (0..d).map(|j| f64::from(u8::from(i == j))).collect());
                    let unit = unit.broadcast_to(&[4, d]);
                    let column = jacobian.slice(2, i..i + 1).reshape(&[4, d]);
                    let off = max_difference(&column, &linear.jvp(&unit));
                    assert!(off < 1e-11 * scale, "column {i} for {name} on {}: off by {off:e}", sde.name());
                    // Not only by the same formulas: by differences, on the scale of each sample's noise.
                    let h = t.scale(&unit, |t| 1e-3 * sde.sigma(t));
                    let near = &denoise(&(&x + &h)) - &denoise(&(&x - &h));
                    let h = &h * 2.0;
                    let far = &denoise(&(&x + &h)) - &denoise(&(&x - &h));
                    let difference = t.scale(&(&(&near * 8.0) - &far), |t| 1.0 / (12e-3 * sde.sigma(t)));
                    let off = max_difference(&column, &difference);
                    assert!(off < 1e-9 * scale, "column {i} for {name} on {}: off by {off:e} from differences", sde.name());
                }
                let symmetric = max_difference(&jacobian, &jacobian.permute(&[0, 2, 1]));
                assert!(symmetric < 1e-13 * scale, "{name}: asymmetric by {symmetric:e}");
                let diagonal = |b: usize| (0..d).map(|i| jacobian.as_slice::<f64>()[(b * d + i) * d + i]).sum::<f64>();
                let (divergence, of_score) = (model.divergence(&x, &t, NONE), model.score_divergence(&x, &t, NONE));
                assert_eq!((divergence.shape(), of_score.shape()), (&[4][..], &[4][..]));
                for (b, (&found, &of_score)) in divergence.as_slice::<f64>().iter().zip(of_score.as_slice::<f64>()).enumerate() {
                    let (alpha, variance) = (sde.alpha(t.of(b)), sde.sigma(t.of(b)).powi(2));
                    assert!((found - diagonal(b)).abs() < 1e-12 * scale, "{name}: {found}, trace {}", diagonal(b));
                    let expected = (alpha * diagonal(b) - d as f64) / variance;
                    assert!((of_score - expected).abs() < 1e-11 * scale / variance, "{name}: {of_score}, expected {expected}");
                }
            }
        }
    }
}

#[test]
fn oracles_answer_at_pure_noise_and_at_the_least_noise() {
    for sde in SdeConfig::all() {
        for (name, model) in oracles(&sde, 3) {
            for u in [0.0, 1.0] {
                let t = Times::Same(time(&sde, u));
                let x = noisy(&*model, &t, 5);
                let all = [
                    model.denoise(&x, &t, NONE),
                    model.score(&x, &t, NONE),
                    model.log_density(&x, &t, NONE),
                    model.jacobian(&x, &t, NONE),
                    model.divergence(&x, &t, NONE),
                    model.score_divergence(&x, &t, NONE),
                ];
                assert!(all.iter().all(Tensor::all_finite), "{name} on {} at {t:?}", sde.name());
                if sde.alpha(t.of(0)) == 0.0 {
                    assert_eq!(model.divergence(&x, &t, NONE).to_vec::<f64>(), [0.0; 5], "pure noise says nothing");
                }
            }
        }
    }
}

#[test]
fn oracles_pass_the_checks_of_operations_and_keep_shape_and_type() {
    let sde = SdeConfig::default();
    for (name, model) in oracles(&sde, 4) {
        let t = Times::Each(vec![0.3, 0.6]);
        let x = noisy(&*model, &t, 2);
        check::op(name, |x| model.denoise(&x[0], &t, NONE), std::slice::from_ref(&x));
        check::op(name, |x| model.score(&x[0], &t, NONE), std::slice::from_ref(&x));
        check::op(name, |x| model.log_density(&x[0], &t, NONE), std::slice::from_ref(&x));
        let image = x.reshape(&[2, 2, 1, 2]).to(Dtype::F32);
        let denoised = model.denoise(&image, &t, NONE);
        assert_eq!((denoised.shape(), denoised.dtype()), (image.shape(), Dtype::F32));
        let exact = model.denoise(&x, &t, NONE).reshape(&[2, 2, 1, 2]);
        assert!(max_difference(&denoised.to(Dtype::F64), &exact) < 2e-6);
        assert_eq!(model.jacobian(&image, &t, NONE).shape(), [2, 4, 4]);
        // One sample at a time is the same.
        for i in 0..2 {
            let (row, own) = (x.slice(0, i..i + 1), Times::Same(t.of(i)));
            for (whole, part) in [
                (model.denoise(&x, &t, NONE), model.denoise(&row, &own, NONE)),
                (model.log_density(&x, &t, NONE), model.log_density(&row, &own, NONE)),
                (model.jacobian(&x, &t, NONE), model.jacobian(&row, &own, NONE)),
                (model.divergence(&x, &t, NONE), model.divergence(&row, &own, NONE)),
                (model.score_divergence(&x, &t, NONE), model.score_divergence(&row, &own, NONE)),
            ] {
                assert!(max_difference(&whole.slice(0, i..i + 1), &part) < 1e-12, "{name}");
            }
        }
    }
}

#[test]
fn densities_integrate_to_one_in_one_and_two_dimensions() {
    for sde in [SdeConfig::default(), Edm::default().into()] {
        for log_snr in [-1.0, 2.0, 5.0] {
            let t = sde.time_at_log_snr(log_snr);
            let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
            // The trapezoidal rule: steps small against the noise, out to where nothing is left.
            let (reach, h) = (alpha * 7.0 + 9.0 * sigma, 0.35 * sigma);
            let line: Vec<f64> = (0..=(2.0 * reach / h) as usize).map(|i| -reach + i as f64 * h).collect();
            for (name, model) in oracles(&sde, 1) {
                let x = Tensor::from_vec(&[line.len(), 1], line.clone());
                let mass = model.log_density(&x, &t.into(), NONE).exp().sum_all().item() * h;
                assert!((mass - 1.0).abs() < 1e-10, "{name} in one dimension at {log_snr}: {mass}");
            }
            if log_snr > 2.0 {
                continue; // a square of steps this small would take minutes
            }
            for (name, model) in oracles(&sde, 2) {
                let mass: f64 = line
                    .iter()
                    .map(|&first| {
                        let x = line.iter().flat_map(|&second| [first, second]).collect();
                        let x = Tensor::from_vec(&[line.len(), 2], x);
                        model.log_density(&x, &t.into(), NONE).exp().sum_all().item() * h * h
                    })
                    .sum();
                assert!((mass - 1.0).abs() < 1e-10, "{name} in two dimensions at {log_snr}: {mass}");
            }
        }
    }
}

#[test]
fn densities_that_depend_on_the_norm_alone_integrate_to_one_in_64_dimensions() {
    let (d, sde) = (64, VariancePreserving::default());
    // The surface 2 π^{D/2}/Γ(D/2) of the unit sphere, Γ(32) = 31!.
    let log_surface = 2.0_f64.ln() + 32.0 * PI.ln() - (1..32).map(|k| f64::from(k).ln()).sum::<f64>();
    let models: [(&str, Box<dyn Exact>); 3] = [
        ("gaussian", Box::new(Gaussian::new(sde.clone(), &[0.0; 64], &Covariance::Isotropic(0.7)))),
        ("sphere", Box::new(Sphere::new(sde.clone(), 1.3, d))),
        ("wide sphere", Box::new(Sphere::new(sde.clone(), 40.0, d))),
    ];
    for (name, model) in models {
        for log_snr in [-4.0, 0.0, 6.0] {
            let t = sde.time_at_log_snr(log_snr);
            let h = 0.05 * sde.sigma(t);
            let norms: Vec<f64> = (1..(60.0 / h) as usize).map(|i| i as f64 * h).collect();
            let x: Vec<f64> = norms.iter().flat_map(|&norm| (0..d).map(move |i| if i == 5 { norm } else { 0.0 })).collect();
            let log_density = model.log_density(&Tensor::from_vec(&[norms.len(), d], x), &t.into(), NONE);
            let shells = norms.iter().zip(log_density.as_slice::<f64>());
            let mass: f64 = shells.map(|(norm, log_p)| (log_surface + 63.0 * norm.ln() + log_p).exp() * h).sum();
            assert!((mass - 1.0).abs() < 1e-10, "{name} at {log_snr}: {mass}");
        }
    }
}

#[test]
fn points_are_a_mixture_without_widths_in_any_number_of_blocks() {
    // 2500 points are three blocks, the last of them short.
    for (n, d) in [(1, 64), (5, 64), (2500, 3)] {
        let data = Tensor::from_vec(&[n, d], numbers(n * d, 11));
        let means: Vec<Vec<f64>> = data.to_vec::<f64>().chunks(d).map(<[f64]>::to_vec).collect();
        for sde in [SdeConfig::default(), Edm::default().into()] {
            let points = Points::new(sde.clone(), &data);
            let covariances = vec![Covariance::Isotropic(0.0); n];
            let mixture = GaussianMixture::new(sde.clone(), &vec![1.0; n], &means, &covariances);
            assert_eq!((points.len(), points.is_empty(), points.dim()), (n, false, d));
            let t = Times::Each([-4.0, -1.0, 1.0, 4.0].map(|log_snr| sde.time_at_log_snr(log_snr)).to_vec());
            let x = noisy(&points, &t, 4);
            for (what, found, expected) in [
                ("denoised", Exact::score(&points, &x, &t, NONE), Exact::score(&mixture, &x, &t, NONE)),
                ("log-density", points.log_density(&x, &t, NONE), mixture.log_density(&x, &t, NONE)),
                ("jacobian", points.jacobian(&x, &t, NONE), mixture.jacobian(&x, &t, NONE)),
                ("divergence", points.divergence(&x, &t, NONE), mixture.divergence(&x, &t, NONE)),
            ] {
                let scale = 1.0 + expected.abs().max_all().item();
                let off = max_difference(&found, &expected);
                assert!(off < 1e-11 * scale, "{what} of {n} points on {}: off by {off:e}", sde.name());
            }
        }
    }
}

#[test]
fn derivatives_of_a_mixture_given_a_class_are_those_of_its_components() {
    let sde = SdeConfig::default();
    let (means, covariances) = ([numbers(2, 1), numbers(2, 2)], [full(2, 3), full(2, 4)]);
    let mixture = GaussianMixture::new(sde.clone(), &[0.3, 0.7], &means, &covariances).with_classes(vec![1, 0]);
    let t = Times::Each(vec![0.2, 0.5, 0.4]);
    let x = noisy(&mixture, &t, 3);
    let classes = Cond::classes(vec![1, 0, 2]);
    for (row, component) in [(0, 0), (1, 1)] {
        let alone = Gaussian::new(sde.clone(), &means[component], &covariances[component]);
        let (own, at) = (x.slice(0, row..row + 1), Times::Same(t.of(row)));
        let of = |whole: &Tensor| whole.slice(0, row..row + 1);
        assert!(max_difference(&of(&mixture.jacobian(&x, &t, &classes)), &alone.jacobian(&own, &at, NONE)) < 1e-13);
        assert!(max_difference(&of(&mixture.divergence(&x, &t, &classes)), &alone.divergence(&own, &at, NONE)) < 1e-13);
        let off = max_difference(&of(&mixture.score_divergence(&x, &t, &classes)), &alone.score_divergence(&own, &at, NONE));
        assert!(off < 1e-12, "{off:e}");
    }
    // The null class is no class.
    let null = mixture.jacobian(&x, &t, &classes).slice(0, 2..3);
    assert!(max_difference(&null, &mixture.jacobian(&x, &t, NONE).slice(0, 2..3)) < 1e-13);
}

#[test]
fn ten_thousand_points_are_denoised_in_a_batch_as_one_by_one() {
    let points = Points::new(Edm::default(), &Noise::new(8, 8).normal(&[10_000, 4, 4, 1], 0, 0, Dtype::F32));
    let t = Times::Same(0.8);
    let x = noisy(&points, &t, 200);
    let all = points.denoise(&x, &t, NONE);
    for i in [0, 77, 199] {
        let one = points.denoise(&x.slice(0, i..i + 1), &t, NONE);
        assert!(max_difference(&one, &all.slice(0, i..i + 1)) < 1e-12);
    }
}

#[test]
fn a_circle_agrees_with_bayes_rule_by_quadrature() {
    let (r, n) = (1.3, 4000);
    for sde in SdeConfig::all() {
        let model = Sphere::new(sde.clone(), r, 2);
        for log_snr in [-2.0, 1.0, 5.0] {
            let t = sde.time_at_log_snr(log_snr);
            let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
            for x in [[0.0, 0.0], [0.4 * alpha, -0.9 * alpha], [2.0 * alpha, 1.0 * alpha]] {
                let (mut mass, mut mean) = (0.0, [0.0; 2]);
                for i in 0..n {
                    let (sin, cos) = (TAU * f64::from(i) / f64::from(n)).sin_cos();
                    let square = (x[0] - alpha * r * cos).powi(2) + (x[1] - alpha * r * sin).powi(2);
                    let weight = (-0.5 * square / (sigma * sigma)).exp() / (TAU * sigma * sigma * f64::from(n));
                    mass += weight;
                    mean = [mean[0] + weight * r * cos, mean[1] + weight * r * sin];
                }
                let state = Tensor::from_vec(&[1, 2], x.to_vec());
                let denoised = model.denoise(&state, &t.into(), NONE).to_vec::<f64>();
                for (found, total) in denoised.iter().zip(mean) {
                    assert!(
                        (found - total / mass).abs() < 1e-11,
                        "{} at {log_snr}: {found}, expected {}",
                        sde.name(),
                        total / mass
                    );
                }
                let found = model.log_density(&state, &t.into(), NONE).item();
                assert!((found - mass.ln()).abs() < 1e-10 * mass.ln().abs().max(1.0), "{found}, expected {}", mass.ln());
            }
        }
    }
}

/// `(D, κ, A, A′, ln ₀F₁(; D/2; κ²/4) − κ)` by mpmath 1.3 with 60 digits: `A = besseli(D/2, κ)/besseli(D/2 − 1, κ)`, `A′ = 1 − A² −
/// (D − 1) A/κ`. `scipy.special.ive` agrees to 14 digits where it does not underflow.
const BESSEL: [(usize, f64, f64, f64, f64); 28] = [
    (1, 0.001, 0.0009999996666668, 0.9999990000006667, -0.0009995000000833333),
    (1, 0.7, 0.6043677771171635, 0.6347395899824586, -0.47272977064149435),
    (2, 0.001, 0.0004999999375000105, 0.4999998125000521, -0.000999750000015625),
    (2, 0.7, 0.33017728953267106, 0.4193011152873286, -0.581059396089398),
    (2, 31.0, 0.9837364720129979, 0.0005291190503558034, -2.6318325376335863),
    (2, 250.0, 0.9979979919495796, 8.01609680842451e-06, -3.6791679879429124),
    (2, 100000000.0, 0.999999995, 5.0000000250000004e-17, -10.129278903930855),
    (3, 0.001, 0.0003333333111111132, 0.33333326666667723, -0.000999833333338889),
    (3, 0.7, 0.2260502072312008, 0.30304356886444306, -0.6196271905441401),
    (3, 31.0, 0.967741935483871, 0.001040582726326743, -4.127134385045092),
    (3, 250.0, 0.996, 1.6e-05, -6.214608098422191),
    (3, 100000000.0, 0.99999999, 1e-16, -19.11382792451231),
    (10, 0.001, 9.999999916666668e-05, 0.09999999750000006, -0.0009999500000002083),
    (10, 0.7, 0.06971615180006693, 0.09878913503447231, -0.6755497887787768),
    (10, 31.0, 0.8632732251986494, 0.004131628113578617, -10.679125204300503),
    (10, 250.0, 0.9821264989826572, 7.098603269292457e-05, -19.846432695044637),
    (10, 100000000.0, 0.9999999550000008, 4.499999842499998e-16, -77.86135940715259),
    (64, 0.001, 1.56249999963009e-05, 0.015624999988902698, -0.0009999921875000009),
    (64, 0.7, 0.010936231494202807, 0.01561956436245255, -0.6961720970051741),
    (64, 31.0, 0.40621932502438074, 0.009443360733640199, -24.164546510896503),
    (64, 250.0, 0.8816871455385954, 0.00044261671627757074, -77.1880500258384),
    (64, 100000000.0, 0.999999685000048, 3.1499990392499854e-15, -481.5906006207806),
    (1000, 0.001, 9.99999999999002e-07, 0.0009999999999970059, -0.0009999995),
    (1000, 0.7, 0.0006999996576849648, 0.0009999985329365185, -0.6997550000599051),
    (1000, 31.0, 0.030970325243804525, 0.0009971319039471516, -30.519730125869177),
    (1000, 250.0, 0.23609024094629627, 0.0008447953085198608, -219.65200972217536),
    (1000, 100000000.0, 0.9999950050124501, 4.994975099924627e-14, -6251.053921680021),
    (1, 31.0, 1.0, 4.740259456935924e-27, -std::f64::consts::LN_2),
];

#[test]
fn spheres_of_any_dimension_and_width_have_the_ratio_of_bessel_functions() {
    for (d, kappa, a, slope, log_normaliser) in BESSEL {
        // With r = 1, α = 1 and |x| = 1, κ = 1/σ².
        let sigma = kappa.powf(-0.5);
        let model = Sphere::new(Edm::default(), 1.0, d);
        let x = Tensor::from_vec(&[1, d], (0..d).map(|i| f64::from(u8::from(i == 0))).collect());
        let t = Times::Same(sigma);
        let kappa = 1.0 / (sigma * sigma);
        let denoised = model.denoise(&x, &t, NONE).as_slice::<f64>()[0];
        assert!((denoised - a).abs() < 1e-13 * a, "A({kappa}) in {d} dimensions: {denoised}, expected {a}");
        let divergence = model.divergence(&x, &t, NONE).item();
        let expected = kappa * slope + (d - 1) as f64 * a;
        assert!((divergence - expected).abs() < 1e-12 * expected, "trace at {kappa} in {d}: {divergence}, expected {expected}");
        // Along x the derivative is κ A′, which may be a small difference of what is across.
        let along = model.jacobian(&x, &t, NONE).as_slice::<f64>()[0];
        assert!((along - kappa * slope).abs() < 1e-12 * (a + kappa * slope), "A′({kappa}) in {d}: {along}, {}", kappa * slope);
        let constant = -0.5 * d as f64 * (TAU * sigma * sigma).ln();
        let found = model.log_density(&x, &t, NONE).item() - constant;
        let scale = log_normaliser.abs() + constant.abs();
        assert!((found - log_normaliser).abs() < 1e-13 * scale, "ln ₀F₁ at {kappa} in {d}: {found}, expected {log_normaliser}");
    }
}

#[test]
fn samples_follow_the_law_of_each_oracle_and_depend_only_on_their_index() {
    let n = 20_000;
    let sde = SdeConfig::default();
    for (name, model) in oracles(&sde, 3) {
        let x = model.sample(n, Noise::new(21, 0), 0);
        let later = model.sample(10, Noise::new(21, 0), 25);
        assert!(max_difference(&later, &x.slice(0, 25..35)) < 1e-14, "{name}");
        // E[s] = 0 and E[Δ ln p + |s|²] = 0 over the noisy law: Stein's identities, which no other law satisfies for these scores.
        let t = Times::Same(sde.time_at_log_snr(1.0));
        let x = diffuse(&sde, &t, &x, &Noise::new(21, 5).normal(x.shape(), 0, 0, Dtype::F64));
        let score = Exact::score(&*model, &x, &t, NONE);
        let stein = &model.score_divergence(&x, &t, NONE) + &score.square().sum(&[1]);
        let mut columns = vec![stein];
        columns.extend((0..3).map(|i| score.slice(1, i..i + 1).reshape(&[n])));
        for column in columns {
            let values = column.to_vec::<f64>();
            let mean = values.iter().sum::<f64>() / n as f64;
            let spread = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
            assert!(mean.abs() < 5.0 * spread / (n as f64).sqrt(), "{name}: {mean} ± {}", spread / (n as f64).sqrt());
        }
    }
    // A sphere's are on it; points' are points, all equally often.
    let sphere = Sphere::new(sde.clone(), 1.3, 5);
    assert_eq!(sphere.radius(), 1.3);
    let norms = sphere.sample(100, Noise::new(21, 0), 0).square().sum(&[1]).sqrt();
    assert!(norms.as_slice::<f64>().iter().all(|norm| (norm - 1.3).abs() < 1e-14));
    let data = vec![0.5, -1.0, 2.0, 7.0];
    let points = Points::new(sde, &Tensor::from_vec(&[4, 1], data.clone()));
    let drawn = points.sample(n, Noise::new(21, 0), 0).to_vec::<f64>();
    for point in data {
        let count = drawn.iter().filter(|x| (*x - point).abs() < 1e-14).count() as f64;
        assert!((count - 5000.0).abs() < 5.0 * (n as f64 * 0.25 * 0.75).sqrt(), "{point} drawn {count} times");
    }
}
