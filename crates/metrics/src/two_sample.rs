//! Sums of a kernel over the pairs of two sets, for the split as it is and for random ones: the core of two-sample tests.
//!
//! Pool both sets, `z = (x, y)`, and let `a ∈ {0, 1}^{N+M}` mark which vectors count as the first set. With `K_ij = k(z_i, z_j)` and
//! `K_ii = 0`
//!
//! ```text
//! Σ_{x≠x'} k = aᵀ K a,     Σ_{x, y} k = aᵀ K (1 − a),     Σ_{y≠y'} k = 1ᵀ K 1 − 2 aᵀ K 1 + aᵀ K a
//! ```
//!
//! so that all permutations share one pass over the pairs: `K a` for many `a` is a matrix product within each tile.

use fokker_tensor::{Noise, Tensor};

use crate::draws::subset;
use crate::error::MetricError;
use crate::pairs::{Form, Pairs};
use crate::vectors::Vectors;

/// Sums of a kernel over ordered pairs of different vectors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sums {
    /// Sizes of the two sets.
    pub(crate) n: f64,
    pub(crate) m: f64,
    /// `Σ_{i≠j} k(x_i, x_j)`.
    pub(crate) xx: f64,
    /// `Σ_{i, j} k(x_i, y_j)`.
    pub(crate) xy: f64,
    /// `Σ_{i≠j} k(y_i, y_j)`.
    pub(crate) yy: f64,
}

impl Sums {
    /// `E k(x, x') + E k(y, y') − 2 E k(x, y)` without bias: means over pairs of different vectors (Gretton et al. 2012, eq. 3).
    pub(crate) fn unbiased(&self) -> f64 {
        let Sums { n, m, xx, xy, yy } = *self;
        xx / (n * (n - 1.0)) + yy / (m * (m - 1.0)) - 2.0 * xy / (n * m)
    }

    /// The same between the empirical laws, each vector's pair with itself, `k(x, x) = diagonal`, included (eq. 5): not negative for a
    /// positive definite kernel, and biased upwards.
    pub(crate) fn biased(&self, diagonal: f64) -> f64 {
        let Sums { n, m, xx, xy, yy } = *self;
        (xx + n * diagonal) / (n * n) + (yy + m * diagonal) / (m * m) - 2.0 * xy / (n * m)
    }
}

/// A kernel's sums for the sets as they are, then for `permutations` random splits into sets of the same sizes.
pub(crate) fn kernel_sums(
    x: &Vectors,
    y: &Vectors,
    form: Form,
    kernel: impl Fn(f64) -> f64 + Sync,
    permutations: usize,
    noise: Noise,
) -> Vec<Sums> {
    let z = Vectors::pooled(x, y);
    let (n, total) = (x.rows(), z.rows());
    // [N + M, splits + 1]: a mark per split, and ones for row sums.
    let width = permutations + 2;
    let mut marks = vec![0.0; total * width];
    marks.chunks_exact_mut(width).for_each(|row| row[width - 1] = 1.0);
    (0..n).for_each(|i| marks[i * width] = 1.0);
    for p in 0..permutations {
        subset(noise, p as u64, total, n).into_iter().for_each(|i| marks[i * width + p + 1] = 1.0);
    }
    let marks = Tensor::from_vec(&[total, width], marks);

    // For each split aᵀ K a and aᵀ K 1 (for the last "split", the ones, both are 1ᵀ K 1).
    let parts = Pairs::within(&z, form).fold(
        || vec![[0.0; 2]; width],
        |sums, tile| {
            let (rows, cols) = (tile.height(), tile.cols);
            tile.values.iter_mut().for_each(|v| *v = kernel(*v));
            if tile.diagonal() {
                (0..rows).for_each(|i| tile.values[i * cols + i] = 0.0);
            }
            let k = Tensor::from_vec(&[rows, cols], tile.values.to_vec());
            let right = marks.slice(0, tile.first_col..tile.first_col + cols);
            let products = k.matmul(&right);
            let left = marks.slice(0, tile.first_row..tile.first_row + rows);
            let (left, products) = (left.as_slice::<f64>(), products.as_slice::<f64>());
            let both = if tile.diagonal() { 1.0 } else { 2.0 };
            for (a, ka) in left.chunks_exact(width).zip(products.chunks_exact(width)) {
                let k1 = ka[width - 1];
                for ((sum, &a), &ka) in sums.iter_mut().zip(a).zip(ka) {
                    sum[0] += both * a * ka;
                    // Of a tile above the diagonal: this row's pairs, and the pairs of its transpose, which a marks by column.
                    sum[1] += if both == 1.0 { a * k1 } else { a * k1 + ka };
                }
            }
        },
    );
    let mut sums = vec![[0.0; 2]; width];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(s, p)| (0..2).for_each(|i| s[i] += p[i]));
    }
    let all = sums[width - 1][0];
    let of =
        |&[aka, ak1]: &[f64; 2]| Sums { n: n as f64, m: (total - n) as f64, xx: aka, xy: ak1 - aka, yy: all - 2.0 * ak1 + aka };
    sums[..width - 1].iter().map(of).collect()
}

/// `(1 + #{permuted ≥ observed}) / (1 + P)`: the probability under the null of a statistic as large as the first, never 0.
pub(crate) fn p_value(statistics: &[f64]) -> f64 {
    // Equal splits sum in other orders: a difference of rounding is none.
    let observed = statistics[0] - 1e-12 * statistics[0].abs();
    statistics.iter().filter(|&&s| s >= observed).count() as f64 / statistics.len() as f64
}

/// The median of the distances between different vectors of a set of `N`: of their `N (N−1)/2`, sorted, the one in the middle, of two
/// the lower. Exact, by counting the leading bits of squared distances (whose order is that of their bits) in passes over all pairs.
pub(crate) fn median_distance(z: &Vectors) -> f64 {
    const DIGIT: u32 = 16;
    /// From here on values are collected and sorted.
    const FEW: u64 = 1 << 22;
    let pairs = Pairs::within(z, Form::SquaredDistance);
    // Pairs on the diagonal's tiles come twice; count only those above it.
    let visit = |tile: &crate::pairs::Tile, f: &mut dyn FnMut(u64)| {
        let diagonal = tile.diagonal();
        for (i, row) in tile.rows().enumerate() {
            let first = if diagonal { i + 1 } else { 0 };
            row[first..].iter().for_each(|v| f(v.max(0.0).to_bits()));
        }
    };
    let n = z.rows() as u64;
    let mut rank = (n * (n - 1) / 2 - 1) / 2;
    let (mut known, mut prefix) = (0, 0u64);
    let matches = |bits: u64, known: u32, prefix: u64| known == 0 || bits >> (64 - known) == prefix;
    loop {
        let parts = pairs.fold(
            || vec![0u32; 1 << DIGIT],
            |counts, tile| {
                visit(&tile, &mut |bits| {
                    if matches(bits, known, prefix) {
                        counts[(bits << known >> (64 - DIGIT)) as usize] += 1;
                    }
                });
            },
        );
        let mut digit = 0;
        let count = |digit: usize| parts.iter().map(|part| u64::from(part[digit])).sum::<u64>();
        let mut here = count(digit);
        while rank >= here {
            rank -= here;
            digit += 1;
            here = count(digit);
        }
        prefix = prefix << DIGIT | digit as u64;
        known += DIGIT;
        if known == 64 {
            return f64::from_bits(prefix).sqrt();
        }
        if here <= FEW {
            let parts = pairs.fold(Vec::new, |found: &mut Vec<u64>, tile| {
                visit(&tile, &mut |bits| {
                    if matches(bits, known, prefix) {
                        found.push(bits);
                    }
                });
            });
            let mut found = parts.concat();
            let (_, median, _) = found.select_nth_unstable(rank as usize);
            return f64::from_bits(*median).sqrt();
        }
    }
}

/// Both sets need two vectors for a mean over pairs of different ones.
pub(crate) fn two_of_each(x: &Vectors, y: &Vectors) -> Result<(), MetricError> {
    x.at_least("real", 2, "pairs of different vectors")?;
    y.at_least("generated", 2, "pairs of different vectors")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn sums_of_every_split_are_those_of_a_double_loop() {
        let (x, y) = (normal(150, 3, 1), normal(170, 3, 2));
        let (x, y) = Vectors::pair(&x, &y).unwrap();
        let noise = Noise::new(3, 4);
        let kernel = |d2: f64| (-d2 / 5.0).exp();
        let found = kernel_sums(&x, &y, Form::SquaredDistance, kernel, 4, noise);
        let z = Vectors::pooled(&x, &y);
        let rows = z.gather(0..z.rows(), None).to_vec::<f64>();
        for (p, found) in found.iter().enumerate() {
            let mut first = vec![p == 0; 320];
            match p {
                0 => first[150..].fill(false),
                _ => subset(noise, p as u64 - 1, 320, 150).into_iter().for_each(|i| first[i] = true),
            }
            let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
            for i in 0..320 {
                for j in (0..320).filter(|&j| j != i) {
                    let d2: f64 = (0..3).map(|c| (rows[i * 3 + c] - rows[j * 3 + c]).powi(2)).sum();
                    match (first[i], first[j]) {
                        (true, true) => xx += kernel(d2),
                        (true, false) => xy += kernel(d2),
                        (false, true) => {}
                        (false, false) => yy += kernel(d2),
                    }
                }
            }
            for (a, b) in [(found.xx, xx), (found.xy, xy), (found.yy, yy)] {
                assert!((a / b - 1.0).abs() < 1e-12, "split {p}: {a}, expected {b}");
            }
        }
    }

    #[test]
    fn the_median_distance_is_the_lower_middle_one_of_all() {
        for (n, scale) in [(2, 1.0), (3, 1.0), (90, 0.0), (400, 1e-9), (401, 3.0)] {
            let x = &normal(n, 2, 5) * scale;
            let v = Vectors::new("real", &x).unwrap();
            let rows = x.to_vec::<f64>();
            let mut all = Vec::new();
            for i in 0..n {
                for j in 0..i {
                    all.push((rows[2 * i] - rows[2 * j]).hypot(rows[2 * i + 1] - rows[2 * j + 1]));
                }
            }
            all.sort_by(f64::total_cmp);
            let (found, expected) = (median_distance(&v), all[(all.len() - 1) / 2]);
            assert!((found - expected).abs() <= 1e-12 * expected, "{n}: {found}, expected {expected}");
        }
    }
}
