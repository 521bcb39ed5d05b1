//! Reductions on the host.

use pulp::NullaryFnOnce;

use crate::element::Element;
use crate::element::num::Real;
use crate::par;
use crate::simd::{self, Sum};
use crate::tensor::Tensor;

/// Runs of adjacent axes that are all reduced or all kept: (extent, reduced).
fn groups(shape: &[usize], axes: &[usize]) -> Vec<(usize, bool)> {
    let mut groups: Vec<(usize, bool)> = Vec::new();
    for (i, &extent) in shape.iter().enumerate() {
        let reduced = axes.contains(&i);
        match groups.last_mut() {
            Some(last) if last.1 == reduced => last.0 *= extent,
            _ => groups.push((extent, reduced)),
        }
    }
    groups
}

/// Reduces the groups one after the other, the last first, with `one(x, outer, n, inner)` for `[outer, n, inner] -> [outer, inner]`.
fn reduce(x: &Tensor, axes: &[usize], shape: &[usize], one: impl Fn(&Tensor, usize, usize, usize) -> Tensor) -> Tensor {
    let mut groups = groups(x.shape(), axes);
    let mut result = x.detach();
    while let Some(i) = groups.iter().rposition(|g| g.1) {
        let outer = groups[..i].iter().map(|g| g.0).product();
        let inner = groups[i + 1..].iter().map(|g| g.0).product();
        result = one(&result, outer, groups[i].0, inner);
        groups[i] = (1, false);
    }
    result.with_shape(shape)
}

pub(crate) fn sum<T: Element>(x: &Tensor, axes: &[usize], shape: &[usize]) -> Tensor {
    reduce(x, axes, shape, |x, outer, n, inner| {
        let data = x.as_slice::<T>();
        Tensor::build(&[outer, inner], |out: &mut [T]| {
            if inner == 1 && outer == 1 {
                out[0] = T::of(simd::long_sum(data, |x| x));
            } else if inner == 1 {
                let rows = (par::PIECE / n.max(1)).max(1);
                par::pieces(out, rows, data.len(), |i, out| {
                    for (j, out) in out.iter_mut().enumerate() {
                        *out = T::of(simd::widest(Sum { x: &data[(i * rows + j) * n..][..n], f: |x| x }));
                    }
                });
            } else if outer == 1 {
                long_column_sums(data, n, inner, out);
            } else {
                par::pieces(out, inner, data.len(), |i, out| {
                    let mut sums = vec![0.0f64; inner];
                    simd::widest(ColumnSums { x: &data[i * n * inner..][..n * inner], sums: &mut sums });
                    write(out, &sums);
                });
            }
        })
    })
}

fn write<T: Element>(out: &mut [T], sums: &[f64]) {
    for (out, &sum) in out.iter_mut().zip(sums) {
        *out = T::of(sum);
    }
}

/// Column sums of one tall matrix, in blocks of a fixed number of rows.
fn long_column_sums<T: Element>(data: &[T], n: usize, inner: usize, out: &mut [T]) {
    let rows = (4 * par::PIECE / inner.max(1)).clamp(1, n.max(1)).max(n.div_ceil(64));
    let blocks = n.div_ceil(rows).max(1);
    let mut partial = vec![0.0f64; blocks * inner];
    par::pieces(&mut partial, inner.max(1), data.len(), |i, sums| {
        let end = n.min((i + 1) * rows);
        simd::widest(ColumnSums { x: &data[i * rows * inner..end * inner], sums });
    });
    let mut total = vec![0.0f64; inner];
    for block in partial.chunks(inner.max(1)) {
        for (t, &b) in total.iter_mut().zip(block) {
            *t += b;
        }
    }
    write(out, &total);
}

/// `sums[j] += Σ_i x[i, j]`.
struct ColumnSums<'a, T> {
    x: &'a [T],
    sums: &'a mut [f64],
}

impl<T: Element> NullaryFnOnce for ColumnSums<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for row in self.x.chunks_exact(self.sums.len().max(1)) {
            for (sum, &x) in self.sums.iter_mut().zip(row) {
                *sum += x.wide();
            }
        }
    }
}

pub(crate) fn max<T: Element>(x: &Tensor, axes: &[usize], shape: &[usize]) -> Tensor {
    reduce(x, axes, shape, |x, outer, n, inner| {
        let data = x.as_slice::<T>();
        Tensor::build(&[outer, inner], |out: &mut [T]| {
            par::pieces(out, inner, data.len(), |i, out| {
                let block = &data[i * n * inner..][..n * inner];
                out.copy_from_slice(&block[..inner]);
                for row in block.chunks_exact(inner).skip(1) {
                    for (out, &x) in out.iter_mut().zip(row) {
                        *out = if x.not_equal_to_itself() { x } else { Real::greatest(*out, x) };
                    }
                }
            });
        })
    })
}
