//! Group normalisation (Wu & He 2018), with the activation that usually follows fused in.
//!
//! ```text
//! x̂ = (x - mean) / sqrt(var + eps)      mean, var over all positions and the channels of a group, for each sample
//! z = gamma x̂ + beta                     gamma, beta for each channel, or for each channel of each sample
//! y = z  or  silu(z)
//! ```
//!
//! What is kept for the backward pass is `x`, the mean and the reciprocal standard deviation; `z` is computed again.

mod cpu;

use crate::graph::{Keep, Op, Saved, record};
use crate::tensor::{Tensor, by_dtype};
use crate::{Bf16, Device, Dtype, bf16};
use cpu::Shape;

/// What a normalisation applies to its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `z sigmoid(z)`.
    Silu,
}

struct GroupNorm {
    shape: Shape,
    eps: f64,
    activation: Activation,
    affine: bool,
    /// `[B, 2, G]`: means and reciprocal standard deviations.
    stats: Tensor,
}

fn extents(x: &Tensor, groups: usize) -> Shape {
    let (batch, channels) = (x.dim(0), x.dim(x.rank() - 1));
    Shape { batch, pixels: x.shape()[1..x.rank() - 1].iter().product(), channels, groups }
}

impl GroupNorm {
    fn affine<'a>(&self, saved: &'a Saved) -> Option<(&'a Tensor, &'a Tensor)> {
        self.affine.then(|| (saved.input(1), saved.input(2)))
    }
}

impl Op for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn keep(&self, _: &[bool]) -> Keep {
        if self.affine { Keep::inputs(&[0, 1, 2]) } else { Keep::inputs(&[0]) }
    }

    fn vjp(&self, saved: &Saved, grad: &Tensor, needed: &[bool]) -> Vec<Option<Tensor>> {
        let (x, s) = (saved.input(0), self.shape);
        let mut sums = vec![0.0f64; s.batch * 2 * s.channels];
        let dx = match x.device() {
            Device::Cpu => by_dtype!(x.dtype(), T => {
                let affine = self.affine(saved).map(|(gamma, beta)| (gamma.as_slice(), beta.as_slice()));
                Tensor::build(x.shape(), |dx: &mut [T]| {
                    let (stats, grad) = (self.stats.as_slice(), grad.as_slice());
                    cpu::backward::<T>(s, x.as_slice(), affine, stats, self.activation, grad, dx, &mut sums);
                })
            }),
        };
        let mut grads = vec![needed[0].then_some(dx)];
        if self.affine {
            // Of each sample: those of beta, then those of gamma.
            let half = |first: usize| sums.chunks_exact((2 * s.channels).max(1)).map(move |image| &image[first..][..s.channels]);
            for (input, first) in [(1, s.channels), (2, 0)] {
                grads.push(needed[input].then(|| {
                    let shape = saved.input(input).shape();
                    let sums = match shape.len() {
                        1 => half(first).fold(vec![0.0; s.channels], |mut total, image| {
                            // Over the batch, in order.
                            total.iter_mut().zip(image).for_each(|(t, x)| *t += x);
                            total
                        }),
                        _ => half(first).collect::<Vec<_>>().concat(),
                    };
                    Tensor::from_f64(shape, &sums, x.dtype())
                }));
            }
        }
        grads
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        let (x, s) = (saved.input(0), self.shape);
        let grouped = [s.batch, s.pixels, s.groups, s.channels / s.groups];
        let flat = [s.batch, s.pixels, s.channels];
        // A sample's own parameters are the same at all its positions.
        let at_positions = |t: &Tensor| if t.rank() == 1 { t.clone() } else { t.reshape(&[s.batch, 1, s.channels]) };
        let axes = [1, 3];
        let split = x.reshape(&grouped);
        let centred = &split - &split.mean_keep(&axes);
        let rstd = (&(&centred * &centred).mean_keep(&axes) + self.eps).powf(-0.5);
        let normal = &centred * &rstd;
        let mut t_z = tangents[0].as_ref().map(|t| {
            let t = t.reshape(&grouped);
            let t = &t - &t.mean_keep(&axes);
            let t = &(&t - &(&normal * &(&normal * &t).mean_keep(&axes))) * &rstd;
            let t = t.reshape(&flat);
            self.affine(saved).map_or(t.clone(), |(gamma, _)| &t * &at_positions(gamma))
        });
        let normal = normal.reshape(&flat);
        for (i, t) in tangents.iter().enumerate().skip(1) {
            let Some(t) = t.as_ref().map(at_positions) else { continue };
            let term = if i == 1 { &normal * &t } else { t.broadcast_to(&flat) };
            t_z = Some(t_z.map_or(term.clone(), |sum| &sum + &term));
        }
        let t_z = t_z.expect("jvp is called with a tangent");
        let t_y = match self.activation {
            Activation::None => t_z,
            Activation::Silu => {
                let z = self
                    .affine(saved)
                    .map_or(normal.clone(), |(gamma, beta)| &(&normal * &at_positions(gamma)) + &at_positions(beta));
                let sigmoid = z.sigmoid();
                &t_z * &(&sigmoid * &(&(&z * &(1.0 - &sigmoid)) + 1.0))
            }
        };
        t_y.reshape(x.shape())
    }
}

impl Tensor {
    /// Group normalisation of `[B, .., C]`: over all positions and the `C / groups` channels of a group, for each sample; then
    /// `affine` = (gamma, beta), each `[C]` for all samples or `[B, C]`, then the activation. Sums are accumulated in `f64`.
    ///
    /// # Panics
    /// If `groups` does not divide the channels, the affine parameters are not of shape `[C]` or `[B, C]`, or the types differ.
    #[track_caller]
    pub fn group_norm(&self, groups: usize, affine: Option<(&Tensor, &Tensor)>, eps: f64, activation: Activation) -> Tensor {
        assert!(self.rank() >= 2, "group_norm: shape {:?} is not [B, .., C]", self.shape());
        let shape = extents(self, groups);
        assert!(
            groups > 0 && shape.channels.is_multiple_of(groups),
            "group_norm: {} channels of shape {:?} in {groups} groups",
            shape.channels,
            self.shape()
        );
        for (name, t) in affine.iter().flat_map(|&(gamma, beta)| [("gamma", gamma), ("beta", beta)]) {
            assert!(
                t.shape() == [shape.channels] || t.shape() == [shape.batch, shape.channels],
                "group_norm: {name} of shape {:?} for an input of shape {:?}",
                t.shape(),
                self.shape()
            );
            assert_eq!(t.dtype(), self.dtype(), "group_norm: element types of {name} and input");
        }
        let (y, stats) = match self.device() {
            Device::Cpu if self.dtype() == Dtype::Bf16 => {
                let mut stats = vec![0.0; shape.batch * 2 * groups];
                let affine = affine.map(|(gamma, beta)| [gamma, beta].map(|t| bf16::widened(t.as_slice())));
                let affine = affine.as_ref().map(|[gamma, beta]| (&gamma[..], &beta[..]));
                let y = Tensor::build(self.shape(), |y| {
                    cpu::forward::<f32, Bf16>(shape, self.as_slice(), affine, eps, activation, y, &mut stats);
                });
                (y, Tensor::from_vec(&[shape.batch, 2, groups], stats))
            }
            Device::Cpu => by_dtype!(self.dtype(), T => {
                let mut stats = vec![T::default(); shape.batch * 2 * groups];
                let y = Tensor::build(self.shape(), |y: &mut [T]| {
                    let affine = affine.map(|(gamma, beta)| (gamma.as_slice(), beta.as_slice()));
                    cpu::forward::<T, T>(shape, self.as_slice(), affine, eps, activation, y, &mut stats);
                });
                (y, Tensor::from_vec(&[shape.batch, 2, groups], stats))
            }),
        };
        let inputs: Vec<&Tensor> = std::iter::once(self).chain(affine.iter().flat_map(|&(g, b)| [g, b])).collect();
        record(GroupNorm { shape, eps, activation, affine: affine.is_some(), stats }, &inputs, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Noise, check, grad};

    fn sample(shape: &[usize], step: u32) -> Tensor {
        Noise::new(13, 0).normal(shape, 0, step, Dtype::F64)
    }

    const CASES: [(&[usize], usize); 6] =
        [(&[2, 3, 3, 4], 2), (&[3, 5, 6], 6), (&[2, 8], 2), (&[1, 4, 3, 2, 3], 1), (&[5, 2, 2, 72], 8), (&[2, 7, 1, 1], 1)];

    fn naive(x: &Tensor, groups: usize, affine: Option<(&Tensor, &Tensor)>, eps: f64, activation: Activation) -> Vec<f64> {
        let s = extents(x, groups);
        let (data, per) = (x.as_slice::<f64>(), s.channels / groups);
        let at = |b: usize, p: usize, c: usize| (b * s.pixels + p) * s.channels + c;
        let mut y = vec![0.0; data.len()];
        for b in 0..s.batch {
            for g in 0..groups {
                let members: Vec<usize> =
                    (0..s.pixels).flat_map(|p| (g * per..(g + 1) * per).map(move |c| at(b, p, c))).collect();
                let n = members.len() as f64;
                let mean = members.iter().map(|&i| data[i]).sum::<f64>() / n;
                let variance = members.iter().map(|&i| (data[i] - mean).powi(2)).sum::<f64>() / n;
                for i in members {
                    let c = i % s.channels;
                    let normal = (data[i] - mean) / (variance + eps).sqrt();
                    let of = |t: &Tensor| t.as_slice::<f64>()[if t.rank() == 1 { c } else { b * s.channels + c }];
                    let z = affine.map_or(normal, |(gamma, beta)| normal * of(gamma) + of(beta));
                    y[i] = if activation == Activation::Silu { z / (1.0 + (-z).exp()) } else { z };
                }
            }
        }
        y
    }

    fn distance(a: &[f64], b: &[f64]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn group_norm_is_its_definition() {
        for (shape, groups) in CASES {
            let c = shape[shape.len() - 1];
            let (x, gamma, beta) = (&sample(shape, 0) + 3.0, sample(&[c], 1), sample(&[c], 2));
            let own = [3, 4].map(|i| sample(&[shape[0], c], i));
            for activation in [Activation::None, Activation::Silu] {
                for affine in [None, Some((&gamma, &beta)), Some((&own[0], &own[1])), Some((&gamma, &own[1]))] {
                    let expected = naive(&x, groups, affine, 1e-5, activation);
                    let y = x.group_norm(groups, affine, 1e-5, activation);
                    assert!(distance(&y.to_vec(), &expected) < 1e-11, "{shape:?} {activation:?}");
                    let single = affine.map(|(g, b)| (g.to(Dtype::F32), b.to(Dtype::F32)));
                    let single = single.as_ref().map(|(g, b)| (g, b));
                    let y = x.to(Dtype::F32).group_norm(groups, single, 1e-5, activation);
                    // Two values that differ by little are normalised to ±1, and with them their rounding.
                    assert!(distance(&y.to_vec(), &expected) < 2e-5, "{shape:?} {activation:?} in f32");
                }
            }
        }
    }

    #[test]
    fn group_norm_passes_the_op_checks() {
        for (shape, groups) in CASES {
            let c = shape[shape.len() - 1];
            let inputs = [sample(shape, 0), sample(&[c], 1), sample(&[c], 2)];
            for activation in [Activation::None, Activation::Silu] {
                let name = format!("group_norm {shape:?} {activation:?}");
                check::op(&name, |t| t[0].group_norm(groups, Some((&t[1], &t[2])), 1e-2, activation), &inputs);
                check::op(&name, |t| t[0].group_norm(groups, None, 1e-2, activation), &inputs[..1]);
                let (x, affine) = (&inputs[0], &inputs[1..]);
                check::op(&name, |t| x.group_norm(groups, Some((&t[0], &t[1])), 1e-2, activation), affine);
                let own = [sample(shape, 0), sample(&[shape[0], c], 3), sample(&[shape[0], c], 4)];
                let name = format!("{name} with parameters of each sample");
                check::op(&name, |t| t[0].group_norm(groups, Some((&t[1], &t[2])), 1e-2, activation), &own);
            }
        }
    }

    #[test]
    fn a_large_mean_costs_few_digits_in_f32() {
        let offset = 1000.0;
        let x = (&sample(&[2, 16, 16, 8], 0) + offset).to(Dtype::F32);
        let y = x.group_norm(2, None, 1e-5, Activation::None);
        let expected = naive(&x.to(Dtype::F64), 2, None, 1e-5, Activation::None);
        // The mean is rounded to f32: half an ulp of 1000, 3e-5.
        assert!(distance(&y.to_vec(), &expected) < 1e-4);
    }

    #[test]
    fn values_and_gradients_have_the_same_bits_for_any_number_of_threads() {
        for shape in [[1, 63, 65, 24], [9, 33, 31, 12], [2, 128, 128, 3]] {
            let c = shape[3];
            let [x, gamma, beta, v] =
                [(&shape[..], 0), (&[c][..], 1), (&[c][..], 2), (&shape[..], 3)].map(|(s, i)| sample(s, i).to(Dtype::F32));
            let run = |threads: usize, dtype: Dtype| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let (x, gamma, beta) = (x.to(dtype).track(), gamma.to(dtype).track(), beta.to(dtype).track());
                    let y = x.group_norm(3, Some((&gamma, &beta)), 1e-5, Activation::Silu);
                    let mut all = grad((&y * &v.to(dtype)).sum_all(), &[&x, &gamma, &beta]);
                    all.push(y.detach());
                    all.iter().map(Tensor::to_vec::<f64>).collect::<Vec<_>>()
                })
            };
            let one = run(1, Dtype::F32);
            assert!(one == run(2, Dtype::F32), "{shape:?}");
            for (single, double) in one.iter().zip(run(2, Dtype::F64)) {
                let scale = double.iter().fold(0.0f64, |m, x| m.max(x.abs()));
                assert!(distance(single, &double) < 1e-5 * scale, "{shape:?}: f32 and f64");
            }
        }
    }

    #[test]
    #[should_panic(expected = "group_norm: 6 channels of shape [1, 2, 6] in 4 groups")]
    fn groups_that_do_not_divide_the_channels_are_refused() {
        Tensor::zeros(&[1, 2, 6], Dtype::F32).group_norm(4, None, 1e-5, Activation::None);
    }

    #[test]
    #[should_panic(expected = "group_norm: gamma of shape [5] for an input of shape [1, 2, 6]")]
    fn parameters_of_another_shape_are_refused() {
        let p = Tensor::zeros(&[5], Dtype::F32);
        Tensor::zeros(&[1, 2, 6], Dtype::F32).group_norm(3, Some((&p, &p)), 1e-5, Activation::None);
    }
}
