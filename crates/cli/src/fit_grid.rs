//! `fokker fit-grid`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use fokker_data::atomic_write;
use fokker_train::fit_grid;

use crate::failure::Failure;
use crate::method::{Method, Opened};
use crate::print;
use crate::progress::duration;

#[derive(Args)]
#[command(after_help = "Examples:\n  fokker fit-grid runs/glyphs --solver dpmpp-multistep --steps 8 --out eight.txt\n  \
                        fokker sample runs/glyphs --solver dpmpp-multistep --grid list --set grid.spacing.file=eight.txt")]
pub(crate) struct FitGrid {
    #[command(flatten)]
    method: Method,
    /// Trajectories that the grid is fitted to.
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 32)]
    count: usize,
    /// The most grids that are tried; each costs the solver's network calls.
    #[arg(long, value_name = "N", default_value_t = 200)]
    trials: usize,
    /// The times, one a line, from noise to data [default: RUN/grid.txt].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl FitGrid {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Opened { model, request, folder, .. } = self.method.open(Some(self.count))?;
        if self.trials == 0 {
            return Err(Failure::usage("--trials 0: expected at least 1"));
        }
        let out = self.out.clone().unwrap_or_else(|| folder.join("grid.txt"));
        let started = Instant::now();
        let fitted = fit_grid(&model, &request, self.trials)?;
        let text = fitted.grid.to_text();
        atomic_write(&out, |file| file.write_all(text.as_bytes()))?;
        let (steps, n, seconds) = (fitted.grid.steps(), self.count, duration(started.elapsed().as_secs_f64()));
        print::say(format_args!("{steps} steps fitted on {n} trajectories in {seconds}: {}", out.display()));
        print::say(format_args!(
            "root mean square distance to the exact flow's ends: {:.3e} in the data's units, where the best of the usual grids has {:.3e}",
            fitted.error, fitted.first_error
        ));
        Ok(())
    }
}
