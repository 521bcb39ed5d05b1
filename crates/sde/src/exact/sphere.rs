//! Data uniform on a sphere of radius `r` around 0. Given `x_t`, `x_0 = r u` with `u` of density `∝ e^{κ ⟨u, x_t/|x_t|⟩}`, so that
//!
//! ```text
//! c = αr/σ²      κ = c |x_t|      E[x_0 | x_t] = r A(κ) x_t/|x_t| = r c G(κ²) x_t      ∂x̂₀/∂x_t = r c (G I + 2c² G′ x_t x_tᵀ)
//! ln p_t = −½D ln(2πσ²) − (|x_t|² + α²r²)/(2σ²) + ln ₀F₁(; D/2; κ²/4)
//! ```
//!
//! with `A` the ratio of Bessel functions `I_{D/2}/I_{D/2−1}` and `G(κ²) = A(κ)/κ` (see `fisher.rs`).

use std::f64::consts::TAU;
use std::sync::Arc;

use fokker_tensor::{Noise, Tensor};

use super::Exact;
use super::component::{back, rows, standard};
use super::fisher::{Fisher, VonMisesFisher};
use crate::cond::Cond;
use crate::denoiser::Denoiser;
use crate::sde::Sde;
use crate::times::Times;

/// The exact denoiser of the uniform law on a sphere in any number of dimensions, under any process: data on a manifold that no
/// Gaussian mixture describes. In one dimension the sphere is the two points `±r`.
///
/// Derivatives of its answers are exact up to the second order (the third for [`log_density`](Exact::log_density)). Conditions
/// are ignored.
///
/// ```
/// use fokker_sde::{Cond, Denoiser, Edm, Sphere};
/// use fokker_tensor::Tensor;
///
/// let model = Sphere::new(Edm::default(), 2.0, 3);
/// let x = Tensor::from_vec(&[1, 3], vec![0.0, 0.0, 5.0]);
/// // In three dimensions A(κ) = coth κ − 1/κ; here κ = 2 · 5/2².
/// let denoised = model.denoise(&x, &2.0.into(), &Cond::NONE).to_vec::<f64>();
/// assert!((denoised[2] - 2.0 * (1.0 / 2.5_f64.tanh() - 1.0 / 2.5)).abs() < 1e-14);
/// ```
#[derive(Clone, Debug)]
pub struct Sphere {
    sde: Arc<dyn Sde>,
    radius: f64,
    dim: usize,
    law: VonMisesFisher,
}

/// What is constant for one sample: the functions of `|x_t|²` at its value.
struct Radial {
    /// `c = αr/σ²`.
    c: f64,
    fisher: Fisher,
    log_density: f64,
    sigma: f64,
}

impl Sphere {
    /// The sphere of this radius around 0 in `dim` dimensions under `sde`.
    ///
    /// # Panics
    /// If the radius is not positive or there is no dimension.
    #[track_caller]
    pub fn new(sde: impl Sde + 'static, radius: f64, dim: usize) -> Self {
        assert!(radius > 0.0 && radius.is_finite(), "a sphere has a positive radius, found {radius}");
        assert!(dim > 0, "a sphere needs at least one dimension");
        Self { sde: Arc::new(sde), radius, dim, law: VonMisesFisher::new(dim) }
    }

    /// The radius `r`.
    pub fn radius(&self) -> f64 {
        self.radius
    }

    /// The functions of each sample's norm, given the squared norms `[B, 1]`.
    fn radial(&self, squares: &Tensor, t: &Times) -> Vec<Radial> {
        let d = self.dim as f64;
        let each = squares.as_slice::<f64>().iter().enumerate();
        each.map(|(i, &square)| {
            let (alpha, sigma) = (self.sde.alpha(t.of(i)), self.sde.sigma(t.of(i)));
            let (norm, c) = (square.sqrt(), alpha * self.radius / (sigma * sigma));
            let fisher = self.law.at(c * norm);
            // −(|x|² + α²r²)/(2σ²) + κ is one square.
            let distance = (norm - alpha * self.radius) / sigma;
            let log_density = fisher.log_normaliser - 0.5 * distance * distance - 0.5 * d * (TAU * sigma * sigma).ln();
            Radial { c, fisher, log_density, sigma }
        })
        .collect()
    }

    /// `x` as rows, its squared norms `[B, 1]`, and the functions of these.
    #[track_caller]
    fn parts(&self, x: &Tensor, t: &Times) -> (Tensor, Tensor, Vec<Radial>) {
        t.assert_batch(x);
        let x = rows(x, self.dim);
        let squares = x.square().sum_keep(&[1]);
        let radial = self.radial(&squares.detach(), t);
        (x, squares, radial)
    }
}

/// The function with the derivatives `orders` (of each sample, by the squared norm) where it is: a Taylor polynomial about the
/// point itself, which is the function's value there and has its derivatives. The functions are made of scalars, which are not
/// recorded; this is.
fn taylor(squares: &Tensor, orders: &[Vec<f64>]) -> Tensor {
    let column = |values: &[f64]| Tensor::from_vec(&[values.len(), 1], values.to_vec());
    let step = squares - &squares.detach();
    let mut total = column(&orders[orders.len() - 1]);
    for (k, order) in orders.iter().enumerate().rev().skip(1) {
        total = &(&(&total * &step) * (1.0 / (k + 1) as f64)) + &column(order);
    }
    total
}

impl Denoiser for Sphere {
    fn sde(&self) -> &dyn Sde {
        &*self.sde
    }

    fn denoise(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        let (rows, squares, radial) = self.parts(x, t);
        let order = |f: &dyn Fn(&Radial) -> f64| radial.iter().map(|r| self.radius * r.c * f(r)).collect::<Vec<_>>();
        let gain = taylor(
            &squares,
            &[order(&|r| r.fisher.g), order(&|r| r.c.powi(2) * r.fisher.d_g), order(&|r| r.c.powi(4) * r.fisher.dd_g)],
        );
        back(&(&rows * &gain), x)
    }
}

impl Exact for Sphere {
    fn dim(&self) -> usize {
        self.dim
    }

    fn log_density(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        let (_, squares, radial) = self.parts(x, t);
        let order = |f: &dyn Fn(&Radial) -> f64| radial.iter().map(f).collect::<Vec<_>>();
        // d ln ₀F₁/dq = G/2.
        let orders = [
            order(&|r| r.log_density),
            order(&|r| 0.5 * (r.c.powi(2) * r.fisher.g - r.sigma.powi(-2))),
            order(&|r| 0.5 * r.c.powi(4) * r.fisher.d_g),
            order(&|r| 0.5 * r.c.powi(6) * r.fisher.dd_g),
        ];
        taylor(&squares, &orders).reshape(&[x.dim(0)])
    }

    fn jacobian(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        let (rows, _, radial) = self.parts(&x.detach(), t);
        let d = self.dim;
        let mut out = Vec::with_capacity(rows.len() * d);
        for (x, r) in rows.as_slice::<f64>().chunks(d).zip(&radial) {
            let (along, across) = (2.0 * r.c.powi(2) * r.fisher.d_g, r.fisher.g);
            for i in 0..d {
                out.extend((0..d).map(|j| self.radius * r.c * (along * x[i] * x[j] + if i == j { across } else { 0.0 })));
            }
        }
        Tensor::from_vec(&[x.dim(0), d, d], out)
    }

    fn divergence(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        let (_, _, radial) = self.parts(&x.detach(), t);
        // A′ along x_t, A/κ across.
        let trace = |r: &Radial| self.radius * r.c * (r.fisher.variance + (self.dim - 1) as f64 * r.fisher.g);
        Tensor::from_vec(&[x.dim(0)], radial.iter().map(trace).collect())
    }

    fn sample(&self, n: usize, noise: Noise, first_sample: u64) -> Tensor {
        let normal = standard(noise, n, self.dim, first_sample);
        let norms = normal.square().sum_keep(&[1]).sqrt();
        &(&normal / &norms) * self.radius
    }
}
