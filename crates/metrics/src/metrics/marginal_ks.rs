//! Kolmogorov–Smirnov distances of the marginals.
//!
//! ```text
//! D_c = sup_x |F_real,c(x) − F_generated,c(x)|,     p ≈ Q(D √(N M/(N + M))),     Q(λ) = 2 Σ_{k ≥ 1} (−1)^{k−1} e^{−2 k² λ²}
//! ```

use fokker_tensor::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::error::MetricError;
use crate::vectors::Vectors;

/// The two-sample Kolmogorov–Smirnov distance of each column, with the limit law's p-value (Smirnov 1939; Hodges 1958, section 2).
///
/// - **Range**: distances in `[0, 1]`, no unit, unchanged by monotone maps of a column.
/// - **Bias**: upwards; under the null `D` is about `0.87 √((N + M)/(N M))`. The p-value is too large for fewer than about 30 vectors. That of the worst
///   column is multiplied by the number of columns (Bonferroni).
/// - **Sample size**: hundreds; a distance below `1.36 √((N + M)/(N M))` is no more than chance in one column of twenty, 0.06 for a thousand of each.
/// - **Cannot see**: anything of how columns depend on each other; tails.
/// - **Cost**: `D (N + M) log(N + M)`; memory `O(N + M)` per thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MarginalKs {}

/// What [`MarginalKs`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Marginals {
    /// The distance of each column.
    pub distances: Vec<f64>,
    /// The p-value of each column.
    pub p_values: Vec<f64>,
}

impl MarginalKs {
    /// The columns' distances between `[N, ...]` and `[M, ...]`.
    ///
    /// # Errors
    /// When a set is empty or has a number that is not finite; when the widths differ.
    pub fn estimate(&self, real: &Tensor, generated: &Tensor) -> Result<Marginals, MetricError> {
        let (x, y) = Vectors::pair(real, generated)?;
        let sorted = |x: &Vectors, c: usize| {
            let mut column = x.column(c);
            column.sort_unstable_by(f64::total_cmp);
            column
        };
        let distances: Vec<f64> = (0..x.width()).into_par_iter().map(|c| distance(&sorted(&x, c), &sorted(&y, c))).collect();
        let (n, m) = (x.rows() as f64, y.rows() as f64);
        let root = (n * m / (n + m)).sqrt();
        let p_values = distances.iter().map(|d| kolmogorov(d * root)).collect();
        Ok(Marginals { distances, p_values })
    }
}

/// The largest difference of two distribution functions, of sorted numbers.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let (n, m) = (a.len() as f64, b.len() as f64);
    let (mut i, mut j, mut most) = (0, 0, 0.0f64);
    while i < a.len() && j < b.len() {
        // Past all that equal the next value, in both. (0 and −0 are equal here.)
        let x = a[i].min(b[j]);
        while i < a.len() && a[i] <= x {
            i += 1;
        }
        while j < b.len() && b[j] <= x {
            j += 1;
        }
        most = most.max((i as f64 / n - j as f64 / m).abs());
    }
    most
}

/// `Q(λ)`, by the series that converges faster there.
fn kolmogorov(lambda: f64) -> f64 {
    use std::f64::consts::PI;
    if lambda < 0.04 {
        // Closer to 1 than a number can say.
        return 1.0;
    }
    if lambda < 1.0 {
        // Jacobi's theta function turned round: Q = 1 − √(2π)/λ Σ e^{−(2k−1)² π²/(8 λ²)}.
        let sum: f64 = (1..=20).map(|k| (-((2 * k - 1) as f64 * PI / lambda).powi(2) / 8.0).exp()).sum();
        return 1.0 - (2.0 * PI).sqrt() / lambda * sum;
    }
    let sum: f64 = (1..=20).map(|k| if k % 2 == 1 { 1.0 } else { -1.0 } * (-2.0 * (k as f64 * lambda).powi(2)).exp()).sum();
    2.0 * sum
}

impl Metric for MarginalKs {
    fn scores(&self, real: &Tensor, generated: &Tensor, _seed: u64) -> Result<Vec<Score>, MetricError> {
        let Marginals { distances, p_values } = self.estimate(real, generated)?;
        let columns = distances.len() as f64;
        let least = p_values.into_iter().fold(1.0, f64::min);
        Ok(vec![
            Score::new("ks-max", distances.iter().copied().fold(0.0, f64::max)),
            Score::new("ks-mean", distances.iter().sum::<f64>() / columns),
            Score::new("ks-p-value", (columns * least).min(1.0)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn distances_are_those_by_hand_ties_included() {
        assert_eq!(distance(&[1.0, 2.0, 3.0, 4.0], &[2.5, 2.5]), 0.5);
        assert_eq!(distance(&[1.0, 1.0, 2.0], &[1.0, 2.0, 2.0]), 1.0 / 3.0);
        assert_eq!(distance(&[-0.0, 1.0], &[0.0, 1.0]), 0.0);
        assert_eq!(distance(&[1.0], &[2.0, 3.0]), 1.0);
    }

    #[test]
    fn a_shift_of_a_gaussian_has_its_closed_form_in_its_column() {
        // sup |Φ(x) − Φ(x − δ)| = 2 Φ(δ/2) − 1; for δ = 1: 0.3829249225.
        let n = 40_000;
        let y = &normal(n, 2, 2) + &Tensor::from_vec(&[1, 2], vec![0.0, 1.0]);
        let found = MarginalKs {}.estimate(&normal(n, 2, 1), &y).unwrap();
        assert!((found.distances[1] - 0.382_924_922_5).abs() < 0.01, "{found:?}");
        assert!(found.distances[0] < 0.02 && found.p_values[0] > 1e-3 && found.p_values[1] < 1e-100);
    }

    #[test]
    fn both_series_agree_and_the_table_is_met() {
        // Smirnov's table: Q(1.358) = 0.05, Q(1.628) = 0.01, Q(0.5) = 0.963945.
        for (lambda, q) in [(0.5, 0.963_945_2), (1.358_098_8, 0.05), (1.627_623_6, 0.01)] {
            assert!((kolmogorov(lambda) - q).abs() < 1e-6, "{lambda}: {}", kolmogorov(lambda));
        }
        assert!((kolmogorov(1.0 - 1e-12) - kolmogorov(1.0)).abs() < 1e-11);
        assert!(kolmogorov(0.0) == 1.0 && (kolmogorov(0.0401) - 1.0).abs() < 1e-15);
    }
}
