//! Softmax on the host, row by row.

use pulp::NullaryFnOnce;

use crate::element::Element;
use crate::par;
use crate::simd;

const LANES: usize = 16;

/// Replaces rows of `n` by their softmax. A NaN anywhere makes the whole row NaN.
pub(in crate::ops) struct Rows<'a, T> {
    pub(in crate::ops) x: &'a mut [T],
    pub(in crate::ops) n: usize,
    /// Gets the rows' log-sum-exps, `step` apart, as far as it goes.
    pub(in crate::ops) lse: &'a mut [T],
    pub(in crate::ops) step: usize,
}

impl<T: Element> NullaryFnOnce for Rows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for (i, row) in self.x.chunks_exact_mut(self.n).enumerate() {
            let lse = softmax(row);
            if let Some(out) = self.lse.get_mut(i * self.step) {
                *out = T::of(lse);
            }
        }
    }
}

/// Replaces a row by its softmax; returns the log-sum-exp.
#[inline(always)]
fn softmax<T: Element>(row: &mut [T]) -> f64 {
    let mut most = [T::of(f64::NEG_INFINITY); LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (most, &x) in most.iter_mut().zip(chunk) {
            *most = if x > *most { x } else { *most };
        }
    }
    let max = chunks.remainder().iter().chain(&most).fold(T::of(f64::NEG_INFINITY), |m, &x| if x > m { x } else { m });
    for x in row.iter_mut() {
        *x = (*x - max).exp();
    }
    let mut sums = [0.0f64; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x.wide();
        }
    }
    for (sum, x) in sums.iter_mut().zip(chunks.remainder()) {
        *sum += x.wide();
    }
    let sum: f64 = sums.iter().sum();
    let scale = T::of(1.0 / sum);
    for x in row.iter_mut() {
        *x = *x * scale;
    }
    max.wide() + sum.ln()
}

/// `Σ a b` in `f64`.
#[inline(always)]
pub(in crate::ops) fn dot<T: Element>(a: &[T], b: &[T]) -> f64 {
    let mut sums = [0.0f64; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a.wide() * b.wide();
        }
    }
    sums.iter().sum()
}

/// `out = y (grad - Σ y grad)` for rows of `n`.
struct Backward<'a, T> {
    y: &'a [T],
    grad: &'a [T],
    out: &'a mut [T],
    n: usize,
}

impl<T: Element> NullaryFnOnce for Backward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let n = self.n;
        for ((out, y), grad) in self.out.chunks_exact_mut(n).zip(self.y.chunks_exact(n)).zip(self.grad.chunks_exact(n)) {
            let level = T::of(dot(y, grad));
            for ((out, &y), &grad) in out.iter_mut().zip(y).zip(grad) {
                *out = y * (grad - level);
            }
        }
    }
}

/// Rows of `n` elements, in pieces of whole rows.
fn piece(n: usize) -> usize {
    n * (par::PIECE / 4 / n).max(1)
}

pub(super) fn forward<T: Element>(x: &[T], n: usize, y: &mut [T]) {
    if n == 0 {
        return;
    }
    let piece = piece(n);
    par::pieces(y, piece, x.len() * 4, |i, y| {
        y.copy_from_slice(&x[i * piece..][..y.len()]);
        simd::widest(Rows { x: y, n, lse: &mut [], step: 1 });
    });
}

/// `dx = y (grad - Σ y grad)`.
pub(super) fn backward<T: Element>(y: &[T], grad: &[T], n: usize, dx: &mut [T]) {
    if n == 0 {
        return;
    }
    let piece = piece(n);
    par::pieces(dx, piece, y.len() * 2, |i, dx| {
        let range = i * piece..i * piece + dx.len();
        simd::widest(Backward { y: &y[range.clone()], grad: &grad[range], out: dx, n });
    });
}
