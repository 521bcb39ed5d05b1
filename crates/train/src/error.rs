//! What can go wrong with a run.

use std::path::{Path, PathBuf};

/// A run that cannot start, go on or be read.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A configuration file or override is not valid.
    #[error("{origin}: {problem}")]
    Config {
        /// The file, recipe or option.
        origin: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("{path}: cannot {action}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The reason.
        source: std::io::Error,
    },
    /// A run's file is not what it should be.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// The loss is no longer a number.
    #[error(
        "the loss is {loss} at step {step} (after {images} samples): training has diverged. Nothing was saved after the last \
         checkpoint. Lower `train.learning_rate` ({rate}), set `train.clip`, or look for extreme values in the data"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// The loss.
        loss: f64,
        /// Samples seen.
        images: u64,
        /// The learning rate in use.
        rate: f64,
    },
    /// What the caller does at an event failed.
    #[error("{message}")]
    Callback {
        /// The reason.
        message: String,
    },
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] fokker_data::DataError),
    /// The model could not be built or read.
    #[error(transparent)]
    Model(#[from] fokker_models::ModelError),
    /// Sampling failed.
    #[error(transparent)]
    Solve(#[from] fokker_solve::SolveError),
    /// Samples or data cannot be judged.
    #[error(transparent)]
    Metric(#[from] fokker_metrics::MetricError),
}

impl TrainError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> TrainError {
        move |source| TrainError::Io { path: path.into(), action, source }
    }

    pub(crate) fn file(path: &Path, problem: impl Into<String>) -> TrainError {
        TrainError::File { path: path.into(), problem: problem.into() }
    }

    pub(crate) fn config(origin: impl Into<String>, problem: impl Into<String>) -> TrainError {
        TrainError::Config { origin: origin.into(), problem: problem.into() }
    }
}
