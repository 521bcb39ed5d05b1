//! Squares of images and of gradients, taken to the points.

use pulp::Simd;

use super::transform::{Map, POINTS, SIDE, STEP, both_axes};
use crate::element::Stored;
use crate::lanes::{Held, Lanes, part_of, width};
use crate::ops::conv2d::cpu::Geometry;

/// A square of an image, parts of which may lie outside, where the image is zero.
#[derive(Clone, Copy)]
pub(super) struct Patch<'a, X> {
    /// `[height, width, channels]`.
    image: &'a [X],
    height: usize,
    width: usize,
    channels: usize,
    top: isize,
    left: isize,
}

impl<'a, X: Stored> Patch<'a, X> {
    /// Of image number `image` among `images`, each of this height, width and channels.
    #[inline(always)]
    fn of(images: &'a [X], image: usize, [height, width, channels]: [usize; 3], top: isize, left: isize) -> Self {
        let len = height * width * channels;
        Patch { image: &images[image * len..][..len], height, width, channels, top, left }
    }

    /// The values at the points of all channels, `[POINTS]` with `step` elements between.
    #[inline(always)]
    pub(super) fn spread<S: Simd, T: Lanes, F: Map<I, SIDE>, const I: usize>(self, simd: S, out: &mut [T], step: usize)
    where
        X: Held<T>,
    {
        let lanes = width::<S, T>();
        assert_eq!(self.image.len(), self.height * self.width * self.channels);
        assert!((POINTS - 1) * step + self.channels.next_multiple_of(lanes) <= out.len());
        let fits = |first: isize, n: usize| first >= 0 && first as usize + I <= n;
        let inside = fits(self.top, self.height) && fits(self.left, self.width);
        let out = out.as_mut_ptr();
        for c in (0..self.channels).step_by(lanes) {
            // SAFETY: `out` has room for `lanes` elements from each point's `c` on, as just asserted.
            let store = |i: usize, j: usize, v| unsafe {
                out.add((i * SIDE + j) * step + c).cast::<T::V<S>>().write_unaligned(v);
            };
            let whole = inside && c + lanes <= self.channels;
            // Of a patch that lies in the image.
            let at = |i: usize, j: usize| {
                let first = (self.top as usize * self.width + self.left as usize) * self.channels + c;
                self.image.as_ptr().wrapping_add(first + (i * self.width + j) * self.channels)
            };
            if X::PLAIN {
                if whole {
                    // SAFETY: all `I × I` pixels lie in the image, and in each the channels `c..c + lanes`.
                    both_axes::<S, T, F, I, SIDE>(simd, |i, j| unsafe { X::read(simd, at(i, j)) }, store);
                } else {
                    both_axes::<S, T, F, I, SIDE>(simd, |i, j| self.careful::<S, T>(simd, i, j, c), store);
                }
                continue;
            }
            // Conversions in a function that is passed on would not be compiled for these vectors.
            let mut patch = [[T::splat(simd, T::ZERO); I]; I];
            for (i, row) in patch.iter_mut().enumerate() {
                for (j, v) in row.iter_mut().enumerate() {
                    // SAFETY: as above.
                    *v = if whole { unsafe { X::read(simd, at(i, j)) } } else { self.careful::<S, T>(simd, i, j, c) };
                }
            }
            both_axes::<S, T, F, I, SIDE>(simd, |i, j| patch[i][j], store);
        }
    }

    #[inline(always)]
    fn careful<S: Simd, T: Lanes>(self, simd: S, i: usize, j: usize, c: usize) -> T::V<S>
    where
        X: Held<T>,
    {
        let (row, column) = (self.top + i as isize, self.left + j as isize);
        if row < 0 || column < 0 || row as usize >= self.height || column as usize >= self.width {
            return T::splat(simd, T::ZERO);
        }
        let pixel = &self.image[(row as usize * self.width + column as usize) * self.channels..][..self.channels];
        part_of::<S, T, X>(simd, pixel, c)
    }
}

/// The patch of what is read for a tile of the result.
#[inline(always)]
pub(super) fn patch<'a, X: Stored>(g: &Geometry, x: &'a [X], image: usize, row: usize, column: usize) -> Patch<'a, X> {
    Patch::of(x, image, [g.h.input, g.w.input, g.c_in], g.h.first(row * STEP), g.w.first(column * STEP))
}

/// The part of the gradient that is a tile's.
#[inline(always)]
pub(super) fn gradient_patch<'a, X: Stored>(
    g: &Geometry,
    grad: &'a [X],
    image: usize,
    row: usize,
    column: usize,
) -> Patch<'a, X> {
    Patch::of(grad, image, [g.h.output, g.w.output, g.c_out], (row * STEP) as isize, (column * STEP) as isize)
}
