//! Which vectors lie in the balls around others: what precision, recall, density and coverage count.
//!
//! ```text
//! B(r_i) = {x : |x − r_i| ≤ NND_k(r_i)},     NND_k: the distance to the k-th nearest other vector of the own set
//! ```

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use crate::pairs::{Form, Pairs, Tile};
use crate::vectors::Vectors;

/// What one pass over all pairs of real and generated vectors has counted.
pub(crate) struct Balls {
    /// For each generated vector, how many balls around real ones hold it.
    pub(crate) holding: Vec<u32>,
    /// For each real vector, whether its ball holds a generated one.
    pub(crate) occupied: Vec<bool>,
    /// For each real vector, whether a ball around a generated one holds it; without radii of those: none.
    pub(crate) held: Vec<bool>,
}

/// The count while pairs are looked at. Sums of integers and disjunctions: no order of tiles changes them.
pub(crate) struct Count<'r> {
    of_real: &'r [f64],
    of_generated: Vec<f64>,
    holding: Vec<AtomicU32>,
    occupied: Vec<AtomicBool>,
    held: Vec<AtomicBool>,
}

impl<'r> Count<'r> {
    /// With squared radii of the balls around real vectors and, where wanted, around generated ones.
    pub(crate) fn new(of_real: &'r [f64], of_generated: Option<&[f64]>, generated: usize) -> Count<'r> {
        let flags = || -> Vec<AtomicBool> { of_real.iter().map(|_| AtomicBool::new(false)).collect() };
        // A ball of no vector: no squared distance is negative.
        let of_generated = of_generated.map_or_else(|| vec![-1.0; generated], <[f64]>::to_vec);
        let holding = (0..generated).map(|_| AtomicU32::new(0)).collect();
        Count { of_real, of_generated, holding, occupied: flags(), held: flags() }
    }

    /// Looks at a tile whose rows are real vectors and whose columns are generated ones.
    pub(crate) fn visit(&self, tile: &Tile) {
        let columns = tile.first_col..tile.first_col + tile.cols;
        let mut counts = vec![0u32; tile.cols];
        for (i, row) in tile.rows().enumerate() {
            let i = tile.first_row + i;
            let others = &self.of_generated[columns.clone()];
            let (occupies, holds) = pulp::Arch::new().dispatch(|| compare(row, self.of_real[i], others, &mut counts));
            if occupies {
                self.occupied[i].store(true, Relaxed);
            }
            if holds {
                self.held[i].store(true, Relaxed);
            }
        }
        for (total, count) in self.holding[columns].iter().zip(counts) {
            if count > 0 {
                total.fetch_add(count, Relaxed);
            }
        }
    }

    pub(crate) fn finish(self) -> Balls {
        let plain = |flags: Vec<AtomicBool>| flags.into_iter().map(AtomicBool::into_inner).collect();
        let holding = self.holding.into_iter().map(AtomicU32::into_inner).collect();
        Balls { holding, occupied: plain(self.occupied), held: plain(self.held) }
    }

    /// Looks at every pair.
    pub(crate) fn over(self, real: &Vectors, generated: &Vectors) -> Balls {
        Pairs::across(real, generated, Form::SquaredDistance).each(|tile| self.visit(&tile));
        self.finish()
    }
}

/// Compares one real vector's squared distances with its own radius and with those of the generated vectors.
#[inline(always)]
fn compare(row: &[f64], own: f64, others: &[f64], counts: &mut [u32]) -> (bool, bool) {
    let (mut occupies, mut holds) = (false, false);
    for ((&v, &other), count) in row.iter().zip(others).zip(counts) {
        let inside = v <= own;
        *count += u32::from(inside);
        occupies |= inside;
        holds |= v <= other;
    }
    (occupies, holds)
}

/// The share that is true.
pub(crate) fn share(flags: impl ExactSizeIterator<Item = bool>) -> f64 {
    let n = flags.len();
    flags.filter(|&f| f).count() as f64 / n as f64
}
