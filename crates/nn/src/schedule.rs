//! Learning-rate schedules: a factor of the base rate as a function of the step.

use serde::{Deserialize, Serialize};

/// How the learning rate follows from the step, as a factor of the base rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// Linear warm-up, then 1.
    Constant {
        /// Steps of warm-up.
        #[serde(default)]
        warmup: u64,
    },
    /// Linear warm-up, then half a cosine down to `floor` at the last step (Loshchilov & Hutter 2017, eq. 5).
    Cosine {
        /// Steps of warm-up.
        #[serde(default)]
        warmup: u64,
        /// The factor at the end.
        #[serde(default)]
        floor: f64,
    },
    /// `1 / √max(step / reference, 1)` after linear warm-up (Karras et al. 2024, eq. 67).
    InverseSqrt {
        /// Steps of warm-up.
        #[serde(default)]
        warmup: u64,
        /// Steps at the full rate.
        reference: u64,
    },
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule::Constant { warmup: 0 }
    }
}

impl Schedule {
    /// The factor at `step` (0, 1, …) of `total`.
    pub fn factor(self, step: u64, total: u64) -> f64 {
        let rise = |warmup: u64| if step < warmup { (step + 1) as f64 / warmup as f64 } else { 1.0 };
        match self {
            Schedule::Constant { warmup } => rise(warmup),
            Schedule::Cosine { warmup, floor } if step >= warmup => {
                let span = total.saturating_sub(warmup + 1).max(1) as f64;
                let phase = ((step - warmup) as f64 / span).min(1.0);
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * phase).cos())
            }
            Schedule::Cosine { warmup, .. } => rise(warmup),
            Schedule::InverseSqrt { warmup, reference } => {
                rise(warmup) / ((step as f64 / reference.max(1) as f64).max(1.0)).sqrt()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_rises_linearly_to_one() {
        let s = Schedule::Constant { warmup: 4 };
        let factors: Vec<f64> = (0..6).map(|i| s.factor(i, 100)).collect();
        assert_eq!(factors, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn cosine_ends_at_its_floor() {
        let s = Schedule::Cosine { warmup: 2, floor: 0.1 };
        assert_eq!(s.factor(1, 103), 1.0);
        assert_eq!(s.factor(2, 103), 1.0);
        assert!((s.factor(52, 103) - 0.55).abs() < 1e-12);
        assert!((s.factor(102, 103) - 0.1).abs() < 1e-12);
        assert!((s.factor(500, 103) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn inverse_square_root_halves_at_four_times_the_reference() {
        let s = Schedule::InverseSqrt { warmup: 0, reference: 100 };
        assert_eq!(s.factor(50, 0), 1.0);
        assert_eq!(s.factor(400, 0), 0.5);
    }
}
