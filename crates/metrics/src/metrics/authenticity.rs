//! Authenticity.
//!
//! ```text
//! i*(j) = argmin_i |g_j − x_i|,     A_j = 1[|g_j − x_{i*}| > min_{i ≠ i*} |x_{i*} − x_i|],     authenticity = 1/M Σ_j A_j
//! ```

use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::balls::share;
use crate::error::MetricError;
use crate::manifold::Manifold;
use crate::nearest::Nearest;
use crate::vectors::Vectors;

/// Authenticity (Alaa et al. 2022, "How faithful is your synthetic data?", section 4): the share of samples that are farther from their nearest training
/// vector than that vector is from its own nearest. The real set is the *training* set.
///
/// - **Range**: `[0, 1]`, higher is better; 0 for a copy of the training set. Fresh vectors of the law itself reach about one half, not 1.
/// - **Bias**: grows as the model gets worse: a bad model is authentic. Read it beside precision.
/// - **Sample size**: hundreds of samples; the whole training set.
/// - **Cannot see**: copies in sparse regions that are moved less far than the data's own gaps are counted, those moved farther are not.
/// - **Cost**: `N M + N²/2` distances, `O(D)` each; memory `O(N + M)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authenticity {}

impl Authenticity {
    /// For each generated vector of `[M, ...]` whether it is authentic beside the training set `[N, ...]`.
    ///
    /// # Errors
    /// When a set is empty or has a number that is not finite; when there are fewer than two training vectors; when the widths differ.
    pub fn estimate(&self, training: &Tensor, generated: &Tensor) -> Result<Vec<bool>, MetricError> {
        Vectors::named_pair(("training", training), ("generated", generated))?;
        self.between(&Manifold::of("training", training, 1)?, generated)
    }

    /// The same beside training vectors whose neighbours are known: `N M` distances.
    ///
    /// # Errors
    /// When the generated set is empty or has a number that is not finite; when the widths differ.
    pub fn between(&self, training: &Manifold, generated: &Tensor) -> Result<Vec<bool>, MetricError> {
        let y = Vectors::new("generated", generated)?;
        let x = training.vectors_beside(&y, "generated")?;
        let nearest = Nearest::across(&y, &x, 1);
        let gaps = training.squared_radii(1)?;
        Ok((0..y.rows()).map(|j| nearest.squared(j)[0] > gaps[nearest.indices(j)[0]]).collect())
    }
}

impl Metric for Authenticity {
    fn scores(&self, real: &Tensor, generated: &Tensor, _seed: u64) -> Result<Vec<Score>, MetricError> {
        Ok(vec![Score::new("authenticity", share(self.estimate(real, generated)?.into_iter()))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn a_line_is_judged_by_hand() {
        // Gaps of 0, 1, 10: 1, 1, 9.
        let training = Tensor::from_vec(&[3, 1], vec![0.0, 1.0, 10.0f64]);
        let generated = Tensor::from_vec(&[4, 1], vec![-1.5, 1.5, 15.0, 25.0f64]);
        assert_eq!(Authenticity {}.estimate(&training, &generated).unwrap(), [true, false, false, true]);
    }

    #[test]
    fn copies_are_not_authentic_and_fresh_vectors_are_so_half_of_the_time() {
        let training = normal(2000, 3, 1);
        let copies = &training + &(&normal(2000, 3, 2) * 1e-3);
        assert!(share(Authenticity {}.estimate(&training, &copies).unwrap().into_iter()) < 0.01);
        let fresh = share(Authenticity {}.estimate(&training, &normal(2000, 3, 3)).unwrap().into_iter());
        assert!((fresh - 0.5).abs() < 0.1, "{fresh}");
    }
}
