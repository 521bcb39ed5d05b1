//! A ladder of `T` discrete steps as a process in continuous time, variance preserving. Step `i` (from 0) is at time
//! `t_i = (i + 1)/T`, data are at 0, and `log α` is linear between the steps:
//!
//! ```text
//! ᾱ_i = Π_{j ≤ i} (1 − β_j)      α(t_i) = √ᾱ_i      B(t) = −2 ln α(t)      σ² = 1 − e^−B      log_snr = −ln(e^B − 1)
//! ```
//!
//! so that `B` grows at the constant rate `−T ln(1 − β_i)` on the segment `(t_{i−1}, t_i]`, with `t_{−1} = 0` and `B(0) = 0`.
//! `α`, `σ` and the log-SNR are the ladder's at every step, exactly, and their inverse is too; derivatives are those of the
//! segment, from the left at a step, where they jump.
//!
//! A ladder with zero terminal SNR ends in `α = 0`, where no `log α` is; on its last segment `α` itself is linear:
//! `α(t) = α(t_{T−2}) T (1 − t)`.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ladder::Ladder;
use crate::error::SdeError;
use crate::sde::Sde;

/// DDPM's forward process (Ho et al. 2020, arXiv:2006.11239, eq. 2–4) between its steps too, interpolated as in DPM-Solver (Lu
/// et al. 2022, arXiv:2206.00927, appendix D). Configured by a [`Ladder`].
///
/// The span is `[1/T, 1]`: from the first step to the last.
///
/// ```
/// use fokker_sde::{Betas, Discrete, Ladder, Sde};
///
/// let ddpm = Discrete::new(Ladder::default()).unwrap();
/// assert_eq!((ddpm.steps(), ddpm.span()), (1000, (0.001, 1.0)));
/// assert!((ddpm.beta(999) - 0.02).abs() < 1e-15);
/// // What a network of diffusers calls step 500 is time 0.501 here, and the way back.
/// assert_eq!(ddpm.time_of_step(500), 0.501);
/// assert_eq!(ddpm.nearest_step(0.5012), 500);
/// assert!((ddpm.alpha(0.501).powi(2) - ddpm.alpha_bar(500)).abs() < 1e-15);
///
/// let arbitrary = Ladder { steps: 3, betas: Betas::Array { values: vec![0.1, 0.2, 0.3] }, ..Ladder::default() };
/// assert!((Discrete::new(arbitrary).unwrap().alpha_bar(2) - 0.9 * 0.8 * 0.7).abs() < 1e-15);
/// ```
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Ladder", into = "Ladder")]
pub struct Discrete {
    ladder: Ladder,
    /// `B` at `t = 0` and at the end of each step, `T + 1` numbers; the last is infinite with zero terminal SNR.
    integral: Arc<[f64]>,
}

impl Default for Discrete {
    /// DDPM's ladder: 1000 steps, linear from 1e-4 to 0.02.
    fn default() -> Self {
        Self::new(Ladder::default()).expect("the default ladder is one")
    }
}

/// Shows what it was made from, not the thousand numbers that follow.
impl fmt::Debug for Discrete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Discrete").field(&self.ladder).finish()
    }
}

impl TryFrom<Ladder> for Discrete {
    type Error = SdeError;

    fn try_from(ladder: Ladder) -> Result<Self, SdeError> {
        Self::new(ladder)
    }
}

impl From<Discrete> for Ladder {
    fn from(discrete: Discrete) -> Self {
        discrete.ladder
    }
}

impl Discrete {
    /// The process of a ladder.
    ///
    /// # Errors
    /// Names the field of the ladder that makes no sense and says what it must be.
    pub fn new(ladder: Ladder) -> Result<Self, SdeError> {
        let log_alphas = ladder.log_alphas()?;
        let integral = std::iter::once(0.0).chain(log_alphas.iter().map(|log_alpha| -2.0 * log_alpha)).collect();
        Ok(Self { ladder, integral })
    }

    /// What it was made from.
    pub fn ladder(&self) -> &Ladder {
        &self.ladder
    }

    /// The number of steps `T`.
    pub fn steps(&self) -> usize {
        self.integral.len() - 1
    }

    /// The time `(i + 1)/T` of step `i`, counted from 0.
    ///
    /// # Panics
    /// If there is no such step.
    #[track_caller]
    pub fn time_of_step(&self, i: usize) -> f64 {
        assert!(i < self.steps(), "step {i} of a ladder of {} steps, counted from 0", self.steps());
        (i + 1) as f64 / self.steps() as f64
    }

    /// The times of all steps, increasing: `T` numbers from `1/T` to 1.
    pub fn times(&self) -> Vec<f64> {
        (0..self.steps()).map(|i| self.time_of_step(i)).collect()
    }

    /// The step nearest in time, the later one of two equally near; the first or the last outside of the span.
    pub fn nearest_step(&self, t: f64) -> usize {
        // A float outside of the range of usize is clamped by the conversion.
        ((self.step_at(t) + 0.5).floor().max(0.0) as usize).min(self.steps() - 1)
    }

    /// The step nearest in the noise level `σ/α` to `noise_level`, the earlier one of two equally near: `argmin_i |σ_i/α_i −
    /// noise_level|`.
    pub fn nearest_step_in_noise(&self, noise_level: f64) -> usize {
        let integral = (noise_level * noise_level).ln_1p();
        let above = self.integral[1..].partition_point(|end| *end < integral);
        if above == 0 || self.integral[1..].get(above) == Some(&integral) {
            return above;
        }
        if above == self.steps() {
            return above - 1;
        }
        let (below, gap) = (noise_level - self.noise_level(above - 1), self.noise_level(above) - noise_level);
        if gap < below { above } else { above - 1 }
    }

    /// The step at time `t` as a real number, `T t − 1`: 0 at the first step, `T − 1` at the last, −1 at the data. This is the
    /// time that networks trained on a ladder know.
    pub fn step_at(&self, t: f64) -> f64 {
        self.steps() as f64 * t - 1.0
    }

    /// `β_i`.
    ///
    /// # Panics
    /// If there is no such step.
    #[track_caller]
    pub fn beta(&self, i: usize) -> f64 {
        assert!(i < self.steps(), "step {i} of a ladder of {} steps, counted from 0", self.steps());
        -(self.integral[i] - self.integral[i + 1]).exp_m1()
    }

    /// `ᾱ_i = α(t_i)²`.
    ///
    /// # Panics
    /// If there is no such step.
    #[track_caller]
    pub fn alpha_bar(&self, i: usize) -> f64 {
        assert!(i < self.steps(), "step {i} of a ladder of {} steps, counted from 0", self.steps());
        (-self.integral[i + 1]).exp()
    }

    /// The noise level `σ/α = √(1/ᾱ_i − 1)` of step `i`; infinite at the end of a ladder with zero terminal SNR.
    ///
    /// # Panics
    /// If there is no such step.
    #[track_caller]
    pub fn noise_level(&self, i: usize) -> f64 {
        assert!(i < self.steps(), "step {i} of a ladder of {} steps, counted from 0", self.steps());
        self.integral[i + 1].exp_m1().sqrt()
    }

    /// The segment `(t_{i−1}, t_i]` that `t` is in; the first or the last outside of `(0, 1]`.
    fn segment(&self, t: f64) -> usize {
        // Times of steps are quotients by T, so multiplying by T may miss a step by rounding.
        let steps = self.steps();
        let guess = ((steps as f64 * t).ceil().max(1.0) as usize).min(steps) - 1;
        if guess > 0 && t <= guess as f64 / steps as f64 {
            guess - 1
        } else if guess + 1 < steps && t > (guess + 1) as f64 / steps as f64 {
            guess + 1
        } else {
            guess
        }
    }

    /// Whether `α`, not `log α`, is linear on segment `i`.
    fn ends_at_zero(&self, i: usize) -> bool {
        self.integral[i + 1] == f64::INFINITY
    }

    /// `dB/dt` on segment `i`.
    fn rate(&self, i: usize) -> f64 {
        self.steps() as f64 * (self.integral[i + 1] - self.integral[i])
    }

    /// The slope `−α̇` on the last segment of a ladder with zero terminal SNR.
    fn final_slope(&self) -> f64 {
        let steps = self.steps();
        (-0.5 * self.integral[steps - 1]).exp() * steps as f64
    }

    /// `B(t)` by its distance from the nearer end of the segment, so that it is the ladder's at both.
    fn integral(&self, t: f64) -> f64 {
        let i = self.segment(t);
        if self.ends_at_zero(i) {
            return -2.0 * (self.final_slope() * (1.0 - t)).ln();
        }
        let steps = self.steps() as f64;
        let (from_start, from_end) = (t - i as f64 / steps, (i + 1) as f64 / steps - t);
        if from_start < from_end {
            self.integral[i] + self.rate(i) * from_start
        } else {
            self.integral[i + 1] - self.rate(i) * from_end
        }
    }
}

impl Sde for Discrete {
    fn span(&self) -> (f64, f64) {
        (1.0 / self.steps() as f64, 1.0)
    }

    fn alpha(&self, t: f64) -> f64 {
        (-0.5 * self.integral(t)).exp()
    }

    fn sigma(&self, t: f64) -> f64 {
        (-(-self.integral(t)).exp_m1()).sqrt()
    }

    fn d_alpha(&self, t: f64) -> f64 {
        let i = self.segment(t);
        if self.ends_at_zero(i) { -self.final_slope() } else { -0.5 * self.rate(i) * self.alpha(t) }
    }

    fn d_sigma(&self, t: f64) -> f64 {
        // σ² = 1 − α² gives σ σ̇ = −α α̇.
        -self.alpha(t) * self.d_alpha(t) / self.sigma(t)
    }

    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn ladder(&self) -> Option<&Discrete> {
        Some(self)
    }

    fn log_snr(&self, t: f64) -> f64 {
        let integral = self.integral(t);
        -integral - (-(-integral).exp_m1()).ln()
    }

    fn time_at_log_snr(&self, log_snr: f64) -> f64 {
        // B = ln(1 + e^−λ), without overflow for very negative λ.
        let integral = (-log_snr).max(0.0) + (-log_snr.abs()).exp().ln_1p();
        // The first segment that ends at B or beyond; the last goes on for ever.
        let i = (self.integral.partition_point(|end| *end < integral).max(1) - 1).min(self.steps() - 1);
        if self.ends_at_zero(i) {
            return 1.0 - (-0.5 * integral).exp() / self.final_slope();
        }
        let steps = self.steps() as f64;
        let (from_start, from_end) = (integral - self.integral[i], self.integral[i + 1] - integral);
        if from_start < from_end {
            i as f64 / steps + from_start / self.rate(i)
        } else {
            (i + 1) as f64 / steps - from_end / self.rate(i)
        }
    }

    fn drift(&self, t: f64) -> f64 {
        let i = self.segment(t);
        if self.ends_at_zero(i) { -1.0 / (1.0 - t) } else { -0.5 * self.rate(i) }
    }

    fn diffusion_squared(&self, t: f64) -> f64 {
        // Variance preserving: g² = −2f.
        -2.0 * self.drift(t)
    }
}
