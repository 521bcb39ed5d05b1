//! Eigenvalues and eigenvectors of a small symmetric matrix.

/// The decomposition `A = U diag(λ) Uᵀ` by cyclic Jacobi rotations (Golub & Van Loan, 4th ed., section 8.5).
///
/// `matrix` is row-major `[n, n]`; returns `λ` and `U` (row-major, eigenvectors in columns). Exact to rounding for the
/// sizes used here; `O(n³)` per sweep.
pub(super) fn eigen(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a = matrix.to_vec();
    let mut u: Vec<f64> = (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect();
    let scale: f64 = a.iter().map(|x| x * x).sum();
    for _sweep in 0..64 {
        let off: f64 = (0..n * n).filter(|i| i / n != i % n).map(|i| a[i] * a[i]).sum();
        if off <= 1e-32 * scale {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut u, n, p, q);
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), u)
}

/// Makes `a[p][q]` zero by a rotation in the plane of `p` and `q`, and applies the rotation to `u` too.
fn rotate(a: &mut [f64], u: &mut [f64], n: usize, p: usize, q: usize) {
    let a_pq = a[p * n + q];
    if a_pq == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a_pq);
    // The smaller root of t² + 2θt − 1 = 0, for stability.
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        a[k * n + p] = c * x - s * y;
        a[k * n + q] = s * x + c * y;
    }
    for k in 0..n {
        let (x, y) = (a[p * n + k], a[q * n + k]);
        a[p * n + k] = c * x - s * y;
        a[q * n + k] = s * x + c * y;
    }
    for k in 0..n {
        let (x, y) = (u[k * n + p], u[k * n + q]);
        u[k * n + p] = c * x - s * y;
        u[k * n + q] = s * x + c * y;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symmetric_matrix_is_rebuilt_from_its_eigenvalues_and_orthogonal_eigenvectors() {
        let n = 7;
        // A Hilbert matrix: badly conditioned on purpose, with a zero row and column added.
        let a: Vec<f64> =
            (0..n * n).map(|i| if i / n == 6 || i % n == 6 { 0.0 } else { 1.0 / (i / n + i % n + 1) as f64 }).collect();
        let (values, u) = eigen(&a, n);
        for i in 0..n {
            for j in 0..n {
                let rebuilt: f64 = (0..n).map(|k| u[i * n + k] * values[k] * u[j * n + k]).sum();
                assert!((rebuilt - a[i * n + j]).abs() < 1e-14, "A[{i}][{j}]: {rebuilt} and {}", a[i * n + j]);
                let dot: f64 = (0..n).map(|k| u[k * n + i] * u[k * n + j]).sum();
                let identity = if i == j { 1.0 } else { 0.0 };
                assert!((dot - identity).abs() < 1e-14, "UᵀU[{i}][{j}] = {dot}");
            }
        }
    }
}
