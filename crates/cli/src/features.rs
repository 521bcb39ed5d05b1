//! `fokker features`: train a feature space for metrics of images, take samples there, and compare what came of it.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};
use fokker_data::sets::Array;
use fokker_data::{DataConfig, Dataset, atomic_write, write_npy};
use fokker_metrics::Moments;
use fokker_nn::Module;
use fokker_tensor::Tensor;
use fokker_train::{FeatureNetwork, FeatureTraining, SampleSection, train_features};
use serde_json::json;

use crate::compare::Compare;
use crate::failure::Failure;
use crate::preview::data_config;
use crate::print;
use crate::progress::{Progress, duration};
use crate::rows::test_set;

/// What becomes of weights that PyTorch saved; tests/reference/weights_to_safetensors.py does the same with checks.
const CONVERSION: &str = "Features of networks that others trained come from a .safetensors file that you have: the weights of pytorch-fid's \
    Inception-v3 (pt_inception-2015-12-05-6726825d.pth), or of DINOv2 ViT-S/14, ViT-B/14 or ViT-L/14 (the release's .pth, or \
    model.safetensors of Hugging Face's facebook/dinov2-base). To make one of a .pth file, with Python, PyTorch and safetensors:\n\n  \
    python -c \"import sys, torch, safetensors.torch as s; s.save_file({k: v.float().contiguous() for k, v in torch.load(sys.argv[1], \
    map_location='cpu', weights_only=True).items() if v.is_floating_point()}, sys.argv[2])\" weights.pth weights.safetensors";

#[derive(Args)]
#[command(after_help = CONVERSION)]
pub(crate) struct Features {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Learn a feature space from a data set's labels: the last hidden layer of a small classifier.
    Train(Train),
    /// Write the features of samples or of a data set's images, or their mean and covariance.
    Extract(Extract),
    /// Print the Fréchet distance of two sets of features (the FID if they are Inception's), or other metrics of them.
    Compare(Compare),
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  fokker features train mnist\n  fokker features train folder --data photos.zip --out photos.safetensors"
)]
struct Train {
    /// The data, images with labels: a recipe's or TOML file's, or the kind of a generated data set.
    dataset: String,
    /// Where the data is: sets `data.path`.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// The features' file; one that is there already is not replaced [default: features/DATASET.safetensors].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Seed of the weights and of the order of images.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The most steps; training stops before, when it no longer helps.
    #[arg(long, value_name = "N", default_value_t = FeatureTraining::default().steps)]
    steps: u64,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  fokker features extract features/mnist.safetensors samples.npy --out generated.npy\n  \
                        fokker features extract features/mnist.safetensors mnist --split test --out test.npy\n  \
                        fokker features extract inception.safetensors generated.npy --out generated.npz")]
struct Extract {
    /// A file that `fokker features train` wrote, or the weights of Inception-v3 or DINOv2 (see `fokker features --help`).
    file: PathBuf,
    /// Images: an .npy or .npz array [N, H, W, C] in [-1, 1] or of bytes, or a data set's name as for `features train`.
    samples: String,
    /// Where a recipe's data is: sets `data.path`.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Which part of a data set.
    #[arg(long, value_enum, default_value = "train")]
    split: Part,
    /// Number of images, the first of them [default: all, or 10000 of a generated set].
    #[arg(short = 'n', long = "count", value_name = "N")]
    count: Option<std::num::NonZeroUsize>,
    /// The features, f32 [N, D], as .npy; or as .npz only their mean, covariance and number, in pytorch-fid's format, with the name of the
    /// network, so that those of two networks are not compared.
    #[arg(long, value_name = "FILE", default_value = "features.npy")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    /// What models are trained on.
    Train,
    /// What is kept apart for tests, or of a generated set what comes after what models are trained on.
    Test,
}

/// Images read from a data set at once.
const AT_ONCE: usize = 1024;

impl Features {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Train(train) => train.run(),
            Command::Extract(extract) => extract.run(),
            Command::Compare(compare) => compare.run(),
        }
    }
}

impl Train {
    fn run(self) -> Result<(), Failure> {
        let (data, flip) = data_config(&self.dataset, self.data.as_deref())?;
        let name = Path::new(&self.dataset).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let out = self.out.clone().unwrap_or_else(|| Path::new("features").join(name + ".safetensors"));
        expect_extension(&out, "safetensors")?;
        if out.exists() {
            let message = format!("--out {}: already exists; expected a new file, as scores name these features", out.display());
            return Err(Failure::usage(message));
        }
        let started = Instant::now();
        let settings = FeatureTraining { seed: self.seed, steps: self.steps, flip, ..FeatureTraining::default() };
        let mut progress = Progress::new("step", 0, self.steps);
        let features = train_features(&data, ".".as_ref(), &settings, &mut |step| {
            progress.set(step.step, &format!("loss {:.4}", step.loss));
            if let Some(check) = step.check {
                let (share, loss) = (100.0 * check.right as f64 / check.of as f64, check.loss);
                progress.note(&format!("step {}: {share:.2} % of {} images read right, loss {loss:.4}", step.step, check.of));
            }
        })?;
        progress.finish();
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|e| Failure::failed(format!("{}: cannot create the folder: {e}", folder.display())))?;
        }
        let bytes = features.to_bytes()?;
        atomic_write(&out, |file| file.write_all(&bytes))?;
        let learned = features.learned();
        print::answer(format_args!(
            "test accuracy: {:.2} % of {} images; weights of step {}, in {}",
            100.0 * learned.accuracy(),
            learned.tested,
            learned.steps,
            duration(started.elapsed().as_secs_f64())
        ))?;
        print::say(format_args!("{} features: {}", features.width(), out.display()));
        print::say(format_args!("sha256: {}", features.id()));
        Ok(())
    }
}

/// What is kept of features.
enum Kept {
    All(Vec<Tensor>),
    Moments(Box<Moments>),
}

impl Extract {
    fn run(self) -> Result<(), Failure> {
        let summary = self.out.extension().is_some_and(|e| e == "npz");
        if !summary {
            expect_extension(&self.out, "npy")?;
        }
        let features = FeatureNetwork::load(&self.file)?;
        let (set, first, count) = self.images(&features)?;
        let started = Instant::now();
        let mut progress = Progress::new("image", 0, count as u64);
        let width = features.width();
        if summary {
            Moments::check(width)?;
        }
        let mut kept = if summary { Kept::Moments(Box::new(Moments::new(width))) } else { Kept::All(Vec::new()) };
        for start in (0..count).step_by(AT_ONCE) {
            let end = (start + AT_ONCE).min(count);
            let x = set.batch(&(first + start..first + end).collect::<Vec<_>>())?.x;
            let found = features.of(&x).map_err(|e| Failure::failed(format!("{}, rows from {start}: {e}", self.samples)))?;
            match &mut kept {
                Kept::All(parts) => parts.push(found),
                Kept::Moments(moments) => moments.add(&found)?,
            }
            progress.set(end as u64, "");
        }
        progress.finish();
        match kept {
            Kept::All(parts) => write_npy(&self.out, &Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0))?,
            Kept::Moments(moments) => {
                let mut bytes = Cursor::new(Vec::new());
                let name = format!("{}-{}", features.name(), features.id());
                moments.statistics()?.of_space(name).write_npz(&mut bytes)?;
                atomic_write(&self.out, |file| file.write_all(bytes.get_ref()))?;
            }
        }
        let seconds = duration(started.elapsed().as_secs_f64());
        print::say(format_args!("{count} images, {width} features each: {}, in {seconds}", self.out.display()));
        Ok(())
    }

    /// The set, the first of its rows and how many.
    fn images(&self, features: &FeatureNetwork) -> Result<(Box<dyn Dataset>, usize, usize), Failure> {
        let is_array = Path::new(&self.samples).extension().is_some_and(|e| e == "npy" || e == "npz");
        let data = match is_array {
            true if self.data.is_some() => return Err(Failure::usage("--data: expected a data set's name with it, not a file")),
            true => DataConfig::Array(Array::at(&self.samples)),
            false => data_config(&self.samples, self.data.as_deref())?.0,
        };
        let set = match self.split {
            Part::Train => data.open(".".as_ref())?,
            Part::Test => test_set(&data)?,
        };
        features.fits(set.sample_shape(), &self.samples)?;
        let wanted = self.count.map(std::num::NonZeroUsize::get);
        if let Some(wanted) = wanted.filter(|&wanted| wanted > SampleSection::MOST) {
            return Err(Failure::usage(format!("--count {wanted}: expected at most {}", SampleSection::MOST)));
        }
        let (first, count) = match (set.is_unlimited(), self.split) {
            (true, Part::Train) => (0, wanted.unwrap_or(10_000)),
            (true, Part::Test) => (set.len(), wanted.unwrap_or(10_000)),
            (false, _) => (0, wanted.unwrap_or(usize::MAX).min(set.len())),
        };
        Ok((set, first, count))
    }
}

fn expect_extension(out: &Path, extension: &str) -> Result<(), Failure> {
    if out.extension().is_some_and(|e| e == extension) {
        return Ok(());
    }
    Err(Failure::usage(format!("--out {}: expected a file ending in .{extension}", out.display())))
}

/// What `inspect` says about features.
pub(crate) fn describe(features: &FeatureNetwork) -> Vec<String> {
    let mut lines = match features {
        FeatureNetwork::Pretrained(features) => {
            let network = features.network();
            vec![
                format!("features:   {} of images [H, W, 1] or [H, W, 3] of any size", network.width()),
                format!("network:    {}", network.about()),
                format!("parameters: {}", network.parameter_count()),
            ]
        }
        FeatureNetwork::Trained(features) => {
            let (learned, config) = (features.learned(), &features.classifier().config);
            vec![
                format!("features:   {} of images {:?}, version {}", features.width(), config.sample_shape, learned.version),
                format!(
                    "learned:    from {} images of {}, {} classes, seed {}",
                    learned.images, learned.data, config.classes, learned.seed
                ),
                format!(
                    "accuracy:   {:.2} % of {} test images, at step {}",
                    100.0 * learned.accuracy(),
                    learned.tested,
                    learned.steps
                ),
                format!("parameters: {}", features.classifier().parameter_count()),
            ]
        }
    };
    lines.push(format!("sha256:     {}", features.id()));
    lines
}

/// The same as a value.
pub(crate) fn to_json(features: &FeatureNetwork) -> serde_json::Value {
    match features {
        FeatureNetwork::Trained(trained) => json!({
            "features": trained.learned(),
            "sha256": features.id(),
            "classifier": trained.classifier().config,
            "parameters": trained.classifier().parameter_count(),
        }),
        FeatureNetwork::Pretrained(given) => json!({
            "features": { "network": features.name(), "width": features.width() },
            "sha256": features.id(),
            "parameters": given.network().parameter_count(),
        }),
    }
}
