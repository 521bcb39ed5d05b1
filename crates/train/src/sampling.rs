//! Drawing samples from a model with classes, the noise that data come from, and grids fitted to a model.

use fokker_guidance::{AutoGuidance, ClassifierFree, Guidance};
use fokker_models::DiffusionModel;
use fokker_sde::{Cond, Counted, Counter, Denoiser};
use fokker_solve::{FittedGrid, GridFit, Observer, Sampler, SamplerConfig, Samples, SolveError, optimise_grid};
use fokker_tensor::{Dtype, Noise, Tensor};

use crate::config::SampleSection;
use crate::error::TrainError;

/// The stream of sampling noise.
const STREAM: u64 = 0x7261_0010;

/// Which classes samples are drawn of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Classes {
    /// Without a class.
    Unconditional,
    /// All of one class.
    Only(u32),
    /// Sample `i` is of class `i mod classes`.
    Cycle,
    /// Sample `i` is of the `i`th of these, one for each sample.
    Each(Vec<u32>),
}

/// What to draw.
#[derive(Clone, Debug)]
pub struct Generate {
    /// Number of samples.
    pub count: usize,
    /// Samples per batch. Samples do not depend on it, except for rounding.
    pub batch: usize,
    /// Guidance: by `weak` if there is one, otherwise classifier-free, where samples have a class.
    pub guidance: Guidance,
    /// A weaker model of the same data, for autoguidance.
    pub weak: Option<DiffusionModel>,
    /// Solver, grid and thresholding.
    pub sampler: SamplerConfig,
    /// Seed of the noise.
    pub seed: u64,
    /// Classes.
    pub classes: Classes,
}

impl Generate {
    /// What a run's configuration says, in the model's classes one after the other if it has any.
    pub fn new(section: &SampleSection, model: &DiffusionModel, seed: u64) -> Generate {
        Generate {
            count: section.count,
            batch: section.batch,
            guidance: section.guidance,
            weak: None,
            sampler: section.sampler.clone(),
            seed,
            classes: if model.config.classes.is_some() { Classes::Cycle } else { Classes::Unconditional },
        }
    }

    /// The same for the first samples alone.
    ///
    /// # Panics
    /// If there are fewer.
    #[track_caller]
    pub fn first(&self, count: usize) -> Generate {
        assert!(count <= self.count, "the first {count} of {} samples", self.count);
        let classes = match &self.classes {
            Classes::Each(labels) => Classes::Each(labels[..count].to_vec()),
            other => other.clone(),
        };
        Generate { count, classes, ..self.clone() }
    }

    pub(crate) fn condition(&self, model: &DiffusionModel) -> Cond {
        let Some(classes) = model.config.classes else { return Cond::NONE };
        let label = |i: usize| match &self.classes {
            Classes::Unconditional => classes as u32,
            Classes::Only(class) => *class,
            Classes::Cycle => (i % classes) as u32,
            Classes::Each(labels) => labels[i],
        };
        Cond::classes((0..self.count).map(label).collect())
    }

    pub(crate) fn noise(&self) -> Noise {
        Noise::new(self.seed, STREAM)
    }

    /// Hands the sampler of the model with its guidance to `work`.
    fn with_sampler<R>(
        &self,
        model: &DiffusionModel,
        work: impl FnOnce(&Sampler<'_>) -> Result<R, SolveError>,
    ) -> Result<R, TrainError> {
        // The network's runs are what is counted, of which guidance makes two for one answer.
        let counter = Counter::new();
        let guided = self.guided(model, &counter)?;
        let sampler = self.sampler.build(&guided)?.counter(counter);
        Ok(work(&sampler)?)
    }

    fn guided<'a>(&'a self, model: &'a DiffusionModel, counter: &Counter) -> Result<Box<dyn Denoiser + 'a>, TrainError> {
        let config = |problem: String| TrainError::config("sampling", problem);
        let counted = Counted::new(model, counter.clone());
        let null = match (&self.weak, model.config.classes) {
            (Some(weak), _) => {
                let weak = Counted::new(weak, counter.clone());
                let guided = AutoGuidance::new(counted, weak, self.guidance).map_err(|e| config(e.to_string()))?;
                return Ok(Box::new(guided));
            }
            (None, None) if self.guidance.scale != 1.0 => {
                let problem = "guidance: this model was trained without classes, and there is no weaker model to guide by";
                return Err(config(problem.to_owned()));
            }
            (None, classes) => classes.unwrap_or(0) as u32,
        };
        Ok(Box::new(ClassifierFree::new(counted, null, self.guidance).map_err(|e| config(e.to_string()))?))
    }
}

/// Draws samples `[count, ...]`.
///
/// # Errors
/// If the solver, grid and process do not go together, the guidance makes no sense or has no classes to guide between, or the model's
/// output is not finite.
pub fn generate(model: &DiffusionModel, request: &Generate, observers: &mut [&mut dyn Observer]) -> Result<Samples, TrainError> {
    let (cond, shape) = (request.condition(model), &model.config.sample_shape);
    request.with_sampler(model, |sampler| {
        sampler.sample_many(request.count, request.batch, shape, &cond, request.noise(), 0, observers)
    })
}

/// The samples `[count, ...]` that given standard normal noise `epsilon`, `[count, ...]`, leads to: the initial state is `σ(t_0) ε`.
///
/// # Errors
/// As [`generate`].
///
/// # Panics
/// If `epsilon` is not of that shape.
#[track_caller]
pub fn decode(
    model: &DiffusionModel,
    request: &Generate,
    epsilon: &Tensor,
    observers: &mut [&mut dyn Observer],
) -> Result<Samples, TrainError> {
    check_shape(model, request, epsilon);
    let (cond, shape) = (request.condition(model), &model.config.sample_shape);
    request.with_sampler(model, |sampler| {
        sampler.in_batches(request.count, request.batch, shape, |rows| {
            let start = sampler.prior(&epsilon.slice(0, rows.clone()));
            sampler.integrate(start, &cond.slice(rows.clone()), request.noise(), rows.start as u64, observers)
        })
    })
}

/// The standard normal noise that [`decode`] takes to the data `x`, `[count, ...]`, up to the errors of the solver both ways.
///
/// # Errors
/// As [`generate`], and if the solver draws noise.
///
/// # Panics
/// If `x` is not of that shape.
#[track_caller]
pub fn encode(
    model: &DiffusionModel,
    request: &Generate,
    x: &Tensor,
    observers: &mut [&mut dyn Observer],
) -> Result<Samples, TrainError> {
    check_shape(model, request, x);
    let (cond, shape) = (request.condition(model), &model.config.sample_shape);
    request.with_sampler(model, |sampler| {
        sampler.in_batches(request.count, request.batch, shape, |rows| {
            let part = sampler.encode(x.slice(0, rows.clone()), &cond.slice(rows), observers)?;
            Ok(Samples { x: sampler.epsilon(&part.x), ..part })
        })
    })
}

/// `count` points `[count, ...]` on the way from the code `a` to the code `b`, both `[1, ...]`, along the great circle:
///
/// ```text
/// (sin((1 − u) ω) a + sin(u ω) b)/sin ω      u from 0 to 1      cos ω = a·b/|a| |b|
/// ```
///
/// Of two normal vectors of many dimensions, every point between has the length that normal vectors have, about `√d`; the middle of the
/// straight line has `√(d/2)`, where no sample comes from (White 2016, arXiv:1609.04468). Where the two are parallel or opposite, so that
/// no circle is the shortest, the way is straight.
///
/// # Panics
/// If the shapes differ or are not `[1, ...]`, or `count` is below 2.
#[track_caller]
pub fn interpolate(a: &Tensor, b: &Tensor, count: usize) -> Tensor {
    assert!(a.shape() == b.shape() && a.rank() > 0 && a.dim(0) == 1, "a path from {:?} to {:?}", a.shape(), b.shape());
    assert!(count > 1, "a path of {count} points");
    let (x, y) = (a.to_vec::<f64>(), b.to_vec::<f64>());
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let angle = (dot(&x, &y) / (dot(&x, &x) * dot(&y, &y)).sqrt()).clamp(-1.0, 1.0).acos();
    let share = |u: f64| if angle.sin() > 1e-6 { (u * angle).sin() / angle.sin() } else { u };
    let point = |i: usize| {
        let u = i as f64 / (count - 1) as f64;
        let (from, to) = (share(1.0 - u), share(u));
        x.iter().zip(&y).map(move |(x, y)| from * x + to * y).collect::<Vec<f64>>()
    };
    let shape = [&[count], &a.shape()[1..]].concat();
    Tensor::from_f64(&shape, &(0..count).flat_map(point).collect::<Vec<f64>>(), a.dtype())
}

/// Fits a grid of this sampler's solver and number of steps to the model, on `count` states of the prior.
///
/// # Errors
/// As [`generate`], and if the solver draws noise.
pub fn fit_grid(model: &DiffusionModel, request: &Generate, trials: usize) -> Result<FittedGrid, TrainError> {
    let sampler = &request.sampler;
    let guided = request.guided(model, &Counter::new())?;
    let fit = GridFit { trials, ..GridFit::new(sampler.grid.clone(), sampler.solver.clone()) };
    let epsilon = request.noise().normal(&[&[request.count], &model.config.sample_shape[..]].concat(), 0, 0, Dtype::F64);
    let cond = request.condition(model);
    let denoiser = sampler.model(&guided)?;
    let start = sampler.grid.build(denoiser.sde())?.first();
    Ok(optimise_grid(&denoiser, &fit, &(&epsilon * denoiser.sde().sigma(start)), &cond)?)
}

#[track_caller]
pub(crate) fn check_shape(model: &DiffusionModel, request: &Generate, x: &Tensor) {
    let shape = [&[request.count], &model.config.sample_shape[..]].concat();
    assert_eq!(x.shape(), shape, "{:?} for {} samples of shape {:?}", x.shape(), request.count, model.config.sample_shape);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_its_length_and_turns_by_equal_angles() {
        let (a, b) = (Tensor::from_vec(&[1, 3], vec![3.0, 0.0, 0.0]), Tensor::from_vec(&[1, 3], vec![0.0, 0.0, 3.0]));
        let path = interpolate(&a, &b, 4).to_vec::<f64>();
        for (i, point) in path.chunks(3).enumerate() {
            let angle = i as f64 * std::f64::consts::FRAC_PI_6;
            let expected = [3.0 * angle.cos(), 0.0, 3.0 * angle.sin()];
            assert!(point.iter().zip(expected).all(|(p, e)| (p - e).abs() < 1e-14), "{point:?} at {i}");
        }
        // Vectors of other lengths begin and end as they are; parallel and opposite ones, and none at all, have a straight way.
        for other in [[0.5, -2.0, 1.0], [6.0, 0.0, 0.0], [-3.0, 0.0, 0.0], [0.0, 0.0, 0.0]] {
            let path = interpolate(&a, &Tensor::from_vec(&[1, 3], other.to_vec()), 3).to_vec::<f64>();
            assert!(path.iter().all(|p| p.is_finite()), "{path:?}");
            assert!(path[0] == 3.0 && path[6..].iter().zip(other).all(|(p, e)| (p - e).abs() < 1e-14), "{path:?}");
        }
    }
}
