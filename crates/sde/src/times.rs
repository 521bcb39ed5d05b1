//! The times of a batch: one for all samples, or one for each.

use std::ops::Range;

use fokker_tensor::Tensor;

/// The time of every sample of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Times {
    /// All samples are at the same time, as in most solvers.
    Same(f64),
    /// Sample `i` is at time `times[i]`, as in training and in solvers that step each sample on its own.
    Each(Vec<f64>),
}

impl From<f64> for Times {
    fn from(t: f64) -> Self {
        Self::Same(t)
    }
}

impl From<Vec<f64>> for Times {
    fn from(times: Vec<f64>) -> Self {
        Self::Each(times)
    }
}

impl Times {
    /// The distinct times held: one, or one for each sample.
    pub fn values(&self) -> &[f64] {
        match self {
            Self::Same(t) => std::slice::from_ref(t),
            Self::Each(times) => times,
        }
    }

    /// The time of sample `i`.
    ///
    /// # Panics
    /// If there is no such sample.
    #[track_caller]
    pub fn of(&self, i: usize) -> f64 {
        match self {
            Self::Same(t) => *t,
            Self::Each(times) => times[i],
        }
    }

    /// The times of the samples in `range`.
    ///
    /// # Panics
    /// If the range reaches past the last sample.
    #[track_caller]
    pub fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::Same(t) => Self::Same(*t),
            Self::Each(times) => Self::Each(times[range].to_vec()),
        }
    }

    /// The times that `f` makes of these.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        match self {
            Self::Same(t) => Self::Same(f(*t)),
            Self::Each(times) => Self::Each(times.iter().map(|&t| f(t)).collect()),
        }
    }

    /// The numbers that `f` makes of each time of this and of `other`: one if both have one for all samples, else one for each.
    ///
    /// # Panics
    /// If both have times for each sample, but of different numbers of samples.
    #[track_caller]
    pub fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        match (self, other) {
            (_, Self::Same(s)) => self.map(|t| f(t, *s)),
            (Self::Same(t), _) => other.map(|s| f(*t, s)),
            (Self::Each(ts), Self::Each(others)) => {
                assert_eq!(ts.len(), others.len(), "{} times and {} others", ts.len(), others.len());
                Self::Each(ts.iter().zip(others).map(|(&t, &s)| f(t, s)).collect())
            }
        }
    }

    /// Multiplies each sample of `x`, `[B, ...]`, by the `coefficient` of its time; the result has `x`'s shape and type.
    ///
    /// # Panics
    /// If there are as many times as neither one nor `B`.
    #[track_caller]
    pub fn scale(&self, x: &Tensor, coefficient: impl Fn(f64) -> f64) -> Tensor {
        self.assert_batch(x);
        match self {
            Self::Same(t) => match coefficient(*t) {
                1.0 => x.clone(),
                c => x * c,
            },
            Self::Each(_) => x * &self.column(x, coefficient),
        }
    }

    /// The coefficients of the times as a tensor that broadcasts over `x`, `[B, ...]`: of shape `[B, 1, ...]`, or
    /// `[1, 1, ...]` for one time; of `x`'s type.
    ///
    /// # Panics
    /// If there are as many times as neither one nor `B`.
    #[track_caller]
    pub fn column(&self, x: &Tensor, coefficient: impl Fn(f64) -> f64) -> Tensor {
        self.assert_batch(x);
        let values: Vec<f64> = self.values().iter().map(|&t| coefficient(t)).collect();
        let mut shape = vec![1; x.rank()];
        shape[0] = values.len();
        Tensor::from_f64(&shape, &values, x.dtype())
    }

    /// Panics unless there is one time, or one for each sample of `x`.
    #[track_caller]
    pub(crate) fn assert_batch(&self, x: &Tensor) {
        assert!(x.rank() > 0, "a batch needs a leading axis [B, ...], got a scalar");
        if let Self::Each(times) = self {
            assert_eq!(times.len(), x.dim(0), "{} times for a batch of shape {:?}", times.len(), x.shape());
        }
    }
}
