//! Vendi score.
//!
//! ```text
//! K_ij = x_i·x_j/(|x_i||x_j|),     λ the eigenvalues of K/N,     V_1 = exp(−Σ λ ln λ),     V_q = (Σ λ^q)^{1/(1−q)}
//! ```
//!
//! `K/N` and the `D × D` matrix `1/N Σ_i x̂_i x̂_iᵀ` have the same eigenvalues but for zeros; the smaller one is taken.

use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::error::MetricError;
use crate::line::normalise;
use crate::pairs::dot;
use crate::symmetric::eigenvalues;
use crate::vectors::Vectors;

/// Vendi score with cosine similarity: the effective number of different vectors in a set (Friedman & Dieng 2023, "The Vendi score", definition 3.1;
/// other orders: Pasarkar & Dieng 2023, eq. 2). It looks at one set; the metric gives that of the generated one and, to compare with, of the real.
///
/// - **Range**: `[1, min(N, D)]`: 1 if all vectors are parallel, `N` if all are orthogonal.
/// - **Bias**: downwards, with fewer than several times `D` vectors; compare at equal `N`.
/// - **Sample size**: several times the score: a set cannot have more different vectors than it has vectors.
/// - **Cannot see**: lengths of vectors, densities, whether the diversity is real: noise is diverse. Features with a large common mean are all alike: use
///   features for which a cosine means something.
/// - **Cost**: `N D min(N, D)` and `4/3 min(N, D)³`; memory `8 min(N, D)²` bytes, and `8 N D` if `N < D`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vendi {
    /// The order `q > 0`; below 1 rare kinds weigh more, above common ones.
    pub order: f64,
}

impl Default for Vendi {
    fn default() -> Self {
        Vendi { order: 1.0 }
    }
}

/// Rows that are normalised and multiplied at once.
const CHUNK: usize = 1024;

impl Vendi {
    /// The score of one set `[N, ...]`.
    ///
    /// # Errors
    /// When the set is empty, has a number that is not finite or a row of zeros; when the order is not positive.
    pub fn estimate(&self, x: &Tensor) -> Result<f64, MetricError> {
        self.of("given", &Vectors::new("given", x)?)
    }

    fn of(&self, set: &str, x: &Vectors) -> Result<f64, MetricError> {
        if !(self.order > 0.0 && self.order.is_finite()) {
            return Err(MetricError::config("order", self.order, "a positive number"));
        }
        let (n, width) = (x.rows(), x.width());
        let scale = 1.0 / n as f64;
        let directions = |rows: std::ops::Range<usize>| -> Result<Tensor, MetricError> {
            let first = rows.start;
            let mut some = x.gather(rows, None);
            if let Some(i) = some.as_slice::<f64>().chunks_exact(width).position(|row| dot(row, row) == 0.0) {
                let (what, found) = (format!("row {} of the {set} set", first + i), "zero in every column".into());
                return Err(MetricError::Degenerate { what, found, expected: "a direction".into() });
            }
            some.update(|all: &mut [f64]| all.chunks_exact_mut(width).for_each(normalise));
            Ok(some)
        };
        let (matrix, size) = if n < width {
            let all = directions(0..n)?;
            (&all.matmul_nt(&all) * scale, n)
        } else {
            let mut sum = Tensor::zeros(&[width, width], fokker_tensor::Dtype::F64);
            for first in (0..n).step_by(CHUNK) {
                let some = directions(first..(first + CHUNK).min(n))?;
                sum = &sum + &(&some.matmul_tn(&some) * scale);
            }
            (sum, width)
        };
        let eigenvalues = eigenvalues(matrix.to_vec(), size);
        // What rounding makes of zero is not counted, nor what is below zero.
        let positive = eigenvalues.into_iter().filter(|&v| v > size as f64 * f64::EPSILON);
        Ok(if self.order == 1.0 {
            (-positive.map(|v| v * v.ln()).sum::<f64>()).exp()
        } else {
            positive.map(|v| v.powf(self.order)).sum::<f64>().powf(1.0 / (1.0 - self.order))
        })
    }
}

impl Metric for Vendi {
    fn scores(&self, real: &Tensor, generated: &Tensor, _seed: u64) -> Result<Vec<Score>, MetricError> {
        let (x, y) = Vectors::pair(real, generated)?;
        Ok(vec![Score::new("vendi", self.of("generated", &y)?), Score::new("vendi-real", self.of("real", &x)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;
    use fokker_tensor::Dtype;

    #[test]
    fn parallel_vectors_are_one_and_orthogonal_ones_as_many_as_they_are() {
        let parallel = Tensor::from_vec(&[3, 4], (1..=3).flat_map(|k| [1.0, 2.0, 0.0, -1.0].map(|v| v * k as f64)).collect());
        for order in [0.5, 1.0, 2.0] {
            let vendi = Vendi { order };
            assert!((vendi.estimate(&parallel).unwrap() - 1.0).abs() < 1e-6, "{order}");
            for (n, width) in [(5, 5), (5, 8), (15, 5)] {
                // Axes, each as often.
                let axes = (0..n * width).map(|k| f64::from(u8::from(k / width % 5 == k % width))).collect();
                let found = vendi.estimate(&Tensor::from_vec(&[n, width], axes)).unwrap();
                assert!((found - 5.0).abs() < 1e-9, "{n} × {width} at order {order}: {found}");
            }
        }
    }

    #[test]
    fn weights_of_two_directions_have_the_entropy_of_a_coin() {
        let data = [[1.0, 0.0]; 3].into_iter().chain([[0.0, 2.0]]).flatten().collect();
        let x = Tensor::from_vec(&[4, 2], data);
        let entropy = -(0.75f64 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
        assert!((Vendi::default().estimate(&x).unwrap() - entropy.exp()).abs() < 1e-12);
        assert!((Vendi { order: 2.0 }.estimate(&x).unwrap() - 1.6).abs() < 1e-12);
    }

    #[test]
    fn both_matrices_give_the_same_score_and_dropped_modes_lower_it() {
        let x = normal(60, 61, 1);
        let tall = Tensor::concat(&[&x, &x], 0);
        let (a, b) = (Vendi::default().estimate(&x).unwrap(), Vendi::default().estimate(&tall).unwrap());
        assert!((a / b - 1.0).abs() < 1e-10, "{a} and {b}");
        let modes = |of: usize| {
            let centres = normal(10, 50, 2);
            let rows: Vec<usize> = (0..400).map(|i| i % of).collect();
            &(&centres.gather(&rows) * 3.0) + &(&normal(400, 50, 3) * 0.05)
        };
        assert!(Vendi::default().estimate(&modes(10)).unwrap() > 2.0 * Vendi::default().estimate(&modes(4)).unwrap());
    }

    #[test]
    fn a_row_of_zeros_has_no_direction() {
        let mut x = normal(5, 3, 1);
        x.update(|v: &mut [f64]| v[6..9].fill(0.0));
        let error = Vendi::default().scores(&normal(5, 3, 2), &x, 0).unwrap_err().to_string();
        assert_eq!(error, "row 2 of the generated set is zero in every column, expected a direction");
        assert!(Vendi { order: 0.0 }.estimate(&Tensor::ones(&[2, 2], Dtype::F32)).is_err());
    }
}
