//! `fokker evaluate`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use fokker_data::sets::Array;
use fokker_data::{Batch, DataConfig, Dataset};
use fokker_solve::{Solver, SolverConfig};
use fokker_tensor::Tensor;
use fokker_train::evaluation::{
    COLUMNS, Cache, Evaluation, Features, Likelihoods, Row, Ruler, Set, Trajectory, Way, judge, optimal, sha256,
};
use fokker_train::{Classes, FeatureNetwork, TrainError};
use serde_json::json;

use crate::failure::Failure;
use crate::method::{Method, Opened, Which, unknown};
use crate::print;
use crate::progress::{Progress, duration};
use crate::report::{Report, Shown};
use crate::rows::{Rows, classes};
use crate::sample::has_picture;
use crate::space;
use crate::table::{likelihoods_json, likelihoods_text, table, to_json};

/// The solvers that are measured besides the run's own where none are named.
const SOLVERS: [&str; 5] = ["ddim", "heun", "dpmpp-multistep", "unipc", "euler-ancestral"];

/// Points that are kept of a row for its picture, and images.
const SHOWN: (usize, usize) = (4000, 64);

/// Samples whose way from noise is shown: points, and images.
const MOVED: (usize, usize) = (2000, 16);

/// Samples whose likelihood is computed where no number is given: points and other vectors, and images.
const SCORED: (usize, usize) = (200, 64);

/// The most training samples that copies are looked for in.
const TRAINING: usize = 100_000;

/// The fewest samples that have the neighbours that coverage looks at.
const LEAST: usize = 6;

/// From so many images on it is said that a large network takes its time.
const SLOW: usize = 1000;

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
    /// Training data to look for copies in, the first so many; 0 for none [default: all of a run's, but at most 100,000].
    #[arg(long, value_name = "N")]
    training: Option<usize>,
    /// Judge these samples too, an .npy or .npz array [N, ...] in the data's units, or images as bytes: another system's, say.
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
    /// Compute how likely so many of the data are, and of the samples of the row of least distance; 0 for none. Costs some 100 network calls and
    /// as many products with their Jacobian for each, as much as a row of 300 to 400 calls with so many samples [default: with --out, 64 images or
    /// 200 vectors; otherwise 0].
    #[arg(long, value_name = "N")]
    likelihood: Option<usize>,
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
    /// The classes of the reference, as the model knows them.
    classes: Classes,
    /// How many values its numbers can have, if not any.
    levels: Option<usize>,
    training: Option<Box<dyn Dataset>>,
    ruler: Ruler,
}

/// What there is besides rows.
struct Beside {
    /// The row of least distance to the data, if there is one.
    best: Option<usize>,
    likelihoods: Vec<Likelihoods>,
    trajectory: Option<Trajectory>,
}

impl Evaluate {
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let budget = self.budget.as_deref().map(seconds).transpose()?;
        let features = space::features(&self.features)?;
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
        let stop = || budget.is_some_and(|b| started.elapsed().as_secs_f64() >= b);
        let (mut rows, mut missing, mut of) = (Vec::new(), Vec::new(), Vec::new());
        // Of data first: no row is needed for it.
        let mut likely = Vec::from_iter(self.data_likelihood(&evaluation, &compared, &cache, &mut missing, &stop)?);
        let measured = measure(&evaluation, &ways, &mut cache, stop)?;
        for (way, row) in sorted(&ways, measured) {
            match row {
                Some(row) => {
                    rows.push(row);
                    of.push(way);
                }
                None => missing.push(way.name()),
            }
        }
        let best = best(&rows, ruler.distance());
        let mut trajectory = None;
        if let Some(i) = best {
            likely.extend(self.sample_likelihood(&evaluation, &compared, (of[i], &rows[i]), &cache, &mut missing, &stop)?);
            trajectory = self.trajectory(&evaluation, of[i], &cache)?;
        }
        let beside = Beside { best, likelihoods: likely, trajectory };
        self.write_report(&opened, &evaluation, &compared, &others, &rows, &beside, &missing, &cache)?;
        let rows: Vec<Row> = others.into_iter().map(|(row, _)| row).chain(rows).collect();
        self.answer(&evaluation, &compared.name, &rows, &beside.likelihoods, &missing)?;
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
        space::check_width(&self.features, features.width(opened.model.config.sample_shape.iter().product()))?;
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
        let (Batch { x, labels }, levels) = rows.first(opened, 2 * self.count)?;
        let n = x.dim(0).min(self.count);
        let (reference, again) = (x.slice(0, 0..n), (x.dim(0) == 2 * n).then(|| x.slice(0, n..2 * n)));
        let labels = labels.map(|labels| labels[..n].to_vec());
        let classes = classes(&opened.model, labels.clone());
        let space = if self.features == "pixels" { String::new() } else { format!(", --features {}", self.features) };
        let mut ruler = Ruler::new(features, &reference, labels).map_err(|e| Failure::failed(format!("{name}{space}: {e}")))?;
        if reference.dim(0) < self.count {
            print::note(format_args!("{name}: {} samples, fewer than the {} of each row", reference.dim(0), self.count));
        }
        let training = opened.config.as_ref().filter(|_| self.training != Some(0)).map(|_| train().set(opened)).transpose()?;
        if let Some(training) = &training {
            let count = training.len().min(self.training.unwrap_or(TRAINING));
            if matches!(ruler.features(), Features::Network(FeatureNetwork::Pretrained(_))) && count > SLOW {
                print::note(format_args!(
                    "training data: features of {count} images, which takes a while; --training looks at fewer"
                ));
            }
            ruler = ruler.with_training(count, |rows| Ok(training.batch(&rows.collect::<Vec<_>>())?.x))?;
        }
        Ok(Compared { name, reference, again, classes, levels, training, ruler })
    }

    /// How many samples' likelihoods are wanted.
    fn scored(&self, evaluation: &Evaluation) -> usize {
        let default = if evaluation.model.config.sample_shape.len() > 1 { SCORED.1 } else { SCORED.0 };
        self.likelihood.unwrap_or(if self.out.is_some() { default } else { 0 })
    }

    fn data_likelihood(
        &self,
        evaluation: &Evaluation,
        compared: &Compared,
        cache: &Cache,
        missing: &mut Vec<String>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Likelihoods>, Failure> {
        let count = self.scored(evaluation).min(compared.reference.dim(0));
        if count == 0 {
            return Ok(None);
        }
        let x = compared.reference.slice(0, 0..count);
        let (name, levels, classes) = (compared.name.clone(), compared.levels, first(&compared.classes, count));
        let source = Set::identify(&x);
        likelihoods(evaluation, &Set { name, source, count, classes, levels }, &|| Ok(x.clone()), cache, missing, stop)
    }

    fn sample_likelihood(
        &self,
        evaluation: &Evaluation,
        compared: &Compared,
        (way, row): (&Way, &Row),
        cache: &Cache,
        missing: &mut Vec<String>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Likelihoods>, Failure> {
        let count = self.scored(evaluation).min(evaluation.request.count);
        if count == 0 {
            return Ok(None);
        }
        let (name, source) = (format!("samples of {}", way.name()), row.key.clone());
        let (levels, classes) = (compared.levels, first(&evaluation.request.classes, count));
        let x = || evaluation.samples(way, count);
        likelihoods(evaluation, &Set { name, source, count, classes, levels }, &x, cache, missing, stop)
    }

    /// How samples of the best row come about, for the page.
    fn trajectory(&self, evaluation: &Evaluation, way: &Way, cache: &Cache) -> Result<Option<Trajectory>, Failure> {
        let shape = &evaluation.model.config.sample_shape;
        if self.out.is_none() || !has_picture(shape) {
            return Ok(None);
        }
        let count = if shape.len() > 1 { MOVED.1 } else { MOVED.0 };
        if let Some(found) = cache.trajectory(&evaluation.trajectory_key(way, count)?)? {
            return Ok(Some(found));
        }
        let found = evaluation.trajectory(way, count).map_err(|e| named(way, e))?;
        cache.keep_trajectory(&found)?;
        Ok(Some(found))
    }

    #[expect(clippy::too_many_arguments, reason = "everything that there is goes into the report")]
    fn write_report(
        &self,
        opened: &Opened,
        evaluation: &Evaluation,
        compared: &Compared,
        others: &[(Row, Option<Tensor>)],
        rows: &[Row],
        beside: &Beside,
        missing: &[String],
        cache: &Cache,
    ) -> Result<(), Failure> {
        let Some(out) = &self.out else { return Ok(()) };
        let optimal = optimal(rows, evaluation.ruler.distance());
        let mut shown = Vec::new();
        for (row, x) in others {
            shown.push(Shown { row: row.clone(), optimal: false, samples: x.as_ref().map(kept) });
        }
        for (row, optimal) in rows.iter().zip(optimal) {
            shown.push(Shown { row: row.clone(), optimal, samples: cache.shown(&row.key)? });
        }
        let report = Report {
            evaluation,
            config: opened.config.as_ref(),
            folder: &opened.folder,
            model_file: self.which.file(),
            compared_with: &compared.name,
            reference: &kept(&compared.reference),
            training: compared.training.as_deref(),
            rows: &shown,
            best: beside.best.map(|i| &shown[others.len() + i]),
            trajectory: beside.trajectory.as_ref(),
            likelihoods: &beside.likelihoods,
            missing,
        };
        let path = out.join("report.html");
        report.write(&path)?;
        self.tell(&format!("report: {}", path.display()));
        Ok(())
    }

    fn answer(
        &self,
        evaluation: &Evaluation,
        data: &str,
        rows: &[Row],
        likelihoods: &[Likelihoods],
        missing: &[String],
    ) -> Result<(), Failure> {
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
                "likelihoods": likelihoods.iter().map(likelihoods_json).collect::<Vec<_>>(),
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
        for found in likelihoods {
            print::answer(likelihoods_text(found))?;
        }
        if !missing.is_empty() {
            print::answer(format_args!("not measured, the budget was spent: {}", missing.join("; ")))?;
        }
        Ok(())
    }
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
    let set = DataConfig::Array(Array::at(path)).open("".as_ref())?;
    let (found, expected) = (set.sample_shape(), &opened.model.config.sample_shape);
    if found != expected {
        let message = format!("expected an array [N, ...] of samples of shape {expected:?}, found samples of shape {found:?}");
        return Err(Failure::failed(format!("{}: {message}", path.display())));
    }
    Ok(set.batch(&(0..set.len()).collect::<Vec<_>>())?.x)
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

/// How likely a set is, if that was computed before or there is time to; `x` gives its samples.
fn likelihoods(
    evaluation: &Evaluation,
    set: &Set,
    x: &dyn Fn() -> Result<Tensor, TrainError>,
    cache: &Cache,
    missing: &mut Vec<String>,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Likelihoods>, Failure> {
    if let Some(found) = cache.likelihoods(&evaluation.likelihood_key(set))? {
        // The same samples may have another name now.
        return Ok(Some(Likelihoods { name: set.name.clone(), ..found }));
    }
    if stop() {
        missing.push(format!("likelihood of {}", set.name));
        return Ok(None);
    }
    let mut progress = Progress::new("likelihood", 0, set.count as u64);
    let found = evaluation.likelihoods(set, &x()?, &mut |done| progress.set(done as u64, &set.name))?;
    progress.note(&format!("likelihood of {}: {}", set.name, duration(found.seconds)));
    progress.finish();
    Ok(Some(cache.keep_likelihoods(&found)?))
}

/// Those of the first samples.
fn first(classes: &Classes, count: usize) -> Classes {
    match classes {
        Classes::Each(labels) => Classes::Each(labels[..count].to_vec()),
        other => other.clone(),
    }
}

/// The row of least distance to the data.
fn best(rows: &[Row], distance: &str) -> Option<usize> {
    let of = |i: &usize| rows[*i].score(distance).map_or(f64::INFINITY, |score| score.mean);
    (0..rows.len()).filter(|i| of(i).is_finite()).min_by(|a, b| of(a).total_cmp(&of(b)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let of = |text: &str| seconds(text).ok();
        assert_eq!((of("90s"), of("5m"), of("1.5h"), of("7")), (Some(90.0), Some(300.0), Some(5400.0), Some(7.0)));
        assert_eq!((of("m"), of("-1s"), of("5 minutes"), of("inf")), (None, None, None, None));
    }
}
