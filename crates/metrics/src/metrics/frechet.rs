//! Fréchet distance.
//!
//! ```text
//! d² = |m_1 − m_2|² + tr(Σ_1 + Σ_2 − 2 (Σ_1^{1/2} Σ_2 Σ_1^{1/2})^{1/2})
//! ```
//!
//! With factors `Σ_i = L_i L_iᵀ` the last trace is the sum of the singular values of `L_1ᵀ L_2`, whose squares are the eigenvalues of the smaller of
//! `M Mᵀ` and `Mᵀ M`. Factors of a singular covariance have fewer columns, so nothing is inverted, regularised or complex.

use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::error::MetricError;
use crate::moments::{Moments, Statistics};
use crate::symmetric::{eigenvalues, factor};
use crate::vectors::Vectors;

/// Fréchet distance between Gaussians of the sets' means and covariances (Dowson & Landau 1982, eq. 4; of Inception features it is the FID of
/// Heusel et al. 2017, eq. 6). It is a squared distance, as is the custom.
///
/// - **Range**: `≥ 0`, in the squared unit of the features; 0 if means and covariances agree.
/// - **Bias**: upwards, by about a constant over `N` that depends on the model (Chong & Forsyth 2020): compare only at equal `N`.
/// - **Sample size**: well above `D`: the custom for `D = 2048` is 50,000. With fewer samples than features covariances are singular; the value is
///   still that of the formula, to about `10⁻⁶` of the trace, or `10⁻⁴` if the covariance was kept in single precision, but the bias is large.
/// - **Cannot see**: anything beyond the first two moments.
/// - **Cost**: `(N + M) D² + 5 D³`; memory `40 D²` bytes, so that `D` is at most [`Moments::MOST`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Frechet {}

impl Frechet {
    /// The squared distance between sets `[N, ...]` and `[M, ...]`.
    ///
    /// # Errors
    /// When a set has fewer than two rows or a number that is not finite; when the widths differ or are above [`Moments::MOST`].
    pub fn estimate(&self, real: &Tensor, generated: &Tensor) -> Result<f64, MetricError> {
        let (x, y) = Vectors::pair(real, generated)?;
        Moments::check(x.width())?;
        x.at_least("real", 2, "a covariance")?;
        y.at_least("generated", 2, "a covariance")?;
        let statistics = |x: &Vectors| {
            let mut moments = Moments::new(x.width());
            moments.add_vectors(x);
            moments.statistics()
        };
        Frechet::between(&statistics(&x)?, &statistics(&y)?)
    }

    /// The squared distance between two laws of which mean and covariance are known. A covariance may be singular, and may have been rounded to
    /// single precision since, as in files of other tools: what rounding has made of its zero eigenvalues counts as 0.
    ///
    /// # Errors
    /// When the widths differ or are above [`Moments::MOST`], the names of the features are known and differ, or a covariance is not positive
    /// semi-definite.
    pub fn between(real: &Statistics, generated: &Statistics) -> Result<f64, MetricError> {
        let n = real.mean().len();
        if n != generated.mean().len() {
            let (first_width, second_width) = (n, generated.mean().len());
            return Err(MetricError::Widths { first: "real", first_width, second: "generated", second_width });
        }
        Moments::check(n)?;
        if let (Some(first_space), Some(second_space)) = (real.space(), generated.space())
            && first_space != second_space
        {
            let (first_space, second_space) = (first_space.to_owned(), second_space.to_owned());
            return Err(MetricError::Spaces { first: "real", first_space, second: "generated", second_space });
        }
        let of = |s: &Statistics, set: &str| {
            factor(s.covariance(), n).map_err(|pivot| MetricError::Degenerate {
                what: format!("the {set} covariance"),
                found: format!("not positive semi-definite (a pivot of {pivot:e})"),
                expected: "a covariance".into(),
            })
        };
        let (a, b) = (of(real, "real")?, of(generated, "generated")?);
        let means: f64 = real.mean().iter().zip(generated.mean()).map(|(a, b)| (a - b).powi(2)).sum();
        let trace = |s: &Statistics| (0..n).map(|i| s.covariance()[i * n + i]).sum::<f64>();
        let traces = trace(real) + trace(generated);
        let mut roots = 0.0;
        let rank = a.dim(1).min(b.dim(1));
        if rank > 0 {
            let m = a.matmul_tn(&b);
            // Each is D² numbers.
            drop((a, b));
            let gram = if m.dim(0) == rank { m.matmul_nt(&m) } else { m.matmul_tn(&m) };
            drop(m);
            roots = eigenvalues(gram.to_vec(), rank).into_iter().map(|v| v.max(0.0).sqrt()).sum();
        }
        // Rounding may leave less than nothing between equal laws.
        Ok((means + traces - 2.0 * roots).max(0.0))
    }
}

impl Metric for Frechet {
    fn scores(&self, real: &Tensor, generated: &Tensor, _seed: u64) -> Result<Vec<Score>, MetricError> {
        Ok(vec![Score::new("frechet", self.estimate(real, generated)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;
    use fokker_tensor::Dtype;

    fn diagonal(mean: &[f64], variances: &[f64]) -> Statistics {
        let n = mean.len();
        let covariance = (0..n * n).map(|k| if k / n == k % n { variances[k / n] } else { 0.0 }).collect();
        Statistics::new(mean.to_vec(), covariance, None).unwrap()
    }

    #[test]
    fn gaussians_that_commute_have_the_closed_form() {
        // Σ (m − n)² + Σ (√a − √b)².
        let a = diagonal(&[0.0, 1.0, -2.0], &[1.0, 4.0, 0.25]);
        let b = diagonal(&[0.5, 1.0, 0.0], &[9.0, 4.0, 1.0]);
        assert!((Frechet::between(&a, &b).unwrap() - (0.25 + 4.0 + 4.0 + 0.25)).abs() < 1e-12);
    }

    #[test]
    fn gaussians_that_do_not_commute_have_the_closed_form() {
        // In two dimensions tr(M^{1/2}) = √(tr M + 2 √det M), M = Σ_1 Σ_2.
        let (a, b) = ([2.0, 0.7, 0.7, 1.0], [1.0, -0.4, -0.4, 3.0]);
        let product_trace = a[0] * b[0] + a[1] * b[2] + a[2] * b[1] + a[3] * b[3];
        let det = (a[0] * a[3] - a[1] * a[2]) * (b[0] * b[3] - b[1] * b[2]);
        let expected = 7.0 - 2.0 * f64::sqrt(product_trace + 2.0 * f64::sqrt(det));
        let of = |c: [f64; 4]| Statistics::new(vec![0.0; 2], c.to_vec(), None).unwrap();
        assert!((Frechet::between(&of(a), &of(b)).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn singular_covariances_are_no_obstacle() {
        let a = diagonal(&[0.0; 4], &[1.0, 0.0, 4.0, 0.0]);
        let b = diagonal(&[0.0; 4], &[4.0, 9.0, 0.0, 0.0]);
        assert!((Frechet::between(&a, &b).unwrap() - (1.0 + 9.0 + 4.0)).abs() < 1e-12);
        // Ten vectors in forty dimensions, against the same in other words: a rotation moves both alike.
        let (x, y) = (normal(10, 40, 1), &normal(12, 40, 2) + 0.3);
        let distance = Frechet {}.estimate(&x, &y).unwrap();
        let u = normal(1, 40, 3);
        let reflect = |x: &Tensor| x - &(&x.matmul_nt(&u).matmul(&u) * (2.0 / u.square().sum_all().item()));
        let moved = Frechet {}.estimate(&reflect(&x), &reflect(&y)).unwrap();
        assert!((distance / moved - 1.0).abs() < 1e-12, "{distance} and {moved}");
        assert!(Frechet {}.estimate(&x, &x).unwrap() < 1e-12);
        // Constant features: only the means are left.
        let c = Tensor::ones(&[5, 3], Dtype::F32);
        assert_eq!(Frechet {}.estimate(&c, &(&c + 2.0)).unwrap(), 12.0);
    }

    #[test]
    fn singular_covariances_that_were_rounded_to_single_precision_have_nearly_the_same_distance() {
        // Fewer vectors than features, as someone may have kept them: one of the two rounded, or both.
        let of = |n, seed, shift| {
            let x = &normal(n, 120, seed) + shift;
            let statistics = Moments::of(&x).unwrap().statistics().unwrap();
            let narrow = |values: &[f64]| values.iter().map(|&v| f64::from(v as f32)).collect::<Vec<f64>>();
            let rounded = Statistics::new(narrow(statistics.mean()), narrow(statistics.covariance()), None).unwrap();
            (statistics, rounded)
        };
        for (n, m) in [(20, 30), (60, 300), (119, 121)] {
            let ((x, narrow_x), (y, narrow_y)) = (of(n, 1, 0.0), of(m, 2, 0.2));
            let trace: f64 = (0..120).map(|i| x.covariance()[121 * i]).sum();
            let exact = Frechet::between(&x, &y).unwrap();
            for (a, b) in [(&narrow_x, &y), (&x, &narrow_y), (&narrow_x, &narrow_y)] {
                let found = Frechet::between(a, b).unwrap();
                assert!((found - exact).abs() < 1e-4 * trace, "{n}, {m}: {found}, exactly {exact}, trace {trace}");
            }
            assert!(Frechet::between(&narrow_x, &narrow_x).unwrap() < 1e-3 * trace);
        }
    }

    #[test]
    fn features_of_two_networks_are_refused_where_their_names_are_known() {
        let with = |name: Option<&str>| {
            let statistics = diagonal(&[0.0; 2], &[1.0, 1.0]);
            name.map_or(statistics.clone(), |name| statistics.of_space(name))
        };
        let error = Frechet::between(&with(Some("a-1")), &with(Some("a-2"))).unwrap_err().to_string();
        assert_eq!(error, "the real set has features of a-1, the generated set of a-2: they do not compare");
        for (a, b) in [(None, Some("a")), (Some("a"), None), (Some("a"), Some("a"))] {
            assert_eq!(Frechet::between(&with(a), &with(b)).unwrap(), 0.0);
        }
    }

    #[test]
    fn what_is_no_covariance_is_refused() {
        let bad = Statistics::new(vec![0.0; 2], vec![1.0, 2.0, 2.0, 1.0], None).unwrap();
        let good = diagonal(&[0.0; 2], &[1.0, 1.0]);
        let error = Frechet::between(&good, &bad).unwrap_err().to_string();
        assert!(error.starts_with("the generated covariance is not positive semi-definite"), "{error}");
        assert!(Frechet::between(&good, &diagonal(&[0.0], &[1.0])).is_err());
        assert!(Frechet {}.estimate(&normal(1, 2, 1), &normal(5, 2, 2)).is_err());
    }
}
