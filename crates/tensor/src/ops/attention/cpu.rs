//! Attention on the host: strided products over blocks of query rows, so that the scores in flight stay in cache.

use pulp::NullaryFnOnce;

use crate::element::Element;
use crate::gemm::{Into, Mat, Threads, gemm};
use crate::ops::softmax::cpu::{Rows, dot};
use crate::par;
use crate::simd;
use crate::storage::Buffer;

/// Extents: queries `[batch, n_q, heads, d]`, keys and values `[batch, n_k, heads, d]`.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) batch: usize,
    pub(super) n_q: usize,
    pub(super) n_k: usize,
    pub(super) heads: usize,
    pub(super) d: usize,
}

/// Scores computed at once.
const BLOCK: usize = 32 * 1024;

impl Shape {
    pub(super) fn width(&self) -> usize {
        self.heads * self.d
    }

    /// Query rows per block.
    pub(super) fn block(&self) -> usize {
        (BLOCK / self.n_k.max(1)).clamp(8, 128).min(self.n_q.max(1))
    }

    pub(super) fn cost(&self) -> usize {
        self.batch * self.n_q * self.n_k * self.width()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch * self.n_q * self.width() == 0
    }

    /// Rows `first..first + rows` of one head of one sample of `x`, a tensor with `n` rows per sample.
    fn head<'a, T>(&self, x: &'a [T], n: usize, sample: usize, head: usize, first: usize, rows: usize) -> Mat<'a, T> {
        let start = (sample * n + first) * self.width() + head * self.d;
        // With no rows there may be nothing at `start`.
        Mat::strided(if rows == 0 { &[] } else { &x[start..] }, rows, self.d, self.width())
    }
}

/// `softmax(scale q kᵀ) v` and the log-sum-exp of each row of scores, `lse`: `[batch, n_q, heads]`.
pub(super) fn forward<T: Element>(s: Shape, q: &[T], k: &[T], v: &[T], scale: f64, out: &mut [T], lse: &mut [T]) {
    if s.is_empty() {
        return;
    }
    let block = s.block();
    // (sample, first row, output rows, their log-sum-exps)
    let mut jobs = Vec::new();
    let samples = out.chunks_exact_mut(s.n_q * s.width()).zip(lse.chunks_exact_mut(s.n_q * s.heads));
    for (b, (out, lse)) in samples.enumerate() {
        for (i, (out, lse)) in out.chunks_mut(block * s.width()).zip(lse.chunks_mut(block * s.heads)).enumerate() {
            jobs.push((b, i * block, out, lse));
        }
    }
    par::pieces(&mut jobs, 1, 2 * s.cost(), |_, job| {
        let (b, first, out, lse) = &mut job[0];
        let rows = out.len() / s.width();
        let mut scores = Buffer::<T>::uninit(rows * s.n_k);
        let scores = scores.as_mut_slice();
        for h in 0..s.heads {
            let (q, k, v) =
                (s.head(q, s.n_q, *b, h, *first, rows), s.head(k, s.n_k, *b, h, 0, s.n_k), s.head(v, s.n_k, *b, h, 0, s.n_k));
            gemm(q, k.t(), scores, s.n_k, scale, Into::Overwrite, Threads::One);
            simd::widest(Rows { x: &mut *scores, n: s.n_k, lse: &mut lse[h..], step: s.heads });
            gemm(Mat::new(scores, rows, s.n_k), v, &mut out[h * s.d..], s.width(), 1.0, Into::Overwrite, Threads::One);
        }
    });
}

/// From scores `p` and `dP` in `ds`, row by row: `p = e^{p - lse}` and `ds = p (ds - grad · out)`.
struct Gradient<'a, T> {
    shape: Shape,
    p: &'a mut [T],
    ds: &'a mut [T],
    /// The rows' log-sum-exps, one per head.
    lse: &'a [T],
    /// Rows of all heads, from this head's first channel on.
    grad: &'a [T],
    out: &'a [T],
}

impl<T: Element> NullaryFnOnce for Gradient<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let Shape { n_k, heads, d, .. } = self.shape;
        for (i, (p, ds)) in self.p.chunks_exact_mut(n_k).zip(self.ds.chunks_exact_mut(n_k)).enumerate() {
            let lse = self.lse[i * heads];
            let at = i * self.shape.width();
            // Σ_j p_j (grad · v_j) = grad · out.
            let level = T::of(dot(&self.grad[at..at + d], &self.out[at..at + d]));
            for (ds, p) in ds.iter_mut().zip(p) {
                *p = (*p - lse).exp();
                *ds = *p * (*ds - level);
            }
        }
    }
}

/// What the forward pass saved.
#[derive(Clone, Copy)]
pub(super) struct Kept<'a, T> {
    pub(super) q: &'a [T],
    pub(super) k: &'a [T],
    pub(super) v: &'a [T],
    pub(super) out: &'a [T],
    pub(super) lse: &'a [T],
}

/// The gradients of `q`, `k` and `v`. Each head is one job that goes through its blocks of queries in order.
pub(super) fn backward<T: Element>(
    s: Shape,
    kept: Kept<'_, T>,
    grad: &[T],
    scale: f64,
    dq: &mut [T],
    dk: &mut [T],
    dv: &mut [T],
) {
    // Gradients of one head after the other, dense, so that jobs write apart.
    let (for_q, for_k) = (s.n_q * s.d, s.n_k * s.d);
    let each = for_q + 2 * for_k;
    let mut heads = Buffer::<T>::uninit(s.batch * s.heads * each);
    par::pieces(heads.as_mut_slice(), each, 5 * s.cost(), |job, grads| {
        let (dq, rest) = grads.split_at_mut(for_q);
        let (dk, dv) = rest.split_at_mut(for_k);
        head_backward(s, kept, grad, scale, (job / s.heads, job % s.heads), dq, dk, dv);
    });
    let heads = heads.as_slice();
    for (out, n, offset) in [(dq, s.n_q, 0), (dk, s.n_k, for_q), (dv, s.n_k, for_q + for_k)] {
        par::pieces(out, n * s.width(), s.batch * n * s.width(), |b, out| {
            for (i, row) in out.chunks_exact_mut(s.width()).enumerate() {
                for (h, out) in row.chunks_exact_mut(s.d).enumerate() {
                    out.copy_from_slice(&heads[(b * s.heads + h) * each + offset + i * s.d..][..s.d]);
                }
            }
        });
    }
}

#[allow(clippy::too_many_arguments)]
fn head_backward<T: Element>(
    s: Shape,
    kept: Kept<'_, T>,
    grad: &[T],
    scale: f64,
    (b, h): (usize, usize),
    dq: &mut [T],
    dk: &mut [T],
    dv: &mut [T],
) {
    dk.fill(T::ZERO);
    dv.fill(T::ZERO);
    if s.n_q * s.n_k == 0 {
        dq.fill(T::ZERO);
        return;
    }
    let block = s.block();
    let mut scratch = Buffer::<T>::uninit(2 * block * s.n_k);
    let (k, v) = (s.head(kept.k, s.n_k, b, h, 0, s.n_k), s.head(kept.v, s.n_k, b, h, 0, s.n_k));
    for first in (0..s.n_q).step_by(block) {
        let rows = block.min(s.n_q - first);
        let (p, ds) = scratch.as_mut_slice().split_at_mut(block * s.n_k);
        let (p, ds) = (&mut p[..rows * s.n_k], &mut ds[..rows * s.n_k]);
        let (q, grad_out) = (s.head(kept.q, s.n_q, b, h, first, rows), s.head(grad, s.n_q, b, h, first, rows));
        let out = s.head(kept.out, s.n_q, b, h, first, rows);
        gemm(q, k.t(), p, s.n_k, scale, Into::Overwrite, Threads::One);
        gemm(grad_out, v.t(), ds, s.n_k, 1.0, Into::Overwrite, Threads::One);
        let lse = &kept.lse[(b * s.n_q + first) * s.heads + h..];
        simd::widest(Gradient { shape: s, p: &mut *p, ds: &mut *ds, lse, grad: grad_out.data, out: out.data });
        let (p, ds) = (Mat::new(p, rows, s.n_k), Mat::new(ds, rows, s.n_k));
        gemm(ds, k, &mut dq[first * s.d..][..rows * s.d], s.d, scale, Into::Overwrite, Threads::One);
        gemm(ds.t(), q, dk, s.d, scale, Into::Add, Threads::One);
        gemm(p.t(), grad_out, dv, s.d, 1.0, Into::Add, Threads::One);
    }
}
