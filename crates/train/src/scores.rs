//! How likely data are under a model: a score for each sample, and what is known of their mean.
//!
//! # The interval
//!
//! The mean of `N` scores stands for that over all data, all random probes and all draws of dequantisation. Every sample has its own of
//! each, independent of the others', so that the scores' standard deviation `s` holds the spread of all three. What they
//! have in common is the solver: with `e`, the mean absolute change of the first samples' scores at a tenth of the tolerance
//! (or in twice the steps) and in double precision,
//!
//! ```text
//! mean ± (t s/√N + e)        t: Student's 97.5 % point of N − 1 degrees of freedom
//! ```
//!
//! The first part covers the mean in 95 of 100 cases, where `N` is large enough for it to be normal. The second is added whole, as errors that
//! samples share do not average out: it bounds the mean change, whatever the signs.

use fokker_models::DiffusionModel;
use fokker_nn::Module;
use fokker_solve::{Bounded, Dequantisation, Divergence, Integrator, Likelihood, VariationalBound};
use fokker_tensor::{Dtype, Tensor};

use crate::error::TrainError;
use crate::sampling::{Generate, check_shape};

/// How data are scored.
#[derive(Clone, Debug, Default)]
pub struct Scoring {
    /// How log-densities are computed.
    pub likelihood: Likelihood,
    /// For discrete data: how they are made real. The scores are then lower bounds of log-probabilities.
    pub dequantisation: Option<Dequantisation>,
}

/// Scores of samples, in nats, and what they cost.
#[derive(Clone, Debug)]
pub struct Scores {
    /// The log-density of each sample, or the bound of its log-probability.
    pub values: Vec<f64>,
    /// Evaluations of the model for a batch, of the batch that had the most.
    pub nfe: usize,
    /// Products with Jacobians, of the sample that had the most.
    pub products: usize,
}

/// What scores of the same samples differ by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repeated {
    /// The number of samples, the first ones.
    pub samples: usize,
    /// The mean absolute change at a tenth of the tolerance, or in twice the steps, and in double precision, in nats.
    pub solver: f64,
    /// The standard deviation of one sample's score over probes and draws, in nats; none where nothing is drawn.
    pub draws: Option<f64>,
}

/// A mean and what is uncertain about it: see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Its standard error; one sample has none.
    pub standard_error: Option<f64>,
    /// Half the width of the 95 % interval.
    pub half_width: Option<f64>,
}

impl Interval {
    /// Of these values, whose common error is up to `common`.
    ///
    /// # Panics
    /// If there are none.
    #[track_caller]
    pub fn of(values: &[f64], common: f64) -> Interval {
        assert!(!values.is_empty(), "the mean of no values");
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let standard_error = (values.len() > 1).then(|| (variance / n).sqrt());
        let half_width = standard_error.map(|error| student(values.len() - 1) * error + common);
        Interval { mean, standard_error, half_width }
    }

    /// The same in other units: every number times `factor`.
    pub fn scaled(self, factor: f64) -> Interval {
        let of = |width: Option<f64>| width.map(|width| width * factor.abs());
        Interval { mean: self.mean * factor, standard_error: of(self.standard_error), half_width: of(self.half_width) }
    }
}

/// The 97.5 % point of Student's distribution: to a thousandth of itself (Abramowitz & Stegun 1964, 26.7.3, 26.7.4 and 26.7.5).
fn student(degrees: usize) -> f64 {
    let (z, n) = (1.959_963_984_540_054_f64, degrees as f64);
    match degrees {
        1 => (0.475 * std::f64::consts::PI).tan(),
        2 => 0.95 * (2.0 / (1.0 - 0.95_f64.powi(2))).sqrt(),
        _ => {
            let powers = |factors: &[f64]| factors.iter().rev().fold(0.0, |sum, factor| sum * z * z + factor) * z;
            z + powers(&[1.0, 1.0]) / (4.0 * n)
                + powers(&[3.0, 16.0, 5.0]) / (96.0 * n.powi(2))
                + powers(&[-15.0, 17.0, 19.0, 3.0]) / (384.0 * n.powi(3))
                + powers(&[-945.0, -1920.0, 1482.0, 776.0, 79.0]) / (92_160.0 * n.powi(4))
        }
    }
}

impl Scoring {
    /// The scores of the data `x`, `[count, ...]`, under the model alone: there is no density that a guided model is exact for.
    /// `done` is told the number of samples after each batch.
    ///
    /// # Errors
    /// If the settings make no sense, or the model's answer or its derivative is not finite.
    ///
    /// # Panics
    /// If `x` is not of that shape.
    #[track_caller]
    pub fn run(
        &self,
        model: &DiffusionModel,
        request: &Generate,
        x: &Tensor,
        done: &mut dyn FnMut(usize),
    ) -> Result<Scores, TrainError> {
        check_shape(model, request, x);
        let (cond, noise) = (request.condition(model), request.noise());
        let denoiser = request.sampler.model(model)?;
        let mut all = Scores { values: Vec::with_capacity(request.count), nfe: 0, products: 0 };
        for start in (0..request.count).step_by(request.batch) {
            let rows = start..request.count.min(start + request.batch);
            let (part, cond, first) = (x.slice(0, rows.clone()), cond.slice(rows.clone()), start as u64);
            let (values, nfe, products) = match &self.dequantisation {
                None => {
                    let found = self.likelihood.log_density(&denoiser, &part, &cond, noise, first)?;
                    (found.log_density, found.nfe, found.products)
                }
                Some(cells) => {
                    let found = self.likelihood.log_probability(&denoiser, &part, cells, &cond, noise, first)?;
                    (found.log_probability, found.nfe, found.products)
                }
            };
            all.values.extend(values);
            (all.nfe, all.products) = (all.nfe.max(nfe), all.products.max(products));
            done(rows.end);
        }
        Ok(all)
    }

    /// Scores up to eight of the first samples again, for each eight there are: more exactly, and with other draws.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Panics
    /// As [`run`](Self::run), or if the scores are not as many as samples.
    #[track_caller]
    pub fn repeat(
        &self,
        model: &DiffusionModel,
        request: &Generate,
        x: &Tensor,
        scores: &Scores,
    ) -> Result<Repeated, TrainError> {
        assert_eq!(scores.values.len(), x.dim(0), "scores and samples");
        let samples = x.dim(0).div_ceil(8).min(8);
        let (x, request) = (x.slice(0, 0..samples), request.first(samples));
        let changes = |other: &Scores| -> Vec<f64> { other.values.iter().zip(&scores.values).map(|(a, b)| a - b).collect() };
        let exact = Scoring { likelihood: tighter(&self.likelihood), ..self.clone() };
        let finer = changes(&exact.run(&model.to(Dtype::F64), &request, &x, &mut |_| {})?);
        let draws = if self.is_random() {
            // The difference of two independent scores has twice the variance of one.
            let other = changes(&self.run(model, &Generate { seed: request.seed ^ OTHER, ..request }, &x, &mut |_| {})?);
            Some((other.iter().map(|change| change * change).sum::<f64>() / (2 * samples) as f64).sqrt())
        } else {
            None
        };
        Ok(Repeated { samples, solver: finer.iter().map(|change| change.abs()).sum::<f64>() / samples as f64, draws })
    }

    fn is_random(&self) -> bool {
        self.dequantisation.is_some() || self.likelihood.divergence != Divergence::Exact
    }
}

/// Makes another seed of one.
const OTHER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The same, solved more exactly.
fn tighter(likelihood: &Likelihood) -> Likelihood {
    let integrator = match likelihood.integrator.clone() {
        Integrator::Fixed { method, steps } => Integrator::Fixed { method, steps: 2 * steps },
        controlled => controlled.map_tolerances(|tolerance| 0.1 * tolerance),
    };
    Likelihood { integrator, ..likelihood.clone() }
}

/// The variational bound of the data `x`, `[count, ...]`, real or on so many levels, under the model alone. `done` is told the
/// number of samples after each batch.
///
/// # Errors
/// If the settings make no sense, or the model's answer is not finite.
///
/// # Panics
/// If `x` is not of that shape.
#[track_caller]
pub fn bound(
    model: &DiffusionModel,
    request: &Generate,
    bound: &VariationalBound,
    levels: Option<usize>,
    x: &Tensor,
    done: &mut dyn FnMut(usize),
) -> Result<Bounded, TrainError> {
    check_shape(model, request, x);
    let (cond, denoiser) = (request.condition(model), request.sampler.model(model)?);
    let mut all = Bounded::default();
    for start in (0..request.count).step_by(request.batch) {
        let rows = start..request.count.min(start + request.batch);
        let (part, cond) = (x.slice(0, rows.clone()), cond.slice(rows.clone()));
        let found = bound.evaluate(&denoiser, &part, levels, &cond, request.noise(), start as u64)?;
        all.prior.extend(found.prior);
        all.diffusion.extend(found.diffusion);
        all.reconstruction.extend(found.reconstruction);
        all.nfe = found.nfe;
        done(rows.end);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_points_are_those_of_published_tables() {
        // Fisher & Yates 1963, table III.
        for (degrees, point) in [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (120, 1.980)] {
            assert!((student(degrees) / point - 1.0).abs() < 2e-3, "{degrees}: {}", student(degrees));
        }
        assert!((student(1_000_000) - 1.959_966).abs() < 1e-6);
    }

    #[test]
    fn an_interval_adds_what_is_common_to_the_standard_error() {
        let found = Interval::of(&[1.0, 3.0, 2.0, 6.0], 0.5);
        // Variance 14/3.
        let error = (14.0 / 3.0 / 4.0_f64).sqrt();
        assert_eq!(found.mean, 3.0);
        assert!((found.standard_error.unwrap() - error).abs() < 1e-15);
        assert!((found.half_width.unwrap() - (student(3) * error + 0.5)).abs() < 1e-14);
        let bits = found.scaled(-2.0);
        assert_eq!((bits.mean, bits.half_width), (-6.0, found.half_width.map(|w| 2.0 * w)));
        assert_eq!(Interval::of(&[1.0], 0.5), Interval { mean: 1.0, standard_error: None, half_width: None });
    }
}
