//! Moving elements: reshape, permute, slice, concatenate, pad, repeat, gather, convert.

mod cpu;

use std::ops::Range;

use crate::Device;
use crate::element::Dtype;
use crate::graph::{Keep, Op, Saved, record};
use crate::tensor::{Tensor, by_dtype, by_stored, count};

/// A linear rearrangement, with the one that takes gradients back.
#[derive(Clone)]
enum Move {
    Identity,
    Reshape { from: Vec<usize>, to: Vec<usize> },
    Permute { axes: Vec<usize> },
    Slice { axis: usize, range: Range<usize>, extent: usize },
    Pad { axis: usize, before: usize, after: usize },
    Broadcast { from: Vec<usize>, to: Vec<usize> },
    Gather { rows: std::sync::Arc<[usize]>, extent: usize },
    ScatterAdd { rows: std::sync::Arc<[usize]>, extent: usize },
    Convert { from: Dtype, to: Dtype },
}

impl Move {
    fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Move::Identity => x.detach(),
            Move::Reshape { to, .. } => x.with_shape(to),
            Move::Convert { to, .. } => match x.device() {
                Device::Cpu => by_stored!(x.dtype(), S => by_stored!(*to, T => cpu::convert::<S, T>(x))),
            },
            _ => match x.device() {
                Device::Cpu if x.dtype() == Dtype::Bf16 && matches!(self, Move::Broadcast { .. } | Move::ScatterAdd { .. }) => {
                    self.forward(&x.to(Dtype::F32)).to(Dtype::Bf16)
                }
                Device::Cpu => by_stored!(x.dtype(), T => match self {
                    Move::Permute { axes } => cpu::permute::<T>(x, axes),
                    Move::Slice { axis, range, .. } => cpu::slice::<T>(x, *axis, range.clone()),
                    Move::Pad { axis, before, after } => cpu::pad::<T>(x, *axis, *before, *after),
                    Move::Broadcast { to, .. } => by_dtype!(x.dtype(), T => cpu::broadcast_to::<T>(x, to)),
                    Move::Gather { rows, .. } => cpu::gather::<T>(x, rows),
                    Move::ScatterAdd { rows, extent } => by_dtype!(x.dtype(), T => cpu::scatter_add::<T>(x, rows, *extent)),
                    Move::Identity | Move::Reshape { .. } | Move::Convert { .. } => unreachable!("done above"),
                }),
            },
        }
    }

    /// The transpose of the linear map.
    fn transpose(&self, grad: &Tensor) -> Tensor {
        match self {
            Move::Identity => grad.clone(),
            Move::Reshape { from, .. } => grad.reshape(from),
            Move::Permute { axes } => {
                let mut inverse = vec![0; axes.len()];
                for (i, &axis) in axes.iter().enumerate() {
                    inverse[axis] = i;
                }
                grad.permute(&inverse)
            }
            Move::Slice { axis, range, extent } => grad.pad(*axis, range.start, extent - range.end),
            Move::Pad { axis, before, after } => grad.slice(*axis, *before..grad.dim(*axis) - after),
            Move::Broadcast { from, .. } => {
                let missing = grad.rank() - from.len();
                let axes: Vec<usize> = (0..grad.rank()).filter(|&i| i < missing || from[i - missing] != grad.dim(i)).collect();
                grad.sum_keep(&axes).reshape(from)
            }
            Move::Gather { rows, extent } => grad.scatter_add(rows, *extent),
            Move::ScatterAdd { rows, .. } => grad.gather(rows),
            Move::Convert { from, .. } => grad.to(*from),
        }
    }
}

impl Op for Move {
    fn name(&self) -> &'static str {
        match self {
            Move::Identity => "identity",
            Move::Reshape { .. } => "reshape",
            Move::Permute { .. } => "permute",
            Move::Slice { .. } => "slice",
            Move::Pad { .. } => "pad",
            Move::Broadcast { .. } => "broadcast_to",
            Move::Gather { .. } => "gather",
            Move::ScatterAdd { .. } => "scatter_add",
            Move::Convert { .. } => "to",
        }
    }

    fn keep(&self, _: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn widens(&self) -> bool {
        false
    }

    fn vjp(&self, _: &Saved, grad: &Tensor, _: &[bool]) -> Vec<Option<Tensor>> {
        vec![Some(self.transpose(grad))]
    }

    fn jvp(&self, _: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        apply(self.clone(), tangents[0].as_ref().expect("the only input"))
    }
}

fn apply(op: Move, x: &Tensor) -> Tensor {
    let y = op.forward(x);
    record(op, &[x], y)
}

/// The same tensor under a new place in the graph.
pub(crate) fn identity(x: &Tensor) -> Tensor {
    apply(Move::Identity, x)
}

struct Concat {
    axis: usize,
    extents: Vec<usize>,
    shape: Vec<usize>,
    dtype: Dtype,
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn keep(&self, _: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn widens(&self) -> bool {
        false
    }

    fn vjp(&self, _: &Saved, grad: &Tensor, needed: &[bool]) -> Vec<Option<Tensor>> {
        let mut start = 0;
        self.extents
            .iter()
            .zip(needed)
            .map(|(&extent, &needed)| {
                let range = start..start + extent;
                start += extent;
                needed.then(|| grad.slice(self.axis, range))
            })
            .collect()
    }

    fn jvp(&self, _: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        let parts: Vec<Tensor> = tangents
            .iter()
            .zip(&self.extents)
            .map(|(t, &extent)| {
                t.clone().unwrap_or_else(|| {
                    let mut shape = self.shape.clone();
                    shape[self.axis] = extent;
                    Tensor::zeros(&shape, self.dtype)
                })
            })
            .collect();
        Tensor::concat(&parts.iter().collect::<Vec<_>>(), self.axis)
    }
}

impl Tensor {
    /// The same elements in another shape; free.
    ///
    /// # Panics
    /// If the shapes hold different numbers of elements.
    #[track_caller]
    pub fn reshape(&self, shape: &[usize]) -> Tensor {
        assert_eq!(self.len(), count(shape), "reshape: {:?} to {shape:?}", self.shape());
        if self.shape() == shape {
            return self.clone();
        }
        if !self.is_tracked() {
            return self.with_shape(shape);
        }
        apply(Move::Reshape { from: self.shape().to_vec(), to: shape.to_vec() }, self)
    }

    /// Axis `i` of the result is axis `axes[i]` of this tensor. Copies.
    ///
    /// # Panics
    /// If `axes` is not a permutation of the axes.
    #[track_caller]
    pub fn permute(&self, axes: &[usize]) -> Tensor {
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..self.rank()), "permute: {axes:?} is not an order of the axes of {:?}", self.shape());
        if axes.is_sorted() {
            return self.clone();
        }
        apply(Move::Permute { axes: axes.to_vec() }, self)
    }

    /// The elements with `range` along `axis`. Copies.
    ///
    /// # Panics
    /// If the range is not within the axis.
    #[track_caller]
    pub fn slice(&self, axis: usize, range: Range<usize>) -> Tensor {
        let extent = self.dim(axis);
        assert!(range.start <= range.end && range.end <= extent, "slice: {range:?} of axis {axis} of {:?}", self.shape());
        if range == (0..extent) {
            return self.clone();
        }
        apply(Move::Slice { axis, range, extent }, self)
    }

    /// Tensors one after the other along `axis`.
    ///
    /// # Panics
    /// If there are none, or their types or other extents differ.
    #[track_caller]
    pub fn concat(parts: &[&Tensor], axis: usize) -> Tensor {
        let Some(first) = parts.first() else { panic!("concat: no tensors") };
        for part in parts {
            let alike = part.rank() == first.rank()
                && axis < part.rank()
                && part.shape().iter().zip(first.shape()).enumerate().all(|(i, (a, b))| i == axis || a == b);
            assert!(alike, "concat: shapes {:?} and {:?} along axis {axis}", first.shape(), part.shape());
            assert_eq!(part.dtype(), first.dtype(), "concat: element types differ");
        }
        let extents: Vec<usize> = parts.iter().map(|p| p.dim(axis)).collect();
        let mut shape = first.shape().to_vec();
        shape[axis] = extents.iter().sum();
        let y = match first.device() {
            Device::Cpu => by_stored!(first.dtype(), T => cpu::concat::<T>(parts, axis, &shape)),
        };
        record(Concat { axis, extents, shape, dtype: first.dtype() }, parts, y)
    }

    /// Zeros before and after along `axis`.
    ///
    /// # Panics
    /// If there is no such axis.
    #[track_caller]
    pub fn pad(&self, axis: usize, before: usize, after: usize) -> Tensor {
        assert!(axis < self.rank(), "pad: axis {axis} of {:?}", self.shape());
        if before == 0 && after == 0 {
            return self.clone();
        }
        apply(Move::Pad { axis, before, after }, self)
    }

    /// Repeated along axes of extent 1 and new leading axes.
    ///
    /// # Panics
    /// If the shape does not broadcast to `shape`.
    #[track_caller]
    pub fn broadcast_to(&self, shape: &[usize]) -> Tensor {
        let from = self.shape();
        let fits = from.len() <= shape.len() && from.iter().rev().zip(shape.iter().rev()).all(|(&a, &b)| a == b || a == 1);
        assert!(fits, "broadcast_to: {from:?} to {shape:?}");
        if from == shape {
            return self.clone();
        }
        apply(Move::Broadcast { from: from.to_vec(), to: shape.to_vec() }, self)
    }

    /// Rows `rows[i]` of axis 0: an embedding look-up. `[N, ...] -> [rows.len(), ...]`.
    ///
    /// # Panics
    /// If a row does not exist.
    #[track_caller]
    pub fn gather(&self, rows: &[usize]) -> Tensor {
        let extent = self.dim(0);
        if let Some(row) = rows.iter().find(|&&r| r >= extent) {
            panic!("gather: row {row} of a tensor of shape {:?}", self.shape());
        }
        apply(Move::Gather { rows: rows.into(), extent }, self)
    }

    /// Adds row `i` to row `rows[i]` of a tensor of zeros with `extent` rows: the transpose of [`gather`](Self::gather).
    ///
    /// # Panics
    /// If a row does not exist or `rows` has another length than axis 0.
    #[track_caller]
    pub fn scatter_add(&self, rows: &[usize], extent: usize) -> Tensor {
        assert_eq!(self.dim(0), rows.len(), "scatter_add: {} rows for shape {:?}", rows.len(), self.shape());
        assert!(rows.iter().all(|&r| r < extent), "scatter_add: a row is not below {extent}");
        apply(Move::ScatterAdd { rows: rows.into(), extent }, self)
    }

    /// The elements converted to another type.
    pub fn to(&self, dtype: Dtype) -> Tensor {
        if self.dtype() == dtype {
            return self.clone();
        }
        apply(Move::Convert { from: self.dtype(), to: dtype }, self)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Dtype, Noise, Tensor, check};

    fn sample(shape: &[usize]) -> Tensor {
        Noise::new(13, 0).normal(shape, 0, 0, Dtype::F64)
    }

    #[test]
    fn rearrangements_pass_the_op_checks() {
        let x = [sample(&[3, 4, 5])];
        check::op("reshape", |x| x[0].reshape(&[4, 15]), &x);
        for axes in [[0, 2, 1], [2, 0, 1], [1, 0, 2], [2, 1, 0]] {
            check::op("permute", |x| x[0].permute(&axes), &x);
        }
        for axis in 0..3 {
            check::op("slice", |x| x[0].slice(axis, 1..3), &x);
            check::op("pad", |x| x[0].pad(axis, 1, 2), &x);
            check::op("concat", |x| Tensor::concat(&[&x[0], &x[0].square(), &x[1]], axis), &[x[0].clone(), sample(&[3, 4, 5])]);
        }
        check::op("gather", |x| x[0].gather(&[2, 0, 2, 1]), &x);
        check::op("scatter_add", |x| x[0].scatter_add(&[2, 0, 2], 4), &x);
        check::op("broadcast_to", |x| x[0].broadcast_to(&[2, 3, 4, 5]), &[sample(&[3, 1, 5])]);
        check::op("to", |x| x[0].to(Dtype::F64), &x);
    }

    #[test]
    fn permute_agrees_with_ndarray() {
        let x = sample(&[2, 3, 4, 5]);
        for axes in [[0, 1, 3, 2], [3, 2, 1, 0], [0, 2, 1, 3], [1, 3, 0, 2]] {
            let y = x.permute(&axes);
            let expected = x.view::<f64>().permuted_axes(&axes[..]);
            assert_eq!(y.view::<f64>(), expected);
        }
    }

    #[test]
    fn arrays_move_in_and_out_without_copying() {
        let array = ndarray::Array2::<f32>::ones((3, 4));
        let address = array.as_ptr();
        let tensor = Tensor::from(array);
        assert_eq!(tensor.as_slice::<f32>().as_ptr(), address);
        assert_eq!(tensor.view::<f32>().as_ptr(), address);
        let back = tensor.into_array::<f32>();
        assert_eq!(back.as_ptr(), address);
        let pooled = Tensor::zeros(&[3, 4], Dtype::F32);
        let address = pooled.as_slice::<f32>().as_ptr();
        assert_eq!(pooled.into_array::<f32>().as_ptr(), address);
    }
}
