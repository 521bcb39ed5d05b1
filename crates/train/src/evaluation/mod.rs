//! The generative learning trilemma (Xiao et al. 2022, arXiv:2112.07804) measured: quality, coverage and speed of every way of
//! sampling a model.
//!
//! ```text
//! row = (solver, steps):   samples of K seeds  →  each score  mean ± t s/√K,  t: Student's 97.5 % point of K − 1 degrees of freedom
//! ```
//!
//! The interval is over the noise that samples come from: model, data and their number are fixed, and so are not part of it.
//!
//! Of all rows those are Pareto-optimal that no other beats in distance to the data, coverage and network calls together ([`optimal`]).

mod cache;
mod identity;
mod likelihood;
mod pareto;
mod ruler;
mod space;
mod trajectory;

use std::collections::BTreeMap;
use std::time::Instant;

use fokker_models::DiffusionModel;
use fokker_solve::{Observer, Solver, SolverConfig};
use fokker_tensor::{Dtype, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use cache::Cache;
pub use identity::sha256;
pub use likelihood::{Likelihoods, Set};
pub use pareto::pareto;
pub use ruler::{Better, COLUMNS, Column, Ruler, Scores};
pub use space::Features;
pub use trajectory::{Moment, Trajectory};

use crate::error::TrainError;
use crate::sampling::{Generate, generate};
use crate::scores::Interval;

/// Changes whenever a score's definition does, so that no cached row of another is taken for it.
const VERSION: u32 = 1;

/// How often the latency of one sample is measured; the median counts.
const LATENCIES: usize = 3;

/// A way of sampling.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// The solver.
    pub solver: SolverConfig,
    /// Steps of its grid.
    pub steps: usize,
}

impl Way {
    /// As messages name it.
    pub fn name(&self) -> String {
        let steps = if self.steps == 1 { "step" } else { "steps" };
        format!("{}, {} {steps}", Solver::name(&self.solver), self.steps)
    }
}

/// What was measured of one way of sampling, or of samples from elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// A hash of everything that the row depends on.
    pub key: String,
    /// The solver's name, or where the samples are from.
    pub name: String,
    /// Steps; none of samples from elsewhere.
    pub steps: Option<usize>,
    /// Network calls for one sample, counted.
    pub nfe: Option<usize>,
    /// Each score with its value for each seed.
    pub scores: BTreeMap<String, Vec<f64>>,
    /// Samples per second for each seed.
    pub rates: Vec<f64>,
    /// Seconds that one sample takes alone.
    pub latency: Option<f64>,
    /// The largest resident memory of the process while sampling, in bytes, where the system tells.
    pub memory: Option<u64>,
    /// Why there are no scores.
    pub failed: Option<String>,
}

impl Row {
    /// Mean and interval of a score.
    pub fn score(&self, name: &str) -> Option<Interval> {
        self.scores.get(name).filter(|values| !values.is_empty()).map(|values| Interval::of(values, 0.0))
    }

    /// Mean and interval of samples per second.
    pub fn rate(&self) -> Option<Interval> {
        (!self.rates.is_empty()).then(|| Interval::of(&self.rates, 0.0))
    }

    fn add(&mut self, scores: Scores) {
        for (name, value) in scores {
            self.scores.entry(name).or_default().push(value);
        }
    }
}

/// Which rows are Pareto-optimal: by the distance, the coverage and the network calls. Rows without network calls have no part in it.
pub fn optimal(rows: &[Row], distance: &str) -> Vec<bool> {
    let objectives = |row: &Row| {
        let (distance, coverage) = (row.score(distance)?, row.score("coverage")?);
        Some([distance.mean, -coverage.mean, row.nfe? as f64])
    };
    pareto(&rows.iter().map(objectives).collect::<Vec<_>>())
}

/// A model, what its samples are compared with, and how many there are to be.
pub struct Evaluation<'a> {
    /// The model.
    pub model: &'a DiffusionModel,
    /// A hash of the model.
    pub model_id: String,
    /// All settings of sampling but solver and steps; its seed is that of the first of the seeds.
    pub request: Generate,
    /// What samples are compared with.
    pub ruler: &'a Ruler,
    /// The number of seeds `K`.
    pub seeds: usize,
}

impl Evaluation<'_> {
    /// The first `count` samples of this way and the first seed, or all if there are fewer: those that its row is of.
    ///
    /// # Errors
    /// If the sampler's settings make no sense, or the model's answer is not finite.
    pub fn samples(&self, way: &Way, count: usize) -> Result<Tensor, TrainError> {
        let request = self.request(way, 0);
        Ok(generate(self.model, &request.first(count.min(request.count)), &mut [])?.x)
    }

    /// How samples of this way and of the `i`-th seed are drawn.
    fn request(&self, way: &Way, i: usize) -> Generate {
        let mut request = self.request.clone();
        request.sampler.solver = way.solver.clone();
        request.sampler.grid.steps = way.steps;
        request.seed = self.request.seed.wrapping_add(i as u64);
        request
    }

    /// Whether model and solver go together.
    ///
    /// # Errors
    /// If they do not, or a setting makes no sense.
    pub fn check(&self, way: &Way) -> Result<(), TrainError> {
        let request = self.request(way, 0);
        request.sampler.build(self.model)?;
        Ok(())
    }

    /// A hash of everything that the row depends on: the model, all settings, seeds, data, features and threads.
    ///
    /// # Errors
    /// If the weaker model cannot be written.
    pub fn key(&self, way: &Way) -> Result<String, TrainError> {
        let request = self.request(way, 0);
        let weak = request.weak.as_ref().map(DiffusionModel::to_bytes).transpose()?;
        let settings = serde_json::json!({
            "version": VERSION,
            "model": self.model_id,
            "dtype": format!("{:?}{}", request.sampler.state, if self.model.dtype() == Dtype::Bf16 { ", network bf16" } else { "" }),
            "weak": weak.map(|bytes| sha256(&bytes)),
            "sampler": request.sampler,
            "guidance": request.guidance,
            "classes": format!("{:?}", request.classes),
            "count": request.count,
            "batch": request.batch,
            "seed": request.seed,
            "seeds": self.seeds,
            "ruler": self.ruler.id(),
            // Of samples bits are the same for any number, but not their speed.
            "threads": rayon::current_num_threads(),
        });
        Ok(sha256(settings.to_string().as_bytes()))
    }

    /// Draws samples of every seed and measures them; returns the samples of the first seed too. A solver whose samples are no numbers is a
    /// row that says so.
    ///
    /// # Errors
    /// If the sampler's settings make no sense.
    pub fn measure(&self, way: &Way, observers: &mut [&mut dyn Observer]) -> Result<(Row, Option<Tensor>), TrainError> {
        let name = Solver::name(&way.solver).to_owned();
        let mut row = Row { key: self.key(way)?, name, steps: Some(way.steps), ..Row::default() };
        let mut first = None;
        reset_peak_memory();
        for i in 0..self.seeds {
            let request = self.request(way, i);
            let started = Instant::now();
            let samples = match generate(self.model, &request, observers) {
                Ok(samples) => samples,
                Err(error) if is_result(&error) => return Ok((Row { failed: Some(error.to_string()), ..row }, first)),
                Err(error) => return Err(error),
            };
            row.rates.push(request.count as f64 / started.elapsed().as_secs_f64());
            row.nfe = row.nfe.max(Some(samples.nfe));
            // The metrics' memory is not the sampler's.
            if i == 0 {
                row.memory = peak_memory();
            }
            match self.ruler.measure(&samples.x, request.seed) {
                Ok(scores) => row.add(scores),
                Err(error) => return Ok((Row { failed: Some(error.to_string()), ..row }, first)),
            }
            first.get_or_insert(samples.x);
        }
        row.latency = Some(self.latency(way)?);
        Ok((row, first))
    }

    fn latency(&self, way: &Way) -> Result<f64, TrainError> {
        let request = self.request(way, 0).first(1);
        let mut seconds = Vec::new();
        for _ in 0..LATENCIES {
            let started = Instant::now();
            generate(self.model, &request, &mut [])?;
            seconds.push(started.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[LATENCIES / 2])
    }
}

/// The row of samples that are there already, by the same ruler: those of a file, or other data.
///
/// # Errors
/// If there are too few, a number is not finite, or the width is another.
pub fn judge(ruler: &Ruler, name: &str, x: &Tensor, seed: u64) -> Result<Row, TrainError> {
    let mut hash = Sha256::new();
    hash.update(format!("{VERSION} {name} {seed} {}", ruler.id()));
    identity::absorb(&mut hash, x);
    let mut row = Row { key: identity::hex(hash), name: name.to_owned(), ..Row::default() };
    row.add(ruler.measure(x, seed)?);
    Ok(row)
}

/// Whether the error says something about the solver rather than about what was asked for.
fn is_result(error: &TrainError) -> bool {
    use fokker_solve::SolveError::{NotFinite, NotFiniteSample, TooManySteps};
    matches!(error, TrainError::Solve(NotFinite { .. } | NotFiniteSample { .. } | TooManySteps { .. }))
}

/// Starts the count of the largest resident memory anew, where the system lets us: otherwise it is that since the process began.
fn reset_peak_memory() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// In bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests;
