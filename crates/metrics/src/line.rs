//! Optimal transport on a line, and the projections that bring vectors onto lines.
//!
//! ```text
//! W_p^p(a, b) = ∫₀¹ |F_a⁻¹(q) − F_b⁻¹(q)|^p dq
//! ```
//!
//! for sorted `a`, `b` of any sizes: the quantile functions are steps of height `1/N` and `1/M`, coupled where they overlap.

use fokker_tensor::{Dtype, Noise, Tensor};
use rayon::prelude::*;

use crate::error::MetricError;
use crate::pairs::dot;
use crate::vectors::{BLOCK, Vectors};

/// Calls `visit(i, j, mass)` for the pieces of the optimal coupling of `n` and `m` sorted points, in order; the masses sum to 1.
pub(crate) fn couple(n: usize, m: usize, mut visit: impl FnMut(usize, usize, f64)) {
    if n == m {
        (0..n).for_each(|i| visit(i, i, 1.0 / n as f64));
        return;
    }
    // In units of 1/(n m) each point of the first has mass m, of the second n.
    let unit = 1.0 / (n as f64 * m as f64);
    let (mut i, mut j) = (0, 0);
    let (mut left, mut right) = (m, n);
    while i < n && j < m {
        let mass = left.min(right);
        visit(i, j, mass as f64 * unit);
        left -= mass;
        right -= mass;
        if left == 0 {
            i += 1;
            left = m;
        }
        if right == 0 {
            j += 1;
            right = n;
        }
    }
}

/// `W_p^p` of two sorted sets of numbers.
pub(crate) fn transport(a: &[f64], b: &[f64], p: f64) -> f64 {
    let mut total = 0.0;
    couple(a.len(), b.len(), |i, j, mass| {
        let d = (a[i] - b[j]).abs();
        total += mass
            * match p {
                1.0 => d,
                2.0 => d * d,
                _ => d.powf(p),
            };
    });
    total
}

/// `L` directions, uniform on the sphere: normalised normal vectors, `[L, D]`.
pub(crate) fn directions(noise: Noise, count: usize, width: usize) -> Tensor {
    let mut directions = noise.normal(&[count, width], 0, 0, Dtype::F64);
    directions.update(|all: &mut [f64]| all.chunks_exact_mut(width).for_each(normalise));
    directions
}

/// Scales a vector to length 1; one of length 0 stays.
pub(crate) fn normalise(x: &mut [f64]) {
    let norm = dot(x, x).sqrt();
    if norm > 0.0 {
        x.iter_mut().for_each(|v| *v /= norm);
    }
}

/// `x_i·θ_l` for the directions `[L, D]`: a vector of `N` numbers for each.
pub(crate) fn project(x: &Vectors, directions: &Tensor) -> Vec<Vec<f64>> {
    let count = directions.dim(0);
    let blocks: Vec<Tensor> = (0..x.blocks()).into_par_iter().map(|i| directions.matmul_nt(&x.block(i, None))).collect();
    (0..count)
        .into_par_iter()
        .map(|l| {
            let row = |b: &Tensor| b.as_slice::<f64>()[l * b.dim(1)..(l + 1) * b.dim(1)].to_vec();
            blocks.iter().flat_map(row).collect()
        })
        .collect()
}

/// `W_p^p` along each of the directions `[L, D]`. Directions are taken a few at a time, to keep few projections.
pub(crate) fn along(x: &Vectors, y: &Vectors, directions: &Tensor, p: f64) -> Vec<f64> {
    const FEW: usize = 64;
    let mut all = Vec::with_capacity(directions.dim(0));
    for first in (0..directions.dim(0)).step_by(FEW) {
        let some = directions.slice(0, first..(first + FEW).min(directions.dim(0)));
        let (a, b) = (project(x, &some), project(y, &some));
        let costs: Vec<f64> = a
            .into_par_iter()
            .zip(b)
            .map(|(mut a, mut b)| {
                a.sort_unstable_by(f64::total_cmp);
                b.sort_unstable_by(f64::total_cmp);
                transport(&a, &b, p)
            })
            .collect();
        all.extend(costs);
    }
    all
}

/// Checks directions that somebody gives: `[L, D]`, each of length 1.
pub(crate) fn check_directions(directions: &Tensor, width: usize) -> Result<Tensor, MetricError> {
    let given = Vectors::new("directions", directions)?;
    if given.width() != width {
        let (first_width, second_width) = (width, given.width());
        return Err(MetricError::Widths { first: "real", first_width, second: "directions", second_width });
    }
    let directions = given.gather(0..given.rows(), None);
    for (i, d) in directions.as_slice::<f64>().chunks_exact(width).enumerate() {
        let norm = dot(d, d).sqrt();
        if (norm - 1.0).abs() > 1e-5 {
            let what = format!("the length of direction {i}");
            return Err(MetricError::Degenerate { what, found: norm.to_string(), expected: "1".into() });
        }
    }
    Ok(directions)
}

/// The order `p ≥ 1` of a transport distance.
pub(crate) fn check_order(p: f64) -> Result<(), MetricError> {
    if p >= 1.0 && p.is_finite() {
        return Ok(());
    }
    Err(MetricError::config("p", p, "a number of at least 1"))
}

/// The gradient of `W_p^p` along `θ` with respect to `θ`, the coupling held: `Σ mass p |d|^{p−1} sign(d) (x_i − y_j)`, `d = θ·(x_i − y_j)`.
/// Also `W_p^p` itself.
pub(crate) fn gradient(x: &Vectors, y: &Vectors, theta: &[f64], p: f64) -> (f64, Vec<f64>) {
    let direction = Tensor::from_vec(&[1, theta.len()], theta.to_vec());
    let sorted = |x: &Vectors| -> Vec<(f64, usize)> {
        let values = project(x, &direction).remove(0);
        let mut sorted: Vec<(f64, usize)> = values.into_iter().enumerate().map(|(i, v)| (v, i)).collect();
        sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        sorted
    };
    let (a, b) = (sorted(x), sorted(y));
    // What each vector's gradient weight is; then one pass over each set.
    let (mut of_x, mut of_y, mut total) = (vec![0.0; x.rows()], vec![0.0; y.rows()], 0.0);
    couple(a.len(), b.len(), |i, j, mass| {
        let d = a[i].0 - b[j].0;
        total += mass * d.abs().powf(p);
        let weight = mass * p * d.abs().powf(p - 1.0) * d.signum();
        of_x[a[i].1] += weight;
        of_y[b[j].1] -= weight;
    });
    let mut sum = vec![0.0; theta.len()];
    for (x, weights) in [(x, &of_x), (y, &of_y)] {
        let parts: Vec<Tensor> = (0..x.blocks())
            .into_par_iter()
            .map(|i| {
                let weights = weights[i * BLOCK..(i * BLOCK + x.span(i).len())].to_vec();
                Tensor::from_vec(&[1, weights.len()], weights).matmul(&x.block(i, None))
            })
            .collect();
        for part in parts {
            sum.iter_mut().zip(part.as_slice::<f64>()).for_each(|(s, p)| *s += p);
        }
    }
    (total, sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn couplings_of_any_sizes_have_the_right_marginals() {
        for (n, m) in [(1, 5), (4, 6), (7, 3), (5, 5)] {
            let (mut a, mut b) = (vec![0.0; n], vec![0.0; m]);
            couple(n, m, |i, j, mass| {
                a[i] += mass;
                b[j] += mass;
            });
            assert!(a.iter().all(|&v: &f64| (v * n as f64 - 1.0).abs() < 1e-14));
            assert!(b.iter().all(|&v: &f64| (v * m as f64 - 1.0).abs() < 1e-14));
        }
    }

    #[test]
    fn unequal_sizes_are_as_if_each_point_were_repeated() {
        let (a, b) = ([0.0, 1.0, 5.0], [0.5, 2.0]);
        let (a6, b6) = ([0.0, 0.0, 1.0, 1.0, 5.0, 5.0], [0.5, 0.5, 0.5, 2.0, 2.0, 2.0]);
        for p in [1.0, 1.5, 2.0] {
            assert!((transport(&a, &b, p) - transport(&a6, &b6, p)).abs() < 1e-14);
        }
    }

    #[test]
    fn the_gradient_is_that_of_differences() {
        let (x, y) = (normal(50, 3, 1), &normal(70, 3, 2) * 2.0);
        let (x, y) = Vectors::pair(&x, &y).unwrap();
        let theta = [0.3, -0.5, 0.8];
        for p in [1.5, 2.0, 3.0] {
            let (value, found) = gradient(&x, &y, &theta, p);
            let at = |k: usize, h: f64| {
                let mut theta = theta;
                theta[k] += h;
                along(&x, &y, &Tensor::from_vec(&[1, 3], theta.to_vec()), p)[0]
            };
            assert!((value - at(0, 0.0)).abs() < 1e-12);
            for (k, &g) in found.iter().enumerate() {
                let expected = (at(k, 1e-6) - at(k, -1e-6)) / 2e-6;
                assert!((g - expected).abs() < 1e-6, "{k}: {g}, expected {expected}");
            }
        }
    }
}
