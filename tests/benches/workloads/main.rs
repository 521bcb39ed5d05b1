//! Whole workloads, side by side with other libraries where asked; how time grows; how near single operations come to the machine's peak.
//!
//! ```text
//! cargo xtask bench                                       ours
//! cargo xtask bench --peers PYTHON                        ours, PyTorch's, candle's and burn's in turn, with ratios
//! cargo xtask bench --peers PYTHON --peer pytorch         only PyTorch's three settings; `--peer candle burn` needs no Python
//! cargo xtask bench --workload mlp-train --threads 1 --json
//! cargo xtask bench --scale batch width --peers PYTHON    how the U-Net's time grows, ours and PyTorch's
//! cargo xtask bench --roofline                            writes docs/roofline.md and its picture
//! cargo xtask bench --workload overhead                   what solvers cost beside the model
//! ```
//!
//! Every measurement is made in a process of its own, so its peak memory is its own, and the programs take turns in every round, so that a
//! busy moment hits all. `PYTHON` is an interpreter with the packages of `tests/reference/requirements.txt`; candle's and burn's programs
//! are built from `tests/reference/bench/rust` when they are first asked for. The workloads are those of `tests/reference/bench/peers.py`, whose
//! networks have the same number of parameters; `train` is forward, mean squared error, backward and AdamW.

mod calls;
mod compare;
mod likelihood;
mod overhead;
mod programs;
mod roofline;
mod scale;

use std::process::Command;
use std::time::Instant;

use calls::{Sizes, WORKLOADS, call};
use clap::{Args, Parser};
use programs::{Program, parse};
use serde::Serialize;

#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    about = "Whole workloads, side by side with other libraries where asked"
)]
struct Arguments {
    /// Only these workloads.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    workload: Vec<String>,
    #[command(flatten)]
    how: How,
    /// Print JSON instead of tables, one line for each workload or point.
    #[arg(long)]
    json: bool,
    /// Other libraries too, PyTorch's by this Python.
    #[arg(long, value_name = "PYTHON", num_args = 0..=1, default_missing_value = "python3")]
    peers: Option<String>,
    /// Only these of the other libraries, or those whose names begin so.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    peer: Vec<String>,
    /// How the MNIST U-Net's time grows along these axes: batch, side, width, threads; without a name along all.
    #[arg(long, value_name = "AXIS", num_args = 0.., conflicts_with = "workload")]
    scale: Option<Vec<String>>,
    /// Measure the machine and single operations, and write docs/roofline.md and its picture.
    #[arg(long, conflicts_with_all = ["workload", "scale", "peers", "peer"])]
    roofline: bool,
    /// Measure one workload here and print its JSON: how this program calls itself.
    #[arg(long, hide = true)]
    here: Option<String>,
    #[command(flatten)]
    sizes: Sizes,
    /// What cargo says to benchmarks.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How to measure.
#[derive(Args, Clone)]
struct How {
    /// Calls timed in each round.
    #[arg(long, default_value_t = 10)]
    reps: usize,
    /// Seconds after which a round times no further call.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Rounds: each is a process of its own.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Threads of all programs.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    if let Some(workload) = &arguments.here {
        return here(workload, &arguments);
    }
    if arguments.roofline {
        return roofline::run(&arguments);
    }
    let peers = programs::wanted(&arguments)?;
    peers.iter().try_for_each(Program::prepare)?;
    if let Some(axes) = &arguments.scale {
        return scale::run(axes, &peers, &arguments);
    }
    let wanted: Vec<&str> =
        if arguments.workload.is_empty() { WORKLOADS.to_vec() } else { arguments.workload.iter().map(String::as_str).collect() };
    if let Some(unknown) = wanted.iter().find(|w| !WORKLOADS.contains(w)) {
        return Err(format!("--workload {unknown}: expected one of {}", WORKLOADS.join(", ")).into());
    }
    for workload in wanted {
        match workload {
            "overhead" => solver_overhead(&arguments)?,
            _ => compare::run(workload, &peers, &arguments)?,
        }
    }
    Ok(())
}

/// One measurement in this process.
fn here(workload: &str, arguments: &Arguments) -> Result<(), Failure> {
    let How { reps, seconds, threads, .. } = arguments.how;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    // On one of the pool's threads, as the program does: work handed over from another thread waits for one to wake up.
    match workload {
        "overhead" => print_json(&rayon::scope(|_| overhead::measure(reps))),
        "roofline" => print_json(&rayon::scope(|_| roofline::measure(threads))),
        _ => {
            let measured = rayon::scope(|_| measure(workload, &arguments.sizes, reps, seconds).map_err(|e| e.to_string()))?;
            print_json(&measured)
        }
    }
}

fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// What solvers cost beside the model, on one thread.
fn solver_overhead(arguments: &Arguments) -> Result<(), Failure> {
    let reps = (arguments.how.reps * arguments.how.rounds).to_string();
    let options = ["--here", "overhead", "--reps", &reps, "--threads", "1"];
    let measured = parse(&Command::new(std::env::current_exe()?).args(options).output()?)?;
    if arguments.json {
        return print_json(&measured);
    }
    overhead::print(&measured);
    Ok(())
}

/// Peak resident memory of this process, in MB; 0 where the system does not tell.
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap_or(0.0) / 1024.0
}

/// Pages that this process touched for the first time so far, where the system tells.
fn page_faults() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name, which may hold anything: state, parent, group, session, terminal, its group, flags, then these.
    stat.rsplit(')').next()?.split_whitespace().nth(7)?.parse().ok()
}

fn measure(workload: &str, sizes: &Sizes, reps: usize, seconds: f64) -> Result<compare::Measured, Failure> {
    let mut call = call(workload, sizes)?;
    let warm_up = match workload.split('-').next_back() {
        Some("sample" | "likelihood") => 1,
        _ if workload.starts_with("mlp") => 10,
        _ => 2,
    };
    (0..warm_up).for_each(|_| call());
    let begin = Instant::now();
    let mut ms_all = Vec::with_capacity(reps);
    let faults = page_faults();
    while ms_all.is_empty() || (ms_all.len() < reps && begin.elapsed().as_secs_f64() < seconds) {
        let started = Instant::now();
        call();
        ms_all.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let page_faults = page_faults().zip(faults).map(|(after, before)| (after - before) / ms_all.len() as f64);
    let peak_rss_mb = peak_rss_mb();
    let accuracy = if workload == likelihood::WORKLOAD { Some(likelihood::accuracy()?) } else { None };
    Ok(compare::Measured { ms_all, peak_rss_mb, page_faults, accuracy })
}
