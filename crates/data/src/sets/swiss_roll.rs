//! Swiss roll, its two interesting coordinates.
//!
//! With `t = 3π/2 · (1 + 2u)`, `u ~ U[0, 1]`:
//!
//! ```text
//! x = t (cos t, sin t) / 7 + noise · ε,   ε ~ N(0, I)
//! ```
//!
//! The radius runs from 0.67 to 2.02, neighbouring turns are 0.90 apart; the mean is about
//! `(0.3, 0)` and each coordinate has a variance of about 1.

use std::f64::consts::PI;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::density::{Density, EPOCH, Points, not_negative};
use crate::draws::Draws;
use crate::error::DataError;
use crate::sets::Source;

/// One spiral, wound one and a half times; no labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SwissRoll {
    /// Standard deviation of the noise around the curve.
    pub noise: f64,
    /// The number of samples called an epoch.
    pub len: usize,
    /// The seed all samples follow from.
    pub seed: u64,
}

impl Default for SwissRoll {
    fn default() -> Self {
        SwissRoll { noise: 0.07, len: EPOCH, seed: 0 }
    }
}

impl Source for SwissRoll {
    fn open(&self, _base: &Path) -> Result<Box<dyn Dataset>, DataError> {
        not_negative("noise", self.noise)?;
        Points::open("swiss-roll", self.clone(), self.len, self.seed)
    }
}

impl Density for SwissRoll {
    fn point(&self, draws: &mut Draws) -> ([f64; 2], u32) {
        let t = 1.5 * PI * (1.0 + 2.0 * draws.uniform());
        let (sin, cos) = t.sin_cos();
        let x = t * cos / 7.0 + self.noise * draws.normal();
        let y = t * sin / 7.0 + self.noise * draws.normal();
        ([x, y], 0)
    }

    fn components(&self) -> Option<usize> {
        None
    }
}
