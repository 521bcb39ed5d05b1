//! `fokker list`.

use clap::{Args, ValueEnum};
use fokker_data::DataConfig;
use fokker_sde::SdeConfig;
use fokker_solve::{Kind, Solver, SolverConfig, Spacing};
use fokker_train::RECIPES;
use serde::Serialize;

use crate::failure::Failure;

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Run configurations embedded in the program.
    Recipes,
    /// Data sets.
    Data,
    /// Noising processes.
    Sdes,
    /// Solvers.
    Solvers,
    /// Time grids.
    Grids,
}

#[derive(Args)]
pub(crate) struct List {
    /// What to list.
    #[arg(value_enum)]
    what: What,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A line of a list.
#[derive(Serialize)]
struct Row {
    name: String,
    about: String,
}

fn row(name: &str, about: &str) -> Row {
    Row { name: name.to_owned(), about: about.to_owned() }
}

impl List {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if let What::Solvers = self.what {
            return self.solvers();
        }
        let rows: Vec<Row> = match self.what {
            What::Recipes => RECIPES.iter().map(|r| row(r.name, r.about())).collect(),
            What::Data => DataConfig::KINDS.iter().map(|(kind, about)| row(kind, about)).collect(),
            What::Sdes => SdeConfig::all().iter().map(|s| row(fokker_sde::Sde::name(s), s.about())).collect(),
            What::Grids => Spacing::all().iter().map(|g| row(g.name(), g.about())).collect(),
            What::Solvers => unreachable!("printed above"),
        };
        print(self.json, &rows, || {
            let width = rows.iter().map(|r| r.name.len()).max().unwrap_or(0);
            rows.iter().for_each(|r| println!("{:width$}  {}", r.name, r.about));
        })
    }

    fn solvers(&self) -> Result<(), Failure> {
        let rows: Vec<SolverRow> = SolverConfig::all().iter().map(SolverRow::of).collect();
        print(self.json, &rows, || {
            println!("{:20} {:4} {:5} {:>17}  about", "solver", "kind", "order", "calls in 10 moves");
            for r in &rows {
                let calls = r.calls_in_10_moves.map_or("varies".into(), |n| n.to_string());
                println!("{:20} {:4} {:5} {calls:>17}  {}", r.name, r.kind, r.order, r.about);
            }
        })
    }
}

/// A line of the list of solvers.
#[derive(Serialize)]
struct SolverRow {
    name: &'static str,
    kind: &'static str,
    order: u32,
    calls_in_10_moves: Option<usize>,
    about: &'static str,
}

impl SolverRow {
    fn of(solver: &SolverConfig) -> SolverRow {
        SolverRow {
            name: solver.name(),
            kind: match solver.kind() {
                Kind::Ode => "ODE",
                Kind::Sde => "SDE",
            },
            order: solver.order(),
            calls_in_10_moves: solver.evaluations(10),
            about: solver.about(),
        }
    }
}

fn print(json: bool, rows: &impl Serialize, table: impl FnOnce()) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string_pretty(rows).map_err(|e| Failure::failed(e.to_string()))?;
        println!("{text}");
    } else {
        table();
    }
    Ok(())
}
