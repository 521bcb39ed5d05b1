//! All pairs of two sets, a tile at a time: the core of most metrics. No `N × M` matrix exists.
//!
//! ```text
//! |x_i − y_j|² = |x̃_i|² + |ỹ_j|² − 2 x̃_i·ỹ_j,      x̃ = x − c,  ỹ = y − c,  c the mean of both sets
//! ```
//!
//! Tiles of 256 × 256 pairs, each a matrix product in `f64` whatever the type of the sets. The formula loses what the norms have in
//! common: its error is about `2⁻⁵³ (|x̃|² + |ỹ|²)`. Centring makes the norms as small as they can be, and a pair closer than
//! `10⁻⁶ (|x̃|² + |ỹ|²)` is computed again from its differences, so that a squared distance has a relative error below `10⁻⁹`
//! (typically `10⁻¹⁵`) and that of two equal vectors is 0.
//!
//! Tiles are dealt to threads in groups that depend on the sizes alone and give their results in order: the same bits for any number of
//! threads. Memory: a tile and two blocks of `256 × D` per thread, and at most [`GROUPS`] results.

use fokker_tensor::Tensor;
use rayon::prelude::*;

use crate::vectors::{BLOCK, Vectors};

/// The most groups of tiles there are.
pub(crate) const GROUPS: usize = 128;

/// Below this part of the norms a squared distance is computed from differences.
const CLOSE: f64 = 1e-6;

/// What there is of each pair.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `|x − y|²`.
    SquaredDistance,
    /// `x·y`, not centred.
    Product,
}

/// Values of the pairs of some rows of `x` and some of `y`.
pub(crate) struct Tile<'a> {
    pub(crate) first_row: usize,
    pub(crate) first_col: usize,
    pub(crate) cols: usize,
    /// `[rows, cols]`. A tile is its visitor's to change.
    pub(crate) values: &'a mut [f64],
}

impl Tile<'_> {
    /// The rows, each with its values.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.cols)
    }

    /// Whether it is a tile of a set with itself whose rows and columns are the same.
    pub(crate) fn diagonal(&self) -> bool {
        self.first_row == self.first_col
    }

    pub(crate) fn height(&self) -> usize {
        self.values.len() / self.cols
    }

    /// The numbers of its blocks of rows.
    pub(crate) fn blocks(&self) -> (usize, usize) {
        (self.first_row / BLOCK, self.first_col / BLOCK)
    }
}

/// The pairs of two sets, or of one with itself.
pub(crate) struct Pairs<'a, 'b> {
    x: &'b Vectors<'a>,
    y: &'b Vectors<'a>,
    form: Form,
    centre: Option<Vec<f64>>,
    /// Blocks of rows and columns.
    tiles: Vec<(usize, usize)>,
}

impl<'a, 'b> Pairs<'a, 'b> {
    /// Every pair `(x_i, y_j)`.
    pub(crate) fn across(x: &'b Vectors<'a>, y: &'b Vectors<'a>, form: Form) -> Self {
        let centre = (form == Form::SquaredDistance).then(|| Vectors::pooled(x, y).mean());
        let tiles = (0..x.blocks()).flat_map(|a| (0..y.blocks()).map(move |b| (a, b))).collect();
        Pairs { x, y, form, centre, tiles }
    }

    /// Every pair `(x_i, x_j)` once: tiles on and above the diagonal. Those on it have each of their pairs twice, and `(x_i, x_i)`.
    pub(crate) fn within(x: &'b Vectors<'a>, form: Form) -> Self {
        let centre = (form == Form::SquaredDistance).then(|| x.mean());
        let tiles = (0..x.blocks()).flat_map(|a| (a..x.blocks()).map(move |b| (a, b))).collect();
        Pairs { x, y: x, form, centre, tiles }
    }

    /// Folds the tiles of each group, in their order, into a value made by `new`; the values in the order of groups.
    pub(crate) fn fold<A: Send>(&self, new: impl Fn() -> A + Sync, visit: impl Fn(&mut A, Tile) + Sync) -> Vec<A> {
        let size = self.tiles.len().div_ceil(GROUPS);
        self.tiles
            .par_chunks(size)
            .map(|group| {
                let mut value = new();
                for &(a, b) in group {
                    self.tile(a, b, |tile| visit(&mut value, tile));
                }
                value
            })
            .collect()
    }

    /// Visits every tile, in no order.
    pub(crate) fn each(&self, visit: impl Fn(Tile) + Sync) {
        self.fold(|| (), |(), tile| visit(tile));
    }

    fn tile(&self, a: usize, b: usize, visit: impl FnOnce(Tile)) {
        let centre = self.centre.as_deref();
        let x = self.x.block(a, centre);
        let y = if std::ptr::eq(self.x, self.y) && a == b { x.clone() } else { self.y.block(b, centre) };
        let mut products = x.matmul_nt(&y);
        let cols = y.dim(0);
        products.update(|values: &mut [f64]| {
            if self.form == Form::SquaredDistance {
                squared_distances(&x, &y, values);
            }
            visit(Tile { first_row: a * BLOCK, first_col: b * BLOCK, cols, values });
        });
    }
}

/// Turns `x·y` into `|x − y|²`.
fn squared_distances(x: &Tensor, y: &Tensor, values: &mut [f64]) {
    let width = x.dim(1);
    let (x, y) = (x.as_slice::<f64>(), y.as_slice::<f64>());
    let arch = pulp::Arch::new();
    let norms = |x: &[f64]| -> Vec<f64> { x.chunks_exact(width).map(|row| arch.dispatch(|| dot(row, row))).collect() };
    let (x_norms, y_norms) = (norms(x), norms(y));
    for (i, (row, &x_norm)) in values.chunks_exact_mut(y_norms.len()).zip(&x_norms).enumerate() {
        let close = arch.dispatch(|| {
            let mut close = false;
            for (v, &y_norm) in row.iter_mut().zip(&y_norms) {
                let norms = x_norm + y_norm;
                *v = norms - 2.0 * *v;
                close |= *v <= CLOSE * norms;
            }
            close
        });
        if close {
            let x = &x[i * width..(i + 1) * width];
            for ((v, &y_norm), y) in row.iter_mut().zip(&y_norms).zip(y.chunks_exact(width)) {
                if *v <= CLOSE * (x_norm + y_norm) {
                    *v = arch.dispatch(|| squared_difference(x, y));
                }
            }
        }
    }
}

/// Partial sums, so that the loop is one of vectors.
const LANES: usize = 16;

/// `Σ_k a_k b_k`.
#[inline(always)]
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    lanes(a, b, |a, b| a * b)
}

/// `Σ_k (a_k − b_k)²`.
#[inline(always)]
pub(crate) fn squared_difference(a: &[f64], b: &[f64]) -> f64 {
    lanes(a, b, |a, b| (a - b) * (a - b))
}

#[inline(always)]
fn lanes(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for k in 0..LANES {
            sums[k] += f(a[k], b[k]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(&a, &b)| f(a, b)).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use fokker_tensor::{Dtype, Noise};

    /// `[n, width]` standard normal numbers.
    pub(crate) fn normal(n: usize, width: usize, seed: u64) -> Tensor {
        Noise::new(seed, 0x7e57).normal(&[n, width], 0, 0, Dtype::F64)
    }

    fn all(pairs: &Pairs, rows: usize, cols: usize) -> Vec<f64> {
        let out: Vec<std::sync::Mutex<f64>> = (0..rows * cols).map(|_| std::sync::Mutex::new(f64::NAN)).collect();
        pairs.each(|tile| {
            for (i, row) in tile.rows().enumerate() {
                for (j, &v) in row.iter().enumerate() {
                    *out[(tile.first_row + i) * cols + tile.first_col + j].lock().unwrap() = v;
                }
            }
        });
        out.into_iter().map(|v| v.into_inner().unwrap()).collect()
    }

    #[test]
    fn distances_are_those_of_differences_over_many_tiles() {
        let (n, m, width) = (300, 530, 7);
        let (x, y) = (normal(n, width, 1), &normal(m, width, 2) + 3.0);
        let (vx, vy) = Vectors::pair(&x, &y).unwrap();
        let found = all(&Pairs::across(&vx, &vy, Form::SquaredDistance), n, m);
        let row = |x: &Tensor, i: usize| x.as_slice::<f64>()[i * width..(i + 1) * width].to_vec();
        for i in 0..n {
            for j in 0..m {
                let expected: f64 = row(&x, i).iter().zip(row(&y, j)).map(|(a, b)| (a - b).powi(2)).sum();
                let v = found[i * m + j];
                assert!((v / expected - 1.0).abs() < 1e-12, "{i}, {j}: {v}, expected {expected}");
            }
        }
    }

    #[test]
    fn near_duplicates_far_from_the_origin_keep_their_distances() {
        let (n, width) = (300, 5);
        let x = &(&normal(n, width, 3) * 1e3) + 1e6;
        let shift = 2.0f64.powi(-20);
        let y = &x + shift;
        let (vx, vy) = Vectors::pair(&x, &y).unwrap();
        let found = all(&Pairs::across(&vx, &vy, Form::SquaredDistance), n, n);
        for i in 0..n {
            let (a, b) = (&x.as_slice::<f64>()[i * width..][..width], &y.as_slice::<f64>()[i * width..][..width]);
            let expected: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
            assert!(expected > 0.0 && (found[i * n + i] / expected - 1.0).abs() < 1e-3, "{} and {expected}", found[i * n + i]);
        }
        let same = all(&Pairs::across(&vx, &vx, Form::SquaredDistance), n, n);
        assert!((0..n).all(|i| same[i * n + i] == 0.0));
    }

    #[test]
    fn a_set_with_itself_has_each_pair_once() {
        let n = 600;
        let x = normal(n, 3, 4);
        let v = Vectors::new("real", &x).unwrap();
        let counts = Pairs::within(&v, Form::Product).fold(
            || (0usize, 0usize),
            |c, tile| {
                let (a, b) = tile.blocks();
                assert!(a <= b && tile.diagonal() == (a == b));
                if tile.diagonal() { c.0 += tile.values.len() } else { c.1 += tile.values.len() }
            },
        );
        let (on, above) = counts.iter().fold((0, 0), |s, c| (s.0 + c.0, s.1 + c.1));
        assert_eq!(on + 2 * above, n * n);
    }

    #[test]
    fn sums_have_the_same_bits_for_any_number_of_threads() {
        let (x, y) = (normal(700, 40, 5), normal(900, 40, 6));
        let (x, y) = Vectors::pair(&x, &y).unwrap();
        let sum = || -> f64 {
            let parts = Pairs::across(&x, &y, Form::SquaredDistance)
                .fold(|| 0.0, |s, tile| *s += tile.values.iter().map(|v| v.sqrt()).sum::<f64>());
            parts.iter().sum()
        };
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let one = pool(1).install(sum);
        for threads in [2, 3, 7] {
            assert_eq!(pool(threads).install(sum).to_bits(), one.to_bits());
        }
    }
}
