//! The change of variables between processes: a denoiser of one, used under another.
//!
//! Two states of the same `x_0` and `ε` differ by a scale alone where their log-SNRs are equal,
//!
//! ```text
//! log_snr_A(t′) = log_snr_B(t)      x^A_t′/α_A(t′) = x_0 + (σ/α) ε = x^B_t/α_B(t)      E[x_0 | x^A_t′] = E[x_0 | x^B_t]
//! ```
//!
//! so that the denoiser of A is one of B. Since `σ/α` is equal too, `α_A/α_B = σ_A/σ_B = √(α_A² + σ_A²)/√(α_B² + σ_B²)`; the last
//! form is finite at both ends of every process.
//!
//! The variance of a reverse step, where the inner denoiser has learned one, is scaled by `(α_B/α_A)²` at its end `s`, as its lower bound
//! is: `Σ_B/β̃_B = Σ_A/β̃_A`. With `β/β̃ = σ_t²/σ_s²` under either process, its place between the bounds becomes
//!
//! ```text
//! v_B = v_A ln(σ_A(t′)/σ_A(s′))/ln(σ_B(t)/σ_B(s))
//! ```

use fokker_tensor::Tensor;

use crate::cond::Cond;
use crate::denoiser::{Denoiser, Reverse};
use crate::sde::Sde;
use crate::times::Times;

/// A denoiser seen under another process than its own: a change of the time and the scale that the freedom of `σ(t)` and `s(t)` in
/// Karras et al. 2022 (arXiv:2206.00364, section 3) rests on; the post-training scheduler change of Lipman et al. 2024
/// (arXiv:2412.06264, section 4.8).
///
/// Where the other process has more or less noise than the inner one's span, the inner denoiser is asked at the end of
/// its span, with the state scaled to the size it has there. At the far end, `α_B = 0` for example, this is what sampling from the
/// inner prior assumes in any case: that the state is as good as noise. Near the data the answer is that of a state which is
/// slightly noisier than the one given. One call of this is one call of the inner denoiser.
///
/// ```
/// use fokker_sde::{Cond, Covariance, Denoiser, Edm, Gaussian, LinearFlow, Under};
/// use fokker_tensor::Tensor;
///
/// // Trained (here: known) with EDM's noise, sampled along straight lines.
/// let edm = Gaussian::new(Edm::default(), &[0.5], &Covariance::Isotropic(2.0));
/// let flow = Under::new(&edm, LinearFlow::default());
/// let exact = Gaussian::new(LinearFlow::default(), &[0.5], &Covariance::Isotropic(2.0));
/// let (x, t) = (Tensor::from_vec(&[1, 1], vec![0.8]), 0.3.into());
/// let (found, expected) = (flow.denoise(&x, &t, &Cond::NONE).item(), exact.denoise(&x, &t, &Cond::NONE).item());
/// assert!((found - expected).abs() < 1e-14);
/// ```
#[derive(Clone, Debug)]
pub struct Under<D, S> {
    inner: D,
    sde: S,
}

impl<D: Denoiser, S: Sde> Under<D, S> {
    /// `inner` as a denoiser of `sde`.
    pub fn new(inner: D, sde: S) -> Self {
        Self { inner, sde }
    }

    /// The time of the inner process with the log-SNR of time `t`, or the nearer end of its span.
    pub fn inner_time(&self, t: f64) -> f64 {
        let (t_min, t_max) = self.inner.sde().span();
        let log_snr = self.sde.log_snr(t);
        if log_snr <= self.inner.sde().log_snr(t_max) {
            return t_max; // also for −∞, which no formula needs to invert
        }
        self.inner.sde().time_at_log_snr(log_snr).clamp(t_min, t_max)
    }

    /// The state as the inner process has it at its time.
    fn inner_state(&self, x: &Tensor, t: &Times) -> Tensor {
        let scale = |sde: &dyn Sde, t: f64| sde.alpha(t).hypot(sde.sigma(t));
        t.scale(x, |t| scale(self.inner.sde(), self.inner_time(t)) / scale(&self.sde, t))
    }

    fn inner_times(&self, t: &Times) -> Times {
        t.map(|t| self.inner_time(t))
    }
}

impl<D: Denoiser, S: Sde> Denoiser for Under<D, S> {
    fn sde(&self) -> &dyn Sde {
        &self.sde
    }

    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        self.inner.denoise(&self.inner_state(x, t), &self.inner_times(t), c)
    }

    fn learns_variance(&self) -> bool {
        self.inner.learns_variance()
    }

    fn reverse(&self, x: &Tensor, t: &Times, s: &Times, c: &Cond) -> Reverse {
        let inner = self.inner.sde();
        let Reverse { denoised, fraction } =
            self.inner.reverse(&self.inner_state(x, t), &self.inner_times(t), &self.inner_times(s), c);
        let growth = |sde: &dyn Sde, t: f64, s: f64| (sde.sigma(t) / sde.sigma(s)).ln();
        let ratios = t.zip(s, |t, s| growth(inner, self.inner_time(t), self.inner_time(s)) / growth(&self.sde, t, s));
        Reverse { denoised, fraction: fraction.map(|v| ratios.scale(&v, |ratio| ratio)) }
    }
}
