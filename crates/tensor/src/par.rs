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

/// [`pieces`] of several slices of the same length at once.
pub(crate) fn pieces_of<T: Send, const K: usize>(
    arrays: [&mut [T]; K],
    len: usize,
    cost: usize,
    work: impl Fn(usize, [&mut [T]; K]) + Sync,
) {
    let whole = arrays[0].len();
    let mut rest = arrays.map(|array| array.chunks_mut(len));
    if cost <= SERIAL || whole <= len {
        for i in 0..whole.div_ceil(len) {
            work(i, next(&mut rest));
        }
    } else {
        let pieces: Vec<[&mut [T]; K]> = (0..whole.div_ceil(len)).map(|_| next(&mut rest)).collect();
        pieces.into_par_iter().enumerate().for_each(|(i, piece)| work(i, piece));
    }
}

/// The next piece of each slice.
fn next<'a, T, const K: usize>(rest: &mut [std::slice::ChunksMut<'a, T>; K]) -> [&'a mut [T]; K] {
    rest.each_mut().map(|pieces| pieces.next().expect("slices of one length"))
}
