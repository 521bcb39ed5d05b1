//! Classifier two-sample test with nearest neighbours.
//!
//! ```text
//! score(z) = #{real among the k nearest learnt vectors} − k/2,     accuracy over held-out vectors
//! ```

use fokker_tensor::noise::stream;
use fokker_tensor::{Noise, Tensor};
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::classifier::{Split, TwoSampleAccuracy};
use crate::error::MetricError;
use crate::nearest::Nearest;
use crate::vectors::Vectors;

/// Whether the `k` nearest neighbours tell real from generated (Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests", C2ST-KNN, with their
/// `k = ⌊√n⌋` of the `n` vectors learnt from).
///
/// - **Range**: accuracy in `[0, 1]`, a half for equal laws, 1 for laws that do not overlap; a p-value.
/// - **Bias**: the accuracy is a lower bound of the best classifier's. Under the null none, for any set that has no duplicates across the halves: vectors that
///   are in the data twice push it down or up.
/// - **Sample size**: hundreds; the smallest accuracy told from a half is about `1/2 + 1/√n_te`.
/// - **Cannot see**: differences too small for `√n` neighbours, along few of many features.
/// - **Cost**: `n²` distances with `n` the smaller size, `O(D)` each; memory that of both sets again, in the type
///   they have, and `16 k n` bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NearestNeighbourTest {
    /// Neighbours that vote; by default the root of their number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<usize>,
}

impl NearestNeighbourTest {
    /// The accuracy on held-out vectors of `[N, ...]` and `[M, ...]`.
    ///
    /// # Errors
    /// When a set has fewer than four rows or a number that is not finite; when the widths differ; when there are not `k` vectors to learn from, or `k` is 0.
    pub fn estimate(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<TwoSampleAccuracy, MetricError> {
        let (x, y) = Vectors::pair(real, generated)?;
        self.judge(&Split::new(&x, &y, Noise::new(seed, stream("neighbou")))?)
    }

    /// The accuracy on held-out vectors, real and generated, of what is learnt from others: where somebody has made the halves, as when samples are to be
    /// judged beside data that the model was not trained on. `[n, ...]` each to learn from, `[m, ...]` each held out.
    ///
    /// # Errors
    /// When a set is empty or has a number that is not finite; when the widths differ; when there are not as many real vectors as generated ones in either
    /// part; when there are not `k` vectors to learn from, or `k` is 0.
    pub fn with_halves(&self, learnt: [&Tensor; 2], held_out: [&Tensor; 2]) -> Result<TwoSampleAccuracy, MetricError> {
        let part = |[real, generated]: [&Tensor; 2]| {
            let (x, y) = Vectors::pair(real, generated)?;
            if x.rows() != y.rows() {
                let (real, generated) = (x.rows(), y.rows());
                return Err(MetricError::Sizes {
                    real,
                    generated,
                    expected: "equally many to learn from, and to be judged on".into(),
                });
            }
            Ok(Vectors::pooled(&x, &y).select(&(0..2 * x.rows()).collect::<Vec<_>>()))
        };
        self.judge(&Split { train: part(learnt)?, test: part(held_out)? })
    }

    fn judge(&self, split: &Split) -> Result<TwoSampleAccuracy, MetricError> {
        let (train, test) = Vectors::named_pair(("learnt", &split.train), ("held-out", &split.test))?;
        let k = self.k.unwrap_or(train.rows().isqrt());
        if k == 0 {
            return Err(MetricError::config("k", k, "at least one neighbour"));
        }
        train.at_least("learnt", k, format!("{k} neighbours"))?;
        let nearest = Nearest::across(&test, &train, k);
        let real = train.rows() / 2;
        let score = |i: usize| nearest.indices(i).iter().filter(|&&j| j < real).count() as f64 - 0.5 * k as f64;
        Ok(split.judge(&(0..test.rows()).map(score).collect::<Vec<_>>()))
    }
}

impl Metric for NearestNeighbourTest {
    fn scores(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<Vec<Score>, MetricError> {
        let found = self.estimate(real, generated, seed)?;
        Ok(vec![Score::new("nearest-neighbour-accuracy", found.accuracy), Score::new("nearest-neighbour-p-value", found.p_value)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn equal_laws_are_a_coin_toss_and_distant_ones_are_told() {
        let metric = NearestNeighbourTest::default();
        let tests = 60;
        let z: f64 = (0..tests)
            .map(|i| {
                let found = metric.estimate(&normal(200, 3, 2 * i), &normal(260, 3, 2 * i + 1), i).unwrap();
                assert_eq!(found.tested, 200);
                (found.accuracy - 0.5) * 2.0 * 200f64.sqrt()
            })
            .sum();
        assert!((z / f64::sqrt(tests as f64)).abs() < 3.5, "{z}");
        let found = metric.estimate(&normal(200, 3, 1), &(&normal(200, 3, 2) + 5.0), 0).unwrap();
        assert!(found.accuracy == 1.0 && found.p_value < 1e-40);
    }

    #[test]
    fn it_sees_what_means_and_variances_do_not() {
        // Two points ±1 with a little noise beside a Gaussian: the same first two moments.
        let n = 1000;
        let coin = Tensor::from_vec(&[n, 1], (0..n).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect());
        let found = NearestNeighbourTest::default().estimate(&normal(n, 1, 1), &(&coin + &(&normal(n, 1, 2) * 0.1)), 0).unwrap();
        assert!(found.accuracy > 0.8 && found.p_value < 1e-10, "{found:?}");
    }

    #[test]
    fn neighbours_must_be_there() {
        let x = normal(10, 2, 1);
        let with = |k, x: &Tensor| NearestNeighbourTest { k: Some(k) }.estimate(x, x, 0).unwrap_err().to_string();
        assert_eq!(with(11, &x), "the learnt set has 10 rows, expected at least 11 (11 neighbours)");
        assert_eq!(with(0, &x), "k is 0, expected at least one neighbour");
        assert!(with(1, &normal(3, 2, 1)).contains("has 3 rows, expected at least 4"));
        let error = NearestNeighbourTest::default().with_halves([&x, &x], [&x, &normal(9, 2, 1)]).unwrap_err().to_string();
        assert_eq!(error, "the sets have 10 and 9 rows, expected equally many to learn from, and to be judged on");
    }
}
