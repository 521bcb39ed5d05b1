//! `fokker likelihood`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use fokker_data::atomic_write;
use fokker_solve::dequantise::bits_per_dimension;
use fokker_solve::{
    Bounded, Control, Dequantisation, Divergence, Integrator, Law, Likelihood as Settings, Method, Prior, Probes,
    VariationalBound,
};
use fokker_train::{Interval, Repeated, Scores, Scoring, bound};
use serde_json::json;

use crate::failure::Failure;
use crate::method::{Opened, Precision, Which};
use crate::print;
use crate::progress::{Progress, duration};
use crate::rows::{Read, Rows};

#[derive(Args)]
#[command(after_help = "Examples:\n  fokker likelihood runs/moons moons -n 500 --out scores.csv\n  \
                        fokker likelihood runs/moons --bound --density density.png\n  \
                        fokker likelihood runs/mnist test -n 64 --divergence hutchinson --rtol 1e-4 --atol 1e-4 --bound\n  \
                        fokker likelihood runs/glyphs glyphs -n 64 --dequantise 8 --divergence hutchinson --probes 4")]
pub(crate) struct Likelihood {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    rows: Rows,
    /// How the trace of the model's Jacobian is computed: exactly (one product for each dimension), or by random probes.
    #[arg(long, value_enum, default_value = "exact")]
    divergence: Trace,
    /// Random probes for each sample, the same for its whole path [default: 1]. Independent ones: of a pair z, -z the second would say
    /// nothing, as a quadratic form is the same at both.
    #[arg(long, value_name = "K")]
    probes: Option<usize>,
    /// What probes are drawn from: random signs, or normal numbers, whose estimates spread more [default: rademacher].
    #[arg(long, value_enum)]
    law: Option<ProbeLaw>,
    /// Draw new probes for each evaluation, which average over the path. With --steps: control of the error needs a smooth path.
    #[arg(long, requires = "steps")]
    fresh: bool,
    /// How the ODE is solved: by Adams' methods, whose steps and orders the tolerance leads, one evaluation each; by dopri5 or tsit5, at a
    /// tolerance ten to fifty times as large; with --steps by any Runge-Kutta method [default: adams, with --steps rk4].
    #[arg(long, value_enum)]
    solver: Option<Solver>,
    /// Take so many steps instead of controlling their error: equal ones of ln tan(θ/2) with tan θ = σ/α, near the data those of ln σ.
    #[arg(long, value_name = "N", conflicts_with_all = ["rtol", "atol"])]
    steps: Option<usize>,
    /// Relative tolerance of a step.
    #[arg(long, value_name = "R", default_value_t = 1e-6)]
    rtol: f64,
    /// Absolute tolerance of a step, in the state's units and in nats.
    #[arg(long, value_name = "A", default_value_t = 1e-6)]
    atol: f64,
    /// Take the state at the far end for pure noise, as the literature does, instead of asking the model for its density there.
    #[arg(long)]
    noise_prior: bool,
    /// Draws of uniform noise that make discrete data real: 1 for uniform dequantisation, more for the importance-weighted, tighter
    /// bound, 0 for none: the density of the numbers as they are [default: 1 for data with levels, such as bytes].
    #[arg(long, value_name = "K")]
    dequantise: Option<usize>,
    /// The number of levels, equally spaced from −1 to 1, that the data's numbers are on [default: 256 for bytes, otherwise none].
    #[arg(long, value_name = "L")]
    levels: Option<usize>,
    /// Compute the variational bound beside it: in continuous time, or of the chain of a ladder's steps (or of 1000).
    #[arg(long, value_enum, value_name = "KIND", num_args = 0..=1, default_missing_value = "continuous")]
    bound: Option<BoundKind>,
    /// Evaluations of the bound for each sample [default: 64 in continuous time, all of a chain].
    #[arg(long, value_name = "N", requires = "bound")]
    bound_times: Option<usize>,
    /// Draw the density of a model of points in the plane, beside the data, and sum it up; with the exact trace, at a tolerance of 1e-4, or yours
    /// if it is larger.
    #[arg(long, value_name = "PNG")]
    density: Option<PathBuf>,
    /// The density's grid: so many values in a row and in a column.
    #[arg(long, value_name = "N", default_value_t = 96)]
    density_side: usize,
    /// Write each sample's score, and its bound, in nats.
    #[arg(long, value_name = "CSV")]
    out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Dimensions from which on the exact trace takes so long that it is worth a word.
const MANY: usize = 100;

#[derive(Clone, Copy, ValueEnum)]
enum Trace {
    Exact,
    Hutchinson,
    #[value(name = "hutch++")]
    HutchPlusPlus,
}

#[derive(Clone, Copy, ValueEnum)]
enum ProbeLaw {
    Rademacher,
    Gaussian,
}

#[derive(Clone, Copy, ValueEnum)]
enum Solver {
    Adams,
    Dopri5,
    Tsit5,
    Euler,
    Midpoint,
    Heun,
    Ralston,
    Rk3,
    Rk4,
}

impl Solver {
    /// Of Runge and Kutta, if it is theirs.
    fn method(self) -> Option<Method> {
        match self {
            Solver::Adams => None,
            Solver::Dopri5 => Some(Method::Dopri5),
            Solver::Tsit5 => Some(Method::Tsit5),
            Solver::Euler => Some(Method::Euler),
            Solver::Midpoint => Some(Method::Midpoint),
            Solver::Heun => Some(Method::Heun),
            Solver::Ralston => Some(Method::Ralston),
            Solver::Rk3 => Some(Method::Rk3),
            Solver::Rk4 => Some(Method::Rk4),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum BoundKind {
    Continuous,
    Chain,
}

/// What was computed.
struct Found {
    /// Of a sample.
    dimensions: usize,
    cells: Option<Dequantisation>,
    scores: Scores,
    repeated: Repeated,
    bound: Option<Bounded>,
    density: Option<crate::density::Drawn>,
    seconds: f64,
}

impl Likelihood {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.which.dtype == Some(Precision::Bf16) {
            // Between two roundings the velocity is a staircase, and its derivative, the trace, that of another function.
            let reason = "the steps and the trace of a density need a smooth network; use f32 or f64";
            return Err(Failure::usage(format!("--dtype bf16: {reason}")));
        }
        let mut opened = self.which.open(self.rows.count)?;
        let settings = self.settings()?;
        settings.check()?;
        let bounding = self.bounding();
        bounding.as_ref().map_or(Ok(()), VariationalBound::check)?;
        expect_extension("--out", self.out.as_deref(), "csv")?;
        expect_extension("--density", self.density.as_deref(), "png")?;
        if let Some(path) = &self.density {
            crate::density::check(path, &opened.model, self.density_side)?;
        }
        let Read { x, levels } = self.rows.read(&mut opened, &self.which)?;
        let cells = self.cells(&x, levels)?;
        let Opened { model, request, .. } = &opened;
        let dimensions = x.len() / request.count;
        if matches!(self.divergence, Trace::Exact) && dimensions > MANY {
            print::note(format_args!(
                "the exact trace takes {dimensions} products for each evaluation; --divergence hutchinson takes one for each probe"
            ));
        }
        self.note_needless_probes(&settings.divergence, dimensions);

        let started = Instant::now();
        let scoring = Scoring { likelihood: settings, dequantisation: cells };
        let mut progress = Progress::new("sample", 0, request.count as u64);
        let scores = scoring.run(model, request, &x, &mut |done| progress.set(done as u64, ""))?;
        let repeated = scoring.repeat(model, request, &x, &scores)?;
        progress.finish();
        let bound = match bounding {
            None => None,
            Some(bounding) => {
                let mut progress = Progress::new("bound", 0, request.count as u64);
                let levels = cells.map(|cells| cells.levels);
                let found = bound(model, request, &bounding, levels, &x, &mut |done| progress.set(done as u64, ""))?;
                progress.finish();
                Some(found)
            }
        };
        let density = match &self.density {
            None => None,
            Some(path) => {
                Some(crate::density::draw(path, self.density_side, &opened, &scoring.likelihood, &self.rows, &self.which)?)
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        let found = Found { dimensions, cells, scores, repeated, bound, density, seconds };
        if let Some(out) = &self.out {
            let text = found.table();
            atomic_write(out, |file| file.write_all(text.as_bytes()))?;
        }
        if self.json { print::answer(format_args!("{:#}", found.json())) } else { self.answer(&found) }
    }

    fn settings(&self) -> Result<Settings, Failure> {
        let law = match self.law {
            Some(ProbeLaw::Gaussian) => Law::Gaussian,
            Some(ProbeLaw::Rademacher) | None => Law::Rademacher,
        };
        let probes = Probes { count: self.probes.unwrap_or(1), law, fresh: self.fresh };
        let divergence = match self.divergence {
            Trace::Exact if self.probes.is_some() || self.law.is_some() || self.fresh => {
                let why =
                    "expected hutchinson or hutch++ with --probes, --law or --fresh, as the exact trace has no random probes";
                return Err(Failure::usage(format!("--divergence exact: {why}")));
            }
            Trace::Exact => Divergence::Exact,
            Trace::Hutchinson => Divergence::Hutchinson(probes),
            Trace::HutchPlusPlus => Divergence::HutchPlusPlus(probes),
        };
        let integrator = self.integrator()?;
        let prior = if self.noise_prior { Prior::Noise } else { Prior::Matched };
        Ok(Settings { divergence, integrator, prior, ..Settings::default() })
    }

    fn integrator(&self) -> Result<Integrator, Failure> {
        let (rtol, atol) = (self.rtol, self.atol);
        Ok(match (self.solver.map(Solver::method), self.steps) {
            (None | Some(None), None) => Integrator::with_tolerances(rtol, atol),
            (Some(Some(method)), None) => Integrator::Adaptive { method, control: Control { rtol, atol, ..Control::default() } },
            (None, Some(steps)) => Integrator::Fixed { method: Method::default(), steps },
            (Some(Some(method)), Some(steps)) => Integrator::Fixed { method, steps },
            (Some(None), Some(_)) => {
                return Err(Failure::usage(
                    "--solver adams: finds its own steps; leave out --steps, or take rk4 or another method",
                ));
            }
        })
    }

    /// Says so where random probes cost what the exact trace would.
    fn note_needless_probes(&self, divergence: &Divergence, dimensions: usize) {
        let products = match divergence {
            Divergence::Exact => return,
            Divergence::Hutchinson(probes) => probes.count,
            Divergence::HutchPlusPlus(probes) => 3 * probes.count,
        };
        if products >= dimensions {
            print::note(format_args!(
                "these probes take {products} products for each evaluation; --divergence exact takes {dimensions} and has no error"
            ));
        }
    }

    fn bounding(&self) -> Option<VariationalBound> {
        let times = self.bound_times;
        Some(match self.bound? {
            BoundKind::Continuous => match times {
                Some(times) => VariationalBound::Continuous { times },
                None => VariationalBound::default(),
            },
            BoundKind::Chain => VariationalBound::Chain { steps: None, times, fraction: 0.0 },
        })
    }

    /// How data with levels are made real.
    fn cells(&self, x: &fokker_tensor::Tensor, levels: Option<usize>) -> Result<Option<Dequantisation>, Failure> {
        let levels = self.levels.or(levels);
        let cells = match (self.dequantise, levels) {
            (Some(0), _) | (None, None) => return Ok(None),
            (Some(draws), None) => {
                let why = "expected data with levels; say how many with --levels, if these numbers are on such";
                return Err(Failure::usage(format!("--dequantise {draws}: {why}")));
            }
            (draws, Some(levels)) => Dequantisation { levels, draws: draws.unwrap_or(1) },
        };
        cells.check()?;
        let place = |x: f64| (x + 1.0) / cells.width();
        let off = |x: &f64| (place(*x) - place(*x).round()).abs() > 1e-3 || x.abs() > 1.0 + 1e-6;
        match x.to_vec::<f64>().iter().find(|x| off(x)) {
            Some(x) => Err(Failure::usage(format!("--levels {}: expected numbers on these levels, found {x}", cells.levels))),
            None => Ok(Some(cells)),
        }
    }

    fn answer(&self, found: &Found) -> Result<(), Failure> {
        let n = found.scores.values.len();
        let of = if n > 1 { format!("mean of {n} samples and its 95 % interval") } else { "1 sample".to_owned() };
        let interval = found.interval(&found.scores.values);
        let (score, other) = match found.cells {
            Some(_) => ("bits per dimension", format!("{} nats", number(interval.mean, 3))),
            None => ("log-density", format!("{} nats per dimension", number(interval.mean / found.dimensions as f64, 4))),
        };
        print::answer(format_args!("{score}: {}, {of}; {other}", found.text(&interval)))?;
        if let Some(cells) = found.cells {
            print::say(format_args!(
                "{} levels made real by {} of uniform noise: a lower bound of the probability, so an upper bound of the bits",
                cells.levels,
                if cells.draws == 1 { "1 draw".to_owned() } else { format!("the mean over {} draws", cells.draws) }
            ));
        }
        print::say(format_args!("{}", found.uncertainty(&interval)));
        if let Some(bound) = &found.bound {
            let values = bound.log_density();
            print::answer(format_args!("variational bound: {}", found.text(&found.interval_of_bound(&values))))?;
            let gaps: Vec<f64> = values.iter().zip(&found.scores.values).map(|(bound, score)| bound - score).collect();
            let part = |values: &[f64]| found.short(-Interval::of(values, 0.0).mean);
            print::say(format_args!(
                "its difference: {}; prior {}, diffusion {}, reconstruction {}; {} network calls",
                found.text(&found.interval(&gaps)),
                part(&bound.prior),
                part(&bound.diffusion),
                part(&bound.reconstruction),
                bound.nfe
            ));
        }
        if let Some(drawn) = &found.density {
            print::answer(format_args!("{drawn}"))?;
        }
        print::say(format_args!(
            "{} network calls and at most {} products with the Jacobian, in {}",
            found.scores.nfe,
            found.scores.products,
            duration(found.seconds)
        ));
        if let Some(out) = &self.out {
            print::say(format_args!("scores: {}", out.display()));
        }
        Ok(())
    }
}

impl Found {
    fn interval(&self, values: &[f64]) -> Interval {
        Interval::of(values, self.repeated.solver)
    }

    /// No solver has a part in it.
    fn interval_of_bound(&self, values: &[f64]) -> Interval {
        Interval::of(values, 0.0)
    }

    /// What nats are multiplied with to become bits per dimension of discrete data.
    fn bits(&self) -> Option<f64> {
        self.cells.map(|_| bits_per_dimension(1.0, self.dimensions))
    }

    /// Nats of log-probability in the units of the answer, with as many digits as small numbers need.
    fn short(&self, nats: f64) -> String {
        let (value, unit) = self.bits().map_or((nats, "nats"), |factor| (nats * factor, "bits/dim"));
        if value.abs() < 1e-3 && value != 0.0 { format!("{value:.1e} {unit}") } else { format!("{} {unit}", number(value, 4)) }
    }

    fn text(&self, interval: &Interval) -> String {
        let (interval, unit) = self.bits().map_or((*interval, "nats"), |factor| (interval.scaled(factor), "bits/dim"));
        let spread = interval.half_width.map_or_else(String::new, |width| format!(" ± {}", number(width, 4)));
        format!("{}{spread} {unit}", number(interval.mean, 4))
    }

    /// What the interval is made of.
    fn uncertainty(&self, interval: &Interval) -> String {
        let Repeated { samples, solver, draws } = self.repeated;
        let size = |nats: f64| self.short(nats).trim_start_matches('-').to_owned();
        let over = interval.standard_error.map_or_else(String::new, |e| format!("standard error over samples {}, ", size(e)));
        let draws = draws.map_or_else(String::new, |d| format!("one sample's random draws {}, ", size(d)));
        format!("{over}{draws}solver {} (from {samples} again)", size(solver))
    }

    /// The samples' numbers, from 0, their scores and their bounds.
    fn table(&self) -> String {
        let score = if self.cells.is_some() { "log_probability" } else { "log_density" };
        let bounds = self.bound.as_ref().map(Bounded::log_density);
        let mut text = format!("sample,{score}{}\n", if bounds.is_some() { ",bound" } else { "" });
        for (i, value) in self.scores.values.iter().enumerate() {
            let bound = bounds.as_ref().map_or_else(String::new, |bounds| format!(",{}", bounds[i]));
            writeln!(text, "{i},{value}{bound}").expect("a String takes everything");
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let score = if self.cells.is_some() { "log_probability" } else { "log_density" };
        let interval = self.interval(&self.scores.values);
        let ends = |interval: Interval| interval.half_width.map(|width| [interval.mean - width, interval.mean + width]);
        let mut value = json!({
            "samples": self.scores.values.len(),
            "dimensions": self.dimensions,
            "evaluations": self.scores.nfe,
            "products": self.scores.products,
            "seconds": self.seconds,
            "solver_error": self.repeated.solver,
            "draws_standard_deviation": self.repeated.draws,
        });
        let mut set = |key: String, item: serde_json::Value| value[key] = item;
        set(format!("{score}_mean"), json!(interval.mean));
        set(format!("{score}_standard_error"), json!(interval.standard_error));
        set(format!("{score}_interval"), json!(ends(interval)));
        set(score.to_owned(), json!(self.scores.values));
        if let (Some(cells), Some(factor)) = (self.cells, self.bits()) {
            set("levels".to_owned(), json!(cells.levels));
            set("draws".to_owned(), json!(cells.draws));
            set("bits_per_dimension".to_owned(), json!(interval.scaled(factor).mean));
            set("bits_per_dimension_interval".to_owned(), json!(ends(interval.scaled(factor))));
        }
        if let Some(bound) = &self.bound {
            let values = bound.log_density();
            let interval = self.interval_of_bound(&values);
            let mean = |values: &[f64]| Interval::of(values, 0.0).mean;
            set(
                "bound".to_owned(),
                json!({
                    "mean": interval.mean,
                    "standard_error": interval.standard_error,
                    "interval": ends(interval),
                    "bits_per_dimension": self.bits().map(|factor| interval.mean * factor),
                    "prior": mean(&bound.prior),
                    "diffusion": mean(&bound.diffusion),
                    "reconstruction": mean(&bound.reconstruction),
                    "evaluations": bound.nfe,
                    "values": values,
                }),
            );
        }
        if let Some(drawn) = &self.density {
            set("density_integral".to_owned(), json!(drawn.integral));
        }
        value
    }
}

/// With so many digits after the point; of data far from what a model knows as a power of ten, not as sixty digits.
fn number(value: f64, digits: usize) -> String {
    if value.abs() < 1e7 { format!("{value:.digits$}") } else { format!("{value:.digits$e}") }
}

fn expect_extension(option: &str, path: Option<&Path>, extension: &str) -> Result<(), Failure> {
    match path {
        Some(path) if path.extension().and_then(|e| e.to_str()) != Some(extension) => {
            Err(Failure::usage(format!("{option} {}: expected a file ending in .{extension}", path.display())))
        }
        _ => Ok(()),
    }
}
