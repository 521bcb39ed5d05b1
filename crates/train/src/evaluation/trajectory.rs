//! The way from noise to samples, a few moments of it: what a page shows as a movie.

use fokker_sde::Sde;
use fokker_solve::{Observer, Step};
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Evaluation, Way, sha256};
use crate::error::TrainError;
use crate::sampling::{Generate, generate};

/// Changes whenever what is kept does.
const VERSION: u32 = 1;

/// The most moments that are kept.
const MOMENTS: usize = 25;

/// A moment of a trajectory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// Steps that were made before it.
    pub step: usize,
    /// The time; 0 after the last denoising step.
    pub t: f64,
    /// The signal's factor.
    pub alpha: f64,
    /// The noise's standard deviation.
    pub sigma: f64,
}

/// Moments of the trajectories of some samples, the first one pure noise and the last one the samples.
#[derive(Clone, Debug)]
pub struct Trajectory {
    /// A hash of everything that it depends on.
    pub key: String,
    /// Steps of the whole.
    pub total: usize,
    /// When they are.
    pub moments: Vec<Moment>,
    /// `[moments, C, samples, ...]`: the states, and, if `C` is 2, beside each the last `x̂₀` of the step that begins there (of the last
    /// moment: of the step that ended there). A solver that does not tell its `x̂₀` has `C = 1`.
    pub states: Tensor,
}

impl Evaluation<'_> {
    /// A hash of everything that a trajectory of `count` samples depends on.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    pub fn trajectory_key(&self, way: &Way, count: usize) -> Result<String, TrainError> {
        Ok(sha256(format!("trajectory {VERSION} {MOMENTS} {count} {}", self.key(way)?).as_bytes()))
    }

    /// Samples once more, the first `count`, or all if there are fewer, and looks on.
    ///
    /// # Errors
    /// If the sampler's settings make no sense, or the model's answer is not finite.
    pub fn trajectory(&self, way: &Way, count: usize) -> Result<Trajectory, TrainError> {
        let request = self.request(way, 0);
        let request = request.first(count.min(request.count));
        let sde: &dyn Sde = match &request.sampler.sde {
            Some(sde) => sde,
            None => &self.model.config.sde,
        };
        let mut recorder = Recorder::default();
        // One batch, so that all moments are of all samples.
        generate(self.model, &Generate { batch: request.count, ..request.clone() }, &mut [&mut recorder])?;
        let Recorder { total, mut kept, last, .. } = recorder;
        kept.extend(last);
        let both = kept.iter().all(|(_, _, _, denoised)| denoised.is_some());
        let (mut moments, mut states) = (Vec::new(), Vec::new());
        for (step, t, x, denoised) in kept {
            // After the last denoising step there is no noise, whatever the process says of time 0.
            let (alpha, sigma) = if t == 0.0 { (1.0, 0.0) } else { (sde.alpha(t), sde.sigma(t)) };
            moments.push(Moment { step, t, alpha, sigma });
            states.push(x);
            states.extend(denoised.filter(|_| both));
        }
        let shape = [&[moments.len(), if both { 2 } else { 1 }, request.count], &self.model.config.sample_shape[..]].concat();
        let states = Tensor::concat(&states.iter().collect::<Vec<_>>(), 0).reshape(&shape);
        Ok(Trajectory { key: self.trajectory_key(way, count)?, total, moments, states })
    }
}

/// Step, time, state and answer.
type Kept = (usize, f64, Tensor, Option<Tensor>);

/// Keeps states at evenly spaced steps.
#[derive(Default)]
struct Recorder {
    total: usize,
    kept: Vec<Kept>,
    /// Where the next step begins.
    before: Option<Tensor>,
    last: Option<Kept>,
}

/// Whether the moment before step `index` of `total` is one of `most` evenly spaced ones, of which the last is after the last step.
fn chosen(index: usize, total: usize, most: usize) -> bool {
    // Those are at ⌈k total/(most − 1)⌉; k is that of the last one up to this step.
    let k = index * (most - 1) / total.max(1);
    total < most || (k * total).div_ceil(most - 1) == index
}

impl Observer for Recorder {
    fn start(&mut self, x: &Tensor, _: f64, _: u64) {
        self.before = Some(x.clone());
    }

    fn step(&mut self, step: &Step<'_>) {
        self.total = step.total;
        let before = self.before.replace(step.x.clone());
        if let Some(before) = before.filter(|_| chosen(step.index, step.total, MOMENTS)) {
            self.kept.push((step.index, step.t, before, step.denoised.cloned()));
        }
        if step.index + 1 == step.total {
            self.last = Some((step.total, step.s, step.x.clone(), step.denoised.cloned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_evenly_spaced_and_never_too_many() {
        for total in [1, 2, 23, 24, 25, 26, 48, 50, 100, 999, 1000] {
            let all: Vec<usize> = (0..total).filter(|&i| chosen(i, total, MOMENTS)).collect();
            assert_eq!(all[0], 0);
            assert!(all.len() < MOMENTS && all.len() + 1 >= MOMENTS.min(total + 1), "{} of {total}", all.len());
            let gaps: Vec<usize> = all.windows(2).map(|w| w[1] - w[0]).chain([total - all[all.len() - 1]]).collect();
            let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
            assert!(most - least <= 1, "{gaps:?} of {total}");
        }
    }
}
