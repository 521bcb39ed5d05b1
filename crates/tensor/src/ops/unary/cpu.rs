//! Elementwise loops on the host.

use crate::element::Element;
use crate::par;
use crate::simd::{self, Map1, Map2};
use crate::tensor::Tensor;

/// `f` of every element.
pub(crate) fn map<T: Element>(x: &Tensor, f: impl Fn(T) -> T + Copy + Sync) -> Tensor {
    let input = x.as_slice::<T>();
    Tensor::build(x.shape(), |out: &mut [T]| {
        par::pieces(out, par::PIECE, input.len(), |i, out| {
            let x = &input[i * par::PIECE..][..out.len()];
            simd::widest(Map1 { out, x, f });
        });
    })
}

/// `f` of every pair of elements of two tensors of the same shape.
pub(crate) fn map2<T: Element>(x: &Tensor, y: &Tensor, f: impl Fn(T, T) -> T + Copy + Sync) -> Tensor {
    debug_assert_eq!(x.len(), y.len());
    let (xs, ys) = (x.as_slice::<T>(), y.as_slice::<T>());
    Tensor::build(x.shape(), |out: &mut [T]| {
        par::pieces(out, par::PIECE, xs.len(), |i, out| {
            let range = i * par::PIECE..i * par::PIECE + out.len();
            simd::widest(Map2 { out, x: &xs[range.clone()], y: &ys[range], f });
        });
    })
}
