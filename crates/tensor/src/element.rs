//! Element types and the traits the kernels are generic over.

use crate::pool::Pool;

/// The element type of a [`Tensor`](crate::Tensor), known at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit floating point: what networks train and sample in.
    F32,
    /// 64-bit floating point: what formulas are verified in.
    F64,
    /// 16-bit floating point, [`Bf16`](crate::Bf16): what networks may keep their weights and activations in. It is storage: every sum,
    /// statistic and exponential is computed in `f32`, and each operation rounds its result once, to nearest (relative error 2⁻⁸).
    ///
    /// - Read and written as they are: `linear`, `linear_with`, `conv2d`, `conv2d_plus`, `group_norm`, `attention`, `add`,
    ///   `upsample_nearest`, and whatever moves elements (`reshape`, `permute`, `slice`, `concat`, `pad`, `gather`). Products of two such
    ///   numbers are exact in `f32`; with AVX-512-BF16 two are added at once. Attention rounds its probabilities too.
    /// - All other operations widen to `f32`, compute there and round.
    /// - Derivatives, both ways, are computed in `f32` from the widened operands and rounded once for each operation.
    /// - Optimisers, averages, combinations of solver states and noise are for `f32` and `f64`, and refuse it.
    ///
    /// [`Tensor::to`](crate::Tensor::to) converts, and takes gradients back to the type it came from.
    Bf16,
}

impl Dtype {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Dtype::Bf16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Dtype::Bf16 => "bf16",
            Dtype::F32 => "f32",
            Dtype::F64 => "f64",
        })
    }
}

/// A type tensors can hold: `f32`, `f64` or [`Bf16`](crate::Bf16). Sealed.
pub trait Stored: Copy + Send + Sync + Default + PartialOrd + std::fmt::Debug + sealed::Sealed + 'static {
    /// The run-time name of this type.
    const DTYPE: Dtype;
    /// The nearest number of this type.
    fn from_f64(x: f64) -> Self;
    /// The same number.
    fn to_f64(self) -> f64;
    #[doc(hidden)]
    fn pool() -> &'static Pool<Self>;
    #[doc(hidden)]
    fn unwrap_storage(storage: &crate::storage::CpuStorage) -> Option<&std::sync::Arc<crate::storage::Buffer<Self>>>;
    #[doc(hidden)]
    fn unwrap_storage_mut(storage: &mut crate::storage::CpuStorage) -> Option<&mut std::sync::Arc<crate::storage::Buffer<Self>>>;
    #[doc(hidden)]
    fn wrap_storage(buffer: crate::storage::Buffer<Self>) -> crate::storage::CpuStorage;
}

/// A type that is computed with: `f32` or `f64`.
pub trait Element: Stored + num::Real {}
impl Element for f32 {}
impl Element for f64 {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::Bf16 {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// Scalar arithmetic the kernels use.
pub mod num {
    use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

    /// Real scalar functions. The `f32` versions of `exp` and what is built on it are branch-free
    /// polynomials, so that loops over them vectorise; they agree with the exact value to about 2 ulp.
    pub trait Real:
        Sized
        + Copy
        + PartialOrd
        + Add<Output = Self>
        + Sub<Output = Self>
        + Mul<Output = Self>
        + Div<Output = Self>
        + Neg<Output = Self>
        + AddAssign
    {
        /// Zero.
        const ZERO: Self;
        /// One.
        const ONE: Self;
        /// Rounds from `f64`.
        fn of(x: f64) -> Self;
        /// Widens to `f64`.
        fn wide(self) -> f64;
        /// `e^x`.
        fn exp(self) -> Self;
        /// Natural logarithm.
        fn ln(self) -> Self;
        /// Square root.
        fn sqrt(self) -> Self;
        /// Sine.
        fn sin(self) -> Self;
        /// Cosine.
        fn cos(self) -> Self;
        /// Hyperbolic tangent.
        fn tanh(self) -> Self;
        /// The error function.
        fn erf(self) -> Self;
        /// `x^p`.
        fn powf(self, p: Self) -> Self;
        /// `ln(1 + x)`.
        fn ln_1p(self) -> Self;
        /// `|x|`.
        fn abs(self) -> Self;
        /// `1 / (1 + e^-x)`.
        #[inline(always)]
        fn sigmoid(self) -> Self {
            Self::ONE / (Self::ONE + (-self).exp())
        }
        /// The smaller one; NaN if either is.
        #[inline(always)]
        fn least(self, other: Self) -> Self {
            if self < other || self.not_equal_to_itself() { self } else { other }
        }
        /// The larger one; NaN if either is.
        #[inline(always)]
        fn greatest(self, other: Self) -> Self {
            if self > other || self.not_equal_to_itself() { self } else { other }
        }
        /// Whether this is a NaN.
        fn not_equal_to_itself(self) -> bool;
    }

    impl Real for f64 {
        const ZERO: f64 = 0.0;
        const ONE: f64 = 1.0;
        #[inline(always)]
        fn of(x: f64) -> f64 {
            x
        }
        #[inline(always)]
        fn wide(self) -> f64 {
            self
        }
        #[inline(always)]
        fn exp(self) -> f64 {
            f64::exp(self)
        }
        #[inline(always)]
        fn ln(self) -> f64 {
            f64::ln(self)
        }
        #[inline(always)]
        fn sqrt(self) -> f64 {
            f64::sqrt(self)
        }
        #[inline(always)]
        fn sin(self) -> f64 {
            f64::sin(self)
        }
        #[inline(always)]
        fn cos(self) -> f64 {
            f64::cos(self)
        }
        #[inline(always)]
        fn tanh(self) -> f64 {
            f64::tanh(self)
        }
        #[inline(always)]
        fn erf(self) -> f64 {
            libm::erf(self)
        }
        #[inline(always)]
        fn powf(self, p: f64) -> f64 {
            f64::powf(self, p)
        }
        #[inline(always)]
        fn ln_1p(self) -> f64 {
            f64::ln_1p(self)
        }
        #[inline(always)]
        fn abs(self) -> f64 {
            f64::abs(self)
        }
        #[inline(always)]
        fn not_equal_to_itself(self) -> bool {
            self.is_nan()
        }
    }

    impl Real for f32 {
        const ZERO: f32 = 0.0;
        const ONE: f32 = 1.0;
        #[inline(always)]
        fn of(x: f64) -> f32 {
            x as f32
        }
        #[inline(always)]
        fn wide(self) -> f64 {
            f64::from(self)
        }
        #[inline(always)]
        fn exp(self) -> f32 {
            exp_f32(self)
        }
        #[inline(always)]
        fn ln(self) -> f32 {
            f32::ln(self)
        }
        #[inline(always)]
        fn sqrt(self) -> f32 {
            f32::sqrt(self)
        }
        #[inline(always)]
        fn sin(self) -> f32 {
            f32::sin(self)
        }
        #[inline(always)]
        fn cos(self) -> f32 {
            f32::cos(self)
        }
        #[inline(always)]
        fn tanh(self) -> f32 {
            f32::tanh(self)
        }
        #[inline(always)]
        fn erf(self) -> f32 {
            erf_f32(self)
        }
        #[inline(always)]
        fn powf(self, p: f32) -> f32 {
            f32::powf(self, p)
        }
        #[inline(always)]
        fn ln_1p(self) -> f32 {
            f32::ln_1p(self)
        }
        #[inline(always)]
        fn abs(self) -> f32 {
            f32::abs(self)
        }
        #[inline(always)]
        fn not_equal_to_itself(self) -> bool {
            self.is_nan()
        }
    }

    /// `e^x` without branches: `x = n ln 2 + r` with `|r| <= ln 2 / 2`, a degree-6 polynomial for `e^r`, and
    /// `2^n` written into the exponent bits. Below `ln(f32::MIN_POSITIVE)` the result is 0, above
    /// `ln(f32::MAX)` it is infinite.
    #[inline(always)]
    fn exp_f32(x: f32) -> f32 {
        const LOWEST: f32 = -87.336_54;
        const HIGHEST: f32 = 88.722_84;
        // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low mantissa bits.
        const ROUND: f32 = 12_582_912.0;
        // ln 2 in two parts, the first exact in products with |n| <= 128.
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        let clamped = x.clamp(LOWEST, HIGHEST);
        let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
        // Minimax coefficients of e^r on [-ln2/2, ln2/2], after 1 + r.
        let p = 1.987_569_1e-4;
        let p = p * r + 1.398_2e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 1.666_666_5e-1;
        let p = p * r + 0.5;
        let e_r = p * (r * r) + r + 1.0;
        // 2^n as a product of two factors, since 2^128 is not a float.
        let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        let half = n >> 1;
        let power = |k: i32| f32::from_bits((k.wrapping_add(127) << 23) as u32);
        let y = e_r * power(half) * power(n.wrapping_sub(half));
        let y = if x < LOWEST { 0.0 } else { y };
        if x > HIGHEST { f32::INFINITY } else { y }
    }

    /// The error function without branches: `x P(x²)` for `|x| < 7/8`, elsewhere `1 − e^(−x²) t Q(t)` with `t = 1/(1 + |x|/2)`. The
    /// polynomials are minimax fits to relative errors of 1e-8.
    #[inline(always)]
    fn erf_f32(x: f32) -> f32 {
        const P: [f32; 6] =
            [std::f32::consts::FRAC_2_SQRT_PI, -0.376_125_5, 0.112_824_55, -0.026_791_463, 0.005_032_181, -0.000_620_325_3];
        const Q: [f32; 8] =
            [0.282_317_16, 0.278_619_8, 0.269_638_6, 0.096_163_33, 0.239_585_76, -0.146_498_53, -0.065_057_55, 0.045_403_3];
        // The result is 1 to the last bit from 4 on.
        let a = f32::abs(x).least(4.0);
        let z = a * a;
        let t = 1.0 / (1.0 + 0.5 * a);
        let (mut p, mut q) = (P[5], Q[7]);
        for k in 1..6 {
            p = p * z + P[5 - k];
        }
        for k in 1..8 {
            q = q * t + Q[7 - k];
        }
        let y = if a < 0.875 { a * p } else { 1.0 - exp_f32(-z) * (t * q) };
        y.copysign(x)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn f32_erf_is_within_3_ulp_odd_and_handles_the_ends() {
            let mut worst = 0.0f64;
            let mut x = 1e-6f32;
            while x < 5.0 {
                let exact = libm::erf(f64::from(x));
                worst = worst.max((f64::from(Real::erf(x)) / exact - 1.0).abs());
                assert_eq!(Real::erf(-x), -Real::erf(x));
                x += 0.000_017;
            }
            assert!(worst < 2e-7, "worst relative error {worst:e}");
            assert_eq!(Real::erf(0.0f32), 0.0);
            assert!((Real::erf(1e-30f32) / (std::f32::consts::FRAC_2_SQRT_PI * 1e-30) - 1.0).abs() < 2e-7);
            assert_eq!(Real::erf(f32::INFINITY), 1.0);
            assert_eq!(Real::erf(f32::NEG_INFINITY), -1.0);
            assert!(Real::erf(f32::NAN).is_nan());
        }

        #[test]
        fn f32_exp_is_within_2_ulp_and_handles_the_ends() {
            let mut worst = 0.0f64;
            let mut x = -87.3f32;
            while x < 88.7 {
                let exact = f64::from(x).exp();
                worst = worst.max((f64::from(Real::exp(x)) / exact - 1.0).abs());
                x += 0.000_913;
            }
            assert!(worst < 2.5e-7, "worst relative error {worst:e}");
            assert_eq!(Real::exp(0.0f32), 1.0);
            assert_eq!(Real::exp(-200.0f32), 0.0);
            assert_eq!(Real::exp(f32::NEG_INFINITY), 0.0);
            assert_eq!(Real::exp(89.0f32), f32::INFINITY);
            assert!(Real::exp(f32::NAN).is_nan());
        }
    }
}
