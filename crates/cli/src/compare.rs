//! `fokker features compare`: the Fréchet distance of two sets of features, or other metrics of them.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Args;
use fokker_data::read_npy;
use fokker_metrics::{Frechet, MetricConfig, Moments, Score, Statistics};
use fokker_tensor::Tensor;
use serde_json::{Value, json};

use crate::chart::short;
use crate::failure::Failure;
use crate::method::unknown;
use crate::print;

#[derive(Args)]
#[command(after_help = "Examples:\n  fokker features compare generated.npz test.npz\n  \
                        fokker features compare generated.npy fid_stats_cifar10_train.npz --json\n  \
                        fokker features compare test.npy generated.npy --metrics mmd,nearest-neighbour-test,vendi")]
pub(crate) struct Compare {
    /// Features [N, D] (.npy), or statistics that `features extract` or pytorch-fid wrote (.npz).
    first: PathBuf,
    /// The other set, of the same network.
    second: PathBuf,
    /// These metrics instead, separated by commas, or `all` (see `fokker list metrics`), of two sets of features or vectors (.npy): the first set is
    /// taken for the real one, or the one trained on, and the second for the generated one.
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    metrics: Vec<String>,
    /// Seed of what metrics draw: permutations, directions, subsets.
    #[arg(long, default_value_t = 0, requires = "metrics")]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Compare {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if !self.metrics.is_empty() {
            return self.run_metrics();
        }
        let (first, second) = (statistics(&self.first)?, statistics(&self.second)?);
        let distance = Frechet::between(&first, &second).map_err(|e| self.failed(e))?;
        let width = first.mean().len();
        if self.json {
            let value = json!({
                "frechet": distance,
                "features": width,
                "counts": [first.count(), second.count()],
                "spaces": [first.space(), second.space()],
            });
            return print::answer(format_args!("{value:#}"));
        }
        print::answer(format_args!("Fréchet distance: {distance:.6}"))?;
        let count = |s: &Statistics| s.count().map_or("an unknown number".to_owned(), |n| n.to_string());
        print::say(format_args!("{width} features of {} and {} images", count(&first), count(&second)));
        if [&first, &second].iter().any(|s| s.count().is_some_and(|n| n <= width as u64)) {
            print::note("with no more images than features the distance is mostly bias: compare at equal numbers only");
        }
        Ok(())
    }

    fn failed(&self, why: impl std::fmt::Display) -> Failure {
        Failure::failed(format!("{} and {}: {why}", self.first.display(), self.second.display()))
    }

    /// With `all`, what a metric cannot judge is a line that says why.
    fn run_metrics(&self) -> Result<(), Failure> {
        let all = self.metrics.iter().any(|name| name == "all");
        let configs = if all { MetricConfig::all() } else { self.named()? };
        let (real, generated) = (vectors(&self.first)?, vectors(&self.second)?);
        let mut found = Vec::new();
        for config in configs {
            match config.scores(&real, &generated, self.seed) {
                Ok(scores) => found.push((config.kind(), Ok(scores))),
                Err(why) if all => found.push((config.kind(), Err(why.to_string()))),
                Err(why) => return Err(self.failed(format_args!("{}: {why}", config.kind()))),
            }
        }
        if found.iter().all(|(_, scores)| scores.is_err()) {
            let why = found.into_iter().find_map(|(_, scores)| scores.err()).unwrap_or_default();
            return Err(self.failed(why));
        }
        if self.json {
            let metrics: Vec<Value> = found.iter().map(|(kind, scores)| to_json(kind, scores)).collect();
            let value = json!({ "counts": [real.dim(0), generated.dim(0)], "seed": self.seed, "metrics": metrics });
            return print::answer(format_args!("{value:#}"));
        }
        let lines = found.iter().flat_map(|(kind, scores)| match scores {
            Ok(scores) => scores.iter().map(|score| line(score.name, &value(score))).collect(),
            Err(why) => vec![line(kind, &format!("none: {why}"))],
        });
        print::answer(lines.collect::<Vec<_>>().join("\n"))?;
        print::say(format_args!("{} and {} vectors", real.dim(0), generated.dim(0)));
        Ok(())
    }

    fn named(&self) -> Result<Vec<MetricConfig>, Failure> {
        let known: Vec<&str> = MetricConfig::all().iter().map(MetricConfig::kind).chain(["all"]).collect();
        let named = |name: &String| MetricConfig::with_defaults(name).map_err(|_| unknown("--metrics", name, &known));
        self.metrics.iter().map(named).collect()
    }
}

fn line(name: &str, text: &str) -> String {
    format!("{name:28}{text}")
}

fn value(score: &Score) -> String {
    let error = score.error.map_or_else(String::new, |error| format!(", standard error {}", short(error)));
    format!("{}{error}", short(score.value))
}

fn to_json(kind: &str, scores: &Result<Vec<Score>, String>) -> Value {
    match scores {
        Ok(scores) => json!({ "kind": kind, "scores": scores }),
        Err(why) => json!({ "kind": kind, "failed": why }),
    }
}

/// Vectors `[N, ...]` of a file.
fn vectors(path: &Path) -> Result<Tensor, Failure> {
    if path.extension().is_none_or(|e| e != "npy") {
        return Err(Failure::usage(format!("{}: expected features in .npy for --metrics", path.display())));
    }
    let x = read_npy(path)?;
    if x.rank() < 2 {
        let found = x.shape();
        return Err(Failure::failed(format!("{}: expected vectors [N, ...], found an array {found:?}", path.display())));
    }
    Ok(x)
}

/// Mean and covariance of the features in a file.
fn statistics(path: &Path) -> Result<Statistics, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::failed(format!("{}: {e}", path.display()));
    match path.extension().and_then(|e| e.to_str()) {
        Some("npz") => {
            let file = File::open(path).map_err(|e| failed(&format!("cannot read: {e}")))?;
            Statistics::read_npz(BufReader::new(file)).map_err(|e| failed(&e))
        }
        Some("npy") => {
            let x = read_npy(path)?;
            if x.rank() != 2 {
                return Err(failed(&format!("expected features [N, D], found an array {:?}", x.shape())));
            }
            Moments::of(&x).and_then(|moments| moments.statistics()).map_err(|e| failed(&e))
        }
        _ => Err(Failure::usage(format!("{}: expected features in .npy, or statistics in .npz", path.display()))),
    }
}
