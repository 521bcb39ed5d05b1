//! Work split over threads in pieces that depend on the shapes only, never on the number of threads, so that results
//! have the same bits on any machine size.

use rayon::prelude::*;

/// Below this many elements a loop is done before another thread would have woken up.
const SERIAL: usize = 32 * 1024;

/// Elements per piece of an elementwise loop: fits the L1/L2 caches, many pieces per thread on large tensors.
pub(crate) const PIECE: usize = 16 * 1024;

/// Calls `work(i, piece)` for consecutive pieces of `len` elements of `out` (the last may be shorter). `cost` is the
/// number of elementary operations in all, which decides whether threads are worth waking.
pub(crate) fn pieces<T: Send>(out: &mut [T], len: usize, cost: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    if len == 0 {
        return;
    }
    if cost <= SERIAL || out.len() <= len {
        out.chunks_mut(len).enumerate().for_each(|(i, piece)| work(i, piece));
    } else {
        out.par_chunks_mut(len).enumerate().for_each(|(i, piece)| work(i, piece));
    }
}

/// [`pieces`] of two slices of the same length at once.
pub(crate) fn pieces2<T: Send>(
    a: &mut [T],
    b: &mut [T],
    len: usize,
    cost: usize,
    work: impl Fn(usize, &mut [T], &mut [T]) + Sync,
) {
    if cost <= SERIAL || a.len() <= len {
        a.chunks_mut(len).zip(b.chunks_mut(len)).enumerate().for_each(|(i, (a, b))| work(i, a, b));
    } else {
        a.par_chunks_mut(len).zip(b.par_chunks_mut(len)).enumerate().for_each(|(i, (a, b))| work(i, a, b));
    }
}

/// [`pieces`] of three slices of the same length at once.
pub(crate) fn pieces3<T: Send>(
    a: &mut [T],
    b: &mut [T],
    c: &mut [T],
    len: usize,
    work: impl Fn(usize, &mut [T], &mut [T], &mut [T]) + Sync,
) {
    if a.len() <= SERIAL {
        for (i, ((a, b), c)) in a.chunks_mut(len).zip(b.chunks_mut(len)).zip(c.chunks_mut(len)).enumerate() {
            work(i, a, b, c);
        }
    } else {
        a.par_chunks_mut(len)
            .zip(b.par_chunks_mut(len))
            .zip(c.par_chunks_mut(len))
            .enumerate()
            .for_each(|(i, ((a, b), c))| work(i, a, b, c));
    }
}
