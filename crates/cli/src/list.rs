//! `fokker list`.

use clap::{Args, ValueEnum};
use fokker_data::DataConfig;
use fokker_sde::SdeConfig;
use fokker_solve::{GridConfig, SolverConfig};
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
            What::Grids => GridConfig::all().iter().map(|g| row(g.kind(), g.about())).collect(),
            What::Solvers => unreachable!("printed above"),
        };
        print(self.json, &rows, || {
            let width = rows.iter().map(|r| r.name.len()).max().unwrap_or(0);
            rows.iter().for_each(|r| println!("{:width$}  {}", r.name, r.about));
        })
    }

    fn solvers(&self) -> Result<(), Failure> {
        let infos: Vec<_> = SolverConfig::all().iter().map(SolverConfig::info).collect();
        print(self.json, &infos, || {
            println!("{:20} {:5} {:6} {:14} reference", "solver", "kind", "order", "calls/step");
            for i in &infos {
                println!("{:20} {:5} {:6} {:14} {}", i.name, i.kind, i.order, i.cost, i.reference);
            }
        })
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
