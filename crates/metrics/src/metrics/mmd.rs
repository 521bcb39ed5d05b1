//! Maximum mean discrepancy.
//!
//! ```text
//! MMD² = E k(x, x') + E k(y, y') − 2 E k(x, y),     k(x, y) = exp(−|x − y|²/(2 h²))
//! ```

use fokker_tensor::noise::stream;
use fokker_tensor::{Noise, Tensor};
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::error::MetricError;
use crate::pairs::Form;
use crate::two_sample::{Sums, kernel_sums, median_distance, p_value, two_of_each};
use crate::vectors::Vectors;

/// Maximum mean discrepancy with a Gaussian kernel (Gretton et al. 2012, "A kernel two-sample test", eq. 3), its bandwidth by default the
/// median distance within the pooled sets (their section 8), with a permutation test of equal laws.
///
/// - **Range**: `[0, 2]` for the law's value, unbiased estimates scatter around 0 under the null; no unit.
/// - **Bias**: none in the unbiased estimate (for a fixed bandwidth; the median is of the data itself). The biased one is too large by
///   about `(1/N + 1/M)(1 − E k)`.
/// - **Sample size**: tens for gross differences, thousands for subtle ones.
/// - **Cannot see**: structure much finer or coarser than `h`. Values at different bandwidths do not compare: state `h`.
/// - **Cost**: `(N + M)²/2` distances, `O(D + P)` each with `P` permutations, and as many again two or three times for the median; memory
///   `O((N + M) P)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mmd {
    /// The kernel's standard deviation `h`, in the data's unit; the median distance if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<f64>,
    /// Random splits for the p-value; 0 for none.
    pub permutations: usize,
}

impl Default for Mmd {
    fn default() -> Self {
        Mmd { bandwidth: None, permutations: 200 }
    }
}

/// What [`Mmd`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanDiscrepancy {
    /// `MMD²` without bias.
    pub unbiased: f64,
    /// `MMD²` between the empirical laws.
    pub biased: f64,
    /// The kernel's standard deviation.
    pub bandwidth: f64,
    /// The share of splits, this one counted, with at least this `MMD²`: never 0.
    pub p_value: Option<f64>,
}

impl Mmd {
    /// The discrepancy between `[N, ...]` and `[M, ...]`.
    ///
    /// # Errors
    /// When a set has fewer than two rows or a number that is not finite; when the widths differ; when the bandwidth is not positive, or
    /// more than half of all distances are 0 and it was to be their median.
    pub fn estimate(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<MeanDiscrepancy, MetricError> {
        let (x, y) = Vectors::pair(real, generated)?;
        two_of_each(&x, &y)?;
        let h = match self.bandwidth {
            Some(h) if h > 0.0 && h.is_finite() => h,
            Some(h) => return Err(MetricError::config("bandwidth", h, "a positive number")),
            None => median_distance(&Vectors::pooled(&x, &y)),
        };
        if h == 0.0 {
            return Err(MetricError::Degenerate {
                what: "the median distance".into(),
                found: "0: at least half of the pairs are equal".into(),
                expected: "features that vary, or a bandwidth".into(),
            });
        }
        let noise = Noise::new(seed, stream("mmd"));
        let rate = -0.5 / (h * h);
        let sums = kernel_sums(&x, &y, Form::SquaredDistance, |d2| (rate * d2).exp(), self.permutations, noise);
        let statistics: Vec<f64> = sums.iter().map(Sums::unbiased).collect();
        Ok(MeanDiscrepancy {
            unbiased: statistics[0],
            biased: sums[0].biased(1.0),
            bandwidth: h,
            p_value: (self.permutations > 0).then(|| p_value(&statistics)),
        })
    }
}

impl Metric for Mmd {
    fn scores(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<Vec<Score>, MetricError> {
        let found = self.estimate(real, generated, seed)?;
        let mut scores = vec![Score::new("mmd", found.unbiased), Score::new("mmd-bandwidth", found.bandwidth)];
        scores.extend(found.p_value.map(|p| Score::new("mmd-p-value", p)));
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;
    use fokker_tensor::Dtype;

    #[test]
    fn two_gaussians_have_the_closed_form() {
        // x ~ N(0, I), y ~ N(μ, I) in D dimensions: E k = (h²/(h² + 2))^{D/2} exp(−|μ|²/(2 (h² + 2))).
        let (n, width, h, shift) = (1500, 3, 1.5f64, 0.5f64);
        let (h2, mu2) = (h * h, width as f64 * shift * shift);
        let same = (h2 / (h2 + 2.0)).powf(width as f64 / 2.0);
        let expected = 2.0 * same * (1.0 - (-mu2 / (2.0 * (h2 + 2.0))).exp());
        let metric = Mmd { bandwidth: Some(h), permutations: 0 };
        let values: Vec<f64> = (0..10)
            .map(|seed| metric.estimate(&normal(n, width, seed), &(&normal(n, width, seed + 50) + shift), 0).unwrap().unbiased)
            .collect();
        let mean = values.iter().sum::<f64>() / 10.0;
        let error = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 90.0).sqrt();
        assert!((mean - expected).abs() < 3.5 * error && error < 0.05 * expected, "{mean} ± {error}, expected {expected}");
    }

    #[test]
    fn a_set_with_itself_is_at_zero_and_a_shift_is_found() {
        let x = normal(200, 2, 1);
        let metric = Mmd { permutations: 99, ..Mmd::default() };
        let same = metric.estimate(&x, &x, 0).unwrap();
        assert!(same.biased.abs() < 1e-13 && same.unbiased < 0.0 && same.p_value.unwrap() > 0.9);
        let far = metric.estimate(&x, &(&x + 1e4), 0).unwrap();
        assert_eq!(far.p_value, Some(0.01));
    }

    #[test]
    fn constant_features_have_no_median_distance() {
        let x = Tensor::ones(&[20, 3], Dtype::F32);
        let error = Mmd::default().estimate(&x, &x, 0).unwrap_err().to_string();
        assert!(error.starts_with("the median distance is 0"), "{error}");
        assert_eq!(Mmd { bandwidth: Some(1.0), permutations: 0 }.estimate(&x, &x, 0).unwrap().unbiased, 0.0);
        assert!(Mmd { bandwidth: Some(0.0), permutations: 0 }.estimate(&x, &x, 0).is_err());
    }
}
