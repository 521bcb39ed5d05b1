//! How near single operations come to what the machine can do at all (Williams, Waterman & Patterson 2009, the roofline model).
//!
//! An operation of `F` floating point operations that has to move `D` bytes takes no less than `max(F / P, D / B)`, with the peak `P` of the
//! arithmetic and the bandwidth `B` of the nearest memory that holds its arrays. Its share of the roof is that time over the one it takes.
//! `F` counts the direct form of a product or a convolution, a multiplication and an addition as two; `D` counts every array once that is
//! read or written. `P` and `B` are measured, not read from a data sheet.

mod machine;
mod ops;
mod page;
mod plot;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use fokker_data::atomic_write;
use serde::{Deserialize, Serialize};

use crate::programs::parse;
use crate::{Arguments, Failure};
use machine::Machine;
use ops::Case;

/// Everything that was measured with one number of threads.
#[derive(Serialize, Deserialize)]
pub(crate) struct Roofline {
    machine: Machine,
    rows: Vec<Row>,
}

/// One operation at one shape.
#[derive(Serialize, Deserialize)]
struct Row {
    operation: String,
    shape: String,
    /// Floating point operations; 0 where memory is all there is to it.
    flops: f64,
    /// Bytes that have to be moved.
    bytes: f64,
    seconds: f64,
    /// Whether the machine was seen to give all of its arithmetic right before a measurement.
    quiet: bool,
}

impl Row {
    /// Operations per byte.
    fn intensity(&self) -> f64 {
        self.flops / self.bytes
    }

    /// Whether arithmetic, not memory, is what limits it.
    fn is_arithmetic(&self, machine: &Machine) -> bool {
        self.flops / machine.peak > self.bytes / machine.level(self.bytes).bandwidth
    }

    /// The least time over the time it takes.
    fn share(&self, machine: &Machine) -> f64 {
        (self.flops / machine.peak).max(self.bytes / machine.level(self.bytes).bandwidth) / self.seconds
    }
}

/// The least time of one call, in seconds, over several runs of calls: other programs only ever add to it.
fn least_seconds(mut f: impl FnMut()) -> f64 {
    f();
    let started = Instant::now();
    f();
    let calls = (2e-3 / started.elapsed().as_secs_f64()).ceil().clamp(1.0, 1e5) as usize;
    let (begin, mut least) = (Instant::now(), f64::INFINITY);
    let mut runs = 0;
    while runs < 5 || (begin.elapsed().as_secs_f64() < 0.05 && runs < 50) {
        let started = Instant::now();
        (0..calls).for_each(|_| f());
        least = least.min(started.elapsed().as_secs_f64() / calls as f64);
        runs += 1;
    }
    least
}

/// The least time of a case. On a machine that others use too there may be no moment when all threads have a core: it is looked for
/// before each of several attempts, with multiply-adds, until two were quiet.
fn time(Case { operation, shape, flops, bytes, mut run }: Case, machine: &Machine) -> Row {
    let (mut seconds, mut quiet) = (f64::INFINITY, 0);
    for _ in 0..20 {
        let is_quiet = machine::peak_now(machine) > 0.95 * machine.peak;
        seconds = seconds.min(least_seconds(&mut run));
        quiet += usize::from(is_quiet && machine::peak_now(machine) > 0.95 * machine.peak);
        if quiet == 2 {
            break;
        }
    }
    Row { operation: operation.into(), shape, flops, bytes, seconds, quiet: quiet > 0 }
}

/// Measures the machine and all operations with this process's threads.
pub(crate) fn measure(threads: usize) -> Roofline {
    let before = Machine::measure(threads);
    let mut rows = Vec::new();
    ops::all(&mut |case| rows.push(time(case, &before)));
    // Once more at the end: what the machine can do is the best it has shown.
    Roofline { machine: before.best(Machine::measure(threads)), rows }
}

/// The best of two measurements of the same.
fn best(mut a: Roofline, b: Roofline) -> Roofline {
    for (a, b) in a.rows.iter_mut().zip(b.rows) {
        a.seconds = a.seconds.min(b.seconds);
        a.quiet |= b.quiet;
    }
    a.machine = a.machine.best(b.machine);
    a
}

/// `cargo xtask bench --roofline`: one thread and `--threads`, in turn in each of the rounds.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut counts = vec![1, arguments.how.threads];
    counts.dedup();
    let mut all: Vec<Option<Roofline>> = counts.iter().map(|_| None).collect();
    for _ in 0..arguments.how.rounds {
        for (threads, slot) in counts.iter().zip(&mut all) {
            let options = ["--here", "roofline", "--threads", &threads.to_string()];
            let measured = parse(&Command::new(std::env::current_exe()?).args(options).output()?)?;
            *slot = Some(match slot.take() {
                Some(before) => best(before, measured),
                None => measured,
            });
        }
    }
    let all: Vec<Roofline> = all.into_iter().flatten().collect();
    if arguments.json {
        println!("{}", serde_json::to_string(&all)?);
        return Ok(());
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let most = all.last().ok_or("--rounds: expected 1 or more")?;
    for (name, text) in [("roofline.md", page::markdown(&all)), ("images/roofline.svg", plot::svg(most)?)] {
        atomic_write(docs.join(name), |file| file.write_all(text.as_bytes()))?;
        println!("docs/{name}: written");
    }
    Ok(())
}
