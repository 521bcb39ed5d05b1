//! What can go wrong with sets of vectors from outside: every message says which set, where in it, and what was expected.

use std::io;

use thiserror::Error;

/// Why a metric cannot be computed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MetricError {
    /// A set has no rows, or its rows have no columns.
    #[error("the {set} set is of shape {shape:?}, expected [N, ...] with at least one row and one column")]
    Shape {
        /// Which set.
        set: &'static str,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A number is NaN or infinite, or so large that its square could be.
    #[error("the {set} set has {value:e} at row {row}, column {column}, expected finite numbers below 1e140")]
    NotFinite {
        /// Which set.
        set: &'static str,
        /// The first row with such a number, from 0.
        row: usize,
        /// Its column, from 0.
        column: usize,
        /// The number.
        value: f64,
    },
    /// The sets are not of the same space.
    #[error("the {first} set has {first_width} columns, the {second} set {second_width}: features of two different spaces")]
    Widths {
        /// One set.
        first: &'static str,
        /// Its columns.
        first_width: usize,
        /// The other set.
        second: &'static str,
        /// The other's columns.
        second_width: usize,
    },
    /// There are too few rows for what was asked.
    #[error("the {set} set has {found} rows, expected at least {needed} ({why})")]
    TooFew {
        /// Which set.
        set: &'static str,
        /// Its rows.
        found: usize,
        /// The least number of rows.
        needed: usize,
        /// What needs them.
        why: String,
    },
    /// A method for a limited number of rows was given more, or sets that should be of one size are not.
    #[error("the sets have {real} and {generated} rows, expected {expected}")]
    Sizes {
        /// Rows of the real set.
        real: usize,
        /// Rows of the generated set.
        generated: usize,
        /// What would do.
        expected: String,
    },
    /// The numbers do not define the metric, as a bandwidth of zero.
    #[error("{what} is {found}, expected {expected}")]
    Degenerate {
        /// The quantity.
        what: String,
        /// Its value and how it came about.
        found: String,
        /// What the metric needs.
        expected: String,
    },
    /// The covariance of so many features would take more memory than any metric is to take.
    #[error(
        "{width} features have a covariance of {width} × {width} numbers, some {:.0} GiB with what is made of it, expected at most {most} \
         features: those of a network, or of a random projection",
        gib(*width)
    )]
    TooWide {
        /// Numbers of a vector.
        width: usize,
        /// The most that there may be.
        most: usize,
    },
    /// The sets are features of two networks, as far as is known.
    #[error("the {first} set has features of {first_space}, the {second} set of {second_space}: they do not compare")]
    Spaces {
        /// One set.
        first: &'static str,
        /// What its features are called.
        first_space: String,
        /// The other set.
        second: &'static str,
        /// What the other's are called.
        second_space: String,
    },
    /// A configuration value is out of its range.
    #[error("{field} is {found}, expected {expected}")]
    Config {
        /// The configuration key.
        field: &'static str,
        /// Its value.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// A file of statistics is not as it should be.
    #[error("statistics: {field} is {found}, expected {expected}")]
    Format {
        /// The array.
        field: &'static str,
        /// What the file has there.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// A file of statistics cannot be read or written.
    #[error("statistics: {0}")]
    Io(#[from] io::Error),
}

/// What a Fréchet distance of so many features takes: `40 D²` bytes.
fn gib(width: usize) -> f64 {
    40.0 * (width as f64).powi(2) / f64::from(1 << 30)
}

impl MetricError {
    pub(crate) fn config(field: &'static str, found: impl ToString, expected: impl Into<String>) -> Self {
        MetricError::Config { field, found: found.to_string(), expected: expected.into() }
    }
}
