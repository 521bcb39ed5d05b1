//! How commands fail: one line on standard error and an exit code.

use std::process::ExitCode;

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
        eprintln!("error: {}", self.message);
        ExitCode::from(self.code)
    }
}

macro_rules! from_errors {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::failed(error.to_string())
            }
        })*
    };
}

from_errors!(fokker_data::DataError, fokker_models::ModelError, fokker_solve::SolveError, fokker_sde::SdeError);

impl From<fokker_train::TrainError> for Failure {
    fn from(error: fokker_train::TrainError) -> Failure {
        match &error {
            fokker_train::TrainError::Config { .. } => Failure::usage(error.to_string()),
            _ => Failure::failed(error.to_string()),
        }
    }
}

impl Failure {
    /// For callbacks of the training loop, whose failures are the run's.
    pub(crate) fn into_train_error(self) -> fokker_train::TrainError {
        fokker_train::TrainError::Callback { message: self.message }
    }
}
