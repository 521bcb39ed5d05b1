//! The processes that tests go through, and comparisons.

#![allow(dead_code, reason = "each test program uses a part")]

use fokker_sde::{Betas, Discrete, Ladder, Polynomial, PolynomialFlow, Scaled, Scaling, Schedule, Sde, SdeConfig, Sigmoid};

/// A function of time.
pub(crate) type Function = fn(&dyn Sde, f64) -> f64;

/// Everything a process says of a time.
pub(crate) const FUNCTIONS: [(&str, Function); 7] = [
    ("alpha", |sde, t| sde.alpha(t)),
    ("sigma", |sde, t| sde.sigma(t)),
    ("d_alpha", |sde, t| sde.d_alpha(t)),
    ("d_sigma", |sde, t| sde.d_sigma(t)),
    ("log_snr", |sde, t| sde.log_snr(t)),
    ("drift", |sde, t| sde.drift(t)),
    ("diffusion_squared", |sde, t| sde.diffusion_squared(t)),
];

/// A ladder of discrete steps as a process.
pub(crate) fn ladder(steps: usize, betas: Betas, zero_terminal_snr: bool) -> Discrete {
    Discrete::new(Ladder { steps, zero_terminal_snr, betas }).unwrap()
}

/// Every schedule with every scaling.
pub(crate) fn scaled() -> Vec<Scaled> {
    let vp = Schedule::Vp { beta_min: 0.1, beta_max: 20.0 };
    let mut all = Vec::new();
    for schedule in [Schedule::Linear {}, Schedule::Ve {}, vp] {
        for scaling in [Scaling::None, Scaling::Vp] {
            all.push(Scaled { schedule, scaling, ..Scaled::default() });
        }
    }
    all
}

/// Every process with its default numbers, and variants of them that differ in more than numbers.
pub(crate) fn processes() -> Vec<SdeConfig> {
    let mut all = SdeConfig::all();
    all.extend(scaled().into_iter().map(SdeConfig::from));
    all.extend(Betas::all().into_iter().skip(1).map(|betas| ladder(1000, betas, false).into()));
    all.push(ladder(1000, Betas::default(), true).into());
    all.push(ladder(4, Betas::Array { values: vec![0.05, 0.2, 0.15, 0.6] }, false).into());
    all.push(ladder(3, Betas::Array { values: vec![0.02, 0.2, 0.6] }, true).into());
    all.push(Polynomial { exponent: 1.0, s: 0.0, ..Polynomial::default() }.into());
    all.push(Polynomial { exponent: 3.5, ..Polynomial::default() }.into());
    all.push(PolynomialFlow { exponent: 1.0, ..PolynomialFlow::default() }.into());
    all.push(PolynomialFlow { exponent: 2.5, ..PolynomialFlow::default() }.into());
    all.push(Sigmoid { start: 0.0, tau: 0.3, ..Sigmoid::default() }.into());
    all
}

/// The time a fraction `u` of the way through the span, on a logarithmic scale so that both ends are visited.
pub(crate) fn time(sde: &dyn Sde, u: f64) -> f64 {
    let (low, high) = sde.span();
    (low.ln() + u * (high.ln() - low.ln())).exp().clamp(low, high)
}

/// The times between `a` and `b` at which derivatives jump, increasing.
pub(crate) fn kinks(sde: &dyn Sde, a: f64, b: f64) -> Vec<f64> {
    let times = sde.ladder().map(Discrete::times).unwrap_or_default();
    times.into_iter().filter(|t| a < *t && *t < b).collect()
}

#[track_caller]
pub(crate) fn close(what: &str, sde: &dyn Sde, found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance * expected.abs().max(1e-300),
        "{what} of {sde:?}: {found:e}, expected {expected:e}"
    );
}
