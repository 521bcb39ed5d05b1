//! Layer normalisation (Ba, Kiros & Hinton 2016) over the last axis:
//! `y = gamma (x - mean) / sqrt(var + eps) + beta`.

pub(super) mod cpu;

use crate::graph::{Keep, Op, Saved, record};
use crate::tensor::{Tensor, by_dtype, in_f32};
use crate::{Device, Dtype};
use cpu::Rows;

struct LayerNorm {
    rows: Rows,
    affine: bool,
    /// `[rows, 2]`: mean and reciprocal standard deviation.
    stats: Tensor,
}

/// Checks a normalisation's parameters against the last axis.
#[track_caller]
pub(super) fn rows(name: &str, x: &Tensor, parameters: &[(&str, &Tensor)], centred: bool, eps: f64) -> Rows {
    assert!(x.rank() > 0, "{name}: a scalar has no last axis");
    let n = x.dim(x.rank() - 1);
    for (parameter, t) in parameters {
        assert_eq!(t.shape(), [n], "{name}: {parameter} for an input of shape {:?}", x.shape());
        assert_eq!(t.dtype(), x.dtype(), "{name}: element types of {parameter} and input");
    }
    Rows { rows: x.shape()[..x.rank() - 1].iter().product(), n, centred, eps }
}

/// The normalised rows and their `stats`.
pub(super) fn forward(r: Rows, x: &Tensor, gamma: Option<&Tensor>, beta: Option<&Tensor>) -> (Tensor, Tensor) {
    match x.device() {
        Device::Cpu => by_dtype!(x.dtype(), T => {
            let mut stats = vec![T::default(); r.rows * 2];
            let y = Tensor::build(x.shape(), |y: &mut [T]| {
                let (gamma, beta) = (gamma.map(Tensor::as_slice), beta.map(Tensor::as_slice));
                cpu::forward::<T>(r, x.as_slice(), gamma, beta, y, &mut stats);
            });
            (y, Tensor::from_vec(&[r.rows, 2], stats))
        }),
    }
}

/// The gradients of the input, gamma and beta.
pub(super) fn backward(r: Rows, x: &Tensor, gamma: Option<&Tensor>, stats: &Tensor, grad: &Tensor) -> [Tensor; 3] {
    match x.device() {
        Device::Cpu => by_dtype!(x.dtype(), T => {
            let mut parameters = (Vec::new(), Vec::new());
            let dx = Tensor::build(x.shape(), |dx: &mut [T]| {
                let gamma = gamma.map(Tensor::as_slice);
                parameters = cpu::backward::<T>(r, x.as_slice(), gamma, stats.as_slice(), grad.as_slice(), dx);
            });
            [dx, Tensor::from_f64(&[r.n], &parameters.0, x.dtype()), Tensor::from_f64(&[r.n], &parameters.1, x.dtype())]
        }),
    }
}

/// The recorded `x̂` and, given the input's tangent, its tangent.
pub(super) fn normal_and_tangent(r: Rows, x: &Tensor, t: Option<&Tensor>) -> (Tensor, Option<Tensor>) {
    let axis = [x.rank() - 1];
    let centre = |x: &Tensor| if r.centred { x - &x.mean_keep(&axis) } else { x.clone() };
    let x = centre(x);
    let rstd = (&(&x * &x).mean_keep(&axis) + r.eps).powf(-0.5);
    let normal = &x * &rstd;
    let tangent = t.map(|t| {
        let t = centre(t);
        &(&t - &(&normal * &(&normal * &t).mean_keep(&axis))) * &rstd
    });
    (normal, tangent)
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn keep(&self, _: &[bool]) -> Keep {
        if self.affine { Keep::inputs(&[0, 1]) } else { Keep::inputs(&[0]) }
    }

    fn vjp(&self, saved: &Saved, grad: &Tensor, needed: &[bool]) -> Vec<Option<Tensor>> {
        let gamma = self.affine.then(|| saved.input(1));
        let grads = backward(self.rows, saved.input(0), gamma, &self.stats, grad);
        // Without parameters only the first is asked for.
        grads.into_iter().zip(needed).map(|(grad, &needed)| needed.then_some(grad)).collect()
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        let x = saved.input(0);
        let (normal, t_normal) = normal_and_tangent(self.rows, x, tangents[0].as_ref());
        let mut terms = Vec::new();
        if let Some(t) = t_normal {
            terms.push(if self.affine { &t * saved.input(1) } else { t });
        }
        if let Some(t) = tangents.get(1).and_then(Option::as_ref) {
            terms.push(&normal * t);
        }
        if let Some(t) = tangents.get(2).and_then(Option::as_ref) {
            terms.push(t.broadcast_to(x.shape()));
        }
        terms.into_iter().reduce(|a, b| &a + &b).expect("jvp is called with a tangent")
    }
}

impl Tensor {
    /// Layer normalisation over the last axis of `[.., D]`, then `affine` = (gamma `[D]`, beta `[D]`). Sums are accumulated
    /// in `f64`.
    ///
    /// # Panics
    /// If the tensor is a scalar, the affine parameters are not of shape `[D]`, or the types differ.
    #[track_caller]
    pub fn layer_norm(&self, affine: Option<(&Tensor, &Tensor)>, eps: f64) -> Tensor {
        if self.dtype() == Dtype::Bf16 {
            let affine = affine.map(|(gamma, beta)| [gamma, beta].map(|t| t.to(Dtype::F32)));
            return in_f32([self], |[x]| x.layer_norm(affine.as_ref().map(|[gamma, beta]| (gamma, beta)), eps));
        }
        let parameters: Vec<(&str, &Tensor)> = affine.iter().flat_map(|&(g, b)| [("gamma", g), ("beta", b)]).collect();
        let rows = rows("layer_norm", self, &parameters, true, eps);
        let (y, stats) = forward(rows, self, affine.map(|a| a.0), affine.map(|a| a.1));
        let inputs: Vec<&Tensor> = std::iter::once(self).chain(parameters.iter().map(|p| p.1)).collect();
        record(LayerNorm { rows, affine: affine.is_some(), stats }, &inputs, y)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Dtype, Noise, Tensor, check, grad};

    fn sample(shape: &[usize], step: u32) -> Tensor {
        Noise::new(31, 0).normal(shape, 0, step, Dtype::F64)
    }

    const SHAPES: [&[usize]; 5] = [&[6], &[3, 5], &[2, 3, 17], &[4, 32], &[1, 2, 2, 40]];

    #[test]
    fn layer_norm_is_its_definition() {
        for shape in SHAPES {
            let n = shape[shape.len() - 1];
            let (x, gamma, beta) = (&sample(shape, 0) + 2.0, sample(&[n], 1), sample(&[n], 2));
            let (g, b) = (gamma.as_slice::<f64>(), beta.as_slice::<f64>());
            let expected: Vec<f64> = x
                .as_slice::<f64>()
                .chunks(n)
                .flat_map(|row| {
                    let mean = row.iter().sum::<f64>() / n as f64;
                    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
                    row.iter().enumerate().map(move |(i, x)| (x - mean) / (variance + 1e-6).sqrt() * g[i] + b[i])
                })
                .collect();
            let y = x.layer_norm(Some((&gamma, &beta)), 1e-6).to_vec::<f64>();
            let [x, gamma, beta] = [x, gamma, beta].map(|t| t.to(Dtype::F32));
            let single = x.layer_norm(Some((&gamma, &beta)), 1e-6).to_vec::<f64>();
            for ((y, single), expected) in y.iter().zip(single).zip(expected) {
                assert!((y - expected).abs() < 1e-12 && (single - expected).abs() < 1e-5, "{shape:?}");
            }
        }
    }

    #[test]
    fn layer_norm_passes_the_op_checks() {
        for shape in SHAPES {
            let n = shape[shape.len() - 1];
            let all = [sample(shape, 0), sample(&[n], 1), sample(&[n], 2)];
            let name = format!("layer_norm {shape:?}");
            check::op(&name, |t| t[0].layer_norm(Some((&t[1], &t[2])), 1e-2), &all);
            check::op(&name, |t| t[0].layer_norm(None, 1e-2), &all[..1]);
            check::op(&name, |t| all[0].layer_norm(Some((&t[0], &t[1])), 1e-2), &all[1..]);
        }
    }

    #[test]
    fn layer_norm_has_the_same_bits_for_any_number_of_threads() {
        let [x, gamma, beta, v] = [(&[700, 130][..], 0), (&[130], 1), (&[130], 2), (&[700, 130], 3)].map(|(s, i)| sample(s, i));
        let run = |threads: usize, dtype: Dtype| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let [x, gamma, beta] = [&x, &gamma, &beta].map(|t| t.to(dtype).track());
                let y = x.layer_norm(Some((&gamma, &beta)), 1e-6);
                let grads = grad((&y * &v.to(dtype)).sum_all(), &[&x, &gamma, &beta]);
                grads.iter().chain([&y]).map(Tensor::to_vec::<f64>).collect::<Vec<_>>()
            })
        };
        let one = run(1, Dtype::F32);
        assert!(one == run(2, Dtype::F32));
        for (single, double) in one.iter().flatten().zip(run(1, Dtype::F64).iter().flatten()) {
            assert!((single - double).abs() < 1e-4);
        }
    }

    #[test]
    #[should_panic(expected = "layer_norm: beta for an input of shape [2, 3]")]
    fn parameters_of_another_shape_are_refused() {
        let (gamma, beta) = (Tensor::zeros(&[3], Dtype::F32), Tensor::zeros(&[2], Dtype::F32));
        Tensor::zeros(&[2, 3], Dtype::F32).layer_norm(Some((&gamma, &beta)), 1e-5);
    }
}
