//! The exact denoisers against quadrature, matrix formulas and differentiation.

use fokker_sde::{
    Cond, Covariance, Denoiser, Edm, Gaussian, GaussianMixture, Quantity, Sde, SdeConfig, Times, VariancePreserving, convert,
    diffuse,
};
use fokker_tensor::{Dtype, Noise, Tensor, check, grad};

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
    // Not bit for bit: the order of additions in a matrix product may depend on the number of rows.
    assert!(max_difference(&later, &x.slice(0, 25..35)) < 1e-14);
}
