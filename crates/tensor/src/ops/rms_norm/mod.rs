//! Root-mean-square normalisation (Zhang & Sennrich 2019, eq. 4) over the last axis:
//! `y = gamma x / sqrt(mean(x²) + eps)`. It shares layer normalisation's kernels, with the mean taken as zero.

use super::layer_norm::cpu::Rows;
use super::layer_norm::{backward, forward, normal_and_tangent, rows};
use crate::Dtype;
use crate::graph::{Keep, Op, Saved, record};
use crate::tensor::{Tensor, in_f32};

struct RmsNorm {
    rows: Rows,
    affine: bool,
    /// `[rows, 2]`: zero and the reciprocal root mean square.
    stats: Tensor,
}

impl Op for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn keep(&self, _: &[bool]) -> Keep {
        if self.affine { Keep::inputs(&[0, 1]) } else { Keep::inputs(&[0]) }
    }

    fn vjp(&self, saved: &Saved, grad: &Tensor, needed: &[bool]) -> Vec<Option<Tensor>> {
        let gamma = self.affine.then(|| saved.input(1));
        let grads = backward(self.rows, saved.input(0), gamma, &self.stats, grad);
        grads.into_iter().zip(needed).map(|(grad, &needed)| needed.then_some(grad)).collect()
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        let (normal, t_normal) = normal_and_tangent(self.rows, saved.input(0), tangents[0].as_ref());
        let by_x = t_normal.map(|t| if self.affine { &t * saved.input(1) } else { t });
        let by_gamma = tangents.get(1).and_then(Option::as_ref).map(|t| &normal * t);
        match (by_x, by_gamma) {
            (Some(a), Some(b)) => &a + &b,
            (a, b) => a.or(b).expect("jvp is called with a tangent"),
        }
    }
}

impl Tensor {
    /// Root-mean-square normalisation over the last axis of `[.., D]`, then times `gamma` `[D]`.
    ///
    /// # Panics
    /// If the tensor is a scalar, `gamma` is not of shape `[D]`, or the types differ.
    #[track_caller]
    pub fn rms_norm(&self, gamma: Option<&Tensor>, eps: f64) -> Tensor {
        if self.dtype() == Dtype::Bf16 {
            let gamma = gamma.map(|t| t.to(Dtype::F32));
            return in_f32([self], |[x]| x.rms_norm(gamma.as_ref(), eps));
        }
        let parameters: Vec<(&str, &Tensor)> = gamma.iter().map(|&g| ("gamma", g)).collect();
        let rows = rows("rms_norm", self, &parameters, false, eps);
        let (y, stats) = forward(rows, self, gamma, None);
        let inputs: Vec<&Tensor> = std::iter::once(self).chain(gamma).collect();
        record(RmsNorm { rows, affine: gamma.is_some(), stats }, &inputs, y)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Dtype, Noise, Tensor, check, grad};

    fn sample(shape: &[usize], step: u32) -> Tensor {
        Noise::new(37, 0).normal(shape, 0, step, Dtype::F64)
    }

    const SHAPES: [&[usize]; 4] = [&[6], &[3, 5], &[2, 3, 17], &[4, 32]];

    #[test]
    fn rms_norm_is_its_definition() {
        for shape in SHAPES {
            let n = shape[shape.len() - 1];
            let (x, gamma) = (&sample(shape, 0) + 2.0, sample(&[n], 1));
            let g = gamma.as_slice::<f64>();
            let expected: Vec<f64> = x
                .as_slice::<f64>()
                .chunks(n)
                .flat_map(|row| {
                    let square = row.iter().map(|x| x * x).sum::<f64>() / n as f64;
                    row.iter().enumerate().map(move |(i, x)| x / (square + 1e-6).sqrt() * g[i])
                })
                .collect();
            let single = x.to(Dtype::F32).rms_norm(Some(&gamma.to(Dtype::F32)), 1e-6).to_vec::<f64>();
            for ((y, single), expected) in x.rms_norm(Some(&gamma), 1e-6).to_vec::<f64>().iter().zip(single).zip(expected) {
                assert!((y - expected).abs() < 1e-13 && (single - expected).abs() < 2e-6, "{shape:?}");
            }
        }
    }

    #[test]
    fn rms_norm_passes_the_op_checks() {
        for shape in SHAPES {
            let all = [sample(shape, 0), sample(&shape[shape.len() - 1..], 1)];
            let name = format!("rms_norm {shape:?}");
            check::op(&name, |t| t[0].rms_norm(Some(&t[1]), 1e-2), &all);
            check::op(&name, |t| t[0].rms_norm(None, 1e-2), &all[..1]);
            check::op(&name, |t| all[0].rms_norm(Some(&t[0]), 1e-2), &all[1..]);
        }
    }

    #[test]
    fn rms_norm_has_the_same_bits_for_any_number_of_threads() {
        let (x, gamma) = (sample(&[700, 130], 0).to(Dtype::F32), sample(&[130], 1).to(Dtype::F32));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (x, gamma) = (x.track(), gamma.track());
                let y = x.rms_norm(Some(&gamma), 1e-6);
                let grads = grad((&y * &y.detach()).sum_all(), &[&x, &gamma]);
                grads.iter().chain([&y]).map(Tensor::to_vec::<f32>).collect::<Vec<_>>()
            })
        };
        assert!(run(1) == run(2));
    }

    #[test]
    #[should_panic(expected = "rms_norm: gamma for an input of shape [2, 3]")]
    fn parameters_of_another_shape_are_refused() {
        Tensor::zeros(&[2, 3], Dtype::F32).rms_norm(Some(&Tensor::zeros(&[1], Dtype::F32)), 1e-5);
    }
}
