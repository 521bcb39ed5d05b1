//! Embeddings of a scalar (a time or noise level) as vectors of sines and cosines. They have no parameters.

use fokker_tensor::{Dtype, Noise, Tensor};
use serde::{Deserialize, Serialize};

/// Sinusoidal embedding (Vaswani et al. 2017, section 3.5; Ho et al. 2020): cosines then sines of `scale · t · ω_k`, with
/// `ω_k = max_period^(-k/half)` for `k = 0, …, half - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sinusoidal {
    /// Length of the embedding; even.
    pub channels: usize,
    /// Ratio of the fastest to the slowest frequency (nearly).
    pub max_period: f64,
    /// What times are multiplied with first.
    pub scale: f64,
}

impl Sinusoidal {
    /// `[times.len(), channels]`. The angles are computed in `f64`.
    ///
    /// # Panics
    /// If the number of channels is odd.
    #[track_caller]
    pub fn forward(&self, times: &[f64], dtype: Dtype) -> Tensor {
        assert!(self.channels.is_multiple_of(2), "sinusoidal embedding: {} channels, expected an even number", self.channels);
        let half = self.channels / 2;
        let frequencies: Vec<f64> =
            (0..half).map(|k| self.scale * (-self.max_period.ln() * k as f64 / half as f64).exp()).collect();
        waves(times, &frequencies, dtype)
    }
}

/// Random Fourier features (Tancik et al. 2020; Song et al. 2021): cosines then sines of `2π t ω_k` with fixed
/// `ω_k ~ N(0, bandwidth²)`, drawn from a seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fourier {
    /// Length of the embedding; even.
    pub channels: usize,
    /// Standard deviation of the frequencies (16 in score_sde and EDM's NCSN++).
    pub bandwidth: f64,
    /// The frequencies' seed.
    pub seed: u64,
}

impl Fourier {
    const STREAM: u64 = 0x1717_0002;

    /// The frequencies `2π ω_k`.
    ///
    /// # Panics
    /// If the number of channels is odd.
    #[track_caller]
    pub fn frequencies(&self) -> Vec<f64> {
        assert!(self.channels.is_multiple_of(2), "Fourier embedding: {} channels, expected an even number", self.channels);
        let draws = Noise::new(self.seed, Self::STREAM).normal(&[1, self.channels / 2], 0, 0, Dtype::F64);
        draws.to_vec::<f64>().into_iter().map(|w| std::f64::consts::TAU * self.bandwidth * w).collect()
    }

    /// `[times.len(), channels]`. The angles are computed in `f64`.
    ///
    /// # Panics
    /// If the number of channels is odd.
    #[track_caller]
    pub fn forward(&self, times: &[f64], dtype: Dtype) -> Tensor {
        waves(times, &self.frequencies(), dtype)
    }
}

/// Cosines then sines of every product of a time and a frequency.
fn waves(times: &[f64], frequencies: &[f64], dtype: Dtype) -> Tensor {
    let mut out = Vec::with_capacity(times.len() * 2 * frequencies.len());
    for &t in times {
        out.extend(frequencies.iter().map(|w| (w * t).cos()));
        out.extend(frequencies.iter().map(|w| (w * t).sin()));
    }
    Tensor::from_f64(&[times.len(), 2 * frequencies.len()], &out, dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sinusoidal_embedding_is_cosines_then_sines_of_geometric_frequencies() {
        let e = Sinusoidal { channels: 4, max_period: 100.0, scale: 2.0 }.forward(&[0.0, 0.3], Dtype::F64);
        let expected = [1.0, 1.0, 0.0, 0.0, 0.6f64.cos(), 0.06f64.cos(), 0.6f64.sin(), 0.06f64.sin()];
        for (got, want) in e.to_vec::<f64>().iter().zip(expected) {
            assert!((got - want).abs() < 1e-15);
        }
    }

    #[test]
    fn fourier_frequencies_follow_the_seed_and_bandwidth() {
        let f = |bandwidth, seed| Fourier { channels: 2000, bandwidth, seed }.frequencies();
        assert_eq!(f(16.0, 1), f(16.0, 1));
        assert_ne!(f(16.0, 1), f(16.0, 2));
        let variance = f(16.0, 1).iter().map(|w| w * w).sum::<f64>() / 1000.0;
        let expected = (16.0 * std::f64::consts::TAU).powi(2);
        assert!((variance / expected - 1.0).abs() < 0.2);
    }
}
