//! Energy distance.
//!
//! ```text
//! D² = 2 E|X − Y| − E|X − X'| − E|Y − Y'| ≥ 0,     0 only for equal laws
//! ```

use fokker_tensor::noise::stream;
use fokker_tensor::{Noise, Tensor};
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::error::MetricError;
use crate::pairs::Form;
use crate::two_sample::{Sums, kernel_sums, p_value, two_of_each};
use crate::vectors::Vectors;

/// Energy distance `D²` (Székely & Rizzo 2013, "Energy statistics", eqs. 2.1 and 6.1), with a permutation test of equal laws.
///
/// - **Range**: `D² ≥ 0`, in the data's unit; 0 for equal laws only. The unbiased estimate is negative for about half of all sets of
///   one law; the biased one (that of the empirical laws) is not.
/// - **Bias**: unbiased as stated; the biased one is too large by `E|X − X'|/N + E|Y − Y'|/M` under the null.
/// - **Sample size**: works from tens of vectors; its spread under the null falls as `1/N`.
/// - **Cannot see**: much in high dimensions, where all distances are alike, and features of small scale beside large ones: standardise first.
/// - **Cost**: `(N + M)²/2` distances, `O(D + P)` each with `P` permutations; memory `O((N + M) P)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnergyDistance {
    /// Random splits for the p-value; 0 for none.
    pub permutations: usize,
}

impl Default for EnergyDistance {
    fn default() -> Self {
        EnergyDistance { permutations: 200 }
    }
}

/// What [`EnergyDistance`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Energy {
    /// `D²` without bias: means over pairs of different vectors.
    pub unbiased: f64,
    /// `D²` between the empirical laws (scipy's `energy_distance` is its root, in one dimension).
    pub biased: f64,
    /// The share of splits, this one counted, with at least this `D²`: never 0.
    pub p_value: Option<f64>,
}

impl EnergyDistance {
    /// The energy distance between `[N, ...]` and `[M, ...]`.
    ///
    /// # Errors
    /// When a set has fewer than two rows or a number that is not finite; when the widths differ.
    pub fn estimate(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<Energy, MetricError> {
        let (x, y) = Vectors::pair(real, generated)?;
        two_of_each(&x, &y)?;
        let noise = Noise::new(seed, stream("energy"));
        // The maximum mean discrepancy of the kernel −|x − y| (Sejdinovic et al. 2013, theorem 22).
        let sums = kernel_sums(&x, &y, Form::SquaredDistance, |d2| -d2.max(0.0).sqrt(), self.permutations, noise);
        let statistics: Vec<f64> = sums.iter().map(Sums::unbiased).collect();
        Ok(Energy {
            unbiased: statistics[0],
            biased: sums[0].biased(0.0),
            p_value: (self.permutations > 0).then(|| p_value(&statistics)),
        })
    }
}

impl Metric for EnergyDistance {
    fn scores(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<Vec<Score>, MetricError> {
        let found = self.estimate(real, generated, seed)?;
        let mut scores = vec![Score::new("energy", found.unbiased), Score::new("energy-biased", found.biased)];
        scores.extend(found.p_value.map(|p| Score::new("energy-p-value", p)));
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn two_gaussians_on_a_line_have_the_closed_form() {
        // E|N(δ, 2)| = 2/√π e^{−δ²/4} + δ erf(δ/2); with δ = 1 and erf(1/2) = 0.5204998778.
        let (n, delta) = (4000, 1.0);
        let mean = 2.0 / std::f64::consts::PI.sqrt() * (-0.25f64).exp() + 0.520_499_877_8;
        let expected = 2.0 * mean - 4.0 / std::f64::consts::PI.sqrt();
        let metric = EnergyDistance { permutations: 0 };
        let sets = 6;
        let found: f64 = (0..sets)
            .map(|seed| metric.estimate(&normal(n, 1, seed), &(&normal(n, 1, seed + 100) + delta), 0).unwrap().unbiased)
            .sum();
        let found = found / sets as f64;
        assert!((found / expected - 1.0).abs() < 0.03, "{found}, expected {expected}");
    }

    #[test]
    fn a_set_with_itself_is_at_zero() {
        let x = normal(300, 3, 1);
        let found = EnergyDistance { permutations: 20 }.estimate(&x, &x, 0).unwrap();
        assert!(found.biased.abs() < 1e-13 && found.unbiased < 0.0 && found.p_value.unwrap() > 0.9, "{found:?}");
    }

    #[test]
    fn p_values_are_uniform_under_the_null_and_small_for_a_shift() {
        let metric = EnergyDistance { permutations: 99 };
        let tests = 200;
        let p = |i: u64, shift: f64| metric.estimate(&normal(30, 2, i), &(&normal(40, 2, 1000 + i) + shift), i).unwrap().p_value;
        let under_null: Vec<f64> = (0..tests).map(|i| p(i, 0.0).unwrap()).collect();
        for level in [0.1, 0.3, 0.5, 0.8] {
            let below = under_null.iter().filter(|&&p| p <= level + 1e-9).count() as f64 / tests as f64;
            let error = (level * (1.0 - level) / tests as f64).sqrt();
            assert!((below - level).abs() < 3.5 * error, "{below} at {level}");
        }
        assert_eq!(p(0, 2.0), Some(0.01));
    }
}
