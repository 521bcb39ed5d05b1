//! Runs on disk: a directory that can be left at any moment and continued with the same bits.
//!
//! ```text
//! RUN/run.toml                 the configuration, every default written out
//! RUN/checkpoint.safetensors   model, average, optimiser, step, data cursor: replaced as a whole
//! RUN/model.safetensors        the averaged model with its configuration
//! RUN/model-….safetensors      the same at the step `sample.weak`
//! RUN/metrics.jsonl            one line per `train.log_every` steps and per checkpoint
//! RUN/samples/step-….png       samples while training; `.npy` where they have no picture
//! ```

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fokker_data::{atomic_write, is_temporary, remove_leftovers};
use fokker_models::DiffusionModel;
use fokker_models::checkpoint::Checkpoint;
use serde::{Deserialize, Serialize};

use crate::config::RunConfig;
use crate::error::TrainError;
use crate::trainer::{StepReport, Trainer, key};

/// The folder of a run.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Steps done.
    pub step: u64,
    /// Samples seen.
    pub images: u64,
    /// The mean loss since the last line.
    pub loss: f64,
    /// The mean gradient norm since the last line.
    pub gradient_norm: f64,
    /// The learning rate.
    pub learning_rate: f64,
    /// Seconds of training so far, checkpoints and pictures left out.
    pub seconds: f64,
}

/// What happens during [`train`].
pub enum Event<'a> {
    /// A step was done.
    Step(&'a StepReport),
    /// A line was written to the log.
    Logged(&'a Record),
    /// It is time for a picture of samples of this model. May come again for the same step after a resume.
    Picture(&'a Trainer),
    /// A checkpoint was written. May come again for the same step after a resume.
    Saved(u64),
}

/// How [`train`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// It was asked to stop, and saved.
    Stopped,
}

impl RunDirectory {
    /// A new run's folder with its configuration.
    ///
    /// # Errors
    /// If the folder exists and is not empty, or cannot be written.
    pub fn create(path: &Path, config: &RunConfig) -> Result<RunDirectory, TrainError> {
        RunDirectory::check_free(path)?;
        let text = config.to_toml()?;
        fs::create_dir_all(path).map_err(TrainError::io(path, "create the folder"))?;
        remove_leftovers(path)?;
        let run = RunDirectory { path: path.into() };
        run.write("run.toml", text.as_bytes())?;
        Ok(run)
    }

    /// Whether [`create`](Self::create) may put a run there: nothing is at the path, or a folder that is empty except for what a
    /// kill left of a file that was being written.
    ///
    /// # Errors
    /// If there is something, or the path cannot be looked at.
    pub fn check_free(path: &Path) -> Result<(), TrainError> {
        let entries = match fs::read_dir(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(TrainError::io(path, "use it as a folder"))?,
        };
        for entry in entries {
            let entry = entry.map_err(TrainError::io(path, "read the folder"))?;
            if !entry.file_name().to_str().is_some_and(is_temporary) {
                let problem =
                    "already exists and is not empty; continue a run with `--resume`, or choose another folder with `--out`";
                return Err(TrainError::file(path, problem));
            }
        }
        Ok(())
    }

    /// An existing run's folder.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(path: &Path) -> Result<RunDirectory, TrainError> {
        if !path.join("run.toml").is_file() {
            return Err(TrainError::file(path, "not a run: expected a folder with run.toml, as `fokker train` makes"));
        }
        Ok(RunDirectory { path: path.into() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The run's configuration.
    ///
    /// # Errors
    /// If it cannot be read or is not valid.
    pub fn config(&self) -> Result<RunConfig, TrainError> {
        let path = self.file("run.toml");
        let text = fs::read_to_string(&path).map_err(TrainError::io(&path, "read"))?;
        RunConfig::parse(&text, &path.display().to_string())
    }

    /// The lines of the log.
    ///
    /// # Errors
    /// If it cannot be read, or a line but the last is not valid (the last may be torn by a kill).
    pub fn metrics(&self) -> Result<Vec<Record>, TrainError> {
        Ok(self.log()?.into_iter().map(|(record, _)| record).collect())
    }

    /// The lines of the log with their text.
    fn log(&self) -> Result<Vec<(Record, String)>, TrainError> {
        let path = self.file("metrics.jsonl");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(TrainError::io(&path, "read")(e)),
        };
        let mut records = Vec::new();
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            match serde_json::from_str(line) {
                Ok(record) => records.push((record, format!("{line}\n"))),
                Err(_) if i + 1 == lines.len() => break,
                Err(e) => return Err(TrainError::file(&path, format!("line {}: {e}", i + 1))),
            }
        }
        Ok(records)
    }

    /// The run's state: from its checkpoint, or from the start if there is none yet.
    ///
    /// The log is cut back to the checkpoint's step, so that it becomes what an uninterrupted run would have written. What a kill
    /// left of files that were being written is removed.
    ///
    /// # Errors
    /// If the checkpoint or the data cannot be read, or the folder not be written.
    pub fn trainer(&self, base: &Path) -> Result<Trainer, TrainError> {
        let file = self.file("checkpoint.safetensors");
        let trainer = if file.exists() {
            Trainer::resume(&Checkpoint::read(&file)?, &file, base)?
        } else {
            Trainer::new(self.config()?, base)?
        };
        for folder in [self.path.clone(), self.file("samples")] {
            remove_leftovers(folder)?;
        }
        // As text: reading and writing a number may change its last digit.
        let kept = self.log()?.into_iter().filter(|(record, _)| record.step <= trainer.steps_done());
        let log: String = kept.map(|(_, line)| line).collect();
        self.write("metrics.jsonl", log.as_bytes())?;
        Ok(trainer)
    }

    /// Writes the averaged model and the checkpoint, each as a whole or not at all.
    ///
    /// The checkpoint comes last: once it is there, everything else of its step is. A kill between the two leaves a model that is
    /// ahead of the checkpoint; the resumed run writes it again.
    ///
    /// # Errors
    /// If they cannot be written; what was there before is then still there.
    pub fn save(&self, trainer: &Trainer) -> Result<(), TrainError> {
        self.write("model.safetensors", &trainer.average().to_bytes()?)?;
        self.write("checkpoint.safetensors", &trainer.checkpoint()?.to_bytes()?)
    }

    /// Replaces a file of the run as a whole.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
        Ok(atomic_write(self.file(name), |file| file.write_all(bytes))?)
    }
}

/// The name of the file that the averaged model at a step is kept in.
pub fn kept_model(step: u64) -> String {
    format!("model-{step:07}.safetensors")
}

/// The model of a file: a model's own, or the average in a run's checkpoint.
///
/// # Errors
/// If the file cannot be read, or is neither.
pub fn load_model(file: &Path) -> Result<DiffusionModel, TrainError> {
    let checkpoint = Checkpoint::read(file)?;
    let prefix = if checkpoint.metadata.contains_key(key::CONFIG) { "ema" } else { "" };
    Ok(DiffusionModel::from_checkpoint(&checkpoint, prefix, file)?)
}

fn to_line(record: &Record, path: &Path) -> Result<String, TrainError> {
    let line = serde_json::to_string(record).map_err(|e| TrainError::file(path, e.to_string()))?;
    Ok(line + "\n")
}

/// Trains until the last step, or until `stop` is set: then the step in progress is finished and everything saved.
///
/// A run that goes on from a checkpoint begins with that checkpoint's [`Event::Saved`] and, if one was due, [`Event::Picture`]:
/// a kill may have come between the checkpoint and what was to follow it.
///
/// # Errors
/// If a step fails or something cannot be written. The last checkpoint is then still whole.
pub fn train(
    trainer: &mut Trainer,
    run: &RunDirectory,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(Event<'_>) -> Result<(), TrainError>,
) -> Result<Outcome, TrainError> {
    let section = trainer.config().train.clone();
    let picture_every = trainer.config().sample.every;
    let picture_due = |step: u64| step == section.steps || (picture_every > 0 && step.is_multiple_of(picture_every));
    if trainer.steps_done() > 0 {
        on_event(Event::Saved(trainer.steps_done()))?;
        if picture_due(trainer.steps_done()) {
            on_event(Event::Picture(trainer))?;
        }
    }
    let mut log = Log::open(run)?;
    while trainer.steps_done() < section.steps {
        let started = Instant::now();
        let report = trainer.step()?;
        log.add(&report, started.elapsed().as_secs_f64());
        on_event(Event::Step(&report))?;
        if trainer.config().sample.weak == Some(report.step) {
            run.write(&kept_model(report.step), &trainer.average().to_bytes()?)?;
        }
        let last = report.step == section.steps;
        let stopping = stop.load(Ordering::Relaxed) && !last;
        let saving = report.step.is_multiple_of(section.checkpoint_every) || last || stopping;
        if report.step.is_multiple_of(section.log_every) || saving {
            on_event(Event::Logged(&log.line(&report, trainer.images())?))?;
        }
        if saving {
            log.sync()?;
            run.save(trainer)?;
            on_event(Event::Saved(report.step))?;
        }
        // The resumed run draws it.
        if stopping {
            return Ok(Outcome::Stopped);
        }
        if picture_due(report.step) {
            on_event(Event::Picture(trainer))?;
        }
    }
    Ok(Outcome::Finished)
}

/// `metrics.jsonl`, and what its next line is the mean of.
///
/// The sums start again at each line and a checkpoint is only written where a line is, so that the lines of a killed and resumed
/// run are those of one that was never stopped.
struct Log {
    path: PathBuf,
    file: fs::File,
    loss: f64,
    gradient_norm: f64,
    steps: u64,
    seconds: f64,
}

impl Log {
    fn open(run: &RunDirectory) -> Result<Log, TrainError> {
        let path = run.file("metrics.jsonl");
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(TrainError::io(&path, "open for appending"))?;
        let seconds = run.metrics()?.last().map_or(0.0, |r| r.seconds);
        Ok(Log { path, file, loss: 0.0, gradient_norm: 0.0, steps: 0, seconds })
    }

    fn add(&mut self, report: &StepReport, seconds: f64) {
        self.loss += report.loss;
        self.gradient_norm += report.gradient_norm;
        self.steps += 1;
        self.seconds += seconds;
    }

    /// Appends the line of the steps since the last one.
    fn line(&mut self, report: &StepReport, images: u64) -> Result<Record, TrainError> {
        let n = self.steps as f64;
        let record = Record {
            step: report.step,
            images,
            loss: self.loss / n,
            gradient_norm: self.gradient_norm / n,
            learning_rate: report.learning_rate,
            seconds: self.seconds,
        };
        let line = to_line(&record, &self.path)?;
        self.file.write_all(line.as_bytes()).map_err(TrainError::io(&self.path, "append"))?;
        (self.loss, self.gradient_norm, self.steps) = (0.0, 0.0, 0);
        Ok(record)
    }

    /// A checkpoint must not outlive the lines before it.
    fn sync(&self) -> Result<(), TrainError> {
        self.file.sync_data().map_err(TrainError::io(&self.path, "write"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> RunConfig {
        let settings = ["train.steps=3", "train.batch=4", "model.network.hidden=4", "sample.count=2"];
        RunConfig::load("moons", &settings.map(str::to_owned)).unwrap()
    }

    #[test]
    fn a_checkpoint_is_there_only_once_its_model_is() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(&folder.path().join("run"), &small()).unwrap();
        let trainer = run.trainer(Path::new(".")).unwrap();
        // A model that cannot be written.
        fs::create_dir(run.file("model.safetensors")).unwrap();
        assert!(run.save(&trainer).is_err());
        assert!(!run.file("checkpoint.safetensors").exists());
        fs::remove_dir(run.file("model.safetensors")).unwrap();
        run.save(&trainer).unwrap();
        assert!(run.file("checkpoint.safetensors").exists());
    }

    #[test]
    fn a_resumed_run_begins_with_what_was_to_follow_its_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(&folder.path().join("run"), &small()).unwrap();
        let events = |stop: bool| {
            let mut seen = Vec::new();
            let mut trainer = run.trainer(Path::new(".")).unwrap();
            let outcome = train(&mut trainer, &run, &AtomicBool::new(stop), &mut |event| {
                seen.push(match event {
                    Event::Step(report) => format!("step {}", report.step),
                    Event::Logged(record) => format!("logged {}", record.step),
                    Event::Saved(step) => format!("saved {step}"),
                    Event::Picture(trainer) => format!("picture {}", trainer.steps_done()),
                });
                Ok(())
            });
            (outcome.unwrap(), seen)
        };
        let (outcome, seen) = events(true);
        assert_eq!(outcome, Outcome::Stopped);
        assert_eq!(seen, ["step 1", "logged 1", "saved 1"]);
        let (outcome, seen) = events(false);
        assert_eq!(outcome, Outcome::Finished);
        assert_eq!(seen, ["saved 1", "step 2", "step 3", "logged 3", "saved 3", "picture 3"]);
        assert_eq!(events(false).1, ["saved 3", "picture 3"]);
    }
}
