//! Probabilities of discrete data under a model's density.
//!
//! Data on `L` levels from −1 to 1 are `w = 2/(L − 1)` apart. A density `p` gives each the probability of the cell around it, of
//! which draws from that cell say
//!
//! ```text
//! P(x) = ∫_cell p(x + u) du = w^d E[p(x + u)]      u uniform on [−w/2, w/2]^d
//! ln P(x) ≥ E_k      E_k = d ln w + E ln 1/k Σ_i p(x + u_i)      E_1 ≤ E_2 ≤ … → ln P(x)
//! ```
//!
//! What is computed is an unbiased estimate of `E_k`: of a **lower bound** of `ln P(x)`, by Jensen's inequality. `k = 1` is uniform
//! dequantisation (Theis et al. 2016, arXiv:1511.01844, section 3.1), and more draws the importance-weighted bound of Burda et
//! al. 2016 (arXiv:1509.00519, eq. 8) with that proposal (Ho et al. 2019, arXiv:1902.00275, section 3.1; Hoogeboom et al. 2020,
//! arXiv:2001.11235), which nothing has to be trained for. The cells are disjoint, so that the probabilities of all data sum to at most 1.
//!
//! # Bits per dimension
//!
//! `−log₂ P/d`, which is `−log₂ p/d − log₂ w` where one draw is made: the offset is `log₂ (L − 1)/2`, 6.994 for bytes that go through `u8/127.5 −
//! 1`. (With bytes scaled by 1/256, as elsewhere, levels are 1/128 apart and the offset is 7: the probability is the same.)
//!
//! # Random probes
//!
//! All draws of a sample share their probes. Where the trace is estimated, its error is then nearly the same for all of them, a
//! factor of the sum; with probes of their own, the largest of `k` errors would raise the estimate above the bound.

use std::f64::consts::LN_2;

use fokker_sde::{Cond, Denoiser};
use fokker_tensor::{Dtype, Noise, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::SolveError;
use crate::likelihood::Likelihood;

/// How discrete data are made real: see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dequantisation {
    /// The number `L` of levels from −1 to 1, default 256.
    pub levels: usize,
    /// The number `k` of draws for each sample, default 1. Each costs a solution of its own.
    pub draws: usize,
}

impl Default for Dequantisation {
    fn default() -> Self {
        Self { levels: 256, draws: 1 }
    }
}

/// Log-probabilities of a batch of discrete data, and what they cost.
#[derive(Clone, Debug)]
pub struct LogProbability {
    /// The bound of `ln P` of each sample, in nats.
    pub log_probability: Vec<f64>,
    /// Evaluations of the model, all draws together.
    pub nfe: usize,
    /// Products with Jacobians of the model, of the sample that had the most, all draws together.
    pub products: usize,
}

/// What is added to the stream of the probes.
const STREAM: u64 = 0x5dec_0001;

impl Dequantisation {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// Names the field that does not.
    pub fn check(&self) -> Result<(), SolveError> {
        let least = |field, least: usize, found: usize| match found < least {
            true => {
                let expected = format!("at least {least}, found {found}");
                Err(SolveError::Config { what: "likelihood", kind: "dequantisation", field, expected })
            }
            false => Ok(()),
        };
        least("levels", 2, self.levels)?;
        least("draws", 1, self.draws)
    }

    /// `w`, the distance of two levels.
    pub fn width(&self) -> f64 {
        2.0 / (self.levels - 1) as f64
    }

    /// Draw `i` from the cells of `x`, `[B, ...]`, in `f64`. Sample `b` has the noise of sample `first_sample + b`.
    pub fn draw(&self, x: &Tensor, noise: Noise, first_sample: u64, i: usize) -> Tensor {
        let noise = Noise { stream: noise.stream ^ STREAM, ..noise };
        let step = u32::try_from(i).expect("fewer than 2^32 draws");
        let uniform = noise.uniform(x.shape(), first_sample, step, Dtype::F64);
        &x.to(Dtype::F64) + &(&(&uniform - 0.5) * self.width())
    }

    /// `d ln w + ln 1/k Σ_i p_i` of each sample, from the log-densities of its draws in `d` dimensions: `draws[i][b]` is that of
    /// draw `i` of sample `b`.
    ///
    /// # Panics
    /// If there are no draws.
    #[track_caller]
    pub fn log_probability(&self, draws: &[Vec<f64>], d: usize) -> Vec<f64> {
        assert!(!draws.is_empty(), "a probability from no draws");
        let offset = d as f64 * self.width().ln() - (draws.len() as f64).ln();
        let of = |b: usize| {
            let largest = draws.iter().map(|draw| draw[b]).fold(f64::NEG_INFINITY, f64::max);
            largest + draws.iter().map(|draw| (draw[b] - largest).exp()).sum::<f64>().ln() + offset
        };
        (0..draws[0].len()).map(of).collect()
    }
}

impl Likelihood {
    /// A lower bound of `ln P(x)` of each sample of `x`, `[B, ...]`, whose numbers are on the levels: see the
    /// [module](crate::dequantise). Costs as many solutions as draws.
    ///
    /// ```
    /// use fokker_sde::{Cond, Covariance, Edm, Gaussian};
    /// use fokker_solve::dequantise::{Dequantisation, bits_per_dimension};
    /// use fokker_solve::Likelihood;
    /// use fokker_tensor::{Noise, Tensor};
    ///
    /// // A normal law on 256 levels: its differential entropy, and the offset.
    /// let model = Gaussian::new(Edm::default(), &[0.0], &Covariance::Isotropic(0.04));
    /// let x = Tensor::from_vec(&[1, 1], vec![0.2_f32]);
    /// let cells = Dequantisation { levels: 256, draws: 4 };
    /// let found = Likelihood::default().log_probability(&model, &x, &cells, &Cond::NONE, Noise::new(0, 0), 0)?;
    /// let normal = -0.5 * (std::f64::consts::TAU * 0.04_f64).ln() - 0.5;
    /// assert!((bits_per_dimension(found.log_probability[0], 1) - (-normal / 2.0_f64.ln() + 127.5_f64.log2())).abs() < 0.02);
    /// # Ok::<(), fokker_solve::SolveError>(())
    /// ```
    ///
    /// # Errors
    /// As [`log_density`](Self::log_density), or if there are no draws or fewer than two levels.
    ///
    /// # Panics
    /// As [`log_density`](Self::log_density).
    #[track_caller]
    pub fn log_probability(
        &self,
        denoiser: &dyn Denoiser,
        x: &Tensor,
        cells: &Dequantisation,
        cond: &Cond,
        noise: Noise,
        first_sample: u64,
    ) -> Result<LogProbability, SolveError> {
        cells.check()?;
        let (mut draws, mut nfe, mut products) = (Vec::with_capacity(cells.draws), 0, 0);
        for i in 0..cells.draws {
            let found = self.log_density(denoiser, &cells.draw(x, noise, first_sample, i), cond, noise, first_sample)?;
            draws.push(found.log_density);
            (nfe, products) = (nfe + found.nfe, products + found.products);
        }
        let d = x.len() / x.dim(0).max(1);
        Ok(LogProbability { log_probability: cells.log_probability(&draws, d), nfe, products })
    }
}

/// `−log₂ P/d` of a log-probability in nats of `d` numbers.
pub fn bits_per_dimension(log_probability: f64, d: usize) -> f64 {
    -log_probability / (d as f64 * LN_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_fill_the_cells_evenly_and_are_a_samples_own() {
        let cells = Dequantisation { levels: 5, draws: 2 };
        assert_eq!(cells.width(), 0.5);
        let x = Tensor::from_vec(&[2, 2], vec![-1.0_f32, 0.5, 1.0, 0.0]).gather(&vec![0; 4000]);
        let draws = cells.draw(&x, Noise::new(1, 2), 7, 0);
        let off = (&draws - &x.to(Dtype::F64)).to_vec::<f64>();
        let mean = off.iter().sum::<f64>() / 8000.0;
        let square = off.iter().map(|u| u * u).sum::<f64>() / 8000.0;
        assert!(off.iter().all(|u| u.abs() < 0.25) && off.iter().any(|u| *u < -0.24) && off.iter().any(|u| *u > 0.24));
        // A uniform law of width ½: mean 0, variance 1/48.
        assert!(mean.abs() < 4.0 * (1.0 / 48.0 / 8000.0_f64).sqrt() && (square * 48.0 - 1.0).abs() < 0.05, "{mean}, {square}");
        let alone = cells.draw(&x.slice(0, 5..6), Noise::new(1, 2), 12, 0);
        assert_eq!(alone.to_vec::<f64>(), draws.slice(0, 5..6).to_vec::<f64>());
        assert_ne!(cells.draw(&x, Noise::new(1, 2), 7, 1).to_vec::<f64>(), draws.to_vec::<f64>());
    }

    #[test]
    fn draws_are_averaged_as_densities_however_small() {
        let cells = Dequantisation { levels: 3, draws: 2 };
        // w = 1, so that the offset is that of the mean alone.
        let found = cells.log_probability(&[vec![3.0_f64.ln(), -2000.0], vec![5.0_f64.ln(), -2000.0]], 9);
        assert!((found[0] - 4.0_f64.ln()).abs() < 1e-15 && (found[1] + 2000.0).abs() < 1e-12, "{found:?}");
        let finer = Dequantisation { levels: 256, draws: 1 };
        let bits = bits_per_dimension(finer.log_probability(&[vec![-6.0]], 3)[0], 3);
        assert!((bits - (2.0 / LN_2 + 127.5_f64.log2())).abs() < 1e-12, "{bits}");
    }

    #[test]
    fn numbers_without_sense_are_refused() {
        let error = |levels, draws| Dequantisation { levels, draws }.check().unwrap_err().to_string();
        assert!(error(1, 1).contains("`levels`: expected at least 2, found 1"));
        assert!(error(2, 0).contains("`draws`: expected at least 1, found 0"));
    }
}
