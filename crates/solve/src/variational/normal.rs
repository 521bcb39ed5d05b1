//! Terms of normal laws in the variational bound, of one element each, in nats, with their derivatives.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

/// `½ [ρ − 1 + e^−ρ (1 + m)]`, and its derivative by `ρ`: the divergence of a Gaussian of `e^ρ` times the variance whose mean is off
/// by `√m` standard deviations.
pub(super) fn divergence(rho: f64, misfit: f64) -> (f64, f64) {
    let (short, off) = ((-rho).exp_m1(), misfit * (-rho).exp());
    (0.5 * (rho + short + off), -0.5 * (short + off))
}

/// `−ln` of the probability, or of the density, of data `x` under a normal law with mean `x + error` and variance `e^l`, and its derivative
/// by `l`; `half_bin` is half the distance of two levels of discrete data.
pub(super) fn surprise(x: f64, error: f64, log_variance: f64, half_bin: Option<f64>) -> (f64, f64) {
    match half_bin {
        Some(half) => bin(x, half, x + error, log_variance),
        None => density(error, log_variance),
    }
}

/// `−ln N(x; x + error, e^l)`, and its derivative by `l`.
fn density(error: f64, log_variance: f64) -> (f64, f64) {
    let square = error * error * (-log_variance).exp();
    (0.5 * (TAU.ln() + log_variance + square), 0.5 * (1.0 - square))
}

/// `−ln P(x − half < X < x + half)` for `X ~ N(mean, e^l)`, and its derivative by `l`. The lowest bin, of `x = −1`, has no lower end, the
/// highest no upper one.
fn bin(x: f64, half: f64, mean: f64, log_variance: f64) -> (f64, f64) {
    let std = (0.5 * log_variance).exp();
    let low = if x < half - 1.0 { f64::NEG_INFINITY } else { (x - half - mean) / std };
    let high = if x > 1.0 - half { f64::INFINITY } else { (x + half - mean) / std };
    // In the tail that both ends are nearer to, nothing cancels.
    let (low, high) = if low + high < 0.0 { (-high, -low) } else { (low, high) };
    let log_p = ln_tail(low) + (-(ln_tail(high) - ln_tail(low)).exp()).ln_1p();
    // z φ(z)/P.
    let part = |z: f64| if z.is_finite() { z * (-0.5 * z * z - 0.5 * TAU.ln() - log_p).exp() } else { 0.0 };
    (-log_p, 0.5 * (part(high) - part(low)))
}

/// `ln P(Z > z)` for a standard normal `Z`.
fn ln_tail(z: f64) -> f64 {
    if z < 30.0 {
        return (0.5 * libm::erfc(z * FRAC_1_SQRT_2)).ln();
    }
    // Mills' ratio (Abramowitz & Stegun 1964, 26.2.12); what is left out is below 1e-11.
    let r = (z * z).recip();
    let series = 1.0 - r * (1.0 - 3.0 * r * (1.0 - 5.0 * r * (1.0 - 7.0 * r)));
    -0.5 * z * z - (z * TAU.sqrt()).ln() + series.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `∫ f` from `low` to `high` by Simpson's rule.
    fn integral(low: f64, high: f64, f: impl Fn(f64) -> f64) -> f64 {
        let n = 4000;
        let h = (high - low) / f64::from(n);
        let weight = |i: i32| if i == 0 || i == n { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
        (0..=n).map(|i| weight(i) * f(low + f64::from(i) * h)).sum::<f64>() * h / 3.0
    }

    /// `ln N(x; mean, variance)`.
    fn ln_normal(x: f64, mean: f64, variance: f64) -> f64 {
        -0.5 * ((x - mean).powi(2) / variance + (TAU * variance).ln())
    }

    /// That `f` has the derivative it says at `at`.
    fn assert_derivative(what: &str, at: f64, f: impl Fn(f64) -> (f64, f64)) {
        let (h, slope) = (1e-5, f(at).1);
        let difference = (f(at + h).0 - f(at - h).0) / (2.0 * h);
        assert!((slope - difference).abs() <= 1e-8 * (1.0 + slope.abs()), "{what} at {at}: {slope}, by differences {difference}");
    }

    #[test]
    fn a_divergence_is_the_integral_of_its_definition() {
        // q = N(0, 1), p = N(√m, e^ρ).
        for rho in [-0.7, -1e-3, 0.0, 0.4, 2.0] {
            for misfit in [0.0, 0.3, 5.0_f64] {
                let (found, _) = divergence(rho, misfit);
                let expected = integral(-12.0, 12.0, |x| {
                    let ln_q = ln_normal(x, 0.0, 1.0);
                    ln_q.exp() * (ln_q - ln_normal(x, misfit.sqrt(), rho.exp()))
                });
                assert!((found - expected).abs() < 1e-10, "ρ = {rho}, m = {misfit}: {found} and {expected}");
                assert_derivative("divergence", rho, |rho| divergence(rho, misfit));
            }
        }
        // Nothing cancels where the variances are almost the same.
        assert!((divergence(1e-6, 0.0).0 / 0.25e-12 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn a_bin_has_the_integral_of_the_density_over_it() {
        let half = 1.0 / 255.0;
        for (mean, log_variance) in [(0.0, -9.0), (0.5, -8.0), (0.498, -14.0), (-1.02, -6.0), (0.99, 0.5)] {
            let inside = |low: f64, high: f64| integral(low, high, |x| ln_normal(x, mean, f64::exp(log_variance)).exp());
            let far = 12.0 * f64::exp(0.5 * log_variance);
            for byte in [0_u8, 1, 127, 191, 254, 255] {
                let x = f64::from(byte) / 127.5 - 1.0;
                let (found, _) = bin(x, half, mean, log_variance);
                let low = if byte == 0 { mean.min(x) - far } else { x - half };
                let high = if byte == 255 { mean.max(x) + far } else { x + half };
                let expected = inside(low, high);
                if expected > 1e-200 {
                    let off = (found + expected.ln()).abs();
                    assert!(off < 1e-8 * found.max(1.0), "byte {byte} of N({mean}, e^{log_variance}): off by {off:e}");
                }
                assert_derivative(&format!("byte {byte}"), log_variance, |l| bin(x, half, mean, l));
            }
            let total: f64 =
                (0..=255_u8).map(|byte| (-bin(f64::from(byte) / 127.5 - 1.0, half, mean, log_variance).0).exp()).sum();
            assert!((total - 1.0).abs() < 1e-12, "{total}");
        }
    }

    #[test]
    fn a_bin_is_finite_and_falls_like_a_gaussian_however_far_the_mean_is() {
        // −ln P = z²/2 + ln(z √2π) up to O(1/z²), and slope ½ z² up to O(1), with z the nearer end of the bin in standard deviations.
        let half = 1.0 / 255.0;
        for log_variance in [-10.0, -14.0, -20.0_f64] {
            let z = (0.5 - half) / (0.5 * log_variance).exp();
            for mean in [0.5, -0.5] {
                let (value, slope) = bin(0.0, half, mean, log_variance);
                let expected = 0.5 * z * z + (z * TAU.sqrt()).ln();
                assert!((value - expected).abs() < 2.0 / (z * z), "{value} and {expected}");
                assert!((slope + 0.5 * z * z).abs() < 1.0, "{slope} at {z}");
            }
        }
        // Where one formula of the tail gives way to the other, both are right.
        assert!((ln_tail(30.0 - 1e-12) - ln_tail(30.0)).abs() < 1e-9);
    }

    #[test]
    fn a_density_is_that_of_the_normal_distribution() {
        for (error, log_variance) in [(0.0, -3.0), (0.2, -3.0), (-1.5, 0.4_f64)] {
            let expected = -ln_normal(0.3, 0.3 + error, log_variance.exp());
            assert!((density(error, log_variance).0 - expected).abs() < 1e-14);
            assert_derivative("density", log_variance, |l| density(error, l));
        }
    }
}
