//! Which model is sampled and how: the options that `sample`, `encode`, `fit-grid`, `likelihood` and `evaluate` share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use fokker_models::{DiffusionModel, ModelConfig};
use fokker_sde::SdeConfig;
use fokker_solve::{SolverConfig, Spacing, StateDtype};
use fokker_tensor::Dtype;
use fokker_train::{Classes, Generate, RunConfig, RunDirectory, SampleSection, kept_model, load_model, override_sampler};

use crate::failure::Failure;

/// Which model, and what it computes for.
#[derive(Args, Clone)]
pub(crate) struct Which {
    /// A run's folder, or a model's or checkpoint's .safetensors file.
    model: PathBuf,
    /// The class: a number, `all` for one after the other, or `none` [default: all; that of data with labels].
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Option<String>,
    /// Samples per batch; the samples do not depend on it [default: the run's].
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What the network computes in: `bf16` is the fastest where the processor multiplies such numbers, with a relative error of 2^-8 in
    /// each step; `f64` is double precision, the solver's states too [default: as the model is stored, f32].
    #[arg(long, value_name = "TYPE", value_enum)]
    pub(crate) dtype: Option<Precision>,
}

/// A type of numbers to compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    Bf16,
    F32,
    F64,
}

impl Precision {
    fn dtype(self) -> Dtype {
        match self {
            Precision::Bf16 => Dtype::Bf16,
            Precision::F32 => Dtype::F32,
            Precision::F64 => Dtype::F64,
        }
    }
}

/// Which model, and how to sample from it.
#[derive(Args)]
pub(crate) struct Method {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Scale of guidance: 1 is the model alone; more goes further away from what the weaker model says, if there is one, otherwise
    /// from what the model says without the class (for models trained with `objective.label_dropout`), at twice the network
    /// calls [default: the run's].
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    pub(crate) guidance: Option<f64>,
    /// A weaker model to guide by, a .safetensors file: the same network trained for less time, for example [default: the run's].
    #[arg(long, value_name = "FILE")]
    pub(crate) weak: Option<PathBuf>,
    /// The solver (see `fokker list solvers`) [default: the run's].
    #[arg(long)]
    pub(crate) solver: Option<String>,
    /// Steps of the solver [default: the run's].
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<usize>,
    /// The time grid (see `fokker list grids`) [default: the run's].
    #[arg(long)]
    pub(crate) grid: Option<String>,
    /// The process to sample under (see `fokker list sdes`), which need not be the one that the model was trained under: times and
    /// states are translated [default: the run's].
    #[arg(long)]
    pub(crate) sde: Option<String>,
    /// Change a setting of the sampler, `sample.sampler` in run.toml: `--set solver.eta=0.5`, `--set grid.t_max=10` (may be
    /// repeated).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// A model, and how to sample from it.
pub(crate) struct Opened {
    pub(crate) model: DiffusionModel,
    pub(crate) request: Generate,
    section: SampleSection,
    /// The run's, where there is one.
    pub(crate) config: Option<RunConfig>,
    /// Where to put things.
    pub(crate) folder: PathBuf,
}

impl Which {
    /// The model's file.
    pub(crate) fn file(&self) -> PathBuf {
        if self.model.is_dir() { self.model.join("model.safetensors") } else { self.model.clone() }
    }

    /// Opens the model, with the run's settings for sampling; `count` is what `-n` says.
    pub(crate) fn open(&self, count: Option<usize>) -> Result<Opened, Failure> {
        self.changed(count, |_| Ok(()))
    }

    /// The same with settings changed before they are looked at.
    fn changed(
        &self,
        count: Option<usize>,
        change: impl FnOnce(&mut SampleSection) -> Result<(), Failure>,
    ) -> Result<Opened, Failure> {
        let (model, config, folder) = self.read()?;
        let mut section = config.as_ref().map_or_else(SampleSection::default, |config| config.sample.clone());
        change(&mut section)?;
        set_number("--count", count, &mut section.count)?;
        set_number("--batch", self.batch, &mut section.batch)?;
        if self.dtype == Some(Precision::F64) {
            section.sampler.state = StateDtype::F64;
        }
        let model = self.cast(model);
        let mut request = Generate::new(&section, &model, self.seed);
        if let Some(text) = &self.class {
            request.classes = classes(text, &model)?;
        }
        Ok(Opened { model, request, section, config, folder })
    }

    fn cast(&self, model: DiffusionModel) -> DiffusionModel {
        match self.dtype {
            Some(precision) => fokker_nn::Module::to(&model, precision.dtype()),
            None => model,
        }
    }

    fn read(&self) -> Result<(DiffusionModel, Option<RunConfig>, PathBuf), Failure> {
        if !self.model.is_dir() {
            return Ok((load_model(&self.model)?, None, PathBuf::from(".")));
        }
        let run = RunDirectory::open(&self.model)?;
        let file = run.file("model.safetensors");
        if !file.exists() {
            let message = format!("{}: no model.safetensors yet: the run has not saved", run.path().display());
            return Err(Failure::failed(message));
        }
        Ok((load_model(&file)?, Some(run.config()?), run.path().to_path_buf()))
    }
}

impl Method {
    /// Opens the model and puts the run's settings and the options together; `count` is what `-n` says.
    pub(crate) fn open(&self, count: Option<usize>) -> Result<Opened, Failure> {
        let mut opened = self.which.changed(count, |section| self.change(section))?;
        opened.request.weak = self.weak(&opened)?.map(|weak| self.which.cast(weak));
        Ok(opened)
    }

    /// The weaker model, asked for or the run's.
    fn weak(&self, opened: &Opened) -> Result<Option<DiffusionModel>, Failure> {
        let Opened { model, section, folder, .. } = opened;
        let file = match (&self.weak, section.weak) {
            (Some(file), _) => file.clone(),
            (None, Some(step)) if section.guidance.scale != 1.0 => folder.join(kept_model(step)),
            (None, _) => return Ok(None),
        };
        let weak = load_model(&file)?;
        let fits = |c: &ModelConfig| (c.sample_shape.clone(), c.classes, c.sde.clone());
        if fits(&weak.config) != fits(&model.config) {
            let message = "expected a model of the same samples, classes and process as the one that it is to guide";
            return Err(Failure::failed(format!("{}: {message}", file.display())));
        }
        Ok(Some(weak))
    }

    fn change(&self, section: &mut SampleSection) -> Result<(), Failure> {
        if let Some(scale) = self.guidance {
            section.guidance.scale = scale;
        }
        let sampler = &mut section.sampler;
        if let Some(name) = &self.solver {
            sampler.solver = SolverConfig::from_kind(name).ok_or_else(|| unknown("--solver", name, SolverConfig::KINDS))?;
        }
        if let Some(name) = &self.grid {
            sampler.grid.spacing = Spacing::from_kind(name).ok_or_else(|| unknown("--grid", name, Spacing::KINDS))?;
        }
        if let Some(name) = &self.sde {
            sampler.sde = Some(SdeConfig::from_kind(name).ok_or_else(|| unknown("--sde", name, SdeConfig::KINDS))?);
        }
        *sampler = override_sampler(sampler, &self.set)?;
        set_number("--steps", self.steps, &mut sampler.grid.steps)
    }
}

/// A number from the command line, if there is one.
pub(crate) fn set_number(option: &str, value: Option<usize>, target: &mut usize) -> Result<(), Failure> {
    match value {
        Some(0) => return Err(Failure::usage(format!("{option} 0: expected at least 1"))),
        Some(n) if n > SampleSection::MOST => {
            return Err(Failure::usage(format!("{option} {n}: expected at most {}", SampleSection::MOST)));
        }
        Some(value) => *target = value,
        None => {}
    }
    Ok(())
}

fn classes(text: &str, model: &DiffusionModel) -> Result<Classes, Failure> {
    let Some(n) = model.config.classes else {
        return Err(Failure::usage(format!("--class {text}: this model was trained without classes")));
    };
    match text {
        "all" => Ok(Classes::Cycle),
        "none" => Ok(Classes::Unconditional),
        _ => match text.parse::<u32>() {
            Ok(class) if (class as usize) < n => Ok(Classes::Only(class)),
            _ => Err(Failure::usage(format!("--class {text}: expected a number from 0 to {}, `all` or `none`", n - 1))),
        },
    }
}

pub(crate) fn unknown(option: &str, name: &str, known: &[&str]) -> Failure {
    Failure::usage(format!("{option} {name}: expected one of {}", known.join(", ")))
}
