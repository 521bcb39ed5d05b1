//! Data that are a finite set of points `p_1 … p_N`, all equally likely. The noisy marginal is a mixture of Gaussians of one width,
//! and the denoiser an average of the points,
//!
//! ```text
//! E[x_0 | x_t] = Σ_i w_i p_i      w = softmax_i(−|x_t − α p_i|²/(2σ²))      ∂x̂₀/∂x_t = (α/σ²) Σ_i w_i (p_i − x̂₀)(p_i − x̂₀)ᵀ
//! ```
//!
//! (Karras et al. 2022, arXiv:2206.00364, appendix B.3). The points are gone through in blocks, with the largest exponent so far
//! taken out of the sums: no `[B, N]` matrix is ever held.

use std::f64::consts::TAU;
use std::sync::Arc;

use fokker_tensor::{Dtype, Noise, Tensor};

use super::Exact;
use super::component::{back, rows};
use crate::cond::Cond;
use crate::denoiser::Denoiser;
use crate::sde::Sde;
use crate::times::Times;

/// Points in one block.
const BLOCK: usize = 1024;

/// The optimal denoiser of a finite data set: what a network that memorised its training data answers. Conditions are ignored.
///
/// One evaluation costs `4 B N D` operations and memory for `[B, 1024]` numbers, unless it is recorded; the Jacobian costs
/// `2 B N D²`.
///
/// ```
/// use fokker_sde::{Cond, Denoiser, Edm, Points};
/// use fokker_tensor::Tensor;
///
/// let model = Points::new(Edm::default(), &Tensor::from_vec(&[2, 1], vec![-1.0, 3.0]));
/// let x = Tensor::from_vec(&[2, 1], vec![1.0, 2.9]);
/// let denoised = model.denoise(&x, &0.1.into(), &Cond::NONE).to_vec::<f64>();
/// assert!((denoised[0] - 1.0).abs() < 1e-14); // undecided between the two
/// assert!((denoised[1] - 3.0).abs() < 1e-14); // the nearest by far
/// ```
#[derive(Clone, Debug)]
pub struct Points {
    sde: Arc<dyn Sde>,
    /// `[N, D]`, less their mean: what cancels in the exponents should be small.
    centred: Tensor,
    /// `½ |p_i|²` of the centred points, `[1, N]`.
    half_squares: Tensor,
    /// `[1, D]`.
    mean: Tensor,
}

/// Sums over all points for each sample of a batch.
struct Sums {
    /// `Σ_i w_i p_i` of the centred points, `[B, D]`.
    mean: Tensor,
    /// `ln Σ_i e^{l_i}`, `[B, 1]`.
    log_total: Tensor,
}

impl Points {
    /// The data set `points`, `[N, ...]`, under `sde`.
    ///
    /// # Panics
    /// If there is no point, a point has no numbers, or one is not finite.
    #[track_caller]
    pub fn new(sde: impl Sde + 'static, points: &Tensor) -> Self {
        assert!(points.rank() > 1 && !points.is_empty(), "points of shape {:?}, expected [N, ...]", points.shape());
        assert!(points.all_finite(), "points are finite numbers");
        let points = points.detach().to(Dtype::F64).reshape(&[points.dim(0), points.len() / points.dim(0)]);
        let mean = points.mean_keep(&[0]);
        let centred = &points - &mean;
        let half_squares = (&centred.square().sum_keep(&[1]) * 0.5).reshape(&[1, points.dim(0)]);
        Self { sde: Arc::new(sde), centred, half_squares, mean }
    }

    /// The number of points `N`.
    pub fn len(&self) -> usize {
        self.centred.dim(0)
    }

    /// Never: there is at least one point.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// `x − α · mean` as rows.
    #[track_caller]
    fn centre(&self, x: &Tensor, t: &Times) -> Tensor {
        t.assert_batch(x);
        let x = rows(x, self.dim());
        let shift = t.column(&x, |t| self.sde.alpha(t));
        &x - &(&shift * &self.mean)
    }

    /// The blocks: points `[n, D]` and the exponents of each sample `y` `[B, D]` for them, `[B, n]`,
    /// `l = (α/σ²) (⟨y, p⟩ − ½ α |p|²)`; what is left of `−|y − αp|²/(2σ²)`, `−|y|²/(2σ²)`, is the same for all.
    fn blocks<'a>(&'a self, y: &'a Tensor, t: &'a Times) -> impl Iterator<Item = (Tensor, Tensor)> + 'a {
        let gain = t.column(y, |t| self.sde.alpha(t) / self.sde.sigma(t).powi(2));
        let penalty = t.column(y, |t| self.sde.alpha(t));
        (0..self.len()).step_by(BLOCK).map(move |start| {
            let range = start..self.len().min(start + BLOCK);
            let points = self.centred.slice(0, range.clone());
            let squares = self.half_squares.slice(1, range);
            let exponents = &(&y.matmul_nt(&points) - &(&squares * &penalty)) * &gain;
            (points, exponents)
        })
    }

    fn sums(&self, y: &Tensor, t: &Times) -> Sums {
        // The largest exponent so far is a constant that drops out of the result: it need not be recorded.
        let mut running: Option<(Tensor, Tensor, Tensor)> = None;
        for (points, exponents) in self.blocks(y, t) {
            let largest = exponents.detach().max_keep(&[1]);
            running = Some(match running {
                None => {
                    let weights = (&exponents - &largest).exp();
                    (weights.matmul(&points), weights.sum_keep(&[1]), largest)
                }
                Some((sum, total, before)) => {
                    let largest = Tensor::concat(&[&before, &largest], 1).max_keep(&[1]);
                    let weights = (&exponents - &largest).exp();
                    let shrink = (&before - &largest).exp();
                    let sum = &(&sum * &shrink) + &weights.matmul(&points);
                    (sum, &(&total * &shrink) + &weights.sum_keep(&[1]), largest)
                }
            });
        }
        let (sum, total, largest) = running.expect("there is at least one point");
        Sums { mean: &sum / &total, log_total: &total.ln() + &largest }
    }

    /// Of each sample, the sum over all points of `f(p − x̂₀ [n, D], w [n, 1])`, times `α/σ²`.
    fn spread(&self, x: &Tensor, t: &Times, f: impl Fn(&Tensor, &Tensor) -> Tensor) -> Vec<Tensor> {
        let y = self.centre(&x.detach(), t);
        let sums = self.sums(&y, t);
        let mut totals: Vec<Option<Tensor>> = vec![None; x.dim(0)];
        for (points, exponents) in self.blocks(&y, t) {
            let weights = (&exponents - &sums.log_total).exp();
            for (b, total) in totals.iter_mut().enumerate() {
                let own = weights.slice(0, b..b + 1).reshape(&[points.dim(0), 1]);
                let term = f(&(&points - &sums.mean.slice(0, b..b + 1)), &own);
                *total = Some(match total.take() {
                    None => term,
                    Some(total) => &total + &term,
                });
            }
        }
        let gain = |b: usize| self.sde.alpha(t.of(b)) / self.sde.sigma(t.of(b)).powi(2);
        totals.into_iter().enumerate().map(|(b, total)| &total.expect("there is at least one point") * gain(b)).collect()
    }
}

impl Denoiser for Points {
    fn sde(&self) -> &dyn Sde {
        &*self.sde
    }

    fn denoise(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        back(&(&self.sums(&self.centre(x, t), t).mean + &self.mean), x)
    }
}

impl Exact for Points {
    fn dim(&self) -> usize {
        self.centred.dim(1)
    }

    fn log_density(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        let y = self.centre(x, t);
        let log_total = self.sums(&y, t).log_total;
        let d = self.dim() as f64;
        let constant = t.column(&y, |t| -0.5 * d * (TAU * self.sde.sigma(t).powi(2)).ln() - (self.len() as f64).ln());
        let squares = &y.square().sum_keep(&[1]) * &t.column(&y, |t| 0.5 * self.sde.sigma(t).powi(-2));
        (&(&log_total - &squares) + &constant).reshape(&[x.dim(0)])
    }

    fn jacobian(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        let d = self.dim();
        let each = self.spread(x, t, |apart, w| (apart * w).matmul_tn(apart).reshape(&[1, d, d]));
        Tensor::concat(&each.iter().collect::<Vec<_>>(), 0)
    }

    fn divergence(&self, x: &Tensor, t: &Times, _c: &Cond) -> Tensor {
        let each = self.spread(x, t, |apart, w| (&apart.square() * w).sum_all().reshape(&[1]));
        Tensor::concat(&each.iter().collect::<Vec<_>>(), 0)
    }

    fn sample(&self, n: usize, noise: Noise, first_sample: u64) -> Tensor {
        let uniform = noise.uniform(&[n], first_sample, 0, Dtype::F64);
        let pick = |u: &f64| ((u * self.len() as f64) as usize).min(self.len() - 1);
        let rows: Vec<usize> = uniform.as_slice::<f64>().iter().map(pick).collect();
        &self.centred.gather(&rows) + &self.mean
    }
}
