//! Convolution of stride 1 to very few channels, such as a network's last: vectors along the output channels would be mostly
//! empty. Instead each tap is a plane of products,
//!
//! ```text
//! P[tap, o, p] = Σ_c w[tap, c, o] x[p, c]          one matrix product
//! y[p, o] = bias[o] + Σ_tap P[tap, o, p + tap]     sums of shifted planes
//! dw[tap, c, o] = Σ_p g[p - tap, o] x[p, c]        one matrix product with shifted planes of the gradient
//! ```

use std::ops::Range;

use super::addend::Addend;
use super::cpu::{Axis, Geometry};
use crate::gemm::{Into, Mat, Threads, gemm};
use crate::lanes::{Lanes, Scratch};
use crate::par;

/// Output channels up to which, and input channels from which, this is the faster way.
const MOST_OUT: usize = 4;
const LEAST_IN: usize = 8;
/// Parts of the batch that weight gradients are summed in.
const PARTS: usize = 16;

pub(super) fn suits(g: &Geometry) -> bool {
    g.h.stride == 1 && g.w.stride == 1 && g.c_out <= MOST_OUT && g.c_in >= LEAST_IN
}

/// Outputs that meet an input with tap number `k`, and how far from an output that input is.
fn meeting(axis: &Axis, k: usize) -> (Range<usize>, isize) {
    let shift = axis.first(0) + k as isize;
    let low = (-shift).clamp(0, axis.output as isize);
    let high = (axis.input as isize - shift).clamp(low, axis.output as isize);
    (low as usize..high as usize, shift)
}

/// Calls `work` with the number of a plane of products and, for each row of pixels that both have, where it starts in the output
/// and in the input, and its length.
fn shifted(g: &Geometry, mut work: impl FnMut(usize, usize, usize, usize)) {
    for k in 0..g.h.kernel {
        let (rows, down) = meeting(&g.h, k);
        for l in 0..g.w.kernel {
            let (columns, right) = meeting(&g.w, l);
            if columns.is_empty() {
                continue;
            }
            for i in rows.clone() {
                let input = (i as isize + down) as usize * g.w.input + (columns.start as isize + right) as usize;
                work(k * g.w.kernel + l, i * g.w.output + columns.start, input, columns.len());
            }
        }
    }
}

/// `y = conv(x, w) + bias + r`, or its transpose's product.
pub(super) fn correlate<T: Lanes>(g: &Geometry, x: &[T], w: &[T], bias: Option<&[T]>, addend: Addend<&[T]>, y: &mut [T]) {
    let (taps, pixels) = (g.h.kernel * g.w.kernel, g.h.input * g.w.input);
    let planes = taps * g.c_out;
    // [tap, output channel][input channel]; the transpose swaps the channels of the stored filter and turns it round.
    let mut filter = Scratch::<T>::new(planes * g.c_in);
    for (row, out) in filter.as_mut_slice().chunks_exact_mut(g.c_in).enumerate() {
        let (tap, o) = (row / g.c_out, row % g.c_out);
        for (c, out) in out.iter_mut().enumerate() {
            *out =
                w[if g.h.transposed { ((taps - 1 - tap) * g.c_out + o) * g.c_in + c } else { (tap * g.c_in + c) * g.c_out + o }];
        }
    }
    let filter = Mat::new(filter.as_slice(), planes, g.c_in);
    par::pieces(y, g.h.output * g.w.output * g.c_out, g.cost(), |b, y| {
        let mut products = Scratch::<T>::new(planes * pixels);
        let products = products.as_mut_slice();
        let x = Mat::new(&x[b * pixels * g.c_in..][..pixels * g.c_in], pixels, g.c_in);
        gemm(filter, x.t(), products, pixels, 1.0, Into::Overwrite, Threads::One);
        for pixel in y.chunks_exact_mut(g.c_out) {
            match bias {
                Some(bias) => pixel.copy_from_slice(bias),
                None => pixel.fill(T::ZERO),
            }
        }
        shifted(g, |tap, output, input, len| {
            for o in 0..g.c_out {
                let products = &products[(tap * g.c_out + o) * pixels + input..][..len];
                for (y, &p) in y[output * g.c_out + o..].iter_mut().step_by(g.c_out).zip(products) {
                    *y += p;
                }
            }
        });
        addend.add_to(g, b..b + 1, 0..g.h.output, y);
    });
}

/// `dw` for the geometry of the convolution: images are summed within parts in order, the parts then in order.
pub(super) fn weight_gradient<T: Lanes>(g: &Geometry, x: &[T], grad: &[T], dw: &mut [T]) {
    let (pixels, small) = (g.h.input * g.w.input, g.h.output * g.w.output * g.c_out);
    let planes = g.h.kernel * g.w.kernel * g.c_out;
    let each = g.batch.div_ceil(PARTS).max(1);
    let parts = g.batch.div_ceil(each);
    let mut partial = Scratch::<T>::new(parts * planes * g.c_in);
    par::pieces(partial.as_mut_slice(), planes * g.c_in, g.cost(), |part, sums| {
        sums.fill(T::ZERO);
        let mut gradients = Scratch::<T>::new(planes * pixels);
        let gradients = gradients.as_mut_slice();
        // What no gradient is shifted to stays zero for all images.
        gradients.fill(T::ZERO);
        for b in part * each..g.batch.min((part + 1) * each) {
            let grad = &grad[b * small..][..small];
            shifted(g, |tap, output, input, len| {
                for o in 0..g.c_out {
                    let out = &mut gradients[(tap * g.c_out + o) * pixels + input..][..len];
                    for (out, &g) in out.iter_mut().zip(grad[output * g.c_out + o..].iter().step_by(g.c_out)) {
                        *out = g;
                    }
                }
            });
            let x = Mat::new(&x[b * pixels * g.c_in..][..pixels * g.c_in], pixels, g.c_in);
            gemm(Mat::new(gradients, planes, pixels), x, sums, g.c_in, 1.0, Into::Add, Threads::One);
        }
    });
    let partial = partial.as_slice();
    for (at, dw) in dw.iter_mut().enumerate() {
        let (o, c, tap) = (at % g.c_out, at / g.c_out % g.c_in, at / g.c_out / g.c_in);
        let at = (tap * g.c_out + o) * g.c_in + c;
        *dw = T::ZERO;
        for part in 0..parts {
            *dw += partial[part * planes * g.c_in + at];
        }
    }
}
