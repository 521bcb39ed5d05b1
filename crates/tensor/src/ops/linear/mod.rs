//! The linear layer, with what follows it in a network fused in:
//!
//! ```text
//! z = x W + b (+ r)          y = z  or  silu(z)
//!
//! dz = dy silu'(z)     dx = dz Wᵀ     dW = xᵀ dz     db = Σ_rows dz     dr = dz
//! ```
//!
//! Rows go through in pieces, each with all its steps while it is in the cache. What is kept for the backward pass is `x` and, if
//! there is an activation, `z`.

mod bf16;
mod cpu;
#[cfg(test)]
mod tests;

use super::group_norm::Activation;
use crate::graph::{Keep, Op, Saved, record};
use crate::ops::unary::times_silu_slope;
use crate::storage::Buffer;
use crate::tensor::{Tensor, by_dtype, count};
use crate::{Device, Dtype};
use cpu::Shape;

/// Inputs: `x` `[rows, inputs]`, `w`, `b`, and `r` if there is one.
struct Linear {
    shape: Shape,
    activation: Activation,
    /// Before the activation, if there is one.
    z: Option<Tensor>,
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn keep(&self, tracked: &[bool]) -> Keep {
        match self.activation {
            // A recorded jvp needs z in its place in the graph: it is computed again from all inputs.
            Activation::Silu => Keep { inputs: (1 << tracked.len()) - 1, output: false },
            Activation::None => Keep::inputs(&[1, 0].into_iter().filter(|&other| tracked[1 - other]).collect::<Vec<_>>()),
        }
    }

    fn vjp(&self, saved: &Saved, grad: &Tensor, needed: &[bool]) -> Vec<Option<Tensor>> {
        let s = self.shape;
        let activated = self.activation == Activation::Silu;
        let z = self.z.as_ref().map(|z| z.to(grad.dtype()));
        match grad.device() {
            Device::Cpu => by_dtype!(grad.dtype(), T => {
                let buffer = |wanted: bool, shape: &[usize]| wanted.then(|| Buffer::<T>::uninit(count(shape)));
                let mut dz = buffer(activated, &[s.rows, s.outputs]);
                let mut dx = buffer(needed[0], &[s.rows, s.inputs]);
                let mut dw = buffer(needed[1], &[s.inputs, s.outputs]);
                let mut db = buffer(needed[2], &[s.outputs]);
                cpu::backward(
                    s,
                    cpu::Given {
                        x: needed[1].then(|| saved.input(0).as_slice()),
                        w: needed[0].then(|| saved.input(1).as_slice()),
                        z: z.as_ref().map(Tensor::as_slice),
                        grad: grad.as_slice(),
                    },
                    cpu::Wanted {
                        dz: dz.as_mut().map(|b| b.as_mut_slice()),
                        dx: dx.as_mut().map(|b| b.as_mut_slice()),
                        dw: dw.as_mut().map(|b| b.as_mut_slice()),
                        db: db.as_mut().map(|b| b.as_mut_slice()),
                    },
                );
                let tensor = |shape: &[usize], buffer: Option<_>| buffer.map(|b| Tensor::from_buffer(shape, b));
                let mut grads = vec![
                    tensor(&[s.rows, s.inputs], dx),
                    tensor(&[s.inputs, s.outputs], dw),
                    tensor(&[s.outputs], db),
                ];
                if let Some(&addend) = needed.get(3) {
                    let dr = if activated { tensor(&[s.rows, s.outputs], dz) } else { Some(grad.clone()) };
                    grads.push(dr.filter(|_| addend));
                }
                grads
            }),
        }
    }

    fn vjps(&self, saved: &Saved, grads: &[Tensor], needed: &[bool]) -> Vec<Vec<Option<Tensor>>> {
        if needed[1..].contains(&true) || !needed[0] {
            return grads.iter().map(|grad| self.vjp(saved, grad, needed)).collect();
        }
        let s = self.shape;
        let dx: Vec<Tensor> = match grads[0].device() {
            Device::Cpu => by_dtype!(grads[0].dtype(), T => {
                let mut dx: Vec<Buffer<T>> = grads.iter().map(|_| Buffer::uninit(s.rows * s.inputs)).collect();
                cpu::input_gradients(
                    s,
                    saved.input(1).as_slice(),
                    self.z.as_ref().map(Tensor::as_slice),
                    &grads.iter().map(Tensor::as_slice).collect::<Vec<_>>(),
                    dx.iter_mut().map(|b| b.as_mut_slice()).collect(),
                );
                dx.into_iter().map(|b| Tensor::from_buffer(&[s.rows, s.inputs], b)).collect()
            }),
        };
        let rest = vec![None; needed.len() - 1];
        dx.into_iter().map(|dx| [&[Some(dx)], &rest[..]].concat()).collect()
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        let mut terms = vec![
            tangents[0].as_ref().map(|t| t.matmul(saved.input(1))),
            tangents[1].as_ref().map(|t| saved.input(0).matmul(t)),
            tangents.get(3).cloned().flatten(),
        ];
        // A bias that moves alone is one row: it is repeated for all.
        let rows = [self.shape.rows, self.shape.outputs];
        let others = terms.iter().any(Option::is_some);
        terms.push(tangents[2].as_ref().map(|t| if others { t.clone() } else { t.broadcast_to(&rows) }));
        let t_z = terms.into_iter().flatten().reduce(|a, b| &a + &b).expect("jvp is called with a tangent");
        match self.activation {
            Activation::None => t_z,
            Activation::Silu => {
                let recorded = (0..tangents.len()).any(|i| saved.input(i).is_tracked()) || t_z.is_tracked();
                if let (Some(z), false) = (&self.z, recorded) {
                    return times_silu_slope(&z.to(t_z.dtype()), &t_z);
                }
                let z = saved.input(0).linear(saved.input(1), Some(saved.input(2)));
                let z = if tangents.len() > 3 { &z + saved.input(3) } else { z };
                let s = z.sigmoid();
                &t_z * &(&s * &(&(&z * &(1.0 - &s)) + 1.0))
            }
        }
    }
}

impl Tensor {
    /// `x W + b` over the last axis: `[..., I] × [I, O] + [O]`.
    ///
    /// # Panics
    /// If the shapes do not fit or the types differ.
    #[track_caller]
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        match bias {
            Some(bias) => self.linear_with(weight, bias, None, Activation::None),
            None => {
                check(self, weight);
                self.matmul(weight)
            }
        }
    }

    /// `x W + b`, plus `addend` of the result's shape or with a single row `[1, .., O]` for all, then the activation, over the last
    /// axis: `[..., I] × [I, O] + [O]`. One pass over the result, forward and backward.
    ///
    /// # Panics
    /// If the shapes do not fit or the types differ.
    #[track_caller]
    pub fn linear_with(&self, weight: &Tensor, bias: &Tensor, addend: Option<&Tensor>, activation: Activation) -> Tensor {
        check(self, weight);
        let (k, n) = (weight.dim(0), weight.dim(1));
        let lead = &self.shape()[..self.rank() - 1];
        let shape: Vec<usize> = lead.iter().copied().chain([n]).collect();
        assert_eq!(bias.shape(), [n], "linear: bias of shape {:?} for {n} outputs", bias.shape());
        for t in [weight, bias].into_iter().chain(addend) {
            assert_eq!(self.dtype(), t.dtype(), "linear: element types differ");
        }
        if let Some(r) = addend
            && r.shape() != shape
        {
            // One row for all is a part of the bias.
            let row = [vec![1; lead.len()], vec![n]].concat();
            assert_eq!(r.shape(), row, "linear: addend of shape {:?} for a result of shape {shape:?}", r.shape());
            return self.linear_with(weight, &(bias + &r.reshape(&[n])), None, activation);
        }
        let s = Shape { rows: count(lead), inputs: k, outputs: n };
        let (x, addend) = (self.reshape(&[s.rows, k]), addend.map(|r| r.reshape(&[s.rows, n])));
        let inputs: Vec<&Tensor> = [&x, weight, bias].into_iter().chain(&addend).collect();
        let keep_z = activation == Activation::Silu && inputs.iter().any(|t| t.is_tracked());
        let (mut y, z) = match self.device() {
            Device::Cpu if self.dtype() == Dtype::Bf16 => {
                let mut z = keep_z.then(|| Buffer::uninit(s.rows * n));
                let y = Tensor::build(&[s.rows, n], |y| {
                    let (x, w, b) = (x.as_slice(), weight.as_slice(), bias.as_slice());
                    let addend = addend.as_ref().map(Tensor::as_slice);
                    bf16::forward(s, x, w, b, addend, activation, z.as_mut().map(|z| z.as_mut_slice()), y);
                });
                (y, z.map(|z| Tensor::from_buffer(&[s.rows, n], z)))
            }
            Device::Cpu => by_dtype!(self.dtype(), T => {
                let mut z = keep_z.then(|| Buffer::<T>::uninit(s.rows * n));
                let y = Tensor::build(&[s.rows, n], |y: &mut [T]| {
                    let (x, w, b) = (x.as_slice(), weight.as_slice(), bias.as_slice());
                    cpu::forward(s, x, w, b, addend.as_ref().map(Tensor::as_slice), activation, z.as_mut().map(|z| z.as_mut_slice()), y);
                });
                (y, z.map(|z| Tensor::from_buffer(&[s.rows, n], z)))
            }),
        };
        if inputs.iter().any(|t| t.is_tracked()) {
            y = record(Linear { shape: s, activation, z }, &inputs, y);
        }
        y.reshape(&shape)
    }
}

#[track_caller]
fn check(x: &Tensor, weight: &Tensor) {
    assert!(
        weight.rank() == 2 && x.rank() >= 1 && x.shape().last() == Some(&weight.dim(0)),
        "linear: input {:?} and weight {:?} do not multiply",
        x.shape(),
        weight.shape()
    );
}
