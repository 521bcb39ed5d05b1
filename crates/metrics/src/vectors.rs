//! Sets of vectors as metrics see them: checked once, read in blocks of rows as `f64`.

use fokker_tensor::{Bf16, Dtype, Stored, Tensor};
use rayon::prelude::*;

use crate::error::MetricError;

/// Rows per block. A tile of 256 × 256 distances in `f64` is half a megabyte and stays in a core's cache.
pub(crate) const BLOCK: usize = 256;

/// From here on sums of squares could leave the range of `f64`.
const MOST: f64 = 1e140;

/// A checked set of `N` finite vectors of `D` numbers; a tensor `[N, ...]` whose other axes are taken as one. Two sets can be seen as
/// one without a copy.
#[derive(Clone)]
pub(crate) struct Vectors<'a> {
    parts: Vec<&'a Tensor>,
    rows: usize,
    width: usize,
}

impl<'a> Vectors<'a> {
    /// Checks that a set has rows and columns and that all its numbers are finite.
    pub(crate) fn new(set: &'static str, x: &'a Tensor) -> Result<Vectors<'a>, MetricError> {
        if x.rank() < 2 || x.is_empty() {
            return Err(MetricError::Shape { set, shape: x.shape().to_vec() });
        }
        let (rows, width) = (x.dim(0), x.len() / x.dim(0));
        let bad = match x.dtype() {
            Dtype::F32 => x.as_slice::<f32>().par_iter().position_first(|v| !v.is_finite()),
            Dtype::F64 => x.as_slice::<f64>().par_iter().position_first(|v| v.is_nan() || v.abs() >= MOST),
            Dtype::Bf16 => x.as_slice::<Bf16>().par_iter().position_first(|v| !v.to_f32().is_finite()),
        };
        if let Some(at) = bad {
            let value = match x.dtype() {
                Dtype::F32 => f64::from(x.as_slice::<f32>()[at]),
                Dtype::F64 => x.as_slice::<f64>()[at],
                Dtype::Bf16 => x.as_slice::<Bf16>()[at].to_f64(),
            };
            return Err(MetricError::NotFinite { set, row: at / width, column: at % width, value });
        }
        Ok(Vectors { parts: vec![x], rows, width })
    }

    /// A set that [`new`](Self::new) has accepted before.
    pub(crate) fn checked(x: &'a Tensor) -> Vectors<'a> {
        Vectors { parts: vec![x], rows: x.dim(0), width: x.len() / x.dim(0) }
    }

    /// Both sets, checked to be of one space.
    pub(crate) fn pair(real: &'a Tensor, generated: &'a Tensor) -> Result<(Vectors<'a>, Vectors<'a>), MetricError> {
        Vectors::named_pair(("real", real), ("generated", generated))
    }

    /// [`pair`](Self::pair) of sets with other names.
    pub(crate) fn named_pair(
        (first, x): (&'static str, &'a Tensor),
        (second, y): (&'static str, &'a Tensor),
    ) -> Result<(Vectors<'a>, Vectors<'a>), MetricError> {
        let (x, y) = (Vectors::new(first, x)?, Vectors::new(second, y)?);
        if x.width != y.width {
            return Err(MetricError::Widths { first, first_width: x.width, second, second_width: y.width });
        }
        Ok((x, y))
    }

    /// The rows of one set after those of another.
    pub(crate) fn pooled(x: &Vectors<'a>, y: &Vectors<'a>) -> Vectors<'a> {
        let parts = x.parts.iter().chain(&y.parts).copied().collect();
        Vectors { parts, rows: x.rows + y.rows, width: x.width }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// An error unless there are `needed` rows.
    pub(crate) fn at_least(&self, set: &'static str, needed: usize, why: impl Into<String>) -> Result<(), MetricError> {
        if self.rows < needed {
            return Err(MetricError::TooFew { set, found: self.rows, needed, why: why.into() });
        }
        Ok(())
    }

    /// The rows of block `i`.
    pub(crate) fn span(&self, i: usize) -> std::ops::Range<usize> {
        i * BLOCK..((i + 1) * BLOCK).min(self.rows)
    }

    pub(crate) fn blocks(&self) -> usize {
        self.rows.div_ceil(BLOCK)
    }

    /// The part that has a row, and the row's place in its numbers.
    fn locate(&self, mut row: usize) -> (&'a Tensor, std::ops::Range<usize>) {
        let wanted = row;
        for part in &self.parts {
            if row < part.dim(0) {
                return (part, row * self.width..(row + 1) * self.width);
            }
            row -= part.dim(0);
        }
        panic!("row {wanted} beyond the last of {}", self.rows);
    }

    /// One row as `f64`.
    pub(crate) fn copy_row(&self, row: usize, out: &mut [f64]) {
        let (part, at) = self.locate(row);
        match part.dtype() {
            Dtype::F32 => out.iter_mut().zip(&part.as_slice::<f32>()[at]).for_each(|(o, &v)| *o = f64::from(v)),
            Dtype::F64 => out.copy_from_slice(&part.as_slice::<f64>()[at]),
            Dtype::Bf16 => out.iter_mut().zip(&part.as_slice::<Bf16>()[at]).for_each(|(o, v)| *o = v.to_f64()),
        }
    }

    /// These rows as `[rows, D]` in `f64`, less `centre` where there is one.
    pub(crate) fn gather(&self, rows: impl ExactSizeIterator<Item = usize>, centre: Option<&[f64]>) -> Tensor {
        let count = rows.len();
        let mut data = vec![0.0; count * self.width];
        for (row, out) in rows.zip(data.chunks_exact_mut(self.width)) {
            self.copy_row(row, out);
            if let Some(centre) = centre {
                out.iter_mut().zip(centre).for_each(|(o, c)| *o -= c);
            }
        }
        Tensor::from_vec(&[count, self.width], data)
    }

    /// These rows as `[rows, D]` as they are if all are of `f32`, in `f64` otherwise.
    pub(crate) fn select(&self, rows: &[usize]) -> Tensor {
        if self.parts.iter().any(|part| part.dtype() != Dtype::F32) {
            return self.gather(rows.iter().copied(), None);
        }
        let mut data = Vec::with_capacity(rows.len() * self.width);
        for &row in rows {
            let (part, at) = self.locate(row);
            data.extend_from_slice(&part.as_slice::<f32>()[at]);
        }
        Tensor::from_vec(&[rows.len(), self.width], data)
    }

    /// Block `i` as `[rows, D]`.
    pub(crate) fn block(&self, i: usize, centre: Option<&[f64]>) -> Tensor {
        self.gather(self.span(i), centre)
    }

    /// `1/N Σ_i x_i`, summed within blocks, then over blocks in their order.
    pub(crate) fn mean(&self) -> Vec<f64> {
        let sums: Vec<Vec<f64>> = (0..self.blocks())
            .into_par_iter()
            .map(|i| {
                let (mut sum, mut row) = (vec![0.0; self.width], vec![0.0; self.width]);
                for r in self.span(i) {
                    self.copy_row(r, &mut row);
                    sum.iter_mut().zip(&row).for_each(|(s, v)| *s += v);
                }
                sum
            })
            .collect();
        let mut mean = vec![0.0; self.width];
        for sum in sums {
            mean.iter_mut().zip(&sum).for_each(|(m, s)| *m += s);
        }
        mean.iter_mut().for_each(|m| *m /= self.rows as f64);
        mean
    }

    /// The numbers of one column, in the order of rows.
    pub(crate) fn column(&self, column: usize) -> Vec<f64> {
        let of = |part: &&Tensor| -> Vec<f64> {
            match part.dtype() {
                Dtype::F32 => part.as_slice::<f32>().iter().skip(column).step_by(self.width).map(|&v| f64::from(v)).collect(),
                Dtype::F64 => part.as_slice::<f64>().iter().skip(column).step_by(self.width).copied().collect(),
                Dtype::Bf16 => part.as_slice::<Bf16>().iter().skip(column).step_by(self.width).map(|v| v.to_f64()).collect(),
            }
        };
        self.parts.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_finite_is_named_by_row_and_column() {
        let mut data = vec![0.5f32; 12];
        data[7] = f32::NAN;
        data[9] = f32::INFINITY;
        let error = Vectors::new("real", &Tensor::from_vec(&[4, 3], data)).err().unwrap();
        assert_eq!(error.to_string(), "the real set has NaN at row 2, column 1, expected finite numbers below 1e140");
    }

    #[test]
    fn empty_sets_and_sets_of_two_spaces_are_refused() {
        let x = Tensor::zeros(&[4, 3], Dtype::F32);
        for shape in [&[0, 3][..], &[4, 0], &[4]] {
            let error = Vectors::new("generated", &Tensor::zeros(shape, Dtype::F64)).err().unwrap();
            assert!(error.to_string().starts_with(&format!("the generated set is of shape {shape:?}, expected")), "{error}");
        }
        let y = Tensor::zeros(&[4, 2, 2], Dtype::F32);
        let error = Vectors::pair(&x, &y).err().unwrap();
        let expected = "the real set has 3 columns, the generated set 4: features of two different spaces";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn two_sets_of_two_types_are_seen_as_one() {
        let x = Tensor::from_vec(&[2, 2], vec![1.0f32, 2.0, 3.0, 4.0]);
        let y = Tensor::from_vec(&[1, 2], vec![5.0f64, 9.0]);
        let (x, y) = Vectors::pair(&x, &y).unwrap();
        let z = Vectors::pooled(&x, &y);
        assert_eq!(z.block(0, None).to_vec::<f64>(), [1.0, 2.0, 3.0, 4.0, 5.0, 9.0]);
        assert_eq!(z.mean(), [3.0, 5.0]);
        assert_eq!(z.column(1), [2.0, 4.0, 9.0]);
        assert_eq!(z.gather([2, 0].into_iter(), Some(&[1.0, 1.0])).to_vec::<f64>(), [4.0, 8.0, 0.0, 1.0]);
        let wide = z.select(&[2, 0]);
        assert_eq!((wide.dtype(), wide.to_vec::<f64>()), (Dtype::F64, vec![5.0, 9.0, 1.0, 2.0]));
        let narrow = Vectors::pooled(&x, &x).select(&[3, 0]);
        assert_eq!((narrow.dtype(), narrow.to_vec::<f32>()), (Dtype::F32, vec![3.0, 4.0, 1.0, 2.0]));
    }
}
