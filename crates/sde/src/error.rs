//! Errors of configurations.

/// A configuration whose numbers make no sense: which one, which field, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{kind}`: field `{field}`: expected {expected}")]
pub struct SdeError {
    what: &'static str,
    kind: &'static str,
    field: &'static str,
    expected: String,
}

impl SdeError {
    pub(crate) fn new(kind: &'static str, field: &'static str, expected: String) -> Self {
        Self { what: "sde", kind, field, expected }
    }

    pub(crate) fn preconditioning(kind: &'static str, field: &'static str, expected: String) -> Self {
        Self { what: "preconditioning", kind, field, expected }
    }

    /// The field that is wrong.
    pub fn field(&self) -> &'static str {
        self.field
    }
}

/// Requires `0 < low < high`, both finite, for a pair of fields.
pub(crate) fn increasing(kind: &'static str, field: &'static str, low: f64, high: f64) -> Result<(), SdeError> {
    if 0.0 < low && low < high && high.is_finite() {
        Ok(())
    } else {
        Err(SdeError::new(kind, field, format!("finite numbers with 0 < first < second, found {low} and {high}")))
    }
}

/// Requires `low < value < high` (or `≤ high` at a closed end) for one field.
pub(crate) fn end_of_time(kind: &'static str, t_max: f64, limit: f64) -> Result<(), SdeError> {
    if t_max <= limit { Ok(()) } else { Err(SdeError::new(kind, "t_max", format!("at most {limit}, found {t_max}"))) }
}
