//! Kernel distance.
//!
//! ```text
//! KID = E k(x, x') + E k(y, y') − 2 E k(x, y),     k(x, y) = (x·y/D + 1)³
//! ```

use fokker_tensor::noise::stream;
use fokker_tensor::{Noise, Tensor};
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::draws::subset;
use crate::error::MetricError;
use crate::pairs::Form;
use crate::two_sample::{Sums, kernel_sums, two_of_each};
use crate::vectors::Vectors;

/// Kernel distance with a cubic polynomial kernel (Bińkowski et al. 2018, "Demystifying MMD GANs", section 4; of Inception features the KID): the mean
/// over random subsets of the unbiased squared maximum mean discrepancy.
///
/// - **Range**: the law's value is `≥ 0`, estimates scatter around 0 under the null; the unit is the kernel's.
/// - **Bias**: none, at any size: values at different sizes compare.
/// - **Sample size**: a thousand is of use. The standard error is the spread over subsets over the root of their number; subsets overlap, so it is
///   too small where they take much of the sets, and 0 where they take all.
/// - **Cannot see**: differences beyond the third moments. Features should be centred and scaled alike; constants add to `k` only.
/// - **Cost**: `S (2 s)²/2` products, `O(D)` each, for `S` subsets of `s`; memory `O(s D)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KernelDistance {
    /// The number of random subsets, at least 2.
    pub subsets: usize,
    /// Vectors of each set in a subset; all of a smaller set.
    pub subset_size: usize,
}

impl Default for KernelDistance {
    fn default() -> Self {
        KernelDistance { subsets: 100, subset_size: 1000 }
    }
}

/// What [`KernelDistance`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanKernelDistance {
    /// The mean over subsets.
    pub distance: f64,
    /// Its standard error.
    pub error: f64,
    /// Of each subset.
    pub values: Vec<f64>,
}

impl KernelDistance {
    /// The kernel distance of `[N, ...]` and `[M, ...]` over random subsets.
    ///
    /// # Errors
    /// When a set has fewer than two rows or a number that is not finite; when the widths differ; when there are fewer than two subsets, or
    /// they have fewer than two vectors.
    pub fn estimate(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<MeanKernelDistance, MetricError> {
        let (x, y) = Vectors::pair(real, generated)?;
        two_of_each(&x, &y)?;
        if self.subsets < 2 {
            return Err(MetricError::config("subsets", self.subsets, "at least 2, for a standard error"));
        }
        if self.subset_size < 2 {
            return Err(MetricError::config("subset_size", self.subset_size, "at least 2"));
        }
        let noise = Noise::new(seed, stream("kernel-d"));
        let some = |x: &Vectors, number: u64| {
            x.gather(subset(noise, number, x.rows(), self.subset_size.min(x.rows())).into_iter(), None)
        };
        let values = (0..self.subsets as u64)
            .map(|i| {
                let (a, b) = (some(&x, 2 * i), some(&y, 2 * i + 1));
                Ok(unbiased(&Vectors::new("real", &a)?, &Vectors::new("generated", &b)?))
            })
            .collect::<Result<Vec<f64>, MetricError>>()?;
        let n = values.len() as f64;
        let distance = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - distance).powi(2)).sum::<f64>() / (n - 1.0);
        Ok(MeanKernelDistance { distance, error: (variance / n).sqrt(), values })
    }

    /// The unbiased estimate from all pairs of `[N, ...]` and `[M, ...]`: `(N + M)²/2` products.
    ///
    /// # Errors
    /// When a set has fewer than two rows or a number that is not finite; when the widths differ.
    pub fn whole(real: &Tensor, generated: &Tensor) -> Result<f64, MetricError> {
        let (x, y) = Vectors::pair(real, generated)?;
        two_of_each(&x, &y)?;
        Ok(unbiased(&x, &y))
    }
}

fn unbiased(x: &Vectors, y: &Vectors) -> f64 {
    let scale = 1.0 / x.width() as f64;
    let sums = kernel_sums(x, y, Form::Product, |product| (scale * product + 1.0).powi(3), 0, Noise::new(0, 0));
    Sums::unbiased(&sums[0])
}

impl Metric for KernelDistance {
    fn scores(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<Vec<Score>, MetricError> {
        let found = self.estimate(real, generated, seed)?;
        Ok(vec![Score::with_error("kernel-distance", found.distance, found.error)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn a_shift_of_a_gaussian_has_the_closed_form() {
        // One dimension, x ~ N(0, 1), y ~ N(δ, 1): with u = xy, E (u + 1)³ = E u³ + 3 E u² + 3 E u + 1 from moments.
        let delta = 0.7f64;
        let moments = |m: f64| [m, m * m + 1.0, m.powi(3) + 3.0 * m];
        let mean = |a: f64, b: f64| {
            let (a, b) = (moments(a), moments(b));
            a[2] * b[2] + 3.0 * a[1] * b[1] + 3.0 * a[0] * b[0] + 1.0
        };
        let expected = mean(0.0, 0.0) + mean(delta, delta) - 2.0 * mean(0.0, delta);
        let sets = 12;
        let values: Vec<f64> = (0..sets)
            .map(|i| KernelDistance::whole(&normal(1500, 1, i), &(&normal(1300, 1, 100 + i) + delta)).unwrap())
            .collect();
        let found = values.iter().sum::<f64>() / sets as f64;
        let error = (values.iter().map(|v| (v - found).powi(2)).sum::<f64>() / (sets * (sets - 1)) as f64).sqrt();
        assert!((found - expected).abs() < 3.5 * error && error < 0.1 * expected, "{found} ± {error}, expected {expected}");
    }

    #[test]
    fn subsets_are_unbiased_and_their_standard_error_is_of_use() {
        let (x, y) = (normal(2000, 6, 1), &normal(2000, 6, 2) * 1.1);
        let metric = KernelDistance { subsets: 60, subset_size: 100 };
        let found = metric.estimate(&x, &y, 3).unwrap();
        let whole = KernelDistance::whole(&x, &y).unwrap();
        assert!((found.distance - whole).abs() < 3.5 * found.error, "{} ± {}, whole {whole}", found.distance, found.error);
        assert_ne!(found.values, metric.estimate(&x, &y, 4).unwrap().values);
    }
}
