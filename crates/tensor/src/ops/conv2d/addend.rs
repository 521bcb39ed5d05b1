//! What is added to a convolution's sums besides the bias: a tensor of the result's shape (a residual), or a row of channels for each sample
//! or for all (the shift by a noise level's embedding).
//!
//! Vectors of sums are written with the bias and the sample's row. A residual follows piece by piece, where the cache still holds what was
//! written; where numbers are rounded as they are written, before that.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{NullaryFnOnce, Simd};

use super::cpu::Geometry;
use crate::lanes::{Held, Lanes, MOST, part_of, put_in, width};
use crate::{Tensor, simd};

/// `R` is how the numbers are held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Addend<R> {
    Nothing,
    /// `[B, C_out]`, one for all pixels of a sample, or `[1, C_out]`, one for all samples.
    Rows(R),
    /// `[B, OH, OW, C_out]`.
    Image(R),
}

impl<R> Addend<R> {
    pub(super) fn map<Q>(self, f: impl FnOnce(R) -> Q) -> Addend<Q> {
        match self {
            Addend::Nothing => Addend::Nothing,
            Addend::Rows(r) => Addend::Rows(f(r)),
            Addend::Image(r) => Addend::Image(f(r)),
        }
    }

    pub(super) fn as_ref(&self) -> Addend<&R> {
        match self {
            Addend::Nothing => Addend::Nothing,
            Addend::Rows(r) => Addend::Rows(r),
            Addend::Image(r) => Addend::Image(r),
        }
    }
}

impl<'a> Addend<&'a Tensor> {
    /// By its shape, for a result of some shape.
    #[track_caller]
    pub(super) fn of(r: &'a Tensor, [b, oh, ow, c]: [usize; 4]) -> Self {
        match r.shape() {
            shape if shape == [b, oh, ow, c] => Addend::Image(r),
            shape if shape == [b, 1, 1, c] || shape == [1, 1, 1, c] => Addend::Rows(r),
            shape => panic!("conv2d: addend of shape {shape:?} for a result of shape {:?}", [b, oh, ow, c]),
        }
    }
}

impl<X> Addend<&[X]> {
    /// Adds its part to some rows of some images of the result (several images only with all their rows), which the cache still holds.
    pub(super) fn add_to<T: Lanes>(self, g: &Geometry, images: Range<usize>, rows: Range<usize>, y: &mut [T])
    where
        X: Held<T>,
    {
        let (row, image) = (g.w.output * g.c_out, g.h.output * g.w.output * g.c_out);
        match self {
            Addend::Nothing => {}
            Addend::Image(r) => {
                let r = &r[images.start * image + rows.start * row..][..y.len()];
                simd::widest(Add { y, r });
            }
            Addend::Rows(r) => {
                for (image, y) in images.zip(y.chunks_exact_mut((rows.len() * row).max(1))) {
                    let r = if r.len() == g.c_out { r } else { &r[image * g.c_out..][..g.c_out] };
                    simd::widest(Add { y, r });
                }
            }
        }
    }
}

/// `y += r`, repeated.
struct Add<'a, T, X> {
    y: &'a mut [T],
    r: &'a [X],
}

impl<T: Lanes, X: Held<T>> NullaryFnOnce for Add<'_, T, X> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for y in self.y.chunks_exact_mut(self.r.len().max(1)) {
            y.iter_mut().zip(self.r).for_each(|(y, r)| *y += r.element());
        }
    }
}

/// All that is added where vectors of channels are written.
pub(super) struct Added<'a, T, X> {
    /// The bias with the row of each sample, or alone: padded with zeros to whole vectors of any width.
    shifts: Vec<T>,
    /// Elements of a row.
    each: usize,
    /// Elements of an image.
    image: usize,
    residual: Option<&'a [X]>,
}

impl<'a, T: Lanes, X: Held<T>> Added<'a, T, X> {
    pub(super) fn new(g: &Geometry, bias: Option<&[T]>, addend: Addend<&'a [X]>) -> Self {
        let (rows, residual) = match addend {
            Addend::Nothing => (None, None),
            Addend::Rows(r) => (Some(r), None),
            Addend::Image(r) => (None, Some(r)),
        };
        let each = g.c_out.next_multiple_of(MOST);
        let mut shifts = vec![T::ZERO; each * rows.map_or(1, |r| r.len() / g.c_out.max(1))];
        for (b, shift) in shifts.chunks_exact_mut(each.max(1)).enumerate() {
            if let Some(bias) = bias {
                shift[..g.c_out].copy_from_slice(bias);
            }
            if let Some(r) = rows {
                shift.iter_mut().zip(&r[b * g.c_out..][..g.c_out]).for_each(|(shift, r)| *shift += r.element());
            }
        }
        Added { shifts, each, image: g.h.output * g.w.output * g.c_out, residual }
    }

    /// What is added to all pixels of an image.
    pub(super) fn shift(&self, image: usize) -> &[T] {
        let row = if self.shifts.len() == self.each { 0 } else { image };
        &self.shifts[row * self.each..][..self.each]
    }

    /// What is added to `len` elements of an image, from `first` on.
    pub(super) fn residual(&self, image: usize, first: usize, len: usize) -> Option<&'a [X]> {
        self.residual.map(|r| &r[image * self.image + first..][..len])
    }
}

/// `y += r`, where the cache holds `y`. Not as tiles are written: reads between the stores of a transform cost more than they save.
pub(super) struct AddResidual<'a, S, T, X> {
    pub(super) simd: S,
    pub(super) y: &'a mut [X],
    pub(super) r: &'a [X],
    pub(super) computed_with: PhantomData<T>,
}

impl<S: Simd, T: Lanes, X: Held<T>> NullaryFnOnce for AddResidual<'_, S, T, X> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let AddResidual { simd, y, r, .. } = self;
        for i in (0..y.len()).step_by(width::<S, T>()) {
            let sum = T::plus(simd, part_of::<S, T, X>(simd, y, i), part_of::<S, T, X>(simd, r, i));
            put_in::<S, T, X>(simd, y, i, sum);
        }
    }
}
