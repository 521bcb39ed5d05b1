//! Training: objectives, the trainer, runs that can be killed at any moment, and recipes.
//!
//! ```
//! use fokker_train::{RunConfig, Trainer};
//!
//! let mut config = RunConfig::recipe("moons")?;
//! config.train.steps = 3;
//! config.train.batch = 32;
//! let mut trainer = Trainer::new(config, ".".as_ref())?;
//! let first = trainer.step()?;
//! assert!(first.loss.is_finite());
//! assert_eq!(trainer.images(), 32);
//! # Ok::<(), fokker_train::TrainError>(())
//! ```
//!
//! All randomness of a run is a function of its seed and the number of samples seen, so a run resumed from a checkpoint has the
//! same bits as one that was never stopped.

mod config;
mod error;
pub mod evaluation;
mod features;
mod objective;
mod recipes;
mod run;
mod sampling;
pub mod scores;
mod trainer;
mod variance;

pub use config::{DataSection, EmaSection, ModelSection, RunConfig, SampleSection, TrainSection, override_sampler};
pub use error::TrainError;
pub use features::{
    FEATURES_VERSION, FeatureNetwork, FeatureStep, FeatureTraining, Learned, PretrainedFeatures, Reading, TrainedFeatures,
    train_features,
};
pub use objective::{Objective, TimeDistribution, Weighting};
pub use recipes::{RECIPES, Recipe};
pub use run::{Event, Outcome, Record, RunDirectory, kept_model, load_model, train};
pub use sampling::{Classes, Generate, decode, encode, fit_grid, generate, interpolate};
pub use scores::{Interval, Repeated, Scores, Scoring, bound};
pub use trainer::{StepReport, Trainer};
pub use variance::VarianceBound;
