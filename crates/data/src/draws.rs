//! Keyed draws: every number a data set or a loader uses comes from `(seed, stream, sample)`.

use fokker_tensor::Noise;
use fokker_tensor::noise::PhiloxRng;
use ndarray_rand::rand::RngCore;
use ndarray_rand::rand_distr::{Distribution, StandardNormal};

/// A sequence of numbers that belongs to one sample.
pub(crate) struct Draws(PhiloxRng);

impl Draws {
    /// The sequence of `sample` in `stream` under `seed`.
    pub(crate) fn new(seed: u64, stream: u64, sample: u64) -> Draws {
        Draws(Noise::new(seed, stream).rng(sample, 0))
    }

    /// Uniform in `[0, 1)`, with 53 bits.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * 2.0_f64.powi(-53)
    }

    /// Uniform in `[low, high)`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform in `0..n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0.below(n)
    }

    /// `N(0, 1)`.
    pub(crate) fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }
}
