//! Convolution on the host of images and filters of `bf16`.
//!
//! Where Winograd's algorithm is the fastest in `f32` it stays so: it multiplies a quarter, while the instructions for pairs of `bf16` only double
//! the rate, and at the points its numbers have more bits than `bf16` holds. Images and filters are widened as they are read, results rounded
//! as they are written. The other convolutions are sums of pairs, from patches read where they lie.

use super::addend::Addend;
use super::cpu::{self, Geometry, Slab, tiles};
use super::{few, winograd};
use crate::bf16::{Narrow, narrow, widen, widened};
use crate::lanes::Scratch;
use crate::pairs::{Packed, Product, Right};
use crate::{Bf16, Dtype, par, simd};

/// `y = conv(x, w) + bias + r`, or its transpose's product, by the geometry.
pub(super) fn correlate(g: &Geometry, x: &[Bf16], w: &[Bf16], bias: Option<&[Bf16]>, addend: Addend<&[Bf16]>, y: &mut [Bf16]) {
    let bias = bias.map(widened);
    if winograd::suits(g, Dtype::F32) {
        let order = winograd::Order::of(g);
        let bias = bias.as_deref();
        return pulp::Arch::new().dispatch(winograd::Correlation::<f32, Bf16> { g, x, w, bias, addend, y, order });
    }
    if g.h.transposed || few::suits(g) {
        return in_f32(g, x, w, bias.as_deref(), addend, y);
    }
    direct(g, x, w, bias, addend, y);
}

/// The loops for `f32`.
fn in_f32(g: &Geometry, x: &[Bf16], w: &[Bf16], bias: Option<&[f32]>, addend: Addend<&[Bf16]>, y: &mut [Bf16]) {
    let [mut x_wide, mut w_wide, mut y_wide] = [x.len(), w.len(), y.len()].map(Scratch::<f32>::new);
    widen(x, x_wide.as_mut_slice());
    widen(w, w_wide.as_mut_slice());
    let addend = addend.map(widened);
    let addend = addend.as_ref().map(Vec::as_slice);
    cpu::correlate(g, x_wide.as_slice(), w_wide.as_slice(), bias, addend, y_wide.as_mut_slice());
    narrow(y_wide.as_slice(), y);
}

fn direct(g: &Geometry, x: &[Bf16], w: &[Bf16], bias: Option<Vec<f32>>, addend: Addend<&[Bf16]>, y: &mut [Bf16]) {
    let run = g.w.kernel * g.c_in;
    let filter = Packed::new(Right { data: w, row: g.c_out, column: 1 }, g.h.kernel, run, g.c_out);
    let bias = bias.map(|mut bias| {
        bias.resize(filter.padded(), 0.0);
        bias
    });
    par::pieces(&mut tiles(g, y), 1, g.cost(), |_, tile| {
        let (images, rows, y) = &mut tile[0];
        let slab = Slab::new(g, x, images.clone(), rows.clone());
        let mut x_at = Vec::with_capacity(y.len() / g.c_out);
        for image in 0..images.len() {
            for i in rows.clone() {
                let row = image * slab.image + (g.h.first(i) - slab.top) as usize * slab.row;
                x_at.extend((0..g.w.output).map(|j| row + (g.w.first(j) - slab.left) as usize * g.c_in));
            }
        }
        let segments: Vec<usize> = (0..g.h.kernel).map(|s| s * slab.row).collect();
        let mut sums = Scratch::<f32>::new(y.len());
        Product { x: slab.data(), x_at: &x_at, segments: &segments, w: &filter, bias: bias.as_deref(), y: sums.as_mut_slice() }
            .run();
        addend.add_to(g, images.clone(), rows.clone(), sums.as_mut_slice());
        simd::widest(Narrow { x: sums.as_slice(), y });
    });
}
