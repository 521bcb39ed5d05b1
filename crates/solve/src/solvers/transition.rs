//! Scalars of one step that several solvers share, for any process.

use fokker_sde::Sde;

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

/// The posterior `q(x_s | x_t, x_0) = N(state · x_t + sample · x_0, std²)`, the exact reverse transition for a known `x_0`
/// (Ho et al. 2020, eq. 7; Kingma et al. 2021, eq. 25–26, for any process).
pub(super) struct Posterior {
    /// Factor of the state, `α_{t|s} σ_s²/σ_t²`.
    pub(super) state: f64,
    /// Factor of `x_0`, `α_s σ²_{t|s}/σ_t²`.
    pub(super) sample: f64,
    /// `σ_{t|s} σ_s/σ_t`.
    pub(super) std: f64,
}

impl Posterior {
    pub(super) fn between(sde: &dyn Sde, s: f64, t: f64) -> Self {
        let forward = Transition::between(sde, s, t);
        let (sigma_s, sigma_t) = (sde.sigma(s), sde.sigma(t));
        Self {
            state: forward.alpha * (sigma_s / sigma_t).powi(2),
            sample: sde.alpha(s) * forward.variance / (sigma_t * sigma_t),
            std: forward.variance.sqrt() * sigma_s / sigma_t,
        }
    }
}
