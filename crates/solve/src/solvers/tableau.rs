//! Explicit Runge–Kutta methods as tables (Butcher's), and the variables they may be used in.
//!
//! ```text
//! y_i = y + H Σ_{j<i} a_ij k_j      k_i = dy/dτ at τ + c_i H      y' = y + H Σ_i b_i k_i      error H Σ_i e_i k_i
//!
//! variable   τ          y      dy/dτ
//! t          t          x      α̇ x̂₀ + σ̇ ε̂
//! sigma      σ/α        x/α    ε̂                  EDM's ODE, for any process
//! log-snr    λ          x/σ    r x̂₀               λ = ln(α/σ), r = α/σ: the linear part solved exactly
//! ```
//!
//! `y = x/S` with a scalar `S(t)`, so that a stage's state is `x_i = (S_i/S_t) x_t + S_i H Σ_j a_ij k_j`.
//!
//! In `log-snr` the method is applied to `y − (r − r_t) x̂_0`, where `x̂_0` is the first stage's answer (Krogstad 2005,
//! doi:10.1016/j.jcp.2004.08.006, section 3): `x_i = (σ_i/σ_t) x_t + σ_i (r_i − r_t) x̂_0 + σ_i H Σ_j a_ij r_j (x̂_j − x̂_0)`. The order is the
//! same, and a step of any length is exact where `x̂₀` does not change, like DDIM's; without it a long step would lose the data.

use fokker_sde::{Quantity, Sde};
use serde::{Deserialize, Serialize};

use super::exponential::{Variable, half_log_snr};
use super::stages::{Row, Stage, Stages};
use super::transition::Velocity;

/// The methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Euler's, of order 1.
    Euler,
    /// The explicit midpoint rule, of order 2.
    Midpoint,
    /// The explicit trapezoidal rule, of order 2.
    Heun,
    /// Ralston's of order 2, with the smallest bound of the error among those of two stages: Ralston 1962
    /// (doi:10.1090/S0025-5718-1962-0150954-0).
    Ralston,
    /// Kutta's of order 3: Kutta 1901.
    Rk3,
    /// The classical one of order 4: Kutta 1901.
    #[default]
    Rk4,
    /// Dormand and Prince's of order 5: Dormand & Prince 1980 (doi:10.1016/0771-050X(80)90013-3), table 2.
    Dopri5,
    /// Tsitouras's of order 5: Tsitouras 2011 (doi:10.1016/j.camwa.2011.06.002), table 1.
    Tsit5,
}

/// The numbers of a method.
pub(super) struct Tableau {
    pub(super) order: u32,
    /// Row `i` has `a_ij` for `j < i`, beginning with `i = 1`.
    a: &'static [&'static [f64]],
    b: &'static [f64],
    c: &'static [f64],
    /// `b` less the weights of the embedded method, which uses one stage more: the slope at the new state. Empty if there is none.
    e: &'static [f64],
}

impl Method {
    pub(super) fn tableau(self) -> &'static Tableau {
        match self {
            Self::Euler => &EULER,
            Self::Midpoint => &MIDPOINT,
            Self::Heun => &HEUN,
            Self::Ralston => &RALSTON,
            Self::Rk3 => &RK3,
            Self::Rk4 => &RK4,
            Self::Dopri5 => &DOPRI5,
            Self::Tsit5 => &TSIT5,
        }
    }
}

impl Tableau {
    /// The evaluations of one step, without those of the error estimate.
    pub(super) fn evaluations(&self) -> usize {
        self.b.len()
    }

    /// The numbers of stage `i`: `a_ij` for `j < i`, and `c_i`.
    pub(super) fn stage(&self, i: usize) -> (&[f64], f64) {
        (if i == 0 { &[] } else { self.a[i - 1] }, self.c[i])
    }

    /// `b_i`, and `e_i` if there is an error estimate.
    pub(super) fn weights(&self) -> (&[f64], &[f64]) {
        (self.b, self.e)
    }

    /// Whether there is an error estimate.
    pub(super) fn is_embedded(&self) -> bool {
        !self.e.is_empty()
    }

    /// The step from `t` to `s`; with the estimate of its error, and the evaluation it needs, if asked for.
    pub(super) fn stages(&self, variable: Variable, sde: &dyn Sde, t: f64, s: f64, with_error: bool) -> Stages {
        let step = variable.tau(sde, s) - variable.tau(sde, t);
        let mut times = vec![t];
        let time_of = |c: f64| if c == 1.0 { s } else { variable.time(sde, variable.tau(sde, t) + c * step) };
        times.extend(self.c[1..].iter().map(|&c| time_of(c)));
        times.push(s);
        let row = |time: f64, factors: &[f64]| {
            let scale = variable.scale(sde, time);
            let rates = factors.iter().zip(&times).map(|(a, &time)| a * variable.rate(sde, time));
            Row { state: scale / variable.scale(sde, t), weights: rates.map(|a| scale * step * a).collect() }
        };
        // In log-snr the first answer stands for all of the others, integrated exactly.
        let shifted = |time: f64, factors: &[f64], total: f64| {
            let mut row = row(time, factors);
            if variable == Variable::LogSnr {
                row.weights[0] = total - row.weights[1..].iter().sum::<f64>();
            }
            row
        };
        // σ_i (r_i − r_t)
        let constant = |time: f64| -sde.alpha(time) * (variable.tau(sde, t) - variable.tau(sde, time)).exp_m1();
        let stage = |time: f64, row: Row| Stage { t: time, factors: variable.slope(sde, time), row };
        let mut stages = vec![stage(t, Row::start())];
        for (a, &time) in self.a.iter().zip(&times[1..]) {
            stages.push(stage(time, shifted(time, a, constant(time))));
        }
        let result = shifted(s, self.b, constant(s));
        let mut error = Vec::new();
        if with_error {
            stages.push(stage(s, result.clone()));
            error = shifted(s, self.e, 0.0).weights;
        }
        Stages { stages, result, error }
    }
}

impl Variable {
    /// `τ`.
    pub(super) fn tau(self, sde: &dyn Sde, t: f64) -> f64 {
        match self {
            Self::T => t,
            Self::LogSnr => half_log_snr(sde, t),
            Self::Sigma => (-half_log_snr(sde, t)).exp(),
        }
    }

    /// The time at which `τ` has this value.
    pub(super) fn time(self, sde: &dyn Sde, tau: f64) -> f64 {
        match self {
            Self::T => tau,
            Self::LogSnr => sde.time_at_log_snr(2.0 * tau),
            Self::Sigma => sde.time_at_log_snr(-2.0 * tau.ln()),
        }
    }

    /// `S`.
    fn scale(self, sde: &dyn Sde, t: f64) -> f64 {
        match self {
            Self::T => 1.0,
            Self::LogSnr => sde.sigma(t),
            Self::Sigma => sde.alpha(t),
        }
    }

    /// `dy/dτ` as a multiple of the answer of a stage.
    fn rate(self, sde: &dyn Sde, t: f64) -> f64 {
        match self {
            Self::T | Self::Sigma => 1.0,
            Self::LogSnr => sde.alpha(t) / sde.sigma(t),
        }
    }

    /// The answer of a stage as a combination of the state and `x̂₀`.
    fn slope(self, sde: &dyn Sde, t: f64) -> (f64, f64) {
        match self {
            Self::T => {
                let velocity = Velocity::at(sde, t);
                (velocity.state, velocity.sample)
            }
            Self::LogSnr => (0.0, 1.0),
            Self::Sigma => (1.0 / sde.sigma(t), -sde.alpha(t) / sde.sigma(t)),
        }
    }

    /// The quantity that the slope is a multiple of.
    pub(super) fn quantity(self) -> Quantity {
        match self {
            Self::T => Quantity::Velocity,
            Self::LogSnr => Quantity::Sample,
            Self::Sigma => Quantity::Epsilon,
        }
    }
}

const EULER: Tableau = Tableau { order: 1, a: &[], b: &[1.0], c: &[0.0], e: &[] };

const MIDPOINT: Tableau = Tableau { order: 2, a: &[&[0.5]], b: &[0.0, 1.0], c: &[0.0, 0.5], e: &[] };

const HEUN: Tableau = Tableau { order: 2, a: &[&[1.0]], b: &[0.5, 0.5], c: &[0.0, 1.0], e: &[] };

const RALSTON: Tableau = Tableau { order: 2, a: &[&[2.0 / 3.0]], b: &[0.25, 0.75], c: &[0.0, 2.0 / 3.0], e: &[] };

const RK3: Tableau =
    Tableau { order: 3, a: &[&[0.5], &[-1.0, 2.0]], b: &[1.0 / 6.0, 2.0 / 3.0, 1.0 / 6.0], c: &[0.0, 0.5, 1.0], e: &[] };

const RK4: Tableau = Tableau {
    order: 4,
    a: &[&[0.5], &[0.0, 0.5], &[0.0, 0.0, 1.0]],
    b: &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0],
    c: &[0.0, 0.5, 0.5, 1.0],
    e: &[],
};

const DOPRI5: Tableau = Tableau {
    order: 5,
    a: &[
        &[1.0 / 5.0],
        &[3.0 / 40.0, 9.0 / 40.0],
        &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
        &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
        &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
    ],
    b: &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0],
    c: &[0.0, 0.2, 0.3, 0.8, 8.0 / 9.0, 1.0],
    e: &[71.0 / 57600.0, 0.0, -71.0 / 16695.0, 71.0 / 1920.0, -17253.0 / 339_200.0, 22.0 / 525.0, -1.0 / 40.0],
};

const TSIT5: Tableau = Tableau {
    order: 5,
    a: &[
        &[0.161],
        &[-0.008_480_655_492_356_989, 0.335_480_655_492_357],
        &[2.897_153_057_105_493_5, -6.359_448_489_975_075, 4.362_295_432_869_581_5],
        &[5.325_864_828_439_257, -11.748_883_564_062_828, 7.495_539_342_889_836_5, -0.092_495_066_361_755_25],
        &[
            5.861_455_442_946_42,
            -12.920_969_317_847_11,
            8.159_367_898_576_159,
            -0.071_584_973_281_401,
            -0.028_269_050_394_068_383,
        ],
    ],
    b: &[
        0.096_460_766_818_065_23,
        0.01,
        0.479_889_650_414_499_6,
        1.379_008_574_103_742,
        -3.290_069_515_436_081,
        2.324_710_524_099_774,
    ],
    c: &[0.0, 0.161, 0.327, 0.9, 0.980_025_540_904_509_7, 1.0],
    e: &[
        -0.001_780_011_052_225_777,
        -0.000_816_434_459_656_746_9,
        0.007_880_878_010_261_995,
        -0.144_711_007_173_262_9,
        0.582_357_165_452_555_2,
        -0.458_082_105_929_186_97,
        1.0 / 66.0,
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Method; 8] =
        [Method::Euler, Method::Midpoint, Method::Heun, Method::Ralston, Method::Rk3, Method::Rk4, Method::Dopri5, Method::Tsit5];

    /// Rows of a square matrix: the stages, and for the embedded method the new state.
    fn matrix(table: &Tableau, with_error: bool) -> Vec<Vec<f64>> {
        let mut rows = vec![vec![]];
        rows.extend(table.a.iter().map(|row| row.to_vec()));
        if with_error {
            rows.push(table.b.to_vec());
        }
        let n = rows.len();
        rows.into_iter()
            .map(|mut row| {
                row.resize(n, 0.0);
                row
            })
            .collect()
    }

    /// How far weights `b` are from the conditions of order up to `order`, at most 4 but for the powers of `c`: Hairer, Nørsett &
    /// Wanner 1993, table II.2.1.
    fn defect(a: &[Vec<f64>], b: &[f64], order: u32) -> f64 {
        let apply = |v: &[f64]| a.iter().map(|row| row.iter().zip(v).map(|(a, v)| a * v).sum()).collect::<Vec<f64>>();
        let times = |u: &[f64], v: &[f64]| u.iter().zip(v).map(|(u, v)| u * v).collect::<Vec<f64>>();
        let one = vec![1.0; b.len()];
        let c = apply(&one);
        let conditions = [
            (1, one.clone(), 1.0),
            (2, c.clone(), 2.0),
            (3, times(&c, &c), 3.0),
            (3, apply(&c), 6.0),
            (4, times(&c, &times(&c, &c)), 4.0),
            (4, times(&c, &apply(&c)), 8.0),
            (4, apply(&times(&c, &c)), 12.0),
            (4, apply(&apply(&c)), 24.0),
            (5, times(&times(&c, &c), &times(&c, &c)), 5.0),
            (5, apply(&apply(&apply(&c))), 120.0),
        ];
        let held = conditions.iter().filter(|(least, _, _)| *least <= order);
        held.map(|(_, v, inverse)| (times(b, v).iter().sum::<f64>() - 1.0 / inverse).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn the_tables_meet_the_conditions_of_their_orders_and_no_more() {
        for method in ALL {
            let table = method.tableau();
            let a = matrix(table, false);
            for (row, c) in a.iter().zip(table.c) {
                assert!((row.iter().sum::<f64>() - c).abs() < 1e-14, "{method:?}: a row adds up to c");
            }
            // Tsitouras's numbers are rounded to 16 digits, and add up to 10.
            assert!(defect(&a, table.b, table.order) < 2e-14, "{method:?}");
            assert!(table.order == 5 || defect(&a, table.b, table.order + 1) > 1e-3, "{method:?} is of higher order");
        }
    }

    #[test]
    fn the_embedded_methods_are_of_order_4() {
        for method in [Method::Dopri5, Method::Tsit5] {
            let table = method.tableau();
            let a = matrix(table, true);
            let mut embedded = [table.b, &[0.0]].concat();
            embedded.iter_mut().zip(table.e).for_each(|(b, e)| *b -= e);
            assert!(defect(&a, &embedded, 4) < 2e-14 && defect(&a, &embedded, 5) > 1e-5, "{method:?}");
        }
    }
}
