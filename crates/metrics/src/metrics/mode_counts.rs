//! Mode counts.
//!
//! ```text
//! c(x) = argmin_k |x − μ_k|,     a vector counts for its mode if |x − μ_c| ≤ radius
//! ```

use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::error::MetricError;
use crate::nearest::Nearest;
use crate::vectors::Vectors;

/// How many vectors are near each of the centres that are given, for laws whose modes are known (Srivastava et al. 2017, "VEEGAN", section 5.1: a sample is of
/// high quality within three standard deviations of its mode, and a mode is covered by one such sample).
///
/// - **Range**: modes `0..=K`; the share of samples near a mode in `[0, 1]`, of a Gaussian mixture in the plane 0.989 at three standard deviations; the total
///   variation between the shares of modes in the generated and the real set in `[0, 1]`.
/// - **Bias**: a mode counts as covered by one sample, so the count grows with `M`; the total variation is biased upwards, by about
///   `√(K/M)/2` under the null.
/// - **Sample size**: hundreds per mode.
/// - **Cannot see**: the shape of a mode.
/// - **Cost**: `K (N + M)` distances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeCounts {
    /// The centres, each of `D` numbers.
    pub centres: Vec<Vec<f64>>,
    /// The farthest that a vector may be from its mode.
    pub radius: f64,
}

/// What [`ModeCounts`] finds in one set.
#[derive(Clone, Debug, PartialEq)]
pub struct Modes {
    /// Vectors near each mode.
    pub near: Vec<usize>,
    /// Vectors whose nearest centre it is, at any distance.
    pub nearest: Vec<usize>,
}

impl Modes {
    /// Modes with a vector near them.
    pub fn covered(&self) -> usize {
        self.near.iter().filter(|&&n| n > 0).count()
    }

    /// The share of vectors that are near a mode.
    pub fn share(&self) -> f64 {
        self.near.iter().sum::<usize>() as f64 / self.nearest.iter().sum::<usize>() as f64
    }

    /// `½ Σ_k |p_k − q_k|` of the shares of nearest centres.
    pub fn total_variation(&self, other: &Modes) -> f64 {
        let total = |modes: &Modes| modes.nearest.iter().sum::<usize>() as f64;
        let (a, b) = (total(self), total(other));
        let pairs = self.nearest.iter().zip(&other.nearest);
        0.5 * pairs.map(|(&p, &q)| (p as f64 / a - q as f64 / b).abs()).sum::<f64>()
    }
}

impl ModeCounts {
    /// Counts of one set `[N, ...]`.
    ///
    /// # Errors
    /// When the set is empty or has a number that is not finite; when there is no centre, centres are not of the set's width or not finite; when the radius
    /// is negative.
    pub fn estimate(&self, x: &Tensor) -> Result<Modes, MetricError> {
        self.of("given", x)
    }

    fn of(&self, set: &'static str, x: &Tensor) -> Result<Modes, MetricError> {
        let x = Vectors::new(set, x)?;
        let width = x.width();
        if self.radius.is_nan() || self.radius < 0.0 {
            return Err(MetricError::config("radius", self.radius, "a number of at least 0"));
        }
        if self.centres.is_empty() {
            return Err(MetricError::config("centres", "[]", "at least one centre"));
        }
        if let Some(centre) = self.centres.iter().find(|c| c.len() != width) {
            let (first_width, second_width) = (width, centre.len());
            return Err(MetricError::Widths { first: set, first_width, second: "centres", second_width });
        }
        let centres = Tensor::from_vec(&[self.centres.len(), width], self.centres.concat());
        let nearest = Nearest::across(&x, &Vectors::new("centres", &centres)?, 1);
        let mut modes = Modes { near: vec![0; self.centres.len()], nearest: vec![0; self.centres.len()] };
        for i in 0..x.rows() {
            let mode = nearest.indices(i)[0];
            modes.nearest[mode] += 1;
            modes.near[mode] += usize::from(nearest.squared(i)[0].sqrt() <= self.radius);
        }
        Ok(modes)
    }
}

impl Metric for ModeCounts {
    fn scores(&self, real: &Tensor, generated: &Tensor, _seed: u64) -> Result<Vec<Score>, MetricError> {
        Vectors::pair(real, generated)?;
        let (real, generated) = (self.of("real", real)?, self.of("generated", generated)?);
        Ok(vec![
            Score::new("modes", generated.covered() as f64),
            Score::new("mode-share", generated.share()),
            Score::new("mode-total-variation", generated.total_variation(&real)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn modes_are_counted_and_dropped_ones_missed() {
        let centres: Vec<Vec<f64>> = (0..4).map(|k| vec![10.0 * k as f64, 5.0]).collect();
        let of = |modes: &[usize], n: usize, seed| {
            let rows: Vec<f64> = (0..n).flat_map(|i| centres[modes[i % modes.len()]].clone()).collect();
            &normal(n, 2, seed) + &Tensor::from_vec(&[n, 2], rows)
        };
        let metric = ModeCounts { centres: centres.clone(), radius: 3.0 };
        let (real, generated) = (of(&[0, 1, 2, 3], 8000, 1), of(&[0, 1, 1, 2], 8000, 2));
        let found = metric.estimate(&generated).unwrap();
        assert_eq!((found.covered(), &found.nearest[..]), (3, &[2000, 4000, 2000, 0][..]));
        // 1 − e^{−9/2} of a Gaussian in the plane lies within three standard deviations.
        assert!((found.share() - (1.0 - (-4.5f64).exp())).abs() < 0.004, "{}", found.share());
        let scores = metric.scores(&real, &generated, 0).unwrap();
        assert_eq!(scores[0], Score::new("modes", 3.0));
        assert_eq!(scores[2], Score::new("mode-total-variation", 0.25));
    }

    #[test]
    fn centres_are_a_key_without_a_default_and_must_fit() {
        assert!(super::super::MetricConfig::with_defaults("mode-counts").is_err());
        let x = normal(5, 2, 1);
        let with = |centres: &[&[f64]], radius| {
            let centres = centres.iter().map(|c| c.to_vec()).collect();
            ModeCounts { centres, radius }.estimate(&x).unwrap_err().to_string()
        };
        assert_eq!(with(&[], 1.0), "centres is [], expected at least one centre");
        assert!(with(&[&[0.0, 1.0], &[1.0]], 1.0).contains("the centres set 1"));
        assert!(with(&[&[0.0, f64::NAN]], 1.0).starts_with("the centres set has NaN at row 0, column 1"));
        assert!(with(&[&[0.0, 1.0]], f64::NAN).starts_with("radius is NaN"));
    }
}
