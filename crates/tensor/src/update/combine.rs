//! Linear combinations of tensors in one pass over memory.
//!
//! A piece is gone through in blocks that stay in the first cache while one term after the other is added.

use std::ops::Range;

use super::same_shapes;
use crate::Device;
use crate::element::Element;
use crate::element::num::Real;
use crate::par;
use crate::simd;
use crate::tensor::{Tensor, by_dtype};
use pulp::NullaryFnOnce;

/// Elements of a block in place: a quarter of a page of `f32`, so that all streams stay near each other and are fetched ahead. Whole pages, one
/// stream after the other, take a tenth longer.
const BLOCK: usize = 256;
/// Elements of a block that begins with a copy to other memory: from about a page on, a copy does not read what it overwrites.
const COPIED: usize = 1024;

/// `a x + Σ_i c_i y_i` in one pass over memory, in `x`'s own buffer where nothing else uses it. The sum is taken from left to right,
/// with the coefficients rounded to the elements' type once.
///
/// # Panics
/// If shapes or types differ.
#[track_caller]
pub fn combine(a: f64, mut x: Tensor, terms: &[(f64, &Tensor)]) -> Tensor {
    for (_, y) in terms {
        same_shapes("combine", &[&x, y]);
    }
    match x.device() {
        Device::Cpu => by_dtype!(x.dtype(), T => {
            let terms: Vec<(T, &[T])> = terms.iter().map(|(c, y)| (T::of(*c), y.as_slice::<T>())).collect();
            let cost = x.len() * (1 + terms.len());
            let fill = |x: Option<&[T]>, out: &mut [T]| {
                par::pieces(out, par::PIECE, cost, |i, out| {
                    simd::widest(CombineLoop { a: T::of(a), out, x, terms: &terms, from: i * par::PIECE });
                });
            };
            if x.is_unique() {
                fill(None, x.make_mut::<T>());
                x
            } else {
                Tensor::build(x.shape(), |out| fill(Some(x.as_slice::<T>()), out))
            }
        }),
    }
}

/// `y' = a y + b z + Σ_i c_i u_i` and then `z' = d z + e y' + Σ_i f_i u_i` in one pass over memory, in `y`'s and `z`'s own buffers where
/// nothing else uses them. `first` is `(a, b)`, `second` is `(d, e)`, and `terms` are the `(c_i, f_i, u_i)`.
///
/// What has coefficient 0 is left out, whatever is in it. Sums are taken as in [`combine`], so that results have its bits.
///
/// # Panics
/// If shapes or types differ.
#[track_caller]
pub fn combine_two(
    y: Tensor,
    z: Tensor,
    first: (f64, f64),
    second: (f64, f64),
    terms: &[(f64, f64, &Tensor)],
) -> (Tensor, Tensor) {
    same_shapes("combine_two", &[&y, &z]);
    for (_, _, u) in terms {
        same_shapes("combine_two", &[&y, u]);
    }
    match y.device() {
        Device::Cpu => by_dtype!(y.dtype(), T => {
            let ((mut to_y, from_y), (mut to_z, from_z)) = (target::<T>(y), target::<T>(z));
            let terms_y = slices::<T>(terms.iter().map(|&(c, _, u)| (c, u)));
            let terms_z = slices::<T>(terms.iter().map(|&(_, f, u)| (f, u)));
            let sources = [&from_y, &from_z].map(|source| source.as_ref().map(Tensor::as_slice::<T>));
            let cost = to_y.len() * (4 + terms_y.len() + terms_z.len());
            par::pieces_of([to_y.make_mut::<T>(), to_z.make_mut::<T>()], par::PIECE, cost, |i, [y, z]| {
                let (first, second) = ((T::of(first.0), T::of(first.1)), (T::of(second.0), T::of(second.1)));
                let terms = [&terms_y[..], &terms_z];
                simd::widest(CombineTwoLoop { y, z, sources, first, second, terms, from: i * par::PIECE });
            });
            (to_y, to_z)
        }),
    }
}

/// The terms whose coefficient is not 0.
fn slices<'a, T: Element>(terms: impl Iterator<Item = (f64, &'a Tensor)>) -> Vec<(T, &'a [T])> {
    terms.filter(|(c, _)| *c != 0.0).map(|(c, u)| (T::of(c), u.as_slice::<T>())).collect()
}

/// `x` itself if nothing else uses its elements, otherwise a tensor to write to and what its elements come from.
fn target<T: Element>(mut x: Tensor) -> (Tensor, Option<Tensor>) {
    if x.is_unique() { (x, None) } else { (Tensor::build::<T>(x.shape(), |_| ()), Some(x)) }
}

/// `out = a out + Σ_i c_i y_i[at]`; without terms `a out`.
#[inline(always)]
fn add_terms<T: Element>(out: &mut [T], a: T, terms: &[(T, &[T])], at: &Range<usize>) {
    if terms.is_empty() && a != T::ONE {
        out.iter_mut().for_each(|x| *x = a * *x);
    }
    for (k, group) in terms.chunks(3).enumerate() {
        let a = if k == 0 { a } else { T::ONE };
        match *group {
            [(c, y)] => {
                for (x, &y) in out.iter_mut().zip(&y[at.clone()]) {
                    *x = a * *x + c * y;
                }
            }
            [(c, y), (d, z)] => {
                for ((x, &y), &z) in out.iter_mut().zip(&y[at.clone()]).zip(&z[at.clone()]) {
                    *x = a * *x + c * y + d * z;
                }
            }
            [(c, y), (d, z), (e, w)] => {
                let yzw = y[at.clone()].iter().zip(&z[at.clone()]).zip(&w[at.clone()]);
                for (x, ((&y, &z), &w)) in out.iter_mut().zip(yzw) {
                    *x = a * *x + c * y + d * z + e * w;
                }
            }
            _ => unreachable!("chunks of one to three"),
        }
    }
}

struct CombineLoop<'a, T> {
    a: T,
    out: &'a mut [T],
    /// None if it is in `out`. This and the terms are whole tensors, of which this piece begins at `from`.
    x: Option<&'a [T]>,
    terms: &'a [(T, &'a [T])],
    from: usize,
}

impl<T: Element> NullaryFnOnce for CombineLoop<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let block = if self.x.is_some() { COPIED } else { BLOCK };
        for (i, out) in self.out.chunks_mut(block).enumerate() {
            let at = self.from + i * block..self.from + i * block + out.len();
            if let Some(x) = self.x {
                out.copy_from_slice(&x[at.clone()]);
            }
            add_terms(out, self.a, self.terms, &at);
        }
    }
}

struct CombineTwoLoop<'a, T> {
    y: &'a mut [T],
    z: &'a mut [T],
    /// Of `y` and `z`; None if they are there already. These and the terms are whole tensors, of which this piece begins at `from`.
    sources: [Option<&'a [T]>; 2],
    first: (T, T),
    second: (T, T),
    terms: [&'a [(T, &'a [T])]; 2],
    from: usize,
}

impl<T: Element> NullaryFnOnce for CombineTwoLoop<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let block = if self.sources.iter().any(Option::is_some) { COPIED } else { BLOCK };
        for (i, (y, z)) in self.y.chunks_mut(block).zip(self.z.chunks_mut(block)).enumerate() {
            let at = self.from + i * block..self.from + i * block + y.len();
            if let Some(source) = self.sources[0] {
                y.copy_from_slice(&source[at.clone()]);
            }
            if let Some(source) = self.sources[1] {
                z.copy_from_slice(&source[at.clone()]);
            }
            mix(y, z, self.first);
            add_terms(y, T::ONE, self.terms[0], &at);
            mix(z, y, self.second);
            add_terms(z, T::ONE, self.terms[1], &at);
        }
    }
}

/// `x = a x + b y`, without what has coefficient 0.
#[inline(always)]
fn mix<T: Element>(x: &mut [T], y: &[T], (a, b): (T, T)) {
    let pairs = x.iter_mut().zip(y);
    match (a == T::ZERO, b == T::ZERO) {
        (false, false) => pairs.for_each(|(x, &y)| *x = a * *x + b * y),
        (true, false) => pairs.for_each(|(x, &y)| *x = b * y),
        (false, true) => pairs.for_each(|(x, _)| *x = a * *x),
        (true, true) => x.fill(T::ZERO),
    }
}
