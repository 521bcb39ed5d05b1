//! Depthwise convolution on the host: one output row at a time, one tap at a time, along the channels.

use std::ops::Range;

use pulp::NullaryFnOnce;

use crate::element::Element;
use crate::ops::conv2d::Conv2d;
use crate::par;
use crate::simd;

/// Extents: `[batch, h, w, channels]` to `[batch, out_h, out_w, channels]`.
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    pub(super) batch: usize,
    pub(super) input: (usize, usize),
    pub(super) output: (usize, usize),
    pub(super) kernel: (usize, usize),
    pub(super) channels: usize,
    pub(super) how: Conv2d,
}

impl Geometry {
    fn cost(&self) -> usize {
        self.batch * self.output.0 * self.output.1 * self.channels * self.kernel.0 * self.kernel.1
    }

    /// The outputs along a row for which column tap `l` lies inside the image.
    fn columns(&self, l: usize) -> Range<usize> {
        let (s, p) = (self.how.stride.1, self.how.padding.1);
        let first = p.saturating_sub(l).div_ceil(s);
        // j s + l - p <= w - 1
        let end = if self.input.1 + p > l { ((self.input.1 + p - l - 1) / s + 1).min(self.output.1) } else { 0 };
        first.min(end)..end
    }

    /// The input row that tap `k` of output row `i` meets, if inside the image.
    fn row(&self, i: usize, k: usize) -> Option<usize> {
        (i * self.how.stride.0 + k).checked_sub(self.how.padding.0).filter(|&row| row < self.input.0)
    }

    /// Calls `work(tap, outputs, first input column)` for every column tap.
    fn taps(&self, k: usize, mut work: impl FnMut(usize, Range<usize>, usize)) {
        for l in 0..self.kernel.1 {
            let columns = self.columns(l);
            if !columns.is_empty() {
                let first = columns.start * self.how.stride.1 + l - self.how.padding.1;
                work((k * self.kernel.1 + l) * self.channels, columns, first);
            }
        }
    }
}

/// `to[j] += from[j] w` over pixels `step` channels-lengths apart on either side.
struct MultiplyAdd<'a, T> {
    to: &'a mut [T],
    to_step: usize,
    from: &'a [T],
    from_step: usize,
    w: &'a [T],
}

impl<T: Element> NullaryFnOnce for MultiplyAdd<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let c = self.w.len();
        for (to, from) in self.to.chunks_mut(self.to_step * c).zip(self.from.chunks(self.from_step * c)) {
            for ((to, &from), &w) in to[..c].iter_mut().zip(from).zip(self.w) {
                *to += from * w;
            }
        }
    }
}

pub(super) fn forward<T: Element>(g: &Geometry, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    let (c, row_in) = (g.channels, g.input.1 * g.channels);
    par::pieces(y, g.output.1 * c, g.cost(), |at, y| {
        let (b, i) = (at / g.output.0, at % g.output.0);
        match bias {
            None => y.fill(T::ZERO),
            Some(bias) => y.chunks_exact_mut(c).for_each(|pixel| pixel.copy_from_slice(bias)),
        }
        for k in 0..g.kernel.0 {
            let Some(row) = g.row(i, k) else { continue };
            let x = &x[(b * g.input.0 + row) * row_in..][..row_in];
            g.taps(k, |tap, columns, first| {
                let (w, from) = (&w[tap..tap + c], &x[first * c..]);
                let to = &mut y[columns.start * c..columns.end * c];
                simd::widest(MultiplyAdd { to, to_step: 1, from, from_step: g.how.stride.1, w });
            });
        }
    });
}

/// `dx`, one input row at a time.
pub(super) fn input_gradient<T: Element>(g: &Geometry, grad: &[T], w: &[T], dx: &mut [T]) {
    let (c, row_out) = (g.channels, g.output.1 * g.channels);
    par::pieces(dx, g.input.1 * c, g.cost(), |at, dx| {
        let (b, row) = (at / g.input.0, at % g.input.0);
        dx.fill(T::ZERO);
        for k in 0..g.kernel.0 {
            // i s + k - p = row
            let Some(offset) = (row + g.how.padding.0).checked_sub(k) else { continue };
            let i = offset / g.how.stride.0;
            if offset % g.how.stride.0 != 0 || i >= g.output.0 {
                continue;
            }
            let grad = &grad[(b * g.output.0 + i) * row_out..][..row_out];
            g.taps(k, |tap, columns, first| {
                let (w, from) = (&w[tap..tap + c], &grad[columns.start * c..columns.end * c]);
                simd::widest(MultiplyAdd { to: &mut dx[first * c..], to_step: g.how.stride.1, from, from_step: 1, w });
            });
        }
    });
}

/// `sums += Σ_j x[j] grad[j]`, pixels of `x` `step` apart.
struct Products<'a, T> {
    x: &'a [T],
    step: usize,
    grad: &'a [T],
    sums: &'a mut [f64],
}

impl<T: Element> NullaryFnOnce for Products<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let c = self.sums.len();
        for (x, grad) in self.x.chunks(self.step * c).zip(self.grad.chunks_exact(c)) {
            for ((sum, &x), &grad) in self.sums.iter_mut().zip(x).zip(grad) {
                *sum += (x * grad).wide();
            }
        }
    }
}

/// The gradient of the filter: output rows in at most 16 parts, each summed in order, the parts then in order.
pub(super) fn weight_gradient<T: Element>(g: &Geometry, x: &[T], grad: &[T], dw: &mut [T]) {
    let (c, rows) = (g.channels, g.batch * g.output.0);
    let (row_in, row_out) = (g.input.1 * c, g.output.1 * c);
    let per_part = rows.div_ceil(16).max(1);
    let mut partial = vec![0.0f64; rows.div_ceil(per_part) * dw.len()];
    par::pieces(&mut partial, dw.len(), g.cost(), |part, sums| {
        for at in part * per_part..rows.min((part + 1) * per_part) {
            let (b, i) = (at / g.output.0, at % g.output.0);
            let grad = &grad[at * row_out..][..row_out];
            for k in 0..g.kernel.0 {
                let Some(row) = g.row(i, k) else { continue };
                let x = &x[(b * g.input.0 + row) * row_in..][..row_in];
                g.taps(k, |tap, columns, first| {
                    let grad = &grad[columns.start * c..columns.end * c];
                    simd::widest(Products { x: &x[first * c..], step: g.how.stride.1, grad, sums: &mut sums[tap..tap + c] });
                });
            }
        }
    });
    for (i, dw) in dw.iter_mut().enumerate() {
        *dw = T::of(partial.iter().skip(i).step_by(g.kernel.0 * g.kernel.1 * c).sum());
    }
}
