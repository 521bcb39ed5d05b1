//! Depthwise convolution: every channel with a filter of its own,
//!
//! ```text
//! y[b, i, j, c] = Σ_{k, l} x[b, i s_h - p_h + k, j s_w - p_w + l, c] w[k, l, c] + bias[c]
//! ```

mod cpu;

use crate::graph::{Keep, Op, Saved, record};
use crate::ops::conv2d::Conv2d;
use crate::tensor::{Tensor, by_dtype, in_f32};
use crate::{Device, Dtype};
use cpu::Geometry;

struct Depthwise {
    geometry: Geometry,
    bias: bool,
}

impl Op for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise_conv2d"
    }

    fn keep(&self, tracked: &[bool]) -> Keep {
        Keep::inputs(&[1, 0].into_iter().filter(|&other| tracked[1 - other]).collect::<Vec<_>>())
    }

    fn vjp(&self, saved: &Saved, grad: &Tensor, needed: &[bool]) -> Vec<Option<Tensor>> {
        let g = &self.geometry;
        let x_shape = [g.batch, g.input.0, g.input.1, g.channels];
        let w_shape = [g.kernel.0, g.kernel.1, g.channels];
        let dx = needed[0].then(|| match grad.device() {
            Device::Cpu => by_dtype!(grad.dtype(), T => Tensor::build(&x_shape, |dx: &mut [T]| {
                cpu::input_gradient(g, grad.as_slice(), saved.input(1).as_slice(), dx);
            })),
        });
        let dw = needed[1].then(|| match grad.device() {
            Device::Cpu => by_dtype!(grad.dtype(), T => Tensor::build(&w_shape, |dw: &mut [T]| {
                cpu::weight_gradient(g, saved.input(0).as_slice(), grad.as_slice(), dw);
            })),
        });
        let mut grads = vec![dx, dw];
        if self.bias {
            grads.push(needed[2].then(|| grad.sum(&[0, 1, 2])));
        }
        grads
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        let g = &self.geometry;
        let t_bias = tangents.get(2).and_then(Option::as_ref);
        let by_x = tangents[0].as_ref().map(|t| t.depthwise_conv2d(saved.input(1), t_bias, g.how));
        let by_w = tangents[1].as_ref().map(|t| {
            let bias = if by_x.is_some() { None } else { t_bias };
            saved.input(0).depthwise_conv2d(t, bias, g.how)
        });
        match (by_x, by_w, t_bias) {
            (Some(a), Some(b), _) => &a + &b,
            (Some(t), None, _) | (None, Some(t), _) => t,
            (None, None, Some(t)) => t.broadcast_to(&[g.batch, g.output.0, g.output.1, g.channels]),
            (None, None, None) => unreachable!("jvp is called with a tangent"),
        }
    }
}

impl Tensor {
    /// The depthwise convolution of images `[B, H, W, C]` with a filter `w` of shape `[KH, KW, C]`, plus `bias` of shape
    /// `[C]`; the result has shape `[B, OH, OW, C]` with the extents of [`Conv2d::output`].
    ///
    /// # Panics
    /// If the shapes do not fit together, the filter is larger than the padded image, or the types differ.
    #[track_caller]
    pub fn depthwise_conv2d(&self, w: &Tensor, bias: Option<&Tensor>, how: Conv2d) -> Tensor {
        assert!(how.stride.0 > 0 && how.stride.1 > 0, "depthwise_conv2d: stride {:?} has a zero", how.stride);
        assert!(
            self.rank() == 4 && w.rank() == 3 && self.dim(3) == w.dim(2) && w.dim(0) * w.dim(1) > 0,
            "depthwise_conv2d: image of shape {:?} and filter of shape {:?}, not [B, H, W, C] and [KH, KW, C]",
            self.shape(),
            w.shape()
        );
        if let Some(b) = bias {
            assert_eq!(b.shape(), &w.shape()[2..], "depthwise_conv2d: bias for a filter of shape {:?}", w.shape());
        }
        for t in std::iter::once(w).chain(bias) {
            assert_eq!(self.dtype(), t.dtype(), "depthwise_conv2d: element types differ");
        }
        let (input, kernel) = ((self.dim(1), self.dim(2)), (w.dim(0), w.dim(1)));
        let Some(output) = how.output(input, kernel) else {
            panic!(
                "depthwise_conv2d: filter of shape {:?} on an image of shape {:?} with padding {:?}",
                w.shape(),
                self.shape(),
                how.padding
            )
        };
        if self.dtype() == Dtype::Bf16 {
            let bias = bias.map(|t| t.to(Dtype::F32));
            return in_f32([self, w], |[x, w]| x.depthwise_conv2d(w, bias.as_ref(), how));
        }
        let geometry = Geometry { batch: self.dim(0), input, output, kernel, channels: self.dim(3), how };
        let shape = [geometry.batch, output.0, output.1, geometry.channels];
        let y = match self.device() {
            Device::Cpu => by_dtype!(self.dtype(), T => Tensor::build(&shape, |y: &mut [T]| {
                cpu::forward(&geometry, self.as_slice(), w.as_slice(), bias.map(Tensor::as_slice), y);
            })),
        };
        let inputs: Vec<&Tensor> = [self, w].into_iter().chain(bias).collect();
        record(Depthwise { geometry, bias: bias.is_some() }, &inputs, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Noise, check, grad};

    fn sample(shape: &[usize], step: u32) -> Tensor {
        Noise::new(41, 0).normal(shape, 0, step, Dtype::F64)
    }

    /// (image, filter extents, stride, padding)
    type Case = ([usize; 4], (usize, usize), (usize, usize), (usize, usize));

    const CASES: [Case; 7] = [
        ([2, 5, 6, 3], (3, 3), (1, 1), (1, 1)),
        ([1, 7, 5, 1], (3, 3), (2, 2), (1, 1)),
        ([2, 6, 6, 2], (3, 2), (2, 3), (0, 0)),
        ([1, 2, 3, 17], (2, 5), (1, 1), (0, 4)),
        ([3, 4, 4, 5], (1, 1), (1, 1), (0, 0)),
        ([1, 9, 4, 2], (2, 2), (4, 3), (3, 2)),
        ([1, 3, 1, 2], (7, 3), (1, 2), (4, 5)),
    ];

    /// A dense filter with zeros between different channels.
    fn dense(w: &Tensor) -> Tensor {
        let [kh, kw, c] = w.shape().try_into().unwrap();
        let mut full = vec![0.0; kh * kw * c * c];
        for (i, &value) in w.as_slice::<f64>().iter().enumerate() {
            full[i * c + i % c] = value;
        }
        Tensor::from_vec(&[kh, kw, c, c], full)
    }

    #[test]
    fn depthwise_convolution_is_a_convolution_with_a_diagonal_filter() {
        for (image, (kh, kw), stride, padding) in CASES {
            let how = Conv2d { stride, padding };
            let (x, w, bias) = (sample(&image, 0), sample(&[kh, kw, image[3]], 1), sample(&[image[3]], 2));
            let expected = x.conv2d(&dense(&w), Some(&bias), how);
            let y = x.depthwise_conv2d(&w, Some(&bias), how);
            assert_eq!(y.shape(), expected.shape());
            let [x, w, bias] = [x, w, bias].map(|t| t.to(Dtype::F32));
            let single = x.depthwise_conv2d(&w, Some(&bias), how).to_vec::<f64>();
            for ((y, single), expected) in y.to_vec::<f64>().iter().zip(single).zip(expected.to_vec::<f64>()) {
                assert!((y - expected).abs() < 1e-12 && (single - expected).abs() < 1e-5, "{image:?}");
            }
        }
    }

    #[test]
    fn depthwise_convolution_passes_the_op_checks() {
        for (image, (kh, kw), stride, padding) in CASES {
            let how = Conv2d { stride, padding };
            let all = [sample(&image, 0), sample(&[kh, kw, image[3]], 1), sample(&[image[3]], 2)];
            let name = format!("depthwise_conv2d {image:?} {how:?}");
            check::op(&name, |t| t[0].depthwise_conv2d(&t[1], Some(&t[2]), how), &all);
            check::op(&name, |t| t[0].depthwise_conv2d(&all[1], Some(&all[2]), how), &all[..1]);
            check::op(&name, |t| all[0].depthwise_conv2d(&all[1], Some(&t[0]), how), &all[2..]);
        }
    }

    #[test]
    fn depthwise_convolution_has_the_same_bits_for_any_number_of_threads() {
        let how = Conv2d { stride: (2, 1), padding: (1, 1) };
        let (x, w) = (sample(&[3, 40, 40, 20], 0).to(Dtype::F32), sample(&[3, 3, 20], 1).to(Dtype::F32));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (x, w) = (x.track(), w.track());
                let y = x.depthwise_conv2d(&w, None, how);
                let grads = grad((&y * &y.detach()).sum_all(), &[&x, &w]);
                grads.iter().chain([&y]).map(Tensor::to_vec::<f32>).collect::<Vec<_>>()
            })
        };
        assert!(run(1) == run(2));
    }

    #[test]
    #[should_panic(expected = "depthwise_conv2d: image of shape [1, 4, 4, 3] and filter of shape [3, 3, 2]")]
    fn channels_that_do_not_match_are_named() {
        Tensor::zeros(&[1, 4, 4, 3], Dtype::F32).depthwise_conv2d(
            &Tensor::zeros(&[3, 3, 2], Dtype::F32),
            None,
            Conv2d::same(3, 3),
        );
    }
}
