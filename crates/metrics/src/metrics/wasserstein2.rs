//! Exact Wasserstein-2 distance.
//!
//! ```text
//! W_2² = min_π 1/N Σ_i |x_i − y_{π(i)}|²     over permutations π
//! ```

use fokker_tensor::noise::stream;
use fokker_tensor::{Noise, Tensor};
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::assignment::assign;
use crate::draws::subset;
use crate::error::MetricError;
use crate::pairs::{Form, Pairs};
use crate::vectors::Vectors;

/// The exact 2-Wasserstein distance between equally many vectors (Villani 2009, "Optimal transport", definition 6.1; between empirical
/// laws of one size the coupling is a permutation), by the assignment problem.
///
/// - **Range**: `≥ 0`, in the data's unit; 0 for equal laws only.
/// - **Bias**: upwards, by about `N^(−1/D)` for `D > 4` (Weed & Bach 2019): two sets of one law are far apart in high dimensions. Compare
///   with two real sets of the same size.
/// - **Sample size**: hundreds in the plane; each halving of the bias takes `2ᴰ` times as many, so that above some ten dimensions 2,000 tell gross
///   differences only ([`SlicedWasserstein`](super::SlicedWasserstein) does not need more in higher dimensions).
/// - **Cannot see**: anything of the scale of the bias.
/// - **Cost**: `N² D`, and up to `N³` for the assignment; memory `8 N²` bytes, 32 MB for 2,000.
///
/// As one metric of the list it takes `points` random rows of each set where there are more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wasserstein2 {
    /// The most rows to take of each set, up to [`MOST`](Self::MOST).
    pub points: usize,
}

impl Default for Wasserstein2 {
    fn default() -> Self {
        Wasserstein2 { points: Self::MOST }
    }
}

/// What [`Wasserstein2`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Transport {
    /// `W_2`.
    pub distance: f64,
    /// For each real vector the generated one that it is moved to.
    pub matching: Vec<usize>,
    /// What the dual problem's prices prove that `W_2` is at least: the distance, up to rounding.
    pub bound: f64,
}

impl Wasserstein2 {
    /// The most rows that are matched.
    pub const MOST: usize = 2000;

    /// The distance between equally many vectors, `[N, ...]` each, `N ≤ 2000`.
    ///
    /// # Errors
    /// When a set is empty or has a number that is not finite; when the widths differ, the sizes differ or are above 2,000.
    pub fn exact(real: &Tensor, generated: &Tensor) -> Result<Transport, MetricError> {
        let (x, y) = Vectors::pair(real, generated)?;
        let n = x.rows();
        if n != y.rows() || n > Self::MOST {
            let expected = format!("equally many, at most {}", Self::MOST);
            return Err(MetricError::Sizes { real: n, generated: y.rows(), expected });
        }
        let tiles = Pairs::across(&x, &y, Form::SquaredDistance)
            .fold(Vec::new, |tiles, tile| tiles.push((tile.first_row, tile.first_col, tile.cols, tile.values.to_vec())));
        let mut cost = vec![0.0; n * n];
        for (first_row, first_col, cols, values) in tiles.into_iter().flatten() {
            for (i, row) in values.chunks_exact(cols).enumerate() {
                cost[(first_row + i) * n + first_col..][..cols].copy_from_slice(row);
            }
        }
        let found = assign(&cost, n);
        let total: f64 = found.columns.iter().enumerate().map(|(i, &j)| cost[i * n + j].max(0.0)).sum();
        let dual: f64 = found.row_prices.iter().chain(&found.column_prices).sum();
        let root = |total: f64| (total.max(0.0) / n as f64).sqrt();
        Ok(Transport { distance: root(total), matching: found.columns, bound: root(dual) })
    }

    /// The distance between as many rows of each set as both have, at most `points`; which rows follows from the seed where there are
    /// more.
    ///
    /// # Errors
    /// As [`exact`](Self::exact), but for the sizes; when `points` is 0 or above 2,000.
    pub fn estimate(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<Transport, MetricError> {
        if self.points == 0 || self.points > Self::MOST {
            return Err(MetricError::config("points", self.points, format!("1 to {}", Self::MOST)));
        }
        let (x, y) = Vectors::pair(real, generated)?;
        let n = self.points.min(x.rows()).min(y.rows());
        let some = |x: &Vectors, number| {
            let mut rows = subset(Noise::new(seed, stream("wasserst")), number, x.rows(), n);
            rows.sort_unstable();
            x.gather(rows.into_iter(), None)
        };
        Wasserstein2::exact(&some(&x, 0), &some(&y, 1))
    }
}

impl Metric for Wasserstein2 {
    fn scores(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<Vec<Score>, MetricError> {
        Ok(vec![Score::new("wasserstein-2", self.estimate(real, generated, seed)?.distance)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn a_shifted_cloud_is_the_shift_away() {
        let x = normal(300, 4, 1);
        let y = &x + &Tensor::from_vec(&[1, 4], vec![0.2, -0.1, 0.2, 0.0]);
        let rows: Vec<f64> = y.to_vec::<f64>().chunks(4).rev().flatten().copied().collect();
        let found = Wasserstein2::exact(&x, &Tensor::from_vec(&[300, 4], rows)).unwrap();
        assert!((found.distance - 0.3).abs() < 1e-12 && (found.bound - 0.3).abs() < 1e-12, "{found:?}");
        assert!(found.matching.iter().enumerate().all(|(i, &j)| j == 299 - i));
    }

    #[test]
    fn on_a_line_it_is_the_distance_of_quantiles() {
        let (x, y) = (normal(500, 1, 1), &normal(500, 1, 2) * 1.7);
        let along = super::super::SlicedWasserstein::default();
        let one = along.along(&x, &y, &Tensor::from_vec(&[1, 1], vec![1.0f64])).unwrap().distance;
        assert!((Wasserstein2::exact(&x, &y).unwrap().distance - one).abs() < 1e-12);
    }

    #[test]
    fn sizes_must_agree_and_be_within_reach() {
        let error = Wasserstein2::exact(&normal(5, 2, 1), &normal(6, 2, 1)).unwrap_err().to_string();
        assert_eq!(error, "the sets have 5 and 6 rows, expected equally many, at most 2000");
        assert!(Wasserstein2::exact(&normal(2001, 1, 1), &normal(2001, 1, 1)).is_err());
        let x = normal(2500, 1, 1);
        assert_eq!(Wasserstein2 { points: 40 }.estimate(&x, &x, 1).unwrap().matching.len(), 40);
        assert!(Wasserstein2 { points: 2001 }.estimate(&x, &x, 1).is_err());
    }
}
