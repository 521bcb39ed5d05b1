//! Two intertwined spirals.
//!
//! With `u ~ U[0, 1]`, the angle `φ = 3π √u` (so that points spread evenly along the arms) and a fair sign:
//!
//! ```text
//! x = ± 2√u (−cos φ, sin φ) + noise · ε,   ε ~ N(0, I)
//! ```
//!
//! The arms end at radius 2 and are 0.67 apart; each coordinate has mean 0 and a variance of about 1.

use std::f64::consts::PI;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::density::{Density, EPOCH, Points, not_negative};
use crate::draws::Draws;
use crate::error::DataError;
use crate::sets::Source;

/// Two intertwined spirals; the label is the spiral.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spirals {
    /// Standard deviation of the noise around the curves.
    pub noise: f64,
    /// The number of samples called an epoch.
    pub len: usize,
    /// The seed all samples follow from.
    pub seed: u64,
}

impl Default for Spirals {
    fn default() -> Self {
        Spirals { noise: 0.05, len: EPOCH, seed: 0 }
    }
}

impl Source for Spirals {
    fn open(&self, _base: &Path) -> Result<Box<dyn Dataset>, DataError> {
        not_negative("noise", self.noise)?;
        Points::open("spirals", self.clone(), self.len, self.seed)
    }
}

impl Density for Spirals {
    fn point(&self, draws: &mut Draws) -> ([f64; 2], u32) {
        let spiral = draws.below(2);
        let root = draws.uniform().sqrt();
        let (sin, cos) = (3.0 * PI * root).sin_cos();
        let radius = if spiral == 0 { 2.0 * root } else { -2.0 * root };
        let x = -radius * cos + self.noise * draws.normal();
        let y = radius * sin + self.noise * draws.normal();
        ([x, y], spiral as u32)
    }

    fn components(&self) -> Option<usize> {
        Some(2)
    }
}
