//! One training step after another, and the state between them.

use std::path::Path;
use std::sync::Arc;

use fokker_data::{Cursor, Dataset, Loader, LoaderConfig};
use fokker_models::DiffusionModel;
use fokker_models::checkpoint::Checkpoint;
use fokker_nn::{Adam, Ema, Module, clip_scale, global_norm, value_and_grad};
use fokker_tensor::Dtype;

use crate::config::RunConfig;
use crate::error::TrainError;
use crate::objective::Objective;
use crate::variance::Bound;

/// A run between two steps.
pub struct Trainer {
    config: RunConfig,
    model: DiffusionModel,
    bound: Option<Bound>,
    ema: Ema<DiffusionModel>,
    adam: Adam<DiffusionModel>,
    loader: Loader,
    step: u64,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// The loss of this step's batch.
    pub loss: f64,
    /// The gradient's norm before clipping.
    pub gradient_norm: f64,
    /// The learning rate.
    pub learning_rate: f64,
}

/// Metadata keys of a checkpoint.
pub(crate) mod key {
    pub(crate) const CONFIG: &str = "fokker.run";
    pub(crate) const MODEL: &str = "fokker.model";
    pub(crate) const STEP: &str = "fokker.step";
    pub(crate) const ADAM_STEPS: &str = "fokker.adam_steps";
    pub(crate) const EMA_UPDATES: &str = "fokker.ema_updates";
    pub(crate) const CURSOR: &str = "fokker.cursor";
    pub(crate) const SAMPLES: &str = "fokker.samples";
}

impl Trainer {
    /// A run at its start; relative paths of the data are taken from `base`.
    ///
    /// # Errors
    /// If the data cannot be opened, or the model, its bound or the sampler not be built.
    pub fn new(config: RunConfig, base: &Path) -> Result<Trainer, TrainError> {
        let dataset: Arc<dyn Dataset> = config.data.open(base)?.into();
        let model_config = config.model_config(dataset.sample_shape(), dataset.classes())?;
        let model = DiffusionModel::new(model_config, config.seed, Dtype::F32)?;
        // A sampler that does not go with the process would fail only at the first picture.
        config.sample.sampler.build(&model)?;
        let bound = config.objective.bound(&model.config, dataset.levels())?;
        let loader = loader(&config, dataset, 0)?;
        let ema = Ema::new(&model, config.ema.0);
        let adam = Adam::new(&model, config.train.adam);
        Ok(Trainer { config, model, bound, ema, adam, loader, step: 0 })
    }

    /// A run as a checkpoint left it; `file` is where `checkpoint` came from.
    ///
    /// # Errors
    /// If the checkpoint is not a run's, or the data is not what the run was started with.
    pub fn resume(checkpoint: &Checkpoint, file: &Path, base: &Path) -> Result<Trainer, TrainError> {
        let config = RunConfig::parse(checkpoint.text(key::CONFIG, file)?, &file.display().to_string())?;
        let dataset: Arc<dyn Dataset> = config.data.open(base)?.into();
        let model_config = config.model_config(dataset.sample_shape(), dataset.classes())?;
        let stored = checkpoint.text(key::MODEL, file)?;
        if serde_json::to_string(&model_config).ok().as_deref() != Some(stored) {
            let problem = format!(
                "the data now has shape {:?} and classes {:?}, but the checkpoint's model is {stored}",
                dataset.sample_shape(),
                dataset.classes()
            );
            return Err(TrainError::file(file, problem));
        }
        let mut model = DiffusionModel::new(model_config, config.seed, Dtype::F32)?;
        let number = |key: &str| -> Result<u64, TrainError> {
            let text = checkpoint.text(key, file)?;
            text.parse().map_err(|_| TrainError::file(file, format!("metadata `{key}`: expected a number, found `{text}`")))
        };
        let (samples, before) = (dataset.len() as u64, number(key::SAMPLES)?);
        if samples != before {
            let problem = format!("the data now has {samples} samples, but the run was started with {before}");
            return Err(TrainError::file(file, problem));
        }
        let mut ema = Ema::new(&model, config.ema.0);
        let mut adam = Adam::new(&model, config.train.adam);
        checkpoint.load_module("model", &mut model, file)?;
        checkpoint.load_module("ema", &mut ema.model, file)?;
        checkpoint.load_module("adam.mean", &mut adam.mean, file)?;
        checkpoint.load_module("adam.square", &mut adam.square, file)?;
        adam.steps = number(key::ADAM_STEPS)?;
        ema.updates = number(key::EMA_UPDATES)?;
        let bound = config.objective.bound(&model.config, dataset.levels())?;
        let loader = loader(&config, dataset, number(key::CURSOR)?)?;
        let step = number(key::STEP)?;
        Ok(Trainer { config, model, bound, ema, adam, loader, step })
    }

    /// Everything that [`resume`](Self::resume) needs.
    ///
    /// # Errors
    /// If the configuration cannot be written.
    pub fn checkpoint(&self) -> Result<Checkpoint, TrainError> {
        let mut c = Checkpoint::default();
        c.insert_module("model", &self.model);
        c.insert_module("ema", &self.ema.model);
        c.insert_module("adam.mean", &self.adam.mean);
        c.insert_module("adam.square", &self.adam.square);
        let model = serde_json::to_string(&self.model.config).map_err(|e| TrainError::config("model", e.to_string()))?;
        for (key, value) in [
            (key::CONFIG, self.config.to_toml()?),
            (key::MODEL, model),
            (key::STEP, self.step.to_string()),
            (key::ADAM_STEPS, self.adam.steps.to_string()),
            (key::EMA_UPDATES, self.ema.updates.to_string()),
            (key::CURSOR, self.loader.cursor().position.to_string()),
            (key::SAMPLES, self.loader.dataset().len().to_string()),
        ] {
            c.metadata.insert(key.into(), value);
        }
        Ok(c)
    }

    /// One step: a batch, its loss and gradients, the update, the average.
    ///
    /// # Errors
    /// If the data cannot be read, or the loss or gradient is not finite; the model is then as it was before the step.
    pub fn step(&mut self) -> Result<StepReport, TrainError> {
        let (seed, first) = (self.config.seed, self.images());
        let batch = self.loader.next_batch()?;
        let objective = self.config.objective;
        let noised = objective.noise(&self.model, &batch.x, seed, first);
        let cond = objective.condition(&self.model, batch.labels.as_deref(), seed, first);
        let precision = self.config.train.precision.dtype();
        // Parameters are rounded where the network uses them; their gradients come back in their own type.
        let loss = |model: &DiffusionModel| Objective::loss(&model.to(precision), &noised, &cond, self.bound.as_ref());
        let (loss, grads) = value_and_grad(&self.model, loss);
        let gradient_norm = global_norm(&grads);
        let section = &self.config.train;
        let learning_rate = section.learning_rate * section.schedule.factor(self.step, section.steps);
        if !loss.is_finite() || !gradient_norm.is_finite() {
            return Err(TrainError::Diverged { step: self.step + 1, loss, images: first, rate: learning_rate });
        }
        let scale = if section.clip > 0.0 { clip_scale(gradient_norm, section.clip) } else { 1.0 };
        self.step += 1;
        let (images, batch) = (self.images(), self.config.train.batch);
        self.adam.step_and_average(&mut self.model, &grads, learning_rate, scale, &mut self.ema, images, batch);
        Ok(StepReport { step: self.step, loss, gradient_norm, learning_rate })
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Samples seen.
    pub fn images(&self) -> u64 {
        self.step * self.config.train.batch as u64
    }

    /// Times the data has been seen.
    pub fn epochs(&self) -> f64 {
        self.images() as f64 / self.loader.dataset().len() as f64
    }

    /// The run's configuration.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The data set.
    pub fn dataset(&self) -> &dyn Dataset {
        self.loader.dataset()
    }

    /// The model as it is being trained.
    pub fn model(&self) -> &DiffusionModel {
        &self.model
    }

    /// The average of the model's weights: what to sample from.
    pub fn average(&self) -> &DiffusionModel {
        &self.ema.model
    }
}

fn loader(config: &RunConfig, dataset: Arc<dyn Dataset>, position: u64) -> Result<Loader, TrainError> {
    let loader_config =
        LoaderConfig { batch: config.train.batch, seed: config.seed, shuffle: true, flip: config.loader.flip, prefetch: 2 };
    Ok(Loader::new(dataset, loader_config, Cursor { position })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Precision;

    /// The mean loss of the last third of a short run, and the trainer.
    fn run(recipe: &str, precision: &str, steps: u64, overrides: &[&str]) -> (f64, Trainer) {
        let own = [format!("train.precision={precision}"), format!("train.steps={steps}")];
        let all: Vec<String> = own.into_iter().chain(overrides.iter().map(|&o| o.to_owned())).collect();
        let mut trainer = Trainer::new(RunConfig::load(recipe, &all).unwrap(), ".".as_ref()).unwrap();
        let losses: Vec<f64> = (0..steps).map(|_| trainer.step().unwrap().loss).collect();
        let last = &losses[losses.len() * 2 / 3..];
        (last.iter().sum::<f64>() / last.len() as f64, trainer)
    }

    #[test]
    fn a_run_in_bf16_reaches_the_loss_of_one_in_f32_and_keeps_its_weights_in_f32() {
        let image = "model.network={ kind = \"unet\", channels = [8, 16], blocks = 1, groups = 4, head_channels = 8 }";
        for (recipe, steps, overrides) in [("moons", 300, &[][..]), ("glyphs", 30, &[image, "train.batch=8"])] {
            let (wide, _) = run(recipe, "f32", steps, overrides);
            let (narrow, trainer) = run(recipe, "bf16", steps, overrides);
            assert!((narrow - wide).abs() < 0.02 * wide, "{recipe}: {narrow} in bf16, {wide} in f32");
            assert_ne!(narrow, wide, "{recipe}: the same network in another precision");
            assert_eq!(trainer.config().train.precision, Precision::Bf16);
            let kept = trainer.checkpoint().unwrap().tensors;
            assert!(kept.values().all(|t| t.dtype() == Dtype::F32), "{recipe}");
            // Master weights: most are not numbers of bf16.
            let weights = trainer.model().tensors();
            let short = weights.iter().filter(|t| t.to(Dtype::Bf16).to_vec::<f32>() == t.to_vec::<f32>()).count();
            assert!(short == 0, "{recipe}: {short} of {} parameters are rounded", weights.len());
        }
    }
}
