//! Data from a mixture of Gaussians.

use std::sync::Arc;

use fokker_tensor::{Dtype, Noise, Tensor};

use super::Exact;
use super::component::{Component, Covariance, back, rows, standard};
use crate::cond::Cond;
use crate::denoiser::Denoiser;
use crate::sde::Sde;
use crate::times::Times;

/// The exact denoiser of `Σ_k w_k N(μ_k, Σ_k)` under any process. States are `[B, ...]` with `D` numbers per sample.
///
/// With [`with_classes`](Self::with_classes) it is also an exact conditional model: a condition restricts it to the
/// components of that class.
///
/// ```
/// use fokker_sde::{Cond, Covariance, Denoiser, GaussianMixture, VarianceExploding};
/// use fokker_tensor::Tensor;
///
/// let narrow = Covariance::Isotropic(0.01);
/// let model = GaussianMixture::new(
///     VarianceExploding::default(),
///     &[0.5, 0.5],
///     &[vec![-1.0], vec![1.0]],
///     &[narrow.clone(), narrow],
/// );
/// let x = Tensor::from_vec(&[2, 1], vec![0.0, 30.0]);
/// let denoised = model.denoise(&x, &0.9.into(), &Cond::NONE).to_vec::<f64>();
/// assert!(denoised[0].abs() < 1e-12); // undecided between the two
/// assert!(denoised[1] > 0.01); // leans to the right
/// ```
#[derive(Clone, Debug)]
pub struct GaussianMixture {
    sde: Arc<dyn Sde>,
    weights: Vec<f64>,
    components: Vec<Component>,
    /// The class of each component.
    classes: Option<Vec<u32>>,
}

/// The logarithm of a probability that is zero, finite so that no derivative of it is NaN.
const NEVER: f64 = -1e300;

impl GaussianMixture {
    /// Components with these weights (normalised here), means and covariances.
    ///
    /// # Panics
    /// If the lists differ in length or are empty, the means in dimension, a weight is not positive, or a covariance is not
    /// one.
    #[track_caller]
    pub fn new(sde: impl Sde + 'static, weights: &[f64], means: &[Vec<f64>], covariances: &[Covariance]) -> Self {
        assert!(!weights.is_empty(), "a mixture needs at least one component");
        assert!(
            weights.len() == means.len() && weights.len() == covariances.len(),
            "a mixture of {} weights, {} means and {} covariances",
            weights.len(),
            means.len(),
            covariances.len()
        );
        assert!(weights.iter().all(|w| *w > 0.0 && w.is_finite()), "weights are positive, found {weights:?}");
        let total: f64 = weights.iter().sum();
        let components: Vec<_> = means.iter().zip(covariances).map(|(m, c)| Component::new(m, c)).collect();
        let d = components[0].dim();
        for component in &components {
            assert_eq!(component.dim(), d, "means of {d} and {} dimensions in one mixture", component.dim());
        }
        Self { sde: Arc::new(sde), weights: weights.iter().map(|w| w / total).collect(), components, classes: None }
    }

    /// The same mixture with component `k` belonging to class `classes[k]`. The null class is one more than the largest.
    ///
    /// # Panics
    /// If there is not one class per component, or a class below the largest has no component.
    #[track_caller]
    pub fn with_classes(mut self, classes: Vec<u32>) -> Self {
        assert_eq!(classes.len(), self.components.len(), "{} classes, {} components", classes.len(), self.components.len());
        let largest = *classes.iter().max().expect("a mixture is not empty");
        for class in 0..=largest {
            assert!(classes.contains(&class), "class {class} has no component, but class {largest} has");
        }
        self.classes = Some(classes);
        self
    }

    /// The number of dimensions `D`.
    pub fn dim(&self) -> usize {
        self.components[0].dim()
    }

    /// The weights, which sum to 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The mean of the data, `D` numbers.
    pub fn mean(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.dim()];
        for (w, component) in self.weights.iter().zip(&self.components) {
            for (total, m) in mean.iter_mut().zip(component.mean()) {
                *total += w * m;
            }
        }
        mean
    }

    /// The covariance of the data, row-major `[D, D]`.
    pub fn covariance(&self) -> Vec<f64> {
        let d = self.dim();
        let mean = self.mean();
        let mut total = vec![0.0; d * d];
        for (w, component) in self.weights.iter().zip(&self.components) {
            let own = component.covariance();
            let apart: Vec<f64> = component.mean().iter().zip(&mean).map(|(m, total)| m - total).collect();
            for (i, total) in total.iter_mut().enumerate() {
                *total += w * (own[i] + apart[i / d] * apart[i % d]);
            }
        }
        total
    }

    /// `∇ ln p_t(x_t)`, shape and type of `x` `[B, ...]`.
    #[track_caller]
    pub fn score(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        self.weighted(x, t, c, |component, z| component.score(&*self.sde, t, z))
    }

    /// `ln p_t(x_t)` in nats, `[B]`, in `f64`; given the class where there is a condition.
    #[track_caller]
    pub fn log_density(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        t.assert_batch(x);
        let coordinates = self.coordinates(&rows(x, self.dim()), t);
        self.joint(x.dim(0), t, c, &coordinates).logsumexp_keep(1).reshape(&[x.dim(0)])
    }

    /// `n` clean samples, `[n, D]` in `f64`; sample `i` has index `first_sample + i` in `noise`.
    pub fn sample(&self, n: usize, noise: Noise, first_sample: u64) -> Tensor {
        let d = self.dim();
        let normal = standard(noise, n, d, first_sample);
        let choice = noise.uniform(&[n], first_sample, 1, Dtype::F64);
        let each: Vec<Tensor> = self.components.iter().map(|c| c.colour(&normal)).collect();
        let mut out = Vec::with_capacity(n * d);
        for (i, &u) in choice.as_slice::<f64>().iter().enumerate() {
            let mut below = 0.0;
            let k = self.weights.iter().position(|w| {
                below += w;
                u < below
            });
            let k = k.unwrap_or(self.weights.len() - 1);
            out.extend_from_slice(&each[k].as_slice::<f64>()[i * d..(i + 1) * d]);
        }
        Tensor::from_vec(&[n, d], out)
    }

    fn coordinates(&self, x: &Tensor, t: &Times) -> Vec<Tensor> {
        self.components.iter().map(|component| component.coordinates(&*self.sde, t, x)).collect()
    }

    /// `ln w_k + ln N_k(x)` of every component, `[B, K]`.
    #[track_caller]
    fn joint(&self, batch: usize, t: &Times, c: &Cond, coordinates: &[Tensor]) -> Tensor {
        let columns: Vec<Tensor> =
            self.components.iter().zip(coordinates).map(|(component, z)| component.log_density(&*self.sde, t, z)).collect();
        let log_density = Tensor::concat(&columns.iter().collect::<Vec<_>>(), 1);
        let k = self.weights.len();
        &log_density + &Tensor::from_vec(&[batch, k], self.log_weights(batch, c))
    }

    /// The logarithms of the weights for each sample given its class, `[B, K]`.
    #[track_caller]
    fn log_weights(&self, batch: usize, c: &Cond) -> Vec<f64> {
        let unconditional = || self.weights.iter().map(|w| w.ln());
        let Some(labels) = &c.class else {
            return (0..batch).flat_map(|_| unconditional()).collect();
        };
        assert_eq!(labels.len(), batch, "{} labels for a batch of {batch}", labels.len());
        let classes = self.classes.as_ref().expect("the mixture was given labels but has no classes");
        let null = classes.iter().max().expect("a mixture is not empty") + 1;
        let mut out = Vec::with_capacity(batch * self.weights.len());
        for &label in labels {
            assert!(label <= null, "label {label} of a mixture with classes below {null}, the null class");
            if label == null {
                out.extend(unconditional());
                continue;
            }
            let total: f64 = self.weights.iter().zip(classes).filter(|(_, class)| **class == label).map(|(w, _)| w).sum();
            out.extend(self.weights.iter().zip(classes).map(|(w, class)| if *class == label { (w / total).ln() } else { NEVER }));
        }
        out
    }

    /// The posterior probabilities `r_k(x)` of the components, `[B, K]`, and the coordinates of `x` in each.
    #[track_caller]
    fn responsibilities(&self, x: &Tensor, t: &Times, c: &Cond) -> (Tensor, Vec<Tensor>) {
        t.assert_batch(x);
        let coordinates = self.coordinates(&rows(x, self.dim()), t);
        let joint = self.joint(x.dim(0), t, c, &coordinates);
        ((&joint - &joint.logsumexp_keep(1)).exp(), coordinates)
    }

    /// `Σ_k r_k f(k)` for `f(k)` of shape `[B, ...]` or `[1, ...]`.
    fn average(&self, responsibilities: &Tensor, f: impl Fn(usize) -> Tensor) -> Tensor {
        let batch = responsibilities.dim(0);
        let term = |k: usize| {
            let f = f(k);
            let mut shape = vec![1; f.rank()];
            shape[0] = batch;
            &f * &responsibilities.slice(1, k..k + 1).reshape(&shape)
        };
        (1..self.components.len()).fold(term(0), |total, k| &total + &term(k))
    }

    /// `Σ_k r_k(x) f_k(x)`, `[B, D]` by rows.
    #[track_caller]
    fn weighted(&self, x: &Tensor, t: &Times, c: &Cond, each: impl Fn(&Component, &Tensor) -> Tensor) -> Tensor {
        let (r, coordinates) = self.responsibilities(x, t, c);
        back(&self.average(&r, |k| each(&self.components[k], &coordinates[k])), x)
    }

    /// The vectors `f_k(x)` of each component, less their average: `[B, D]` by rows; and the probabilities they are averaged
    /// with. Not recorded.
    #[track_caller]
    fn apart(&self, x: &Tensor, t: &Times, c: &Cond, each: impl Fn(&Component, &Tensor) -> Tensor) -> (Vec<Tensor>, Tensor) {
        let (r, coordinates) = self.responsibilities(&x.detach(), t, c);
        let all: Vec<Tensor> = self.components.iter().zip(&coordinates).map(|(component, z)| each(component, z)).collect();
        let mean = self.average(&r, |k| all[k].clone());
        (all.iter().map(|own| own - &mean).collect(), r)
    }
}

impl Denoiser for GaussianMixture {
    fn sde(&self) -> &dyn Sde {
        &*self.sde
    }

    /// # Panics
    /// Also if there are labels but the mixture has no classes.
    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        self.weighted(x, t, c, |component, z| component.denoised(&*self.sde, t, z))
    }
}

/// The covariance of what a mixture averages over is that within its components and that between them.
impl Exact for GaussianMixture {
    fn dim(&self) -> usize {
        GaussianMixture::dim(self)
    }

    fn log_density(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        GaussianMixture::log_density(self, x, t, c)
    }

    fn score(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        GaussianMixture::score(self, x, t, c)
    }

    fn jacobian(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        let (apart, r) = self.apart(x, t, c, |component, z| component.denoised(&*self.sde, t, z));
        let (batch, d) = (x.dim(0), self.dim());
        let gain = t.column(&apart[0].reshape(&[batch, d, 1]), |t| self.sde.alpha(t) / self.sde.sigma(t).powi(2));
        self.average(&r, |k| {
            let between = &apart[k].reshape(&[batch, d, 1]) * &apart[k].reshape(&[batch, 1, d]);
            &(&between * &gain) + &self.components[k].jacobian(&*self.sde, t).0
        })
    }

    fn divergence(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        let (apart, r) = self.apart(x, t, c, |component, z| component.denoised(&*self.sde, t, z));
        let gain = t.column(&apart[0], |t| self.sde.alpha(t) / self.sde.sigma(t).powi(2));
        let trace = |k: usize| &(&apart[k].square().sum_keep(&[1]) * &gain) + &self.components[k].jacobian(&*self.sde, t).1;
        self.average(&r, trace).reshape(&[x.dim(0)])
    }

    fn score_divergence(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        let (apart, r) = self.apart(x, t, c, |component, z| component.score(&*self.sde, t, z));
        let trace = |k: usize| &apart[k].square().sum_keep(&[1]) + &self.components[k].score_divergence(&*self.sde, t);
        self.average(&r, trace).reshape(&[x.dim(0)])
    }

    fn sample(&self, n: usize, noise: Noise, first_sample: u64) -> Tensor {
        GaussianMixture::sample(self, n, noise, first_sample)
    }
}
