//! The `k` nearest neighbours of every vector of a set, in another set or in its own (itself left out).
//!
//! Every pair is looked at (brute force), each once: in a set's own search a tile of distances serves its rows and its columns. What is
//! kept of each vector are its `k` smallest `(distance, index)`, which do not depend on the order in which tiles come.

use std::sync::Mutex;

use crate::pairs::{Form, Pairs, Tile};
use crate::vectors::{BLOCK, Vectors};

/// For each vector its `k` nearest neighbours, nearest first; equal distances in the order of indices.
pub(crate) struct Nearest {
    k: usize,
    /// `[N, k]`.
    squared: Vec<f64>,
    /// `[N, k]`.
    indices: Vec<usize>,
}

impl Nearest {
    /// Of every `x` its neighbours among the `y`, of which there are at least `k`.
    pub(crate) fn across(x: &Vectors, y: &Vectors, k: usize) -> Nearest {
        assert!(k >= 1 && k <= y.rows(), "{k} neighbours among {}", y.rows());
        let search = Search::new(x, k);
        Pairs::across(x, y, Form::SquaredDistance).each(|tile| search.rows(&tile));
        search.finish()
    }

    /// Of every `x` its neighbours among the other `x`, of which there are at least `k`.
    pub(crate) fn within(x: &Vectors, k: usize) -> Nearest {
        assert!(k >= 1 && k < x.rows(), "{k} neighbours among {}", x.rows() - 1);
        let search = Search::new(x, k);
        Pairs::within(x, Form::SquaredDistance).each(|tile| {
            if tile.diagonal() {
                for i in 0..tile.cols {
                    tile.values[i * tile.cols + i] = f64::INFINITY;
                }
            }
            search.rows(&tile);
            if !tile.diagonal() {
                search.columns(&tile);
            }
        });
        search.finish()
    }

    /// The squared distances to vector `i`'s neighbours, the smallest first.
    pub(crate) fn squared(&self, i: usize) -> &[f64] {
        &self.squared[i * self.k..(i + 1) * self.k]
    }

    /// The numbers of vector `i`'s neighbours, the nearest first.
    pub(crate) fn indices(&self, i: usize) -> &[usize] {
        &self.indices[i * self.k..(i + 1) * self.k]
    }

    /// Each vector's squared distance to its `k`-th neighbour, which there is.
    pub(crate) fn squared_of(&self, k: usize) -> Vec<f64> {
        self.squared.chunks_exact(self.k).map(|row| row[k - 1]).collect()
    }
}

/// The neighbours while tiles are looked at, in any order and several at once.
pub(crate) struct Search {
    k: usize,
    blocks: Vec<Mutex<Best>>,
}

impl Search {
    /// Of every `x` its `k` nearest.
    pub(crate) fn new(x: &Vectors, k: usize) -> Search {
        let block = |i| {
            let n = x.span(i).len();
            let squared = vec![f64::INFINITY; n * k];
            Mutex::new(Best { k, squared, indices: vec![usize::MAX; n * k], bounds: vec![f64::INFINITY; n] })
        };
        Search { k, blocks: (0..x.blocks()).map(block).collect() }
    }

    /// Looks at a tile whose rows are vectors that are searched for.
    pub(crate) fn rows(&self, tile: &Tile) {
        self.blocks[tile.blocks().0].lock().expect("no visitor panics").rows(tile);
    }

    /// Looks at a tile whose columns are vectors that are searched for.
    pub(crate) fn columns(&self, tile: &Tile) {
        self.blocks[tile.blocks().1].lock().expect("no visitor panics").columns(tile);
    }

    pub(crate) fn finish(self) -> Nearest {
        let (mut squared, mut indices) = (Vec::new(), Vec::new());
        for block in self.blocks {
            let best = block.into_inner().expect("no visitor panics");
            squared.extend(best.squared);
            indices.extend(best.indices);
        }
        Nearest { k: self.k, squared, indices }
    }
}

/// The best so far of one block of vectors.
struct Best {
    k: usize,
    squared: Vec<f64>,
    indices: Vec<usize>,
    /// The `k`-th smallest of each vector.
    bounds: Vec<f64>,
}

/// Values compared at once before any is looked at.
const CHUNK: usize = 16;

impl Best {
    /// Looks at a tile whose rows are this block's vectors.
    fn rows(&mut self, tile: &Tile) {
        for (i, row) in tile.rows().enumerate() {
            pulp::Arch::new().dispatch(|| {
                for (c, chunk) in row.chunks(CHUNK).enumerate() {
                    let bound = self.bounds[i];
                    if chunk.iter().fold(false, |any, &v| any | (v <= bound)) {
                        for (j, &v) in chunk.iter().enumerate() {
                            self.offer(i, v, tile.first_col + c * CHUNK + j);
                        }
                    }
                }
            });
        }
    }

    /// Looks at a tile whose columns are this block's vectors.
    fn columns(&mut self, tile: &Tile) {
        for (i, row) in tile.rows().enumerate() {
            pulp::Arch::new().dispatch(|| {
                for (c, chunk) in row.chunks(CHUNK).enumerate() {
                    let bounds = &self.bounds[c * CHUNK..][..chunk.len()];
                    if chunk.iter().zip(bounds).fold(false, |any, (&v, &bound)| any | (v <= bound)) {
                        for (j, &v) in chunk.iter().enumerate() {
                            self.offer(c * CHUNK + j, v, tile.first_row + i);
                        }
                    }
                }
            });
        }
    }

    #[inline]
    fn offer(&mut self, vector: usize, squared: f64, index: usize) {
        debug_assert!(vector < BLOCK);
        if squared > self.bounds[vector] || squared == f64::INFINITY {
            return;
        }
        let k = self.k;
        let (values, indices) = (&mut self.squared[vector * k..][..k], &mut self.indices[vector * k..][..k]);
        let before = |at: usize| (squared, index) < (values[at], indices[at]);
        if !before(k - 1) {
            return;
        }
        let mut at = k - 1;
        while at > 0 && (squared, index) < (values[at - 1], indices[at - 1]) {
            values[at] = values[at - 1];
            indices[at] = indices[at - 1];
            at -= 1;
        }
        values[at] = squared;
        indices[at] = index;
        self.bounds[vector] = values[k - 1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;
    use fokker_tensor::Tensor;

    /// Sorted `(squared distance, index)` of the rows of `y` as seen from each row of `x`.
    fn plainly(x: &Tensor, y: &Tensor, own: bool) -> Vec<Vec<(f64, usize)>> {
        let width = x.dim(1);
        let rows = |x: &Tensor| x.to_vec::<f64>().chunks(width).map(<[f64]>::to_vec).collect::<Vec<_>>();
        let y = rows(y);
        let seen = |(i, x): (usize, &Vec<f64>)| {
            let mut all: Vec<(f64, usize)> = y
                .iter()
                .enumerate()
                .filter(|(j, _)| !own || *j != i)
                .map(|(j, y)| (x.iter().zip(y).map(|(a, b)| (a - b) * (a - b)).sum(), j))
                .collect();
            all.sort_by(|a, b| a.partial_cmp(b).unwrap());
            all
        };
        rows(x).iter().enumerate().map(seen).collect()
    }

    #[test]
    fn neighbours_are_those_of_sorting_all_distances() {
        let (x, y) = (normal(270, 6, 1), normal(700, 6, 2));
        let (vx, vy) = Vectors::pair(&x, &y).unwrap();
        let k = 5;
        for (found, expected) in
            [(Nearest::across(&vx, &vy, k), plainly(&x, &y, false)), (Nearest::within(&vy, k), plainly(&y, &y, true))]
        {
            for (i, expected) in expected.iter().enumerate() {
                let indices: Vec<usize> = expected[..k].iter().map(|e| e.1).collect();
                assert_eq!(found.indices(i), indices, "row {i}");
                for (a, b) in found.squared(i).iter().zip(expected) {
                    assert!((a / b.0 - 1.0).abs() < 1e-12);
                }
                assert_eq!(found.squared_of(k)[i], found.squared(i)[k - 1]);
            }
        }
    }

    #[test]
    fn of_equal_distances_the_first_indices_are_kept_for_any_number_of_threads() {
        // A grid of integers: many ties, exact in any arithmetic.
        let data: Vec<f64> = (0..900).flat_map(|i| [f64::from(i % 30), f64::from(i / 30)]).collect();
        let x = Tensor::from_vec(&[900, 2], data);
        let v = Vectors::new("real", &x).unwrap();
        let expected = plainly(&x, &x, true);
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| Nearest::within(&v, 6));
            for (i, expected) in expected.iter().enumerate() {
                let found: Vec<_> = found.squared(i).iter().copied().zip(found.indices(i).iter().copied()).collect();
                assert_eq!(found, expected[..6]);
            }
        }
    }
}
