//! `fokker list`.

use clap::{Args, ValueEnum};
use fokker_data::DataConfig;
use fokker_metrics::MetricConfig;
use fokker_models::NetworkConfig;
use fokker_sde::SdeConfig;
use fokker_solve::{SolverConfig, SolverInfo, Spacing};
use fokker_train::RECIPES;
use serde::Serialize;

use crate::failure::Failure;
use crate::print;

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Run configurations embedded in the program.
    Recipes,
    /// Data sets.
    #[value(alias = "data")]
    Datasets,
    /// Noising processes.
    Sdes,
    /// Networks.
    Networks,
    /// Solvers.
    Solvers,
    /// Time grids.
    Grids,
    /// Metrics of two sets of vectors.
    Metrics,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  fokker list recipes\n  fokker list solvers --json\n\nOf solvers: `order` is that of an ODE solver's error and of an SDE solver's moments, `strong` that of its paths; `calls` of the network \
                        per step; `predicts` is what a step takes for constant or polynomial (networks of any prediction serve any solver); `α = 0` says \
                        whether it can start at pure noise, as the flow does."
)]
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
            What::Networks => NetworkConfig::KINDS.iter().map(|(kind, about)| row(kind, about)).collect(),
            What::Datasets => DataConfig::KINDS.iter().map(|(kind, about)| row(kind, about)).collect(),
            What::Sdes => SdeConfig::all().iter().map(|s| row(fokker_sde::Sde::name(s), s.about())).collect(),
            What::Metrics => MetricConfig::KINDS.iter().map(|(kind, about)| row(kind, about)).collect(),
            What::Grids => Spacing::all().iter().map(|g| row(g.name(), g.about())).collect(),
            What::Solvers => unreachable!("printed above"),
        };
        let width = rows.iter().map(|r| r.name.len()).max().unwrap_or(0);
        print(self.json, &rows, rows.iter().map(|r| format!("{:width$}  {}", r.name, r.about)))
    }

    fn solvers(&self) -> Result<(), Failure> {
        let rows: Vec<SolverInfo> = SolverConfig::all().iter().map(SolverConfig::info).collect();
        let head = format!(
            "{:20} {:4} {:9} {:5} {:6} {:5} {:8} {:5}  about",
            "solver", "kind", "family", "order", "strong", "calls", "predicts", "α = 0"
        );
        let lines = rows.iter().map(|r| {
            let calls = r.cost.map_or("vary".into(), |n| n.to_string());
            let strong = r.strong_order.map_or(String::new(), |order| order.to_string());
            let starts = if r.takes_pure_noise { "yes" } else { "no" };
            let quantity = format!("{:?}", r.quantity).to_lowercase();
            format!(
                "{:20} {:4} {:9} {:5} {strong:6} {calls:5} {quantity:8} {starts:5}  {} ({})",
                r.name, r.kind, r.family, r.order, r.about, r.reference
            )
        });
        print(self.json, &rows, std::iter::once(head).chain(lines))
    }
}

fn print(json: bool, rows: &impl Serialize, table: impl Iterator<Item = String>) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string_pretty(rows).map_err(|e| Failure::failed(e.to_string()))?;
        print::answer(text)
    } else {
        print::answer(table.collect::<Vec<_>>().join("\n"))
    }
}
