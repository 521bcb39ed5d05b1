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

    /// How to turn this quantity into `target` at time `t`, given `x_t`.
    ///
    /// A conversion that does not exist has infinite factors: from `ε` or the score to anything else where
    /// `α = 0` (the state is nothing but noise), from `x_0` where `σ = 0`.
    pub fn conversion(self, target: Self, sde: &dyn Sde, t: f64) -> Conversion {
        let (alpha, sigma) = (sde.alpha(t), sde.sigma(t));
        let from = self.combination(sde, t);
        let to = target.combination(sde, t);
        // Solve (to) = state · (α, σ) + value · (from).
        let across = to.sample * from.noise - to.noise * from.sample;
        if across == 0.0 {
            // The two are multiples of each other, whatever the state.
            let value = if from.noise == 0.0 { to.sample / from.sample } else { to.noise / from.noise };
            return Conversion { state: 0.0, value };
        }
        let determinant = alpha * from.noise - sigma * from.sample;
        Conversion { state: across / determinant, value: (alpha * to.noise - sigma * to.sample) / determinant }
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
