//! `fokker`: train score-based generative models on your data and sample from them.

mod failure;
mod info;
mod list;
mod plot;
mod preview;
mod print;
mod progress;
mod sample;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Train score-based generative models (diffusion models) and sample from them.
#[derive(Parser)]
#[command(name = "fokker", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Start with:  fokker train glyphs\nThen:        fokker sample runs/glyphs --class 7 --movie seven.gif")]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// Number of threads [default: one per core]. Results have the same bits for any number.
    #[arg(long, global = true, value_name = "N")]
    threads: Option<std::num::NonZeroUsize>,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model from a recipe or a TOML file; writes a run's folder.
    Train(train::Train),
    /// Draw samples from a trained model.
    Sample(sample::Sample),
    /// Draw a picture of a data set.
    Preview(preview::Preview),
    /// List recipes, data sets, processes, solvers or time grids.
    List(list::List),
    /// Describe a run or a model's file.
    Info(info::Info),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = start_threads(arguments.threads).and_then(|()| match arguments.command {
        Command::Train(command) => command.run(),
        Command::Sample(command) => command.run(),
        Command::Preview(command) => command.run(),
        Command::List(command) => command.run(),
        Command::Info(command) => command.run(),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn start_threads(threads: Option<std::num::NonZeroUsize>) -> Result<(), Failure> {
    let Some(threads) = threads else { return Ok(()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global();
    pool.map_err(|e| Failure::usage(format!("--threads {threads}: {e}")))
}
