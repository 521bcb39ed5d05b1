//! The variational bound that learned variances are trained with: Nichol & Dhariwal 2021 (arXiv:2102.09672), section 3.1.
//!
//! ```text
//! L_hybrid = L_simple + λ L_vlb     L_vlb = N E_t[L_t]                                                (eq. 16)
//! ```
//!
//! with the steps `L_t` of a [chain](fokker_solve::variational::chain) of `N`, the last of which decodes.
//!
//! All are means over elements in nats; the authors' program counts bits, which makes its `λ` larger by 1/ln 2. The divergence of
//! the prior, which has nothing to learn, is left out. The expectation is over the times of the objective: a bound of the
//! likelihood where they are uniform on the chain, and otherwise one whose steps have other weights. Only `v` learns from it: `x̂₀` is
//! taken as given (the paper's stop-gradient).

use fokker_sde::Sde;
use fokker_solve::variational::Chain;
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// How variances are learned, by models with `model.learned_variance`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VarianceBound {
    /// `λ`, default 0.001.
    pub weight: f64,
    /// The number `N` of steps, which are equally long in `arctan(σ/α)`, as those of the cosine schedule are. Default: the steps of the
    /// process where it is a ladder, otherwise 1000.
    pub steps: Option<usize>,
}

impl Default for VarianceBound {
    fn default() -> Self {
        VarianceBound { weight: 0.001, steps: None }
    }
}

/// The largest ladder that memory is taken for.
const MOST_STEPS: usize = 1 << 20;

impl VarianceBound {
    pub(crate) fn check(&self, origin: &str) -> Result<(), TrainError> {
        if !(self.weight >= 0.0 && self.weight.is_finite()) {
            let problem = format!("`objective.variance.weight`: expected 0 or a number above it, found {}", self.weight);
            return Err(TrainError::config(origin, problem));
        }
        match self.steps {
            Some(n) if !(2..=MOST_STEPS).contains(&n) => {
                let problem = format!("`objective.variance.steps`: expected from 2 to {MOST_STEPS}, found {n}");
                Err(TrainError::config(origin, problem))
            }
            _ => Ok(()),
        }
    }

    /// The bound under `sde`, for data of `levels` levels or of real numbers.
    ///
    /// # Errors
    /// If there is no such chain on the process.
    pub(crate) fn on(&self, sde: &dyn Sde, levels: Option<usize>) -> Result<Bound, TrainError> {
        let half_bin = levels.map(|levels| 1.0 / (levels - 1) as f64);
        Ok(Bound { weight: self.weight, chain: Chain::on(sde, self.steps)?, half_bin })
    }
}

/// The bound on one chain.
#[derive(Debug)]
pub(crate) struct Bound {
    weight: f64,
    chain: Chain,
    half_bin: Option<f64>,
}

impl Bound {
    /// `λ L_vlb` of a batch as a scalar that only depends on `v`, `[B, ...]`, for clean samples `x_0` and answers `x_0 + error` at
    /// times `t`, all `[B, ...]`.
    pub(crate) fn loss(&self, sde: &dyn Sde, t: &[f64], x_0: &Tensor, error: &Tensor, fraction: &Tensor) -> Tensor {
        let [v, error, x_0] = [fraction, error, x_0].map(|values| values.detach().to_vec::<f64>());
        let size = v.len() / t.len();
        let (mut sum, mut slopes) = (0.0, Vec::with_capacity(v.len()));
        for (b, &t) in t.iter().enumerate() {
            let term = self.chain.term(sde, t);
            for i in b * size..(b + 1) * size {
                let (value, slope) = term.at(v[i], x_0[i], error[i], self.half_bin);
                sum += value;
                slopes.push(slope);
            }
        }
        // The function of v with this value and these derivatives, which is all that is asked of a loss.
        let linear = (fraction * &Tensor::from_f64(fraction.shape(), &slopes, fraction.dtype())).mean_all();
        let constant = sum / v.len() as f64 - linear.detach().item();
        &(&linear + constant) * (self.weight * self.chain.times().len() as f64)
    }
}

#[cfg(test)]
mod tests;
