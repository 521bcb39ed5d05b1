//! What can go wrong between a configuration and a finished sample.

use fokker_sde::SdeError;

/// Why a grid, a solver or a run is not possible, or how a run ended early.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SolveError {
    /// The time grid makes no sense.
    #[error("time grid: {0}")]
    Grid(String),
    /// A number of a configuration makes no sense.
    #[error("{what} `{kind}`: field `{field}`: expected {expected}")]
    Config {
        /// What is configured: `solver`, `grid` or `sampler` for example.
        what: &'static str,
        /// Which of them.
        kind: &'static str,
        /// The field.
        field: &'static str,
        /// What it must be, and what was found.
        expected: String,
    },
    /// The process itself is misconfigured.
    #[error(transparent)]
    Sde(#[from] SdeError),
    /// The solver cannot take this process or grid; the text says what to use instead.
    #[error("solver `{solver}`: {reason}")]
    Unsupported {
        /// The solver.
        solver: &'static str,
        /// Why not, and what to use instead.
        reason: String,
    },
    /// A NaN or an infinity appeared.
    #[error("step {step} of {total} (t = {t}): {what} is not finite{hint}")]
    NotFinite {
        /// The step, counted from 1.
        step: usize,
        /// The number of steps.
        total: usize,
        /// The time of the evaluation.
        t: f64,
        /// What was not finite: the model's answer or the state.
        what: &'static str,
        /// What may be behind it.
        hint: &'static str,
    },
    /// A NaN or an infinity appeared in one sample, in a computation where each has a time of its own.
    #[error("sample {sample} (t = {t}, s = {s}): {what} is not finite{hint}")]
    NotFiniteSample {
        /// The number of the sample.
        sample: u64,
        /// The time of the evaluation.
        t: f64,
        /// Its place on the way, see [`Likelihood`](crate::Likelihood).
        s: f64,
        /// What was not finite.
        what: &'static str,
        /// What may be behind it.
        hint: &'static str,
    },
    /// A solver with step control made no headway.
    #[error(
        "solver `{solver}`: gave up after {steps} steps at t = {t} (the next would be {length:e} long); \
         use larger tolerances, a solver with fixed steps, or a larger max_steps"
    )]
    TooManySteps {
        /// The solver.
        solver: &'static str,
        /// The steps made, rejected ones included.
        steps: usize,
        /// The time of a sample that is not at the end.
        t: f64,
        /// The length of its next step, in the solver's variable.
        length: f64,
    },
}
