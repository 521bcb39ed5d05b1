//! What becomes of random words.
//!
//! Many counters are worked on at once, in loops over lanes that compilers turn into vectors. Only operations that IEEE 754 defines to
//! the last bit are used, and none is fused: results have the same bits with vectors of any length and on every platform.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, TAU};

use pulp::NullaryFnOnce;

use super::philox::philox_lanes;
use crate::element::Element;

/// Counters worked on at once.
const LANES: usize = 16;

/// `[i][lane]`.
type Four<T> = [[T; LANES]; 4];

/// How words become numbers.
pub(super) trait Values: Copy + Sync {
    /// Four numbers of four words in each lane; only the first `wanted` of them are of interest.
    fn of(self, words: &Four<u32>, wanted: usize) -> Four<f64>;
}

/// Standard normal, by Box and Muller's method.
#[derive(Clone, Copy)]
pub(super) struct Normal;

impl Values for Normal {
    #[inline(always)]
    fn of(self, words: &Four<u32>, wanted: usize) -> Four<f64> {
        let mut values = [[0.0; LANES]; 4];
        let [a, b, c, d] = &mut values;
        normal_lanes(&words[0], &words[1], a, b);
        if wanted > 2 {
            normal_lanes(&words[2], &words[3], c, d);
        }
        values
    }
}

/// [`box_muller`] in every lane.
#[inline(always)]
fn normal_lanes(a: &[u32; LANES], b: &[u32; LANES], x: &mut [f64; LANES], y: &mut [f64; LANES]) {
    let mut radius = [0.0; LANES];
    for (radius, a) in radius.iter_mut().zip(a) {
        *radius = (-2.0 * ln(open_unit(*a))).sqrt();
    }
    // One loop for each step of `cos_sin`: in one, compilers give up.
    let (mut cos, mut sin) = ([0.0; LANES], [0.0; LANES]);
    for lane in 0..LANES {
        [cos[lane], sin[lane]] = near_axis(b[lane]);
    }
    for lane in 0..LANES {
        let [cos, sin] = turned(b[lane], cos[lane], sin[lane]);
        x[lane] = radius[lane] * cos;
        y[lane] = radius[lane] * sin;
    }
}

/// One number of each word.
#[inline(always)]
fn each(words: &Four<u32>, value: impl Fn(u32) -> f64) -> Four<f64> {
    let mut values = [[0.0; LANES]; 4];
    for (values, words) in values.iter_mut().zip(words) {
        for (x, word) in values.iter_mut().zip(words) {
            *x = value(*word);
        }
    }
    values
}

/// Uniform in (0, 1), at most `most`.
#[derive(Clone, Copy)]
pub(super) struct Uniform {
    pub(super) most: f64,
}

impl Values for Uniform {
    #[inline(always)]
    fn of(self, words: &Four<u32>, _: usize) -> Four<f64> {
        each(words, |word| open_unit(word).min(self.most))
    }
}

/// -1 or 1.
#[derive(Clone, Copy)]
pub(super) struct Rademacher;

impl Values for Rademacher {
    #[inline(always)]
    fn of(self, words: &Four<u32>, _: usize) -> Four<f64> {
        each(words, |word| if word >> 31 == 0 { 1.0 } else { -1.0 })
    }
}

/// Rows of `each` elements from `first_sample` on, their blocks from `first_block` on.
pub(super) struct Fill<'a, T, V> {
    pub(super) out: &'a mut [T],
    pub(super) each: usize,
    pub(super) key: [u32; 2],
    pub(super) first_sample: u64,
    pub(super) step: u32,
    pub(super) first_block: u32,
    pub(super) values: V,
}

impl<T: Element, V: Values> NullaryFnOnce for Fill<'_, T, V> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let (mut sample, mut block, mut rest) = (self.first_sample, 0, self.out);
        while !rest.is_empty() {
            let mut counters: Four<u32> = [[0; LANES], [self.step; LANES], [0; LANES], [0; LANES]];
            let words = |sample: u64| [sample as u32, (sample >> 32) as u32];
            let number = |block: usize| self.first_block.wrapping_add(block as u32);
            if self.each - 4 * block >= 4 * LANES {
                // All of one sample: most of a large one.
                counters[0].iter_mut().enumerate().for_each(|(lane, word)| *word = number(block + lane));
                let [low, high] = words(sample);
                (counters[2], counters[3]) = ([low; LANES], [high; LANES]);
                let values = self.values.of(&philox_lanes(counters, self.key), self.each);
                let (out, after) = rest.split_at_mut(4 * LANES);
                for (lane, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                    *out = [T::of(values[0][lane]), T::of(values[1][lane]), T::of(values[2][lane]), T::of(values[3][lane])];
                }
                rest = after;
                block += LANES;
                if 4 * block >= self.each {
                    (sample, block) = (sample.wrapping_add(1), 0);
                }
                continue;
            }
            // How many elements each lane is for.
            let mut sizes = [0; LANES];
            let mut left = rest.len();
            for (lane, size) in sizes.iter_mut().enumerate() {
                *size = left.min(self.each - 4 * block).min(4);
                left -= *size;
                counters[0][lane] = number(block);
                [counters[2][lane], counters[3][lane]] = words(sample);
                block += 1;
                if 4 * block >= self.each {
                    (sample, block) = (sample.wrapping_add(1), 0);
                }
            }
            let values = self.values.of(&philox_lanes(counters, self.key), self.each);
            for (lane, &size) in sizes.iter().enumerate() {
                let (out, after) = rest.split_at_mut(size);
                for (i, out) in out.iter_mut().enumerate() {
                    *out = T::of(values[i][lane]);
                }
                rest = after;
            }
        }
    }
}

/// (0, 1): the middle of one of 2³² equal cells.
#[inline(always)]
pub(super) fn open_unit(word: u32) -> f64 {
    (f64::from(word) + 0.5) / 4_294_967_296.0
}

/// Two independent standard normal numbers: `√(−2 ln u) (cos 2πv, sin 2πv)`.
#[inline(always)]
pub(super) fn box_muller(a: u32, b: u32) -> [f64; 2] {
    let radius = (-2.0 * ln(open_unit(a))).sqrt();
    let [cos, sin] = cos_sin(b);
    [radius * cos, radius * sin]
}

/// `ln u = e ln 2 + 2 artanh s` with `u = 2^e m`, `m` in `[√½, √2)` and `s = (m − 1)/(m + 1)`, for normal positive `u`.
#[inline(always)]
fn ln(u: f64) -> f64 {
    // Eleven terms: the next is below 2⁻⁶⁰ of the sum.
    const TERMS: usize = 11;
    let bits = u.to_bits();
    let e = (bits.wrapping_sub(FRAC_1_SQRT_2.to_bits()) as i64 >> 52) as i32;
    let m = f64::from_bits(bits.wrapping_sub((i64::from(e) << 52) as u64));
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut sum = 1.0 / (2 * TERMS - 1) as f64;
    for k in (0..TERMS - 1).rev() {
        sum = sum * z + 1.0 / (2 * k + 1) as f64;
    }
    f64::from(e) * LN_2 + 2.0 * s * sum
}

/// Cosine and sine of `2π (word + ½)/2³²`.
#[inline(always)]
fn cos_sin(word: u32) -> [f64; 2] {
    let [cos, sin] = near_axis(word);
    turned(word, cos, sin)
}

/// The nearest axis, in quarters of a turn.
#[inline(always)]
fn axis(word: u32) -> u32 {
    word.wrapping_add(1 << 29) >> 30
}

/// Those of the angle from the nearest axis, at most π/4 and exact, by their series.
#[inline(always)]
fn near_axis(word: u32) -> [f64; 2] {
    let rest = word.wrapping_sub(axis(word) << 30) as i32;
    let x = (f64::from(rest) + 0.5) * (TAU / 4_294_967_296.0);
    let z = x * x;
    // Terms to x¹⁶ and x¹⁷: the next are below 2⁻⁵⁸.
    let (mut cos, mut sin) = (1.0, 1.0);
    for k in (1..9).rev() {
        cos = 1.0 - cos * (z * (1.0 / ((2 * k - 1) * 2 * k) as f64));
        sin = 1.0 - sin * (z * (1.0 / (2 * k * (2 * k + 1)) as f64));
    }
    [cos, x * sin]
}

/// Those of the whole angle: (c, s), (−s, c), (−c, −s) or (s, −c), without a branch.
#[inline(always)]
fn turned(word: u32, cos: f64, sin: f64) -> [f64; 2] {
    let axis = u64::from(axis(word));
    let exchanged = (cos.to_bits() ^ sin.to_bits()) * (axis & 1);
    let negative = |quarters: u64| (quarters & 2) << 62;
    [f64::from_bits(cos.to_bits() ^ exchanged ^ negative(axis + 1)), f64::from_bits(sin.to_bits() ^ exchanged ^ negative(axis))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_sines_and_cosines_are_those_of_libm_to_the_last_bits() {
        let edges =
            [0, 1, 2, 0x3fff_ffff, 0x4000_0000, 0x2000_0000, 0x1fff_ffff, 0x8000_0000, 0xb504_f333, u32::MAX - 1, u32::MAX];
        let many = (0..200_000u32).map(|i| i.wrapping_mul(0x9e37_79b9));
        for word in edges.into_iter().chain(many) {
            let u = open_unit(word);
            let (found, expected) = (ln(u), libm::log(u));
            assert!((found - expected).abs() <= 4e-16 * expected.abs(), "ln {u}: {found} and {expected}");
            let [cos, sin] = cos_sin(word);
            // libm's angle is rounded, which its value cannot be better than.
            let (s, c) = libm::sincos(TAU * u);
            assert!((cos - c).abs() < 1e-15 && (sin - s).abs() < 1e-15, "{u}: {cos}, {sin} and {c}, {s}");
        }
    }
}
