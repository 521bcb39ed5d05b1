//! The variables `s` and `q` in which the flow of every process is the same: see the [module above](super).

use std::f64::consts::LN_2;

use fokker_sde::{Sde, Times};

/// The places `s` of a process, and its times.
pub(super) struct Angle<'a> {
    sde: &'a dyn Sde,
    /// The ends as times.
    pub(super) t: (f64, f64),
    /// The ends as places.
    pub(super) s: (f64, f64),
}

impl<'a> Angle<'a> {
    pub(super) fn new(sde: &'a dyn Sde, t: (f64, f64)) -> Self {
        Self { sde, t, s: (place(sde, t.0), place(sde, t.1)) }
    }

    /// The time at `s`; at the ends exactly theirs.
    pub(super) fn time(&self, s: f64) -> f64 {
        if s == self.s.0 {
            self.t.0
        } else if s == self.s.1 {
            self.t.1
        } else {
            self.sde.time_at_log_snr(2.0 * (-s).sinh().ln()).clamp(self.t.0, self.t.1)
        }
    }

    /// `s` at `q`; at the ends exactly theirs.
    pub(super) fn place(&self, q: f64) -> f64 {
        [self.s.0, self.s.1].into_iter().find(|&end| stretched(end) == q).unwrap_or_else(|| (q.sinh() / STRETCH).asinh())
    }

    pub(super) fn times(&self, s: &[f64]) -> Times {
        if s.iter().all(|other| *other == s[0]) {
            Times::Same(self.time(s[0]))
        } else {
            Times::Each(s.iter().map(|&s| self.time(s)).collect())
        }
    }

    /// `√(α² + σ²)`.
    pub(super) fn scale(&self, t: f64) -> f64 {
        self.sde.alpha(t).hypot(self.sde.sigma(t))
    }
}

/// `s`, from `α/σ = −sinh s`.
pub(crate) fn place(sde: &dyn Sde, t: f64) -> f64 {
    -(0.5 * sde.log_snr(t)).exp().asinh()
}

/// `K`: the noise level `σ/α` from which on `q` is no longer its logarithm.
pub(super) const STRETCH: f64 = 100.0;

/// `q` at `s`.
pub(super) fn stretched(s: f64) -> f64 {
    (STRETCH * s.sinh()).asinh()
}

/// `f` of each number, computed once for neighbours that are the same.
pub(super) fn each<T: Copy>(x: &[f64], f: impl Fn(f64) -> T) -> Vec<T> {
    let mut last: Option<(f64, T)> = None;
    let mut value = |x: f64| match last {
        Some((before, value)) if before == x => value,
        _ => last.insert((x, f(x))).1,
    };
    x.iter().map(|&x| value(x)).collect()
}

/// `ln cosh s`, for any `s`.
pub(super) fn ln_cosh(s: f64) -> f64 {
    s.abs() + (-2.0 * s.abs()).exp().ln_1p() - LN_2
}

#[cfg(test)]
mod tests {
    use super::*;
    use fokker_sde::SdeConfig;

    #[test]
    fn places_are_half_the_angles_and_lead_back_to_their_times() {
        for sde in SdeConfig::all() {
            let angle = Angle::new(&sde, sde.span());
            for i in 0..=20 {
                let s = angle.s.0 + (angle.s.1 - angle.s.0) * f64::from(i) / 20.0;
                let t = angle.time(s);
                let theta = sde.sigma(t).atan2(sde.alpha(t));
                assert!(((0.5 * theta).tan().ln() - s).abs() < 1e-8, "{} at s = {s}, t = {t}", sde.name());
                assert!((theta.cos() + s.tanh()).abs() < 1e-8 && (theta.sin() - 1.0 / s.cosh()).abs() < 1e-8);
                assert!((angle.place(stretched(s)) - s).abs() < 1e-12 * (1.0 + s.abs()), "{} at s = {s}", sde.name());
            }
        }
    }

    #[test]
    fn ln_cosh_is_that_for_small_and_large_numbers() {
        for s in [0.0, -1e-9, 0.3, -5.0, 20.0_f64] {
            assert!((ln_cosh(s) - s.cosh().ln()).abs() < 1e-15 * (1.0 + s.abs()), "{s}");
        }
        assert_eq!(ln_cosh(-1000.0), 1000.0 - LN_2);
    }
}
