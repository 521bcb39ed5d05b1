//! Sliced Wasserstein distance.
//!
//! ```text
//! SW_p^p = E_θ W_p^p(θ·X, θ·Y),     θ uniform on the sphere;     on a line W_p^p = ∫₀¹ |F_X⁻¹ − F_Y⁻¹|^p
//! ```

use fokker_tensor::noise::stream;
use fokker_tensor::{Noise, Tensor};
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::error::MetricError;
use crate::line::{along, check_directions, check_order, directions};
use crate::vectors::Vectors;

/// Sliced Wasserstein distance (Bonneel et al. 2015, "Sliced and Radon Wasserstein barycenters of measures", eq. 6), over random
/// directions; sets may be of different sizes.
///
/// - **Range**: `≥ 0`, in the data's unit; 0 for equal laws only. `SW_2 ≤ W_2/√D`. Clouds that differ by a shift `s` have
///   `SW_2 = |s|/√D`.
/// - **Bias**: upwards; two sets of one law of size `N` are about `√((1/N)` × variance`)` apart. Compare with the distance of two real
///   sets of the same sizes.
/// - **Sample size**: hundreds; unlike the distance itself it does not need more in higher dimensions. The standard error is of the
///   choice of directions only.
/// - **Cannot see**: in high dimensions most directions are alike, and a difference along a few is diluted: see
///   [`MaxSlicedWasserstein`](super::MaxSlicedWasserstein).
/// - **Cost**: `L (N + M)(D + log N)`; memory `64 (N + M)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlicedWasserstein {
    /// The number of random directions `L`.
    pub directions: usize,
    /// The order, at least 1.
    pub p: f64,
}

impl Default for SlicedWasserstein {
    fn default() -> Self {
        SlicedWasserstein { directions: 512, p: 2.0 }
    }
}

/// What [`SlicedWasserstein`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Sliced {
    /// `SW_p`, the root of the mean over directions.
    pub distance: f64,
    /// Its standard error from the spread over directions.
    pub error: f64,
    /// `W_p^p` along each direction.
    pub costs: Vec<f64>,
}

impl SlicedWasserstein {
    /// The distance of `[N, ...]` and `[M, ...]` over random directions.
    ///
    /// # Errors
    /// When a set is empty or has a number that is not finite; when the widths differ; when there are fewer than two directions or `p < 1`.
    pub fn estimate(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<Sliced, MetricError> {
        let (x, y) = Vectors::pair(real, generated)?;
        if self.directions < 2 {
            return Err(MetricError::config("directions", self.directions, "at least 2"));
        }
        check_order(self.p)?;
        let noise = Noise::new(seed, stream("sliced"));
        Ok(self.of(along(&x, &y, &directions(noise, self.directions, x.width()), self.p)))
    }

    /// The distance over given directions `[L, D]`, each of length 1.
    ///
    /// # Errors
    /// As [`estimate`](Self::estimate), and when a direction is not of length 1 or not of the sets' width.
    pub fn along(&self, real: &Tensor, generated: &Tensor, directions: &Tensor) -> Result<Sliced, MetricError> {
        let (x, y) = Vectors::pair(real, generated)?;
        check_order(self.p)?;
        let directions = check_directions(directions, x.width())?;
        Ok(self.of(along(&x, &y, &directions, self.p)))
    }

    fn of(&self, costs: Vec<f64>) -> Sliced {
        let n = costs.len() as f64;
        let mean = costs.iter().sum::<f64>() / n;
        let variance = costs.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let distance = mean.powf(1.0 / self.p);
        // d(m^{1/p}) = m^{1/p} / (p m) dm.
        let slope = if mean > 0.0 { distance / (self.p * mean) } else { 0.0 };
        Sliced { distance, error: slope * (variance / n).sqrt(), costs }
    }
}

impl Metric for SlicedWasserstein {
    fn scores(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<Vec<Score>, MetricError> {
        let found = self.estimate(real, generated, seed)?;
        Ok(vec![Score::with_error("sliced-wasserstein", found.distance, found.error)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn a_shifted_cloud_is_the_shift_over_the_root_of_the_dimension_away() {
        let width = 5;
        let shift = [3.0, 0.0, 0.0, -4.0, 0.0];
        let x = normal(700, width, 1);
        let y = &x + &Tensor::from_vec(&[1, width], shift.to_vec());
        let found = SlicedWasserstein { directions: 4000, p: 2.0 }.estimate(&x, &y, 0).unwrap();
        let expected = 5.0 / (width as f64).sqrt();
        assert!((found.distance - expected).abs() < 4.0 * found.error && found.error < 0.02 * expected, "{found:?}");
        // Along each direction the distance is that of the shift.
        let theta = Tensor::from_vec(&[1, width], vec![0.6, 0.0, 0.0, 0.8, 0.0]);
        let one = SlicedWasserstein::default().along(&x, &y, &theta).unwrap();
        assert!((one.distance - 1.4).abs() < 1e-12 && one.error == 0.0);
    }

    #[test]
    fn a_set_with_itself_is_at_zero_whatever_the_order_of_rows() {
        let x = normal(301, 4, 1);
        let backwards: Vec<f64> = x.to_vec::<f64>().chunks(4).rev().flatten().copied().collect();
        let found = SlicedWasserstein::default().estimate(&x, &Tensor::from_vec(&[301, 4], backwards), 0).unwrap();
        assert!(found.distance < 1e-13);
        // Twice the points, the same law.
        let twice = Tensor::concat(&[&x, &x], 0);
        assert!(SlicedWasserstein::default().estimate(&x, &twice, 0).unwrap().distance < 1e-13);
    }

    #[test]
    fn bad_options_and_directions_are_refused() {
        let x = normal(10, 2, 1);
        assert!(SlicedWasserstein { p: 0.5, directions: 8 }.estimate(&x, &x, 0).is_err());
        assert!(SlicedWasserstein { p: 2.0, directions: 1 }.estimate(&x, &x, 0).is_err());
        let theta = Tensor::from_vec(&[1, 2], vec![1.0, 1.0f64]);
        let error = SlicedWasserstein::default().along(&x, &x, &theta).unwrap_err().to_string();
        assert!(error.starts_with("the length of direction 0 is 1.41"), "{error}");
    }
}
