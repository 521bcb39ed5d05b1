//! Summing blocks of pixels on the host.

use pulp::NullaryFnOnce;

use crate::element::Element;
use crate::par;
use crate::simd;

/// One output row from the `kernel_h` input rows it covers.
struct Blocks<'a, T> {
    /// `kernel_h` rows.
    x: &'a [T],
    y: &'a mut [T],
    channels: usize,
    kernel_h: usize,
    kernel_w: usize,
    scale: T,
}

impl<T: Element> NullaryFnOnce for Blocks<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let (c, row) = (self.channels, self.x.len() / self.kernel_h);
        for (j, out) in self.y.chunks_exact_mut(c).enumerate() {
            out.fill(T::ZERO);
            for k in 0..self.kernel_h {
                for pixel in self.x[k * row + j * self.kernel_w * c..][..self.kernel_w * c].chunks_exact(c) {
                    for (out, &x) in out.iter_mut().zip(pixel) {
                        *out += x;
                    }
                }
            }
            for out in out {
                *out = *out * self.scale;
            }
        }
    }
}

/// The sum of every block of `kernel_h × kernel_w` pixels, times `scale`; `width` is the output's.
pub(in crate::ops) fn sum_blocks<T: Element>(
    x: &[T],
    width: usize,
    channels: usize,
    (kernel_h, kernel_w): (usize, usize),
    scale: T,
    y: &mut [T],
) {
    let row_out = width * channels;
    let block_in = row_out * kernel_w * kernel_h;
    par::pieces(y, row_out, x.len(), |i, y| {
        simd::widest(Blocks { x: &x[i * block_in..][..block_in], y, channels, kernel_h, kernel_w, scale });
    });
}
