//! Pinwheel (Johnson et al. 2016, "Composing graphical models with neural networks", section 6).
//!
//! With `r = 1 + radial · ε₁`, `s = tangential · ε₂`, `εᵢ ~ N(0, 1)` and an arm `k` drawn uniformly from `arms`:
//!
//! ```text
//! x = c · Rot(2πk/arms + rate · eʳ) (r, s),   c = √(2 / (1 + radial² + tangential²))
//! ```
//!
//! The factor `c` makes the variance of each coordinate 1 (for three or more arms); the mean is 0.

use std::f64::consts::TAU;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::density::{Density, EPOCH, Points, not_negative};
use crate::draws::Draws;
use crate::error::DataError;
use crate::sets::Source;

/// Curved arms around the origin; the label is the arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pinwheel {
    /// The number of arms.
    pub arms: usize,
    /// Standard deviation along an arm, where its middle is at distance 1.
    pub radial: f64,
    /// Standard deviation across an arm.
    pub tangential: f64,
    /// How much the arms bend.
    pub rate: f64,
    /// The number of samples called an epoch.
    pub len: usize,
    /// The seed all samples follow from.
    pub seed: u64,
}

impl Default for Pinwheel {
    fn default() -> Self {
        Pinwheel { arms: 5, radial: 0.3, tangential: 0.1, rate: 0.25, len: EPOCH, seed: 0 }
    }
}

impl Source for Pinwheel {
    fn open(&self, _base: &Path) -> Result<Box<dyn Dataset>, DataError> {
        if !(2..=100).contains(&self.arms) {
            return Err(DataError::config("arms", self.arms, "from 2 to 100"));
        }
        not_negative("radial", self.radial)?;
        not_negative("tangential", self.tangential)?;
        if !self.rate.is_finite() {
            return Err(DataError::config("rate", self.rate, "a finite number"));
        }
        Points::open("pinwheel", self.clone(), self.len, self.seed)
    }
}

impl Density for Pinwheel {
    fn point(&self, draws: &mut Draws) -> ([f64; 2], u32) {
        let arm = draws.below(self.arms);
        let r = 1.0 + self.radial * draws.normal();
        let s = self.tangential * draws.normal();
        let (sin, cos) = (TAU * arm as f64 / self.arms as f64 + self.rate * r.exp()).sin_cos();
        let scale = (2.0 / (1.0 + self.radial.powi(2) + self.tangential.powi(2))).sqrt();
        ([scale * (r * cos - s * sin), scale * (r * sin + s * cos)], arm as u32)
    }

    fn components(&self) -> Option<usize> {
        Some(self.arms)
    }
}
