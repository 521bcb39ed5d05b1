//! The linear layer on the host, in pieces of rows whose number depends on the shapes alone.

use pulp::{Simd, WithSimd};

use crate::gemm::{Into, Mat, Threads, gemm};
use crate::lanes::{Lanes, Scratch, dispatch, part, put, widen, width};
use crate::ops::group_norm::Activation;
use crate::par;

/// Multiplications of a piece, about; below a quarter of it a second thread does not pay.
const WORK: usize = 12 << 20;
/// Elements of the result in a piece at most, so that its passes find it in the cache.
const RESULT: usize = 64 * 1024;
/// Rows of a piece at least where there are as many: each product packs the weights once more, which takes as long as 12 rows or so.
const ROWS: usize = 256;
/// Partial gradients of the weights at most.
const PARTS: usize = 16;

#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

impl Shape {
    pub(super) fn work(&self) -> usize {
        self.rows * self.inputs * self.outputs
    }

    /// Rows of a piece.
    pub(super) fn piece(&self) -> usize {
        if self.work() < WORK / 4 {
            return self.rows.next_multiple_of(16).max(16);
        }
        let pieces = (self.work() / WORK).max(self.rows * self.outputs / RESULT).min(self.rows / ROWS).max(2);
        self.rows.div_ceil(pieces).next_multiple_of(16)
    }
}

/// `y = silu(z)`.
struct Silu<'a, T> {
    z: &'a [T],
    y: &'a mut [T],
}

impl<T: Lanes> WithSimd for Silu<'_, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for i in (0..self.z.len()).step_by(width::<S, T>()) {
            put(simd, self.y, i, T::silu(simd, part(simd, self.z, i)));
        }
    }
}

/// `y = silu(x W + b + r)`, or without the activation; `z`, if wanted, is what the activation is applied to.
#[allow(clippy::too_many_arguments)]
pub(super) fn forward<T: Lanes>(
    s: Shape,
    x: &[T],
    w: &[T],
    bias: &[T],
    addend: Option<&[T]>,
    activation: Activation,
    z: Option<&mut [T]>,
    y: &mut [T],
) {
    if y.is_empty() {
        return;
    }
    let (rows, n) = (s.piece(), s.outputs);
    let mut z = z.map(|z| z.chunks_mut(rows * n));
    // (part of y, part of z)
    let mut jobs: Vec<_> = y.chunks_mut(rows * n).map(|y| (y, z.as_mut().and_then(Iterator::next))).collect();
    par::pieces(&mut jobs, 1, s.work() + s.rows * n, |i, job| {
        let (y, z) = &mut job[0];
        let count = y.len() / n;
        let out = z.as_deref_mut().unwrap_or(y);
        match addend {
            None => out.chunks_exact_mut(n).for_each(|row| row.copy_from_slice(bias)),
            Some(r) => {
                let r = &r[i * rows * n..][..count * n];
                for (row, r) in out.chunks_exact_mut(n).zip(r.chunks_exact(n)) {
                    row.iter_mut().zip(r).zip(bias).for_each(|((out, &r), &b)| *out = r + b);
                }
            }
        }
        let x = Mat::new(&x[i * rows * s.inputs..][..count * s.inputs], count, s.inputs);
        gemm(x, Mat::new(w, s.inputs, n), out, n, 1.0, Into::Add, Threads::One);
        match (activation, z) {
            (Activation::None, _) => {}
            (Activation::Silu, Some(z)) => dispatch(Silu { z, y }),
            (Activation::Silu, None) => dispatch(SiluInPlace { y }),
        }
    });
}

/// `y = silu(y)`.
struct SiluInPlace<'a, T> {
    y: &'a mut [T],
}

impl<T: Lanes> WithSimd for SiluInPlace<'_, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for i in (0..self.y.len()).step_by(width::<S, T>()) {
            let z = part(simd, self.y, i);
            put(simd, self.y, i, T::silu(simd, z));
        }
    }
}

/// Rows that are summed in the element's own type before they join the others in `f64`.
const BLOCK: usize = 8;

/// `sums[j] += Σ_i dz[i, j]`; if there is `z`, `dz = grad silu'(z)` is written first.
struct Slopes<'a, T> {
    grad: &'a [T],
    activated: Option<(&'a [T], &'a mut [T])>,
    sums: &'a mut [f64],
}

impl<T: Lanes> WithSimd for Slopes<'_, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let n = self.sums.len();
        for (block, grad) in self.grad.chunks(BLOCK * n).enumerate() {
            for i in (0..n).step_by(width::<S, T>()) {
                let mut sum = T::splat(simd, T::ZERO);
                for (r, grad) in grad.chunks_exact(n).enumerate() {
                    let mut dz = part(simd, grad, i);
                    if let Some((z, out)) = &mut self.activated {
                        let at = (block * BLOCK + r) * n;
                        dz = T::times(simd, dz, T::silu_slope(simd, part(simd, &z[at..at + n], i)));
                        put(simd, &mut out[at..at + n], i, dz);
                    }
                    sum = T::plus(simd, sum, dz);
                }
                widen::<S, T>(simd, self.sums, i, sum);
            }
        }
    }
}

/// What a backward pass reads: `x` for `dw`, `w` for `dx`, `z` if there is an activation.
pub(super) struct Given<'a, T> {
    pub(super) x: Option<&'a [T]>,
    pub(super) w: Option<&'a [T]>,
    pub(super) z: Option<&'a [T]>,
    pub(super) grad: &'a [T],
}

/// What it writes: `dz` if there is an activation.
pub(super) struct Wanted<'a, T> {
    pub(super) dz: Option<&'a mut [T]>,
    pub(super) dx: Option<&'a mut [T]>,
    pub(super) dw: Option<&'a mut [T]>,
    pub(super) db: Option<&'a mut [T]>,
}

/// A part: several pieces of rows, gone through in order.
struct Part<'a, T> {
    dz: Option<&'a mut [T]>,
    dx: Option<&'a mut [T]>,
    /// This part's share of `dw`.
    dw: Option<&'a mut [T]>,
    db: &'a mut [f64],
}

/// Pieces from which on the weights are turned round once for all.
const MANY: usize = 4;

/// `to[j, i] = from[i, j]`, `from` having `columns` columns: in squares, so that both sides stay in the cache.
fn transpose<T: Lanes>(from: &[T], columns: usize, to: &mut [T]) {
    const SIDE: usize = 16;
    let rows = from.len() / columns;
    par::pieces(to, SIDE * rows, from.len(), |piece, to| {
        for first in (0..rows).step_by(SIDE) {
            for (j, to) in to.chunks_exact_mut(rows).enumerate() {
                let column = from[first * columns + piece * SIDE + j..].iter().step_by(columns);
                to[first..rows.min(first + SIDE)].iter_mut().zip(column).for_each(|(to, &x)| *to = x);
            }
        }
    });
}

pub(super) fn backward<T: Lanes>(s: Shape, given: Given<'_, T>, wanted: Wanted<'_, T>) {
    let Shape { inputs: k, outputs: n, .. } = s;
    let pieces = s.rows.div_ceil(s.piece());
    let mut turned = None;
    if let (Some(w), true) = (given.w, wanted.dx.is_some() && pieces >= MANY && k * n > 0) {
        let mut scratch = Scratch::<T>::new(k * n);
        transpose(w, n, scratch.as_mut_slice());
        turned = Some(scratch);
    }
    let turned = turned.as_ref().map(Scratch::as_slice);
    let parts = pieces.clamp(1, PARTS);
    // Whole pieces in a part.
    let rows = pieces.div_ceil(parts) * s.piece();
    let mut partial = Scratch::<T>::new(if wanted.dw.is_some() { parts * k * n } else { 0 });
    let mut sums = vec![0.0f64; parts * n];
    {
        let mut dz = wanted.dz.map(|t| t.chunks_mut((rows * n).max(1)));
        let mut dx = wanted.dx.map(|t| t.chunks_mut((rows * k).max(1)));
        let mut dw = wanted.dw.is_some().then(|| partial.as_mut_slice().chunks_mut((k * n).max(1)));
        let mut jobs: Vec<Part<'_, T>> = sums
            .chunks_mut(n.max(1))
            .map(|db| Part {
                dz: dz.as_mut().and_then(Iterator::next),
                dx: dx.as_mut().and_then(Iterator::next),
                dw: dw.as_mut().and_then(Iterator::next),
                db,
            })
            .collect();
        par::pieces(&mut jobs, 1, 2 * s.work() + s.rows * n, |i, job| {
            let range = (i * rows).min(s.rows)..((i + 1) * rows).min(s.rows);
            backward_part(s, &given, turned, range, &mut job[0]);
        });
    }
    if let Some(dw) = wanted.dw {
        let partial = partial.as_slice();
        par::pieces(dw, par::PIECE, parts * k * n, |i, dw| {
            let first = i * par::PIECE;
            dw.copy_from_slice(&partial[first..][..dw.len()]);
            for part in 1..parts {
                for (dw, &x) in dw.iter_mut().zip(&partial[part * k * n + first..]) {
                    *dw += x;
                }
            }
        });
    }
    if let Some(db) = wanted.db {
        for (j, db) in db.iter_mut().enumerate() {
            *db = T::of(sums.iter().skip(j).step_by(n).sum());
        }
    }
}

/// `dz_k = grad_k silu'(z)`, the `dz` of all gradients one after the other.
struct SlopesOfAll<'a, T> {
    z: &'a [T],
    grads: &'a [&'a [T]],
    dz: &'a mut [T],
}

impl<T: Lanes> WithSimd for SlopesOfAll<'_, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let n = self.z.len();
        for i in (0..n).step_by(width::<S, T>()) {
            let slope = T::silu_slope(simd, part(simd, self.z, i));
            for (grad, dz) in self.grads.iter().zip(self.dz.chunks_exact_mut(n)) {
                put(simd, dz, i, T::times(simd, slope, part(simd, grad, i)));
            }
        }
    }
}

/// `dx_k = (grad_k silu'(z)) Wᵀ`, or without the activation, of several gradients of the output: one slope for all, and one product
/// for a piece of rows.
pub(super) fn input_gradients<T: Lanes>(s: Shape, w: &[T], z: Option<&[T]>, grads: &[&[T]], dx: Vec<&mut [T]>) {
    let Shape { inputs: k, outputs: n, .. } = s;
    if s.rows * k == 0 {
        return;
    }
    if n == 0 {
        dx.into_iter().for_each(|dx| dx.fill(T::ZERO));
        return;
    }
    let mut turned = Scratch::<T>::new(k * n);
    transpose(w, n, turned.as_mut_slice());
    let (turned, rows) = (turned.as_slice(), s.piece());
    let mut rest: Vec<_> = dx.into_iter().map(|dx| dx.chunks_mut(rows * k)).collect();
    let mut jobs: Vec<Vec<&mut [T]>> =
        (0..s.rows.div_ceil(rows)).map(|_| rest.iter_mut().filter_map(Iterator::next).collect()).collect();
    par::pieces(&mut jobs, 1, grads.len() * s.work(), |i, job| {
        let count = job[0][0].len() / k;
        let at = i * rows * n..(i * rows + count) * n;
        let grads: Vec<&[T]> = grads.iter().map(|grad| &grad[at.clone()]).collect();
        let mut dz = Scratch::<T>::new(grads.len() * count * n);
        match z {
            Some(z) => dispatch(SlopesOfAll { z: &z[at.clone()], grads: &grads, dz: dz.as_mut_slice() }),
            None => dz.as_mut_slice().chunks_exact_mut(count * n).zip(&grads).for_each(|(dz, grad)| dz.copy_from_slice(grad)),
        }
        let mut all = Scratch::<T>::new(grads.len() * count * k);
        let dz = Mat::new(dz.as_slice(), grads.len() * count, n);
        gemm(dz, Mat::new(turned, n, k), all.as_mut_slice(), k, 1.0, Into::Overwrite, Threads::One);
        job[0].iter_mut().zip(all.as_slice().chunks_exact(count * k)).for_each(|(dx, all)| dx.copy_from_slice(all));
    });
}

/// `turned` is the transpose of the weights, if there is one.
fn backward_part<T: Lanes>(
    s: Shape,
    given: &Given<'_, T>,
    turned: Option<&[T]>,
    range: std::ops::Range<usize>,
    part: &mut Part<'_, T>,
) {
    let Shape { inputs: k, outputs: n, .. } = s;
    if let Some(dw) = &mut part.dw {
        dw.fill(T::ZERO);
    }
    for first in range.clone().step_by(s.piece()) {
        let end = range.end.min(first + s.piece());
        let (count, at) = (end - first, first - range.start);
        let grad = &given.grad[first * n..end * n];
        let dz = match (given.z, &mut part.dz) {
            (Some(z), Some(dz)) => {
                let dz = &mut dz[at * n..][..count * n];
                dispatch(Slopes { grad, activated: Some((&z[first * n..end * n], dz)), sums: part.db });
                &*dz
            }
            _ => {
                dispatch(Slopes { grad, activated: None, sums: part.db });
                grad
            }
        };
        let dz = Mat::new(dz, count, n);
        if let (Some(w), Some(dx)) = (given.w, &mut part.dx) {
            let dx = &mut dx[at * k..][..count * k];
            let transposed = turned.map_or_else(|| Mat::new(w, k, n).t(), |turned| Mat::new(turned, n, k));
            gemm(dz, transposed, dx, k, 1.0, Into::Overwrite, Threads::One);
        }
        if let (Some(x), Some(dw)) = (given.x, &mut part.dw) {
            let x = Mat::new(&x[first * k..end * k], count, k);
            gemm(x.t(), dz, dw, n, 1.0, Into::Add, Threads::One);
        }
    }
}
