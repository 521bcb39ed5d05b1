//! Filters at the points.

use std::ops::Range;

use pulp::{NullaryFnOnce, Simd};

use super::transform::{Filter, POINTS, SIDE, TAPS, both_axes};
use super::{Geometry, apart};
use crate::lanes::{Held, Lanes, MOST, Scratch, prefetch, width};
use crate::par;

/// Input channels that are fetched ahead of the one that is taken to the points: a vector of each tap lies a row of all channels from the next, where
/// the machine does not foresee it.
const AHEAD: usize = 8;

/// The filter at the points: `[blocks of two vectors of output channels][point][input channel][block]`, points [`apart`], a last block of
/// one vector if their number is odd; padded with zeros.
pub(super) struct Points<T: Lanes> {
    data: Scratch<T>,
    /// Elements of a block.
    each: usize,
}

/// A block of output channels of the filter, from some input channels: `[point][input channel][block]`.
pub(super) struct FilterBlock<'a, S, T, X> {
    pub(super) simd: S,
    pub(super) g: &'a Geometry,
    pub(super) w: &'a [X],
    /// Its channels.
    pub(super) channels: Range<usize>,
    pub(super) inputs: Range<usize>,
    pub(super) out: &'a mut [T],
}

impl<S: Simd, T: Lanes, X: Held<T>> NullaryFnOnce for FilterBlock<'_, S, T, X> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let (g, lanes) = (self.g, width::<S, T>());
        let columns = self.channels.len().next_multiple_of(lanes);
        let step = apart::<T>(self.inputs.len() * columns);
        assert!(self.inputs.end <= g.c_in && lanes <= MOST && self.w.len() == TAPS * TAPS * g.c_in * g.c_out);
        let mut taps = [[[T::ZERO; MOST]; MOST]; TAPS * TAPS];
        for first in self.inputs.clone().step_by(MOST) {
            let inputs = first..self.inputs.end.min(first + MOST);
            for v in 0..columns / lanes {
                let co = self.channels.start + v * lanes;
                let direct = !g.h.transposed && co + lanes <= g.c_out;
                if !direct {
                    self.gather(&mut taps, inputs.clone(), co..g.c_out.min(co + lanes));
                }
                for ci in inputs.clone() {
                    let at = (ci - self.inputs.start) * columns + v * lanes;
                    assert!((POINTS - 1) * step + at + lanes <= self.out.len());
                    let out = self.out.as_mut_ptr();
                    // SAFETY: as just asserted.
                    let store = |i: usize, j: usize, value| unsafe {
                        out.add((i * SIDE + j) * step + at).cast::<T::V<S>>().write_unaligned(value);
                    };
                    if direct {
                        let from = self.w[ci * g.c_out + co..].as_ptr();
                        let ahead = from.wrapping_add(AHEAD * g.c_out);
                        (0..TAPS * TAPS).for_each(|tap| prefetch(ahead.wrapping_add(tap * g.c_in * g.c_out)));
                        // SAFETY: `lanes` channels of an input channel of a tap of the filter, which has all of them.
                        let load =
                            |i: usize, j: usize| unsafe { X::read(self.simd, from.add((i * TAPS + j) * g.c_in * g.c_out)) };
                        if X::PLAIN {
                            both_axes::<S, T, Filter, TAPS, SIDE>(self.simd, load, store);
                            continue;
                        }
                        let mut square = [[T::splat(self.simd, T::ZERO); TAPS]; TAPS];
                        for (i, row) in square.iter_mut().enumerate() {
                            for (j, tap) in row.iter_mut().enumerate() {
                                // SAFETY: `lanes` channels of an input channel of a tap of the filter, which has all of them.
                                *tap = unsafe { X::read(self.simd, from.add((i * TAPS + j) * g.c_in * g.c_out)) };
                            }
                        }
                        both_axes::<S, T, Filter, TAPS, SIDE>(self.simd, |i, j| square[i][j], store);
                    } else {
                        let load = |i: usize, j: usize| {
                            let row: &[T; MOST] = &taps[i * TAPS + j][ci - first];
                            // SAFETY: a row is as long as any vector.
                            unsafe { row.as_ptr().cast::<T::V<S>>().read_unaligned() }
                        };
                        both_axes::<S, T, Filter, TAPS, SIDE>(self.simd, load, store);
                    }
                }
            }
        }
    }
}

impl<S: Simd, T: Lanes, X: Held<T>> FilterBlock<'_, S, T, X> {
    /// The weights of some input and output channels, `[tap][input][output]`. The transpose reads output channels of the stored filter,
    /// writes its input channels, and turns it round: through a small square, as its rows lie far apart.
    #[inline(always)]
    fn gather(&self, taps: &mut [[[T; MOST]; MOST]; TAPS * TAPS], inputs: Range<usize>, outputs: Range<usize>) {
        let g = self.g;
        for (tap, square) in taps.iter_mut().enumerate() {
            *square = [[T::ZERO; MOST]; MOST];
            if g.h.transposed {
                let w = &self.w[(TAPS * TAPS - 1 - tap) * g.c_in * g.c_out..][..g.c_in * g.c_out];
                for (lane, co) in outputs.clone().enumerate() {
                    for (row, &x) in square.iter_mut().zip(&w[co * g.c_in..][inputs.clone()]) {
                        row[lane] = x.element();
                    }
                }
            } else {
                for (row, ci) in square.iter_mut().zip(inputs.clone()) {
                    let from = &self.w[(tap * g.c_in + ci) * g.c_out..][outputs.clone()];
                    row.iter_mut().zip(from).for_each(|(to, x)| *to = x.element());
                }
            }
        }
    }
}

impl<T: Lanes> Points<T> {
    pub(super) fn new<S: Simd, X: Held<T>>(simd: S, g: &Geometry, w: &[X]) -> Points<T> {
        let block = 2 * width::<S, T>();
        let each = POINTS * apart::<T>(g.c_in * block);
        let mut data = Scratch::<T>::new(g.c_out.div_ceil(block) * each);
        let cost = data.as_slice().len();
        par::pieces(data.as_mut_slice(), each, cost, |b, out| {
            let channels = b * block..g.c_out.min((b + 1) * block);
            simd.vectorize(FilterBlock { simd, g, w, channels, inputs: 0..g.c_in, out });
        });
        Points { data, each }
    }

    /// The matrix of a point for a block of `columns` columns.
    pub(super) fn get(&self, g: &Geometry, block: usize, columns: usize, point: usize) -> &[T] {
        let len = g.c_in * columns;
        &self.data.as_slice()[block * self.each + point * apart::<T>(len)..][..len]
    }
}
