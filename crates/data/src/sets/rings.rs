//! Four concentric circles.
//!
//! With a ring `k ~ U{1, 2, 3, 4}` and `θ ~ U[0, 2π]`:
//!
//! ```text
//! x = k/2 · (cos θ, sin θ) + noise · ε,   ε ~ N(0, I)
//! ```
//!
//! Each coordinate has mean 0 and variance `15/16 + noise²`.

use std::f64::consts::TAU;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::density::{Density, EPOCH, Points, not_negative};
use crate::draws::Draws;
use crate::error::DataError;
use crate::sets::Source;

/// Four concentric circles of radius ½, 1, 1½ and 2; the label is the ring, from the inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rings {
    /// Standard deviation of the noise around the circles.
    pub noise: f64,
    /// The number of samples called an epoch.
    pub len: usize,
    /// The seed all samples follow from.
    pub seed: u64,
}

impl Default for Rings {
    fn default() -> Self {
        Rings { noise: 0.05, len: EPOCH, seed: 0 }
    }
}

impl Source for Rings {
    fn open(&self, _base: &Path) -> Result<Box<dyn Dataset>, DataError> {
        not_negative("noise", self.noise)?;
        Points::open("rings", self.clone(), self.len, self.seed)
    }
}

impl Density for Rings {
    fn point(&self, draws: &mut Draws) -> ([f64; 2], u32) {
        let ring = draws.below(4);
        let radius = 0.5 * (ring + 1) as f64;
        let (sin, cos) = draws.between(0.0, TAU).sin_cos();
        let x = radius * cos + self.noise * draws.normal();
        let y = radius * sin + self.noise * draws.normal();
        ([x, y], ring as u32)
    }

    fn components(&self) -> Option<usize> {
        Some(4)
    }
}
