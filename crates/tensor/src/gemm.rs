//! The one door to matrix products on the CPU: the `gemm` crate, split over threads where that pays.

use crate::element::{Dtype, Element};

/// A read-only strided matrix.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// A dense row-major matrix.
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Mat { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// Rows `row_stride` apart.
    pub(crate) fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        Mat { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose (no copy).
    pub(crate) fn t(self) -> Self {
        Mat { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    fn fits(&self) -> bool {
        self.rows == 0
            || self.cols == 0
            || (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride < self.data.len()
    }
}

/// What happens to the elements that were in `c`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    Overwrite,
    Add,
}

/// Whether a product may use several threads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    One,
    Pool,
}

/// Multiplications from which on a product is worth a second thread.
const SPLIT: usize = 3 << 20;
/// Multiplications in each of several pieces.
const PIECE: usize = 12 << 20;
/// From here on the library's own splitting, which shares the packed operand, is faster.
const LARGE: usize = 1 << 27;

/// `c[i, j] = scale Σ_k a[i, k] b[k, j]` (or `+=`), `c` row-major with rows `c_stride` apart.
pub(crate) fn gemm<T: Element>(
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    c: &mut [T],
    c_stride: usize,
    scale: f64,
    into: Into,
    threads: Threads,
) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert_eq!(k, b.rows, "gemm: inner extents");
    assert!(a.fits() && b.fits() && c_stride >= n, "gemm: operand out of bounds");
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * c_stride + n <= c.len(), "gemm: result out of bounds");
    let work = m * n * k;
    if threads == Threads::One || work < SPLIT {
        block(a, b, &mut c[..(m - 1) * c_stride + n], c_stride, scale, into, gemm::Parallelism::None);
    } else if work >= LARGE {
        block(a, b, &mut c[..(m - 1) * c_stride + n], c_stride, scale, into, gemm::Parallelism::Rayon(0));
    } else {
        // Rows are split by the shape alone: each piece packs `b` again, so there are few.
        let pieces = (work / PIECE).clamp(2, 16).min(m.div_ceil(16));
        let rows = m.div_ceil(pieces).next_multiple_of(16);
        let end = (m - 1) * c_stride + n;
        crate::par::pieces(&mut c[..end], rows * c_stride, work, |i, c| {
            let first = i * rows;
            let part = Mat { data: &a.data[first * a.row_stride..], rows: rows.min(m - first), ..a };
            block(part, b, c, c_stride, scale, into, gemm::Parallelism::None);
        });
    }
}

fn block<T: Element>(
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    c: &mut [T],
    c_stride: usize,
    scale: f64,
    into: Into,
    parallelism: gemm::Parallelism,
) {
    match T::DTYPE {
        // SAFETY: `T::DTYPE` says that `T` is `f32`.
        Dtype::F32 => unsafe { call::<T, f32>(a, b, c, c_stride, scale as f32, into, parallelism) },
        Dtype::Bf16 => unreachable!("not an element that is computed with"),
        // SAFETY: `T::DTYPE` says that `T` is `f64`.
        Dtype::F64 => unsafe { call::<T, f64>(a, b, c, c_stride, scale, into, parallelism) },
    }
}

/// # Safety
/// `T` and `U` are the same type. (`gemm` tells its types apart by `TypeId` and needs a concrete one.)
unsafe fn call<T: Element, U: Element>(
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    c: &mut [T],
    c_stride: usize,
    scale: U,
    into: Into,
    parallelism: gemm::Parallelism,
) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    debug_assert!((m - 1) * c_stride + n <= c.len());
    // SAFETY: the callers checked that every element the strides reach lies inside the slices; `c` is borrowed mutably, so
    // nothing else reads or writes it; `T` is `U`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr().cast::<U>(),
            1,
            c_stride as isize,
            into == Into::Add,
            a.data.as_ptr().cast::<U>(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr().cast::<U>(),
            b.col_stride as isize,
            b.row_stride as isize,
            U::ONE,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
