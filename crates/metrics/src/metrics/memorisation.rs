//! Memorisation: samples much nearer to one training vector than to any other.
//!
//! ```text
//! ρ_j = |g_j − x_(1)| / |g_j − x_(2)|,     x_(1), x_(2) the two training vectors nearest to g_j
//! memorised = 1/M Σ_j 1[ρ_j < threshold]
//! ```

use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::balls::share;
use crate::error::MetricError;
use crate::nearest::Nearest;
use crate::vectors::Vectors;

/// The ratio of distances to the nearest and second nearest training vector, and the share of samples whose ratio is below a threshold
/// (Yoon et al. 2023, "Diffusion probabilistic models generalize when they fail to memorize", section 3, with the threshold 1/3). The real set is the
/// *training* set.
///
/// - **Range**: ratios in `[0, 1]`; the share in `[0, 1]`, near 0 for a model that does not memorise: compare with held-out data in the place of
///   samples. In `D` dimensions about `3⁻ᴰ` of independent vectors are below 1/3, a ninth in the plane: in low dimensions the share alone says little.
/// - **Bias**: none over samples; ratios are of this training set.
/// - **Sample size**: hundreds of samples for a share; the whole training set.
/// - **Cannot see**: training vectors that are there twice (give them once: both are near, and the ratio is near 1 unless the sample equals them), copies
///   up to a change that the features see, such as a shifted image in pixel space.
/// - **Cost**: `N M` distances, `O(D)` each; memory `O(M)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memorisation {
    /// Ratios below it count as memorised.
    pub threshold: f64,
}

impl Default for Memorisation {
    fn default() -> Self {
        Memorisation { threshold: 1.0 / 3.0 }
    }
}

/// What [`Memorisation`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct NearestTraining {
    /// The share of samples with a ratio below the threshold.
    pub memorised: f64,
    /// The ratio of each sample; 0 for one that equals a training vector.
    pub ratios: Vec<f64>,
    /// The row of each sample's nearest training vector.
    pub neighbours: Vec<usize>,
    /// The distance to it.
    pub distances: Vec<f64>,
}

impl Memorisation {
    /// Ratios of generated vectors `[M, ...]` to the training set `[N, ...]`.
    ///
    /// # Errors
    /// When a set is empty or has a number that is not finite; when there are fewer than two training vectors; when the widths differ or the
    /// threshold is not in `(0, 1]`.
    pub fn estimate(&self, training: &Tensor, generated: &Tensor) -> Result<NearestTraining, MetricError> {
        let (training, generated) = Vectors::named_pair(("training", training), ("generated", generated))?;
        training.at_least("training", 2, "the two nearest")?;
        if !(self.threshold > 0.0 && self.threshold <= 1.0) {
            return Err(MetricError::config("threshold", self.threshold, "a number above 0, at most 1"));
        }
        let nearest = Nearest::across(&generated, &training, 2);
        let rows = 0..generated.rows();
        let ratio = |i: usize| match nearest.squared(i) {
            &[first, second] if first > 0.0 => (first / second).sqrt(),
            _ => 0.0,
        };
        let ratios: Vec<f64> = rows.clone().map(ratio).collect();
        Ok(NearestTraining {
            memorised: share(ratios.iter().map(|&r| r < self.threshold)),
            ratios,
            neighbours: rows.clone().map(|i| nearest.indices(i)[0]).collect(),
            distances: rows.map(|i| nearest.squared(i)[0].sqrt()).collect(),
        })
    }
}

impl Metric for Memorisation {
    fn scores(&self, real: &Tensor, generated: &Tensor, _seed: u64) -> Result<Vec<Score>, MetricError> {
        let found = self.estimate(real, generated)?;
        let mean = found.ratios.iter().sum::<f64>() / found.ratios.len() as f64;
        Ok(vec![Score::new("memorised", found.memorised), Score::new("nearest-training-ratio", mean)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn ratios_on_a_line_are_those_by_hand() {
        let training = Tensor::from_vec(&[3, 1], vec![0.0, 4.0, 10.0f64]);
        let generated = Tensor::from_vec(&[4, 1], vec![1.0, 4.0, 5.5, 12.0f64]);
        let found = Memorisation::default().estimate(&training, &generated).unwrap();
        let expected = [1.0 / 3.0, 0.0, 1.5 / 4.5, 2.0 / 8.0];
        found.ratios.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-14));
        assert_eq!(found.neighbours, [0, 1, 1, 2]);
        let distances: Vec<f64> = found.distances.iter().map(|d| (d * 1e9).round() / 1e9).collect();
        assert_eq!(distances, [1.0, 0.0, 1.5, 2.0]);
    }

    #[test]
    fn copies_with_a_little_noise_are_found_and_fresh_vectors_are_not() {
        let training = normal(800, 12, 1);
        let copies = &training.slice(0, 100..200) + &(&normal(100, 12, 2) * 0.02);
        let mixed = Tensor::concat(&[&copies, &normal(300, 12, 3)], 0);
        let found = Memorisation::default().estimate(&training, &mixed).unwrap();
        assert_eq!(found.memorised, 0.25);
        assert!((0..100).all(|i| found.neighbours[i] == 100 + i && found.ratios[i] < 0.2));
        assert!(Memorisation { threshold: 0.0 }.estimate(&training, &mixed).is_err());
        let error = Memorisation::default().estimate(&normal(1, 12, 1), &mixed).unwrap_err().to_string();
        assert_eq!(error, "the training set has 1 rows, expected at least 2 (the two nearest)");
    }
}
