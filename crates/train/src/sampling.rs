//! Drawing samples from a model, with classes.

use fokker_guidance::{ClassifierFree, Guidance};
use fokker_models::DiffusionModel;
use fokker_sde::{Cond, Counted, Counter};
use fokker_solve::{Observer, SamplerConfig, Samples};
use fokker_tensor::Noise;

use crate::config::SampleSection;
use crate::error::TrainError;

/// The stream of sampling noise.
const STREAM: u64 = 0x7261_0010;

/// Which classes samples are drawn of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classes {
    /// Without a class.
    Unconditional,
    /// All of one class.
    Only(u32),
    /// Sample `i` is of class `i mod classes`.
    Cycle,
}

/// What to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Generate {
    /// Number of samples.
    pub count: usize,
    /// Samples per batch. Samples do not depend on it, except for rounding.
    pub batch: usize,
    /// Classifier-free guidance, where samples have a class.
    pub guidance: Guidance,
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
            sampler: section.sampler.clone(),
            seed,
            classes: if model.config.classes.is_some() { Classes::Cycle } else { Classes::Unconditional },
        }
    }

    fn condition(&self, model: &DiffusionModel) -> Cond {
        let Some(classes) = model.config.classes else { return Cond::NONE };
        let label = |i: usize| match self.classes {
            Classes::Unconditional => classes as u32,
            Classes::Only(class) => class,
            Classes::Cycle => (i % classes) as u32,
        };
        Cond::classes((0..self.count).map(label).collect())
    }
}

/// Draws samples `[count, ...]`.
///
/// # Errors
/// If the solver, grid and process do not go together, the guidance makes no sense or has no classes to guide between, or the model's
/// output is not finite.
pub fn generate(model: &DiffusionModel, request: &Generate, observers: &mut [&mut dyn Observer]) -> Result<Samples, TrainError> {
    let config = |problem: String| TrainError::config("sampling", problem);
    let null = match model.config.classes {
        None if request.guidance.scale != 1.0 => {
            return Err(config("guidance: this model was trained without classes".to_owned()));
        }
        classes => classes.unwrap_or(0) as u32,
    };
    // The network's runs are what is counted, of which guidance makes two for one answer.
    let counter = Counter::new();
    let counted = Counted::new(model, counter.clone());
    let guided = ClassifierFree::new(counted, null, request.guidance).map_err(|e| config(e.to_string()))?;
    let sampler = request.sampler.build(&guided)?.counter(counter);
    let (cond, noise) = (request.condition(model), Noise::new(request.seed, STREAM));
    let shape = &model.config.sample_shape;
    Ok(sampler.sample_many(request.count, request.batch, shape, &cond, noise, 0, observers)?)
}
