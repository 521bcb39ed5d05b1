//! Initial weights, drawn by `ndarray-rand` from keyed streams: each parameter has its own stream, numbered in the order of
//! construction, so that the same seed and configuration give the same network.

use fokker_tensor::{Dtype, Noise, Tensor};
use ndarray_rand::rand_distr::{Normal, Uniform};

/// The stream initial weights are drawn from.
const STREAM: u64 = 0x1717_0001;

/// How the scale of initial weights follows from the fan-in and fan-out of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gain {
    /// Uniform with variance `1 / (3 fan_in)`: PyTorch's default for linear and convolution layers (Kaiming uniform with a = √5).
    Default,
    /// Normal with variance `2 / fan_in` (He et al. 2015, eq. 10).
    Kaiming,
    /// Uniform with variance `scale² · 2 / (fan_in + fan_out)` (Glorot & Bengio 2010, eq. 16).
    Xavier(f64),
    /// All zero: output layers of residual branches and networks, as in DDPM (Ho et al. 2020).
    Zero,
}

/// Draws initial parameters.
#[derive(Clone, Debug)]
pub struct Init {
    noise: Noise,
    next: u64,
    dtype: Dtype,
}

impl Init {
    /// Draws for one network; equal seeds give equal networks.
    pub fn new(seed: u64, dtype: Dtype) -> Init {
        Init { noise: Noise::new(seed, STREAM), next: 0, dtype }
    }

    /// A weight of this shape.
    pub fn weight(&mut self, shape: &[usize], fan_in: usize, fan_out: usize, gain: Gain) -> Tensor {
        match gain {
            Gain::Default => self.uniform(shape, (1.0 / fan_in as f64).sqrt()),
            Gain::Kaiming => self.normal(shape, (2.0 / fan_in as f64).sqrt()),
            Gain::Xavier(scale) => self.uniform(shape, scale * (6.0 / (fan_in + fan_out) as f64).sqrt()),
            Gain::Zero => Tensor::zeros(shape, self.dtype),
        }
    }

    /// A bias of this length: zero for a zero layer, otherwise uniform in `±1/√fan_in` as PyTorch's default.
    pub fn bias(&mut self, len: usize, fan_in: usize, gain: Gain) -> Tensor {
        match gain {
            Gain::Default => self.uniform(&[len], (1.0 / fan_in as f64).sqrt()),
            Gain::Kaiming | Gain::Xavier(_) | Gain::Zero => Tensor::zeros(&[len], self.dtype),
        }
    }

    /// Uniform in `[-limit, limit]`.
    pub fn uniform(&mut self, shape: &[usize], limit: f64) -> Tensor {
        let distribution = Uniform::new_inclusive(-limit, limit).expect("the limit is finite and not negative");
        self.rng().array::<f64, _>(shape, distribution).to(self.dtype)
    }

    /// Normal with this standard deviation.
    pub fn normal(&mut self, shape: &[usize], std: f64) -> Tensor {
        let distribution = Normal::new(0.0, std).expect("the standard deviation is finite and not negative");
        self.rng().array::<f64, _>(shape, distribution).to(self.dtype)
    }

    /// The same value everywhere.
    pub fn constant(&self, shape: &[usize], value: f64) -> Tensor {
        Tensor::full(shape, value, self.dtype)
    }

    fn rng(&mut self) -> fokker_tensor::noise::PhiloxRng {
        self.next += 1;
        self.noise.rng(self.next, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gain_has_its_variance() {
        let mut init = Init::new(1, Dtype::F64);
        let (fan_in, fan_out) = (300, 200);
        let mut variance = |gain| init.weight(&[fan_in, fan_out], fan_in, fan_out, gain).square().mean_all().item();
        for (gain, expected) in [
            (Gain::Default, 1.0 / 900.0),
            (Gain::Kaiming, 2.0 / 300.0),
            (Gain::Xavier(0.5), 0.25 * 2.0 / 500.0),
            (Gain::Zero, 0.0),
        ] {
            let got = variance(gain);
            assert!((got - expected).abs() <= 0.03 * expected, "{gain:?}: {got} for {expected}");
        }
    }

    #[test]
    fn equal_seeds_give_equal_weights_and_parameters_differ() {
        let draw = |seed| {
            let mut init = Init::new(seed, Dtype::F32);
            (init.normal(&[8], 1.0).to_vec::<f32>(), init.normal(&[8], 1.0).to_vec::<f32>())
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3).0, draw(4).0);
        assert_ne!(draw(3).0, draw(3).1);
    }
}
