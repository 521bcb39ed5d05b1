//! The optimal variance of the reverse process, estimated from a model beforehand (Bao et al. 2022, arXiv:2201.06503).
//!
//! The true reverse transition `q(x_s | x_t)` is a mixture over `x_0` of the posteriors `N(… + a x_0, β̃ I)`; the best normal
//! approximation with variance `v I` has, by the law of total variance and averaged over coordinates and states,
//!
//! ```text
//! v = β̃ + a² Γ(t)        Γ(t) = E[tr Cov(x_0 | x_t)]/D
//! ```
//!
//! By the second-order Tweedie formula `Cov(x_0 | x_t) = σ²/α ∂x̂₀/∂x_t`, and with `E[ε̂ · ε̂] = E[tr(I − …)]`, which is
//! the paper's mean squared score (theorem 1, with `ε̂ = −σ ∇ ln p`):
//!
//! ```text
//! Γ(t) = σ²/α² (1 − E‖ε̂(x_t)‖²/D)
//! ```
//!
//! It is bounded below by 0 and above by `σ²/α²` (theorem 2): estimates are clipped to that.

use fokker_sde::{Cond, Denoiser, Sde, Times, diffuse};
use fokker_tensor::{Dtype, Noise, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::SolveError;

/// A table of `Γ(t)`, made by [`calibrate`](Self::calibrate) and kept in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PosteriorVariance {
    /// Decreasing times.
    pub times: Vec<f64>,
    /// `Γ` at each of them: the mean variance of one coordinate of `x_0` given `x_t`.
    pub variances: Vec<f64>,
}

impl PosteriorVariance {
    /// Estimates `Γ` at `times` from noisy versions of the data `x_0`, `[N, ...]`, with conditions `c`; sample `i` of time
    /// number `j` has noise of sample `i`, step `j` of `noise`. One evaluation of the model per time.
    ///
    /// The paper's estimate for times between those of a table is by interpolation too, linear in the log-SNR here.
    ///
    /// # Errors
    /// If there are no data, times do not decrease, one has `α = 0` (where nothing can be estimated: leave it out), or the model's
    /// answer is not finite.
    pub fn calibrate(denoiser: &dyn Denoiser, times: &[f64], x_0: &Tensor, c: &Cond, noise: Noise) -> Result<Self, SolveError> {
        let sde = denoiser.sde();
        let mut table = Self { times: times.to_vec(), variances: Vec::with_capacity(times.len()) };
        if x_0.is_empty() {
            return Err(SolveError::Grid("data are needed to calibrate variances, found none".to_owned()));
        }
        for (step, &t) in times.iter().enumerate() {
            let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
            if alpha == 0.0 {
                let message = format!("variances cannot be calibrated at t = {t}, where sde `{}` has α = 0", sde.name());
                return Err(SolveError::Grid(message));
            }
            let epsilon = noise.normal(x_0.shape(), 0, step as u32, x_0.dtype());
            let x = diffuse(sde, &Times::Same(t), x_0, &epsilon);
            let denoised = denoiser.denoise(&x, &Times::Same(t), c).to(Dtype::F64);
            // ε̂ = (x − α x̂₀)/σ.
            let predicted = &(&x.to(Dtype::F64) - &(&denoised * alpha)) * (1.0 / sigma);
            let mean_square = predicted.square().mean_all().item();
            if !mean_square.is_finite() {
                let (step, total) = (step + 1, times.len());
                return Err(SolveError::NotFinite { step, total, t, what: "the denoiser's answer", hint: "" });
            }
            table.variances.push((sigma / alpha).powi(2) * (1.0 - mean_square).clamp(0.0, 1.0));
        }
        table.check("calibrate").map(|()| table)
    }

    /// `Γ(t)`: interpolated between the nearest times of the table, linearly in the log-SNR; beyond its ends that of the end,
    /// at most `σ²/α²`.
    pub(crate) fn at(&self, sde: &dyn Sde, t: f64) -> f64 {
        let place = |i: usize| sde.log_snr(self.times[i]);
        let log_snr = sde.log_snr(t);
        let after = self.times.partition_point(|&known| known > t);
        let value = if after == 0 {
            self.variances[0]
        } else if after == self.times.len() {
            self.variances[after - 1]
        } else {
            let part = (log_snr - place(after - 1)) / (place(after) - place(after - 1));
            self.variances[after - 1] + part * (self.variances[after] - self.variances[after - 1])
        };
        value.min((-log_snr).exp())
    }

    pub(crate) fn check(&self, kind: &'static str) -> Result<(), SolveError> {
        let bad = |field, expected| Err(SolveError::Config { what: "solver", kind, field, expected });
        if self.times.is_empty() || self.times.len() != self.variances.len() {
            let expected =
                format!("one for each time, at least one, found {} for {} times", self.variances.len(), self.times.len());
            return bad("variance.variances", expected);
        }
        if let Some(pair) = self.times.windows(2).find(|pair| pair[0].is_nan() || pair[0] <= pair[1]) {
            return bad("variance.times", format!("decreasing times, found {} before {}", pair[0], pair[1]));
        }
        if let Some(v) = self.variances.iter().find(|v| !(**v >= 0.0 && v.is_finite())) {
            return bad("variance.variances", format!("finite numbers from 0, found {v}"));
        }
        Ok(())
    }
}
