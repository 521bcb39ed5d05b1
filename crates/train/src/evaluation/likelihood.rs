//! How likely data and samples are under the model: what a page shows beside the rows.
//!
//! ```text
//! numbers on levels:  −log₂ p(x)/d  bits per dimension, uniformly dequantised        real numbers:  ln p(x)  nats
//! ```
//!
//! Scores and interval are those of [`Scoring`], of the model alone: there is no density that a guided model is exact for. Up to
//! [`EXACT`] dimensions the trace is exact and the tolerance 10⁻⁵; above, one Hutchinson probe for each sample and 10⁻³, of which the interval says what
//! they cost.

use std::time::Instant;

use fokker_solve::dequantise::bits_per_dimension;
use fokker_solve::{Dequantisation, Divergence, Integrator, Likelihood, Probes};
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::identity::{absorb, hex};
use super::{Evaluation, is_result, sha256};
use crate::error::TrainError;
use crate::sampling::{Classes, Generate};
use crate::scores::{Interval, Scoring};

/// Changes whenever the numbers do, so that no kept ones of another are taken for them.
const VERSION: u32 = 2;

/// The most dimensions whose trace is exact.
const EXACT: usize = 16;

/// What is to be scored.
pub struct Set {
    /// What it is called.
    pub name: String,
    /// What it is, besides the number of its samples: [`Set::identify`], or a row's key.
    pub source: String,
    /// The number of samples.
    pub count: usize,
    /// Their classes.
    pub classes: Classes,
    /// How many values their numbers can have, equally spaced from −1 to 1; none if they are real. Samples are taken to the nearest.
    pub levels: Option<usize>,
}

impl Set {
    /// A hash of a set's numbers.
    pub fn identify(x: &Tensor) -> String {
        let mut hash = Sha256::new();
        absorb(&mut hash, x);
        hex(hash)
    }
}

/// How likely each sample of a set is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Likelihoods {
    /// A hash of everything that they depend on.
    pub key: String,
    /// What the set is called.
    pub name: String,
    /// Numbers of a sample.
    pub dimensions: usize,
    /// The values that they can have, if they were made real: then `values` are lower bounds of log-probabilities.
    pub levels: Option<usize>,
    /// The log-density of each sample, in nats.
    pub values: Vec<f64>,
    /// The mean error of the solver, in nats.
    pub solver: f64,
    /// The standard deviation of one sample's score over probes and draws, in nats; none where nothing is drawn.
    pub draws: Option<f64>,
    /// Evaluations of the model for a batch, of the batch that had the most.
    pub nfe: usize,
    /// Products with Jacobians, of the sample that had the most.
    pub products: usize,
    /// How long it took.
    pub seconds: f64,
    /// Why there are no values.
    pub failed: Option<String>,
}

impl Likelihoods {
    /// `bits/dim` of numbers on levels, otherwise `nats`.
    pub fn unit(&self) -> &'static str {
        if self.levels.is_some() { "bits/dim" } else { "nats" }
    }

    /// Nats in the unit.
    pub fn in_unit(&self, nats: f64) -> f64 {
        if self.levels.is_some() { bits_per_dimension(nats, self.dimensions) } else { nats }
    }

    /// The mean and its interval, in the unit; none without values.
    pub fn mean(&self) -> Option<Interval> {
        (!self.values.is_empty()).then(|| Interval::of(&self.values, self.solver).scaled(self.in_unit(1.0)))
    }
}

impl Evaluation<'_> {
    fn scoring(&self, set: &Set) -> Scoring {
        let few = self.dimensions() <= EXACT;
        let divergence = if few { Divergence::Exact } else { Divergence::Hutchinson(Probes::default()) };
        let tolerance = if few { 1e-6 } else { 1e-4 };
        let integrator = Integrator::with_tolerances(tolerance, tolerance);
        Scoring {
            likelihood: Likelihood { divergence, integrator, ..Likelihood::default() },
            dequantisation: set.levels.map(|levels| Dequantisation { levels, draws: 1 }),
        }
    }

    fn dimensions(&self) -> usize {
        self.model.config.sample_shape.iter().product()
    }

    /// A hash of everything that the likelihoods of a set depend on.
    pub fn likelihood_key(&self, set: &Set) -> String {
        let settings = serde_json::json!({
            "version": VERSION,
            "model": self.model_id,
            "dtype": format!("{:?}", self.request.sampler.state),
            "sde": self.request.sampler.sde,
            "likelihood": self.scoring(set).likelihood,
            "levels": set.levels,
            "source": set.source,
            "count": set.count,
            "classes": format!("{:?}", set.classes),
            "seed": self.request.seed,
            "batch": self.request.batch,
        });
        sha256(settings.to_string().as_bytes())
    }

    /// How likely the samples `x` `[count, ...]` of a set are. A model whose answer is no number has likelihoods that say so. `done` is told the
    /// number of samples after each batch.
    ///
    /// # Errors
    /// If the settings make no sense.
    ///
    /// # Panics
    /// If `x` is not of that shape.
    #[track_caller]
    pub fn likelihoods(&self, set: &Set, x: &Tensor, done: &mut dyn FnMut(usize)) -> Result<Likelihoods, TrainError> {
        let scoring = self.scoring(set);
        let request = Generate { count: set.count, classes: set.classes.clone(), ..self.request.clone() };
        let started = Instant::now();
        let mut found = Likelihoods {
            key: self.likelihood_key(set),
            name: set.name.clone(),
            dimensions: self.dimensions(),
            levels: set.levels,
            values: Vec::new(),
            solver: 0.0,
            draws: None,
            nfe: 0,
            products: 0,
            seconds: 0.0,
            failed: None,
        };
        let x = &set.levels.map_or_else(|| x.clone(), |levels| to_levels(x, levels));
        let scored = scoring.run(self.model, &request, x, done);
        match scored.and_then(|scores| Ok((scoring.repeat(self.model, &request, x, &scores)?, scores))) {
            Ok((repeated, scores)) => {
                (found.solver, found.draws) = (repeated.solver, repeated.draws);
                (found.values, found.nfe, found.products) = (scores.values, scores.nfe, scores.products);
            }
            Err(error) if is_result(&error) => found.failed = Some(error.to_string()),
            Err(error) => return Err(error),
        }
        found.seconds = started.elapsed().as_secs_f64();
        Ok(found)
    }
}

/// The nearest of `levels` numbers from −1 to 1.
fn to_levels(x: &Tensor, levels: usize) -> Tensor {
    let half = (levels - 1) as f64 / 2.0;
    let values: Vec<f64> = x.to_vec::<f64>().iter().map(|v| ((v.clamp(-1.0, 1.0) + 1.0) * half).round() / half - 1.0).collect();
    Tensor::from_f64(x.shape(), &values, x.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_taken_to_the_nearest_level() {
        let x = Tensor::from_vec(&[1, 5], vec![-1.3, -0.9, 0.1, 0.4, 1.2]);
        assert_eq!(to_levels(&x, 3).to_vec::<f64>(), [-1.0, -1.0, 0.0, 0.0, 1.0]);
        let bytes = Tensor::from_vec(&[1, 256], (0..=255u8).map(|b| f32::from(b) / 127.5 - 1.0).collect::<Vec<f32>>());
        let moved = &bytes + 1e-3;
        let back: Vec<u8> = to_levels(&moved, 256).to_vec::<f32>().iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect();
        assert_eq!(back, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn bits_are_of_numbers_on_levels_alone() {
        let ln2 = std::f64::consts::LN_2;
        let some = |levels| Likelihoods {
            key: String::new(),
            name: "data".into(),
            dimensions: 2,
            levels,
            values: vec![-2.0 * ln2, -6.0 * ln2],
            solver: 0.0,
            draws: None,
            nfe: 1,
            products: 1,
            seconds: 0.0,
            failed: None,
        };
        assert_eq!((some(Some(256)).unit(), some(Some(256)).mean().unwrap().mean), ("bits/dim", 2.0));
        assert!((some(None).mean().unwrap().mean + 4.0 * ln2).abs() < 1e-15 && some(None).unit() == "nats");
        assert_eq!(Likelihoods { values: Vec::new(), ..some(None) }.mean(), None);
    }
}
