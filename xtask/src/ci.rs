//! `cargo xtask ci`, `cargo xtask bench` and `cargo xtask solvers`.

use crate::{Failure, Outcome, run, tidy};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Arguments of `cargo xtask ci`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out the documentation, and the documentation's examples among the tests
    #[arg(long)]
    fast: bool,
    /// Leave out the tests
    #[arg(long)]
    lints: bool,
}

/// Arguments of `cargo xtask bench`, which the benchmark explains itself.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct BenchArgs {
    /// Passed on to the benchmark
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Arguments of `cargo xtask solvers`.
#[derive(clap::Args)]
pub(crate) struct SolversArgs {
    /// Passed on to the program: `--check` writes nothing and fails if the page is not what the code gives
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// One thing a change has to pass.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Format,
    Tidy,
    Clippy,
    Tests { examples: bool },
    Documentation,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Tidy => "tidy",
            Self::Clippy => "clippy",
            Self::Tests { .. } => "tests",
            Self::Documentation => "documentation",
        }
    }

    fn run(self, root: &Path) -> Outcome<bool> {
        let cargo = |args: &[&str]| run::cargo(root, args);
        match self {
            Self::Format => format(root),
            Self::Tidy => match tidy::run() {
                Ok(()) => Ok(true),
                Err(Failure::Failed(message)) => {
                    eprintln!("error: {message}");
                    Ok(false)
                }
                Err(other) => Err(other),
            },
            Self::Clippy => run::succeeds(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
            Self::Tests { examples: true } => run::succeeds(&mut cargo(&["test", "--workspace"])),
            Self::Tests { examples: false } => run::succeeds(&mut cargo(&["test", "--workspace", "--lib", "--bins", "--tests"])),
            Self::Documentation => run::succeeds(cargo(&["doc", "--no-deps", "--workspace"]).env("RUSTDOCFLAGS", "-D warnings")),
        }
    }
}

/// The steps in the order in which they are likely to fail soon.
fn steps(args: &Args) -> Vec<Step> {
    let mut steps = vec![Step::Format, Step::Tidy, Step::Clippy];
    if !args.lints {
        steps.push(Step::Tests { examples: !args.fast });
    }
    if !args.fast {
        steps.push(Step::Documentation);
    }
    steps
}

/// Runs the steps up to the first that fails and says how long each took.
pub(crate) fn run(args: &Args) -> Outcome {
    let root = run::workspace_root()?;
    let steps = steps(args);
    let mut summary = String::new();
    let mut failed = None;
    for &step in &steps {
        println!("==> {}", step.name());
        let start = Instant::now();
        let passed = step.run(&root)?;
        summary.push_str(&line(step.name(), if passed { "passed" } else { "FAILED" }, Some(start.elapsed())));
        if !passed {
            failed = Some(step);
            break;
        }
    }
    let done = summary.lines().count();
    for step in &steps[done..] {
        summary.push_str(&line(step.name(), "not run", None));
    }
    println!("\n{summary}");
    match failed {
        None => Ok(()),
        Some(step) => Err(Failure::new(format!("{} failed", step.name()))),
    }
}

/// Checks the format of every tracked source file.
///
/// `cargo fmt` follows `mod` declarations from each crate's root and so misses the modules that macros declare.
fn format(root: &Path) -> Outcome<bool> {
    let files = run::tracked_files(root)?;
    let sources = files.iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    run::succeeds(Command::new("rustfmt").args(["--check", "--edition", EDITION]).args(sources).current_dir(root))
}

/// The edition in the workspace's Cargo.toml, which rustfmt does not read.
const EDITION: &str = "2024";

/// A line of the summary.
fn line(name: &str, result: &str, time: Option<Duration>) -> String {
    let time = time.map_or(String::new(), |time| format!("{:7.1} s", time.as_secs_f64()));
    format!("{name:14} {result:8} {time}").trim_end().to_owned() + "\n"
}

/// Runs the workload benchmark.
pub(crate) fn bench(args: &BenchArgs) -> Outcome {
    let root = run::workspace_root()?;
    let mut command = run::cargo(&root, &["bench", "--package", "conformance", "--bench", "workloads", "--"]);
    if run::succeeds(command.args(&args.args))? { Ok(()) } else { Err(Failure::new("the benchmark failed")) }
}

/// Writes the page of solvers.
pub(crate) fn solvers(args: &SolversArgs) -> Outcome {
    let root = run::workspace_root()?;
    let mut command = run::cargo(&root, &["run", "--release", "--package", "conformance", "--example", "solvers", "--"]);
    if run::succeeds(command.args(&args.args))? { Ok(()) } else { Err(Failure::new("the page of solvers was not made")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(fast: bool, lints: bool) -> Vec<&'static str> {
        steps(&Args { fast, lints }).into_iter().map(Step::name).collect()
    }

    #[test]
    fn each_mode_has_its_steps() {
        assert_eq!(names(false, false), ["format", "tidy", "clippy", "tests", "documentation"]);
        assert_eq!(names(false, true), ["format", "tidy", "clippy", "documentation"]);
        assert_eq!(names(true, false), ["format", "tidy", "clippy", "tests"]);
        assert_eq!(names(true, true), ["format", "tidy", "clippy"]);
    }

    #[test]
    fn only_the_full_run_tests_the_documentation_examples() {
        assert!(steps(&Args { fast: false, lints: false }).contains(&Step::Tests { examples: true }));
        assert!(steps(&Args { fast: true, lints: false }).contains(&Step::Tests { examples: false }));
    }

    #[test]
    fn the_edition_is_the_workspaces() {
        let manifest = std::fs::read_to_string("../Cargo.toml").unwrap();
        assert!(manifest.contains(&format!("edition = \"{EDITION}\"")));
    }

    #[test]
    fn the_summary_lines_up_and_ends_without_spaces() {
        assert_eq!(line("clippy", "passed", Some(Duration::from_millis(12_340))), "clippy         passed      12.3 s\n");
        assert_eq!(line("tests", "not run", None), "tests          not run\n");
    }
}
