//! Symmetric matrices: eigenvalues, and factors of positive semi-definite ones, in `f64`.
//!
//! Eigenvalues: Householder's reduction to a tridiagonal matrix, then QR steps with Wilkinson's shift (Golub & Van Loan, "Matrix
//! computations", algorithms 8.3.1–8.3.3). No eigenvectors: no metric needs them. In each step of the reduction the rank-2 change of the step
//! before and the product with the new reflection's vector share one pass over the matrix, row by row, so that rows go to threads and bits do
//! not depend on how many there are. `4/3 n³` operations.
//!
//! Factors: Cholesky's with pivoting (ibid., section 4.2.8): `S = L Lᵀ` with `L` of as many columns as the rank.

use fokker_tensor::Tensor;
use rayon::prelude::*;

use crate::pairs::dot;

/// Rows per piece of work.
const ROWS: usize = 16;

/// Calls `f(i, row_i)` for the rows of `[n, width]` from `first` on, several at once.
fn rows(a: &mut [f64], width: usize, first: usize, f: impl Fn(usize, &mut [f64]) + Sync) {
    a[first * width..].par_chunks_mut(ROWS * width).enumerate().for_each(|(piece, rows)| {
        pulp::Arch::new().dispatch(|| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                f(first + piece * ROWS + i, row);
            }
        });
    });
}

/// The eigenvalues of a symmetric matrix `[n, n]`, ascending.
pub(crate) fn eigenvalues(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    assert_eq!(a.len(), n * n, "a square matrix");
    // To a largest element of 1, so that no square leaves the range of numbers.
    let most = a.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    if most == 0.0 {
        return vec![0.0; n];
    }
    a.iter_mut().for_each(|v| *v /= most);
    let (mut diagonal, mut beside) = tridiagonal(&mut a, n);
    drop(a);
    qr(&mut diagonal, &mut beside);
    diagonal.iter_mut().for_each(|d| *d *= most);
    diagonal.sort_unstable_by(f64::total_cmp);
    diagonal
}

/// Diagonal and sub-diagonal of a tridiagonal matrix with the same eigenvalues.
fn tridiagonal(a: &mut [f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut diagonal, mut beside) = (vec![0.0; n], vec![0.0; n.saturating_sub(1)]);
    // The change still to be made: A −= v wᵀ + w vᵀ.
    let (mut v, mut w) = (vec![0.0; n], vec![0.0; n]);
    for k in 0..n {
        let row = &mut a[k * n..(k + 1) * n];
        change(row, k, v[k], w[k], &v, &w);
        diagonal[k] = row[k];
        if k + 1 == n {
            break;
        }
        // H x = α e₁ for the rest x of this row, H = I − β u uᵀ.
        let mut u = vec![0.0; n];
        u[k + 1..].copy_from_slice(&row[k + 1..]);
        let norm = dot(&u[k + 1..], &u[k + 1..]).sqrt();
        let alpha = if u[k + 1] > 0.0 { -norm } else { norm };
        beside[k] = alpha;
        u[k + 1] -= alpha;
        let square = dot(&u[k + 1..], &u[k + 1..]);
        let beta = if square > 0.0 { 2.0 / square } else { 0.0 };
        // p = β A u, in the pass that brings A up to date. Column 0 of each row is done with: it carries the row's product out.
        let (old_v, old_w, new) = (&v, &w, &u);
        rows(a, n, k + 1, |i, row| {
            change(row, k + 1, old_v[i], old_w[i], old_v, old_w);
            row[0] = beta * dot(&row[k + 1..], &new[k + 1..]);
        });
        let mut p: Vec<f64> = (0..n).map(|i| if i > k { a[i * n] } else { 0.0 }).collect();
        let half = 0.5 * beta * dot(&p, &u);
        p.iter_mut().zip(&u).for_each(|(p, u)| *p -= half * u);
        (v, w) = (u, p);
    }
    (diagonal, beside)
}

/// `row −= v_i w + w_i v` from column `first` on.
#[inline(always)]
fn change(row: &mut [f64], first: usize, v_i: f64, w_i: f64, v: &[f64], w: &[f64]) {
    for ((a, v), w) in row[first..].iter_mut().zip(&v[first..]).zip(&w[first..]) {
        *a -= v_i * w + w_i * v;
    }
}

/// Makes the sub-diagonal of a tridiagonal matrix vanish; the diagonal ends as the eigenvalues.
fn qr(d: &mut [f64], e: &mut [f64]) {
    let Some(mut high) = d.len().checked_sub(1) else { return };
    let negligible = |e: f64, a: f64, b: f64| e.abs() <= f64::EPSILON * (a.abs() + b.abs()) || e.abs() < f64::MIN_POSITIVE;
    let mut steps = 0;
    while high > 0 {
        if negligible(e[high - 1], d[high - 1], d[high]) {
            high -= 1;
            continue;
        }
        let mut low = high - 1;
        while low > 0 && !negligible(e[low - 1], d[low - 1], d[low]) {
            low -= 1;
        }
        steps += 1;
        assert!(steps <= 100 * d.len(), "eigenvalues: no convergence; the matrix is not finite");
        // Wilkinson's shift: the eigenvalue of the last 2×2 block that is nearer to its last element.
        let (b, t) = (e[high - 1], 0.5 * (d[high - 1] - d[high]));
        let root = if t < 0.0 { -t.hypot(b) } else { t.hypot(b) };
        let shift = d[high] - b * (b / (t + root));
        let (mut x, mut z) = (d[low] - shift, e[low]);
        for k in low..high {
            let r = x.hypot(z);
            let (c, s) = if r > 0.0 { (x / r, z / r) } else { (1.0, 0.0) };
            if k > low {
                e[k - 1] = r;
            }
            let (a, b, g) = (d[k], e[k], d[k + 1]);
            d[k] = c * c * a + 2.0 * c * s * b + s * s * g;
            d[k + 1] = s * s * a - 2.0 * c * s * b + c * c * g;
            e[k] = c * s * (g - a) + (c * c - s * s) * b;
            if k + 1 < high {
                (x, z) = (e[k], s * e[k + 1]);
                e[k + 1] *= c;
            }
        }
    }
}

/// `L` `[n, rank]` with `S ≈ L Lᵀ` for a symmetric positive semi-definite `S` `[n, n]`. Pivots below `n ε max S_ii` count as 0.
///
/// `ε` is that of `f64`. A singular matrix whose numbers were rounded to `f32` on their way is not positive semi-definite to that precision:
/// rounding makes some of its zero eigenvalues negative. Where that shows, `ε` is that of `f32`, for which the rest is rounding.
///
/// # Errors
/// The most negative pivot, where `S` is not positive semi-definite in either precision: below `−√ε max S_ii`.
pub(crate) fn factor(s: &[f64], n: usize) -> Result<Tensor, f64> {
    factor_to(s, n, f64::EPSILON).or_else(|_| factor_to(s, n, f64::from(f32::EPSILON)))
}

fn factor_to(s: &[f64], n: usize, epsilon: f64) -> Result<Tensor, f64> {
    assert_eq!(s.len(), n * n, "a square matrix");
    let mut left: Vec<f64> = (0..n).map(|i| s[i * n + i]).collect();
    let most = left.iter().fold(0.0, |m: f64, &d| m.max(d));
    let mut l = vec![0.0; n * n];
    let mut rank = 0;
    let mut done = vec![false; n];
    while rank < n {
        let best = (0..n).filter(|&i| !done[i]).max_by(|&a, &b| left[a].total_cmp(&left[b]).then(b.cmp(&a)));
        let pivot = best.expect("a row that is left");
        if left[pivot] <= n as f64 * epsilon * most {
            break;
        }
        done[pivot] = true;
        let root = left[pivot].sqrt();
        let own = l[pivot * n..pivot * n + rank].to_vec();
        let finished = &done;
        rows(&mut l, n, 0, |i, row| {
            if i == pivot {
                row[rank] = root;
            } else if !finished[i] {
                row[rank] = (s[pivot * n + i] - dot(&row[..rank], &own)) / root;
            }
        });
        for i in (0..n).filter(|&i| !done[i]) {
            left[i] -= l[i * n + rank].powi(2);
        }
        rank += 1;
    }
    let least = (0..n).filter(|&i| !done[i]).map(|i| left[i]).fold(0.0, f64::min);
    if least < -epsilon.sqrt() * most {
        return Err(least);
    }
    let kept: Vec<f64> = l.chunks_exact(n).flat_map(|row| row[..rank].iter().copied()).collect();
    Ok(Tensor::from_vec(&[n, rank], kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    fn close(found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= tolerance, "{a}, expected {b}");
        }
    }

    #[test]
    fn the_second_difference_has_its_known_eigenvalues() {
        for n in [1usize, 2, 3, 10, 257] {
            let a: Vec<f64> = (0..n * n)
                .map(|k| match (k / n).abs_diff(k % n) {
                    0 => 2.0,
                    1 => -1.0,
                    _ => 0.0,
                })
                .collect();
            let expected: Vec<f64> =
                (1..=n).map(|k| 2.0 - 2.0 * (k as f64 * std::f64::consts::PI / (n as f64 + 1.0)).cos()).collect();
            close(&eigenvalues(a, n), &expected, 1e-13);
        }
    }

    #[test]
    fn eigenvalues_survive_a_change_of_basis() {
        // H D H with a reflection H, of known eigenvalues: spread over many scales, repeated, zero, negative.
        let n = 130;
        let known: Vec<f64> = (0..n).map(|i| [1e3, 0.0, -2.0, 1e-6 * i as f64, i as f64][i % 5]).collect();
        let u = normal(1, n, 1).to_vec::<f64>();
        let square = dot(&u, &u);
        let h = |i: usize, j: usize| f64::from(u8::from(i == j)) - 2.0 * u[i] * u[j] / square;
        let h: Vec<f64> = (0..n * n).map(|k| h(k / n, k % n)).collect();
        let scaled: Vec<f64> = (0..n * n).map(|k| h[k] * known[k % n]).collect();
        let h = Tensor::from_vec(&[n, n], h);
        let a = Tensor::from_vec(&[n, n], scaled).matmul(&h);
        let mut expected = known;
        expected.sort_unstable_by(f64::total_cmp);
        close(&eigenvalues(a.to_vec(), n), &expected, 1e-11);
    }

    #[test]
    fn zero_and_tiny_matrices_have_eigenvalues() {
        assert_eq!(eigenvalues(vec![0.0; 49], 7), [0.0; 7]);
        close(&eigenvalues(vec![0.0, 1e-300, 1e-300, 0.0], 2), &[-1e-300, 1e-300], 1e-314);
    }

    #[test]
    fn factors_have_the_rank_and_give_the_matrix_back() {
        let (n, rank) = (90, 37);
        let x = normal(n, rank, 3);
        let s = x.matmul_nt(&x);
        let l = factor(s.as_slice(), n).unwrap();
        assert_eq!(l.shape(), [n, rank]);
        close(l.matmul_nt(&l).as_slice(), s.as_slice(), 1e-11);
        assert_eq!(factor(&[0.0; 9], 3).unwrap().shape(), [3, 0]);
        let least = factor(&[1.0, 2.0, 2.0, 1.0], 2).unwrap_err();
        assert!((least + 3.0).abs() < 1e-12, "{least}");
    }

    #[test]
    fn a_singular_matrix_that_was_rounded_to_single_precision_has_the_rank_that_it_had() {
        let (n, rank) = (90, 37);
        let x = normal(n, rank, 3);
        let s = x.matmul_nt(&x).to_vec::<f64>();
        let rounded: Vec<f64> = s.iter().map(|&v| f64::from(v as f32)).collect();
        assert!(factor_to(&rounded, n, f64::EPSILON).is_err());
        let l = factor(&rounded, n).unwrap();
        assert_eq!(l.shape(), [n, rank]);
        let most = s.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        close(l.matmul_nt(&l).as_slice(), &s, 2e-6 * most);
        // What is no rounding is no covariance in either precision.
        let mut bad = rounded;
        bad[0] -= 0.1 * most;
        assert!(factor(&bad, n).unwrap_err() < -1e-2);
    }

    #[test]
    fn both_have_the_same_bits_for_any_number_of_threads() {
        let x = normal(100, 100, 4);
        let s = x.matmul_nt(&x);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (eigenvalues(s.to_vec(), 100), factor(s.as_slice(), 100).unwrap().to_vec::<f64>()))
        };
        let one = run(1);
        assert_eq!(run(2), one);
        assert_eq!(run(5), one);
    }
}
