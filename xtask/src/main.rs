//! Development tasks of the workspace: `cargo xtask data|snapshots|tidy|ci|bench|solvers`.
//!
//! Nothing here links a crate of the workspace, so that the tasks build quickly and run even when the
//! crates do not compile. Exit codes: 0 done, 1 the task failed or found something, 2 wrong usage.

mod ci;
mod data;
mod run;
mod snapshots;
mod tidy;

use clap::{Parser, Subcommand};
use std::fmt::Display;
use std::process::ExitCode;

/// Why a task ended early. The message is complete: it names the file or step and what was expected.
#[derive(Debug)]
enum Failure {
    /// The task could not be done or found something wrong: exit code 1.
    Failed(String),
    /// The command line asks for something that does not exist: exit code 2.
    Usage(String),
}

impl Failure {
    fn new(message: impl Display) -> Self {
        Self::Failed(message.to_string())
    }
}

/// The result of a task.
type Outcome<T = ()> = Result<T, Failure>;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Development tasks of the fokker workspace")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch a data set into data/NAME, verified; run again to verify what is there
    Data(data::Args),
    /// Compare the trajectory snapshots with what the code gives now, in numbers
    Snapshots(snapshots::Args),
    /// Check layout, style and dependency rules over the files git tracks
    Tidy,
    /// Run what a change has to pass: format, tidy, lints, tests, documentation
    Ci(ci::Args),
    /// Run the workload benchmarks of the conformance package
    Bench(ci::BenchArgs),
    /// Measure every solver and write docs/solvers.md and its picture
    Solvers(ci::SolversArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Data(args) => data::run(&args),
        Task::Snapshots(args) => snapshots::run(&args),
        Task::Tidy => tidy::run(),
        Task::Ci(args) => ci::run(&args),
        Task::Bench(args) => ci::bench(&args),
        Task::Solvers(args) => ci::solvers(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}
