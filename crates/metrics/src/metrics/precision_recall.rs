//! Improved precision and recall.
//!
//! ```text
//! manifold(Φ) = ∪_{φ ∈ Φ} B(φ, NND_k(φ)),     NND_k: the distance to the k-th nearest other vector of Φ
//! precision = 1/M Σ_j 1[g_j ∈ manifold(real)]
//! recall    = 1/N Σ_i 1[r_i ∈ manifold(generated)]
//! ```

use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::balls::{Balls, Count, share};
use crate::error::MetricError;
use crate::manifold::Manifold;
use crate::vectors::Vectors;

/// Improved precision and recall (Kynkäänniemi et al. 2019, "Improved precision and recall metric for assessing generative models",
/// eqs. 1–3).
///
/// - **Range**: both in `[0, 1]`, higher is better. Two sets of one law do not reach 1: they share about 0.6–0.9, depending on `k` and the
///   dimension, so compare with the value of two real sets.
/// - **Bias**: both grow with the sizes; compare only at equal `N`, `M` and `k`.
/// - **Sample size**: the paper uses `k = 3` and 50,000 of each; below about 1,000 the manifold's estimate is coarse. At least `k + 1` of each.
/// - **Cannot see**: densities (a collapse within the support's parts, weights of modes), and it trusts outliers: one stray vector has
///   a huge ball ([`DensityCoverage`](super::DensityCoverage) is less sensitive).
/// - **Cost**: `N²/2 + M²/2 + N M` distances, `O(D)` each; memory `O(k (N + M))`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrecisionRecall {
    /// The neighbour whose distance is a ball's radius.
    pub k: usize,
}

impl Default for PrecisionRecall {
    fn default() -> Self {
        PrecisionRecall { k: 3 }
    }
}

/// What [`PrecisionRecall`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct PrecisionAndRecall {
    /// The share of generated vectors in the real manifold.
    pub precision: f64,
    /// The share of real vectors in the generated manifold.
    pub recall: f64,
    /// For each generated vector, whether it is in the real manifold.
    pub precise: Vec<bool>,
    /// For each real vector, whether it is in the generated manifold.
    pub recalled: Vec<bool>,
}

impl PrecisionRecall {
    /// Precision and recall of generated vectors `[M, ...]` beside real ones `[N, ...]`.
    ///
    /// # Errors
    /// When a set is empty, has a number that is not finite or at most `k` rows; when the widths differ; when `k` is 0.
    pub fn estimate(&self, real: &Tensor, generated: &Tensor) -> Result<PrecisionAndRecall, MetricError> {
        Vectors::pair(real, generated)?;
        self.between(&Manifold::real(real, self.k)?, &Manifold::generated(generated, self.k)?)
    }

    /// The same of sets whose neighbours are known, at least `k` of each vector: `N M` distances.
    ///
    /// # Errors
    /// When the widths differ or `k` is 0.
    ///
    /// # Panics
    /// When a set's vectors have fewer neighbours than `k`.
    #[track_caller]
    pub fn between(&self, real: &Manifold, generated: &Manifold) -> Result<PrecisionAndRecall, MetricError> {
        let y = generated.vectors();
        let x = real.vectors_beside(&y, "generated")?;
        let (of_real, of_generated) = (real.squared_radii(self.k)?, generated.squared_radii(self.k)?);
        Ok(PrecisionAndRecall::of(Count::new(&of_real, Some(&of_generated), y.rows()).over(&x, &y)))
    }
}

impl PrecisionAndRecall {
    pub(crate) fn of(balls: Balls) -> PrecisionAndRecall {
        let precise: Vec<bool> = balls.holding.iter().map(|&n| n > 0).collect();
        PrecisionAndRecall {
            precision: share(precise.iter().copied()),
            recall: share(balls.held.iter().copied()),
            precise,
            recalled: balls.held,
        }
    }
}

impl Metric for PrecisionRecall {
    fn scores(&self, real: &Tensor, generated: &Tensor, _seed: u64) -> Result<Vec<Score>, MetricError> {
        let found = self.estimate(real, generated)?;
        Ok(vec![Score::new("precision", found.precision), Score::new("recall", found.recall)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;
    use fokker_tensor::Dtype;

    #[test]
    fn a_line_is_counted_by_hand() {
        // k = 1: the radii of 0, 1, 10, 12 are 1, 1, 2, 2.
        let real = Tensor::from_vec(&[4, 1], vec![0.0, 1.0, 10.0, 12.0]);
        // Radii 4, 4, 9.
        let generated = Tensor::from_vec(&[3, 1], vec![1.5, 5.5, 14.5f64]);
        let found = PrecisionRecall { k: 1 }.estimate(&real, &generated).unwrap();
        assert_eq!(found.precise, [true, false, false]);
        // 10 and 12 are held by the ball around 14.5.
        assert_eq!(found.recalled, [true, true, true, true]);
        let found = PrecisionRecall { k: 1 }.estimate(&real, &Tensor::from_vec(&[2, 1], vec![11.0, 11.6f64])).unwrap();
        assert_eq!((found.precision, found.recall), (1.0, 0.25));
    }

    #[test]
    fn identical_sets_have_both_and_distant_ones_neither() {
        let x = normal(500, 8, 1);
        let same = PrecisionRecall::default().estimate(&x, &x).unwrap();
        assert_eq!((same.precision, same.recall), (1.0, 1.0));
        let far = PrecisionRecall::default().estimate(&x, &(&x + 1e3)).unwrap();
        assert_eq!((far.precision, far.recall), (0.0, 0.0));
    }

    #[test]
    fn recall_falls_with_dropped_modes_and_precision_with_invented_ones() {
        // Four modes on a line, of equal weight.
        let modes = |n: usize, of: usize, seed| {
            let shift: Vec<f64> = (0..n).flat_map(|i| [50.0 * (i % of) as f64, 0.0]).collect();
            &normal(n, 2, seed) + &Tensor::from_vec(&[n, 2], shift)
        };
        let (four, two) = (modes(2000, 4, 1), modes(2000, 2, 2));
        let dropped = PrecisionRecall::default().estimate(&four, &two).unwrap();
        let invented = PrecisionRecall::default().estimate(&two, &four).unwrap();
        assert!(dropped.precision > 0.9 && (dropped.recall - 0.5).abs() < 0.05, "{} {}", dropped.precision, dropped.recall);
        assert!((invented.precision - 0.5).abs() < 0.05 && invented.recall > 0.9);
        assert_eq!((dropped.precise, dropped.recalled), (invented.recalled, invented.precise));
    }

    #[test]
    fn no_more_neighbours_than_there_are() {
        let (x, y) = (normal(4, 2, 1), normal(3, 2, 2));
        let error = PrecisionRecall { k: 3 }.estimate(&x, &y).unwrap_err();
        let expected = "the generated set has 3 rows, expected at least 4 (3 neighbours of each among the others)";
        assert_eq!(error.to_string(), expected);
        assert!(PrecisionRecall { k: 0 }.estimate(&x, &y).is_err());
    }

    #[test]
    fn constant_features_are_one_point() {
        let x = Tensor::full(&[300, 4], 2.0, Dtype::F32);
        let found = PrecisionRecall::default().estimate(&x, &x).unwrap();
        assert_eq!((found.precision, found.recall), (1.0, 1.0));
        let found = PrecisionRecall::default().estimate(&x, &(&x + 1e-3)).unwrap();
        assert_eq!((found.precision, found.recall), (0.0, 0.0));
    }
}
