//! `fokker sample`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use fokker_data::{Grid, Movie, Picture, Scatter, write_npy};
use fokker_models::DiffusionModel;
use fokker_solve::{Observer, SolverConfig, Spacing, StateDtype, Step};
use fokker_tensor::{Dtype, Tensor};
use fokker_train::{Classes, Generate, RunDirectory, SampleSection, generate, load_model, override_sampler};

use crate::failure::Failure;
use crate::print;
use crate::progress::{Progress, duration};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  fokker sample runs/glyphs\n  fokker sample runs/glyphs --class 7 -n 16 --guidance 2 --movie seven.gif\n  \
                        fokker sample runs/moons -n 10000 --out moons.npy --solver euler-maruyama --steps 500\n  \
                        fokker sample runs/glyphs --solver ddim --set solver.eta=0.5 --grid karras --set grid.spacing.rho=5"
)]
pub(crate) struct Sample {
    /// A run's folder, or a model's or checkpoint's .safetensors file.
    model: PathBuf,
    /// Number of samples [default: the run's].
    #[arg(short = 'n', long = "count", value_name = "N")]
    count: Option<usize>,
    /// What to write: .png (a picture of all), .npy (the numbers: f32, in the data's units), .gif (the trajectory), or a folder
    /// (one PNG each) [default: RUN/samples.png, or
    /// samples.npy where there is no picture].
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Write the trajectory of the first batch as a GIF.
    #[arg(long, value_name = "GIF")]
    movie: Option<PathBuf>,
    /// The class to draw: a number, `all` for one after the other, or `none` [default: all].
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Scale of classifier-free guidance: 1 is the conditional model, more follows the class more strictly at twice the network
    /// calls; for models trained with `objective.label_dropout` [default: the run's].
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    guidance: Option<f64>,
    /// The solver (see `fokker list solvers`) [default: the run's].
    #[arg(long)]
    solver: Option<String>,
    /// Steps of the solver [default: the run's].
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// The time grid (see `fokker list grids`) [default: the run's].
    #[arg(long)]
    grid: Option<String>,
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
    /// `--out` is a movie and nothing else is written.
    #[arg(skip)]
    only_movie: bool,
}

impl Sample {
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        if self.out.as_deref().is_some_and(is_gif) && self.movie.is_none() {
            self.movie = self.out.take();
            self.only_movie = true;
        }
        let (model, section, folder) = self.open()?;
        let model = if self.f64 { fokker_nn::Module::to(&model, Dtype::F64) } else { model };
        let default = if has_picture(&model.config.sample_shape) { "samples.png" } else { "samples.npy" };
        let out = self.out.clone().unwrap_or_else(|| folder.join(default));
        if !self.only_movie {
            check_output(&out, &model.config.sample_shape)?;
        }
        if let Some(path) = &self.movie {
            check_movie(path, &model.config.sample_shape)?;
        }
        let mut request = Generate::new(&section, &model, self.seed);
        request.classes = self.classes(&model)?;
        let mut frames = Frames::default();
        let mut observers: Vec<&mut dyn Observer> = Vec::new();
        if self.movie.is_some() {
            observers.push(&mut frames);
        }
        let started = Instant::now();
        let mut progress = Progress::new("sample", 0, request.count as u64);
        let mut batch_done = |step: &Step<'_>| {
            if step.index + 1 == step.total {
                progress.set(step.first_sample + step.x.dim(0) as u64, "");
            }
        };
        observers.push(&mut batch_done);
        let samples = generate(&model, &request, &mut observers)?;
        progress.finish();
        let seconds = started.elapsed().as_secs_f64();
        let (n, rate) = (request.count, request.count as f64 / seconds);
        print::say(format_args!(
            "{n} samples with {} network calls each in {} ({rate:.1} per second)",
            samples.nfe,
            duration(seconds)
        ));
        if !self.only_movie {
            write(&samples.x, &out)?;
            print::say(format_args!("samples: {}", out.display()));
        }
        if let Some(path) = &self.movie {
            let movie = Movie::default();
            movie.save(path, &frames.states)?;
            let shown = request.count.min(request.batch);
            print::say(format_args!("trajectory of the first {shown}: {}", path.display()));
        }
        Ok(())
    }

    /// The model, how to sample from it, and where to put things.
    fn open(&self) -> Result<(DiffusionModel, SampleSection, PathBuf), Failure> {
        let (model, mut section, folder) = if self.model.is_dir() {
            let run = RunDirectory::open(&self.model)?;
            let file = run.file("model.safetensors");
            if !file.exists() {
                return Err(Failure::failed(format!(
                    "{}: no model.safetensors yet: the run has not saved",
                    run.path().display()
                )));
            }
            (load_model(&file)?, run.config()?.sample, run.path().to_path_buf())
        } else {
            (load_model(&self.model)?, SampleSection::default(), PathBuf::from("."))
        };
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
        if self.f64 {
            sampler.state = StateDtype::F64;
        }
        *sampler = override_sampler(sampler, &self.set)?;
        for (option, value, target) in [
            ("--count", self.count, &mut section.count),
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
        Ok((model, section, folder))
    }

    fn classes(&self, model: &DiffusionModel) -> Result<Classes, Failure> {
        let (Some(text), classes) = (&self.class, model.config.classes) else {
            return Ok(if model.config.classes.is_some() { Classes::Cycle } else { Classes::Unconditional });
        };
        let Some(n) = classes else {
            return Err(Failure::usage(format!("--class {text}: this model was trained without classes")));
        };
        match text.as_str() {
            "all" => Ok(Classes::Cycle),
            "none" => Ok(Classes::Unconditional),
            _ => match text.parse::<u32>() {
                Ok(class) if (class as usize) < n => Ok(Classes::Only(class)),
                _ => Err(Failure::usage(format!("--class {text}: expected a number from 0 to {}, `all` or `none`", n - 1))),
            },
        }
    }
}

fn unknown(option: &str, name: &str, known: &[&str]) -> Failure {
    Failure::usage(format!("{option} {name}: expected one of {}", known.join(", ")))
}

/// The states of the first batch's trajectory.
#[derive(Default)]
struct Frames {
    states: Vec<Tensor>,
}

impl Observer for Frames {
    fn start(&mut self, x: &Tensor, _: f64, first_sample: u64) {
        if first_sample == 0 {
            self.states.push(x.clone());
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        if step.first_sample == 0 {
            self.states.push(step.x.clone());
        }
    }
}

fn is_gif(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "gif")
}

/// A picture of all samples: a grid of images, or a density picture of points.
pub(crate) fn picture(x: &Tensor) -> Result<Picture, Failure> {
    match x.shape() {
        [_, _, _, 1 | 3] => {
            let zoom = (64 / x.dim(1).max(1)).max(1);
            Ok(Picture::grid(x, &Grid { zoom, ..Grid::default() }))
        }
        [_, 2] => Ok(Scatter::fitted(x).picture(x)),
        shape => {
            Err(Failure::usage(format!("samples of shape {:?} have no picture; write them with --out FILE.npy", &shape[1..])))
        }
    }
}

/// Whether samples of this shape can be drawn: images with 1 or 3 channels, and points of the plane.
pub(crate) fn has_picture(sample_shape: &[usize]) -> bool {
    matches!(sample_shape, [_, _, 1 | 3] | [2])
}

fn check_movie(path: &Path, sample_shape: &[usize]) -> Result<(), Failure> {
    if path.extension().and_then(|e| e.to_str()) != Some("gif") {
        return Err(Failure::usage(format!("--movie {}: expected a file ending in .gif", path.display())));
    }
    if !has_picture(sample_shape) {
        return Err(Failure::usage(format!("--movie {}: samples of shape {sample_shape:?} have no picture", path.display())));
    }
    Ok(())
}

/// Whether the output can be written at all, before time is spent on sampling.
fn check_output(out: &Path, sample_shape: &[usize]) -> Result<(), Failure> {
    let is_image = matches!(sample_shape, [_, _, 1 | 3]);
    let drawable = has_picture(sample_shape);
    match out.extension().and_then(|e| e.to_str()) {
        Some("npy") => Ok(()),
        Some("png") if drawable => Ok(()),
        Some("png") => {
            Err(Failure::usage(format!("--out {}: samples of shape {sample_shape:?} have no picture; use .npy", out.display())))
        }
        None if is_image => Ok(()),
        None => {
            Err(Failure::usage(format!("--out {}: only images can be written into a folder; use .npy or .png", out.display())))
        }
        Some(other) => {
            Err(Failure::usage(format!("--out {}: `.{other}` is not known; expected .png, .npy or a folder", out.display())))
        }
    }
}

/// Writes samples as the path's extension says; see [`check_output`].
pub(crate) fn write(x: &Tensor, out: &Path) -> Result<(), Failure> {
    match out.extension().and_then(|e| e.to_str()) {
        Some("npy") => write_npy(out, &x.to(Dtype::F32))?,
        Some(_) => picture(x)?.save_png(out)?,
        None => {
            std::fs::create_dir_all(out)
                .map_err(|e| Failure::failed(format!("{}: cannot create the folder: {e}", out.display())))?;
            for i in 0..x.dim(0) {
                let image = x.slice(0, i..i + 1).reshape(&x.shape()[1..]);
                Picture::from_tensor(&image).save_png(out.join(format!("{i:06}.png")))?;
            }
        }
    }
    Ok(())
}
