//! Which vectors lie in the balls around others: what precision, recall, density and coverage count.
//!
//! ```text
//! B(r_i) = {x : |x − r_i| ≤ NND_k(r_i)},     NND_k: the distance to the k-th nearest other vector of the own set
//! ```

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use crate::error::MetricError;
use crate::nearest::Nearest;
use crate::pairs::{Form, Pairs};
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

/// The squared radii of a set's balls.
///
/// # Errors
/// When the set has no `k` other vectors.
pub(crate) fn squared_radii(set: &'static str, x: &Vectors, k: usize) -> Result<Vec<f64>, MetricError> {
    if k == 0 {
        return Err(MetricError::config("k", k, "at least one neighbour"));
    }
    x.at_least(set, k + 1, format!("{k} neighbours of each among the others"))?;
    Ok(Nearest::within(x, k).farthest())
}

impl Balls {
    /// Counts with squared radii of the balls around real vectors and, where wanted, around generated ones.
    pub(crate) fn count(real: &Vectors, generated: &Vectors, of_real: &[f64], of_generated: Option<&[f64]>) -> Balls {
        let holding: Vec<AtomicU32> = (0..generated.rows()).map(|_| AtomicU32::new(0)).collect();
        let flags = || -> Vec<AtomicBool> { (0..real.rows()).map(|_| AtomicBool::new(false)).collect() };
        let (occupied, held) = (flags(), flags());
        // A ball of no vector: no squared distance is negative.
        let none = vec![-1.0; generated.rows()];
        let of_generated = of_generated.unwrap_or(&none);
        // Sums of integers and disjunctions: no order of tiles changes them.
        Pairs::across(real, generated, Form::SquaredDistance).each(|tile| {
            let columns = tile.first_col..tile.first_col + tile.cols;
            let mut counts = vec![0u32; tile.cols];
            for (i, row) in tile.rows().enumerate() {
                let i = tile.first_row + i;
                let (occupies, holds) =
                    pulp::Arch::new().dispatch(|| compare(row, of_real[i], &of_generated[columns.clone()], &mut counts));
                if occupies {
                    occupied[i].store(true, Relaxed);
                }
                if holds {
                    held[i].store(true, Relaxed);
                }
            }
            for (total, count) in holding[columns].iter().zip(counts) {
                if count > 0 {
                    total.fetch_add(count, Relaxed);
                }
            }
        });
        let plain = |flags: Vec<AtomicBool>| flags.into_iter().map(AtomicBool::into_inner).collect();
        let holding = holding.into_iter().map(AtomicU32::into_inner).collect();
        Balls { holding, occupied: plain(occupied), held: plain(held) }
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
