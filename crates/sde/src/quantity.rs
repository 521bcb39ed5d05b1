//! What a network may predict, and how one prediction becomes another.
//!
//! Given `x_t`, every quantity below is an affine function of every other, because each is a fixed combination
//! `a x_0 + b ε` of the two unknowns and `x_t = α x_0 + σ ε` ties them together:
//!
//! | quantity | `a` | `b` | paper |
//! |---|---|---|---|
//! | `x_0` | 1 | 0 | Ho et al. 2020 (arXiv:2006.11239), section 3.2 |
//! | `ε` | 0 | 1 | Ho et al. 2020, eq. 11 |
//! | score `∇ ln p_t` | 0 | −1/σ | Song et al. 2021 (arXiv:2011.13456), eq. 7 |
//! | `v` | −σ/r | α/r | Salimans & Ho 2022 (arXiv:2202.00512), section 4, with `r = √(α² + σ²)`, which is 1 there |
//! | velocity `ẋ` | α̇ | σ̇ | Lipman et al. 2023 (arXiv:2210.02747), eq. 15; Albergo et al. 2023 (arXiv:2303.08797) |
//! | EDM's `F` | σ/(σ_d q) | −α σ_d/q | Karras et al. 2022 (arXiv:2206.00364), eq. 8, with `q = √(σ² + α²σ_d²)` and `σ_d = σ_data` |
//! | VE's `F` | 0 | −1 | Karras et al. 2022, table 1, column VE |
//!
//! The last two are the outputs of preconditioned networks; the table is the whole of what a conversion needs
//! ([`Prediction`], [`Combination::conversion`]).
//!
//! The identities hold for the conditional means too, so that they convert between what trained networks answer:
//! with `x̂₀ = E[x_0 | x_t]`, the score so obtained is `∇ ln p_t(x_t)` (Tweedie's formula).

use serde::{Deserialize, Serialize};

use crate::sde::Sde;

/// One of the quantities that a denoiser may be expressed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// The clean sample `x_0`.
    Sample,
    /// The standard normal noise `ε` in `x_t`.
    Epsilon,
    /// `∇ ln p_t(x_t) = −ε/σ`.
    Score,
    /// Salimans and Ho's `v = (α ε − σ x_0)/√(α² + σ²)`.
    V,
    /// The probability-flow velocity `α̇ x_0 + σ̇ ε`.
    Velocity,
}

/// The quantity `sample · x_0 + noise · ε`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Combination {
    /// Factor of `x_0`.
    pub sample: f64,
    /// Factor of `ε`.
    pub noise: f64,
}

/// The affine map `state · x_t + value · q` that turns the quantity `q` into another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conversion {
    /// Factor of `x_t`.
    pub state: f64,
    /// Factor of the quantity given.
    pub value: f64,
}

impl Combination {
    /// The map from this combination to `target` for `x_t = α x_0 + σ ε`.
    ///
    /// A conversion that does not exist has infinite factors: from `ε` or the score to anything else where
    /// `α = 0` (the state is nothing but noise), from `x_0` where `σ = 0`.
    pub fn conversion(self, target: Self, alpha: f64, sigma: f64) -> Conversion {
        // Solve (target) = state · (α, σ) + value · (self).
        let across = target.sample * self.noise - target.noise * self.sample;
        if across == 0.0 {
            // The two are multiples of each other, whatever the state.
            let value = if self.noise == 0.0 { target.sample / self.sample } else { target.noise / self.noise };
            return Conversion { state: 0.0, value };
        }
        let determinant = alpha * self.noise - sigma * self.sample;
        Conversion { state: across / determinant, value: (alpha * target.noise - sigma * target.sample) / determinant }
    }
}

/// What a network may put out: at each time a fixed combination of the clean sample and the noise.
///
/// A [`Quantity`], or a network's output at its own scale ([`Preconditioning`](crate::Preconditioning)).
pub trait Prediction {
    /// The combination of `x_0` and `ε` at time `t`.
    fn combination(&self, sde: &dyn Sde, t: f64) -> Combination;
}

impl Prediction for Quantity {
    fn combination(&self, sde: &dyn Sde, t: f64) -> Combination {
        Quantity::combination(*self, sde, t)
    }
}

impl<P: Prediction + ?Sized> Prediction for &P {
    fn combination(&self, sde: &dyn Sde, t: f64) -> Combination {
        (**self).combination(sde, t)
    }
}

/// How to turn one prediction into another at time `t`, given `x_t`: [`Combination::conversion`] of the two.
pub fn conversion(from: impl Prediction, to: impl Prediction, sde: &dyn Sde, t: f64) -> Conversion {
    from.combination(sde, t).conversion(to.combination(sde, t), sde.alpha(t), sde.sigma(t))
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sample, Self::Epsilon, Self::Score, Self::V, Self::Velocity];

    /// The quantity at time `t` as a combination of `x_0` and `ε`.
    pub fn combination(self, sde: &dyn Sde, t: f64) -> Combination {
        let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
        let (sample, noise) = match self {
            Self::Sample => (1.0, 0.0),
            Self::Epsilon => (0.0, 1.0),
            Self::Score => (0.0, -1.0 / sigma),
            Self::V => {
                let norm = alpha.hypot(sigma);
                (-sigma / norm, alpha / norm)
            }
            Self::Velocity => (sde.d_alpha(t), sde.d_sigma(t)),
        };
        Combination { sample, noise }
    }

    /// How to turn this quantity into `target` at time `t`, given `x_t`: [`Combination::conversion`] of the two.
    pub fn conversion(self, target: Self, sde: &dyn Sde, t: f64) -> Conversion {
        conversion(self, target, sde, t)
    }

    /// `|Δq|² / |Δx̂₀|²`: how a squared error of `x̂₀` at fixed `x_t` appears in this quantity.
    ///
    /// A loss `w(t) |q̂ − q|²` is the loss `w(t) · error_ratio · |x̂₀ − x_0|²`: `α²/σ²` for `ε`, `α²/σ⁴` for the
    /// score, so that a likelihood weighting `g²/2` of the score error (Song et al. 2021, arXiv:2101.09258,
    /// eq. 7) is `½ g² α²/σ⁴` of the error of `x̂₀`.
    pub fn error_ratio(self, sde: &dyn Sde, t: f64) -> f64 {
        Self::Sample.conversion(self, sde, t).value.powi(2)
    }
}
