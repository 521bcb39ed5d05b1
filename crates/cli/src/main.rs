//! `fokker`: train score-based generative models on your data and sample from them.

mod chart;
mod compare;
mod completions;
mod density;
mod encode;
mod evaluate;
mod failure;
mod features;
mod fit_grid;
mod histogram;
mod inspect;
mod interpolate;
mod likelihood;
mod list;
mod method;
mod movie;
mod plot;
mod preview;
mod print;
mod progress;
mod recipes;
mod report;
mod rows;
mod sample;
mod space;
mod table;
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

    /// Say nothing but errors and what was asked for.
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model from a recipe or a TOML file; writes a run's folder.
    Train(train::Train),
    /// Draw samples from a trained model.
    Sample(sample::Sample),
    /// Take data back to the noise it comes from, and say how exactly it returns.
    Encode(encode::Encode),
    /// Walk from one sample to another through the noise that they come from.
    Interpolate(interpolate::Interpolate),
    /// Compute how likely data are under a model: exact log-densities.
    Likelihood(likelihood::Likelihood),
    /// Measure every way of sampling a model: quality, coverage and speed.
    Evaluate(evaluate::Evaluate),
    /// Fit the times of a solver with few steps to a model.
    FitGrid(fit_grid::FitGrid),
    /// Train a feature space for metrics of images, or take images there.
    Features(features::Features),
    /// Draw a picture of a data set.
    Preview(preview::Preview),
    /// List recipes, data sets, processes, networks, solvers, time grids or metrics.
    List(list::List),
    /// Describe a run, a model's file or a file of features: configuration, progress, parameters.
    Inspect(inspect::Inspect),
    /// Print a recipe, to make one of your own.
    Recipes(recipes::Recipes),
    /// Print a shell's completion script.
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    print::set_quiet(arguments.quiet);
    // On one of the pool's threads: handing each operation over to the pool and waiting would cost more than many of them take.
    let result = start_threads(arguments.threads).and_then(|()| {
        rayon::scope(|_| match arguments.command {
            Command::Train(command) => command.run(),
            Command::Sample(command) => command.run(),
            Command::Encode(command) => command.run(),
            Command::Interpolate(command) => command.run(),
            Command::Likelihood(command) => command.run(),
            Command::Evaluate(command) => command.run(),
            Command::FitGrid(command) => command.run(),
            Command::Features(command) => command.run(),
            Command::Preview(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Inspect(command) => command.run(),
            Command::Recipes(command) => command.run(),
            Command::Completions(command) => command.run(),
        })
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
