//! Max pooling: the greatest number of every window of pixels, each channel for itself.
//!
//! ```text
//! y[b, i, j, c] = max_{k, l} x[b, i s − p + k, j s − p + l, c],     over the pixels that are there: padding never wins
//! ```
//!
//! The result is a choice of elements: its derivatives are those of looking the winners up, the first of equals.

mod cpu;

use crate::Device;
use crate::tensor::{Tensor, by_dtype};
use cpu::Extents;

/// How a square window moves over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool {
    /// Pixels of the window in each direction.
    pub kernel: usize,
    /// Pixels between windows.
    pub stride: usize,
    /// Pixels that windows may reach out of the image, at most half of the window.
    pub padding: usize,
}

impl Tensor {
    /// `[B, H, W, C]` to `[B, OH, OW, C]` with `OH = ⌊(H + 2 padding − kernel) / stride⌋ + 1`: the greatest number of every window. NaN if
    /// one of them is.
    ///
    /// # Panics
    /// If the tensor is not of rank 4, the window does not fit, moves by nothing, or the padding is more than half of it.
    #[track_caller]
    pub fn max_pool2d(&self, how: MaxPool) -> Tensor {
        assert_eq!(self.rank(), 4, "max_pool2d: shape {:?} is not [B, H, W, C]", self.shape());
        let MaxPool { kernel, stride, padding } = how;
        let fits = kernel > 0 && stride > 0 && 2 * padding <= kernel;
        let axis = |n: usize| (n + 2 * padding).checked_sub(kernel).filter(|_| fits).map(|rest| rest / stride + 1);
        let (Some(oh), Some(ow)) = (axis(self.dim(1)), axis(self.dim(2))) else {
            panic!("max_pool2d: {how:?} on an image of shape {:?}", self.shape());
        };
        let e = Extents { input: (self.dim(1), self.dim(2)), output: (oh, ow), channels: self.dim(3) };
        let shape = [self.dim(0), oh, ow, e.channels];
        match self.device() {
            Device::Cpu => by_dtype!(self.dtype(), T => {
                let y = Tensor::build(&shape, |y: &mut [T]| cpu::forward(how, e, self.as_slice(), y));
                if !self.is_tracked() {
                    return y;
                }
                let winners = cpu::winners(how, e, self.as_slice::<T>(), y.as_slice());
                self.reshape(&[self.len()]).gather(&winners).reshape(&shape)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Noise, check, grad};

    fn sample(shape: &[usize]) -> Tensor {
        Noise::new(31, 0).normal(shape, 0, 0, Dtype::F64)
    }

    const CASES: [([usize; 4], MaxPool); 4] = [
        ([2, 5, 7, 3], MaxPool { kernel: 3, stride: 2, padding: 0 }),
        ([1, 4, 3, 1], MaxPool { kernel: 3, stride: 1, padding: 1 }),
        ([1, 6, 5, 17], MaxPool { kernel: 2, stride: 2, padding: 1 }),
        ([2, 1, 1, 2], MaxPool { kernel: 3, stride: 1, padding: 1 }),
    ];

    #[test]
    fn every_window_becomes_its_greatest_number() {
        for (shape, how) in CASES {
            let x = sample(&shape);
            let y = x.max_pool2d(how);
            let (xs, ys) = (x.view::<f64>(), y.view::<f64>());
            let axis = |n: usize| (n + 2 * how.padding - how.kernel) / how.stride + 1;
            assert_eq!(y.shape(), [shape[0], axis(shape[1]), axis(shape[2]), shape[3]]);
            for (index, &value) in ys.indexed_iter() {
                let mut most = f64::NEG_INFINITY;
                for k in 0..how.kernel {
                    for l in 0..how.kernel {
                        let (row, column) = (index[1] * how.stride + k, index[2] * how.stride + l);
                        let inside = |at: usize, n: usize| at.checked_sub(how.padding).filter(|&at| at < n);
                        if let (Some(row), Some(column)) = (inside(row, shape[1]), inside(column, shape[2])) {
                            most = most.max(xs[[index[0], row, column, index[3]]]);
                        }
                    }
                }
                assert_eq!(value, most, "{how:?} at {index:?}");
            }
            assert_eq!(x.to(Dtype::F32).max_pool2d(how).to_vec::<f32>(), y.to(Dtype::F32).to_vec::<f32>());
        }
    }

    #[test]
    fn max_pooling_passes_the_op_checks() {
        for (shape, how) in CASES {
            check::op("max_pool2d", |x| x[0].max_pool2d(how), &[sample(&shape)]);
        }
    }

    #[test]
    fn of_equal_numbers_the_first_has_the_derivative_and_nothing_hides_a_nan() {
        let how = MaxPool { kernel: 2, stride: 1, padding: 0 };
        let x = Tensor::ones(&[1, 2, 2, 1], Dtype::F64).track();
        assert_eq!(grad(x.max_pool2d(how).sum_all(), &[&x])[0].to_vec::<f64>(), [1.0, 0.0, 0.0, 0.0]);
        for at in 0..4 {
            let mut values = vec![1.0, 2.0, 3.0, 4.0];
            values[at] = f64::NAN;
            let x = Tensor::from_vec(&[1, 2, 2, 1], values);
            assert!(x.max_pool2d(how).item().is_nan() && x.track().max_pool2d(how).item().is_nan());
        }
    }

    #[test]
    fn max_pooling_has_the_same_bits_for_any_number_of_threads() {
        let x = sample(&[2, 65, 64, 9]).to(Dtype::F32);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| x.max_pool2d(MaxPool { kernel: 3, stride: 2, padding: 1 }).to_vec::<f32>())
        };
        assert!(run(1) == run(2));
    }

    #[test]
    #[should_panic(expected = "on an image of shape [1, 2, 3, 1]")]
    fn windows_larger_than_the_image_are_refused() {
        Tensor::zeros(&[1, 2, 3, 1], Dtype::F32).max_pool2d(MaxPool { kernel: 3, stride: 2, padding: 0 });
    }
}
