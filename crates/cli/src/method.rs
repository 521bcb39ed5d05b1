//! Which model is sampled and how: the options that `sample`, `encode` and `fit-grid` share.

use std::path::{Path, PathBuf};

use clap::Args;
use fokker_models::{DiffusionModel, ModelConfig};
use fokker_sde::SdeConfig;
use fokker_solve::{SolverConfig, Spacing, StateDtype};
use fokker_tensor::Dtype;
use fokker_train::{Classes, Generate, RunConfig, RunDirectory, SampleSection, kept_model, load_model, override_sampler};

use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Method {
    /// A run's folder, or a model's or checkpoint's .safetensors file.
    model: PathBuf,
    /// The class: a number, `all` for one after the other, or `none` [default: all; in `encode` the data's].
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Option<String>,
    /// Scale of guidance: 1 is the model alone; more goes further away from what the weaker model says, if there is one, otherwise
    /// from what the model says without the class (for models trained with `objective.label_dropout`), at twice the network
    /// calls [default: the run's].
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    guidance: Option<f64>,
    /// A weaker model to guide by, a .safetensors file: the same network trained for less time, for example [default: the run's].
    #[arg(long, value_name = "FILE")]
    weak: Option<PathBuf>,
    /// The solver (see `fokker list solvers`) [default: the run's].
    #[arg(long)]
    solver: Option<String>,
    /// Steps of the solver [default: the run's].
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// The time grid (see `fokker list grids`) [default: the run's].
    #[arg(long)]
    grid: Option<String>,
    /// The process to sample under (see `fokker list sdes`), which need not be the one that the model was trained under: times and
    /// states are translated [default: the run's].
    #[arg(long)]
    sde: Option<String>,
    /// Change a setting of the sampler, `sample.sampler` in run.toml: `--set solver.eta=0.5`, `--set grid.t_max=10` (may be
    /// repeated).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Samples per batch; the samples do not depend on it [default: the run's].
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Compute in double precision.
    #[arg(long)]
    f64: bool,
}

/// A model, and how to sample from it.
pub(crate) struct Opened {
    pub(crate) model: DiffusionModel,
    pub(crate) request: Generate,
    /// The run's, where there is one.
    pub(crate) config: Option<RunConfig>,
    /// Where to put things.
    pub(crate) folder: PathBuf,
}

impl Method {
    /// Opens the model and puts the run's settings and the options together; `count` is what `-n` says.
    pub(crate) fn open(&self, count: Option<usize>) -> Result<Opened, Failure> {
        let (model, config, folder) = self.read()?;
        let mut section = config.as_ref().map_or_else(SampleSection::default, |config| config.sample.clone());
        let cast = |model: DiffusionModel| if self.f64 { fokker_nn::Module::to(&model, Dtype::F64) } else { model };
        let model = cast(model);
        self.change(&mut section)?;
        for (option, value, target) in [
            ("--count", count, &mut section.count),
            ("--steps", self.steps, &mut section.sampler.grid.steps),
            ("--batch", self.batch, &mut section.batch),
        ] {
            match value {
                Some(0) => return Err(Failure::usage(format!("{option} 0: expected at least 1"))),
                Some(n) if n > SampleSection::MOST => {
                    return Err(Failure::usage(format!("{option} {n}: expected at most {}", SampleSection::MOST)));
                }
                Some(value) => *target = value,
                None => {}
            }
        }
        let mut request = Generate::new(&section, &model, self.seed);
        if let Some(text) = &self.class {
            request.classes = classes(text, &model)?;
        }
        request.weak = self.weak(&model, &section, &folder)?.map(cast);
        Ok(Opened { model, request, config, folder })
    }

    /// The weaker model, asked for or the run's.
    fn weak(&self, model: &DiffusionModel, section: &SampleSection, folder: &Path) -> Result<Option<DiffusionModel>, Failure> {
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
        if self.f64 {
            sampler.state = StateDtype::F64;
        }
        *sampler = override_sampler(sampler, &self.set)?;
        Ok(())
    }
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

fn unknown(option: &str, name: &str, known: &[&str]) -> Failure {
    Failure::usage(format!("{option} {name}: expected one of {}", known.join(", ")))
}
