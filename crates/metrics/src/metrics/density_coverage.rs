//! Density and coverage.
//!
//! ```text
//! density  = 1/(k M) Σ_j Σ_i 1[g_j ∈ B(r_i, NND_k(r_i))]
//! coverage = 1/N Σ_i 1[∃ j: g_j ∈ B(r_i, NND_k(r_i))]
//! ```

use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::balls::{Balls, Count, share};
use crate::error::MetricError;
use crate::manifold::Manifold;
use crate::vectors::Vectors;

/// Density and coverage (Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models", eqs. 3 and 4).
///
/// - **Range**: density `[0, N/k]`, coverage `[0, 1]`, higher is better. Of two sets of one law the expected density is 1 and, of the
///   same large size, the expected coverage `1 − 2⁻ᵏ` (0.969 for `k = 5`; their eq. 8 for other sizes).
/// - **Bias**: density has none in that case; coverage depends on `M/N` and `k`. Compare at equal sizes.
/// - **Sample size**: a few hundred of each give two digits. At least `k + 1` real vectors.
/// - **Cannot see**: the shape of densities within the balls; a density above 1 may mean that samples crowd where data is dense.
/// - **Cost**: `N²/2 + N M` distances, `O(D)` each; memory `O(k N + M)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DensityCoverage {
    /// The neighbour whose distance is a ball's radius.
    pub k: usize,
}

impl Default for DensityCoverage {
    fn default() -> Self {
        DensityCoverage { k: 5 }
    }
}

/// What [`DensityCoverage`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct DensityAndCoverage {
    /// How many balls around real vectors hold a generated one, on average, in units of `k`.
    pub density: f64,
    /// The share of balls that hold any.
    pub coverage: f64,
    /// For each generated vector, how many balls hold it.
    pub holding: Vec<u32>,
    /// For each real vector, whether its ball holds a generated one.
    pub covered: Vec<bool>,
}

impl DensityCoverage {
    /// Density and coverage of generated vectors `[M, ...]` beside real ones `[N, ...]`.
    ///
    /// # Errors
    /// When a set is empty or has a number that is not finite; when the real set has at most `k` rows; when the widths differ; when
    /// `k` is 0.
    pub fn estimate(&self, real: &Tensor, generated: &Tensor) -> Result<DensityAndCoverage, MetricError> {
        Vectors::pair(real, generated)?;
        self.between(&Manifold::real(real, self.k)?, generated)
    }

    /// The same beside real vectors whose neighbours are known, at least `k` of each: `N M` distances.
    ///
    /// # Errors
    /// When the generated set is empty or has a number that is not finite; when the widths differ or `k` is 0.
    ///
    /// # Panics
    /// When the real vectors have fewer neighbours than `k`.
    #[track_caller]
    pub fn between(&self, real: &Manifold, generated: &Tensor) -> Result<DensityAndCoverage, MetricError> {
        let y = Vectors::new("generated", generated)?;
        let x = real.vectors_beside(&y, "generated")?;
        let radii = real.squared_radii(self.k)?;
        Ok(DensityAndCoverage::of(Count::new(&radii, None, y.rows()).over(&x, &y), self.k))
    }
}

impl DensityAndCoverage {
    pub(crate) fn of(balls: Balls, k: usize) -> DensityAndCoverage {
        let held: u64 = balls.holding.iter().map(|&n| u64::from(n)).sum();
        DensityAndCoverage {
            density: held as f64 / (k * balls.holding.len()) as f64,
            coverage: share(balls.occupied.iter().copied()),
            holding: balls.holding,
            covered: balls.occupied,
        }
    }
}

impl Metric for DensityCoverage {
    fn scores(&self, real: &Tensor, generated: &Tensor, _seed: u64) -> Result<Vec<Score>, MetricError> {
        let found = self.estimate(real, generated)?;
        Ok(vec![Score::new("density", found.density), Score::new("coverage", found.coverage)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn a_line_is_counted_by_hand() {
        // k = 1: the radii of 0, 1, 10, 12 are 1, 1, 2, 2.
        let real = Tensor::from_vec(&[4, 1], vec![0.0, 1.0, 10.0, 12.0]);
        let generated = Tensor::from_vec(&[3, 1], vec![0.5, 11.0, 20.0f64]);
        let found = DensityCoverage { k: 1 }.estimate(&real, &generated).unwrap();
        assert_eq!(found.holding, [2, 2, 0]);
        assert_eq!((found.density, found.coverage), (4.0 / 3.0, 1.0));
        let found = DensityCoverage { k: 1 }.estimate(&real, &Tensor::from_vec(&[1, 1], vec![2.0f64])).unwrap();
        assert_eq!(found.covered, [false, true, false, false]);
        assert_eq!((found.density, found.coverage), (1.0, 0.25));
    }

    #[test]
    fn two_sets_of_one_law_have_the_expected_values_of_the_paper() {
        let (n, sets) = (1000, 8);
        let (mut density, mut coverage) = (0.0, 0.0);
        for seed in 0..sets {
            let found = DensityCoverage::default().estimate(&normal(n, 6, 2 * seed), &normal(n, 6, 2 * seed + 1)).unwrap();
            density += found.density / sets as f64;
            coverage += found.coverage / sets as f64;
        }
        assert!((density - 1.0).abs() < 0.02, "{density}");
        assert!((coverage - (1.0 - 0.5f64.powi(5))).abs() < 0.005, "{coverage}");
    }

    #[test]
    fn one_outlier_moves_precision_but_not_density() {
        let mut data = normal(1000, 2, 1).to_vec::<f64>();
        data[..2].copy_from_slice(&[40.0, 0.0]);
        let real = Tensor::from_vec(&[1000, 2], data);
        // All samples lie between the outlier and the rest, in the outlier's ball only.
        let generated = &normal(1000, 2, 2) + &Tensor::from_vec(&[1, 2], vec![25.0, 0.0]);
        let precision = super::super::PrecisionRecall::default().estimate(&real, &generated).unwrap().precision;
        let found = DensityCoverage { k: 3 }.estimate(&real, &generated).unwrap();
        assert!(precision > 0.99 && (found.density - 1.0 / 3.0).abs() < 0.01 && found.coverage <= 0.001);
    }
}
