//! What can go wrong with a model's configuration or file.

use std::path::PathBuf;

/// A model that cannot be built or read.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A field of the configuration is out of range.
    #[error("model configuration, field `{field}`: expected {expected}")]
    Config {
        /// The field.
        field: String,
        /// What it should be, and what it was.
        expected: String,
    },
    /// The process and the preconditioning do not go together.
    #[error(transparent)]
    Sde(#[from] fokker_sde::SdeError),
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        problem: String,
    },
}

impl ModelError {
    pub(crate) fn config(field: &str, expected: impl Into<String>) -> Self {
        ModelError::Config { field: field.into(), expected: expected.into() }
    }

    pub(crate) fn file(path: &std::path::Path, problem: impl Into<String>) -> Self {
        ModelError::File { path: path.into(), problem: problem.into() }
    }
}
