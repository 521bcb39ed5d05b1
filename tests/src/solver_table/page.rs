//! The table as Markdown.

use std::fmt::Write;

use super::distance::SAMPLES;
use super::lineup::{GridKind, changes};
use super::measure::Cell;
use super::oracle::{FITTED as FITTED_STATES, JUDGED, Oracle, REFERENCE_MOVES};
use super::peers::{Best, PeerSection, Peers};
use super::{FITTED, NFE, Row, Section, Table};
use fokker_solve::{Family, Solver};

/// `docs/solvers.md`.
///
/// # Panics
/// If the peers' file lacks a mixture of the table.
pub fn markdown(table: &Table, peers: &Peers) -> String {
    let mut page = HEAD.to_owned();
    let theirs = |section: &Section| peers.oracles.get(section.name).unwrap_or_else(|| panic!("no peers on {}", section.name));
    page += &how_to_read();
    page += "\n## Beside other libraries\n\n";
    page += "The best that each reaches with at most so many evaluations, whatever the sampler and the grid: ours with the one choice of settings \
             that is listed below, theirs with the best of several. Theirs run on the same mixtures from the same states, on Karras', a \
             log-SNR and a variance-preserving process's grid.\n";
    for section in &table.sections {
        let _ = write!(page, "\n### {}\n\n{}", title(section), side_by_side(section, theirs(section)));
    }
    page += "\n## Deterministic solvers\n\n";
    page += "Error against the exact flow. The columns on the right are for a grid fitted to the solver. `paradigms` counts rounds, each of which runs \
             the model on up to 16 states of a sample at once: it is out of the running.\n";
    for section in &table.sections {
        let _ = write!(page, "\n### {}\n\n{}", title(section), deterministic(section));
    }
    page += "\n## Stochastic solvers\n\n";
    page += "Distance of samples to the mixture, in the distance between two exact sets of the same size: 1 is indistinguishable. Two \
             deterministic solvers are there for comparison. What an exact set might have is **bold**, or the best of a column.\n";
    for section in &table.sections {
        let _ = write!(page, "\n### {}\n\n{}", title(section), stochastic(section));
    }
    page += "\n## Samplers of other libraries\n\n";
    page += &format!(
        "Each with the best of its settings and grids for the column; which these are says \
                      [solver_table.json](../tests/fixtures/solver_table.json), made by [solver_table.py](../tests/reference/solver_table.py) \
                      with {}.\n",
        versions(peers)
    );
    for section in &table.sections {
        let _ = write!(page, "\n### {}\n\n{}", title(section), samplers(theirs(section)));
    }
    page += &method(table);
    page
}

const HEAD: &str = "\
# How accurate are the solvers?

<!-- Written by `cargo xtask solvers`: change tests/src/solver_table, not this page. -->

Every solver that `fokker list solvers` names, on two mixtures of Gaussians whose denoiser is exact: five clusters in the plane, and six in 64
dimensions, each long in eight directions and thin in the others. What is left of the error is the solver's.

![Error against evaluations of the model, for some solvers and the best of other libraries](images/solvers.svg)

";

fn how_to_read() -> String {
    let spread = |oracle: &Oracle| {
        let (covariance, d) = (oracle.model.covariance(), oracle.dim());
        ((0..d).map(|i| covariance[i * d + i]).sum::<f64>() / d as f64).sqrt()
    };
    let spreads: Vec<String> = Oracle::all().iter().map(|oracle| format!("{:.2} ({})", spread(oracle), oracle.name)).collect();
    format!(
        "A column allows so many evaluations of the model (NFE); they are counted, the last denoising one included. An error is the root mean \
         square distance per coordinate between where the solver ends and where the exact flow ends from the same state, where one coordinate \
         of the data has a standard deviation of {}. Smaller is better; the best of a column is **bold**. A letter says on which grid: `k` \
         Karras, `l` uniform in the log-SNR, `v` uniform in the time of the variance-preserving process, `f` fitted by `optimise_grid`, `o` \
         the solver's own steps. – says that the solver cannot do with so few evaluations.\n\n\
         `cargo xtask solvers` writes this page and the picture anew (some minutes), `cargo xtask solvers --check` says whether they are what the \
         code gives.\n",
        spreads.join(" and ")
    )
}

fn title(section: &Section) -> String {
    match section.name {
        "2-D" => "Five clusters in 2 dimensions".to_owned(),
        "64-D" => "Six clusters in 64 dimensions".to_owned(),
        other => other.to_owned(),
    }
}

/// A table of cells with their marks, of which the least of each column is bold, and all that are at most `good`. Rows begin with
/// their name.
struct Grid {
    head: Vec<String>,
    rows: Vec<(String, Vec<Option<Entry>>)>,
    good: f64,
}

struct Entry {
    /// Infinite if it does not take part.
    value: f64,
    text: String,
    mark: String,
}

impl Grid {
    fn text(&self) -> String {
        let mut out = format!("| {} |\n|---|", self.head.join(" | "));
        out += &"---:|".repeat(self.head.len() - 1);
        out += "\n";
        let columns = self.head.len() - 1;
        let least: Vec<Option<&str>> = (0..columns)
            .map(|c| {
                let entries = self.rows.iter().filter_map(|(_, cells)| cells[c].as_ref()).filter(|entry| entry.value.is_finite());
                entries.min_by(|a, b| a.value.total_cmp(&b.value)).map(|entry| entry.text.as_str())
            })
            .collect();
        for (name, cells) in &self.rows {
            let shown = cells.iter().zip(&least).map(|(cell, least)| {
                let Some(Entry { value, text, mark }) = cell else { return "–".to_owned() };
                let best = value.is_finite() && (Some(text.as_str()) == *least || *value <= self.good);
                if best { format!("**{text}**{mark}") } else { format!("{text}{mark}") }
            });
            let _ = writeln!(out, "| {name} | {} |", shown.collect::<Vec<_>>().join(" | "));
        }
        out
    }
}

fn letter(grid: GridKind) -> String {
    format!(" `{}`", grid.letter())
}

fn error(value: f64) -> String {
    format!("{value:.1e}")
}

fn error_entry(cell: &Option<Cell>) -> Option<Entry> {
    cell.map(|cell| Entry { value: cell.value, text: error(cell.value), mark: letter(cell.grid) })
}

fn ratio_entry(cell: &Option<Cell>) -> Option<Entry> {
    cell.map(|cell| {
        let text = match cell.value {
            v if v < 10.0 => format!("{v:.2}"),
            v if v < 100.0 => format!("{v:.1}"),
            v => format!("{v:.0}"),
        };
        Entry { value: cell.value, text, mark: letter(cell.grid) }
    })
}

fn columns(first: &str, more: &[String]) -> Vec<String> {
    let nfe = NFE.iter().map(|n| format!("{n} NFE"));
    std::iter::once(first.to_owned()).chain(nfe).chain(more.iter().cloned()).collect()
}

/// A solver's name, and the settings that are not its defaults.
fn solver(row: &Row) -> String {
    match changes(&row.solver) {
        settings if settings.is_empty() => format!("`{}`", row.solver.name()),
        settings => format!("`{}` {settings}", row.solver.name()),
    }
}

/// The best of our rows for a column.
pub(super) fn best_row(rows: &[Row], column: usize, fitted: bool) -> Option<(&Row, Cell)> {
    let cell = |row: &Row| if fitted { row.fitted.get(column).copied().flatten() } else { row.cells[column] };
    // An evaluation of a parallel solver is one of many states at once.
    let sequential = rows.iter().filter(|row| row.solver.family() != Family::Parallel);
    sequential.filter_map(|row| Some((row, cell(row)?))).min_by(|(_, a), (_, b)| a.value.total_cmp(&b.value))
}

fn side_by_side(section: &Section, peers: &PeerSection) -> String {
    let ours = |fitted: bool| -> Vec<Option<Entry>> {
        let entry = |(row, cell): (&Row, Cell)| Entry {
            value: cell.value,
            text: error(cell.value),
            mark: format!("{}<br>`{}`", letter(cell.grid), row.solver.name()),
        };
        (0..NFE.len()).map(|column| best_row(&section.deterministic, column, fitted).map(entry)).collect()
    };
    let theirs = |library: &str| -> Vec<Option<Entry>> {
        let entry = |best: Best<'_>| Entry {
            value: best.value,
            text: error(best.value),
            mark: format!("{}<br>{}", letter(best.grid), short(&best.peer.sampler)),
        };
        (0..NFE.len()).map(|column| peers.best(column, |peer| peer.library == library).map(entry)).collect()
    };
    let mut rows = vec![("fokker, fitted grid".to_owned(), ours(true)), ("fokker, usual grids".to_owned(), ours(false))];
    rows.extend(peers.libraries().into_iter().map(|library| (library.to_owned(), theirs(library))));
    Grid { head: columns("", &[]), rows, good: 0.0 }.text()
}

/// A sampler's name without what all of a library's names have.
fn short(sampler: &str) -> String {
    let short = sampler.trim_start_matches("sample_");
    let short = short.trim_end_matches("Scheduler").trim_end_matches("Sampler").trim_end_matches("Discrete");
    format!("`{short}`")
}

fn deterministic(section: &Section) -> String {
    let fitted: Vec<String> = NFE[..FITTED].iter().map(|n| format!("{n}, fitted")).collect();
    let rows = section.deterministic.iter().map(|row| {
        let entry = |cell: &Option<Cell>| {
            let entry = error_entry(cell)?;
            // Its evaluations are of many states at once.
            let value = if row.solver.family() == Family::Parallel { f64::INFINITY } else { entry.value };
            Some(Entry { value, ..entry })
        };
        (solver(row), row.cells.iter().chain(&row.fitted).map(entry).collect::<Vec<_>>())
    });
    Grid { head: columns("solver", &fitted), rows: rows.collect(), good: 0.0 }.text()
}

fn stochastic(section: &Section) -> String {
    let rows = section.stochastic.iter().map(|row| (solver(row), row.cells.iter().map(ratio_entry).collect::<Vec<_>>()));
    let said = format!("Further exact sets are between {:.2} and {:.2}.\n\n", section.exact.start, section.exact.end);
    said + &Grid { head: columns("solver", &[]), rows: rows.collect(), good: section.exact.end }.text()
}

fn samplers(peers: &PeerSection) -> String {
    let rows = peers.names().into_iter().map(|(library, sampler)| {
        let entry = |best: Best<'_>| Entry { value: best.value, text: error(best.value), mark: letter(best.grid) };
        let cell = |column| peers.best(column, |peer| peer.library == library && peer.sampler == sampler).map(entry);
        (format!("{library} `{sampler}`"), (0..NFE.len()).map(cell).collect())
    });
    Grid { head: columns("sampler", &[]), rows: rows.collect(), good: 0.0 }.text()
}

fn versions(peers: &Peers) -> String {
    peers.versions.iter().map(|(package, version)| format!("{package} {version}")).collect::<Vec<_>>().join(", ")
}

fn method(table: &Table) -> String {
    let reference: Vec<String> = table.sections.iter().map(|s| format!("{:.0e} ({})", s.reference_error, s.name)).collect();
    format!(
        "
## How it was measured

- The process is EDM: `x = x_0 + σ ε` from σ = 80 to 0.002, then the denoiser's answer there, in `f64`. For solvers that work in the \
log-SNR any other process gives the same numbers at the same noise levels.
- The exact flow is a Runge–Kutta method of order 5 (Tsitouras) in the log-SNR with {REFERENCE_MOVES} steps; halving them says that its \
own error is {}.
- Deterministic solvers start from {JUDGED} states. Grids are fitted on {FITTED_STATES} others, by `optimise_grid` with its defaults.
- The number of steps is the largest for which the evaluations counted are at most the column's; of solvers with step control, the tightest \
tolerance.
- Stochastic solvers make {SAMPLES} samples; the distance is the sliced Wasserstein-2 distance over 128 directions, mean over six exact \
sets.
- Samplers of other libraries that end at σ = 0.002 without a last denoising step are judged by the exact flow's state there, which \
spares them an evaluation.
- `langevin` stays at one noise level and is not here.
",
        reference.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_each_column_is_bold_and_what_could_not_be_done_says_so() {
        let entry = |value: f64| Some(Entry { value, text: error(value), mark: letter(GridKind::Karras) });
        let rows = vec![("a".to_owned(), vec![entry(0.02), None]), ("b".to_owned(), vec![entry(0.001), entry(3.0)])];
        let head = ["solver", "5 NFE", "10 NFE"].map(str::to_owned).to_vec();
        let expected =
            "| solver | 5 NFE | 10 NFE |\n|---|---:|---:|\n| a | 2.0e-2 `k` | – |\n| b | **1.0e-3** `k` | **3.0e0** `k` |\n";
        assert_eq!(Grid { head, rows, good: 0.0 }.text(), expected);
    }
}
