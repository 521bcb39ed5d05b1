//! Softmax over the last axis: `y_i = e^{x_i} / Σ_j e^{x_j}`, shifted by the maximum so that nothing overflows.

pub(super) mod cpu;

use crate::graph::{Keep, Op, Saved, record};
use crate::tensor::{Tensor, by_dtype, in_f32};
use crate::{Device, Dtype};

struct Softmax;

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn keep(&self, _: &[bool]) -> Keep {
        Keep::OUTPUT
    }

    fn vjp(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Vec<Option<Tensor>> {
        let y = saved.output();
        let n = y.dim(y.rank() - 1);
        let dx = match y.device() {
            Device::Cpu => by_dtype!(y.dtype(), T => Tensor::build(y.shape(), |dx: &mut [T]| {
                cpu::backward(y.as_slice(), grad.as_slice(), n, dx);
            })),
        };
        vec![Some(dx)]
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        let y = saved.output();
        let product = y * tangents[0].as_ref().expect("the only input");
        &product - &(y * &product.sum_keep(&[y.rank() - 1]))
    }
}

impl Tensor {
    /// The softmax over the last axis.
    ///
    /// # Panics
    /// If the tensor is a scalar.
    #[track_caller]
    pub fn softmax(&self) -> Tensor {
        if self.dtype() == Dtype::Bf16 {
            return in_f32([self], |[x]| x.softmax());
        }
        assert!(self.rank() > 0, "softmax: a scalar has no last axis");
        let n = self.dim(self.rank() - 1);
        let y = match self.device() {
            Device::Cpu => by_dtype!(self.dtype(), T => Tensor::build(self.shape(), |y: &mut [T]| {
                cpu::forward(self.as_slice(), n, y);
            })),
        };
        record(Softmax, &[self], y)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Dtype, Noise, Tensor, check, grad};

    fn sample(shape: &[usize]) -> Tensor {
        Noise::new(17, 0).normal(shape, 0, 0, Dtype::F64)
    }

    #[test]
    fn softmax_is_its_definition() {
        for n in [1, 5, 16, 37] {
            let x = &sample(&[3, 4, n]) * 3.0;
            let expected: Vec<f64> = x
                .as_slice::<f64>()
                .chunks(n)
                .flat_map(|row| {
                    let sum: f64 = row.iter().map(|x| x.exp()).sum();
                    row.iter().map(move |x| x.exp() / sum)
                })
                .collect();
            let single = x.to(Dtype::F32).softmax().to_vec::<f64>();
            for ((y, single), expected) in x.softmax().to_vec::<f64>().iter().zip(single).zip(expected) {
                assert!((y - expected).abs() < 1e-14 && (single - expected).abs() < 2e-6);
            }
        }
    }

    #[test]
    fn softmax_passes_the_op_checks() {
        for shape in [&[7][..], &[3, 1], &[2, 3, 21], &[4, 16]] {
            check::op(&format!("softmax {shape:?}"), |x| x[0].softmax(), &[sample(shape)]);
        }
    }

    #[test]
    fn softmax_neither_overflows_nor_hides_a_nan() {
        let x = Tensor::from_vec(&[2, 2], vec![1000.0f32, 1000.0, f32::NEG_INFINITY, 3.0]);
        assert_eq!(x.softmax().to_vec::<f32>(), [0.5, 0.5, 0.0, 1.0]);
        let mut row = vec![0.0f32; 40];
        row[20] = f32::NAN;
        assert!(Tensor::from_vec(&[40], row).softmax().to_vec::<f32>().iter().all(|y| y.is_nan()));
    }

    #[test]
    fn softmax_has_the_same_bits_for_any_number_of_threads() {
        let x = sample(&[300, 250]).to(Dtype::F32);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let x = x.track();
                let y = x.softmax();
                let dx = grad((&y * &y.detach()).sum_all(), &[&x]).remove(0);
                (y.to_vec::<f32>(), dx.to_vec::<f32>())
            })
        };
        assert!(run(1) == run(2));
    }
}
