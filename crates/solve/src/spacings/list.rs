//! Times, or noise levels `σ/α`, one by one: written into the configuration, or read from a file.
//!
//! A file is text: numbers separated by spaces, commas or line ends; `#` starts a comment. [`Grid::to_text`](crate::Grid::to_text)
//! writes one.

use std::path::{Path, PathBuf};

use fokker_sde::Sde;
use serde::{Deserialize, Serialize};

use super::Space;
use crate::error::SolveError;

/// An explicit list, from noise to data; exactly one of the three fields. The grid's `steps`, `t_min` and `t_max` follow from it.
///
/// A last noise level of 0 is not written: that is the grid's `denoise_last`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct List {
    /// Decreasing times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<Vec<f64>>,
    /// Decreasing noise levels `σ/α`, which any process understands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_levels: Option<Vec<f64>>,
    /// A file of times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl List {
    /// A list of times.
    pub fn of_times(times: Vec<f64>) -> Self {
        Self { times: Some(times), ..Self::default() }
    }

    /// A list of noise levels `σ/α`.
    pub fn of_noise_levels(noise_levels: Vec<f64>) -> Self {
        Self { noise_levels: Some(noise_levels), ..Self::default() }
    }

    /// A file of times.
    pub fn of_file(file: impl Into<PathBuf>) -> Self {
        Self { file: Some(file.into()), ..Self::default() }
    }
}

impl Space for List {
    fn times(&self, sde: &dyn Sde, _t_max: f64, _t_min: f64, _points: usize) -> Result<Vec<f64>, SolveError> {
        if let Some(times) = &self.times {
            return Ok(times.clone());
        }
        if let Some(levels) = &self.noise_levels {
            return levels.iter().enumerate().map(|(i, &level)| time_of(sde, i, level)).collect();
        }
        match &self.file {
            Some(file) => read(file),
            None => unreachable!("checked before"),
        }
    }

    fn check(&self) -> Result<(), SolveError> {
        let given = [self.times.is_some(), self.noise_levels.is_some(), self.file.is_some()].iter().filter(|g| **g).count();
        if given == 1 {
            return Ok(());
        }
        let expected = format!("exactly one of the three, found {given}");
        Err(SolveError::Config { what: "grid", kind: Self::KIND, field: "times, noise_levels, file", expected })
    }

    fn own_ends(&self) -> bool {
        true
    }
}

/// The time of noise level number `i`.
fn time_of(sde: &dyn Sde, i: usize, level: f64) -> Result<f64, SolveError> {
    if !(level > 0.0 && level.is_finite()) {
        let hint = if level == 0.0 { "; the step to 0 is `denoise_last`" } else { "" };
        return Err(SolveError::Grid(format!("noise level {i} is {level}, expected a positive number{hint}")));
    }
    // The ends of a span, written as noise levels, may miss it by the rounding of the round trip.
    let t = sde.time_at_log_snr(-2.0 * level.ln());
    let (low, high) = sde.span();
    let nearest = t.clamp(low, high);
    Ok(if (t - nearest).abs() <= 1e-9 * nearest { nearest } else { t })
}

fn read(file: &Path) -> Result<Vec<f64>, SolveError> {
    let text = std::fs::read_to_string(file).map_err(|e| SolveError::Grid(format!("{}: cannot be read: {e}", file.display())))?;
    let mut times = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or_default();
        for word in content.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()) {
            let bad = |_| SolveError::Grid(format!("{}: line {}: expected a time, found `{word}`", file.display(), number + 1));
            times.push(word.parse::<f64>().map_err(bad)?);
        }
    }
    if times.is_empty() {
        return Err(SolveError::Grid(format!("{}: expected times, found none", file.display())));
    }
    Ok(times)
}
