//! `fokker sample`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use fokker_data::{Grid, Movie, Picture, Scatter, read_npy, write_npy};
use fokker_solve::{Observer, Step};
use fokker_tensor::{Dtype, Tensor};
use fokker_train::{decode, generate};

use crate::failure::Failure;
use crate::method::{Method, Opened};
use crate::print;
use crate::progress::{Progress, duration};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  fokker sample runs/glyphs\n  fokker sample runs/glyphs --class 7 -n 16 --guidance 2 --movie seven.gif\n  \
                        fokker sample runs/moons -n 10000 --out moons.npy --solver euler-maruyama --steps 500\n  \
                        fokker sample runs/glyphs --solver ddim --set solver.eta=0.5 --grid karras --set grid.spacing.rho=5\n  \
                        fokker sample runs/moons --sde flow --solver euler --grid uniform --steps 10"
)]
pub(crate) struct Sample {
    #[command(flatten)]
    method: Method,
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
    /// Start from this standard normal noise, `[N, ...]`, instead of drawing it: what `fokker encode` writes.
    #[arg(long, value_name = "NPY", conflicts_with = "count")]
    noise: Option<PathBuf>,
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
        let Opened { model, mut request, folder, .. } = self.method.open(self.count)?;
        let shape = &model.config.sample_shape;
        let default = if has_picture(shape) { "samples.png" } else { "samples.npy" };
        let out = self.out.clone().unwrap_or_else(|| folder.join(default));
        if !self.only_movie {
            check_output(&out, shape)?;
        }
        if let Some(path) = &self.movie {
            check_movie(path, shape)?;
        }
        let noise = self.noise.as_deref().map(|path| read_noise(path, shape)).transpose()?;
        if let Some(noise) = &noise {
            request.count = noise.dim(0);
        }
        let mut frames = Frames::default();
        let mut observers: Vec<&mut dyn Observer> = Vec::new();
        if self.movie.is_some() {
            observers.push(&mut frames);
        }
        let started = Instant::now();
        let mut bar = SampleBar::new("sample", request.count);
        observers.push(&mut bar);
        let samples = match &noise {
            None => generate(&model, &request, &mut observers)?,
            Some(noise) => decode(&model, &request, noise, &mut observers)?,
        };
        bar.finish();
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
}

/// Noise for samples of this shape.
fn read_noise(path: &Path, sample_shape: &[usize]) -> Result<Tensor, Failure> {
    let noise = read_npy(path)?;
    if noise.rank() == 0 || noise.dim(0) == 0 || noise.shape()[1..] != *sample_shape {
        let shape: Vec<String> = sample_shape.iter().map(usize::to_string).collect();
        let found = noise.shape();
        let expected = format!("an array of shape [N, {}] with N at least 1, found {found:?}", shape.join(", "));
        return Err(Failure::failed(format!("{}: expected {expected}", path.display())));
    }
    if !noise.all_finite() {
        return Err(Failure::failed(format!("{}: expected finite numbers, found NaN or infinity", path.display())));
    }
    Ok(noise)
}

/// A progress bar that counts finished samples.
pub(crate) struct SampleBar {
    progress: Progress,
    done: usize,
}

impl SampleBar {
    pub(crate) fn new(what: &'static str, count: usize) -> SampleBar {
        SampleBar { progress: Progress::new(what, 0, count as u64), done: 0 }
    }

    pub(crate) fn finish(self) {
        self.progress.finish();
    }
}

impl Observer for SampleBar {
    fn step(&mut self, step: &Step<'_>) {
        if step.index + 1 == step.total {
            self.done += step.x.dim(0);
            self.progress.set(self.done as u64, "");
        }
    }
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
pub(crate) fn check_output(out: &Path, sample_shape: &[usize]) -> Result<(), Failure> {
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
