//! Elementwise loops on the host.

use pulp::NullaryFnOnce;

use crate::element::Element;
use crate::par;
use crate::simd;
use crate::tensor::Tensor;

/// A function of one number.
pub(super) trait Function<T>: Copy + Sync {
    fn value(self, x: T) -> T;
    /// Its derivative, from what it saves.
    fn slope(self, saved: T) -> T;
}

struct Value<'a, T, F> {
    out: &'a mut [T],
    x: &'a [T],
    f: F,
}

impl<T: Element, F: Function<T>> NullaryFnOnce for Value<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for (out, &x) in self.out.iter_mut().zip(self.x) {
            *out = self.f.value(x);
        }
    }
}

struct TimesSlope<'a, T, F> {
    out: &'a mut [T],
    saved: &'a [T],
    grad: &'a [T],
    f: F,
}

impl<T: Element, F: Function<T>> NullaryFnOnce for TimesSlope<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for ((out, &saved), &grad) in self.out.iter_mut().zip(self.saved).zip(self.grad) {
            *out = grad * self.f.slope(saved);
        }
    }
}

/// The function of every element.
pub(super) fn map<T: Element, F: Function<T>>(x: &Tensor, f: F) -> Tensor {
    let input = x.as_slice::<T>();
    Tensor::build(x.shape(), |out: &mut [T]| {
        par::pieces(out, par::PIECE, input.len(), |i, out| {
            let x = &input[i * par::PIECE..][..out.len()];
            simd::widest(Value { out, x, f });
        });
    })
}

/// The gradient times the slope at every element of two tensors of the same shape.
pub(super) fn times_slope<T: Element, F: Function<T>>(saved: &Tensor, grad: &Tensor, f: F) -> Tensor {
    debug_assert_eq!(saved.len(), grad.len());
    let (all, grads) = (saved.as_slice::<T>(), grad.as_slice::<T>());
    Tensor::build(saved.shape(), |out: &mut [T]| {
        par::pieces(out, par::PIECE, all.len(), |i, out| {
            let range = i * par::PIECE..i * par::PIECE + out.len();
            simd::widest(TimesSlope { out, saved: &all[range.clone()], grad: &grads[range], f });
        });
    })
}
