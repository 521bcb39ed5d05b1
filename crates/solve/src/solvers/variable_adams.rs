//! Adams' methods of variable step and order for any ODE, on the rows of a batch side by side: one evaluation for each step.
//!
//! ```text
//! dy/dp = f(y, p)      f_j = f[p_n, …, p_{n−j}]: divided differences of the slopes so far      Π_j(p) = Π_{i<j} (p − p_{n−i})
//!
//! ŷ       = y_n + Σ_{j<k} f_j ∫ Π_j dp                        predictor of order k
//! y_{n+1} = ŷ + f'_k ∫ Π_k dp                                 corrector of order k + 1      f'_k = f[p_{n+1}, p_n, …, p_{n−k+1}]
//! e_κ     = f'_κ ∫ (p − p_{n+1}) Π_{κ−1} dp                   what a corrector of order κ would lack
//! ```
//!
//! with integrals from `p_n` to `p_{n+1}` and `f_{n+1} = f(ŷ, p_{n+1})`, the only evaluation of a step: it corrects the state, estimates the
//! error, and leads the next steps (Shampine & Gordon 1975, chapters 5 to 7; Hairer, Nørsett & Wanner 1993, sections III.5 and III.7).
//! A step is accepted if `E_k ≤ 1`, `e_k` in units of what is allowed. The next order is that of `k − 1`, `k`, `k + 1` with the longest step,
//! `0.8 E_κ^{−1/(κ+1)}` of the last one, and at most twice as long.
//!
//! Each row has its own places, order and step, and leaves the batch when it is at the end. The memory of a batch is at most `max_order + 2`
//! states.

use std::ops::Range;

use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::adaptive::Per;
use super::initial_value::{Batch, Errors, Slope, UnderWay, row};
use crate::combine::{combine_each, select};
use crate::error::SolveError;

/// Adams' methods of variable step and order, one evaluation a step: tolerances and limits. Fields that are left out take their
/// defaults.
///
/// Steps are as long as their error estimates allow. What adds up to the end is up to a few hundred tolerances for log-densities of
/// mixtures, where Runge–Kutta methods, whose estimates are of a lower order than their results, leave about ten: as exact at a
/// fiftieth of their tolerance, for half of their evaluations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VariableAdams {
    /// The error of a step relative to the state, default 1e-6.
    pub rtol: f64,
    /// The error of a step in units of the state, default 1e-6.
    pub atol: f64,
    /// Whose error, default each sample's.
    pub per: Per,
    /// The highest order of a predictor, 1 to 12, the default.
    pub max_order: usize,
    /// The most steps of a trajectory, rejected ones included, default 10000.
    pub max_steps: usize,
}

/// The highest order there is.
const MOST: usize = 12;

impl Default for VariableAdams {
    fn default() -> Self {
        Self { rtol: 1e-6, atol: 1e-6, per: Per::default(), max_order: MOST, max_steps: 10_000 }
    }
}

/// The first step as a part of the way. Longer ones are tried again, and steps grow twofold: neither costs much.
const FIRST: f64 = 2e-3;
/// How much shorter than the estimate allows a step is. Shorter ones cost more steps, longer ones are often rejected.
const SAFETY: f64 = 0.8;
/// The least and the most of a step's length in those of the last: the formulas of high orders become inaccurate where lengths jump.
const SHRINK: f64 = 0.2;
const GROW: f64 = 2.0;

impl VariableAdams {
    pub(crate) fn check(&self, kind: &'static str) -> Result<(), SolveError> {
        let bad = |field, expected| Err(SolveError::Config { what: "integrator", kind, field, expected });
        for (field, value) in [("rtol", self.rtol), ("atol", self.atol)] {
            if !(value > 0.0 && value.is_finite()) {
                return bad(field, format!("a positive number, found {value}"));
            }
        }
        if !(1..=MOST).contains(&self.max_order) {
            return bad("max_order", format!("1 to {MOST}, found {}", self.max_order));
        }
        if self.max_steps == 0 {
            return bad("max_steps", "at least 1, found 0".to_owned());
        }
        Ok(())
    }

    /// Takes `y`, `[B, N]` in `f64`, from one place to another. One evaluation at the start and one for each step, rejected ones too. The
    /// errors of the columns `parts` are measured apart; `name` is whose errors giving up is.
    pub(crate) fn run(
        &self,
        y: Tensor,
        (from, to): (f64, f64),
        (name, parts): (&'static str, &[Range<usize>]),
        slope: &mut Slope<'_>,
    ) -> Result<Tensor, SolveError> {
        let rows: Vec<usize> = (0..y.dim(0)).collect();
        let differences = vec![slope(&y, &vec![from; rows.len()], &rows, true)?];
        let first = Row { places: vec![from], order: 1, length: FIRST * (to - from).abs() };
        let batch = Batch { samples: vec![first; rows.len()], rows, y, memory: differences };
        let errors = Errors { rtol: self.rtol, atol: self.atol, per: self.per, parts };
        batch.run(to, self.max_steps, name, |batch| self.attempt(batch, to, &errors, slope))
    }

    /// One step of every row, accepted or not. The batch remembers `f_j` at the last place of each row: of a row with `m` places, `j < m` are its
    /// own.
    fn attempt(&self, batch: &mut Batch<Row>, to: f64, errors: &Errors<'_>, slope: &mut Slope<'_>) -> Result<(), SolveError> {
        let walks = &batch.samples;
        let count = walks.len();
        let targets: Vec<f64> = walks.iter().map(|walk| walk.aim(to)).collect();
        let mut integrals: Vec<Integrals> = Vec::with_capacity(count);
        for (i, (walk, &target)) in walks.iter().zip(&targets).enumerate() {
            // Steps that a batch takes together have one set.
            let same = i > 0 && targets[i - 1] == target && walks[i - 1] == *walk;
            integrals.push(if same { integrals[i - 1].clone() } else { walk.integrals(target) });
        }
        let highest = walks.iter().map(|walk| walk.order).max().expect("a batch has rows");

        let each = |j: usize| walks.iter().zip(&integrals).map(|(w, i)| if j < w.order { i.products[j] } else { 0.0 }).collect();
        let factors: Vec<Vec<f64>> = (0..highest).map(each).collect();
        let terms: Vec<(&[f64], &Tensor)> = factors.iter().map(Vec::as_slice).zip(&batch.memory).collect();
        let predicted = combine_each(&vec![1.0; count], batch.y.clone(), &terms);

        // f'_j, as far as a row has places for them, and 0 beyond.
        let mut new = vec![slope(&predicted, &targets, &batch.rows, true)?];
        for j in 0..batch.memory.len().min(highest + 1) {
            let part = |(walk, to): (&Row, &f64)| walk.places.get(j).map_or(0.0, |from| 1.0 / (to - from));
            let parts: Vec<f64> = walks.iter().zip(&targets).map(part).collect();
            let minus: Vec<f64> = parts.iter().map(|part| -part).collect();
            new.push(combine_each(&parts, new[j].clone(), &[(&minus, &batch.memory[j])]));
        }

        let lowest = walks.iter().map(|walk| walk.order).min().expect("a batch has rows");
        let each = |k: usize| walks.iter().zip(&integrals).map(|(w, i)| if k == w.order { i.products[k] } else { 0.0 }).collect();
        let factors: Vec<Vec<f64>> = (lowest..=highest).map(each).collect();
        let terms: Vec<(&[f64], &Tensor)> = factors.iter().map(Vec::as_slice).zip(&new[lowest..]).collect();
        let next = combine_each(&vec![1.0; count], predicted, &terms);

        // E_κ at the orders k − 1, k and k + 1 of each row; infinite where there is none.
        let sizes = [-1, 0, 1].map(|change: isize| {
            let square = |i: usize| {
                let order = walks[i].order.checked_add_signed(change).filter(|&order| walks[i].may_be(order))?;
                Some(errors.square(row(&new[order], i), integrals[i].lacks[order], row(&next, i), row(&batch.y, i)))
            };
            errors.sizes((0..count).map(|i| square(i).unwrap_or(f64::INFINITY)))
        });

        let moved: Vec<bool> = (0..count)
            .map(|i| batch.samples[i].decide(targets[i], sizes.each_ref().map(|sizes| sizes[i]), self.max_order))
            .collect();
        batch.y = select(&moved, next, &batch.y);
        let mut old = std::mem::take(&mut batch.memory).into_iter();
        let differences = new.into_iter().map(|new| match old.next() {
            Some(old) => select(&moved, new, &old),
            None => new,
        });
        batch.memory = differences.collect();
        Ok(())
    }
}

/// Where one row is.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    /// The places that slopes are known at, the last first.
    places: Vec<f64>,
    /// Of its next predictor.
    order: usize,
    /// Of its next step.
    length: f64,
}

/// What a step's formulas are made of.
#[derive(Clone, Debug)]
struct Integrals {
    /// `∫ Π_j dp` for `j` up to the order.
    products: Vec<f64>,
    /// `∫ (p − p_{n+1}) Π_{κ−1} dp` at `κ` up to the order and one more, 0 at 0.
    lacks: Vec<f64>,
}

impl UnderWay for Row {
    fn place(&self) -> f64 {
        self.places[0]
    }

    fn length(&self) -> f64 {
        self.length
    }
}

impl Row {
    /// Where its next step ends. The last two are of one length, rather than the last of next to none.
    fn aim(&self, to: f64) -> f64 {
        let (from, left) = (self.places[0], (to - self.places[0]).abs());
        if self.length * (1.0 + 1e-9) >= left { to } else { from + self.length.min(0.5 * left).copysign(to - from) }
    }

    /// Whether there are slopes for a corrector of this order and one more.
    fn may_be(&self, order: usize) -> bool {
        (1..=self.places.len()).contains(&order)
    }

    fn integrals(&self, target: f64) -> Integrals {
        let (from, h) = (self.places[0], target - self.places[0]);
        let (mut products, mut lacks) = (vec![0.0; self.order + 1], vec![0.0; self.order + 2]);
        for (node, weight) in GAUSS_LEGENDRE {
            for node in [node, -node] {
                // The node in the middle counts once.
                let (p, weight) = (from + 0.5 * (1.0 + node) * h, 0.5 * h * if node == 0.0 { 0.5 * weight } else { weight });
                let mut product = weight;
                for j in 0..=self.order {
                    products[j] += product;
                    lacks[j + 1] += product * (p - target);
                    product *= self.places.get(j).map_or(0.0, |place| p - place);
                }
            }
        }
        Integrals { products, lacks }
    }

    /// Whether it takes the step to `target`, given `E_{k−1}`, `E_k`, `E_{k+1}`; either way, how it goes on.
    fn decide(&mut self, target: f64, [below, here, above]: [f64; 3], max_order: usize) -> bool {
        let k = self.order;
        let length = (target - self.places[0]).abs();
        let factor =
            |order: usize, size: f64| if size.is_nan() { 0.0 } else { SAFETY * (size + 1e-12).powf(-1.0 / (order + 1) as f64) };
        let accepted = here <= 1.0;
        if !accepted {
            if below < here {
                self.order = k - 1;
            }
            self.length = length * factor(k, here).clamp(SHRINK, SAFETY);
            return false;
        }
        // With too few slopes to tell, orders rise.
        let rises = !self.may_be(k + 1) && here <= below;
        let mut best = (k, factor(k, here));
        for (order, size) in [(k.wrapping_sub(1), below), (k + 1, above)] {
            if size.is_finite() && order <= max_order && factor(order, size) > best.1 {
                best = (order, factor(order, size));
            }
        }
        if rises && k < max_order {
            best.0 = k + 1;
        }
        self.places.insert(0, target);
        self.places.truncate(k + 2);
        self.order = best.0;
        self.length = length * best.1.clamp(SHRINK, GROW);
        true
    }
}

/// Half of the nodes of the seven on `[−1, 1]`, and their weights: exact to degree 13.
const GAUSS_LEGENDRE: [(f64, f64); 4] = [
    (0.0, 0.417_959_183_673_469_4),
    (0.405_845_151_377_397_2, 0.381_830_050_505_118_7),
    (0.741_531_185_599_394_4, 0.279_705_391_489_276_7),
    (0.949_107_912_342_758_5, 0.129_484_966_168_869_7),
];

#[cfg(test)]
mod tests {
    use super::super::initial_value::tests::{largest_error, slopes, start};
    use super::*;

    fn walk(method: &VariableAdams, from: Tensor, ends: (f64, f64), slope: &mut Slope<'_>) -> Tensor {
        method.run(from, ends, ("test", &[0..1, 1..2]), slope).unwrap()
    }

    /// Divided differences of `p^m` at the places, the first of them.
    fn difference(places: &[f64], m: i32) -> f64 {
        match places {
            [place] => place.powi(m),
            [first, .., last] => (difference(&places[..places.len() - 1], m) - difference(&places[1..], m)) / (first - last),
            [] => unreachable!("places are never none"),
        }
    }

    #[test]
    fn polynomials_of_as_many_places_are_integrated_exactly_and_what_a_lower_order_lacks_is_told() {
        let places = vec![1.3, 1.05, 0.7, 0.6, 0.1, -0.2];
        for (order, target) in [(1, 1.6), (3, 1.2), (5, 1.9), (6, 2.4)] {
            let row = Row { places: places.clone(), order, length: 1.0 };
            let Integrals { products, lacks } = row.integrals(target);
            let with_new: Vec<f64> = std::iter::once(target).chain(places.iter().copied()).collect();
            for m in 0..=6 {
                let exact = (target.powi(m + 1) - places[0].powi(m + 1)) / f64::from(m + 1);
                let predictor = |order: usize| (0..order).map(|j| difference(&places[..=j], m) * products[j]).sum::<f64>();
                let corrector = |past: usize| predictor(past) + difference(&with_new[..=past], m) * products[past];
                if m < order as i32 {
                    assert!((predictor(order) - exact).abs() < 1e-12, "p^{m} by order {order}");
                }
                if m <= order as i32 {
                    assert!((corrector(order) - exact).abs() < 1e-12, "p^{m} by the corrector of order {}", order + 1);
                }
                let lack = corrector(order) - corrector(order - 1);
                let told = difference(&with_new[..=order], m) * lacks[order];
                assert!((lack - told).abs() < 1e-12 * (1.0 + lack.abs()), "p^{m}, order {order}: {lack} and {told}");
            }
        }
    }

    #[test]
    fn rows_go_at_their_own_pace_and_meet_the_tolerance_forwards_and_backwards() {
        for tolerance in [1e-4, 1e-7, 1e-10] {
            let method = VariableAdams { rtol: tolerance, atol: tolerance, ..VariableAdams::default() };
            let mut asked = Vec::new();
            let mut counting = |y: &Tensor, places: &[f64], rows: &[usize], weighs: bool| {
                asked.push(rows.len());
                slopes(y, places, rows, weighs)
            };
            let end = walk(&method, start(), (0.0, 3.0), &mut counting);
            assert!(largest_error(&end) < 50.0 * 10.0 * tolerance, "at {tolerance:e}: {}", largest_error(&end));
            assert!(asked.first() == Some(&3) && asked.last() < Some(&3), "{asked:?}");
            let back = walk(&method, end, (3.0, 0.0), &mut slopes);
            let difference = (&back - &start()).abs().max_all().item();
            assert!(difference < 50.0 * 200.0 * tolerance, "at {tolerance:e}: {difference:e}");
            // A row alone takes the same steps.
            let alone = walk(&method, start().slice(0, 1..2), (0.0, 3.0), &mut slopes);
            let whole = walk(&method, start(), (0.0, 3.0), &mut slopes);
            assert_eq!(alone.to_vec::<f64>(), whole.slice(0, 1..2).to_vec::<f64>());
        }
    }

    #[test]
    fn a_tolerance_of_the_batch_has_steps_that_all_rows_take_together() {
        let method = VariableAdams { per: Per::Batch, ..VariableAdams::default() };
        let mut asked = Vec::new();
        let mut recording = |y: &Tensor, places: &[f64], rows: &[usize], weighs: bool| {
            asked.push(places.to_vec());
            slopes(y, places, rows, weighs)
        };
        let end = walk(&method, start(), (0.0, 3.0), &mut recording);
        assert!(largest_error(&end) < 1e-4, "{}", largest_error(&end));
        assert!(asked.len() > 20 && asked.iter().all(|places| places.len() == 3 && places.iter().all(|p| *p == places[0])));
    }

    #[test]
    fn higher_orders_take_fewer_steps() {
        let steps = |max_order: usize| {
            let method = VariableAdams { rtol: 1e-9, atol: 1e-9, max_order, ..VariableAdams::default() };
            let mut asked = 0;
            let mut counting = |y: &Tensor, places: &[f64], rows: &[usize], weighs: bool| {
                asked += 1;
                slopes(y, places, rows, weighs)
            };
            let end = walk(&method, start(), (0.0, 3.0), &mut counting);
            assert!(largest_error(&end) < 1e-5, "order {max_order}: {}", largest_error(&end));
            asked
        };
        let found = [2, 4, 8, 12].map(steps);
        assert!(found[0] > 4 * found[1] && 2 * found[1] > 3 * found[2] && found[2] >= found[3], "{found:?}");
    }
}
