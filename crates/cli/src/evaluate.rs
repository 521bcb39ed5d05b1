//! `fokker evaluate`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use fokker_data::{Batch, read_npy};
use fokker_solve::{Solver, SolverConfig};
use fokker_tensor::Tensor;
use fokker_train::evaluation::{COLUMNS, Cache, Evaluation, Features, Row, Ruler, Way, judge, optimal, sha256};
use fokker_train::{FeatureNetwork, Interval, TrainError};
use serde_json::json;

use crate::chart::short;
use crate::failure::Failure;
use crate::method::{Method, Opened, Which, unknown};
use crate::print;
use crate::progress::{Progress, duration};
use crate::report::{Report, Shown};
use crate::rows::Rows;

/// The solvers that are measured besides the run's own where none are named.
const SOLVERS: [&str; 5] = ["ddim", "heun", "dpmpp-multistep", "unipc", "euler-ancestral"];

/// Points that are kept of a row for its picture, and images.
const SHOWN: (usize, usize) = (4000, 64);

/// The fewest samples that have the neighbours that coverage looks at.
const LEAST: usize = 6;

/// From so many images on it is said that a large network takes its time.
const SLOW: usize = 1000;

/// The width of a projection where none is given.
const PROJECTED: usize = 64;

#[derive(Args)]
#[command(after_help = "Examples:\n  fokker evaluate runs/moons --out report\n  \
                        fokker evaluate runs/mnist --solvers ddim,heun,unipc --steps 5,10,20 -n 1000 --budget 30m --out report\n  \
                        fokker evaluate runs/glyphs --samples theirs.npy --features projection:128 --json\n  \
                        fokker evaluate runs/cifar10 --features inception.safetensors -n 10000\n\n\
                        With --out, finished rows are kept in the folder: run the same command again to go on where it was.")]
pub(crate) struct Evaluate {
    #[command(flatten)]
    which: Which,
    /// Solvers, separated by commas (see `fokker list solvers`) [default: the run's, ddim, heun, dpmpp-multistep, unipc, euler-ancestral].
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    solvers: Vec<String>,
    /// Steps of the solvers, separated by commas.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "5,10,20,50")]
    steps: Vec<usize>,
    /// Samples for each seed, and data that they are compared with.
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 1000)]
    count: usize,
    /// Seeds, from --seed on: what the intervals come from.
    #[arg(long, value_name = "K", default_value_t = 3)]
    seeds: usize,
    /// The space that samples are compared in: `pixels` (the numbers as they are), `projection` or `projection:WIDTH` (random linear maps
    /// to 64 numbers, or as many as you say), or a .safetensors file: of `fokker features train` (what tells classes of images apart), or
    /// the weights of Inception-v3 or DINOv2 (what is seen in photographs; `fokker features --help` says where they come from).
    #[arg(long, value_name = "SPACE", default_value = "pixels")]
    features: String,
    /// The data to compare with: `test` (what the run's data set keeps apart; of a generated one what it was not trained on), `train`, or a
    /// file or folder [default: test if there is one, otherwise train].
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    /// Training data to look for copies in, the first so many; 0 for none [default: all of a run's].
    #[arg(long, value_name = "N")]
    training: Option<usize>,
    /// Judge these samples too, `[N, ...]` in the data's units: another system's, say.
    #[arg(long, value_name = "NPY")]
    samples: Option<PathBuf>,
    /// Start no row once so much time is spent: 90s, 5m, 1h.
    #[arg(long, value_name = "TIME")]
    budget: Option<String>,
    /// Scale of guidance [default: the run's].
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    guidance: Option<f64>,
    /// A weaker model to guide by [default: the run's].
    #[arg(long, value_name = "FILE")]
    weak: Option<PathBuf>,
    /// The time grid of all solvers (see `fokker list grids`) [default: the run's].
    #[arg(long)]
    grid: Option<String>,
    /// The process to sample under (see `fokker list sdes`) [default: the run's].
    #[arg(long)]
    sde: Option<String>,
    /// Change a setting of the sampler, as in `fokker sample` (may be repeated).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write report.html, a page that needs nothing else, into this folder, and keep finished rows there.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// What samples are compared with, and the sets that it was made of.
struct Compared {
    /// What the data are called.
    name: String,
    reference: Tensor,
    /// As many data again, to compare data with data.
    again: Option<Tensor>,
    training: Option<Tensor>,
    ruler: Ruler,
}

impl Evaluate {
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let budget = self.budget.as_deref().map(seconds).transpose()?;
        let features = features(&self.features)?;
        let steps = self.steps()?;
        if self.seeds == 0 || self.seeds > 1000 {
            return Err(Failure::usage(format!("--seeds {}: expected a number from 1 to 1000", self.seeds)));
        }
        if (1..LEAST).contains(&self.count) {
            let why = "five neighbours of each among the others";
            return Err(Failure::usage(format!("--count {}: expected at least {LEAST}, for {why}", self.count)));
        }
        if self.training == Some(1) {
            return Err(Failure::usage("--training 1: expected 0 or at least 2, as copies have a nearest and a second nearest"));
        }
        if let Some(out) = self.out.as_deref().filter(|out| out.exists() && !out.is_dir()) {
            return Err(Failure::usage(format!("--out {}: expected a folder, found a file", out.display())));
        }
        let named = std::mem::take(&mut self.solvers);
        let method = self.method(&named)?;
        let opened = method.open(Some(self.count))?;
        let ways = ways(&opened, &named, &steps)?;
        let given = self.samples.as_deref().map(|path| read_samples(path, &opened)).transpose()?;
        let bytes = std::fs::read(method.which.file())
            .map_err(|e| Failure::failed(format!("{}: cannot read: {e}", method.which.file().display())))?;
        let compared = self.compared(&opened, features)?;
        let Opened { model, request, .. } = &opened;
        let (model_id, ruler) = (sha256(&bytes), &compared.ruler);
        let evaluation = Evaluation { model, model_id, request: request.clone(), ruler, seeds: self.seeds };
        for way in &ways {
            evaluation.check(way)?;
        }
        let mut others = Vec::new();
        if let Some(again) = &compared.again {
            others.push((judge(ruler, "data", again, request.seed)?, Some(again.clone())));
        }
        if let (Some(x), Some(path)) = (given, &self.samples) {
            let row = judge(ruler, &path.display().to_string(), &x, request.seed);
            others.push((row.map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?, Some(x)));
        }
        let mut cache = self.out.as_deref().map_or_else(|| Ok(Cache::in_memory()), Cache::open)?;
        let measured = measure(&evaluation, &ways, &mut cache, || budget.is_some_and(|b| started.elapsed().as_secs_f64() >= b))?;
        let (mut rows, mut missing) = (Vec::new(), Vec::new());
        for (way, row) in sorted(&ways, measured) {
            match row {
                Some(row) => rows.push(row),
                None => missing.push(way.name()),
            }
        }
        self.write_report(&opened, &evaluation, &compared, &others, &rows, &missing, &cache)?;
        let rows: Vec<Row> = others.into_iter().map(|(row, _)| row).chain(rows).collect();
        self.answer(&evaluation, &compared.name, &rows, &missing)?;
        self.tell(&format!("done in {}", duration(started.elapsed().as_secs_f64())));
        Ok(())
    }

    /// What is said besides the answer; JSON has standard output to itself.
    fn tell(&self, text: &str) {
        if self.json { print::note(text) } else { print::say(text) }
    }

    fn steps(&self) -> Result<Vec<usize>, Failure> {
        let mut steps = self.steps.clone();
        steps.sort_unstable();
        steps.dedup();
        match steps.iter().find(|&&n| n == 0 || n > 1 << 20) {
            Some(n) => Err(Failure::usage(format!("--steps {n}: expected at least 1 and at most {}", 1 << 20))),
            None => Ok(steps),
        }
    }

    /// The options that `fokker sample` has too; solvers that are not known are refused before a model is read.
    fn method(&mut self, named: &[String]) -> Result<Method, Failure> {
        for name in named {
            SolverConfig::from_kind(name).ok_or_else(|| unknown("--solvers", name, SolverConfig::KINDS))?;
        }
        Ok(Method {
            which: self.which.clone(),
            guidance: self.guidance,
            weak: self.weak.clone(),
            solver: None,
            steps: None,
            grid: self.grid.clone(),
            sde: self.sde.clone(),
            set: self.set.clone(),
        })
    }

    fn compared(&self, opened: &Opened, features: Features) -> Result<Compared, Failure> {
        let test = || Rows::of(Some("test".into()));
        let train = || Rows::of(None);
        let (rows, name) = match &self.data {
            Some(data) if data.as_os_str() == "train" => (train(), "training data".to_owned()),
            Some(data) if data.as_os_str() == "test" => (test(), "test data".to_owned()),
            Some(data) => (Rows::of(Some(data.clone())), data.display().to_string()),
            None if opened.config.is_some() && test().there(opened) => (test(), "test data".to_owned()),
            None if opened.config.is_none() => {
                return Err(Failure::usage("--data: expected data to compare with, as a model's file does not say which"));
            }
            None => (train(), "training data".to_owned()),
        };
        // As many again, to compare data with data. A set of another size would not compare.
        let Batch { x, labels } = rows.first(opened, Some(2 * self.count))?;
        let n = x.dim(0).min(self.count);
        let (reference, again) = (x.slice(0, 0..n), (x.dim(0) == 2 * n).then(|| x.slice(0, n..2 * n)));
        let labels = labels.map(|labels| labels[..n].to_vec());
        let mut ruler = Ruler::new(features, &reference, labels).map_err(|e| Failure::failed(format!("{name}: {e}")))?;
        if reference.dim(0) < self.count {
            print::note(format_args!("{name}: {} samples, fewer than the {} of each row", reference.dim(0), self.count));
        }
        let training = match (&opened.config, self.training) {
            (None, _) | (_, Some(0)) => None,
            (Some(_), wanted) => Some(train().first(opened, wanted)?.x),
        };
        if let (Some(x), Features::Network(FeatureNetwork::Pretrained(_))) = (&training, ruler.features())
            && x.dim(0) > SLOW
        {
            print::note(format_args!(
                "training data: features of {} images, which takes a while; --training looks at fewer",
                x.dim(0)
            ));
        }
        if let Some(training) = &training {
            ruler = ruler.with_training(training)?;
        }
        Ok(Compared { name, reference, again, training, ruler })
    }

    #[expect(clippy::too_many_arguments, reason = "everything that there is goes into the report")]
    fn write_report(
        &self,
        opened: &Opened,
        evaluation: &Evaluation,
        compared: &Compared,
        others: &[(Row, Option<Tensor>)],
        rows: &[Row],
        missing: &[String],
        cache: &Cache,
    ) -> Result<(), Failure> {
        let Some(out) = &self.out else { return Ok(()) };
        let best = optimal(rows, evaluation.ruler.distance());
        let mut shown = Vec::new();
        for (row, x) in others {
            shown.push(Shown { row: row.clone(), optimal: false, samples: x.as_ref().map(kept) });
        }
        for (row, optimal) in rows.iter().zip(best) {
            shown.push(Shown { row: row.clone(), optimal, samples: cache.shown(&row.key)? });
        }
        let report = Report {
            evaluation,
            config: opened.config.as_ref(),
            folder: &opened.folder,
            model_file: self.which.file(),
            compared_with: &compared.name,
            reference: &kept(&compared.reference),
            training: compared.training.as_ref(),
            rows: &shown,
            missing,
        };
        let path = out.join("report.html");
        report.write(&path)?;
        self.tell(&format!("report: {}", path.display()));
        Ok(())
    }

    fn answer(&self, evaluation: &Evaluation, data: &str, rows: &[Row], missing: &[String]) -> Result<(), Failure> {
        let distance = evaluation.ruler.distance();
        let best = optimal(rows, distance);
        if self.json {
            let rows: Vec<serde_json::Value> = rows.iter().zip(&best).map(|(row, best)| to_json(row, *best)).collect();
            let value = json!({
                "model": { "file": self.which.file().display().to_string(), "sha256": evaluation.model_id },
                "data": data,
                "features": evaluation.ruler.features().id(),
                "count": evaluation.request.count,
                "data_count": evaluation.ruler.count(),
                "seed": evaluation.request.seed,
                "seeds": evaluation.seeds,
                "pareto_objectives": [distance, "coverage", "nfe"],
                "rows": rows,
                "missing": missing,
            });
            return print::answer(format_args!("{value:#}"));
        }
        print::answer(table(rows, &best))?;
        let title = COLUMNS.iter().find(|c| c.name == distance).map_or(distance, |c| c.title);
        print::say(format_args!("* no other row is at least as good in {title}, coverage and network calls, and better in one"));
        let n = evaluation.request.count;
        let spread = if evaluation.seeds > 1 { "± is half the 95 % interval" } else { "one seed has no interval" };
        print::say(format_args!("{n} samples of each of {} seeds beside {data}; {spread}", evaluation.seeds));
        if !missing.is_empty() {
            print::answer(format_args!("not measured, the budget was spent: {}", missing.join("; ")))?;
        }
        Ok(())
    }
}

/// The features that an option names.
fn features(text: &str) -> Result<Features, Failure> {
    if [".safetensors", ".pth", ".pt"].iter().any(|end| text.ends_with(end)) {
        return Ok(Features::Network(FeatureNetwork::load(text.as_ref())?));
    }
    let width = match text.split_once(':') {
        None if text == "pixels" => return Ok(Features::Pixels),
        None if text == "projection" => Some(PROJECTED),
        Some(("projection", width)) => width.parse().ok().filter(|width| (1..=1 << 16).contains(width)),
        _ => None,
    };
    let width = width.ok_or_else(|| {
        Failure::usage(format!(
            "--features {text}: expected pixels, projection, projection:WIDTH with a WIDTH from 1 to 65536, or a .safetensors file of \
             features (see `fokker features --help`)"
        ))
    })?;
    Ok(Features::Projection { width, seed: 0 })
}

/// A time such as `90s`, `5m` or `1h`, in seconds; a number alone is one of seconds.
fn seconds(text: &str) -> Result<f64, Failure> {
    let units = [("s", 1.0), ("m", 60.0), ("h", 3600.0), ("", 1.0)];
    let found =
        units.iter().find_map(|(unit, factor)| text.strip_suffix(unit).and_then(|n| n.parse::<f64>().ok()).map(|n| n * factor));
    found
        .filter(|s| s.is_finite() && *s >= 0.0)
        .ok_or_else(|| Failure::usage(format!("--budget {text}: expected a time such as 90s, 5m or 1h")))
}

/// Every solver with every number of steps: those of few steps first, so that a budget cuts off the expensive ones.
fn ways(opened: &Opened, named: &[String], steps: &[usize]) -> Result<Vec<Way>, Failure> {
    let own = &opened.request.sampler.solver;
    let mut names: Vec<&str> = match named {
        [] => [Solver::name(own)].into_iter().chain(SOLVERS).collect(),
        named => named.iter().map(String::as_str).collect(),
    };
    let mut seen = Vec::new();
    names.retain(|name| {
        !seen.contains(name) && {
            seen.push(*name);
            true
        }
    });
    let mut solvers = Vec::new();
    for name in names {
        // The run's own solver keeps the run's options.
        let solver = if name == Solver::name(own) { Some(own.clone()) } else { SolverConfig::from_kind(name) };
        solvers.push(solver.ok_or_else(|| unknown("--solvers", name, SolverConfig::KINDS))?);
    }
    Ok(steps.iter().flat_map(|&steps| solvers.iter().map(move |s| Way { solver: s.clone(), steps })).collect())
}

fn read_samples(path: &Path, opened: &Opened) -> Result<Tensor, Failure> {
    let (x, shape) = (read_npy(path)?, &opened.model.config.sample_shape);
    if x.rank() == 0 || x.dim(0) == 0 || x.shape()[1..] != **shape {
        let message = format!("expected samples of shape {shape:?} with one axis before it, found an array {:?}", x.shape());
        return Err(Failure::failed(format!("{}: {message}", path.display())));
    }
    Ok(x)
}

/// The first samples, as many as pictures show.
fn kept(x: &Tensor) -> Tensor {
    let most = if x.rank() == 2 { SHOWN.0 } else { SHOWN.1 };
    x.slice(0, 0..x.dim(0).min(most))
}

/// Measures what the cache does not have until it is time to stop; a row for each way that there is one of.
fn measure(
    evaluation: &Evaluation,
    ways: &[Way],
    cache: &mut Cache,
    stop: impl Fn() -> bool,
) -> Result<Vec<Option<Row>>, Failure> {
    let mut progress = Progress::new("row", 0, ways.len() as u64);
    let mut rows = Vec::new();
    for (i, way) in ways.iter().enumerate() {
        progress.set(i as u64, &way.name());
        let key = evaluation.key(way)?;
        if let Some(row) = cache.get(&key) {
            progress.note(&format!("{}: measured before", way.name()));
            rows.push(Some(row.clone()));
        } else if stop() {
            rows.push(None);
        } else {
            let began = Instant::now();
            let (row, samples) = evaluation.measure(way, &mut []).map_err(|e| named(way, e))?;
            let row = cache.add(row, samples.as_ref().map(kept))?;
            progress.note(&format!("{}: {}", way.name(), duration(began.elapsed().as_secs_f64())));
            rows.push(Some(row));
        }
    }
    progress.finish();
    Ok(rows)
}

fn named(way: &Way, error: TrainError) -> Failure {
    match error {
        TrainError::Io { .. } | TrainError::Data(_) | TrainError::Config { .. } => error.into(),
        error => Failure::failed(format!("{}: {error}", way.name())),
    }
}

/// By solver, then by steps.
fn sorted(ways: &[Way], rows: Vec<Option<Row>>) -> Vec<(&Way, Option<Row>)> {
    let first = |way: &Way| ways.iter().position(|w| w.solver == way.solver);
    let mut all: Vec<_> = ways.iter().zip(rows).collect();
    all.sort_by_key(|(way, _)| (first(way), way.steps));
    all
}

/// A mean with half its interval, in as many digits as the interval makes sense of.
pub(crate) fn plus_minus(interval: &Interval) -> String {
    let Some(half) = interval.half_width.filter(|half| *half > 0.0) else { return short(interval.mean) };
    if half < 1e-4 || interval.mean.abs() < 1e-3 && half < 1e-2 {
        return format!("{:.2e} ± {half:.0e}", interval.mean);
    }
    let digits = (1.0 - half.log10().floor()).clamp(0.0, 5.0) as usize;
    format!("{:.digits$} ± {half:.digits$}", interval.mean)
}

/// Bytes for people.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Seconds of one sample for people.
pub(crate) fn latency(seconds: f64) -> String {
    if seconds < 1.0 { format!("{} ms", short(seconds * 1e3)) } else { format!("{} s", short(seconds)) }
}

/// The table's cells, the headings first; a row that failed says why in place of its scores.
fn table(rows: &[Row], best: &[bool]) -> String {
    let columns: Vec<_> = COLUMNS.iter().filter(|c| rows.iter().any(|row| row.scores.contains_key(c.name))).collect();
    let mut cells = vec![vec!["".to_owned(), "solver".into(), "steps".into(), "NFE".into()]];
    cells[0].extend(columns.iter().map(|c| c.title.to_lowercase()));
    cells[0].extend(["samples/s", "latency", "memory"].map(str::to_owned));
    let number = |n: Option<usize>| n.map_or_else(String::new, |n| n.to_string());
    for (row, best) in rows.iter().zip(best) {
        let mut line = vec![if *best { "*" } else { "" }.to_owned(), row.name.clone(), number(row.steps), number(row.nfe)];
        if row.failed.is_none() {
            line.extend(columns.iter().map(|c| row.score(c.name).map_or_else(String::new, |i| plus_minus(&i))));
            line.push(row.rate().map_or_else(String::new, |rate| short(rate.mean)));
            line.push(row.latency.map_or_else(String::new, latency));
            line.push(row.memory.map_or_else(String::new, mebibytes));
        }
        cells.push(line);
    }
    let width = |i: usize| cells.iter().filter_map(|line| line.get(i)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..cells[0].len()).map(width).collect();
    let failed = std::iter::once(None).chain(rows.iter().map(|row| row.failed.as_ref()));
    let line = |(cells, failed): (&Vec<String>, Option<&String>)| {
        let text = |(i, cell): (usize, &String)| match i {
            0 | 1 => format!("{cell:<0$}", widths[i]),
            _ => format!("{cell:>0$}", widths[i]),
        };
        let text = cells.iter().enumerate().map(text).collect::<Vec<_>>().join("  ");
        let text = failed.map_or(text.clone(), |why| format!("{text}  failed: {why}"));
        text.trim_end().to_owned()
    };
    cells.iter().zip(failed).map(line).collect::<Vec<_>>().join("\n")
}

fn to_json(row: &Row, best: bool) -> serde_json::Value {
    let measured = |interval: Option<Interval>, values: &[f64]| {
        interval.map(|i| json!({ "mean": i.mean, "half_width": i.half_width, "values": values }))
    };
    let scores: serde_json::Map<String, serde_json::Value> =
        row.scores.iter().map(|(name, values)| (name.clone(), json!(measured(row.score(name), values)))).collect();
    json!({
        "name": row.name,
        "steps": row.steps,
        "nfe": row.nfe,
        "pareto": best,
        "scores": scores,
        "samples_per_second": measured(row.rate(), &row.rates),
        "latency_seconds": row.latency,
        "peak_memory_bytes": row.memory,
        "failed": row.failed,
        "key": row.key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let of = |text: &str| seconds(text).ok();
        assert_eq!((of("90s"), of("5m"), of("1.5h"), of("7")), (Some(90.0), Some(300.0), Some(5400.0), Some(7.0)));
        assert_eq!((of("m"), of("-1s"), of("5 minutes"), of("inf")), (None, None, None, None));
    }

    #[test]
    fn intervals_have_as_many_digits_as_make_sense() {
        let text = |mean, half| plus_minus(&Interval { mean, standard_error: Some(0.0), half_width: half });
        assert_eq!(text(0.91234, Some(0.0123)), "0.912 ± 0.012");
        assert_eq!(text(12.34, Some(1.5)), "12.3 ± 1.5");
        assert_eq!(text(0.25, None), "0.25");
        assert_eq!(text(1.0, Some(0.0)), "1");
    }

    #[test]
    fn a_table_marks_the_best_and_says_why_a_row_is_empty() {
        let scores = [("coverage".to_owned(), vec![0.9, 0.92])];
        let good = Row { name: "heun".into(), steps: Some(5), nfe: Some(9), scores: scores.into(), ..Row::default() };
        let bad = Row { name: "euler".into(), steps: Some(5), failed: Some("not finite".into()), ..Row::default() };
        let text = table(&[good, bad], &[true, false]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("coverage") && !lines[0].contains("recall"), "{text}");
        assert!(lines[1].starts_with("*  heun") && lines[1].contains("0.91 ± 0.13"), "{text}");
        assert!(lines[2].starts_with("   euler") && lines[2].ends_with("failed: not finite"), "{text}");
    }
}
