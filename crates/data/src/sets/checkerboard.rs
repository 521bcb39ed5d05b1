//! Checkerboard.
//!
//! Uniform on the dark squares of a 4×4 board with squares of side 1 on `[−2, 2]²`:
//!
//! ```text
//! p(x) = 1/8 where ⌊x₁⌋ + ⌊x₂⌋ is even, else 0
//! ```
//!
//! Each coordinate has mean 0 and standard deviation `2/√3 ≈ 1.15`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::density::{Density, EPOCH, Points};
use crate::draws::Draws;
use crate::error::DataError;
use crate::sets::Source;

/// Uniform on every other square of a 4×4 board on `[−2, 2]²`; no labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checkerboard {
    /// The number of samples called an epoch.
    pub len: usize,
    /// The seed all samples follow from.
    pub seed: u64,
}

impl Default for Checkerboard {
    fn default() -> Self {
        Checkerboard { len: EPOCH, seed: 0 }
    }
}

impl Checkerboard {
    /// The density at a point.
    pub fn density(x: [f64; 2]) -> f64 {
        let inside = x.iter().all(|c| (-2.0..2.0).contains(c));
        let dark = (x[0].floor() + x[1].floor()).rem_euclid(2.0) == 0.0;
        if inside && dark { 0.125 } else { 0.0 }
    }
}

impl Source for Checkerboard {
    fn open(&self, _base: &Path) -> Result<Box<dyn Dataset>, DataError> {
        Points::open("checkerboard", self.clone(), self.len, self.seed)
    }
}

impl Density for Checkerboard {
    fn point(&self, draws: &mut Draws) -> ([f64; 2], u32) {
        // Two of the four squares in each column are dark: at rows -2 and 0, one higher in odd columns.
        let square = draws.below(8);
        let column = (square / 2) as f64 - 2.0;
        let row = 2.0 * (square % 2) as f64 - 2.0 + column.rem_euclid(2.0);
        ([column + draws.uniform(), row + draws.uniform()], 0)
    }

    fn components(&self) -> Option<usize> {
        None
    }
}
