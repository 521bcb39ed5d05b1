//! Arithmetic of two tensors with NumPy broadcasting, and the operators.
//!
//! Shapes are aligned at their last axes; an extent of 1, or a missing axis, is repeated.

mod cpu;

use std::ops;

use crate::element::num::Real;
use crate::graph::{Keep, Op, Saved, record};
use crate::tensor::{Tensor, by_dtype, by_stored, in_f32};
use crate::{Bf16, Device, Dtype};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Add,
    Sub,
    Mul,
    Div,
    Minimum,
    Maximum,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Add => "add",
            Kind::Sub => "sub",
            Kind::Mul => "mul",
            Kind::Div => "div",
            Kind::Minimum => "minimum",
            Kind::Maximum => "maximum",
        }
    }

    fn forward(self, a: &Tensor, b: &Tensor, shape: &[usize]) -> Tensor {
        match a.device() {
            Device::Cpu if a.dtype() == Dtype::Bf16 => cpu::broadcast::<Bf16>(a, b, shape, |a, b| a + b),
            Device::Cpu => by_dtype!(a.dtype(), T => match self {
                Kind::Add => cpu::broadcast::<T>(a, b, shape, |a, b| a + b),
                Kind::Sub => cpu::broadcast::<T>(a, b, shape, |a, b| a - b),
                Kind::Mul => cpu::broadcast::<T>(a, b, shape, |a, b| a * b),
                Kind::Div => cpu::broadcast::<T>(a, b, shape, |a, b| a / b),
                Kind::Minimum => cpu::broadcast::<T>(a, b, shape, |a, b| if b.not_equal_to_itself() { b } else { Real::least(a, b) }),
                Kind::Maximum => cpu::broadcast::<T>(a, b, shape, |a, b| if b.not_equal_to_itself() { b } else { Real::greatest(a, b) }),
            }),
        }
    }
}

/// The shape two shapes broadcast to.
#[track_caller]
fn broadcast_shape(name: &str, a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let extent = |s: &[usize], i: usize| if i + s.len() < rank { 1 } else { s[i + s.len() - rank] };
    (0..rank)
        .map(|i| match (extent(a, i), extent(b, i)) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => panic!("{name}: shapes {a:?} and {b:?} do not broadcast"),
        })
        .collect()
}

struct Binary {
    kind: Kind,
    a_shape: Vec<usize>,
    b_shape: Vec<usize>,
}

#[track_caller]
fn apply(kind: Kind, a: &Tensor, b: &Tensor) -> Tensor {
    assert_eq!(a.dtype(), b.dtype(), "{}: element types differ", kind.name());
    let shape = broadcast_shape(kind.name(), a.shape(), b.shape());
    if a.dtype() == Dtype::Bf16 && kind != Kind::Add {
        return in_f32([a, b], |[a, b]| apply(kind, a, b));
    }
    let y = kind.forward(a, b, &shape);
    if !a.is_tracked() && !b.is_tracked() {
        return y;
    }
    record(Binary { kind, a_shape: a.shape().to_vec(), b_shape: b.shape().to_vec() }, &[a, b], y)
}

/// The sum of a broadcast gradient over what was repeated.
fn unbroadcast(grad: Tensor, shape: &[usize]) -> Tensor {
    if grad.shape() == shape {
        return grad;
    }
    let missing = grad.rank() - shape.len();
    let axes: Vec<usize> = (0..grad.rank()).filter(|&i| i < missing || (shape[i - missing] == 1 && grad.dim(i) != 1)).collect();
    grad.sum_keep(&axes).reshape(shape)
}

/// 1 where `a` is what the minimum or maximum chose, ½ where both are equal, 0 elsewhere; constant.
fn chosen(kind: Kind, a: &Tensor, b: &Tensor) -> Tensor {
    let difference = if kind == Kind::Maximum { a.detach().sub(&b.detach()) } else { b.detach().sub(&a.detach()) };
    &(&difference.sign() * 0.5) + 0.5
}

impl Op for Binary {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn keep(&self, tracked: &[bool]) -> Keep {
        match self.kind {
            Kind::Add | Kind::Sub => Keep::NOTHING,
            Kind::Mul => {
                let mut needed = Vec::new();
                if tracked[0] {
                    needed.push(1);
                }
                if tracked[1] {
                    needed.push(0);
                }
                Keep::inputs(&needed)
            }
            Kind::Div if !tracked[1] => Keep::inputs(&[1]),
            Kind::Div => Keep { output: true, ..Keep::inputs(&[1]) },
            Kind::Minimum | Kind::Maximum => Keep::inputs(&[0, 1]),
        }
    }

    fn vjp(&self, saved: &Saved, grad: &Tensor, needed: &[bool]) -> Vec<Option<Tensor>> {
        let to_a = |g: Tensor| Some(unbroadcast(g, &self.a_shape));
        let to_b = |g: Tensor| Some(unbroadcast(g, &self.b_shape));
        let (da, db): (Option<Tensor>, Option<Tensor>) = match self.kind {
            Kind::Add => (needed[0].then(|| grad.clone()).and_then(to_a), needed[1].then(|| grad.clone()).and_then(to_b)),
            Kind::Sub => {
                (needed[0].then(|| grad.clone()).and_then(to_a), needed[1].then(|| -&unbroadcast(grad.clone(), &self.b_shape)))
            }
            Kind::Mul => {
                (needed[0].then(|| grad * saved.input(1)).and_then(to_a), needed[1].then(|| grad * saved.input(0)).and_then(to_b))
            }
            Kind::Div => (
                needed[0].then(|| grad / saved.input(1)).and_then(to_a),
                needed[1].then(|| -&(&(grad * saved.output()) / saved.input(1))).and_then(to_b),
            ),
            Kind::Minimum | Kind::Maximum => {
                let mask = chosen(self.kind, saved.input(0), saved.input(1));
                (needed[0].then(|| grad * &mask).and_then(to_a), needed[1].then(|| grad * &(1.0 - &mask)).and_then(to_b))
            }
        };
        vec![da, db]
    }

    fn widens(&self) -> bool {
        // The gradient of a sum of equal shapes is that of both.
        self.a_shape != self.b_shape
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        let shape = broadcast_shape(self.kind.name(), &self.a_shape, &self.b_shape);
        let (ta, tb) = (tangents[0].as_ref(), tangents[1].as_ref());
        let from_a = ta.map(|t| match self.kind {
            Kind::Add | Kind::Sub => t.clone(),
            Kind::Mul => t * saved.input(1),
            Kind::Div => t / saved.input(1),
            Kind::Minimum | Kind::Maximum => t * &chosen(self.kind, saved.input(0), saved.input(1)),
        });
        let from_b = tb.map(|t| match self.kind {
            Kind::Add => t.clone(),
            Kind::Sub => -t,
            Kind::Mul => t * saved.input(0),
            Kind::Div => -&(&(t * saved.output()) / saved.input(1)),
            Kind::Minimum | Kind::Maximum => t * &(1.0 - &chosen(self.kind, saved.input(0), saved.input(1))),
        });
        match (from_a, from_b) {
            (Some(a), Some(b)) => &a + &b,
            (Some(t), None) | (None, Some(t)) => t.broadcast_to(&shape),
            (None, None) => unreachable!("jvp is called with a tangent"),
        }
    }
}

/// `x` repeated to `shape`.
pub(crate) fn repeat<T: crate::Element>(x: &Tensor, shape: &[usize]) -> Tensor {
    let unit = Tensor::zeros(&[], T::DTYPE);
    cpu::broadcast::<T>(x, &unit, shape, |x, _| x)
}

/// `a + b` of the same shape, in `a`'s memory (or `b`'s) where nothing else uses it.
pub(crate) fn add_into(mut a: Tensor, mut b: Tensor) -> Tensor {
    debug_assert_eq!(a.shape(), b.shape());
    if !a.is_unique() {
        std::mem::swap(&mut a, &mut b);
    }
    if !a.is_unique() || a.is_tracked() || b.is_tracked() {
        return &a + &b;
    }
    match a.device() {
        Device::Cpu => by_stored!(a.dtype(), T => cpu::add_assign::<T>(a.make_mut(), b.as_slice())),
    }
    a
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident $kind:ident)*) => {
        impl Tensor {
            $(
                $(#[$doc])*
                ///
                /// # Panics
                /// If the shapes do not broadcast or the types differ.
                #[track_caller]
                pub fn $name(&self, other: &Tensor) -> Tensor {
                    apply(Kind::$kind, self, other)
                }
            )*
        }
    };
}

methods! {
    /// `self + other`, broadcasting.
    add Add
    /// `self - other`, broadcasting.
    sub Sub
    /// `self · other` elementwise, broadcasting.
    mul Mul
    /// `self / other` elementwise, broadcasting.
    div Div
    /// The elementwise minimum, broadcasting; the gradient is shared equally where both are equal.
    minimum Minimum
    /// The elementwise maximum, broadcasting; the gradient is shared equally where both are equal.
    maximum Maximum
}

macro_rules! operator {
    ($($trait:ident $method:ident $scalar:expr, $reversed:expr;)*) => {
        $(
            impl ops::$trait<&Tensor> for &Tensor {
                type Output = Tensor;
                #[track_caller]
                fn $method(self, other: &Tensor) -> Tensor {
                    Tensor::$method(self, other)
                }
            }
            impl ops::$trait<f64> for &Tensor {
                type Output = Tensor;
                fn $method(self, c: f64) -> Tensor {
                    let scalar: fn(&Tensor, f64) -> Tensor = $scalar;
                    scalar(self, c)
                }
            }
            impl ops::$trait<&Tensor> for f64 {
                type Output = Tensor;
                fn $method(self, x: &Tensor) -> Tensor {
                    let reversed: fn(f64, &Tensor) -> Tensor = $reversed;
                    reversed(self, x)
                }
            }
        )*
    };
}

operator! {
    Add add |x, c| x.add_scalar(c), |c, x| x.add_scalar(c);
    Sub sub |x, c| x.add_scalar(-c), |c, x| x.neg().add_scalar(c);
    Mul mul |x, c| x.mul_scalar(c), |c, x| x.mul_scalar(c);
    Div div |x, c| x.mul_scalar(1.0 / c), |c, x| x.recip().mul_scalar(c);
}

impl ops::Neg for &Tensor {
    type Output = Tensor;
    fn neg(self) -> Tensor {
        Tensor::neg(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Noise, check};

    fn sample(shape: &[usize], step: u32) -> Tensor {
        let n = shape.iter().product::<usize>();
        &Noise::new(5, 0).uniform(&[1, n], 0, step, Dtype::F64).reshape(shape) + 0.4
    }

    type Method = fn(&Tensor, &Tensor) -> Tensor;
    const METHODS: [(&str, Method); 6] = [
        ("add", Tensor::add),
        ("sub", Tensor::sub),
        ("mul", Tensor::mul),
        ("div", Tensor::div),
        ("minimum", Tensor::minimum),
        ("maximum", Tensor::maximum),
    ];

    #[test]
    fn arithmetic_passes_the_op_checks_for_every_way_of_broadcasting() {
        let shapes: [(&[usize], &[usize]); 8] = [
            (&[3, 4], &[3, 4]),
            (&[3, 4], &[4]),
            (&[2, 3, 4], &[2, 1, 1]),
            (&[1, 4], &[3, 1]),
            (&[2, 1, 3, 1], &[4, 1, 5]),
            (&[3, 4], &[]),
            (&[1], &[3, 2]),
            (&[2, 3, 4], &[2, 1, 4]),
        ];
        for (name, f) in METHODS {
            for (a, b) in shapes {
                check::op(&format!("{name} {a:?} {b:?}"), |x| f(&x[0], &x[1]), &[sample(a, 0), sample(b, 1)]);
            }
        }
    }

    #[test]
    fn broadcasting_repeats_what_is_missing() {
        let a = Tensor::from_vec(&[2, 1, 2], vec![1.0f64, 2.0, 3.0, 4.0]);
        let b = Tensor::from_vec(&[3, 1], vec![10.0f64, 20.0, 30.0]);
        let y = &a + &b;
        assert_eq!(y.shape(), [2, 3, 2]);
        assert_eq!(y.to_vec::<f64>(), [11., 12., 21., 22., 31., 32., 13., 14., 23., 24., 33., 34.]);
    }

    #[test]
    #[should_panic(expected = "add: shapes [2, 3] and [2] do not broadcast")]
    fn shapes_that_do_not_broadcast_are_named() {
        let _ = &Tensor::zeros(&[2, 3], Dtype::F32) + &Tensor::zeros(&[2], Dtype::F32);
    }
}
