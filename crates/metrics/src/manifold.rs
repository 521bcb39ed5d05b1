//! A set with the neighbours of each of its vectors among the others: found once, for all metrics that ask for them and for every set that is
//! compared with it.
//!
//! ```text
//! B(x_i) = {y : |y − x_i| ≤ NND_k(x_i)},     manifold(X) = ∪_i B(x_i)
//! ```

use fokker_tensor::Tensor;

use crate::balls::Count;
use crate::error::MetricError;
use crate::metrics::{DensityAndCoverage, DensityCoverage, PrecisionAndRecall, PrecisionRecall};
use crate::nearest::{Nearest, Search};
use crate::pairs::{Form, Pairs};
use crate::vectors::Vectors;

/// Vectors `[N, ...]` with the distances to the `k` nearest others of each.
///
/// It is to real data what [`Statistics`](crate::Statistics) are to the Fréchet distance: made once, used for every set of samples.
///
/// ```
/// use fokker_metrics::{DensityCoverage, Manifold, PrecisionRecall};
/// use fokker_tensor::{Dtype, Noise};
///
/// let noise = Noise::new(0, 1);
/// // Five neighbours are enough for both metrics.
/// let real = Manifold::real(&noise.normal(&[500, 4], 0, 0, Dtype::F32), 5)?;
/// for width in [1.0, 0.3] {
///     let samples = &noise.normal(&[500, 4], 500, 0, Dtype::F32) * width;
///     let generated = Manifold::generated(&samples, 3)?;
///     let found = real.meet(&generated, &PrecisionRecall::default(), &DensityCoverage::default())?;
///     println!("{width}: recall {:.2}, coverage {:.2}", found.precision_recall.recall, found.density_coverage.coverage);
///     assert_eq!(found.precision_recall, PrecisionRecall::default().between(&real, &generated)?);
/// }
/// # Ok::<(), fokker_metrics::MetricError>(())
/// ```
///
/// Cost: `N²/2` distances, `O(D)` each; memory `16 k N` bytes. The vectors are shared with the tensor that they came in.
pub struct Manifold {
    set: &'static str,
    vectors: Tensor,
    k: usize,
    nearest: Nearest,
}

/// What one pass over all pairs of two sets says of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Meeting {
    /// As of [`PrecisionRecall::between`].
    pub precision_recall: PrecisionAndRecall,
    /// As of [`DensityCoverage::between`].
    pub density_coverage: DensityAndCoverage,
    /// For each generated vector the row of its nearest real one; of equally near ones the first.
    pub nearest: Vec<usize>,
}

impl Manifold {
    /// Of real vectors `[N, ...]`, for metrics that ask for no more than `k` neighbours.
    ///
    /// # Errors
    /// When the set is empty or has a number that is not finite; when it has at most `k` rows; when `k` is 0.
    pub fn real(x: &Tensor, k: usize) -> Result<Manifold, MetricError> {
        Manifold::of("real", x, k)
    }

    /// Of generated vectors `[M, ...]`: [`real`](Self::real) with another name in messages.
    ///
    /// # Errors
    /// As [`real`](Self::real).
    pub fn generated(x: &Tensor, k: usize) -> Result<Manifold, MetricError> {
        Manifold::of("generated", x, k)
    }

    pub(crate) fn of(set: &'static str, x: &Tensor, k: usize) -> Result<Manifold, MetricError> {
        let vectors = Vectors::new(set, x)?;
        if k == 0 {
            return Err(MetricError::config("k", k, "at least one neighbour"));
        }
        let neighbours = if k == 1 { "a neighbour".to_owned() } else { format!("{k} neighbours") };
        vectors.at_least(set, k + 1, format!("{neighbours} of each among the others"))?;
        let nearest = Nearest::within(&vectors, k);
        Ok(Manifold { set, vectors: x.clone(), k, nearest })
    }

    /// The vectors as they came.
    pub fn tensor(&self) -> &Tensor {
        &self.vectors
    }

    /// The number of vectors.
    pub fn rows(&self) -> usize {
        self.vectors.dim(0)
    }

    pub(crate) fn vectors(&self) -> Vectors<'_> {
        Vectors::checked(&self.vectors)
    }

    /// The same, once they are known to be of the width of another set.
    pub(crate) fn vectors_beside(&self, other: &Vectors, second: &'static str) -> Result<Vectors<'_>, MetricError> {
        let x = self.vectors();
        if x.width() != other.width() {
            let (first_width, second_width) = (x.width(), other.width());
            return Err(MetricError::Widths { first: self.set, first_width, second, second_width });
        }
        Ok(x)
    }

    /// The squared distance of each vector to its `k`-th neighbour.
    #[track_caller]
    pub(crate) fn squared_radii(&self, k: usize) -> Result<Vec<f64>, MetricError> {
        if k == 0 {
            return Err(MetricError::config("k", k, "at least one neighbour"));
        }
        assert!(k <= self.k, "neighbour {k} of each, of a manifold with {}", self.k);
        Ok(self.nearest.squared_of(k))
    }

    /// Precision and recall, density and coverage of generated vectors beside these real ones, and the nearest real one of each: what
    /// [`PrecisionRecall::between`] and [`DensityCoverage::between`] say, in one pass over the `N M` pairs.
    ///
    /// # Errors
    /// When the widths differ or a `k` is 0.
    ///
    /// # Panics
    /// When a metric asks for more neighbours than a manifold has.
    #[track_caller]
    pub fn meet(
        &self,
        generated: &Manifold,
        precision_recall: &PrecisionRecall,
        density_coverage: &DensityCoverage,
    ) -> Result<Meeting, MetricError> {
        let y = generated.vectors();
        let x = self.vectors_beside(&y, generated.set)?;
        let (of_real, of_generated) = (self.squared_radii(precision_recall.k)?, generated.squared_radii(precision_recall.k)?);
        let wider = self.squared_radii(density_coverage.k)?;
        let manifolds = Count::new(&of_real, Some(&of_generated), y.rows());
        let balls = Count::new(&wider, None, y.rows());
        let nearest = Search::new(&y, 1);
        Pairs::across(&x, &y, Form::SquaredDistance).each(|tile| {
            manifolds.visit(&tile);
            balls.visit(&tile);
            nearest.columns(&tile);
        });
        let nearest = nearest.finish();
        Ok(Meeting {
            precision_recall: PrecisionAndRecall::of(manifolds.finish()),
            density_coverage: DensityAndCoverage::of(balls.finish(), density_coverage.k),
            nearest: (0..y.rows()).map(|j| nearest.indices(j)[0]).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Authenticity, Memorisation};
    use crate::pairs::tests::normal;

    #[test]
    fn what_is_found_once_has_the_bits_of_what_is_found_for_each_metric() {
        // More than a block of each.
        let real = normal(700, 5, 1);
        let manifold = Manifold::real(&real, 5).unwrap();
        for (seed, m) in [(2, 530), (3, 300)] {
            let samples = &normal(m, 5, seed) * 1.1;
            let generated = Manifold::generated(&samples, 3).unwrap();
            let (precision_recall, density_coverage) = (PrecisionRecall::default(), DensityCoverage::default());
            let found = manifold.meet(&generated, &precision_recall, &density_coverage).unwrap();
            assert_eq!(found.precision_recall, precision_recall.estimate(&real, &samples).unwrap());
            assert_eq!(found.precision_recall, precision_recall.between(&manifold, &generated).unwrap());
            assert_eq!(found.density_coverage, density_coverage.estimate(&real, &samples).unwrap());
            assert_eq!(found.density_coverage, density_coverage.between(&manifold, &samples).unwrap());
            assert_eq!(found.nearest, Memorisation::default().estimate(&real, &samples).unwrap().neighbours);
            let authentic = Authenticity {}.between(&manifold, &samples).unwrap();
            assert_eq!(authentic, Authenticity {}.estimate(&real, &samples).unwrap());
        }
    }

    #[test]
    fn fewer_neighbours_are_the_first_of_more() {
        let x = normal(400, 3, 1);
        let (few, many) = (Manifold::real(&x, 3).unwrap(), Manifold::real(&x, 7).unwrap());
        for k in 1..=3 {
            assert_eq!(few.squared_radii(k).unwrap(), many.squared_radii(k).unwrap());
        }
    }

    #[test]
    #[should_panic(expected = "neighbour 5 of each, of a manifold with 3")]
    fn more_neighbours_than_were_looked_for_are_a_mistake() {
        let x = normal(20, 2, 1);
        let few = Manifold::real(&x, 3).unwrap();
        let _ = DensityCoverage::default().between(&few, &x);
    }

    #[test]
    fn sets_of_two_spaces_do_not_meet() {
        let (x, y) = (normal(20, 2, 1), normal(20, 3, 2));
        let (real, generated) = (Manifold::real(&x, 5).unwrap(), Manifold::generated(&y, 3).unwrap());
        let expected = "the real set has 2 columns, the generated set 3: features of two different spaces";
        let error = real.meet(&generated, &PrecisionRecall::default(), &DensityCoverage::default()).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(PrecisionRecall::default().between(&real, &generated).unwrap_err().to_string(), expected);
        assert_eq!(DensityCoverage::default().between(&real, &y).unwrap_err().to_string(), expected);
        let error = Authenticity {}.between(&real, &y).unwrap_err().to_string();
        assert_eq!(error, expected);
    }
}
