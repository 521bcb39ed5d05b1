//! What classifier two-sample tests share: halves to learn from and to be judged on, and the law of the accuracy under the null.
//!
//! ```text
//! accuracy ~ N(1/2, 1/(4 n_te))     for equal laws
//! ```
//!
//! (Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests", theorem 1 and section 3): whatever was learnt, held-out labels are coin tosses.

use fokker_tensor::{Noise, Tensor};

use crate::draws::subset;
use crate::error::MetricError;
use crate::vectors::Vectors;

/// What a classifier two-sample test finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TwoSampleAccuracy {
    /// The share of held-out vectors whose set was told, a half by chance.
    pub accuracy: f64,
    /// The probability of at least this accuracy for equal laws, by the normal law.
    pub p_value: f64,
    /// Held-out vectors, half of them real.
    pub tested: usize,
}

/// Vectors to learn from, and vectors to be judged on; of each as many real as generated ones, in the type of the sets.
pub(crate) struct Split {
    /// `[n, D]`, real vectors first.
    pub(crate) train: Tensor,
    /// `[m, D]`, real vectors first.
    pub(crate) test: Tensor,
}

/// The least number of vectors in a set.
const LEAST: usize = 4;

impl Split {
    /// Random halves of as many vectors of each set as both have.
    pub(crate) fn new(x: &Vectors, y: &Vectors, noise: Noise) -> Result<Split, MetricError> {
        x.at_least("real", LEAST, "halves to learn from and to judge on")?;
        y.at_least("generated", LEAST, "halves to learn from and to judge on")?;
        let n = x.rows().min(y.rows());
        let (a, b) = (subset(noise, 0, x.rows(), n), subset(noise, 1, y.rows(), n));
        let part = |rows: std::ops::Range<usize>| {
            let z = Vectors::pooled(x, y);
            let rows: Vec<usize> = a[rows.clone()].iter().copied().chain(b[rows].iter().map(|j| x.rows() + j)).collect();
            z.select(&rows)
        };
        Ok(Split { train: part(0..n / 2), test: part(n / 2..n) })
    }

    /// Judges a score of each held-out vector, positive for a real one; one of 0 counts half.
    pub(crate) fn judge(&self, scores: &[f64]) -> TwoSampleAccuracy {
        let tested = self.test.dim(0);
        assert_eq!(scores.len(), tested, "a score for each held-out vector");
        let right: f64 = scores
            .iter()
            .enumerate()
            .map(|(i, &score)| match score {
                0.0 => 0.5,
                _ => f64::from(u8::from((score > 0.0) == (i < tested / 2))),
            })
            .sum();
        let accuracy = right / tested as f64;
        let z = (accuracy - 0.5) * 2.0 * (tested as f64).sqrt();
        TwoSampleAccuracy { accuracy, p_value: 0.5 * libm::erfc(z / std::f64::consts::SQRT_2), tested }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn halves_share_no_vector_and_are_balanced() {
        // Each row is its number, in the generated set 1000 more.
        let numbers = |n: usize, first: f64| Tensor::from_vec(&[n, 1], (0..n).map(|i| i as f64 + first).collect());
        let (x, y) = (numbers(31, 0.0), numbers(24, 1000.0));
        let (x, y) = Vectors::pair(&x, &y).unwrap();
        let split = Split::new(&x, &y, Noise::new(1, 2)).unwrap();
        let (train, test) = (split.train.to_vec::<f64>(), split.test.to_vec::<f64>());
        assert_eq!((train.len(), test.len()), (24, 24));
        assert!(train[..12].iter().chain(&test[..12]).all(|&v| v < 1000.0));
        assert!(train[12..].iter().chain(&test[12..]).all(|&v| v >= 1000.0));
        let mut all = [train, test].concat();
        all.sort_by(f64::total_cmp);
        all.dedup();
        assert_eq!(all.len(), 48);
    }

    #[test]
    fn accuracies_have_the_p_values_of_the_normal_law() {
        let split = Split { train: normal(2, 1, 1), test: normal(100, 1, 1) };
        let scores =
            |right: usize| -> Vec<f64> { (0..100).map(|i| if (i < 50) == (i % 50 < right / 2) { 1.0 } else { -1.0 }).collect() };
        let found = split.judge(&scores(60));
        // Two standard deviations: 0.0227501319.
        assert!(found.accuracy == 0.6 && (found.p_value - 0.022_750_131_9).abs() < 1e-9, "{found:?}");
        assert_eq!(split.judge(&[0.0; 100]), TwoSampleAccuracy { accuracy: 0.5, p_value: 0.5, tested: 100 });
    }
}
