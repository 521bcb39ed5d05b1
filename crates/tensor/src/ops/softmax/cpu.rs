//! Softmax on the host, row by row.

use pulp::NullaryFnOnce;

use crate::element::Element;
use crate::par;
use crate::simd;

const LANES: usize = 16;

/// Replaces a row by its softmax; returns the log-sum-exp. A NaN anywhere makes the whole row NaN.
pub(in crate::ops) struct Row<'a, T> {
    pub(in crate::ops) x: &'a mut [T],
}

impl<T: Element> NullaryFnOnce for Row<'_, T> {
    type Output = f64;
    #[inline(always)]
    fn call(self) -> f64 {
        let mut most = [T::of(f64::NEG_INFINITY); LANES];
        let mut chunks = self.x.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (most, &x) in most.iter_mut().zip(chunk) {
                *most = if x > *most { x } else { *most };
            }
        }
        let max = chunks.remainder().iter().chain(&most).fold(T::of(f64::NEG_INFINITY), |m, &x| if x > m { x } else { m });
        let mut sums = [0.0f64; LANES];
        let mut chunks = self.x.chunks_exact_mut(LANES);
        for chunk in &mut chunks {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *x = (*x - max).exp();
                *sum += x.wide();
            }
        }
        for (sum, x) in sums.iter_mut().zip(chunks.into_remainder()) {
            *x = (*x - max).exp();
            *sum += x.wide();
        }
        let sum: f64 = sums.iter().sum();
        let scale = T::of(1.0 / sum);
        for x in self.x.iter_mut() {
            *x = *x * scale;
        }
        max.wide() + sum.ln()
    }
}

/// `Σ a b` in `f64`.
pub(in crate::ops) struct Dot<'a, T> {
    pub(in crate::ops) a: &'a [T],
    pub(in crate::ops) b: &'a [T],
}

impl<T: Element> NullaryFnOnce for Dot<'_, T> {
    type Output = f64;
    #[inline(always)]
    fn call(self) -> f64 {
        let mut sums = [0.0f64; LANES];
        for (a, b) in self.a.chunks(LANES).zip(self.b.chunks(LANES)) {
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                *sum += a.wide() * b.wide();
            }
        }
        sums.iter().sum()
    }
}

/// `out = y (grad - level)`.
struct Backward<'a, T> {
    y: &'a [T],
    grad: &'a [T],
    out: &'a mut [T],
    level: T,
}

impl<T: Element> NullaryFnOnce for Backward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for ((out, &y), &grad) in self.out.iter_mut().zip(self.y).zip(self.grad) {
            *out = y * (grad - self.level);
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
        for x in y.chunks_exact_mut(n) {
            simd::widest(Row { x });
        }
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
        for ((out, y), grad) in dx.chunks_exact_mut(n).zip(y[range.clone()].chunks_exact(n)).zip(grad[range].chunks_exact(n)) {
            let level = T::of(simd::widest(Dot { a: y, b: grad }));
            simd::widest(Backward { y, grad, out, level });
        }
    });
}
