//! Broadcasting loops on the host.

use crate::element::Stored;
use crate::par;
use crate::simd::{self, Map1, Map2, Update};
use crate::tensor::Tensor;

/// One collapsed axis: its extent and whether each operand moves along it.
#[derive(Clone, Copy, PartialEq)]
struct Axis {
    extent: usize,
    a: bool,
    b: bool,
}

/// Adjacent axes along which both operands behave alike, merged.
fn collapse(a: &[usize], b: &[usize], shape: &[usize]) -> Vec<Axis> {
    let rank = shape.len();
    let moves = |s: &[usize], i: usize| i + s.len() >= rank && s[i + s.len() - rank] != 1;
    let mut axes: Vec<Axis> = Vec::new();
    for (i, &extent) in shape.iter().enumerate() {
        if extent == 1 {
            continue;
        }
        let axis = Axis { extent, a: moves(a, i), b: moves(b, i) };
        match axes.last_mut() {
            Some(last) if last.a == axis.a && last.b == axis.b => last.extent *= extent,
            _ => axes.push(axis),
        }
    }
    axes
}

/// `f(a, b)` over the broadcast shape.
pub(crate) fn broadcast<T: Stored>(a: &Tensor, b: &Tensor, shape: &[usize], f: impl Fn(T, T) -> T + Copy + Sync) -> Tensor {
    let axes = collapse(a.shape(), b.shape(), shape);
    let (xs, ys) = (a.as_slice::<T>(), b.as_slice::<T>());
    Tensor::build(shape, |out: &mut [T]| {
        let Some((inner, outer)) = axes.split_last() else {
            if let Some(out) = out.first_mut() {
                *out = f(xs[0], ys[0]);
            }
            return;
        };
        if out.is_empty() {
            return;
        }
        // Strides of the outer axes.
        let mut strides = vec![(0usize, 0usize); outer.len()];
        let (mut sa, mut sb) = (if inner.a { inner.extent } else { 1 }, if inner.b { inner.extent } else { 1 });
        for (stride, axis) in strides.iter_mut().zip(outer).rev() {
            *stride = (if axis.a { sa } else { 0 }, if axis.b { sb } else { 0 });
            sa *= if axis.a { axis.extent } else { 1 };
            sb *= if axis.b { axis.extent } else { 1 };
        }
        if outer.is_empty() {
            par::pieces(out, par::PIECE, out.len(), |i, out| {
                let start = i * par::PIECE;
                row(out, &xs[if inner.a { start } else { 0 }..], &ys[if inner.b { start } else { 0 }..], inner, f);
            });
            return;
        }
        let cost = out.len();
        let rows = (par::PIECE / inner.extent).max(1);
        par::pieces(out, rows * inner.extent, cost, |i, out| {
            // The odometer: the position along each outer axis and in both operands.
            let mut at = vec![0usize; outer.len()];
            let (mut pa, mut pb) = (0, 0);
            let mut rest = i * rows;
            for k in (0..outer.len()).rev() {
                at[k] = rest % outer[k].extent;
                rest /= outer[k].extent;
                pa += at[k] * strides[k].0;
                pb += at[k] * strides[k].1;
            }
            for out in out.chunks_mut(inner.extent) {
                row(out, &xs[pa..], &ys[pb..], inner, f);
                for k in (0..outer.len()).rev() {
                    at[k] += 1;
                    pa += strides[k].0;
                    pb += strides[k].1;
                    if at[k] < outer[k].extent {
                        break;
                    }
                    pa -= strides[k].0 * outer[k].extent;
                    pb -= strides[k].1 * outer[k].extent;
                    at[k] = 0;
                }
            }
        });
    })
}

/// One run along the innermost collapsed axis.
#[inline]
fn row<T: Stored>(out: &mut [T], xs: &[T], ys: &[T], inner: &Axis, f: impl Fn(T, T) -> T + Copy) {
    match (inner.a, inner.b) {
        (true, true) => {
            let (x, y) = (&xs[..out.len()], &ys[..out.len()]);
            simd::widest(Map2 { out, x, y, f });
        }
        (true, false) => {
            let y = ys[0];
            let x = &xs[..out.len()];
            simd::widest(Map1 { out, x, f: move |x| f(x, y) });
        }
        (false, true) => {
            let x = xs[0];
            let y = &ys[..out.len()];
            simd::widest(Map1 { out, x: y, f: move |y| f(x, y) });
        }
        (false, false) => out.fill(f(xs[0], ys[0])),
    }
}

/// `a += b`.
pub(crate) fn add_assign<T: Stored + std::ops::Add<Output = T>>(a: &mut [T], b: &[T]) {
    let cost = a.len();
    par::pieces(a, par::PIECE, cost, |i, out| {
        let x = &b[i * par::PIECE..][..out.len()];
        simd::widest(Update { out, x, f: |a: T, b: T| a + b });
    });
}
