//! Scaled dot-product attention (Vaswani et al. 2017, eq. 1), for each sample and head on its own:
//!
//! ```text
//! S = scale Q Kᵀ     P = softmax(S) by rows     O = P V
//!
//! dV = Pᵀ dO     dP = dO Vᵀ     dS = P ∘ (dP - rowsum(dO ∘ O))     dQ = scale dS K     dK = scale dSᵀ Q
//! ```
//!
//! The matrix of probabilities is never stored as a whole: the forward pass keeps the log-sum-exp of each row, from which
//! the backward pass computes `P` again, a block of rows at a time (Dao et al. 2022, section 3.1).

mod bf16;
mod cpu;

use crate::graph::{Keep, Op, Saved, record};
use crate::tensor::{Tensor, by_dtype};
use crate::{Device, Dtype};
use cpu::{Kept, Shape};

struct Attention {
    shape: Shape,
    scale: f64,
    /// `[B, N_q, H]`.
    lse: Tensor,
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn keep(&self, _: &[bool]) -> Keep {
        Keep { output: true, ..Keep::inputs(&[0, 1, 2]) }
    }

    fn vjp(&self, saved: &Saved, grad: &Tensor, needed: &[bool]) -> Vec<Option<Tensor>> {
        let (q, k, v) = (saved.input(0), saved.input(1), saved.input(2));
        let grads = match q.device() {
            Device::Cpu => by_dtype!(q.dtype(), T => {
                let kept = Kept {
                    q: q.as_slice::<T>(),
                    k: k.as_slice(),
                    v: v.as_slice(),
                    out: saved.output().as_slice(),
                    lse: self.lse.as_slice(),
                };
                let (mut dk, mut dv) = (None, None);
                let dq = Tensor::build(q.shape(), |dq: &mut [T]| {
                    dk = Some(Tensor::build(k.shape(), |dk: &mut [T]| {
                        dv = Some(Tensor::build(v.shape(), |dv: &mut [T]| {
                            cpu::backward(self.shape, kept, grad.as_slice(), self.scale, dq, dk, dv);
                        }));
                    }));
                });
                [Some(dq), dk, dv]
            }),
        };
        grads.into_iter().zip(needed).map(|(grad, &needed)| grad.filter(|_| needed)).collect()
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        // [B, N, H, D] <-> [B, H, N, D]
        let by_head = |t: &Tensor| t.permute(&[0, 2, 1, 3]);
        let (q, k, v) = (by_head(saved.input(0)), by_head(saved.input(1)), by_head(saved.input(2)));
        let [t_q, t_k, t_v] = [0, 1, 2].map(|i| tangents[i].as_ref().map(by_head));
        let p = (&q.matmul_nt(&k) * self.scale).softmax();
        let sum = |a: Option<Tensor>, b: Option<Tensor>| match (a, b) {
            (Some(a), Some(b)) => Some(&a + &b),
            (a, b) => a.or(b),
        };
        let t_scores = sum(t_q.map(|t| t.matmul_nt(&k)), t_k.map(|t| q.matmul_nt(&t)));
        let t_p = t_scores.map(|t| {
            let product = &p * &(&t * self.scale);
            &product - &(&p * &product.sum_keep(&[3]))
        });
        let t_out = sum(t_p.map(|t| t.matmul(&v)), t_v.map(|t| p.matmul(&t)));
        by_head(&t_out.expect("jvp is called with a tangent"))
    }
}

impl Tensor {
    /// Attention of queries `[B, N_q, H, D]` over keys and values `[B, N_k, H, D]`, separately for each of the `H` heads:
    /// `softmax(scale q kᵀ) v`, of the queries' shape. `scale` is `1/√D` if not given.
    ///
    /// # Panics
    /// If the shapes do not fit together, there are no keys, or the types differ.
    #[track_caller]
    pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: Option<f64>) -> Tensor {
        assert_eq!(q.rank(), 4, "attention: queries of shape {:?}, not [B, N, H, D]", q.shape());
        let shape = Shape { batch: q.dim(0), n_q: q.dim(1), n_k: *k.shape().get(1).unwrap_or(&0), heads: q.dim(2), d: q.dim(3) };
        let expected = [shape.batch, shape.n_k, shape.heads, shape.d];
        assert!(
            k.shape() == expected && v.shape() == expected,
            "attention: queries of shape {:?} with keys of shape {:?} and values of shape {:?}",
            q.shape(),
            k.shape(),
            v.shape()
        );
        assert!(shape.n_k > 0, "attention: no keys in shape {:?}", k.shape());
        for t in [k, v] {
            assert_eq!(q.dtype(), t.dtype(), "attention: element types differ");
        }
        let scale = scale.unwrap_or(1.0 / (shape.d as f64).sqrt());
        let (y, lse) = match q.device() {
            Device::Cpu if q.dtype() == Dtype::Bf16 => {
                let mut lse = vec![0.0f32; shape.batch * shape.n_q * shape.heads];
                let y = Tensor::build(q.shape(), |out| {
                    bf16::forward(shape, q.as_slice(), k.as_slice(), v.as_slice(), scale, out, &mut lse);
                });
                (y, Tensor::from_vec(&[shape.batch, shape.n_q, shape.heads], lse))
            }
            Device::Cpu => by_dtype!(q.dtype(), T => {
                let mut lse = vec![T::default(); shape.batch * shape.n_q * shape.heads];
                let y = Tensor::build(q.shape(), |out: &mut [T]| {
                    cpu::forward(shape, q.as_slice(), k.as_slice(), v.as_slice(), scale, out, &mut lse);
                });
                (y, Tensor::from_vec(&[shape.batch, shape.n_q, shape.heads], lse))
            }),
        };
        record(Attention { shape, scale, lse }, &[q, k, v], y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Noise, check, grad};

    fn sample(shape: &[usize], step: u32) -> Tensor {
        Noise::new(19, 0).normal(shape, 0, step, Dtype::F64)
    }

    fn inputs([b, n_q, n_k, h, d]: [usize; 5]) -> [Tensor; 3] {
        [sample(&[b, n_q, h, d], 0), sample(&[b, n_k, h, d], 1), sample(&[b, n_k, h, d], 2)]
    }

    const CASES: [[usize; 5]; 5] = [[2, 4, 4, 2, 3], [1, 5, 3, 1, 4], [3, 1, 6, 2, 1], [1, 19, 18, 3, 5], [2, 3, 1, 2, 2]];

    fn naive(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Vec<f64> {
        let [b, n_q, h, d] = q.shape().try_into().unwrap();
        let n_k = k.dim(1);
        let (q, k, v) = (q.as_slice::<f64>(), k.as_slice::<f64>(), v.as_slice::<f64>());
        let mut out = vec![0.0; q.len()];
        for b in 0..b {
            for i in 0..n_q {
                for h_ in 0..h {
                    let at = |n: usize, i: usize| ((b * n + i) * h + h_) * d;
                    let weights: Vec<f64> = (0..n_k)
                        .map(|j| (scale * (0..d).map(|c| q[at(n_q, i) + c] * k[at(n_k, j) + c]).sum::<f64>()).exp())
                        .collect();
                    let total: f64 = weights.iter().sum();
                    for c in 0..d {
                        out[at(n_q, i) + c] = (0..n_k).map(|j| weights[j] / total * v[at(n_k, j) + c]).sum();
                    }
                }
            }
        }
        out
    }

    fn distance(a: &[f64], b: &[f64]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn attention_is_its_definition() {
        for case in CASES.into_iter().chain([[1, 150, 300, 2, 8]]) {
            let [q, k, v] = inputs(case);
            let expected = naive(&q, &k, &v, 1.0 / (case[4] as f64).sqrt());
            assert!(distance(&Tensor::attention(&q, &k, &v, None).to_vec(), &expected) < 1e-12, "{case:?}");
            let expected = naive(&q, &k, &v, 0.3);
            assert!(distance(&Tensor::attention(&q, &k, &v, Some(0.3)).to_vec(), &expected) < 1e-12, "{case:?}");
            let [q, k, v] = [q, k, v].map(|t| t.to(Dtype::F32));
            assert!(distance(&Tensor::attention(&q, &k, &v, Some(0.3)).to_vec(), &expected) < 1e-5, "{case:?} in f32");
        }
    }

    #[test]
    fn attention_passes_the_op_checks() {
        for case in CASES {
            let all = inputs(case);
            check::op(&format!("attention {case:?}"), |t| Tensor::attention(&t[0], &t[1], &t[2], Some(0.7)), &all);
            let [q, k, v] = all;
            check::op("attention in q", |t| Tensor::attention(&t[0], &k, &v, None), std::slice::from_ref(&q));
            check::op("attention in k", |t| Tensor::attention(&q, &t[0], &v, None), std::slice::from_ref(&k));
            check::op("attention in v", |t| Tensor::attention(&q, &k, &t[0], None), std::slice::from_ref(&v));
        }
    }

    #[test]
    fn gradients_over_several_blocks_agree_with_the_composed_ops_and_between_thread_counts() {
        let [q, k, v] = inputs([2, 300, 270, 2, 8]);
        let weight = sample(q.shape(), 3);
        type Function = fn(&Tensor, &Tensor, &Tensor) -> Tensor;
        let fused: Function = |q, k, v| Tensor::attention(q, k, v, Some(0.5));
        let composed: Function = |q, k, v| {
            let [q, k, v] = [q, k, v].map(|t| t.permute(&[0, 2, 1, 3]));
            (&q.matmul_nt(&k) * 0.5).softmax().matmul(&v).permute(&[0, 2, 1, 3])
        };
        let run = |f: Function, threads: usize, dtype: Dtype| {
            let [q, k, v, weight] = [&q, &k, &v, &weight].map(|t| t.to(dtype));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let leaves = [q.track(), k.track(), v.track()];
                let y = f(&leaves[0], &leaves[1], &leaves[2]);
                let mut grads = grad((&y * &weight).sum_all(), &leaves.each_ref());
                grads.push(y.detach());
                grads.iter().map(Tensor::to_vec::<f64>).collect::<Vec<_>>()
            })
        };
        let double = run(fused, 1, Dtype::F64);
        for (a, b) in double.iter().zip(run(composed, 1, Dtype::F64)) {
            assert!(distance(a, &b) < 1e-11);
        }
        let single = run(fused, 1, Dtype::F32);
        assert!(single == run(fused, 2, Dtype::F32));
        for (a, b) in single.iter().zip(&double) {
            assert!(distance(a, b) < 1e-4);
        }
    }

    #[test]
    #[should_panic(
        expected = "attention: queries of shape [1, 2, 2, 4] with keys of shape [1, 3, 2, 4] and values of shape [1, 4, 2, 4]"
    )]
    fn shapes_that_do_not_fit_are_named() {
        let t = |n| Tensor::zeros(&[1, n, 2, 4], Dtype::F32);
        Tensor::attention(&t(2), &t(3), &t(4), None);
    }
}
