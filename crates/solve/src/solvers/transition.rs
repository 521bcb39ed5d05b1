//! Scalars of one step that several solvers share, for any process.

use fokker_sde::Sde;
use fokker_tensor::Tensor;

use crate::combine::combine;
use crate::path::NoiseSource;
use crate::solver::Context;

/// The probability-flow velocity as a combination of the state and `x̂₀`:
///
/// ```text
/// dx/dt = f x − ½ g² ∇ ln p = α̇ x̂₀ + σ̇ ε̂ = (σ̇/σ) x + (α̇ − α σ̇/σ) x̂₀
/// ```
///
/// The second form is finite wherever `σ > 0`, also where `α = 0` and `f` and `g` are not.
pub(super) struct Velocity {
    /// Factor of the state.
    pub(super) state: f64,
    /// Factor of `x̂₀`.
    pub(super) sample: f64,
}

impl Velocity {
    pub(super) fn at(sde: &dyn Sde, t: f64) -> Self {
        let state = sde.d_sigma(t) / sde.sigma(t);
        Self { state, sample: sde.d_alpha(t) - sde.alpha(t) * state }
    }
}

/// The forward transition `x_t = α_{t|s} x_s + σ_{t|s} z` from `s < t` (Kingma et al. 2021, arXiv:2107.00630, eq. 20–21).
pub(super) struct Transition {
    /// `α_{t|s} = α_t/α_s`.
    pub(super) alpha: f64,
    /// `σ²_{t|s} = σ_t² − α²_{t|s} σ_s²`.
    pub(super) variance: f64,
}

impl Transition {
    pub(super) fn between(sde: &dyn Sde, s: f64, t: f64) -> Self {
        let alpha = sde.alpha(t) / sde.alpha(s);
        // σ_t² (1 − e^(λ_t − λ_s)): the difference without its cancellation.
        let variance = -sde.sigma(t).powi(2) * (sde.log_snr(t) - sde.log_snr(s)).exp_m1();
        Self { alpha, variance }
    }
}

/// `x_s = state · x_t + sample · x̂₀ + std · ξ`: what first-order steps are, and what higher ones add to.
#[derive(Clone, Copy)]
pub(super) struct Move {
    /// Factor of the state.
    pub(super) state: f64,
    /// Factor of `x̂₀`.
    pub(super) sample: f64,
    /// Factor of the noise.
    pub(super) std: f64,
}

impl Move {
    /// The posterior `q(x_s | x_t, x_0)`, the exact reverse transition for a known `x_0` (Ho et al. 2020, arXiv:2006.11239,
    /// eq. 7; Kingma et al. 2021, eq. 25–26, for any process):
    ///
    /// ```text
    /// state = α_{t|s} σ_s²/σ_t²      sample = α_s σ²_{t|s}/σ_t²      std = σ_{t|s} σ_s/σ_t
    /// ```
    pub(super) fn posterior(sde: &dyn Sde, t: f64, s: f64) -> Self {
        let forward = Transition::between(sde, s, t);
        let (sigma_s, sigma_t) = (sde.sigma(s), sde.sigma(t));
        Self {
            state: forward.alpha * (sigma_s / sigma_t).powi(2),
            sample: sde.alpha(s) * forward.variance / (sigma_t * sigma_t),
            std: forward.variance.sqrt() * sigma_s / sigma_t,
        }
    }

    /// The exact step of the SDE of noise level `λ = √η` for an `x̂₀` that does not change (Lu et al. 2022,
    /// arXiv:2211.01095, SDE-DPM-Solver++(1), with `η = 1`; Xue et al. 2023, arXiv:2309.05019). With `h` half the gain of log-SNR:
    ///
    /// ```text
    /// state = σ_s/σ_t e^(−ηh)      sample = α_s (1 − e^(−(1+η)h))      std = σ_s √(1 − e^(−2ηh))
    /// ```
    ///
    /// `η = 0` is DDIM, `η = 1` the posterior. Where `α_t = 0`, `h` is infinite and all are finite.
    pub(super) fn exponential(sde: &dyn Sde, t: f64, s: f64, eta: f64) -> Self {
        let h = half_gain(sde, t, s);
        // Without noise no number may depend on ηh, which is not one where h is infinite.
        let fresh = if eta == 0.0 { 0.0 } else { eta * h };
        Self {
            state: sde.sigma(s) / sde.sigma(t) * (-fresh).exp(),
            sample: -sde.alpha(s) * (-(h + fresh)).exp_m1(),
            std: sde.sigma(s) * (-(-2.0 * fresh).exp_m1()).sqrt(),
        }
    }

    /// DDIM's step with `η` times the noise of the posterior (Song, Meng & Ermon 2021, arXiv:2010.02502, eq. 12 and 16, for
    /// any process), at most `σ_s`: also the "ancestral step" of k-diffusion, which takes the rest of the way without noise.
    ///
    /// ```text
    /// std = min(σ_s, η σ_{t|s} σ_s/σ_t)      state = √(σ_s² − std²)/σ_t      sample = α_s − state · α_t
    /// ```
    pub(super) fn ancestral(sde: &dyn Sde, t: f64, s: f64, eta: f64) -> Self {
        let sigma_s = sde.sigma(s);
        // No transition backwards in time is needed where no noise is added: the ODE may be run either way.
        let std = if eta == 0.0 { 0.0 } else { (eta * Self::posterior(sde, t, s).std).min(sigma_s) };
        let state = (sigma_s * sigma_s - std * std).max(0.0).sqrt() / sde.sigma(t);
        Self { state, sample: sde.alpha(s) - state * sde.alpha(t), std }
    }

    /// The same with `factor` times the noise.
    pub(super) fn with_noise(self, factor: f64) -> Self {
        Self { std: factor * self.std, ..self }
    }

    /// The step from `t` to `s`, with draw number `draw` where there is noise at all.
    pub(super) fn take(
        self,
        cx: &mut Context<'_>,
        (t, s): (f64, f64),
        x: Tensor,
        denoised: &Tensor,
        (source, draw): (NoiseSource, u32),
    ) -> Tensor {
        if self.std == 0.0 {
            return combine(self.state, x, &[(self.sample, denoised)]);
        }
        let noise = cx.noise(source, draw, &x, t, s);
        combine(self.state, x, &[(self.sample, denoised), (self.std, &noise)])
    }
}

/// `h = ln(α_s/σ_s) − ln(α_t/σ_t)`, half the gain of log-SNR; infinite where `α_t = 0`.
pub(super) fn half_gain(sde: &dyn Sde, t: f64, s: f64) -> f64 {
    0.5 * (sde.log_snr(s) - sde.log_snr(t))
}
