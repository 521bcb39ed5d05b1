//! Writes `docs/solvers.md` and its picture: every solver's accuracy for given numbers of evaluations, beside other libraries'.
//!
//! ```text
//! cargo xtask solvers             write both
//! cargo xtask solvers --check     fail if they are not what the code gives
//! ```

use std::path::{Path, PathBuf};

use clap::Parser;
use conformance::solver_table::oracle::Oracle;
use conformance::solver_table::peers::Peers;
use conformance::solver_table::{compute, page, plot};
use fokker_data::{Picture, atomic_write};

#[derive(Parser)]
#[command(name = "cargo xtask solvers", about = "Write docs/solvers.md and its picture")]
struct Arguments {
    /// Write nothing; fail if a file is not what would be written.
    #[arg(long)]
    check: bool,
    /// Only this mixture, `2-D` or `64-D`; print the page and write nothing.
    #[arg(long, value_name = "NAME", conflicts_with = "check")]
    only: Option<String>,
    /// Also write the picture as a PNG, to look at.
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let wanted = |oracle: &Oracle| arguments.only.as_ref().is_none_or(|only| oracle.name == only);
    let oracles: Vec<Oracle> = Oracle::all().into_iter().filter(wanted).collect();
    if oracles.is_empty() {
        return Err(format!("--only {}: expected 2-D or 64-D", arguments.only.unwrap_or_default()).into());
    }
    let table = compute(&oracles);
    let peers = Peers::load()?;
    if let Some(path) = &arguments.png {
        let (width, height) = plot::SIZE;
        Picture::new(height as usize, width as usize, 3, plot::pixels(&table, &peers)).save_png(path)?;
    }
    if arguments.only.is_some() {
        print!("{}", page::markdown(&table, &peers));
        return Ok(());
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut stale = Vec::new();
    for (name, text) in [("solvers.md", page::markdown(&table, &peers)), ("images/solvers.svg", plot::svg(&table, &peers))] {
        let path = docs.join(name);
        if !arguments.check {
            atomic_write(&path, |file| file.write_all(text.as_bytes()))?;
            println!("docs/{name}: written");
        } else if let Some(difference) = difference(&std::fs::read_to_string(&path).unwrap_or_default(), &text) {
            println!("docs/{name}: {difference}");
            stale.push(name);
        }
    }
    if stale.is_empty() {
        Ok(())
    } else {
        Err(format!("{} not what the code gives: cargo xtask solvers", stale.join(", ")).into())
    }
}

/// The first line that differs.
fn difference(old: &str, new: &str) -> Option<String> {
    let lines = old.lines().map(Some).chain(std::iter::repeat(None)).zip(new.lines().map(Some).chain([None]));
    let differing = lines.enumerate().find(|(_, (old, new))| old != new);
    let shown = |line: Option<&str>| line.map_or("nothing".to_owned(), |line| format!("`{line}`"));
    differing.map(|(i, (old, new))| format!("line {}: {} is there, {} would be written", i + 1, shown(old), shown(new)))
}
