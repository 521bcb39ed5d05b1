//! Counter-based random numbers.
//!
//! Every number is a pure function of (seed, stream, sample, step, element): the same whatever the batch size, the
//! number of threads, the device or the order of drawing. There is no state and no global generator.

mod brownian;
mod philox;
mod values;

pub use brownian::{Brownian, Increment, Point};
use ndarray_rand::rand::RngCore;
pub use philox::philox4x32_10;
use values::{Fill, Normal, Rademacher, Uniform, Values};

use crate::element::{Dtype, Element};
use crate::par;
use crate::simd;
use crate::tensor::{Tensor, by_dtype, count};

/// A source of random numbers: Philox 4×32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) keyed by
/// a seed and a stream. Different uses of randomness in one program take different streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    /// The user's seed.
    pub seed: u64,
    /// What the numbers are for.
    pub stream: u64,
}

/// The stream of a name: its first eight bytes, so that no two uses share numbers by accident.
pub const fn stream(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut key = 0;
    let mut i = 0;
    while i < 8 {
        key = (key << 8) | if i < bytes.len() { bytes[i] as u64 } else { 0 };
        i += 1;
    }
    key
}

/// SplitMix64's output function: a bijection that spreads close seeds and streams over all keys.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Noise {
    /// The numbers of this seed and stream.
    pub fn new(seed: u64, stream: u64) -> Noise {
        Noise { seed, stream }
    }

    fn key(self) -> [u32; 2] {
        let key = mix(mix(self.seed) ^ self.stream);
        [key as u32, (key >> 32) as u32]
    }

    /// Four words at one counter: block `block` of `step` of `sample`.
    fn words(key: [u32; 2], sample: u64, step: u32, block: u32) -> [u32; 4] {
        philox4x32_10([block, step, sample as u32, (sample >> 32) as u32], key)
    }

    /// Fills `[B, ...]` with the values of four words each; sample `i` of the batch has index `first_sample + i`.
    #[track_caller]
    fn draw(self, shape: &[usize], first_sample: u64, step: u32, dtype: Dtype, values: impl Values) -> Tensor {
        assert!(!shape.is_empty(), "noise: the shape needs a sample axis");
        let each = count(&shape[1..]);
        assert!(each.div_ceil(4) <= u32::MAX as usize, "noise: {each} elements per sample");
        let key = self.key();
        by_dtype!(dtype, T => Tensor::build(shape, |out: &mut [T]| {
            // Samples are cut into pieces so that a single large one is shared by the threads too.
            const BLOCKS: usize = 1024;
            let fill = |first_sample: u64, first_block: usize, each: usize, out: &mut [T]| {
                simd::widest(Fill { out, each, key, first_sample, step, first_block: first_block as u32, values });
            };
            if each <= 4 * BLOCKS {
                let samples = (4 * BLOCKS / each.max(1)).max(1);
                let cost = 8 * out.len();
                par::pieces(out, samples * each, cost, |i, out| fill(first_sample + (i * samples) as u64, 0, each, out));
            } else {
                for (i, out) in out.chunks_mut(each).enumerate() {
                    par::pieces(out, 4 * BLOCKS, 8 * each, |j, out| fill(first_sample + i as u64, j * BLOCKS, out.len(), out));
                }
            }
        }))
    }

    /// Standard normal numbers of shape `[B, ...]` by Box and Muller's method in `f64`, so that `f32` numbers are the `f64`
    /// ones rounded. Largest magnitude 6.76.
    ///
    /// # Panics
    /// If the shape is empty.
    #[track_caller]
    pub fn normal(self, shape: &[usize], first_sample: u64, step: u32, dtype: Dtype) -> Tensor {
        self.draw(shape, first_sample, step, dtype, Normal)
    }

    /// Numbers uniform in the open interval (0, 1), multiples of 2⁻³² shifted by 2⁻³³, of shape `[B, ...]`.
    ///
    /// # Panics
    /// If the shape is empty.
    #[track_caller]
    pub fn uniform(self, shape: &[usize], first_sample: u64, step: u32, dtype: Dtype) -> Tensor {
        // Rounded to f32, the largest would be 1.
        let most = if dtype == Dtype::F32 { f64::from(1.0f32.next_down()) } else { 1.0 };
        self.draw(shape, first_sample, step, dtype, Uniform { most })
    }

    /// -1 or 1 with equal probability, of shape `[B, ...]`.
    ///
    /// # Panics
    /// If the shape is empty.
    #[track_caller]
    pub fn rademacher(self, shape: &[usize], first_sample: u64, step: u32, dtype: Dtype) -> Tensor {
        self.draw(shape, first_sample, step, dtype, Rademacher)
    }

    /// The numbers of one (sample, step) as a generator for `rand`'s distributions.
    pub fn rng(self, sample: u64, step: u32) -> PhiloxRng {
        PhiloxRng { key: self.key(), sample, step, block: 0, words: [0; 4], used: 4 }
    }
}

/// A generator for the `rand` ecosystem over the numbers of one (seed, stream, sample, step).
#[derive(Clone, Debug)]
pub struct PhiloxRng {
    key: [u32; 2],
    sample: u64,
    step: u32,
    block: u32,
    words: [u32; 4],
    used: usize,
}

impl RngCore for PhiloxRng {
    fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.words = Noise::words(self.key, self.sample, self.step, self.block);
            self.block = self.block.checked_add(1).expect("a Philox stream has 2^34 numbers");
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(4) {
            chunk.copy_from_slice(&self.next_u32().to_le_bytes()[..chunk.len()]);
        }
    }
}

impl PhiloxRng {
    /// A number of `0..n`. The high half of a 64×64-bit product: its bias is below `n / 2^64`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// An array of this shape with elements drawn from a distribution.
    pub fn array<T: Element, D: ndarray_rand::rand_distr::Distribution<T>>(
        &mut self,
        shape: &[usize],
        distribution: D,
    ) -> Tensor {
        use ndarray_rand::RandomExt;
        Tensor::from(ndarray::ArrayD::<T>::random_using(shape, distribution, self))
    }
}

#[cfg(test)]
mod tests {
    use super::values::open_unit;
    use super::*;

    #[test]
    fn a_sample_is_the_same_whatever_the_batch_and_the_threads() {
        let noise = Noise::new(42, 7);
        for each in [3usize, 5000] {
            let whole = noise.normal(&[64, each], 100, 9, Dtype::F32);
            let one = noise.normal(&[1, each], 117, 9, Dtype::F32);
            assert_eq!(&whole.as_slice::<f32>()[17 * each..18 * each], one.as_slice::<f32>());
            let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
            let threaded = pool.install(|| noise.normal(&[64, each], 100, 9, Dtype::F32));
            assert_eq!(whole.as_slice::<f32>(), threaded.as_slice::<f32>());
        }
    }

    #[test]
    fn seeds_streams_steps_and_samples_differ() {
        let draw =
            |seed, stream, sample, step| Noise::new(seed, stream).normal(&[1, 8], sample, step, Dtype::F64).to_vec::<f64>();
        let base = draw(1, 2, 3, 4);
        for other in [draw(2, 2, 3, 4), draw(1, 3, 3, 4), draw(1, 2, 4, 4), draw(1, 2, 3, 5), draw(1, 2, 3 + (1 << 32), 4)] {
            assert!(base.iter().zip(&other).all(|(a, b)| a != b));
        }
    }

    #[test]
    fn f32_numbers_are_the_f64_ones_rounded() {
        let noise = Noise::new(1, 1);
        let wide = noise.normal(&[10, 10], 0, 0, Dtype::F64).to(Dtype::F32);
        assert_eq!(wide.as_slice::<f32>(), noise.normal(&[10, 10], 0, 0, Dtype::F32).as_slice::<f32>());
    }

    #[test]
    fn normal_numbers_have_the_right_moments_and_tails() {
        let n = 400_000;
        let x = Noise::new(3, 0).normal(&[n / 100, 100], 0, 0, Dtype::F64).to_vec::<f64>();
        let moment = |k: i32| x.iter().map(|v| v.powi(k)).sum::<f64>() / n as f64;
        // Five standard errors of each moment.
        let bound = |variance: f64| 5.0 * (variance / n as f64).sqrt();
        assert!(moment(1).abs() < bound(1.0));
        assert!((moment(2) - 1.0).abs() < bound(2.0));
        assert!(moment(3).abs() < bound(15.0));
        assert!((moment(4) - 3.0).abs() < bound(96.0));
        let beyond = x.iter().filter(|v| v.abs() > 1.959_964).count() as f64 / n as f64;
        assert!((beyond - 0.05).abs() < bound(0.05 * 0.95));
        let correlation = x.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / n as f64;
        assert!(correlation.abs() < bound(1.0));
    }

    #[test]
    fn uniform_and_rademacher_have_the_right_range_and_mean() {
        let u = Noise::new(3, 0).uniform(&[1000, 100], 0, 0, Dtype::F32).to_vec::<f64>();
        assert!(u.iter().all(|&v| v > 0.0 && v < 1.0));
        assert!((u.iter().sum::<f64>() / 1e5 - 0.5).abs() < 5.0 * (1.0 / 12e5f64).sqrt());
        let r = Noise::new(3, 0).rademacher(&[1000, 100], 0, 0, Dtype::F32).to_vec::<f64>();
        assert!(r.iter().all(|v| v.abs() == 1.0));
        assert!((r.iter().sum::<f64>() / 1e5).abs() < 5.0 / 1e5f64.sqrt());
    }

    #[test]
    fn the_generator_gives_the_same_words_as_the_tensors() {
        let noise = Noise::new(8, 9);
        let mut rng = noise.rng(5, 6);
        let u = noise.uniform(&[1, 6], 5, 6, Dtype::F64).to_vec::<f64>();
        for value in u {
            assert_eq!(open_unit(rng.next_u32()), value);
        }
    }
}
