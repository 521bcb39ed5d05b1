//! Sums, means and maxima over axes.

mod cpu;

use crate::graph::{Keep, Op, Saved, record};
use crate::tensor::{Tensor, by_dtype, in_f32};
use crate::{Device, Dtype};

/// The shape with the reduced axes kept as 1.
#[track_caller]
fn kept_shape(name: &str, shape: &[usize], axes: &[usize]) -> Vec<usize> {
    for (i, &axis) in axes.iter().enumerate() {
        assert!(axis < shape.len(), "{name}: axis {axis} of a tensor of shape {shape:?}");
        assert!(!axes[..i].contains(&axis), "{name}: axis {axis} is given twice");
    }
    shape.iter().enumerate().map(|(i, &n)| if axes.contains(&i) { 1 } else { n }).collect()
}

fn dropped_shape(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    shape.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, &n)| n).collect()
}

struct Sum {
    shape: Vec<usize>,
    axes: Vec<usize>,
}

impl Op for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn keep(&self, _: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn vjp(&self, _: &Saved, grad: &Tensor, _: &[bool]) -> Vec<Option<Tensor>> {
        vec![Some(grad.broadcast_to(&self.shape))]
    }

    fn jvp(&self, _: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        tangents[0].as_ref().expect("the only input").sum_keep(&self.axes)
    }
}

struct Max {
    axes: Vec<usize>,
}

impl Max {
    /// Where the maximum is, shared equally between equal elements; constant.
    fn weights(&self, saved: &Saved) -> Tensor {
        let (x, y) = (saved.input(0).detach(), saved.output().detach());
        let is_max = (&x - &y).inside(0.0, 0.0);
        &is_max / &is_max.sum_keep(&self.axes)
    }
}

impl Op for Max {
    fn name(&self) -> &'static str {
        "max"
    }

    fn keep(&self, _: &[bool]) -> Keep {
        Keep { output: true, ..Keep::inputs(&[0]) }
    }

    fn vjp(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Vec<Option<Tensor>> {
        vec![Some(&self.weights(saved) * grad)]
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        (&self.weights(saved) * tangents[0].as_ref().expect("the only input")).sum_keep(&self.axes)
    }
}

impl Tensor {
    /// The sum over `axes`, which stay with extent 1. Accumulated in `f64`.
    ///
    /// # Panics
    /// If an axis does not exist or is given twice.
    #[track_caller]
    pub fn sum_keep(&self, axes: &[usize]) -> Tensor {
        if self.dtype() == Dtype::Bf16 {
            return in_f32([self], |[x]| x.sum_keep(axes));
        }
        let shape = kept_shape("sum", self.shape(), axes);
        let y = match self.device() {
            Device::Cpu => by_dtype!(self.dtype(), T => cpu::sum::<T>(self, axes, &shape)),
        };
        record(Sum { shape: self.shape().to_vec(), axes: axes.to_vec() }, &[self], y)
    }

    /// The sum over `axes`, which are dropped. Accumulated in `f64`.
    ///
    /// # Panics
    /// If an axis does not exist or is given twice.
    #[track_caller]
    pub fn sum(&self, axes: &[usize]) -> Tensor {
        self.sum_keep(axes).reshape(&dropped_shape(self.shape(), axes))
    }

    /// The sum of all elements, of shape `[]`.
    pub fn sum_all(&self) -> Tensor {
        self.sum(&(0..self.rank()).collect::<Vec<_>>())
    }

    /// The mean over `axes`, which stay with extent 1.
    ///
    /// # Panics
    /// If an axis does not exist or is given twice.
    #[track_caller]
    pub fn mean_keep(&self, axes: &[usize]) -> Tensor {
        if self.dtype() == Dtype::Bf16 {
            return in_f32([self], |[x]| x.mean_keep(axes));
        }
        let n: usize = axes.iter().map(|&i| self.dim(i)).product();
        &self.sum_keep(axes) * (1.0 / n as f64)
    }

    /// The mean over `axes`, which are dropped.
    ///
    /// # Panics
    /// If an axis does not exist or is given twice.
    #[track_caller]
    pub fn mean(&self, axes: &[usize]) -> Tensor {
        self.mean_keep(axes).reshape(&dropped_shape(self.shape(), axes))
    }

    /// The mean of all elements, of shape `[]`.
    pub fn mean_all(&self) -> Tensor {
        self.mean(&(0..self.rank()).collect::<Vec<_>>())
    }

    /// The maximum over `axes`, which stay with extent 1. The gradient is shared equally between equal maxima. NaN if any
    /// element is.
    ///
    /// # Panics
    /// If an axis does not exist, is given twice or is empty.
    #[track_caller]
    pub fn max_keep(&self, axes: &[usize]) -> Tensor {
        if self.dtype() == Dtype::Bf16 {
            return in_f32([self], |[x]| x.max_keep(axes));
        }
        let shape = kept_shape("max", self.shape(), axes);
        assert!(axes.iter().all(|&i| self.dim(i) > 0), "max: no elements along axes {axes:?} of shape {:?}", self.shape());
        let y = match self.device() {
            Device::Cpu => by_dtype!(self.dtype(), T => cpu::max::<T>(self, axes, &shape)),
        };
        record(Max { axes: axes.to_vec() }, &[self], y)
    }

    /// The maximum over `axes`, which are dropped.
    ///
    /// # Panics
    /// If an axis does not exist, is given twice or is empty.
    #[track_caller]
    pub fn max(&self, axes: &[usize]) -> Tensor {
        self.max_keep(axes).reshape(&dropped_shape(self.shape(), axes))
    }

    /// The maximum of all elements, of shape `[]`.
    #[track_caller]
    pub fn max_all(&self) -> Tensor {
        self.max(&(0..self.rank()).collect::<Vec<_>>())
    }

    /// `ln Σ e^x` along one axis, which stays with extent 1; shifted by the maximum, so that nothing overflows.
    ///
    /// # Panics
    /// If there is no such axis.
    #[track_caller]
    pub fn logsumexp_keep(&self, axis: usize) -> Tensor {
        // Any constant shift gives the same value and derivative. Infinite maxima would give inf - inf.
        let shift = self.detach().max_keep(&[axis]).clamp(f64::from(f32::MIN), f64::from(f32::MAX));
        &(self - &shift).exp().sum_keep(&[axis]).ln() + &shift
    }

    /// `ln Σ e^x` along one axis, which is dropped.
    ///
    /// # Panics
    /// If there is no such axis.
    #[track_caller]
    pub fn logsumexp(&self, axis: usize) -> Tensor {
        self.logsumexp_keep(axis).reshape(&dropped_shape(self.shape(), &[axis]))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Dtype, Noise, Tensor, check};

    fn sample(shape: &[usize]) -> Tensor {
        Noise::new(7, 0).normal(shape, 0, 0, Dtype::F64)
    }

    const AXES: [&[usize]; 8] = [&[0], &[1], &[2], &[0, 1], &[1, 2], &[0, 2], &[0, 1, 2], &[]];

    #[test]
    fn reductions_pass_the_op_checks_over_every_set_of_axes() {
        let x = sample(&[3, 4, 5]);
        for axes in AXES {
            check::op(&format!("sum {axes:?}"), |x| x[0].sum(axes), std::slice::from_ref(&x));
            check::op(&format!("mean {axes:?}"), |x| x[0].mean(axes), std::slice::from_ref(&x));
            check::op(&format!("max {axes:?}"), |x| x[0].max(axes), std::slice::from_ref(&x));
        }
        for axis in 0..3 {
            check::op("logsumexp", |x| x[0].logsumexp(axis), std::slice::from_ref(&x));
        }
    }

    #[test]
    fn sums_agree_with_ndarray() {
        let x = sample(&[7, 33, 20]);
        for axis in 0..3 {
            let expected = x.view::<f64>().sum_axis(ndarray::Axis(axis));
            for (a, b) in x.sum(&[axis]).to_vec::<f64>().iter().zip(expected.iter()) {
                assert!((a - b).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_sum_of_a_million_small_floats_keeps_its_digits() {
        let x = Tensor::full(&[1_000_000], 0.1, Dtype::F32);
        assert!((x.sum_all().item() - 1_000_000.0 * f64::from(0.1f32)).abs() < 0.01);
        let y = x.reshape(&[100_000, 10]).sum(&[0]).to_vec::<f64>();
        assert!(y.iter().all(|v| (v - 100_000.0 * f64::from(0.1f32)).abs() < 0.001));
    }

    #[test]
    fn logsumexp_neither_overflows_nor_underflows() {
        let x = Tensor::from_vec(&[2], vec![1000.0f32, 1000.0]);
        assert!((x.logsumexp(0).item() - (1000.0 + 2f64.ln())).abs() < 1e-3);
        let x = Tensor::from_vec(&[2], vec![f32::NEG_INFINITY, f32::NEG_INFINITY]);
        assert_eq!(x.logsumexp(0).item(), f64::NEG_INFINITY);
    }
}
