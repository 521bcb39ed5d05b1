//! Max-sliced Wasserstein distance.
//!
//! ```text
//! max-SW_p = max_{|θ| = 1} W_p(θ·X, θ·Y)
//! ```
//!
//! The best of random directions, the direction of the difference of means and each axis' are improved by gradient ascent on the sphere:
//! with the sorted coupling held, `∇_θ W_p^p = Σ mass p |d|^{p−1} sign(d) (x_i − y_j)`, `d = θ·(x_i − y_j)`; a step is kept only if it improves.

use fokker_tensor::noise::stream;
use fokker_tensor::{Noise, Tensor};
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::error::MetricError;
use crate::line::{along, check_order, directions, gradient, normalise};
use crate::pairs::dot;
use crate::vectors::Vectors;

/// Max-sliced Wasserstein distance (Deshpande et al. 2019, "Max-sliced Wasserstein distance and its use for GANs", eq. 7).
///
/// - **Range**: `≥ 0`, in the data's unit; `≤ W_p`. Clouds that differ by a shift are as far apart as the shift.
/// - **Bias**: what is found is a lower bound of the maximum over directions, which itself is biased upwards and the more the higher the
///   dimension: with `D` near `N` some direction separates any two sets. Compare with two real sets of the same sizes.
/// - **Sample size**: `N` well above `D`.
/// - **Cannot see**: whether there are further directions of difference.
/// - **Cost**: `(L + D + 2 S)(N + M)(D + log N)` with `S` steps of ascent; memory `64 (N + M)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaxSlicedWasserstein {
    /// Random directions among which the ascent's start is chosen.
    pub directions: usize,
    /// The most steps of ascent.
    pub steps: usize,
    /// The order, at least 1.
    pub p: f64,
}

impl Default for MaxSlicedWasserstein {
    fn default() -> Self {
        MaxSlicedWasserstein { directions: 256, steps: 100, p: 2.0 }
    }
}

/// What [`MaxSlicedWasserstein`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxSliced {
    /// `W_p` along the direction.
    pub distance: f64,
    /// The direction, of length 1.
    pub direction: Vec<f64>,
}

/// Axes are tried as starts up to this width.
const AXES: usize = 128;

impl MaxSlicedWasserstein {
    /// The largest distance found of `[N, ...]` and `[M, ...]`.
    ///
    /// # Errors
    /// When a set is empty or has a number that is not finite; when the widths differ; when there is no direction or `p < 1`.
    pub fn estimate(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<MaxSliced, MetricError> {
        let (x, y) = Vectors::pair(real, generated)?;
        if self.directions == 0 {
            return Err(MetricError::config("directions", 0, "at least 1"));
        }
        check_order(self.p)?;
        let starts = self.starts(&x, &y, seed);
        let costs = along(&x, &y, &starts, self.p);
        let best = (0..costs.len()).max_by(|&a, &b| costs[a].total_cmp(&costs[b]).then(b.cmp(&a))).expect("a direction");
        let start = starts.as_slice::<f64>()[best * x.width()..][..x.width()].to_vec();
        let (cost, direction) = self.ascend(&x, &y, start);
        Ok(MaxSliced { distance: cost.powf(1.0 / self.p), direction })
    }

    fn starts(&self, x: &Vectors, y: &Vectors, seed: u64) -> Tensor {
        let width = x.width();
        let mut starts = vec![directions(Noise::new(seed, stream("maxslice")), self.directions, width)];
        let mut shift: Vec<f64> = x.mean().iter().zip(y.mean()).map(|(a, b)| a - b).collect();
        normalise(&mut shift);
        starts.push(Tensor::from_vec(&[1, width], shift));
        if width <= AXES {
            let axes = (0..width * width).map(|i| f64::from(u8::from(i / width == i % width))).collect();
            starts.push(Tensor::from_vec(&[width, width], axes));
        }
        Tensor::concat(&starts.iter().collect::<Vec<_>>(), 0)
    }

    fn ascend(&self, x: &Vectors, y: &Vectors, mut theta: Vec<f64>) -> (f64, Vec<f64>) {
        let (mut cost, mut slope) = gradient(x, y, &theta, self.p);
        // How far along the (normalised) gradient to go: infinity is the gradient's direction itself, the maximum for a fixed coupling
        // that has one direction.
        let mut step = 1.0;
        for _ in 0..self.steps {
            normalise(&mut slope);
            let along = dot(&slope, &theta);
            let tangent = (1.0 - along * along).max(0.0).sqrt();
            if tangent < 1e-9 || step < 1e-6 {
                break;
            }
            let mut next: Vec<f64> = theta.iter().zip(&slope).map(|(t, s)| t + step * s).collect();
            normalise(&mut next);
            let (next_cost, next_slope) = gradient(x, y, &next, self.p);
            if next_cost > cost {
                (cost, slope, theta) = (next_cost, next_slope, next);
                step *= 2.0;
            } else {
                step /= 4.0;
            }
        }
        (cost, theta)
    }
}

impl Metric for MaxSlicedWasserstein {
    fn scores(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<Vec<Score>, MetricError> {
        Ok(vec![Score::new("max-sliced-wasserstein", self.estimate(real, generated, seed)?.distance)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn a_shifted_cloud_is_the_shift_away_and_in_its_direction() {
        let shift = [3.0, 0.0, 0.0, -4.0, 0.0];
        let x = normal(400, 5, 1);
        let y = &x + &Tensor::from_vec(&[1, 5], shift.to_vec());
        let found = MaxSlicedWasserstein::default().estimate(&x, &y, 0).unwrap();
        assert!((found.distance - 5.0).abs() < 1e-9, "{found:?}");
        assert!((dot(&found.direction, &shift).abs() - 5.0).abs() < 1e-9);
    }

    #[test]
    fn a_stretched_direction_is_found_though_the_means_agree() {
        // y = A x stretches the diagonal by 3: W₂ along θ is |√(θᵀ A² θ) − 1| for exact Gaussians, at most 2 along the diagonal.
        let (n, width) = (4000, 8);
        let x = normal(n, width, 1);
        let diagonal = vec![1.0 / (width as f64).sqrt(); width];
        let stretched = |x: &Tensor| {
            let data = x.to_vec::<f64>();
            let rows = data.chunks(width).flat_map(|row| {
                let along = dot(row, &diagonal);
                row.iter().zip(&diagonal).map(|(v, d)| v + 2.0 * along * d).collect::<Vec<_>>()
            });
            Tensor::from_vec(&[n, width], rows.collect())
        };
        let y = stretched(&normal(n, width, 2));
        let found = MaxSlicedWasserstein::default().estimate(&x, &y, 0).unwrap();
        assert!((found.distance - 2.0).abs() < 0.1, "{}", found.distance);
        assert!(dot(&found.direction, &diagonal).abs() > 0.99);
        let start = MaxSlicedWasserstein { steps: 0, ..MaxSlicedWasserstein::default() }.estimate(&x, &y, 0).unwrap();
        assert!(start.distance < found.distance - 0.01, "{} before the ascent, {} after", start.distance, found.distance);
    }

    #[test]
    fn a_set_with_itself_is_at_zero() {
        let x = normal(100, 3, 1);
        assert_eq!(MaxSlicedWasserstein::default().estimate(&x, &x, 0).unwrap().distance, 0.0);
    }
}
