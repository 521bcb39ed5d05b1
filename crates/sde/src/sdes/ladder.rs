//! Discrete ladders of noise: the numbers `β_0 … β_{T−1}` of the forward process
//!
//! ```text
//! q(x_i | x_{i−1}) = N(√(1 − β_i) x_{i−1}, β_i I)      ᾱ_i = Π_{j ≤ i} (1 − β_j)
//! ```
//!
//! and iDDPM's noise levels as Karras et al. walk them.

use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

use crate::error::SdeError;

/// The configuration of a [`Discrete`](super::Discrete) process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ladder {
    /// The number of steps `T`, default 1000.
    pub steps: usize,
    /// Whether to shift and scale `√ᾱ` so that the last step is pure noise, default not: Lin et al. 2024 (arXiv:2305.08891),
    /// algorithm 1. The first step keeps its noise.
    pub zero_terminal_snr: bool,
    /// The numbers `β_i`, default linear.
    pub betas: Betas,
}

impl Default for Ladder {
    fn default() -> Self {
        Self { steps: 1000, zero_terminal_snr: false, betas: Betas::default() }
    }
}

/// The numbers `β_i` of a ladder, `u = i/(T − 1)` running from 0 to 1: `{ kind = "linear" }` and so on in configuration files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Betas {
    /// `β = first + u (last − first)`: Ho et al. 2020 (arXiv:2006.11239), section 4.
    Linear {
        /// `β_0`, default 1e-4.
        #[serde(default = "linear_first")]
        first: f64,
        /// `β_{T−1}`, default 0.02.
        #[serde(default = "linear_last")]
        last: f64,
    },
    /// `√β` linear, so that `β` is quadratic in `u`: latent diffusion (Rombach et al. 2022, arXiv:2112.10752).
    ScaledLinear {
        /// `β_0`, default 0.00085.
        #[serde(default = "scaled_first")]
        first: f64,
        /// `β_{T−1}`, default 0.012.
        #[serde(default = "scaled_last")]
        last: f64,
    },
    /// `β = first + S(12u − 6) (last − first)` with the logistic function `S`: GeoDiff (Xu et al. 2022, arXiv:2203.02923).
    Sigmoid {
        /// `β` before the rise, default 1e-4.
        #[serde(default = "linear_first")]
        first: f64,
        /// `β` after the rise, default 0.02.
        #[serde(default = "linear_last")]
        last: f64,
    },
    /// `ᾱ = cos²(π/2 (v + s)/(1 + s))` over its value at 0, at `v = (i + 1)/T`: Nichol & Dhariwal 2021 (arXiv:2102.09672),
    /// eq. 17. Known as `squaredcos_cap_v2`.
    Cosine {
        /// Offset that keeps the noise from being too small near the data, default 0.008.
        #[serde(default = "cosine_offset")]
        s: f64,
        /// No `β` is larger than this, default 0.999.
        #[serde(default = "largest_beta")]
        beta_max: f64,
    },
    /// A Laplace distribution of the log-SNR over the steps, `λ = μ − b sgn(½ − v) ln(1 − 2|v − ½|)` at `v = (i + 1)/T`: Hang et
    /// al. 2024 (arXiv:2407.03297), table 1.
    Laplace {
        /// Location `μ` of the log-SNR `ln(ᾱ/(1 − ᾱ))`, default 0.
        #[serde(default)]
        mu: f64,
        /// Scale `b`, default 0.5; above 0.
        #[serde(default = "laplace_scale")]
        b: f64,
        /// No `β` is larger than this, default 0.999.
        #[serde(default = "largest_beta")]
        beta_max: f64,
    },
    /// These numbers, one for each step.
    Array {
        /// `β_0 … β_{T−1}`.
        values: Vec<f64>,
    },
}

fn linear_first() -> f64 {
    1e-4
}

fn linear_last() -> f64 {
    0.02
}

fn scaled_first() -> f64 {
    0.00085
}

fn scaled_last() -> f64 {
    0.012
}

fn cosine_offset() -> f64 {
    0.008
}

fn laplace_scale() -> f64 {
    0.5
}

fn largest_beta() -> f64 {
    0.999
}

impl Default for Betas {
    /// DDPM's: linear from 1e-4 to 0.02.
    fn default() -> Self {
        Self::Linear { first: linear_first(), last: linear_last() }
    }
}

impl Betas {
    /// Every kind that needs no numbers, with its defaults.
    pub fn all() -> Vec<Self> {
        vec![
            Self::default(),
            Self::ScaledLinear { first: scaled_first(), last: scaled_last() },
            Self::Sigmoid { first: linear_first(), last: linear_last() },
            Self::Cosine { s: cosine_offset(), beta_max: largest_beta() },
            Self::Laplace { mu: 0.0, b: laplace_scale(), beta_max: largest_beta() },
        ]
    }

    /// `β_i` of a ladder of `steps` steps.
    fn values(&self, steps: usize) -> Vec<f64> {
        // `u` of a single step is 0.
        let over = |f: &dyn Fn(f64) -> f64| -> Vec<f64> { (0..steps).map(|i| f(i as f64 / (steps - 1).max(1) as f64)).collect() };
        match *self {
            Self::Linear { first, last } => over(&|u| first + u * (last - first)),
            Self::ScaledLinear { first, last } => over(&|u| (first.sqrt() + u * (last.sqrt() - first.sqrt())).powi(2)),
            Self::Sigmoid { first, last } => over(&|u| first + (last - first) / (1.0 + (6.0 - 12.0 * u).exp())),
            Self::Cosine { s, beta_max } => {
                // cos as a sine of the distance to v = 1, exact where it vanishes.
                from_alpha_bars(steps, beta_max, |v| (FRAC_PI_2 * (1.0 - v) / (1.0 + s)).sin().powi(2))
            }
            Self::Laplace { mu, b, beta_max } => from_alpha_bars(steps, beta_max, |v| {
                let toward_end = if v < 0.5 { 2.0 * v } else { 2.0 * (1.0 - v) };
                let log_snr = mu - b * (0.5 - v).signum() * toward_end.ln();
                1.0 / (1.0 + (-log_snr).exp())
            }),
            Self::Array { ref values } => values.clone(),
        }
    }

    fn check(&self, steps: usize) -> Result<(), SdeError> {
        let refuse = |field: &'static str, expected: String| Err(SdeError::new(super::Discrete::KIND, field, expected));
        match self {
            &(Self::Linear { first, last } | Self::ScaledLinear { first, last } | Self::Sigmoid { first, last })
                if !(0.0 < first && first <= last && last < 1.0) =>
            {
                refuse("betas.first, betas.last", format!("0 < first ≤ last < 1, found {first} and {last}"))
            }
            &Self::Cosine { s, .. } if !(s >= 0.0 && s.is_finite()) => {
                refuse("betas.s", format!("a number of at least 0, found {s}"))
            }
            &Self::Laplace { mu, b, .. } if !(mu.is_finite() && b > 0.0 && b.is_finite()) => {
                refuse("betas.mu, betas.b", format!("a finite mu and a positive b, found {mu} and {b}"))
            }
            &(Self::Cosine { beta_max, .. } | Self::Laplace { beta_max, .. }) if !(0.0 < beta_max && beta_max < 1.0) => {
                refuse("betas.beta_max", format!("a number between 0 and 1, found {beta_max}"))
            }
            Self::Array { values } if values.len() != steps => {
                refuse("betas.values", format!("as many numbers as steps, found {} for {steps}", values.len()))
            }
            _ => Ok(()),
        }
    }
}

/// `β_i = min(1 − ᾱ((i + 1)/T)/ᾱ(i/T), β_max)`.
fn from_alpha_bars(steps: usize, beta_max: f64, alpha_bar: impl Fn(f64) -> f64) -> Vec<f64> {
    let at = |i: usize| alpha_bar(i as f64 / steps as f64);
    (0..steps).map(|i| (1.0 - at(i + 1) / at(i)).min(beta_max)).collect()
}

impl Ladder {
    /// `ln α(t_i) = ½ ln ᾱ_i` of every step, decreasing; `−∞` at the end with zero terminal SNR.
    pub(super) fn log_alphas(&self) -> Result<Vec<f64>, SdeError> {
        let refuse = |field: &'static str, expected: String| Err(SdeError::new(super::Discrete::KIND, field, expected));
        if self.steps < 2 {
            return refuse("steps", format!("at least 2, found {}", self.steps));
        }
        self.betas.check(self.steps)?;
        let betas = self.betas.values(self.steps);
        if let Some((i, beta)) = betas.iter().enumerate().find(|(_, beta)| !(0.0 < **beta && **beta < 1.0)) {
            return refuse("betas", format!("numbers between 0 and 1, found {beta} at step {i}"));
        }
        let mut total = 0.0;
        let log_alphas: Vec<f64> = betas
            .iter()
            .map(|beta| {
                total += 0.5 * (-beta).ln_1p();
                total
            })
            .collect();
        Ok(if self.zero_terminal_snr { rescaled(&log_alphas) } else { log_alphas })
    }
}

/// Lin et al. 2024, algorithm 1: `α_i ← (α_i − α_{T−1}) α_0/(α_0 − α_{T−1})`, on logarithms.
fn rescaled(log_alphas: &[f64]) -> Vec<f64> {
    let (first, last) = (log_alphas[0], log_alphas[log_alphas.len() - 1]);
    // ln(α_i − α_{T−1}) = ln α_i + ln(1 − α_{T−1}/α_i), −∞ for the last.
    let above = |log_alpha: f64| log_alpha + (-(last - log_alpha).exp_m1()).ln();
    log_alphas.iter().map(|&log_alpha| first + above(log_alpha) - above(first)).collect()
}

/// The noise levels of iDDPM as Karras et al. 2022 (arXiv:2206.00364), table 1, column iDDPM, walk them:
///
/// ```text
/// u_M = 0      u_{j−1} = √((u_j² + 1)/max(ᾱ_{j−1}/ᾱ_j, C₁) − 1)      ᾱ_j = sin²(π/2 · j/(M (C₂ + 1)))
/// σ_i = u_⌊j₀ + (M − 1 − j₀)/(N − 1) i + ½⌋      i = 0 … N − 1
/// ```
///
/// `u_{M−1−i}` is `σ/α` of step `i` of the ladder [`Betas::Cosine`] with `s = C₂` and `β_max = 1 − C₁`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IddpmLevels {
    /// The number of levels `M`, default 1000.
    pub m: usize,
    /// `C₁`, default 0.001.
    pub c_1: f64,
    /// `C₂`, default 0.008.
    pub c_2: f64,
    /// The first level used, `j₀`, default 8.
    pub j_0: usize,
}

impl Default for IddpmLevels {
    fn default() -> Self {
        Self { m: 1000, c_1: 0.001, c_2: 0.008, j_0: 8 }
    }
}

impl IddpmLevels {
    /// `u_0 … u_M`, decreasing: `M + 1` noise levels, the last of which is 0.
    ///
    /// # Panics
    /// If `M` is 0, `C₁` is not between 0 and 1, or `C₂` is negative.
    #[track_caller]
    pub fn levels(&self) -> Vec<f64> {
        assert!(self.m > 0 && 0.0 < self.c_1 && self.c_1 < 1.0 && self.c_2 >= 0.0, "{self:?} are no noise levels");
        let alpha_bar = |j: usize| (FRAC_PI_2 * j as f64 / (self.m as f64 * (self.c_2 + 1.0))).sin().powi(2);
        let mut levels = vec![0.0; self.m + 1];
        for j in (1..=self.m).rev() {
            let ratio = (alpha_bar(j - 1) / alpha_bar(j)).max(self.c_1);
            // (u² + 1)/r − 1 without the cancellation near the data.
            levels[j - 1] = ((levels[j] * levels[j] + (1.0 - ratio)) / ratio).sqrt();
        }
        levels
    }

    /// `σ_0 … σ_{N−1}`, decreasing: the noise levels of `n` steps.
    ///
    /// # Panics
    /// As [`levels`](Self::levels), if `n` is 0, or if fewer than `n` levels are left from `j₀` on.
    #[track_caller]
    pub fn grid(&self, n: usize) -> Vec<f64> {
        let levels = self.levels();
        assert!(n > 0 && self.j_0 + n <= self.m, "{n} of the {} noise levels from number {} on", self.m, self.j_0);
        let stride = (self.m - 1 - self.j_0) as f64 / (n - 1).max(1) as f64;
        (0..n).map(|i| levels[(self.j_0 as f64 + stride * i as f64 + 0.5).floor() as usize]).collect()
    }
}
