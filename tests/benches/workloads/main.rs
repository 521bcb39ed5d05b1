//! Whole workloads, side by side with PyTorch where asked.
//!
//! ```text
//! cargo xtask bench                                   ours
//! cargo xtask bench --peers PYTHON                    ours and PyTorch's in turn, with ratios
//! cargo xtask bench --workload mlp-train --json
//! cargo xtask bench --workload overhead               what solvers cost beside the model
//! ```
//!
//! Every measurement is made in a process of its own, so its peak memory is its own, and with `--peers` the two programs take turns in
//! every round, so that a busy moment hits both. `PYTHON` is an interpreter with the packages of
//! `tests/reference/requirements.txt`. The workloads are those of `tests/reference/bench/peers.py`, whose networks have the same number
//! of parameters; `train` is forward, mean squared error, backward and AdamW.

mod calls;
mod overhead;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use calls::{WORKLOADS, call};
use clap::Parser;
use serde::{Deserialize, Serialize};

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Whole workloads, side by side with PyTorch where asked")]
struct Arguments {
    /// Only these workloads.
    #[arg(long, value_name = "NAME")]
    workload: Vec<String>,
    /// Calls timed in each round.
    #[arg(long, default_value_t = 10)]
    reps: usize,
    /// Rounds: each is a process of its own.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Threads of both programs.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Print one JSON line per workload.
    #[arg(long)]
    json: bool,
    /// A Python with PyTorch, to be measured in turn.
    #[arg(long, value_name = "PYTHON")]
    peers: Option<String>,
    /// Measure one workload here and print its JSON: how this program calls itself.
    #[arg(long, hide = true)]
    here: Option<String>,
    /// What cargo says to benchmarks.
    #[arg(long, hide = true)]
    bench: bool,
}

const SETTINGS: [&str; 3] = ["eager", "channels-last", "compile"];

/// One process's measurement.
#[derive(Serialize, Deserialize)]
struct Measured {
    ms_all: Vec<f64>,
    peak_rss_mb: f64,
}

/// All rounds of one program on one workload.
#[derive(Default, Serialize)]
struct Summary {
    program: String,
    ms_median: f64,
    ms_low: f64,
    ms_high: f64,
    peak_rss_mb: f64,
    #[serde(skip)]
    all: Vec<f64>,
}

impl Summary {
    fn add(&mut self, m: &Measured) {
        self.all.extend(&m.ms_all);
        self.peak_rss_mb = self.peak_rss_mb.max(m.peak_rss_mb);
    }

    /// The median, and the tenth and ninetieth percentile.
    fn close(&mut self) {
        self.all.sort_by(f64::total_cmp);
        let at = |q: f64| self.all[((self.all.len() - 1) as f64 * q).round() as usize];
        (self.ms_low, self.ms_median, self.ms_high) = (at(0.1), at(0.5), at(0.9));
    }
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    if let Some(workload) = &arguments.here {
        rayon_threads(arguments.threads)?;
        if workload == "overhead" {
            println!("{}", serde_json::to_string(&overhead::measure(arguments.reps))?);
            return Ok(());
        }
        // On one of the pool's threads, as the program does.
        let measured = rayon::scope(|_| measure(workload, arguments.reps).map_err(|e| e.to_string()))?;
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(());
    }
    let wanted: Vec<&str> =
        if arguments.workload.is_empty() { WORKLOADS.to_vec() } else { arguments.workload.iter().map(String::as_str).collect() };
    if let Some(unknown) = wanted.iter().find(|w| !WORKLOADS.contains(w)) {
        return Err(format!("--workload {unknown}: expected one of {}", WORKLOADS.join(", ")).into());
    }
    for workload in wanted {
        match workload {
            "overhead" => solver_overhead(&arguments)?,
            _ => compare(workload, &arguments)?,
        }
    }
    Ok(())
}

fn rayon_threads(threads: usize) -> Result<(), Failure> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?)
}

/// All rounds of a workload, ours and the peers' in turn.
fn compare(workload: &str, arguments: &Arguments) -> Result<(), Failure> {
    let images = workload.starts_with("mnist") || workload.starts_with("cifar");
    let settings: &[&str] = match &arguments.peers {
        None => &[],
        Some(_) if images => &SETTINGS,
        // Channels last means nothing for vectors.
        Some(_) => &["eager", "compile"],
    };
    // A call that draws samples is many calls of the network.
    let reps = if workload.ends_with("sample") { arguments.reps.div_ceil(10) } else { arguments.reps }.to_string();
    let mut ours = Summary { program: "fokker".into(), ..Summary::default() };
    let mut peers: Vec<Summary> =
        settings.iter().map(|s| Summary { program: format!("pytorch {s}"), ..Summary::default() }).collect();
    for _ in 0..arguments.rounds {
        let threads = arguments.threads.to_string();
        let own =
            Command::new(std::env::current_exe()?).args(["--here", workload, "--reps", &reps, "--threads", &threads]).output()?;
        ours.add(&parse::<Measured>(&own)?);
        for (setting, peer) in settings.iter().zip(&mut peers) {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/bench/peers.py");
            let python = arguments.peers.as_deref().unwrap_or("python3");
            let options = ["--workload", workload, "--setting", setting, "--reps", &reps, "--threads", &threads];
            peer.add(&parse::<Measured>(&Command::new(python).arg(script).args(options).output()?)?);
        }
    }
    ours.close();
    peers.iter_mut().for_each(Summary::close);
    let best = peers.iter().map(|p| p.ms_median).reduce(f64::min);
    if arguments.json {
        let ratio = best.map(|b| b / ours.ms_median);
        println!("{}", serde_json::json!({ "workload": workload, "ours": ours, "peers": peers, "best_peer_over_ours": ratio }));
        return Ok(());
    }
    println!("{workload}");
    for s in std::iter::once(&ours).chain(&peers) {
        println!(
            "  {:22} {:9.2} ms  ({:.2} to {:.2})  peak {:.0} MB",
            s.program, s.ms_median, s.ms_low, s.ms_high, s.peak_rss_mb
        );
    }
    if let Some(best) = best {
        println!("  best of PyTorch / fokker: {:.2}", best / ours.ms_median);
    }
    Ok(())
}

/// What solvers cost beside the model, on one thread.
fn solver_overhead(arguments: &Arguments) -> Result<(), Failure> {
    let reps = (arguments.reps * arguments.rounds).to_string();
    let options = ["--here", "overhead", "--reps", &reps, "--threads", "1"];
    let measured = parse(&Command::new(std::env::current_exe()?).args(options).output()?)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&measured)?)
    } else {
        overhead::print(&measured)
    }
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(output: &std::process::Output) -> Result<T, Failure> {
    if !output.status.success() {
        return Err(format!("a measurement failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rev().find(|l| l.starts_with('{')).ok_or("a measurement printed no JSON")?;
    Ok(serde_json::from_str(line)?)
}

/// Peak resident memory of this process, in MB; 0 where the system does not tell.
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap_or(0.0) / 1024.0
}

fn measure(workload: &str, reps: usize) -> Result<Measured, Failure> {
    let mut call = call(workload)?;
    let warm_up = match workload.split('-').next_back() {
        Some("sample" | "likelihood") => 1,
        _ if workload.starts_with("mlp") => 10,
        _ => 2,
    };
    (0..warm_up).for_each(|_| call());
    let ms_all = (0..reps)
        .map(|_| {
            let started = Instant::now();
            call();
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    Ok(Measured { ms_all, peak_rss_mb: peak_rss_mb() })
}
