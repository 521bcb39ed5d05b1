//! `fokker likelihood`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use fokker_data::atomic_write;
use fokker_solve::{Control, Divergence, Integrator, Likelihood as Settings, LogDensity, Method, Prior, Probes};
use fokker_train::log_density;

use crate::failure::Failure;
use crate::method::{Opened, Which};
use crate::print;
use crate::progress::{Progress, duration};
use crate::rows::Rows;

#[derive(Args)]
#[command(after_help = "Examples:\n  fokker likelihood runs/moons moons -n 500 --out scores.csv\n  \
                        fokker likelihood runs/glyphs glyphs -n 64 --divergence hutchinson --probes 4 --rtol 1e-4 --atol 1e-4")]
pub(crate) struct Likelihood {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    rows: Rows,
    /// How the trace of the model's Jacobian is computed: exactly (one product for each dimension), or by random probes.
    #[arg(long, value_enum, default_value = "exact")]
    divergence: Trace,
    /// Random probes for each sample, the same for its whole path.
    #[arg(long, value_name = "K", default_value_t = 1)]
    probes: usize,
    /// Relative tolerance of a step.
    #[arg(long, value_name = "R", default_value_t = 1e-5)]
    rtol: f64,
    /// Absolute tolerance of a step, in the state's units and in nats.
    #[arg(long, value_name = "A", default_value_t = 1e-5)]
    atol: f64,
    /// Take the state at the far end for pure noise, as the literature does, instead of asking the model for its density there.
    #[arg(long)]
    noise_prior: bool,
    /// Write each sample's log-density, in nats.
    #[arg(long, value_name = "CSV")]
    out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Trace {
    Exact,
    Hutchinson,
    #[value(name = "hutch++")]
    HutchPlusPlus,
}

impl Likelihood {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut opened = self.which.open(self.rows.count)?;
        let settings = self.settings();
        settings.check()?;
        if let Some(out) = &self.out
            && out.extension().and_then(|e| e.to_str()) != Some("csv")
        {
            return Err(Failure::usage(format!("--out {}: expected a file ending in .csv", out.display())));
        }
        let x = self.rows.read(&mut opened, &self.which)?;
        let Opened { model, request, .. } = opened;
        let started = Instant::now();
        let mut progress = Progress::new("sample", 0, request.count as u64);
        let found = log_density(&model, &request, &settings, &x, &mut |done| progress.set(done as u64, ""))?;
        progress.finish();
        if let Some(out) = &self.out {
            let text = scores(&found.log_density);
            atomic_write(out, |file| file.write_all(text.as_bytes()))?;
        }
        self.answer(&found, x.len() / request.count, started.elapsed().as_secs_f64())
    }

    fn settings(&self) -> Settings {
        let probes = Probes { count: self.probes, ..Probes::default() };
        let divergence = match self.divergence {
            Trace::Exact => Divergence::Exact,
            Trace::Hutchinson => Divergence::Hutchinson(probes),
            Trace::HutchPlusPlus => Divergence::HutchPlusPlus(probes),
        };
        let control = Control { rtol: self.rtol, atol: self.atol, ..Control::default() };
        let integrator = Integrator::Adaptive { method: Method::Dopri5, control };
        let prior = if self.noise_prior { Prior::Noise } else { Prior::Matched };
        Settings { divergence, integrator, prior, ..Settings::default() }
    }

    fn answer(&self, found: &LogDensity, dimensions: usize, seconds: f64) -> Result<(), Failure> {
        let (mean, error) = mean_and_error(&found.log_density);
        let n = found.log_density.len();
        if self.json {
            let value = serde_json::json!({
                "samples": n,
                "dimensions": dimensions,
                "log_density_mean": mean,
                "log_density_standard_error": error,
                "evaluations": found.nfe,
                "products": found.products,
                "seconds": seconds,
                "log_density": found.log_density,
            });
            return print::answer(format_args!("{value:#}"));
        }
        let spread = error.map_or_else(String::new, |error| format!(" ± {error:.4}"));
        print::answer(format_args!(
            "log-density: {mean:.4}{spread} nats, mean of {n} samples and its standard error; {:.4} nats per dimension",
            mean / dimensions as f64
        ))?;
        print::say(format_args!(
            "{} network calls and at most {} products with the Jacobian, in {}",
            found.nfe,
            found.products,
            duration(seconds)
        ));
        if let Some(out) = &self.out {
            print::say(format_args!("scores: {}", out.display()));
        }
        Ok(())
    }
}

/// A table of the samples' numbers, from 0, and their log-densities.
fn scores(log_density: &[f64]) -> String {
    let mut text = String::from("sample,log_density\n");
    for (i, value) in log_density.iter().enumerate() {
        writeln!(text, "{i},{value}").expect("a String takes everything");
    }
    text
}

/// The mean and its standard error, which one sample has not.
fn mean_and_error(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (values.len() > 1).then(|| (variance / n).sqrt()))
}
