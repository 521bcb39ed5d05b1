//! Elementwise functions of one tensor: a table with one row per function.
//!
//! A row gives the value `f`, the derivative `d` as a function of the one saved tensor (the input `x` or the output `y`), and
//! the same derivative as tensor operations, from which a JVP is recorded.

mod cpu;

use std::marker::PhantomData;

use crate::element::Element;
use crate::element::num::Real;
use crate::graph::{Keep, Op, Saved, record};
use crate::tensor::{Tensor, by_dtype, in_f32};
use crate::{Device, Dtype};

macro_rules! unary {
    ($( $(#[$doc:meta])* $name:ident = $variant:ident { $($p:ident),* } saves $saves:ident
        f |$x:ident| $f:expr; d |$v:ident| $d:expr; tensor |$t:ident| $td:expr; )*) => {
        /// Which function, with its parameters.
        #[derive(Clone, Copy, Debug)]
        enum Unary { $( $variant { $($p: f64),* }, )* }

        impl Tensor {
            $(
                $(#[$doc])*
                pub fn $name(&self $(, $p: f64)*) -> Tensor {
                    apply(Unary::$variant { $($p),* }, self)
                }
            )*
        }

        #[allow(unused_variables)]
        impl Unary {
            fn name(self) -> &'static str {
                match self { $( Unary::$variant { .. } => stringify!($name), )* }
            }

            fn keep(self) -> Keep {
                match self { $( Unary::$variant { .. } => Keep::$saves(), )* }
            }

            fn forward(self, input: &Tensor) -> Tensor {
                match input.device() {
                    Device::Cpu => by_dtype!(input.dtype(), T => match self {
                        $( Unary::$variant { $($p),* } => {
                            cpu::map::<T, _>(input, functions::$variant { $( $p: <T as Real>::of($p), )* of: PhantomData })
                        } )*
                    }),
                }
            }

            /// `grad · d(saved)`.
            fn backward(self, saved: &Tensor, grad: &Tensor) -> Tensor {
                match saved.device() {
                    Device::Cpu => by_dtype!(saved.dtype(), T => match self {
                        $( Unary::$variant { $($p),* } => {
                            let f = functions::$variant { $( $p: <T as Real>::of($p), )* of: PhantomData };
                            cpu::times_slope::<T, _>(saved, grad, f)
                        } )*
                    }),
                }
            }

            /// The derivative, recorded.
            fn derivative(self, saved: &Tensor) -> Tensor {
                match self {
                    $( Unary::$variant { $($p),* } => { let $t = saved; $td } )*
                }
            }
        }

        /// The functions themselves: not closures, which compilers keep out of loops if they are long.
        #[allow(unused_variables)]
        mod functions {
            use super::*;
            $(
                #[derive(Clone, Copy)]
                pub(super) struct $variant<T> { $( pub(super) $p: T, )* pub(super) of: PhantomData<T> }

                impl<T: Element> cpu::Function<T> for $variant<T> {
                    #[inline(always)]
                    fn value(self, $x: T) -> T {
                        $( let $p = self.$p; )*
                        $f
                    }
                    #[inline(always)]
                    fn slope(self, $v: T) -> T {
                        $( let $p = self.$p; )*
                        $d
                    }
                }
            )*
        }

        #[cfg(test)]
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

impl Keep {
    fn x() -> Keep {
        Keep::inputs(&[0])
    }

    fn y() -> Keep {
        Keep::OUTPUT
    }
}

/// `t · silu'(z)`, not recorded.
pub(crate) fn times_silu_slope(z: &Tensor, t: &Tensor) -> Tensor {
    Unary::Silu {}.backward(z, t)
}

/// `√(2/π)/2 · 2 = 2/√π / √2`: the standard normal density at 0, `1/√(2π)`.
const NORMAL_DENSITY: f64 = 0.398_942_280_401_432_7;

unary! {
    /// `e^x`.
    exp = Exp {} saves y
        f |x| Real::exp(x); d |y| y; tensor |y| y.clone();
    /// Natural logarithm.
    ln = Ln {} saves x
        f |x| x.ln(); d |x| <T as Real>::ONE / x; tensor |x| x.recip();
    /// `1 / x`.
    recip = Recip {} saves y
        f |x| <T as Real>::ONE / x; d |y| -(y * y); tensor |y| -&y.square();
    /// Square root.
    sqrt = Sqrt {} saves y
        f |x| x.sqrt(); d |y| <T as Real>::of(0.5) / y; tensor |y| &y.recip() * 0.5;
    /// Sine.
    sin = Sin {} saves x
        f |x| x.sin(); d |x| x.cos(); tensor |x| x.cos();
    /// Cosine.
    cos = Cos {} saves x
        f |x| x.cos(); d |x| -x.sin(); tensor |x| -&x.sin();
    /// Hyperbolic tangent.
    tanh = Tanh {} saves y
        f |x| x.tanh(); d |y| <T as Real>::ONE - y * y; tensor |y| 1.0 - &y.square();
    /// `1 / (1 + e^-x)`.
    sigmoid = Sigmoid {} saves y
        f |x| Real::sigmoid(x); d |y| y * (<T as Real>::ONE - y); tensor |y| y - &y.square();
    /// SiLU (swish): `x · sigmoid(x)`.
    silu = Silu {} saves x
        f |x| x * Real::sigmoid(x);
        d |x| { let s = Real::sigmoid(x); s * (<T as Real>::ONE + x * (<T as Real>::ONE - s)) };
        tensor |x| { let s = x.sigmoid(); &s * &(&(x * &(1.0 - &s)) + 1.0) };
    /// GELU: `x · Φ(x)` with the exact normal distribution function.
    gelu = Gelu {} saves x
        f |x| x * <T as Real>::of(0.5) * (<T as Real>::ONE + Real::erf(x * <T as Real>::of(std::f64::consts::FRAC_1_SQRT_2)));
        d |x| {
            let half = <T as Real>::of(0.5);
            half * (<T as Real>::ONE + Real::erf(x * <T as Real>::of(std::f64::consts::FRAC_1_SQRT_2)))
                + x * Real::exp(-half * x * x) * <T as Real>::of(NORMAL_DENSITY)
        };
        tensor |x| {
            let density = &(&x.square() * -0.5).exp() * NORMAL_DENSITY;
            &(&(&(x * std::f64::consts::FRAC_1_SQRT_2).erf() * 0.5) + 0.5) + &(x * &density)
        };
    /// The error function.
    erf = Erf {} saves x
        f |x| Real::erf(x);
        d |x| Real::exp(-(x * x)) * <T as Real>::of(std::f64::consts::FRAC_2_SQRT_PI);
        tensor |x| &(-&x.square()).exp() * std::f64::consts::FRAC_2_SQRT_PI;
    /// `max(x, 0)`.
    relu = Relu {} saves x
        f |x| Real::greatest(x, <T as Real>::ZERO); d |x| step_of(x); tensor |x| x.step();
    /// `ln(1 + e^x)`, without overflow.
    softplus = Softplus {} saves x
        f |x| Real::greatest(x, <T as Real>::ZERO) + Real::ln_1p(Real::exp(-Real::abs(x)));
        d |x| Real::sigmoid(x); tensor |x| x.sigmoid();
    /// `|x|`; the derivative at 0 is 0.
    abs = Abs {} saves x
        f |x| Real::abs(x); d |x| sign_of(x); tensor |x| x.sign();
    /// `x²`.
    square = Square {} saves x
        f |x| x * x; d |x| x + x; tensor |x| x * 2.0;
    /// `-x`.
    neg = Neg {} saves nothing
        f |x| -x; d |_x| -<T as Real>::ONE; tensor |x| Tensor::full(x.shape(), -1.0, x.dtype());
    /// `x^p` for `x >= 0` (any `x` if `p` is an integer).
    powf = Powf { p } saves x
        f |x| Real::powf(x, p); d |x| p * Real::powf(x, p - <T as Real>::ONE); tensor |x| &x.powf(p - 1.0) * p;
    /// `x` limited to `[low, high]`; the derivative is 0 outside and 1 inside, ends included.
    clamp = Clamp { low, high } saves x
        f |x| Real::least(Real::greatest(x, low), high);
        d |x| if x >= low && x <= high { <T as Real>::ONE } else { <T as Real>::ZERO };
        tensor |x| x.inside(low, high);
    /// 1 where `low <= x <= high`, otherwise 0. The derivative is 0.
    inside = Inside { low, high } saves x
        f |x| if x >= low && x <= high { <T as Real>::ONE } else { <T as Real>::ZERO };
        d |_x| <T as Real>::ZERO; tensor |x| Tensor::zeros(x.shape(), x.dtype());
    /// 1 where `x > 0`, otherwise 0. The derivative is 0.
    step = Step {} saves x
        f |x| step_of(x); d |_x| <T as Real>::ZERO; tensor |x| Tensor::zeros(x.shape(), x.dtype());
    /// -1, 0 or 1. The derivative is 0.
    sign = Sign {} saves x
        f |x| sign_of(x); d |_x| <T as Real>::ZERO; tensor |x| Tensor::zeros(x.shape(), x.dtype());
    /// `x + c`.
    add_scalar = AddScalar { c } saves nothing
        f |x| x + c; d |_x| <T as Real>::ONE; tensor |x| Tensor::ones(x.shape(), x.dtype());
    /// `x · c`.
    mul_scalar = MulScalar { c } saves nothing
        f |x| x * c; d |_x| c; tensor |x| Tensor::full(x.shape(), c, x.dtype());
}

impl Keep {
    fn nothing() -> Keep {
        Keep::NOTHING
    }
}

#[inline(always)]
fn step_of<T: Real>(x: T) -> T {
    if x > T::ZERO { T::ONE } else { T::ZERO }
}

#[inline(always)]
fn sign_of<T: Real>(x: T) -> T {
    if x > T::ZERO {
        T::ONE
    } else if x < T::ZERO {
        -T::ONE
    } else {
        T::ZERO
    }
}

fn apply(op: Unary, input: &Tensor) -> Tensor {
    if input.dtype() == Dtype::Bf16 {
        return in_f32([input], |[x]| apply(op, x));
    }
    record(op, &[input], op.forward(input))
}

impl Op for Unary {
    fn name(&self) -> &'static str {
        (*self).name()
    }

    fn keep(&self, _: &[bool]) -> Keep {
        (*self).keep()
    }

    fn vjp(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Vec<Option<Tensor>> {
        let keep = (*self).keep();
        // A function that saves nothing is linear: its derivative does not look at its argument.
        let at = if keep.output {
            saved.output()
        } else if keep.inputs != 0 {
            saved.input(0)
        } else {
            grad
        };
        vec![Some((*self).backward(at, grad))]
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        let tangent = tangents[0].as_ref().expect("the only input");
        let keep = (*self).keep();
        match *self {
            Unary::Neg {} => -tangent,
            Unary::AddScalar { .. } => tangent.clone(),
            Unary::MulScalar { c } => tangent * c,
            _ => tangent * &(*self).derivative(if keep.output { saved.output() } else { saved.input(0) }),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn sample(shape: &[usize], low: f64, high: f64) -> Tensor {
        let u = crate::Noise::new(3, 0).uniform(shape, 0, 0, Dtype::F64);
        &(&u * (high - low)) + low
    }

    #[test]
    fn every_elementwise_function_passes_the_op_checks() {
        let any = sample(&[3, 5], -2.0, 2.0);
        let positive = sample(&[3, 5], 0.3, 2.0);
        for &name in NAMES {
            let x = if matches!(name, "ln" | "sqrt" | "powf" | "recip") { &positive } else { &any };
            crate::check::op(name, |inputs| call(name, &inputs[0]), std::slice::from_ref(x));
        }
    }

    /// The function of this name.
    pub(crate) fn call(name: &str, x: &Tensor) -> Tensor {
        match name {
            "exp" => x.exp(),
            "ln" => x.ln(),
            "recip" => x.recip(),
            "sqrt" => x.sqrt(),
            "sin" => x.sin(),
            "cos" => x.cos(),
            "tanh" => x.tanh(),
            "sigmoid" => x.sigmoid(),
            "silu" => x.silu(),
            "gelu" => x.gelu(),
            "erf" => x.erf(),
            "relu" => x.relu(),
            "softplus" => x.softplus(),
            "abs" => x.abs(),
            "square" => x.square(),
            "neg" => x.neg(),
            "powf" => x.powf(1.7),
            "clamp" => x.clamp(-0.8, 0.9),
            "inside" => x.inside(-0.8, 0.9),
            "step" => x.step(),
            "sign" => x.sign(),
            "add_scalar" => x.add_scalar(0.7),
            "mul_scalar" => x.mul_scalar(-1.3),
            other => panic!("{other} is in the table but not in this test"),
        }
    }

    #[test]
    fn f32_agrees_with_f64_for_every_elementwise_function() {
        let any = sample(&[1000], -3.0, 3.0);
        let positive = sample(&[1000], 0.3, 3.0);
        for &name in NAMES {
            let x = if matches!(name, "ln" | "sqrt" | "powf" | "recip") { &positive } else { &any };
            // Rounded first, so that both see the same input.
            let x32 = x.to(Dtype::F32);
            let exact = call(name, &x32.to(Dtype::F64));
            let got = call(name, &x32).to_vec::<f64>();
            for (g, e) in got.iter().zip(exact.to_vec::<f64>()) {
                assert!((g - e).abs() <= 1e-6 * (1.0 + e.abs()), "{name}: {g} for {e}");
            }
        }
    }

    #[test]
    fn nan_passes_through_clamp_and_relu() {
        let x = Tensor::from_vec(&[1], vec![f32::NAN]);
        assert!(x.clamp(-1.0, 1.0).item().is_nan());
        assert!(x.relu().item().is_nan());
    }
}
