//! Nearest-neighbour up-sampling: every pixel becomes a block of `factor_h × factor_w` equal ones. Its adjoint sums
//! the blocks, which is average pooling times the size of a block.

pub(super) mod cpu;

use super::pool;
use crate::Device;
use crate::graph::{Keep, Op, Saved, record};
use crate::tensor::{Tensor, by_dtype, by_stored};

struct Upsample {
    factor: (usize, usize),
}

/// Every pixel of `[B, H, W, C]` repeated, times `scale`.
pub(super) fn repeat(x: &Tensor, factor: (usize, usize), scale: f64) -> Tensor {
    let [batch, h, w, c] = [x.dim(0), x.dim(1), x.dim(2), x.dim(3)];
    let shape = [batch, h * factor.0, w * factor.1, c];
    match x.device() {
        Device::Cpu if scale == 1.0 => by_stored!(x.dtype(), T => {
            Tensor::build(&shape, |y: &mut [T]| cpu::repeat(x.as_slice(), w, c, factor, |x| x, y))
        }),
        Device::Cpu => by_dtype!(x.dtype(), T => {
            Tensor::build(&shape, |y: &mut [T]| cpu::repeat(x.as_slice(), w, c, factor, |x| x * scale as T, y))
        }),
    }
}

impl Op for Upsample {
    fn name(&self) -> &'static str {
        "upsample_nearest"
    }

    fn keep(&self, _: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn vjp(&self, _: &Saved, grad: &Tensor, _: &[bool]) -> Vec<Option<Tensor>> {
        vec![Some(pool::sum_blocks(grad, self.factor, 1.0))]
    }

    fn jvp(&self, _: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        tangents[0].as_ref().expect("the only input").upsample_nearest(self.factor.0, self.factor.1)
    }
}

impl Tensor {
    /// `[B, H, W, C]` to `[B, factor_h H, factor_w W, C]`: every pixel becomes a block of equal ones.
    ///
    /// # Panics
    /// If the tensor is not of rank 4 or a factor is zero.
    #[track_caller]
    pub fn upsample_nearest(&self, factor_h: usize, factor_w: usize) -> Tensor {
        assert_eq!(self.rank(), 4, "upsample_nearest: shape {:?} is not [B, H, W, C]", self.shape());
        assert!(factor_h > 0 && factor_w > 0, "upsample_nearest: factors ({factor_h}, {factor_w})");
        let factor = (factor_h, factor_w);
        record(Upsample { factor }, &[self], repeat(self, factor, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Dtype, Noise, Tensor, check};

    fn sample(shape: &[usize]) -> Tensor {
        Noise::new(23, 0).normal(shape, 0, 0, Dtype::F64)
    }

    #[test]
    fn every_pixel_becomes_a_block() {
        for (shape, (fh, fw)) in [([2, 3, 2, 3], (2, 2)), ([1, 1, 4, 1], (3, 1)), ([3, 2, 2, 5], (1, 4))] {
            let x = sample(&shape);
            let y = x.upsample_nearest(fh, fw);
            assert_eq!(y.shape(), [shape[0], shape[1] * fh, shape[2] * fw, shape[3]]);
            let (xs, ys) = (x.view::<f64>(), y.view::<f64>());
            for (index, &value) in ys.indexed_iter() {
                assert_eq!(value, xs[[index[0], index[1] / fh, index[2] / fw, index[3]]]);
            }
            let single = x.to(Dtype::F32).upsample_nearest(fh, fw);
            assert_eq!(single.to_vec::<f32>(), y.to_vec::<f32>());
        }
    }

    #[test]
    fn upsampling_passes_the_op_checks() {
        for (shape, (fh, fw)) in [([2, 3, 2, 3], (2, 2)), ([1, 2, 3, 1], (3, 1))] {
            check::op("upsample_nearest", |x| x[0].upsample_nearest(fh, fw), &[sample(&shape)]);
        }
    }

    #[test]
    #[should_panic(expected = "upsample_nearest: shape [2, 3] is not [B, H, W, C]")]
    fn other_ranks_are_refused() {
        Tensor::zeros(&[2, 3], Dtype::F32).upsample_nearest(2, 2);
    }
}
