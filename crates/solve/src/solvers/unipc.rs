//! With `λ = ln(α/σ)`, `h = λ_s − λ_t` and places `r_m = (λ_m − λ_t)/h` of the other answers, in noise (data is the same with
//! `α` and `σ` exchanged and `h` negative):
//!
//! ```text
//! x_s = (α_s/α_t) x_t − σ_s (e^h − 1) ε̂_0 − σ_s B(h) Σ_m a_m (ε̂_m − ε̂_0)/r_m
//! Σ_m a_m r_m^{k−1} B(h) = h k! φ_{k+1}(h)        k = 1, 2, …        bh1: B(h) = h      bh2: B(h) = e^h − 1
//! ```
//!
//! The predictor (UniP) uses answers before `t`, the corrector (UniC) also the one at `s`, `r = 1`. `B` cancels wherever the `a_m` are
//! solved for, which leaves the exact moments of [`adams`](super::adams); the paper solves for them unless there is one difference
//! only, and then has `a = ½`: `m_1 = −σ_s B(h)/2`.

use fokker_sde::{Quantity, Sde};
use serde::{Deserialize, Serialize};

use super::adams::{Adams, Approximation, LowerOrderFinal, check_order};
use super::exponential::{Interval, Prediction, Variable};
use crate::error::SolveError;
use crate::grid::Grid;
use crate::solver::{Family, Kind, Solver, Stepper};

/// `B(h)` of [`UniPc`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UniPcVariant {
    /// `B(h) = h`, which the authors recommend for few steps without guidance.
    Bh1,
    /// `B(h) = e^h − 1`.
    #[default]
    Bh2,
}

/// UniPC of any order: Zhao et al. 2023 (arXiv:2302.04867), algorithms 1 and 2, with the correction that costs nothing.
///
/// Of order `order + 1` with the corrector, `order` without; 2 at most where the last step is of first order (`lower_order_final =
/// "always"`, the authors' rule). 1 evaluation per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UniPc {
    /// The number of answers that the predictor uses, from 1 to 6, default 2.
    pub order: usize,
    /// `B(h)`, default `bh2`.
    pub variant: UniPcVariant,
    /// `data` (default) or `noise`.
    pub prediction: Prediction,
    /// Whether the next answer corrects each state, default true.
    pub corrector: bool,
    /// Whether the order falls towards the end, default always.
    pub lower_order_final: LowerOrderFinal,
}

impl Default for UniPc {
    fn default() -> Self {
        Self {
            order: 2,
            variant: UniPcVariant::default(),
            prediction: Prediction::Data,
            corrector: true,
            lower_order_final: LowerOrderFinal::Always,
        }
    }
}

impl Solver for UniPc {
    fn name(&self) -> &'static str {
        Self::KIND
    }

    fn order(&self) -> u32 {
        self.lower_order_final.order(self.order + usize::from(self.corrector))
    }

    fn kind(&self) -> Kind {
        Kind::Ode
    }

    fn evaluations(&self, moves: usize) -> Option<usize> {
        Some(moves)
    }

    fn family(&self) -> Family {
        Family::Multistep
    }

    fn quantity(&self) -> Quantity {
        self.prediction.quantity()
    }

    fn takes_pure_noise(&self) -> bool {
        self.prediction != Prediction::Noise
    }

    fn check(&self) -> Result<(), SolveError> {
        check_order(Self::KIND, self.order, 1..=6)?;
        if self.prediction == Prediction::Velocity {
            let expected = "`data` or `noise`; for velocity use `exponential-adams`".to_owned();
            return Err(SolveError::Config { what: "solver", kind: Self::KIND, field: "prediction", expected });
        }
        Ok(())
    }

    fn start(&self, sde: &dyn Sde, grid: &Grid) -> Result<Box<dyn Stepper>, SolveError> {
        let method = Adams {
            prediction: self.prediction,
            variable: Variable::LogSnr,
            order: self.order,
            approximation: self.approximation(),
            corrector: self.corrector,
            lower_order_final: self.lower_order_final,
        };
        method.start(Self::KIND, sde, grid)
    }
}

impl UniPc {
    fn approximation(&self) -> Approximation {
        match self.variant {
            UniPcVariant::Bh1 => |interval: &Interval<'_>, _: &mut [f64], moments: &mut [f64]| {
                if let [_, m_1] = moments {
                    *m_1 = 0.5 * interval.derivative_step();
                }
            },
            UniPcVariant::Bh2 => |_: &Interval<'_>, _: &mut [f64], moments: &mut [f64]| {
                if let [m_0, m_1] = moments {
                    *m_1 = 0.5 * *m_0;
                }
            },
        }
    }
}
