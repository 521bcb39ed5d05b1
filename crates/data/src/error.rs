//! What can go wrong with data from outside: every message names the file, the field and what was expected.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// An error in a data set, a configuration or a file.
#[derive(Debug, Error)]
pub enum DataError {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written. Nothing is left at `path` but what was there before.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file that was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{}: {field} is {found}, expected {expected}", path.display())]
    Format {
        /// The file; inside an archive, the archive's path followed by the member's.
        path: PathBuf,
        /// The part of the file that is wrong: a header field, a row, a label.
        field: String,
        /// What the file holds there.
        found: String,
        /// What it should hold.
        expected: String,
    },
    /// Two images of one data set differ in size or colour.
    #[error("images of mixed {what}: {first}, but {second}; {hint}")]
    Mixed {
        /// `size` or `colour`.
        what: &'static str,
        /// The image that set the size or colour, and what it is.
        first: String,
        /// The first image that differs, and what that one is.
        second: String,
        /// The option that makes them alike.
        hint: &'static str,
    },
    /// A configuration value is out of its range or contradicts another.
    #[error("{field} is {found}, expected {expected}")]
    Config {
        /// The configuration key.
        field: String,
        /// Its value.
        found: String,
        /// What would be accepted.
        expected: String,
    },
}

impl DataError {
    pub(crate) fn read(path: impl Into<PathBuf>, source: io::Error) -> Self {
        DataError::Read { path: path.into(), source }
    }

    pub(crate) fn write(path: impl Into<PathBuf>, source: io::Error) -> Self {
        DataError::Write { path: path.into(), source }
    }

    pub(crate) fn format(path: impl AsRef<Path>, field: impl Display, found: impl Display, expected: impl Display) -> Self {
        DataError::Format {
            path: path.as_ref().to_path_buf(),
            field: field.to_string(),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    pub(crate) fn config(field: impl Display, found: impl Display, expected: impl Display) -> Self {
        DataError::Config { field: field.to_string(), found: found.to_string(), expected: expected.to_string() }
    }
}
