//! Attention on the host with operands of `bf16`: scores, their softmax and the sums in `f32`; the probabilities are rounded before the
//! second product, and its results.

use pulp::NullaryFnOnce;

use super::cpu::Shape;
use crate::Bf16;
use crate::bf16::Narrow;
use crate::lanes::Scratch;
use crate::ops::softmax::cpu::Rows;
use crate::pairs::{Packed, Product, Right};
use crate::par;
use crate::simd;

/// `x = x scale`.
struct Scale<'a> {
    x: &'a mut [f32],
    scale: f32,
}

impl NullaryFnOnce for Scale<'_> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for x in self.x {
            *x *= self.scale;
        }
    }
}

/// `softmax(scale q kᵀ) v` and the log-sum-exp of each row of scores, `lse`: `[batch, n_q, heads]`.
pub(super) fn forward(s: Shape, q: &[Bf16], k: &[Bf16], v: &[Bf16], scale: f64, out: &mut [Bf16], lse: &mut [f32]) {
    if s.is_empty() {
        return;
    }
    let (width, block) = (s.width(), s.block());
    // Keys turned round and values of each head, packed once for all queries.
    let mut packed: Vec<Option<(Packed, Packed)>> = (0..s.batch * s.heads).map(|_| None).collect();
    par::pieces(&mut packed, 1, 2 * s.batch * s.n_k * width, |i, packed| {
        let (b, h) = (i / s.heads, i % s.heads);
        let part =
            |x: &'_ [Bf16]| -> std::ops::Range<usize> { b * s.n_k * width + h * s.d..x.len().min((b + 1) * s.n_k * width) };
        let keys = Packed::new(Right { data: &k[part(k)], row: 1, column: width }, 1, s.d, s.n_k);
        let values = Packed::new(Right { data: &v[part(v)], row: width, column: 1 }, 1, s.n_k, s.d);
        packed[0] = Some((keys, values));
    });
    // (sample, first row, output rows, their log-sum-exps)
    let mut jobs = Vec::new();
    let samples = out.chunks_exact_mut(s.n_q * width).zip(lse.chunks_exact_mut(s.n_q * s.heads));
    for (b, (out, lse)) in samples.enumerate() {
        for (i, (out, lse)) in out.chunks_mut(block * width).zip(lse.chunks_mut(block * s.heads)).enumerate() {
            jobs.push((b, i * block, out, lse));
        }
    }
    par::pieces(&mut jobs, 1, 2 * s.cost(), |_, job| {
        let (b, first, out, lse) = &mut job[0];
        let rows = out.len() / width;
        let (mut scores, mut sums) = (Scratch::<f32>::new(rows * s.n_k), Scratch::<f32>::new(rows * s.d));
        let mut probabilities = Scratch::<Bf16>::new(rows * s.n_k);
        let p_at: Vec<usize> = (0..rows).map(|i| i * s.n_k).collect();
        for h in 0..s.heads {
            let (keys, values) = packed[*b * s.heads + h].as_ref().expect("every head was packed");
            let q_at: Vec<usize> = (0..rows).map(|i| (*b * s.n_q + *first + i) * width + h * s.d).collect();
            let (scores, sums) = (scores.as_mut_slice(), sums.as_mut_slice());
            Product { x: q, x_at: &q_at, segments: &[0], w: keys, bias: None, y: scores }.run();
            simd::widest(Scale { x: &mut *scores, scale: scale as f32 });
            simd::widest(Rows { x: &mut *scores, n: s.n_k, lse: &mut lse[h..], step: s.heads });
            let p = probabilities.as_mut_slice();
            simd::widest(Narrow { x: scores, y: &mut *p });
            Product { x: p, x_at: &p_at, segments: &[0], w: values, bias: None, y: &mut *sums }.run();
            for (out, sums) in out.chunks_exact_mut(width).zip(sums.chunks_exact(s.d)) {
                simd::widest(Narrow { x: sums, y: &mut out[h * s.d..][..s.d] });
            }
        }
    });
}
