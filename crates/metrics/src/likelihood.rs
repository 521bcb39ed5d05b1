//! Negative log-likelihood under a density that is known exactly.
//!
//! ```text
//! NLL = −1/M Σ_j ln p(g_j)     nats,     NLL/(D ln 2)     bits per dimension
//! ```

use fokker_tensor::Tensor;

use crate::error::MetricError;
use crate::vectors::Vectors;

/// The mean negative log-density of samples under the law that they should follow.
///
/// - **Range**: any number, least for samples at the law's modes. Samples *of the law* have its entropy `H`: the excess over `H` says how
///   improbable the samples are; a value below it, that they crowd.
/// - **Bias**: none; the standard error is the spread over `√M`.
/// - **Sample size**: hundreds: the error falls as `1/√M`, in any dimension.
/// - **Cannot see**: missing modes. It is a cross entropy, `H(q, p)`: a single point at the mode has the least.
/// - **Cost**: that of the density.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NegativeLogLikelihood {
    /// The mean, in nats per vector; infinite if a vector is impossible.
    pub nats: f64,
    /// Its standard error; NaN if a vector is impossible or there is only one.
    pub error: f64,
    /// Vectors of density 0, at which `ln p` is `−∞`.
    pub impossible: usize,
    /// Numbers per vector.
    pub width: usize,
}

impl NegativeLogLikelihood {
    /// From the log-densities of `M` vectors of `width` numbers, in nats.
    ///
    /// # Errors
    /// When there are none, or one is NaN or `+∞`.
    pub fn of(log_p: &[f64], width: usize) -> Result<NegativeLogLikelihood, MetricError> {
        if log_p.is_empty() || width == 0 {
            return Err(MetricError::Shape { set: "log-density", shape: vec![log_p.len(), width] });
        }
        if let Some(row) = log_p.iter().position(|l| l.is_nan() || *l == f64::INFINITY) {
            return Err(MetricError::NotFinite { set: "log-density", row, column: 0, value: log_p[row] });
        }
        let n = log_p.len() as f64;
        let mean = log_p.iter().sum::<f64>() / n;
        let variance = log_p.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let impossible = log_p.iter().filter(|l| l.is_infinite()).count();
        Ok(NegativeLogLikelihood { nats: -mean, error: (variance / n).sqrt(), impossible, width })
    }

    /// Of generated vectors `[M, ...]` under a density, which is asked for the log-densities of a few rows `[B, ...]` at a time.
    ///
    /// # Errors
    /// When the set is empty or has a number that is not finite, or as [`of`](Self::of).
    ///
    /// # Panics
    /// When the density does not answer each row.
    pub fn under(generated: &Tensor, mut log_density: impl FnMut(&Tensor) -> Vec<f64>) -> Result<Self, MetricError> {
        let x = Vectors::new("generated", generated)?;
        let mut log_p = Vec::with_capacity(x.rows());
        for i in 0..x.blocks() {
            let rows = x.span(i);
            let answer = log_density(&generated.slice(0, rows.clone()));
            assert_eq!(answer.len(), rows.len(), "log-densities of {} rows", rows.len());
            log_p.extend(answer);
        }
        NegativeLogLikelihood::of(&log_p, x.width())
    }

    /// In bits per dimension.
    pub fn bits_per_dimension(&self) -> f64 {
        self.nats / (self.width as f64 * std::f64::consts::LN_2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    fn log_normal(x: &Tensor) -> Vec<f64> {
        let width = x.len() / x.dim(0);
        let constant = -0.5 * width as f64 * (2.0 * std::f64::consts::PI).ln();
        x.to_vec::<f64>().chunks(width).map(|r| constant - 0.5 * r.iter().map(|v| v * v).sum::<f64>()).collect()
    }

    #[test]
    fn samples_of_a_gaussian_have_its_entropy_and_others_the_cross_entropy() {
        for (scale, shift) in [(1.0, 0.0), (1.5, 0.3)] {
            let x = &(&normal(20_000, 3, 1) * scale) + shift;
            let found = NegativeLogLikelihood::under(&x, log_normal).unwrap();
            let expected = 1.5 * ((2.0 * std::f64::consts::PI).ln() + scale * scale + shift * shift);
            assert!((found.nats - expected).abs() < 3.5 * found.error && found.error < 0.03, "{found:?}, expected {expected}");
            assert!((found.bits_per_dimension() - found.nats / 3.0 / std::f64::consts::LN_2).abs() < 1e-12);
        }
    }

    #[test]
    fn impossible_vectors_are_counted_and_what_is_no_density_refused() {
        let found = NegativeLogLikelihood::of(&[-1.0, f64::NEG_INFINITY, -2.0], 1).unwrap();
        assert!(found.nats == f64::INFINITY && found.impossible == 1 && found.error.is_nan());
        let error = NegativeLogLikelihood::of(&[-1.0, f64::NAN], 1).unwrap_err().to_string();
        assert!(error.starts_with("the log-density set has NaN at row 1"), "{error}");
        assert!(NegativeLogLikelihood::of(&[], 1).is_err());
    }
}
