//! Copies on the host.

use std::ops::Range;

use crate::bf16;
use crate::element::{Element, Stored};
use crate::par;
use crate::tensor::{Tensor, count};
use crate::{Bf16, Dtype};

/// (product of the extents before `axis`, its extent, product of those after).
fn split(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (count(&shape[..axis]), shape[axis], count(&shape[axis + 1..]))
}

fn with_extent(shape: &[usize], axis: usize, extent: usize) -> Vec<usize> {
    let mut shape = shape.to_vec();
    shape[axis] = extent;
    shape
}

pub(crate) fn convert<S: Stored, T: Stored>(x: &Tensor) -> Tensor {
    match (S::DTYPE, T::DTYPE) {
        (Dtype::Bf16, Dtype::F32) => return Tensor::build(x.shape(), |out| bf16::widen(x.as_slice::<Bf16>(), out)),
        (Dtype::F32, Dtype::Bf16) => return Tensor::build(x.shape(), |out| bf16::narrow(x.as_slice::<f32>(), out)),
        _ => {}
    }
    let data = x.as_slice::<S>();
    Tensor::build(x.shape(), |out: &mut [T]| {
        par::pieces(out, par::PIECE, data.len(), |i, out| {
            for (out, &x) in out.iter_mut().zip(&data[i * par::PIECE..]) {
                *out = T::from_f64(x.to_f64());
            }
        });
    })
}

pub(crate) fn permute<T: Stored>(x: &Tensor, axes: &[usize]) -> Tensor {
    let shape: Vec<usize> = axes.iter().map(|&a| x.shape()[a]).collect();
    let mut strides = vec![1usize; x.rank()];
    for i in (0..x.rank().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * x.shape()[i + 1];
    }
    let data = x.as_slice::<T>();
    // Trailing axes that stay in place are copied in runs.
    let fixed = (0..axes.len()).rev().take_while(|&i| axes[i] == i).count();
    let moved = axes.len() - fixed;
    let run = count(&shape[moved..]);
    let moved_strides: Vec<usize> = axes[..moved].iter().map(|&a| strides[a]).collect();
    let (outer, last) = (&shape[..moved - 1], shape[moved - 1]);
    let last_stride = moved_strides[moved - 1];
    Tensor::build(&shape, |out: &mut [T]| {
        let cost = out.len();
        par::pieces(out, (last * run).max(1), cost, |i, out| {
            let mut rest = i;
            let mut start = 0;
            for k in (0..outer.len()).rev() {
                start += rest % outer[k] * moved_strides[k];
                rest /= outer[k];
            }
            if run == 1 {
                for (j, out) in out.iter_mut().enumerate() {
                    *out = data[start + j * last_stride];
                }
            } else {
                for (j, out) in out.chunks_exact_mut(run).enumerate() {
                    out.copy_from_slice(&data[start + j * last_stride..][..run]);
                }
            }
        });
    })
}

pub(crate) fn slice<T: Stored>(x: &Tensor, axis: usize, range: Range<usize>) -> Tensor {
    let (_, extent, inner) = split(x.shape(), axis);
    let data = x.as_slice::<T>();
    let run = range.len() * inner;
    Tensor::build(&with_extent(x.shape(), axis, range.len()), |out: &mut [T]| {
        copy_runs(out, run, |i| &data[(i * extent + range.start) * inner..][..run]);
    })
}

/// Fills consecutive runs of `out` from `source(i)`.
fn copy_runs<'a, T: Stored>(out: &mut [T], run: usize, source: impl Fn(usize) -> &'a [T] + Sync) {
    if run == 0 {
        return;
    }
    let rows = (par::PIECE / run).max(1);
    let cost = out.len();
    par::pieces(out, rows * run, cost, |i, out| {
        for (j, out) in out.chunks_exact_mut(run).enumerate() {
            out.copy_from_slice(source(i * rows + j));
        }
    });
}

pub(crate) fn pad<T: Stored>(x: &Tensor, axis: usize, before: usize, after: usize) -> Tensor {
    let (_, extent, inner) = split(x.shape(), axis);
    let data = x.as_slice::<T>();
    let total = before + extent + after;
    Tensor::build(&with_extent(x.shape(), axis, total), |out: &mut [T]| {
        for (i, out) in out.chunks_exact_mut((total * inner).max(1)).enumerate() {
            out[..before * inner].fill(T::default());
            out[before * inner..(before + extent) * inner].copy_from_slice(&data[i * extent * inner..][..extent * inner]);
            out[(before + extent) * inner..].fill(T::default());
        }
    })
}

pub(crate) fn concat<T: Stored>(parts: &[&Tensor], axis: usize, shape: &[usize]) -> Tensor {
    let (_, total, inner) = split(shape, axis);
    let sources: Vec<(&[T], usize)> = parts.iter().map(|p| (p.as_slice::<T>(), p.shape()[axis] * inner)).collect();
    Tensor::build(shape, |out: &mut [T]| {
        let run = (total * inner).max(1);
        let rows = (par::PIECE / run).max(1);
        let cost = out.len();
        par::pieces(out, rows * run, cost, |i, out| {
            for (j, mut out) in out.chunks_exact_mut(run).enumerate() {
                for (data, len) in &sources {
                    let (head, rest) = out.split_at_mut(*len);
                    head.copy_from_slice(&data[(i * rows + j) * len..][..*len]);
                    out = rest;
                }
            }
        });
    })
}

pub(crate) fn broadcast_to<T: Element>(x: &Tensor, shape: &[usize]) -> Tensor {
    crate::ops::binary::repeat::<T>(x, shape)
}

pub(crate) fn gather<T: Stored>(x: &Tensor, rows: &[usize]) -> Tensor {
    let (_, _, inner) = split(x.shape(), 0);
    let data = x.as_slice::<T>();
    Tensor::build(&with_extent(x.shape(), 0, rows.len()), |out: &mut [T]| {
        copy_runs(out, inner, |i| &data[rows[i] * inner..][..inner]);
    })
}

pub(crate) fn scatter_add<T: Element>(x: &Tensor, rows: &[usize], extent: usize) -> Tensor {
    let (_, _, inner) = split(x.shape(), 0);
    let data = x.as_slice::<T>();
    Tensor::build(&with_extent(x.shape(), 0, extent), |out: &mut [T]| {
        out.fill(T::ZERO);
        // In order of `i`, so that sums of repeated rows have fixed bits.
        for (i, &row) in rows.iter().enumerate() {
            for (out, &x) in out[row * inner..][..inner].iter_mut().zip(&data[i * inner..][..inner]) {
                *out += x;
            }
        }
    })
}
