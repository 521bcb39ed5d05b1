//! Judges samples by a ruler that does not know the model.
//!
//! ```text
//! cargo run --release -p conformance --example judge -- digits samples.npy… --data data/mnist [--cycle]
//! cargo run --release -p conformance --example judge -- digits samples.npy… --glyphs [--cycle]
//! cargo run --release -p conformance --example judge -- points samples.npy --kind checkerboard
//! ```
//!
//! `digits` trains a small convolutional classifier on the training part (glyphs: on one seed), says how much of the held-out
//! part it reads with probability above 0.9, and how much of the samples. `--cycle` says that sample `i` was asked to be of class
//! `i mod 10`. `points` compares the sliced Wasserstein distance to fresh data with that between two fresh sets of the same size,
//! and counts modes.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use fokker_data::sets::{EightGaussians, Glyphs, Idx, Split};
use fokker_data::{Cursor, DataConfig, Dataset, Loader, LoaderConfig, read_npy};
use fokker_metrics::{ModeCounts, SlicedWasserstein};
use fokker_nn::{Adam, AdamConfig, Conv2d, Gain, Init, Linear, Schedule, module, value_and_grad};
use fokker_tensor::{Dtype, Tensor};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Images of digits, `[N, 28, 28, 1]` in [-1, 1], in one or more files.
    Digits {
        #[arg(required = true)]
        samples: Vec<PathBuf>,
        /// A folder with MNIST's IDX files.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Use the generated glyphs.
        #[arg(long)]
        glyphs: bool,
        /// Sample i was asked to be of class i mod 10.
        #[arg(long)]
        cycle: bool,
    },
    /// Points of the plane, `[N, 2]`.
    Points {
        samples: PathBuf,
        #[arg(long)]
        kind: String,
    },
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    match Arguments::parse().what {
        What::Digits { samples, data, glyphs, cycle } => digits(&samples, data, glyphs, cycle),
        What::Points { samples, kind } => points(&samples, &kind),
    }
}

#[derive(Clone)]
struct Classifier {
    convolutions: Vec<Conv2d>,
    output: Linear,
}
module!(Classifier { convolutions, output });

impl Classifier {
    fn new() -> Classifier {
        let mut init = Init::new(20, Dtype::F32);
        let mut conv = |i, o, stride| Conv2d::with_gain(i, o, 3, stride, Gain::Kaiming, &mut init);
        let convolutions = vec![conv(1, 16, 1), conv(16, 32, 2), conv(32, 64, 2), conv(64, 64, 1)];
        Classifier { convolutions, output: Linear::with_gain(7 * 7 * 64, 10, Gain::Zero, &mut init) }
    }

    /// `[B, 28, 28, 1] -> [B, 10]`.
    fn logits(&self, x: &Tensor) -> Tensor {
        let h = self.convolutions.iter().fold(x.clone(), |h, conv| conv.forward(&h).silu());
        self.output.forward(&h.reshape(&[x.dim(0), 7 * 7 * 64]))
    }

    fn train(dataset: Box<dyn Dataset>) -> Result<Classifier, Failure> {
        let mut model = Classifier::new();
        let mut adam = Adam::new(&model, AdamConfig::default());
        let (steps, batch) = (1800, 128);
        let schedule = Schedule::Cosine { warmup: 50, floor: 0.0 };
        let config = LoaderConfig { batch, seed: 77, ..LoaderConfig::default() };
        let mut loader = Loader::new(dataset, config, Cursor::default())?;
        for step in 0..steps {
            let data = loader.next_batch()?;
            let labels = data.labels.ok_or("the data has no labels")?;
            let mut one_hot = vec![0.0f32; batch * 10];
            labels.iter().enumerate().for_each(|(i, &l)| one_hot[i * 10 + l as usize] = 1.0);
            let one_hot = Tensor::from_vec(&[batch, 10], one_hot);
            let (loss, grads) = value_and_grad(&model, |m| {
                let logits = m.logits(&data.x);
                let right = (&logits * &one_hot).sum(&[1]);
                (&logits.logsumexp(1) - &right).mean_all()
            });
            adam.step(&mut model, &grads, 2e-3 * schedule.factor(step, steps), 1.0);
            if step % 300 == 299 {
                eprintln!("classifier: step {}, loss {loss:.4}", step + 1);
            }
        }
        Ok(model)
    }

    /// The class and its probability for each image.
    fn read(&self, x: &Tensor) -> Vec<(usize, f64)> {
        let mut all = Vec::new();
        for start in (0..x.dim(0)).step_by(250) {
            let logits = self.logits(&x.slice(0, start..(start + 250).min(x.dim(0))));
            let p = (&logits - &logits.logsumexp_keep(1)).exp().to_vec::<f64>();
            all.extend(p.chunks(10).map(|row| {
                let (class, p) = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("ten classes");
                (class, *p)
            }));
        }
        all
    }
}

fn digits(samples: &[PathBuf], data: Option<PathBuf>, glyphs: bool, cycle: bool) -> Result<(), Failure> {
    let sets = |split, seed| match (&data, glyphs) {
        (Some(path), false) => Ok(DataConfig::Idx(Idx { path: Some(path.clone()), split, ..Idx::default() })),
        (None, true) => Ok(DataConfig::Glyphs(Glyphs { seed, ..Glyphs::default() })),
        _ => Err("give either --data FOLDER or --glyphs"),
    };
    let mut sets_of_samples = Vec::new();
    for path in samples {
        let x = read_npy(path)?.to(Dtype::F32);
        if x.rank() != 4 || x.shape()[1..] != [28, 28, 1] {
            return Err(format!("{}: shape {:?}, expected [N, 28, 28, 1]", path.display(), x.shape()).into());
        }
        sets_of_samples.push(x);
    }
    let classifier = Classifier::train(sets(Split::Train, 1001)?.open(Path::new("."))?)?;
    let test = sets(Split::Test, 1002)?.open(Path::new("."))?;
    let held_out = test.batch(&(0..test.len().min(10_000)).collect::<Vec<_>>())?;
    let labels = held_out.labels.ok_or("the held-out data has no labels")?;
    let read = classifier.read(&held_out.x);
    let share = |n: usize, of: usize| 100.0 * n as f64 / of as f64;
    let right = read.iter().zip(&labels).filter(|(r, l)| r.0 == **l as usize).count();
    let sure = read.iter().filter(|r| r.1 > 0.9).count();
    println!("held-out images: {:.2} % read right, {:.2} % read with p > 0.9", share(right, read.len()), share(sure, read.len()));

    for (path, x) in samples.iter().zip(&sets_of_samples) {
        let read = classifier.read(&x.clamp(-1.0, 1.0));
        let sure = read.iter().filter(|r| r.1 > 0.9).count();
        println!("{}: {:.1} % of {} read with p > 0.9", path.display(), share(sure, read.len()), read.len());
        let shares: Vec<String> =
            (0..10).map(|c| format!("{c}: {:.1} %", share(read.iter().filter(|r| r.0 == c).count(), read.len()))).collect();
        println!("classes: {}", shares.join(", "));
        if cycle {
            let as_asked = read.iter().enumerate().filter(|(i, r)| r.0 == i % 10).count();
            println!("read as the class asked for: {:.1} %", share(as_asked, read.len()));
        }
    }
    Ok(())
}

/// The sliced Wasserstein-2 distance of points of the plane, over evenly spaced directions.
fn sliced_wasserstein(a: &Tensor, b: &Tensor) -> Result<f64, Failure> {
    const DIRECTIONS: usize = 256;
    let angle = |k: usize| std::f64::consts::PI * k as f64 / DIRECTIONS as f64;
    let directions = (0..DIRECTIONS).flat_map(|k| [angle(k).cos(), angle(k).sin()]).collect();
    let directions = Tensor::from_vec::<f64>(&[DIRECTIONS, 2], directions);
    Ok(SlicedWasserstein::default().along(a, b, &directions)?.distance)
}

fn points(samples: &Path, kind: &str) -> Result<(), Failure> {
    let x = read_npy(samples)?;
    if x.rank() != 2 || x.dim(1) != 2 {
        return Err(format!("{}: shape {:?}, expected [N, 2]", samples.display(), x.shape()).into());
    }
    let n = x.dim(0);
    let set = DataConfig::with_defaults(kind)?.open(Path::new("."))?;
    // Rows far from those that training reads.
    let fresh = |k: usize| -> Result<Tensor, Failure> {
        let first = (1usize << 40) + k * n;
        Ok(set.batch(&(first..first + n).collect::<Vec<_>>())?.x)
    };
    let sets = (0..6).map(fresh).collect::<Result<Vec<_>, _>>()?;
    let mean = |d: Result<Vec<f64>, Failure>| d.map(|d| d.iter().sum::<f64>() / d.len() as f64);
    let to_data = mean(sets.iter().map(|s| sliced_wasserstein(&x, s)).collect())?;
    let between = mean((0..5).map(|i| sliced_wasserstein(&sets[i], &sets[i + 1])).collect())?;
    println!(
        "sliced Wasserstein-2: {to_data:.4} to fresh data, {between:.4} between fresh sets of {n}: ratio {:.2}",
        to_data / between
    );
    if kind == "eight-gaussians" {
        let centres = EightGaussians::default().centres().map(Vec::from).to_vec();
        let modes = ModeCounts { centres, radius: 3.0 * EightGaussians::default().std }.estimate(&x)?;
        let shares: Vec<String> = modes.nearest.iter().map(|c| format!("{:.1} %", 100.0 * *c as f64 / n as f64)).collect();
        println!("modes: {}", shares.join(", "));
    }
    Ok(())
}
