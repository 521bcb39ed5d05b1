//! How commands fail: one line on standard error and an exit code.

use std::process::ExitCode;

use fokker_data::DataError;
use fokker_metrics::MetricError;
use fokker_models::ModelError;
use fokker_solve::SolveError;
use fokker_train::TrainError;

/// A command that could not do what was asked.
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// What was asked for makes no sense: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), code: 2 }
    }

    /// It could not be done: exit code 1.
    pub(crate) fn failed(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), code: 1 }
    }

    pub(crate) fn report(self) -> ExitCode {
        crate::print::error(format_args!("error: {}", self.message));
        ExitCode::from(self.code)
    }
}

/// What is wrong with a setting is a matter of usage; what is wrong with a file or a number on the way is not.
macro_rules! from_errors {
    ($($error:ident: $usage:pat,)*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure { code: if matches!(error, $usage) { 2 } else { 1 }, message: error.to_string() }
            }
        })*
    };
}

from_errors! {
    DataError: DataError::Config { .. },
    MetricError: MetricError::Config { .. },
    ModelError: ModelError::Config { .. } | ModelError::Sde(_),
    SolveError: SolveError::Config { .. } | SolveError::Grid(_) | SolveError::Sde(_) | SolveError::Unsupported { .. },
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Failure {
        match error {
            TrainError::Data(error) => error.into(),
            TrainError::Model(error) => error.into(),
            TrainError::Solve(error) => error.into(),
            TrainError::Metric(error) => error.into(),
            TrainError::Config { .. } => Failure::usage(error.to_string()),
            _ => Failure::failed(error.to_string()),
        }
    }
}

impl Failure {
    /// For callbacks of the training loop, whose failures are the run's.
    pub(crate) fn into_train_error(self) -> TrainError {
        TrainError::Callback { message: self.message }
    }
}
