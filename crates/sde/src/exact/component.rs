//! One Gaussian under a process: what single Gaussians and mixtures are built from.

use std::f64::consts::TAU;

use fokker_tensor::{Dtype, Noise, Tensor};

use super::symmetric::eigen;
use crate::sde::Sde;
use crate::times::Times;

/// The covariance matrix of a Gaussian in `D` dimensions.
#[derive(Clone, Debug, PartialEq)]
pub enum Covariance {
    /// This variance in every direction.
    Isotropic(f64),
    /// The variance of each coordinate, `D` numbers.
    Diagonal(Vec<f64>),
    /// The whole matrix, symmetric, row-major, `D²` numbers.
    Full(Vec<f64>),
}

/// `N(μ, U diag(λ) Uᵀ)`, without `U` where it is the identity.
#[derive(Clone, Debug)]
pub(super) struct Component {
    mean: Vec<f64>,
    eigenvalues: Vec<f64>,
    /// `[D, D]`, eigenvectors in columns.
    basis: Option<Tensor>,
}

impl Component {
    #[track_caller]
    pub(super) fn new(mean: &[f64], covariance: &Covariance) -> Self {
        let d = mean.len();
        assert!(d > 0, "a Gaussian needs at least one dimension");
        let (eigenvalues, basis) = match covariance {
            Covariance::Isotropic(variance) => (vec![*variance; d], None),
            Covariance::Diagonal(variances) => {
                assert_eq!(variances.len(), d, "{} variances for a mean of {d} numbers", variances.len());
                (variances.clone(), None)
            }
            Covariance::Full(matrix) => {
                assert_eq!(matrix.len(), d * d, "{} entries of a covariance for a mean of {d} numbers", matrix.len());
                for i in 0..d {
                    for j in 0..i {
                        let (below, above) = (matrix[i * d + j], matrix[j * d + i]);
                        assert!(
                            (below - above).abs() <= 1e-12 * (below.abs() + above.abs()),
                            "a covariance is symmetric: entry [{i}, {j}] is {below}, [{j}, {i}] is {above}"
                        );
                    }
                }
                let (mut values, basis) = eigen(matrix, d);
                // Rounding may leave the zero eigenvalues of a singular matrix slightly negative.
                let largest = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
                for value in &mut values {
                    if *value < 0.0 && *value > -1e-12 * largest {
                        *value = 0.0;
                    }
                }
                (values, Some(Tensor::from_vec(&[d, d], basis)))
            }
        };
        assert!(
            eigenvalues.iter().all(|v| *v >= 0.0 && v.is_finite()),
            "a covariance has no negative eigenvalue, found {eigenvalues:?}"
        );
        assert!(mean.iter().all(|m| m.is_finite()), "a mean is finite, found {mean:?}");
        Self { mean: mean.to_vec(), eigenvalues, basis }
    }

    pub(super) fn dim(&self) -> usize {
        self.mean.len()
    }

    pub(super) fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// `Σ`, row-major `[D, D]`.
    pub(super) fn covariance(&self) -> Vec<f64> {
        let d = self.dim();
        let mut out = vec![0.0; d * d];
        match &self.basis {
            None => (0..d).for_each(|i| out[i * d + i] = self.eigenvalues[i]),
            Some(basis) => {
                let u = basis.as_slice::<f64>();
                for (i, out) in out.iter_mut().enumerate() {
                    let (row, column) = (i / d, i % d);
                    *out = (0..d).map(|k| u[row * d + k] * self.eigenvalues[k] * u[column * d + k]).sum();
                }
            }
        }
        out
    }

    /// A number for each time and direction from `(α, σ, λ, μ)`, as `[T, D]` with one row per time.
    fn table(&self, sde: &dyn Sde, t: &Times, entry: impl Fn(f64, f64, usize) -> f64) -> Tensor {
        let d = self.dim();
        let times = t.values();
        let mut table = Vec::with_capacity(times.len() * d);
        for &t in times {
            let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
            table.extend((0..d).map(|k| entry(alpha, sigma, k)));
        }
        Tensor::from_vec(&[times.len(), d], table)
    }

    /// `z = Uᵀ (x − αμ)` by rows: `[B, D]` for `x` `[B, D]`.
    pub(super) fn coordinates(&self, sde: &dyn Sde, t: &Times, x: &Tensor) -> Tensor {
        let centred = x - &self.table(sde, t, |alpha, _, k| alpha * self.mean[k]);
        match &self.basis {
            None => centred,
            Some(basis) => centred.matmul(basis),
        }
    }

    /// `U z` by rows.
    fn out_of_coordinates(&self, z: &Tensor) -> Tensor {
        match &self.basis {
            None => z.clone(),
            Some(basis) => z.matmul_nt(basis),
        }
    }

    /// `E[x_0 | x_t]`, `[B, D]`, from the coordinates of `x_t`.
    pub(super) fn denoised(&self, sde: &dyn Sde, t: &Times, z: &Tensor) -> Tensor {
        let gain =
            self.table(sde, t, |alpha, sigma, k| alpha * self.eigenvalues[k] / variance(alpha, sigma, self.eigenvalues[k]));
        let mean = Tensor::from_vec(&[1, self.dim()], self.mean.clone());
        &self.out_of_coordinates(&(z * &gain)) + &mean
    }

    /// `∇ ln p_t(x_t)`, `[B, D]`, from the coordinates of `x_t`.
    pub(super) fn score(&self, sde: &dyn Sde, t: &Times, z: &Tensor) -> Tensor {
        let gain = self.table(sde, t, |alpha, sigma, k| -1.0 / variance(alpha, sigma, self.eigenvalues[k]));
        self.out_of_coordinates(&(z * &gain))
    }

    /// `ln p_t(x_t)`, `[B, 1]`, from the coordinates of `x_t`.
    pub(super) fn log_density(&self, sde: &dyn Sde, t: &Times, z: &Tensor) -> Tensor {
        let precision = self.table(sde, t, |alpha, sigma, k| 1.0 / variance(alpha, sigma, self.eigenvalues[k]));
        let log_volume = self.table(sde, t, |alpha, sigma, k| (TAU * variance(alpha, sigma, self.eigenvalues[k])).ln());
        let squares = (&(z * z) * &precision).sum_keep(&[1]);
        &(&squares + &log_volume.sum_keep(&[1])) * -0.5
    }

    /// `∂x̂₀/∂x_t = αΣ (α²Σ + σ²I)⁻¹`, `[T, D, D]` with one matrix per time, and its trace, `[T, 1]`.
    pub(super) fn jacobian(&self, sde: &dyn Sde, t: &Times) -> (Tensor, Tensor) {
        let d = self.dim();
        let gain =
            self.table(sde, t, |alpha, sigma, k| alpha * self.eigenvalues[k] / variance(alpha, sigma, self.eigenvalues[k]));
        let matrices = gain.as_slice::<f64>().chunks(d).flat_map(|gain| match &self.basis {
            None => (0..d * d).map(|i| if i / d == i % d { gain[i / d] } else { 0.0 }).collect::<Vec<_>>(),
            // U diag(gain) Uᵀ.
            Some(basis) => (basis * &Tensor::from_vec(&[1, d], gain.to_vec())).matmul_nt(basis).to_vec::<f64>(),
        });
        let matrices = Tensor::from_vec(&[t.values().len(), d, d], matrices.collect());
        (matrices, gain.sum_keep(&[1]))
    }

    /// The divergence `−tr (α²Σ + σ²I)⁻¹` of the score, `[T, 1]`.
    pub(super) fn score_divergence(&self, sde: &dyn Sde, t: &Times) -> Tensor {
        self.table(sde, t, |alpha, sigma, k| -1.0 / variance(alpha, sigma, self.eigenvalues[k])).sum_keep(&[1])
    }

    /// Moves `x`, `[B, D]`, along the probability-flow ODE from `t` to `s`: every direction keeps its distance from the
    /// mean in units of its standard deviation.
    pub(super) fn flow(&self, sde: &dyn Sde, t: f64, s: f64, x: &Tensor) -> Tensor {
        let z = self.coordinates(sde, &Times::Same(t), x);
        let (from, to) = ((sde.alpha(t), sde.sigma(t)), (sde.alpha(s), sde.sigma(s)));
        let ratio: Vec<f64> =
            self.eigenvalues.iter().map(|&v| (variance(to.0, to.1, v) / variance(from.0, from.1, v)).sqrt()).collect();
        let mean: Vec<f64> = self.mean.iter().map(|m| to.0 * m).collect();
        let d = self.dim();
        &self.out_of_coordinates(&(&z * &Tensor::from_vec(&[1, d], ratio))) + &Tensor::from_vec(&[1, d], mean)
    }

    /// `μ + U diag(√λ) ε` for `ε` `[B, D]`.
    pub(super) fn colour(&self, noise: &Tensor) -> Tensor {
        let std: Vec<f64> = self.eigenvalues.iter().map(|v| v.sqrt()).collect();
        let d = self.dim();
        &self.out_of_coordinates(&(noise * &Tensor::from_vec(&[1, d], std))) + &Tensor::from_vec(&[1, d], self.mean.clone())
    }
}

/// The variance `α²λ + σ²` of one direction of the noisy marginal.
fn variance(alpha: f64, sigma: f64, eigenvalue: f64) -> f64 {
    alpha * alpha * eigenvalue + sigma * sigma
}

/// `x` as `[B, D]` in `f64`.
#[track_caller]
pub(super) fn rows(x: &Tensor, d: usize) -> Tensor {
    assert!(x.rank() > 0 && x.len() == x.dim(0) * d, "an exact denoiser of {d} dimensions got a state of shape {:?}", x.shape());
    x.to(Dtype::F64).reshape(&[x.dim(0), d])
}

/// `[B, D]` in `f64` back in the shape and type of `like`.
pub(super) fn back(rows: &Tensor, like: &Tensor) -> Tensor {
    rows.reshape(like.shape()).to(like.dtype())
}

/// `n` rows of `d` standard normal numbers keyed for data.
pub(super) fn standard(noise: Noise, n: usize, d: usize, first_sample: u64) -> Tensor {
    noise.normal(&[n, d], first_sample, 0, Dtype::F64)
}
