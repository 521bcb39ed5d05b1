//! Average pooling: the mean of every block of `kernel_h × kernel_w` pixels, blocks side by side. Its adjoint spreads each
//! value over its block, which is nearest-neighbour up-sampling divided by the size of a block.

pub(super) mod cpu;

use super::upsample;
use crate::graph::{Keep, Op, Saved, record};
use crate::tensor::{Tensor, by_dtype, in_f32};
use crate::{Device, Dtype};

struct AveragePool {
    kernel: (usize, usize),
}

impl AveragePool {
    fn scale(&self) -> f64 {
        1.0 / (self.kernel.0 * self.kernel.1) as f64
    }
}

/// The sum of every block of pixels of `[B, H, W, C]`, times `scale`.
pub(super) fn sum_blocks(x: &Tensor, kernel: (usize, usize), scale: f64) -> Tensor {
    let [batch, h, w, c] = [x.dim(0), x.dim(1) / kernel.0, x.dim(2) / kernel.1, x.dim(3)];
    match x.device() {
        Device::Cpu => by_dtype!(x.dtype(), T => {
            Tensor::build(&[batch, h, w, c], |y: &mut [T]| {
                cpu::sum_blocks(x.as_slice(), w, c, kernel, scale as T, y);
            })
        }),
    }
}

impl Op for AveragePool {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn keep(&self, _: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn vjp(&self, _: &Saved, grad: &Tensor, _: &[bool]) -> Vec<Option<Tensor>> {
        vec![Some(upsample::repeat(grad, self.kernel, self.scale()))]
    }

    fn jvp(&self, _: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        tangents[0].as_ref().expect("the only input").avg_pool2d(self.kernel.0, self.kernel.1)
    }
}

impl Tensor {
    /// `[B, H, W, C]` to `[B, H / kernel_h, W / kernel_w, C]`: the mean of every block.
    ///
    /// # Panics
    /// If the tensor is not of rank 4 or the blocks do not tile the image exactly.
    #[track_caller]
    pub fn avg_pool2d(&self, kernel_h: usize, kernel_w: usize) -> Tensor {
        assert_eq!(self.rank(), 4, "avg_pool2d: shape {:?} is not [B, H, W, C]", self.shape());
        assert!(
            kernel_h > 0 && kernel_w > 0 && self.dim(1).is_multiple_of(kernel_h) && self.dim(2).is_multiple_of(kernel_w),
            "avg_pool2d: blocks of {kernel_h} × {kernel_w} do not tile an image of shape {:?}",
            self.shape()
        );
        if self.dtype() == Dtype::Bf16 {
            return in_f32([self], |[x]| x.avg_pool2d(kernel_h, kernel_w));
        }
        let op = AveragePool { kernel: (kernel_h, kernel_w) };
        let y = sum_blocks(self, op.kernel, op.scale());
        record(op, &[self], y)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Dtype, Noise, Tensor, check};

    fn sample(shape: &[usize]) -> Tensor {
        Noise::new(29, 0).normal(shape, 0, 0, Dtype::F64)
    }

    #[test]
    fn every_block_becomes_its_mean() {
        for (shape, (kh, kw)) in [([2, 4, 6, 3], (2, 2)), ([1, 3, 4, 1], (3, 1)), ([3, 2, 8, 17], (1, 4))] {
            let x = sample(&shape);
            let y = x.avg_pool2d(kh, kw);
            let (xs, ys) = (x.view::<f64>(), y.view::<f64>());
            let single = x.to(Dtype::F32).avg_pool2d(kh, kw).to_vec::<f64>();
            for ((index, &value), single) in ys.indexed_iter().zip(single) {
                let mut sum = 0.0;
                for i in 0..kh {
                    for j in 0..kw {
                        sum += xs[[index[0], index[1] * kh + i, index[2] * kw + j, index[3]]];
                    }
                }
                let mean = sum / (kh * kw) as f64;
                assert!((value - mean).abs() < 1e-14 && (single - mean).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn pooling_passes_the_op_checks() {
        for (shape, (kh, kw)) in [([2, 4, 2, 3], (2, 2)), ([1, 6, 3, 1], (3, 1))] {
            check::op("avg_pool2d", |x| x[0].avg_pool2d(kh, kw), &[sample(&shape)]);
        }
    }

    #[test]
    fn pooling_and_upsampling_have_the_same_bits_for_any_number_of_threads() {
        let x = sample(&[4, 64, 64, 6]).to(Dtype::F32);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (x.avg_pool2d(2, 4).to_vec::<f32>(), x.upsample_nearest(2, 3).to_vec::<f32>()))
        };
        assert!(run(1) == run(2));
    }

    #[test]
    #[should_panic(expected = "avg_pool2d: blocks of 2 × 2 do not tile an image of shape [1, 3, 4, 1]")]
    fn blocks_that_do_not_tile_are_refused() {
        Tensor::zeros(&[1, 3, 4, 1], Dtype::F32).avg_pool2d(2, 2);
    }
}
