//! Runs on disk: a directory that can be left at any moment and continued with the same bits.
//!
//! ```text
//! RUN/run.toml                 the configuration, every default written out
//! RUN/checkpoint.safetensors   model, average, optimiser, step, data cursor: replaced as a whole
//! RUN/model.safetensors        the averaged model with its configuration
//! RUN/metrics.jsonl            one line per `train.log_every` steps
//! RUN/samples/step-….png       samples while training
//! ```

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fokker_data::atomic_write;
use fokker_models::checkpoint::Checkpoint;
use serde::{Deserialize, Serialize};

use crate::config::RunConfig;
use crate::error::TrainError;
use crate::trainer::{StepReport, Trainer};

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
    /// It is time for a picture of samples of this model.
    Picture(&'a Trainer),
    /// A checkpoint was written.
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
        let occupied = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_some(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
            Err(e) => return Err(TrainError::io(path, "be opened as a folder")(e)),
        };
        if occupied {
            let problem = "already exists; continue it with `--resume`, or choose another folder with `--out`";
            return Err(TrainError::file(path, problem));
        }
        fs::create_dir_all(path.join("samples")).map_err(TrainError::io(path, "create the folder"))?;
        let run = RunDirectory { path: path.into() };
        run.write("run.toml", config.to_toml()?.as_bytes())?;
        Ok(run)
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
                Ok(record) => records.push(record),
                Err(_) if i + 1 == lines.len() => break,
                Err(e) => return Err(TrainError::file(&path, format!("line {}: {e}", i + 1))),
            }
        }
        Ok(records)
    }

    /// The run's state: from its checkpoint, or from the start if there is none yet.
    ///
    /// The log is cut back to the checkpoint's step, so that it becomes what an uninterrupted run would have written.
    ///
    /// # Errors
    /// If the checkpoint or the data cannot be read.
    pub fn trainer(&self, base: &Path) -> Result<Trainer, TrainError> {
        let file = self.file("checkpoint.safetensors");
        let trainer = if file.exists() {
            Trainer::resume(&Checkpoint::read(&file)?, &file, base)?
        } else {
            Trainer::new(self.config()?, base)?
        };
        let mut log = String::new();
        for record in self.metrics()?.iter().filter(|r| r.step <= trainer.steps_done()) {
            log.push_str(&to_line(record, &self.file("metrics.jsonl"))?);
        }
        self.write("metrics.jsonl", log.as_bytes())?;
        Ok(trainer)
    }

    /// Writes the checkpoint and the averaged model, each as a whole or not at all.
    ///
    /// # Errors
    /// If they cannot be written; what was there before is then still there.
    pub fn save(&self, trainer: &Trainer) -> Result<(), TrainError> {
        self.write("checkpoint.safetensors", &trainer.checkpoint()?.to_bytes()?)?;
        self.write("model.safetensors", &trainer.average().to_bytes()?)
    }

    /// Replaces a file of the run as a whole.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
        Ok(atomic_write(self.file(name), |file| file.write_all(bytes))?)
    }
}

fn to_line(record: &Record, path: &Path) -> Result<String, TrainError> {
    let line = serde_json::to_string(record).map_err(|e| TrainError::file(path, e.to_string()))?;
    Ok(line + "\n")
}

/// Trains until the last step, or until `stop` is set: then the step in progress is finished and everything saved.
///
/// # Errors
/// If a step fails or something cannot be written. The last checkpoint is then still whole.
pub fn train(
    trainer: &mut Trainer,
    run: &RunDirectory,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(Event<'_>) -> Result<(), TrainError>,
) -> Result<Outcome, TrainError> {
    let log_path = run.file("metrics.jsonl");
    let mut log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .map_err(TrainError::io(&log_path, "open for appending"))?;
    let mut seconds = run.metrics()?.last().map_or(0.0, |r| r.seconds);
    let section = trainer.config().train.clone();
    let picture_every = trainer.config().sample.every;
    let mut saved_at = None;
    // A log interval never spans a checkpoint's edge differently for a resumed run: sums restart at each line, and checkpoints
    // are only written where a line is.
    let mut sums = (0.0, 0.0, 0u64);
    while trainer.steps_done() < section.steps {
        let started = Instant::now();
        let report = trainer.step()?;
        seconds += started.elapsed().as_secs_f64();
        sums = (sums.0 + report.loss, sums.1 + report.gradient_norm, sums.2 + 1);
        on_event(Event::Step(&report))?;
        let last = report.step == section.steps;
        let stopping = stop.load(Ordering::Relaxed);
        let saving = report.step.is_multiple_of(section.checkpoint_every) || last || stopping;
        if report.step.is_multiple_of(section.log_every) || saving {
            let n = sums.2 as f64;
            let record = Record {
                step: report.step,
                images: trainer.images(),
                loss: sums.0 / n,
                gradient_norm: sums.1 / n,
                learning_rate: report.learning_rate,
                seconds,
            };
            log.write_all(to_line(&record, &log_path)?.as_bytes()).map_err(TrainError::io(&log_path, "append"))?;
            sums = (0.0, 0.0, 0);
            on_event(Event::Logged(&record))?;
        }
        if saving {
            run.save(trainer)?;
            saved_at = Some(report.step);
            on_event(Event::Saved(report.step))?;
        }
        if last || (picture_every > 0 && report.step.is_multiple_of(picture_every)) {
            on_event(Event::Picture(trainer))?;
        }
        if stopping && !last {
            return Ok(Outcome::Stopped);
        }
    }
    if saved_at.is_none() && !run.file("model.safetensors").exists() {
        run.save(trainer)?;
    }
    Ok(Outcome::Finished)
}
