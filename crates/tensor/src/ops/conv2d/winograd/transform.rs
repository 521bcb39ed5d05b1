//! The linear maps between images, filters and the values at the 36 points, and where they read and write.
//!
//! With `a = √½`, `b = √2` (so `a² = ½`, `b² = 2`, `a² b² = 1`) the points are `0, a, -a, b, -b, ∞`. One axis at a time:
//!
//! ```text
//! image     Bᵀ d:  d₀ - 5/2 d₂ + d₄;  (d₄ - 2 d₂) ± a (d₃ - 2 d₁);  (d₄ - ½ d₂) ± b (d₃ - ½ d₁);  d₁ - 5/2 d₃ + d₅
//! filter    G w:   w(p) / N(p), the polynomial with coefficients w; N(0) = 1, N(±a) = -3/2, N(±b) = 6; its last coefficient at ∞
//! result    Aᵀ m:  y_k = Σ_p pᵏ m_p, and m_∞ added to the last
//! ```

// Loops over constant extents unroll.
#![allow(clippy::needless_range_loop)]

use pulp::Simd;

use crate::lanes::Lanes;

/// Points along an axis.
pub(super) const SIDE: usize = 6;
/// Points of a tile.
pub(super) const POINTS: usize = SIDE * SIDE;
/// Pixels of the result along an axis of a tile.
pub(super) const STEP: usize = 4;
/// Taps along an axis.
pub(super) const TAPS: usize = 3;

const A: f64 = std::f64::consts::FRAC_1_SQRT_2;
const B: f64 = std::f64::consts::SQRT_2;

#[inline(always)]
fn splat<S: Simd, T: Lanes>(simd: S, x: f64) -> T::V<S> {
    T::splat(simd, T::of(x))
}

/// A linear map along an axis.
pub(super) trait Map<const I: usize, const O: usize> {
    fn apply<S: Simd, T: Lanes>(simd: S, v: [T::V<S>; I]) -> [T::V<S>; O];
}

/// `Bᵀ d`.
pub(super) struct Image;

impl Map<SIDE, SIDE> for Image {
    #[inline(always)]
    fn apply<S: Simd, T: Lanes>(simd: S, d: [T::V<S>; SIDE]) -> [T::V<S>; SIDE] {
        let fma = |a: T::V<S>, c: f64, b: T::V<S>| T::mul_add(simd, splat::<S, T>(simd, c), b, a);
        let (even_a, odd_a) = (fma(d[4], -2.0, d[2]), fma(d[3], -2.0, d[1]));
        let (even_b, odd_b) = (fma(d[4], -0.5, d[2]), fma(d[3], -0.5, d[1]));
        [
            T::plus(simd, fma(d[0], -2.5, d[2]), d[4]),
            fma(even_a, A, odd_a),
            fma(even_a, -A, odd_a),
            fma(even_b, B, odd_b),
            fma(even_b, -B, odd_b),
            T::plus(simd, fma(d[1], -2.5, d[3]), d[5]),
        ]
    }
}

/// `G w` for three coefficients.
pub(super) struct Filter;

impl Map<TAPS, SIDE> for Filter {
    #[inline(always)]
    fn apply<S: Simd, T: Lanes>(simd: S, w: [T::V<S>; TAPS]) -> [T::V<S>; SIDE] {
        let zero = splat::<S, T>(simd, 0.0);
        let all = Gradient::apply::<S, T>(simd, [w[0], w[1], w[2], zero]);
        [all[0], all[1], all[2], all[3], all[4], w[2]]
    }
}

/// `G w` for four coefficients.
pub(super) struct Gradient;

impl Map<STEP, SIDE> for Gradient {
    #[inline(always)]
    fn apply<S: Simd, T: Lanes>(simd: S, w: [T::V<S>; STEP]) -> [T::V<S>; SIDE] {
        let times = |c: f64, x: T::V<S>| T::times(simd, splat::<S, T>(simd, c), x);
        let fma = |a: T::V<S>, c: f64, b: T::V<S>| T::mul_add(simd, splat::<S, T>(simd, c), b, a);
        // Divided by N: even and odd coefficients at a and at b.
        let (even_a, odd_a) = (fma(times(-1.0 / 1.5, w[0]), -0.5 / 1.5, w[2]), fma(times(-A / 1.5, w[1]), -0.5 * A / 1.5, w[3]));
        let (even_b, odd_b) = (fma(times(1.0 / 6.0, w[0]), 2.0 / 6.0, w[2]), fma(times(B / 6.0, w[1]), 2.0 * B / 6.0, w[3]));
        [
            w[0],
            T::plus(simd, even_a, odd_a),
            T::minus(simd, even_a, odd_a),
            T::plus(simd, even_b, odd_b),
            T::minus(simd, even_b, odd_b),
            w[3],
        ]
    }
}

/// `Aᵀ m` for four results.
pub(super) struct Output;

impl Map<SIDE, STEP> for Output {
    #[inline(always)]
    fn apply<S: Simd, T: Lanes>(simd: S, m: [T::V<S>; SIDE]) -> [T::V<S>; STEP] {
        let times = |c: f64, x: T::V<S>| T::times(simd, splat::<S, T>(simd, c), x);
        let fma = |a: T::V<S>, c: f64, b: T::V<S>| T::mul_add(simd, splat::<S, T>(simd, c), b, a);
        let (even_a, odd_a) = (T::plus(simd, m[1], m[2]), T::minus(simd, m[1], m[2]));
        let (even_b, odd_b) = (T::plus(simd, m[3], m[4]), T::minus(simd, m[3], m[4]));
        [
            T::plus(simd, m[0], T::plus(simd, even_a, even_b)),
            fma(times(A, odd_a), B, odd_b),
            fma(times(0.5, even_a), 2.0, even_b),
            fma(fma(m[5], 0.5 * A, odd_a), 2.0 * B, odd_b),
        ]
    }
}

/// `Aᵀ m` for three results.
pub(super) struct Taps;

impl Map<SIDE, TAPS> for Taps {
    #[inline(always)]
    fn apply<S: Simd, T: Lanes>(simd: S, m: [T::V<S>; SIDE]) -> [T::V<S>; TAPS] {
        let times = |c: f64, x: T::V<S>| T::times(simd, splat::<S, T>(simd, c), x);
        let fma = |a: T::V<S>, c: f64, b: T::V<S>| T::mul_add(simd, splat::<S, T>(simd, c), b, a);
        let (even_a, odd_a) = (T::plus(simd, m[1], m[2]), T::minus(simd, m[1], m[2]));
        let (even_b, odd_b) = (T::plus(simd, m[3], m[4]), T::minus(simd, m[3], m[4]));
        [
            T::plus(simd, m[0], T::plus(simd, even_a, even_b)),
            fma(times(A, odd_a), B, odd_b),
            fma(fma(m[5], 0.5, even_a), 2.0, even_b),
        ]
    }
}

/// Applies a map to the rows and then to the columns of what `load(row, column)` gives; `store(row, column, value)`.
#[inline(always)]
pub(super) fn both_axes<S: Simd, T: Lanes, F: Map<I, O>, const I: usize, const O: usize>(
    simd: S,
    load: impl Fn(usize, usize) -> T::V<S>,
    mut store: impl FnMut(usize, usize, T::V<S>),
) {
    let zero = T::splat(simd, T::ZERO);
    let mut half = [[zero; I]; O];
    for i in 0..I {
        let mut row = [zero; I];
        for (j, value) in row.iter_mut().enumerate() {
            *value = load(i, j);
        }
        let row = F::apply::<S, T>(simd, row);
        for o in 0..O {
            half[o][i] = row[o];
        }
    }
    for (o, column) in half.iter().enumerate() {
        let column = F::apply::<S, T>(simd, *column);
        for (i, &value) in column.iter().enumerate() {
            store(i, o, value);
        }
    }
}
