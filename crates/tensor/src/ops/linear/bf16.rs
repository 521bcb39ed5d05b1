//! The linear layer on the host with operands of `bf16`: sums, what is added and the activation in `f32`, each result rounded once.

use pulp::NullaryFnOnce;

use super::cpu::Shape;
use crate::Bf16;
use crate::bf16::widened;
use crate::element::num::Real;
use crate::lanes::Scratch;
use crate::ops::group_norm::Activation;
use crate::pairs::{Packed, Product, Right};
use crate::par;
use crate::simd;

/// From sums to results.
struct Finish<'a> {
    sums: &'a [f32],
    addend: Option<&'a [Bf16]>,
    z: Option<&'a mut [Bf16]>,
    activation: Activation,
    y: &'a mut [Bf16],
}

impl NullaryFnOnce for Finish<'_> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let Finish { sums, addend, z, activation, y } = self;
        let silu = |z: f32| z * Real::sigmoid(z);
        match (activation, addend, z) {
            (Activation::None, None, _) => y.iter_mut().zip(sums).for_each(|(y, &z)| *y = Bf16::from_f32(z)),
            (Activation::None, Some(r), _) => {
                y.iter_mut().zip(sums).zip(r).for_each(|((y, &z), r)| *y = Bf16::from_f32(z + r.to_f32()));
            }
            (Activation::Silu, None, None) => y.iter_mut().zip(sums).for_each(|(y, &z)| *y = Bf16::from_f32(silu(z))),
            (Activation::Silu, addend, z) => {
                let zero = Bf16::default();
                let mut unused = [];
                let z = z.unwrap_or(&mut unused);
                for (i, (y, &sum)) in y.iter_mut().zip(sums).enumerate() {
                    let sum = sum + addend.map_or(zero, |r| r[i]).to_f32();
                    *y = Bf16::from_f32(silu(sum));
                    if let Some(z) = z.get_mut(i) {
                        *z = Bf16::from_f32(sum);
                    }
                }
            }
        }
    }
}

/// `y = silu(x W + b + r)`, or without the activation; `z`, if wanted, is what the activation is applied to.
#[allow(clippy::too_many_arguments)]
pub(super) fn forward(
    s: Shape,
    x: &[Bf16],
    w: &[Bf16],
    bias: &[Bf16],
    addend: Option<&[Bf16]>,
    activation: Activation,
    z: Option<&mut [Bf16]>,
    y: &mut [Bf16],
) {
    if y.is_empty() {
        return;
    }
    let (rows, n) = (s.piece(), s.outputs);
    let w = Packed::new(Right { data: w, row: n, column: 1 }, 1, s.inputs, n);
    let mut bias = widened(bias);
    bias.resize(w.padded(), 0.0);
    let mut z = z.map(|z| z.chunks_mut(rows * n));
    // (part of y, part of z)
    let mut jobs: Vec<_> = y.chunks_mut(rows * n).map(|y| (y, z.as_mut().and_then(Iterator::next))).collect();
    par::pieces(&mut jobs, 1, s.work() + s.rows * n, |i, job| {
        let (y, z) = &mut job[0];
        let mut sums = Scratch::<f32>::new(y.len());
        let x_at: Vec<usize> = (0..y.len() / n).map(|row| (i * rows + row) * s.inputs).collect();
        Product { x, x_at: &x_at, segments: &[0], w: &w, bias: Some(&bias), y: sums.as_mut_slice() }.run();
        let addend = addend.map(|r| &r[i * rows * n..][..y.len()]);
        simd::widest(Finish { sums: sums.as_slice(), addend, z: z.as_deref_mut(), activation, y });
    });
}
