//! Two moons.
//!
//! With `θ ~ U[0, π]` and a fair coin, the upper moon is `(cos θ, sin θ)` and the lower one
//! `(1 − cos θ, ½ − sin θ)`. The pair has mean `(½, ¼)`; the sample is
//!
//! ```text
//! x = √2 (moon − (½, ¼)) + noise · ε,   ε ~ N(0, I)
//! ```
//!
//! which lies in about `[−2.2, 2.2] × [−1.1, 1.1]` and has standard deviations of about 1.22 and 0.70.

use std::f64::consts::{PI, SQRT_2};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::density::{Density, EPOCH, Points, not_negative};
use crate::draws::Draws;
use crate::error::DataError;
use crate::sets::Source;

/// Two interleaving half circles; the label is the moon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Moons {
    /// Standard deviation of the noise around the curves.
    pub noise: f64,
    /// The number of samples called an epoch.
    pub len: usize,
    /// The seed all samples follow from.
    pub seed: u64,
}

impl Default for Moons {
    fn default() -> Self {
        Moons { noise: 0.1, len: EPOCH, seed: 0 }
    }
}

impl Source for Moons {
    fn open(&self, _base: &Path) -> Result<Box<dyn Dataset>, DataError> {
        not_negative("noise", self.noise)?;
        Points::open("moons", self.clone(), self.len, self.seed)
    }
}

impl Density for Moons {
    fn point(&self, draws: &mut Draws) -> ([f64; 2], u32) {
        let moon = draws.below(2);
        let (sin, cos) = draws.between(0.0, PI).sin_cos();
        let [a, b] = if moon == 0 { [cos, sin] } else { [1.0 - cos, 0.5 - sin] };
        let x = SQRT_2 * (a - 0.5) + self.noise * draws.normal();
        let y = SQRT_2 * (b - 0.25) + self.noise * draws.normal();
        ([x, y], moon as u32)
    }

    fn components(&self) -> Option<usize> {
        Some(2)
    }
}
