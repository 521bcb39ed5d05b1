//! Numbers of 16 bits with the exponent of an `f32`: storage for networks, never arithmetic.
//!
//! ```text
//! sign 1, exponent 8, fraction 7 bits      round(x) = x (1 + δ), |δ| ≤ 2⁻⁸ for normal x
//! ```
//!
//! Every number is one of `f32` with the lower half of its bits zero: reading is a shift. Writing rounds to nearest, ties to even, and keeps
//! subnormal numbers, on every machine alike.

use pulp::NullaryFnOnce;

use crate::par;
use crate::simd;

/// A number of 16 bits: sign, the 8 bits of an `f32`'s exponent, 7 bits of fraction.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub struct Bf16(u16);

impl Bf16 {
    /// From its bits.
    pub const fn from_bits(bits: u16) -> Bf16 {
        Bf16(bits)
    }

    /// Its bits.
    pub const fn to_bits(self) -> u16 {
        self.0
    }

    /// The nearest number, of two the even one; NaN stays NaN.
    #[inline(always)]
    pub fn from_f32(x: f32) -> Bf16 {
        let bits = x.to_bits();
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        // A NaN whose upper bits are those of infinity gets one that is not.
        let nan = bits >> 16 | 0x40;
        Bf16(if x.is_nan() { nan } else { nearest } as u16)
    }

    /// The same number.
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    /// The nearest number, rounded once.
    pub fn from_f64(x: f64) -> Bf16 {
        let near = x as f32;
        if f64::from(near) == x || x.is_nan() {
            return Bf16::from_f32(near);
        }
        // Towards zero, with the lowest bit set for what was cut off: the second rounding then sees which side x is on.
        let toward_zero = if f64::from(near.abs()) > x.abs() { near.to_bits() - 1 } else { near.to_bits() };
        Bf16::from_f32(f32::from_bits(toward_zero | 1))
    }
}

impl PartialEq for Bf16 {
    fn eq(&self, other: &Bf16) -> bool {
        self.to_f32() == other.to_f32()
    }
}

impl PartialOrd for Bf16 {
    fn partial_cmp(&self, other: &Bf16) -> Option<std::cmp::Ordering> {
        self.to_f32().partial_cmp(&other.to_f32())
    }
}

impl std::fmt::Debug for Bf16 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_f32().fmt(f)
    }
}

/// The sum in `f32`, rounded.
impl std::ops::Add for Bf16 {
    type Output = Bf16;
    #[inline(always)]
    fn add(self, other: Bf16) -> Bf16 {
        Bf16::from_f32(self.to_f32() + other.to_f32())
    }
}

/// Widens every number.
pub(crate) struct Widen<'a> {
    pub(crate) x: &'a [Bf16],
    pub(crate) y: &'a mut [f32],
}

impl NullaryFnOnce for Widen<'_> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for (y, x) in self.y.iter_mut().zip(self.x) {
            *y = x.to_f32();
        }
    }
}

/// Rounds every number.
pub(crate) struct Narrow<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) y: &'a mut [Bf16],
}

impl NullaryFnOnce for Narrow<'_> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = Bf16::from_f32(x);
        }
    }
}

/// `y = x`, widened.
pub(crate) fn widen(x: &[Bf16], y: &mut [f32]) {
    par::pieces(y, par::PIECE, x.len(), |i, y| simd::widest(Widen { x: &x[i * par::PIECE..][..y.len()], y }));
}

/// `y = x`, rounded.
pub(crate) fn narrow(x: &[f32], y: &mut [Bf16]) {
    par::pieces(y, par::PIECE, x.len(), |i, y| simd::widest(Narrow { x: &x[i * par::PIECE..][..y.len()], y }));
}

/// A few numbers, widened.
pub(crate) fn widened(x: &[Bf16]) -> Vec<f32> {
    x.iter().map(|x| x.to_f32()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives_and_what_lies_between_two_goes_to_the_nearer_or_the_even_one() {
        for bits in 0..=u16::MAX {
            let x = Bf16(bits);
            if x.to_f32().is_nan() {
                assert!(Bf16::from_f32(x.to_f32()).to_f32().is_nan());
                continue;
            }
            assert_eq!(Bf16::from_f32(x.to_f32()).0, bits);
            assert_eq!(Bf16::from_f64(f64::from(x.to_f32())).0, bits);
            let above = Bf16(bits.wrapping_add(1));
            // The next number in magnitude; infinity stands for 2¹²⁸.
            if !x.to_f32().is_finite() || above.to_f32().is_nan() {
                continue;
            }
            let next =
                if above.to_f32().is_finite() { f64::from(above.to_f32()) } else { 2f64.powi(128).copysign(x.to_f32().into()) };
            let middle = 0.5 * (f64::from(x.to_f32()) + next);
            let even = if bits & 1 == 0 { bits } else { above.0 };
            assert_eq!(Bf16::from_f64(middle).0, even, "halfway above {x:?}");
            assert_eq!(Bf16::from_f32(middle as f32).0, even, "halfway above {x:?}");
            let away = |towards: f64| middle + (towards - middle) * 1e-12;
            assert_eq!(Bf16::from_f64(away(x.to_f32().into())).0, bits, "just below the middle above {x:?}");
            assert_eq!(Bf16::from_f64(away(next)).0, above.0, "just above the middle above {x:?}");
        }
    }

    #[test]
    fn the_vectorised_loops_do_what_one_number_does() {
        let x: Vec<f32> =
            (0..40_000u32).map(|i| f32::from_bits(i.wrapping_mul(0x9E37_79B9))).chain([f32::NAN, f32::INFINITY]).collect();
        let mut y = vec![Bf16::default(); x.len()];
        narrow(&x, &mut y);
        let mut z = vec![0.0; x.len()];
        widen(&y, &mut z);
        for ((&x, y), z) in x.iter().zip(&y).zip(z) {
            assert_eq!(y.0, Bf16::from_f32(x).0, "{x}");
            assert_eq!(z.to_bits(), y.to_f32().to_bits());
            assert_eq!(z.is_nan(), x.is_nan());
            if x.is_normal() && z.is_finite() {
                assert!((z - x).abs() <= x.abs() * 2f32.powi(-8), "{x} becomes {z}");
            }
        }
    }
}
