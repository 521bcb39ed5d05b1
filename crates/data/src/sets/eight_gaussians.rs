//! Eight Gaussians on a circle.
//!
//! ```text
//! p(x) = ⅛ Σₖ N(x; μₖ, std² I),   μₖ = radius · (cos kπ/4, sin kπ/4),   k = 0 … 7
//! ```
//!
//! Each coordinate has mean 0 and variance `radius²/2 + std²`, by default `1.0225`.

use std::f64::consts::{FRAC_PI_4, SQRT_2};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::density::{Density, EPOCH, Points, not_negative, positive};
use crate::draws::Draws;
use crate::error::DataError;
use crate::sets::Source;

/// Eight Gaussians on a circle; the label is the mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EightGaussians {
    /// Distance of the modes from the origin.
    pub radius: f64,
    /// Standard deviation of each mode.
    pub std: f64,
    /// The number of samples called an epoch.
    pub len: usize,
    /// The seed all samples follow from.
    pub seed: u64,
}

impl Default for EightGaussians {
    fn default() -> Self {
        EightGaussians { radius: SQRT_2, std: 0.15, len: EPOCH, seed: 0 }
    }
}

impl EightGaussians {
    /// The means, in the order of the labels.
    pub fn centres(&self) -> [[f64; 2]; 8] {
        std::array::from_fn(|k| {
            let (sin, cos) = (k as f64 * FRAC_PI_4).sin_cos();
            [self.radius * cos, self.radius * sin]
        })
    }
}

impl Source for EightGaussians {
    fn open(&self, _base: &Path) -> Result<Box<dyn Dataset>, DataError> {
        positive("radius", self.radius)?;
        not_negative("std", self.std)?;
        Points::open("eight-gaussians", self.clone(), self.len, self.seed)
    }
}

impl Density for EightGaussians {
    fn point(&self, draws: &mut Draws) -> ([f64; 2], u32) {
        let mode = draws.below(8);
        let [a, b] = self.centres()[mode];
        ([a + self.std * draws.normal(), b + self.std * draws.normal()], mode as u32)
    }

    fn components(&self) -> Option<usize> {
        Some(8)
    }
}
