//! What the 2-D densities share: points drawn from a seed.

use crate::dataset::{Batch, Dataset};
use crate::draws::Draws;
use crate::error::DataError;
use fokker_tensor::Tensor;
use fokker_tensor::noise::stream;

/// The nominal number of rows of a generated set.
pub(crate) const EPOCH: usize = 50_000;

/// A density on the plane.
pub(crate) trait Density: Send + Sync {
    /// One point and the component (mode, arm, ring) it came from.
    fn point(&self, draws: &mut Draws) -> ([f64; 2], u32);

    /// The number of components, where they make sensible classes.
    fn components(&self) -> Option<usize>;
}

/// A density as a data set: row `i` is a function of `(seed, name, i)`.
pub(crate) struct Points<D> {
    name: &'static str,
    density: D,
    len: usize,
    seed: u64,
}

impl<D: Density + 'static> Points<D> {
    /// Checks `len` and boxes the set.
    pub(crate) fn open(name: &'static str, density: D, len: usize, seed: u64) -> Result<Box<dyn Dataset>, DataError> {
        positive_len(len)?;
        Ok(Box::new(Points { name, density, len, seed }))
    }
}

impl<D: Density> Dataset for Points<D> {
    fn name(&self) -> &str {
        self.name
    }

    fn len(&self) -> usize {
        self.len
    }

    fn is_unlimited(&self) -> bool {
        true
    }

    fn sample_shape(&self) -> &[usize] {
        &[2]
    }

    fn classes(&self) -> Option<usize> {
        self.density.components()
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        let key = stream(self.name);
        let mut x = Vec::with_capacity(2 * rows.len());
        let mut labels = Vec::with_capacity(rows.len());
        for &row in rows {
            let ([a, b], component) = self.density.point(&mut Draws::new(self.seed, key, row as u64));
            x.extend([a as f32, b as f32]);
            labels.push(component);
        }
        Ok(Batch { x: Tensor::from_vec(&[rows.len(), 2], x), labels: self.density.components().map(|_| labels) })
    }
}

/// An error unless `len` is at least one.
pub(crate) fn positive_len(len: usize) -> Result<(), DataError> {
    if len == 0 {
        return Err(DataError::config("len", len, "at least 1"));
    }
    Ok(())
}

/// An error unless `value` is finite and not negative.
pub(crate) fn not_negative(field: &str, value: f64) -> Result<(), DataError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(DataError::config(field, value, "a finite number, at least 0"))
}

/// An error unless `value` is finite and positive.
pub(crate) fn positive(field: &str, value: f64) -> Result<(), DataError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(DataError::config(field, value, "a finite number above 0"))
}
