//! The [`Sde`] trait: a forward noising process as scalar functions of time.

use std::fmt::Debug;

use crate::error::SdeError;
use crate::sdes::Discrete;

/// A forward process with Gaussian kernel `x_t = α(t) x_0 + σ(t) ε`, `ε ~ N(0, I)`.
///
/// Time runs from data (`t` near 0) to noise (the end of [`span`](Self::span)). Everything is a scalar
/// function in `f64`; an `Sde` never sees a tensor. Four functions define it, with their analytic derivatives:
/// [`alpha`](Self::alpha), [`sigma`](Self::sigma), [`d_alpha`](Self::d_alpha), [`d_sigma`](Self::d_sigma).
/// The rest follows from them (Song et al. 2021, arXiv:2011.13456, eq. 5; Kingma et al. 2021,
/// arXiv:2107.00630, eq. 1–3 and appendix A):
///
/// ```text
/// dx = f(t) x dt + g(t) dw      f = α̇/α      g² = 2σσ̇ − 2fσ²      log_snr = ln(α²/σ²)
/// ```
///
/// The log-SNR must fall strictly with time. Implementations override a derived quantity where a closed form
/// is more accurate near the ends of the span.
pub trait Sde: Send + Sync + Debug {
    /// `(t_min, t_max)` with `0 < t_min < t_max`: the interval a model is trained on and may be asked about.
    fn span(&self) -> (f64, f64);

    /// Scale of the data in `x_t`.
    fn alpha(&self, t: f64) -> f64;

    /// Standard deviation of the noise in `x_t`.
    fn sigma(&self, t: f64) -> f64;

    /// `α̇ = dα/dt`.
    fn d_alpha(&self, t: f64) -> f64;

    /// `σ̇ = dσ/dt`.
    fn d_sigma(&self, t: f64) -> f64;

    /// The tag of the process in configuration files, for example `vp`.
    fn name(&self) -> &'static str;

    /// The ladder of discrete steps this process goes through; `None` if it is continuous.
    ///
    /// Where there is one, derivatives jump at its times, and a model may know no other times than these.
    fn ladder(&self) -> Option<&Discrete> {
        None
    }

    /// `ln(α²/σ²)`, strictly decreasing in `t`; `−∞` where `α = 0`.
    fn log_snr(&self, t: f64) -> f64 {
        2.0 * (self.alpha(t).ln() - self.sigma(t).ln())
    }

    /// The time at which [`log_snr`](Self::log_snr) is `log_snr`, to `1e-10`.
    ///
    /// The closed forms hold for every log-SNR the formula can produce, inside the span or not. This default
    /// solves by bisection on the span and answers with the nearer end outside of it.
    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        let (mut low, mut high) = self.span();
        // 200 halvings exhaust the resolution of f64 on any interval; the loop ends when the middle is an end.
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            if middle <= low || middle >= high {
                break;
            }
            if self.log_snr(middle) > log_snr {
                low = middle;
            } else {
                high = middle;
            }
        }
        0.5 * (low + high)
    }

    /// The linear drift coefficient `f = α̇/α` of `dx = f x dt + g dw`; infinite where `α = 0`.
    fn drift(&self, t: f64) -> f64 {
        self.d_alpha(t) / self.alpha(t)
    }

    /// `g² = 2σσ̇ − 2fσ²`, the squared diffusion coefficient; infinite where `α = 0`.
    fn diffusion_squared(&self, t: f64) -> f64 {
        let sigma = self.sigma(t);
        2.0 * sigma * (self.d_sigma(t) - self.drift(t) * sigma)
    }

    /// Standard deviation of the prior `N(0, σ(t_max)² I)` that sampling starts from.
    fn prior_std(&self) -> f64 {
        self.sigma(self.span().1)
    }

    /// Whether the numbers of a configuration make sense.
    ///
    /// # Errors
    /// Names the field that does not and says what it must be. Call it on anything read from a file.
    fn check(&self) -> Result<(), SdeError> {
        let (t_min, t_max) = self.span();
        if !(t_min.is_finite() && t_max.is_finite() && 0.0 < t_min && t_min < t_max) {
            return Err(SdeError::new(
                self.name(),
                "t_min, t_max",
                format!("0 < t_min < t_max, found t_min = {t_min} and t_max = {t_max}"),
            ));
        }
        Ok(())
    }
}
