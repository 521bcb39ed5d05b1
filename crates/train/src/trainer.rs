//! One training step after another, and the state between them.

use std::path::Path;
use std::sync::Arc;

use fokker_data::{Cursor, Dataset, Loader, LoaderConfig};
use fokker_models::DiffusionModel;
use fokker_models::checkpoint::Checkpoint;
use fokker_nn::{Adam, Ema, clip_scale, global_norm, value_and_grad};
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
        let (loss, grads) = value_and_grad(&self.model, |model| Objective::loss(model, &noised, &cond, self.bound.as_ref()));
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
