//! Repeating pixels on the host.

use crate::element::Stored;
use crate::par;

/// Repeats every pixel of `x` (`rows` of `width` pixels of `channels`) `factor_w` times and every row `factor_h` times,
/// changed by `scale`.
pub(in crate::ops) fn repeat<T: Stored>(
    x: &[T],
    width: usize,
    channels: usize,
    (factor_h, factor_w): (usize, usize),
    scale: impl Fn(T) -> T + Sync,
    y: &mut [T],
) {
    let (row_in, row_out) = (width * channels, width * channels * factor_w);
    if row_in == 0 {
        return;
    }
    par::pieces(y, row_out * factor_h, y.len(), |i, y| {
        let (first, others) = y.split_at_mut(row_out);
        for (pixel, out) in x[i * row_in..][..row_in].chunks_exact(channels).zip(first.chunks_exact_mut(channels * factor_w)) {
            for out in out.chunks_exact_mut(channels) {
                for (out, &x) in out.iter_mut().zip(pixel) {
                    *out = scale(x);
                }
            }
        }
        for row in others.chunks_exact_mut(row_out) {
            row.copy_from_slice(first);
        }
    });
}
