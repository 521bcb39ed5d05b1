//! `x_s ~ N(mean of q(x_s | x_t, x_0 = x̂₀), variance · I)`.
//!
//! ```text
//! mean   = α_{t|s} σ_s²/σ_t² x_t + a x̂₀        a = α_s σ²_{t|s}/σ_t²
//! small  = β̃ = σ²_{t|s} σ_s²/σ_t²              large = β = σ²_{t|s}
//! optimal = β̃ + a² Γ(t)                        Γ = E[tr Cov(x_0 | x_t)]/D
//! learned = exp(v ln β + (1 − v) ln β̃)         v the model's, for each element
//! ```
//!
//! With `β/β̃ = σ_t²/σ_s²` the learned standard deviation is `√β̃ (σ_t/σ_s)^v`.

use std::fmt;

use fokker_sde::{Denoiser, Reverse, Sde};
use fokker_tensor::Tensor;
use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::transition::{Move, Transition};
use crate::analytic::PosteriorVariance;
use crate::combine::combine;
use crate::error::SolveError;
use crate::grid::Grid;
use crate::path::NoiseSource;
use crate::solver::{Context, Kind, Solver, Stepper};

/// The variance of the noise of [`Ancestral`]. In a configuration, one without numbers may be written as its name alone:
/// `variance = "learned"` for `variance = { kind = "learned" }`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Variance {
    /// `β̃`, right if the data were one point (Ho et al. 2020, section 3.2, "fixed small").
    #[default]
    Small,
    /// `β`, right if the data were `N(0, I)` on a variance-preserving process ("fixed large").
    Large,
    /// `exp(v ln β + (1 − v) ln β̃)` with the `v` that the model answers for every element: Nichol & Dhariwal 2021
    /// (arXiv:2102.09672), eq. 15. The model must have [learned](fokker_sde::Denoiser::reverse) it. On any grid the bounds are those of
    /// the step at hand (their section 4).
    Learned,
    /// The same with one number `v` for all elements and steps, of any model.
    Interpolated {
        /// From 0 (small) to 1 (large).
        v: f64,
    },
    /// The variance that minimises the divergence from the true reverse process, from statistics of the model estimated
    /// beforehand: Analytic-DPM (Bao et al. 2022, arXiv:2201.06503, theorem 1).
    Optimal(PosteriorVariance),
}

/// DDPM's sampler (Ho et al. 2020, arXiv:2006.11239, eq. 7 and algorithm 2, with the posterior variance `β̃` by default), for
/// any process and any grid (Kingma et al. 2021, eq. 25–26).
///
/// With `β̃` it is the exact reverse transition for an `x̂₀` that does not change during the step, so that it needs no care
/// where `α = 0`. The other variances agree with it in the limit of short steps. Weak and strong order 1, 1 evaluation per step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ancestral {
    /// The variance of the noise, default small.
    #[serde(deserialize_with = "name_or_table")]
    pub variance: Variance,
    /// Where the noise comes from, default independent draws.
    pub noise: NoiseSource,
}

impl Solver for Ancestral {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        1
    }

    fn strong_order(&self) -> Option<f64> {
        Some(1.0)
    }

    fn kind(&self) -> Kind {
        Kind::Sde
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(moves)
    }

    fn check(&self) -> Result<(), SolveError> {
        match &self.variance {
            Variance::Interpolated { v } if !(0.0..=1.0).contains(v) => {
                let expected = format!("a number in [0, 1], found {v}");
                Err(SolveError::Config { what: "solver", kind: Self::KIND, field: "variance.v", expected })
            }
            Variance::Optimal(table) => table.check(Self::KIND),
            _ => Ok(()),
        }
    }

    fn check_model(&self, denoiser: &dyn Denoiser) -> Result<(), SolveError> {
        if self.variance == Variance::Learned && !denoiser.learns_variance() {
            return Err(no_variance());
        }
        Ok(())
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        self.noise.check(Self::KIND, sde, grid)?;
        Ok(Box::new(self.clone()))
    }
}

impl Stepper for Ancestral {
    fn step(&mut self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        if self.variance == Variance::Learned {
            return self.learned_step(cx, x);
        }
        let (t, s) = (cx.t, cx.s);
        let step = self.transition(cx.sde(), t, s);
        let denoised = cx.denoise(&x, t)?;
        Ok(step.take(cx, (t, s), x, &denoised, (self.noise, 0)))
    }
}

/// A model that should have learned variances has not.
fn no_variance() -> SolveError {
    let reason = "variance \"learned\" needs a model that has learned the variances of its steps, and this one has not; use variance \
                  \"small\", \"large\" or \"optimal\", or train with model.learned_variance = true";
    SolveError::Unsupported { solver: Ancestral::KIND, reason: reason.to_owned() }
}

/// A [`Variance`] as a table, or as the name of one without numbers.
fn name_or_table<'de, D: Deserializer<'de>>(input: D) -> Result<Variance, D::Error> {
    struct NameOrTable;
    impl<'de> Visitor<'de> for NameOrTable {
        type Value = Variance;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the name of a variance, or a table with its `kind`")
        }

        fn visit_str<E: Error>(self, name: &str) -> Result<Variance, E> {
            Variance::deserialize(MapDeserializer::new(std::iter::once(("kind", name))))
        }

        fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Variance, A::Error> {
            Variance::deserialize(MapAccessDeserializer::new(table))
        }
    }
    input.deserialize_any(NameOrTable)
}

impl Ancestral {
    /// The step with the model's variance, one for each element.
    fn learned_step(&self, cx: &mut Context<'_>, x: Tensor) -> Result<Tensor, SolveError> {
        let (t, s) = (cx.t, cx.s);
        let small = Move::posterior(cx.sde(), t, s);
        let log_ratio = (cx.sde().sigma(t) / cx.sde().sigma(s)).ln();
        let Reverse { denoised, fraction } = cx.reverse(&x, t, s)?;
        let v = fraction.ok_or_else(no_variance)?;
        let noise = &cx.noise(self.noise, 0, &x, t, s) * &(&v * log_ratio).exp();
        Ok(combine(small.state, x, &[(small.sample, &denoised), (small.std, &noise)]))
    }

    /// The step with one variance for all elements.
    fn transition(&self, sde: &dyn Sde, t: f64, s: f64) -> Move {
        let small = Move::posterior(sde, t, s);
        let large = || Transition::between(sde, s, t).variance.sqrt();
        let std = match &self.variance {
            // A learned one is a factor of it.
            Variance::Small | Variance::Learned => small.std,
            Variance::Large => large(),
            Variance::Interpolated { v } => large().powf(*v) * small.std.powf(1.0 - v),
            Variance::Optimal(table) => small.std.hypot(small.sample * table.at(sde, t).sqrt()),
        };
        Move { std, ..small }
    }
}
