//! `N` of the steps `k = 0 … T − 1` of a ladder, `i = 0 … N − 1` from noise to data:
//!
//! ```text
//! leading:   k_i = (N − 1 − i) ⌊T/N⌋ + offset
//! trailing:  k_i = round(T − i T/N) − 1
//! linspace:  k_i = round((1 − i/(N−1)) (T − 1))
//! ```

use fokker_sde::Sde;
use serde::{Deserialize, Serialize};

use super::Space;
use crate::error::SolveError;

/// Which steps of the ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Picking {
    /// Multiples of `⌊T/N⌋` from the data on. The last step of the ladder, pure noise, is left out: DDIM, DDPM.
    Leading,
    /// Multiples of `T/N` from the noise on: what Lin et al. recommend, since training and sampling then start alike.
    #[default]
    Trailing,
    /// Both ends and equal distances: iDDPM.
    Linspace,
}

/// Times of a ladder of `T` steps, for models that were trained on one: Lin et al. 2024 (arXiv:2305.08891), table 2.
///
/// Step `k` is the time `t_end (k + 1)/T`, where `t_end` is the end of the span. The ends of the grid follow from the ladder:
/// `t_min` and `t_max` may not be given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Discrete {
    /// The number of steps `T` of the ladder, default 1000.
    pub ladder: usize,
    /// Which of them, default trailing.
    pub picking: Picking,
    /// Added to each `k` of the leading ones, default 0; Stable Diffusion uses 1.
    pub offset: usize,
}

impl Default for Discrete {
    fn default() -> Self {
        Self { ladder: 1000, picking: Picking::default(), offset: 0 }
    }
}

impl Discrete {
    /// The steps of the ladder, decreasing. `points` is at least 1 and at most `T`.
    fn picked(&self, points: usize) -> Vec<usize> {
        let ladder = self.ladder as f64;
        let pick = |i: usize| match self.picking {
            Picking::Leading => (points - 1 - i) * (self.ladder / points) + self.offset,
            Picking::Trailing => (ladder - i as f64 * (ladder / points as f64)).round_ties_even() as usize - 1,
            Picking::Linspace if points == 1 => 0,
            Picking::Linspace => ((points - 1 - i) as f64 * ((ladder - 1.0) / (points - 1) as f64)).round_ties_even() as usize,
        };
        (0..points).map(pick).collect()
    }
}

impl Space for Discrete {
    fn times(&self, sde: &dyn Sde, _t_max: f64, _t_min: f64, points: usize) -> Result<Vec<f64>, SolveError> {
        if points > self.ladder {
            return Err(SolveError::Grid(format!(
                "spacing `{}` has a ladder of {} steps and cannot make {points} times of them; use fewer steps or spacing `uniform`",
                Self::KIND,
                self.ladder
            )));
        }
        let picked = self.picked(points);
        if picked[0] >= self.ladder {
            return Err(SolveError::Config {
                what: "grid",
                kind: Self::KIND,
                field: "offset",
                expected: format!(
                    "at most {} for {points} times, found {}",
                    self.ladder - 1 - (picked[0] - self.offset),
                    self.offset
                ),
            });
        }
        let end = sde.span().1;
        Ok(picked.iter().map(|&k| end * ((k + 1) as f64 / self.ladder as f64)).collect())
    }

    fn check(&self) -> Result<(), SolveError> {
        let bad = |field, expected| Err(SolveError::Config { what: "grid", kind: Self::KIND, field, expected });
        if self.ladder == 0 {
            return bad("ladder", "at least 1, found 0".to_owned());
        }
        if self.offset > 0 && self.picking != Picking::Leading {
            return bad("offset", format!("0 unless picking is `leading`, found {}", self.offset));
        }
        Ok(())
    }

    fn own_ends(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_of_a_thousand_steps_are_those_of_table_2_of_lin_et_al() {
        let picked = |picking| Discrete { picking, ..Discrete::default() }.picked(10);
        // Their steps count from 1.
        let plus_one = |steps: Vec<usize>| steps.iter().map(|k| k + 1).collect::<Vec<_>>();
        assert_eq!(plus_one(picked(Picking::Leading)), [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]);
        assert_eq!(plus_one(picked(Picking::Linspace)), [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1]);
        assert_eq!(plus_one(picked(Picking::Trailing)), [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100]);
        let stable_diffusion = Discrete { picking: Picking::Leading, offset: 1, ..Discrete::default() };
        assert_eq!(stable_diffusion.picked(50)[..2], [981, 961]);
        // Halves are rounded to even, as NumPy does: 1000 − 125 i has none, 999/6 i = 166.5 i has.
        assert_eq!(picked_of(Picking::Linspace, 7), [999, 832, 666, 500, 333, 166, 0]);
    }

    fn picked_of(picking: Picking, points: usize) -> Vec<usize> {
        Discrete { picking, ..Discrete::default() }.picked(points)
    }
}
