//! `fokker train`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Args;
use fokker_train::{
    Event, Generate, Outcome, RunConfig, RunDirectory, TrainError, Trainer, generate, kept_model, load_model, train,
};

use crate::failure::Failure;
use crate::progress::{Progress, duration};
use crate::{plot, print, sample};

#[derive(Args)]
#[command(after_help = "Examples:\n  fokker train glyphs\n  fokker train mnist --steps 2000 --out runs/short\n  \
                        fokker train folder --data photos.zip --set data.size=64\n  fokker train glyphs --resume\n  fokker train --resume runs/short")]
pub(crate) struct Train {
    /// A recipe (see `fokker list recipes`) or a TOML file.
    #[arg(required_unless_present = "resume")]
    recipe: Option<String>,
    /// Continue a run that was stopped or killed: the recipe's (or `--out`'s), or the one whose folder is given.
    #[arg(long, value_name = "RUN", num_args = 0..=1)]
    resume: Option<Option<PathBuf>>,
    /// The run's folder [default: runs/NAME].
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Number of steps: sets `train.steps`.
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    steps: Option<u64>,
    /// Seed of all randomness: sets `seed`.
    #[arg(long, value_name = "SEED", conflicts_with = "resume")]
    seed: Option<u64>,
    /// Check everything and print the whole configuration, but write nothing.
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
    /// Where the data is: sets `data.path`.
    #[arg(long, value_name = "PATH", conflicts_with = "resume")]
    data: Option<PathBuf>,
    /// Change a setting: `--set train.steps=2000` (may be repeated).
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "resume")]
    overrides: Vec<String>,
}

impl Train {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let stop = stop_on_interrupt()?;
        let here = PathBuf::from(".");
        let (run, mut trainer) = match &self.resume {
            Some(given) => {
                let run = RunDirectory::open(&self.run_to_resume(given.as_deref())?)?;
                let trainer = run.trainer(&here)?;
                (run, trainer)
            }
            None => {
                let config = self.config()?;
                let path = self.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&config.name));
                RunDirectory::check_free(&path)?;
                // The data and the model are checked before anything is written.
                let trainer = Trainer::new(config.clone(), &here)?;
                if self.dry_run {
                    return print::answer(config.to_toml()?.trim_end());
                }
                let run = RunDirectory::create(&path, &config)?;
                (run, trainer)
            }
        };
        announce(&run, &trainer);
        let config = trainer.config().clone();
        let mut progress = Progress::new("step", trainer.steps_done(), config.train.steps);
        let mut meter = Meter::new(config.train.batch);
        let started = Instant::now();
        let mut picture = None;
        let outcome = train(&mut trainer, &run, &stop, &mut |event| {
            match event {
                Event::Step(report) => {
                    let message = meter.step(report.loss);
                    progress.set(report.step, &message);
                }
                Event::Logged(_) => {}
                Event::Saved(_) => plot::loss_curve(&run, &config.name).map_err(Failure::into_train_error)?,
                Event::Picture(trainer) => {
                    let kind = if sample::has_picture(&trainer.model().config.sample_shape) { "png" } else { "npy" };
                    let path = run.file(&format!("samples/step-{:07}.{kind}", trainer.steps_done()));
                    // It may be there already, whole, where a resumed run begins.
                    if !path.exists() {
                        draw_samples(&run, trainer, &path)?;
                        progress.note(&format!("step {}: samples in {}", trainer.steps_done(), path.display()));
                    }
                    meter.pause();
                    picture = Some(path);
                }
            }
            Ok(())
        })?;
        progress.finish();
        let path = run.path().display();
        match outcome {
            Outcome::Stopped => print::say(format_args!(
                "stopped and saved at step {} of {}; continue with: fokker train --resume {path}",
                trainer.steps_done(),
                config.train.steps
            )),
            Outcome::Finished => {
                print::say(format_args!("done: {} steps in {}", trainer.steps_done(), duration(started.elapsed().as_secs_f64())));
                if let Some(picture) = picture {
                    print::say(format_args!("samples:    {}", picture.display()));
                }
                print::say(format_args!("loss curve: {path}/loss.png"));
                print::say(format_args!("model:      {path}/model.safetensors"));
                print::say(format_args!("more samples with: fokker sample {path}"));
            }
        }
        Ok(())
    }

    /// The folder of the run to continue.
    fn run_to_resume(&self, given: Option<&Path>) -> Result<PathBuf, Failure> {
        match (given, &self.out, &self.recipe) {
            (Some(path), None, None) => Ok(path.into()),
            (None, Some(path), _) => Ok(path.clone()),
            (None, None, Some(recipe)) => Ok(PathBuf::from("runs").join(RunConfig::load(recipe, &[])?.name)),
            (None, None, None) => Err(Failure::usage("--resume: expected the folder of a run")),
            (Some(path), ..) => {
                let problem = "expected either a recipe (or --out), or the folder of a run, not both";
                Err(Failure::usage(format!("--resume {}: {problem}", path.display())))
            }
        }
    }

    fn config(&self) -> Result<RunConfig, Failure> {
        let recipe = self.recipe.as_deref().unwrap_or_default();
        let mut overrides = self.overrides.clone();
        if let Some(path) = &self.data {
            overrides.push(data_path(path)?);
        }
        overrides.extend(self.steps.map(|n| format!("train.steps={n}")));
        overrides.extend(self.seed.map(|n| format!("seed={n}")));
        Ok(RunConfig::load(recipe, &overrides)?)
    }
}

/// The setting that `--data` stands for.
pub(crate) fn data_path(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().ok_or_else(|| Failure::usage(format!("--data {}: not valid UTF-8", path.display())))?;
    Ok(format!("data.path={}", toml::Value::String(text.to_owned())))
}

/// What is about to be trained, in two lines.
fn announce(run: &RunDirectory, trainer: &Trainer) {
    let (config, data) = (trainer.config(), trainer.dataset());
    let classes = match trainer.model().config.classes {
        Some(n) => format!(", {n} classes"),
        None => String::new(),
    };
    let size = if data.is_unlimited() { "generated".to_owned() } else { format!("{} samples", data.len()) };
    print::say(format_args!(
        "{}: {} of shape {:?}{classes}; {} parameters; {} steps of {}",
        data.name(),
        size,
        data.sample_shape(),
        fokker_nn::Module::parameter_count(trainer.model()),
        config.train.steps,
        config.train.batch
    ));
    print::say(format_args!("run: {} (Ctrl-C saves and stops)", run.path().display()));
}

/// Samples of the averaged model, as a picture if they have one; the same noise each time.
fn draw_samples(run: &RunDirectory, trainer: &Trainer, path: &Path) -> Result<(), TrainError> {
    let config = trainer.config();
    let mut request = Generate::new(&config.sample, trainer.average(), config.seed);
    match config.sample.weak {
        Some(step) if trainer.steps_done() < step => request.guidance.scale = 1.0,
        Some(step) => request.weak = Some(load_model(&run.file(&kept_model(step)))?),
        None => {}
    }
    let samples = generate(trainer.average(), &request, &mut [])?;
    sample::write(&samples.x, path).map_err(Failure::into_train_error)
}

/// A flag that the first Ctrl-C (or termination) sets; the second ends the program at once.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        print::note(format_args!(
            "stopping after this step; again to stop at once (the run can be resumed from its last checkpoint)"
        ));
    })
    .map_err(|e| Failure::failed(format!("cannot watch for Ctrl-C: {e}")))?;
    Ok(stop)
}

/// Loss and speed, smoothed for the eye.
struct Meter {
    batch: usize,
    loss: Option<f64>,
    seconds: Option<f64>,
    last: Instant,
}

impl Meter {
    fn new(batch: usize) -> Meter {
        Meter { batch, loss: None, seconds: None, last: Instant::now() }
    }

    /// Time since the last step does not count.
    fn pause(&mut self) {
        self.last = Instant::now();
    }

    fn step(&mut self, loss: f64) -> String {
        let smooth = |old: Option<f64>, new: f64| Some(old.map_or(new, |old| 0.98 * old + 0.02 * new));
        self.loss = smooth(self.loss, loss);
        self.seconds = smooth(self.seconds, self.last.elapsed().as_secs_f64());
        self.last = Instant::now();
        let rate = self.batch as f64 / self.seconds.unwrap_or(f64::INFINITY).max(1e-9);
        format!("loss {:.4} {rate:.0} samples/s", self.loss.unwrap_or(loss))
    }
}
