//! Small matrix products with the result's tile in registers.

// Loops over the tile's constant extents unroll, and indices say which accumulator is meant.
#![allow(clippy::needless_range_loop)]

use pulp::Simd;

use crate::lanes::{Lanes, width};

/// The left operand: element `(m, k)` at `m row + k step`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a, T> {
    pub(super) data: &'a [T],
    pub(super) rows: usize,
    pub(super) k: usize,
    pub(super) row: usize,
    pub(super) step: usize,
}

/// The sum is the result.
pub(super) const SET: u8 = 0;
/// The sum is added to what is there.
pub(super) const ADD: u8 = 1;
/// The sum goes on from what is there: the bits of one sum, however many parts it is taken in.
pub(super) const GO_ON: u8 = 2;

/// `c[m, :] = Σ_k a[m, k] b[k, :]`, or what `HOW` says, for `N` vectors of columns; rows of `b` and `c` lie `b_row` and `c_row`
/// apart. Each element is summed in the order of `k`, whatever tile it falls into.
#[inline(always)]
pub(super) fn product<S: Simd, T: Lanes, const N: usize, const HOW: u8>(
    simd: S,
    a: Left<'_, T>,
    b: &[T],
    b_row: usize,
    c: &mut [T],
    c_row: usize,
) {
    let columns = N * width::<S, T>();
    if a.rows == 0 || a.k == 0 {
        assert!(HOW != SET || a.rows == 0, "product: nothing to sum");
        return;
    }
    assert!((a.rows - 1) * a.row + (a.k - 1) * a.step < a.data.len());
    assert!((a.k - 1) * b_row + columns <= b.len());
    assert!((a.rows - 1) * c_row + columns <= c.len());
    let mut m = 0;
    while m < a.rows {
        let left = a.rows - m;
        // SAFETY: all rows, the ones of this tile among them, were just asserted to lie in the slices.
        unsafe {
            let (at, c) = (a.data.as_ptr().add(m * a.row), c.as_mut_ptr().add(m * c_row));
            let b = b.as_ptr();
            // 12 × 2 accumulators fill 32 registers, 6 × 2 fill 16.
            if left >= 12 && S::REGISTER_COUNT >= 32 {
                tile::<S, T, 12, N, HOW>(simd, a, at, b, b_row, c, c_row);
                m += 12;
            } else if left >= 6 {
                tile::<S, T, 6, N, HOW>(simd, a, at, b, b_row, c, c_row);
                m += 6;
            } else if left >= 4 {
                tile::<S, T, 4, N, HOW>(simd, a, at, b, b_row, c, c_row);
                m += 4;
            } else if left >= 2 {
                tile::<S, T, 2, N, HOW>(simd, a, at, b, b_row, c, c_row);
                m += 2;
            } else {
                tile::<S, T, 1, N, HOW>(simd, a, at, b, b_row, c, c_row);
                m += 1;
            }
        }
    }
}

/// `M` rows, from `at` in `a` and `c` on.
///
/// # Safety
/// Every element the strides reach lies in the slices `product` was given.
#[inline(always)]
unsafe fn tile<S: Simd, T: Lanes, const M: usize, const N: usize, const HOW: u8>(
    simd: S,
    a: Left<'_, T>,
    at: *const T,
    b: *const T,
    b_row: usize,
    c: *mut T,
    c_row: usize,
) {
    // SAFETY: as the caller says. One step past the last `k` may leave the slices; such a pointer is not read.
    unsafe {
        let mut sums = [[T::splat(simd, T::ZERO); N]; M];
        if HOW == GO_ON {
            for m in 0..M {
                for n in 0..N {
                    sums[m][n] = c.add(m * c_row).cast::<T::V<S>>().add(n).read_unaligned();
                }
            }
        }
        let (mut at, mut b) = (at, b);
        for _ in 0..a.k {
            let mut right = [T::splat(simd, T::ZERO); N];
            for n in 0..N {
                right[n] = b.cast::<T::V<S>>().add(n).read_unaligned();
            }
            for m in 0..M {
                let left = T::splat(simd, *at.add(m * a.row));
                for n in 0..N {
                    sums[m][n] = T::mul_add(simd, left, right[n], sums[m][n]);
                }
            }
            at = at.wrapping_add(a.step);
            b = b.wrapping_add(b_row);
        }
        for m in 0..M {
            for n in 0..N {
                let c = c.add(m * c_row).cast::<T::V<S>>().add(n);
                let sum = if HOW == ADD { T::plus(simd, c.read_unaligned(), sums[m][n]) } else { sums[m][n] };
                c.write_unaligned(sum);
            }
        }
    }
}
