//! The [`Denoiser`] trait, conversions of its answers, and counting its runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fokker_tensor::Tensor;

use crate::cond::Cond;
use crate::quantity::{Prediction, Quantity, conversion};
use crate::sde::Sde;
use crate::times::Times;

/// What a model says about the reverse step from `t` to `s < t`: see [`Denoiser::reverse`].
#[derive(Clone, Debug)]
pub struct Reverse {
    /// `E[x_0 | x_t]`, `[B, ...]`: the answer of [`Denoiser::denoise`].
    pub denoised: Tensor,
    /// `v`, `[B, ...]` like `denoised`; `None` if the model has learned no variances.
    pub fraction: Option<Tensor>,
}

/// The answer of a model without variances.
impl From<Tensor> for Reverse {
    fn from(denoised: Tensor) -> Self {
        Self { denoised, fraction: None }
    }
}

/// A model of the data: the conditional mean of the clean sample given a noisy one.
///
/// This is all that solvers and guidance see. The score, the noise and the velocity follow from it
/// ([`predict`](Self::predict)). A model may also have learned how large the variance of a reverse step is
/// ([`reverse`](Self::reverse)); most have not, and need not mention it.
pub trait Denoiser: Send + Sync {
    /// The process whose noise it removes; times are this process's.
    fn sde(&self) -> &dyn Sde;

    /// `E[x_0 | x_t]` for `x_t` = `x`, `[B, ...]`; the result has `x`'s shape and type.
    ///
    /// `x` may be wider than the type that a network computes in: such a model converts at its own border. One call is one
    /// evaluation (NFE 1) unless the model says otherwise.
    ///
    /// # Panics
    /// If the shape is not one the model takes, or times or conditions are not as many as samples.
    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor;

    /// The answer expressed as another quantity, for example the score; `[B, ...]` like `x`. One call of
    /// [`denoise`](Self::denoise).
    fn predict(&self, quantity: Quantity, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        let denoised = self.denoise(x, t, c);
        convert(Quantity::Sample, quantity, self.sde(), t, x, &denoised)
    }

    /// Whether [`reverse`](Self::reverse) answers with a variance; default no.
    fn learns_variance(&self) -> bool {
        false
    }

    /// The denoised sample and, of a model that has learned it, the variance `Σ` of the reverse step from `t` to `s < t`: for each
    /// element the fraction `v` of the way from the smaller to the larger of the variances between which it lies, in their logarithms
    /// (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 15),
    ///
    /// ```text
    /// Σ = exp(v ln β + (1 − v) ln β̃)      β = σ²_{t|s} = σ_t² − (α_t/α_s)² σ_s²      β̃ = β σ_s²/σ_t²
    /// ```
    ///
    /// `v` is about 0 to 1, but not limited to it, as in the paper: where the data vary more than `N(0, I)` the best `v` of a
    /// variance-preserving process is above 1. The bounds are those of the step asked for, whatever steps the model was trained on.
    /// A network's `v` depends on `t` alone; a change of process ([`Under`](crate::Under)) depends on both times. One call is one
    /// evaluation, as of [`denoise`](Self::denoise), which is the default, without a variance.
    fn reverse(&self, x: &Tensor, t: &Times, _s: &Times, c: &Cond) -> Reverse {
        self.denoise(x, t, c).into()
    }
}

impl<D: Denoiser + ?Sized> Denoiser for &D {
    fn sde(&self) -> &dyn Sde {
        (**self).sde()
    }
    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        (**self).denoise(x, t, c)
    }
    fn learns_variance(&self) -> bool {
        (**self).learns_variance()
    }
    fn reverse(&self, x: &Tensor, t: &Times, s: &Times, c: &Cond) -> Reverse {
        (**self).reverse(x, t, s, c)
    }
}

impl<D: Denoiser + ?Sized> Denoiser for Box<D> {
    fn sde(&self) -> &dyn Sde {
        (**self).sde()
    }
    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        (**self).denoise(x, t, c)
    }
    fn learns_variance(&self) -> bool {
        (**self).learns_variance()
    }
    fn reverse(&self, x: &Tensor, t: &Times, s: &Times, c: &Cond) -> Reverse {
        (**self).reverse(x, t, s, c)
    }
}

impl<D: Denoiser + ?Sized> Denoiser for Arc<D> {
    fn sde(&self) -> &dyn Sde {
        (**self).sde()
    }
    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        (**self).denoise(x, t, c)
    }
    fn learns_variance(&self) -> bool {
        (**self).learns_variance()
    }
    fn reverse(&self, x: &Tensor, t: &Times, s: &Times, c: &Cond) -> Reverse {
        (**self).reverse(x, t, s, c)
    }
}

/// Turns `value`, which is `from` at `x_t` = `x`, into `to`. All tensors are `[B, ...]`; differentiable.
///
/// See [`Combination::conversion`](crate::Combination::conversion) for the factors and where they are infinite.
///
/// # Panics
/// If `x` and `value` differ in shape or type, or times are not as many as samples.
#[track_caller]
pub fn convert(from: impl Prediction, to: impl Prediction, sde: &dyn Sde, t: &Times, x: &Tensor, value: &Tensor) -> Tensor {
    assert_eq!(x.shape(), value.shape(), "convert: state of shape {:?}, value of shape {:?}", x.shape(), value.shape());
    let at = |t| conversion(&from, &to, sde, t);
    let scaled = t.scale(value, |t| at(t).value);
    if t.values().iter().all(|&t| at(t).state == 0.0) {
        return scaled;
    }
    &t.scale(x, |t| at(t).state) + &scaled
}

/// The noisy sample `x_t = α x_0 + σ ε`; all tensors `[B, ...]`.
///
/// # Panics
/// If `x_0` and `ε` differ in shape or type, or times are not as many as samples.
#[track_caller]
pub fn diffuse(sde: &dyn Sde, t: &Times, x_0: &Tensor, noise: &Tensor) -> Tensor {
    assert_eq!(x_0.shape(), noise.shape(), "diffuse: x_0 of shape {:?}, noise of shape {:?}", x_0.shape(), noise.shape());
    &t.scale(x_0, |t| sde.alpha(t)) + &t.scale(noise, |t| sde.sigma(t))
}

/// A number of evaluations, shared between whoever counts and whoever reads.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicUsize>);

impl Counter {
    /// Starts at 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number so far.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A denoiser that counts how often it is called on a batch.
///
/// Samplers count with it. A denoiser that runs a network several times for one answer (guidance, for example) is
/// counted exactly by wrapping the network inside it and handing the same [`Counter`] to the sampler.
#[derive(Clone, Debug)]
pub struct Counted<D> {
    inner: D,
    counter: Counter,
}

impl<D: Denoiser> Counted<D> {
    /// Wraps `inner`, counting in `counter`.
    pub fn new(inner: D, counter: Counter) -> Self {
        Self { inner, counter }
    }
}

impl<D: Denoiser> Denoiser for Counted<D> {
    fn sde(&self) -> &dyn Sde {
        self.inner.sde()
    }

    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        self.counter.add_one();
        self.inner.denoise(x, t, c)
    }

    fn learns_variance(&self) -> bool {
        self.inner.learns_variance()
    }

    fn reverse(&self, x: &Tensor, t: &Times, s: &Times, c: &Cond) -> Reverse {
        self.counter.add_one();
        self.inner.reverse(x, t, s, c)
    }
}
