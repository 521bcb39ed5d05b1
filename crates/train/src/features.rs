//! Feature spaces for images, what metrics of images compare samples in: learned from a data set's labels, or [of a network that others
//! trained](PretrainedFeatures). What is learned here:
//!
//! ```text
//! φ(x) [D]                          the last hidden layer of a `Classifier`
//! p(class | x) = softmax(W φ + b)   for the entropy of classes
//! L = −mean ln p(label | x)         minimised by AdamW at a constant rate; the features are those of the weights' moving average
//! ```
//!
//! Training stops when the loss of rows that were kept apart for this has not fallen for some time, and goes back to where it was lowest. The
//! file's SHA-256 is the identity of a feature space: scores in one say nothing about scores in another.

mod network;
mod parts;
mod pretrained;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use fokker_data::{Cursor, DataConfig, Dataset, Loader, LoaderConfig};
use fokker_models::checkpoint::Checkpoint;
use fokker_models::{Classifier, ClassifierConfig, ModelError};
use fokker_nn::{Adam, AdamConfig, Ema, EmaConfig, Schedule, value_and_grad};
use fokker_tensor::{Dtype, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::evaluation::sha256;
pub use network::FeatureNetwork;
use parts::{Part, Parts};
pub use pretrained::PretrainedFeatures;

/// The version of the feature space that a file says it is of: another network or other preparation of images is another version.
pub const FEATURES_VERSION: u32 = 1;

/// The metadata key of what was learned from what.
const LEARNED: &str = "fokker.features";

/// How a feature space is learned.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureTraining {
    /// The most steps.
    pub steps: u64,
    /// Images per step.
    pub batch: usize,
    /// AdamW's rate, after 50 steps of warm-up.
    pub learning_rate: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Steps between two looks at the rows kept apart.
    pub check_every: u64,
    /// Training stops when so many looks after each other found no lower loss.
    pub patience: usize,
    /// Seed of the weights and of the order of images.
    pub seed: u64,
    /// Whether half of the images are mirrored.
    pub flip: bool,
    /// Channels of the network's levels, the last of them the number of features; those of [`ClassifierConfig::new`] if there are none.
    pub channels: Vec<usize>,
}

impl Default for FeatureTraining {
    fn default() -> Self {
        FeatureTraining {
            steps: 2000,
            batch: 128,
            learning_rate: 2e-3,
            weight_decay: 0.05,
            check_every: 100,
            patience: 3,
            seed: 0,
            flip: false,
            channels: Vec::new(),
        }
    }
}

/// What a feature space was learned from, and how well: the part of its file's metadata that is not the network's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learned {
    /// [`FEATURES_VERSION`].
    pub version: u32,
    /// The data set's name.
    pub data: String,
    /// Its images that were learned from.
    pub images: usize,
    /// The seed.
    pub seed: u64,
    /// Steps up to the weights that were kept.
    pub steps: u64,
    /// Test images read right: the accuracy is `right / tested`.
    pub right: usize,
    /// Test images, which took no part in training.
    pub tested: usize,
}

impl Learned {
    /// The share of test images read right.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.tested as f64
    }
}

/// One step of training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeatureStep {
    /// Steps done.
    pub step: u64,
    /// Its batch's loss.
    pub loss: f64,
    /// After every [`check_every`](FeatureTraining::check_every) steps: what the average makes of the rows kept apart.
    pub check: Option<Reading>,
}

/// How well labelled images are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The mean of `−ln p(label | x)`.
    pub loss: f64,
    /// Images whose likeliest class is their label.
    pub right: usize,
    /// Images.
    pub of: usize,
}

/// A learned feature space.
#[derive(Clone, Debug)]
pub struct TrainedFeatures {
    classifier: Classifier,
    learned: Learned,
    id: String,
}

impl FeatureTraining {
    fn check(&self) -> Result<(), TrainError> {
        let numbers = [
            ("steps", self.steps, u64::MAX),
            ("batch", self.batch as u64, 1 << 16),
            ("check_every", self.check_every, u64::MAX),
            ("patience", self.patience as u64, u64::MAX),
        ];
        for (field, value, most) in numbers {
            if !(1..=most).contains(&value) {
                let expected = if value == 0 { "at least 1".to_owned() } else { format!("at most {most}") };
                return Err(TrainError::config(field, format!("expected {expected}, found {value}")));
            }
        }
        for (field, value, least) in
            [("learning_rate", self.learning_rate, f64::MIN_POSITIVE), ("weight_decay", self.weight_decay, 0.0)]
        {
            if !(value >= least && value.is_finite()) {
                let at_least = if least > 0.0 { "a number above 0" } else { "0 or a number above it" };
                return Err(TrainError::config(field, format!("expected {at_least}, found {value}")));
            }
        }
        Ok(())
    }
}

/// Learns a feature space from a labelled data set's images; relative paths are taken from `base`.
///
/// Tested on what the set keeps apart for tests; on rows beyond its length if it is generated, and on a tenth of its rows, which are
/// then not learned from, if it has no such part. A function of the data and the settings, to the bit, for any number of threads.
///
/// # Errors
/// If a setting is out of range, the data cannot be opened, are no images, have no labels or are too few, or the loss is not finite.
pub fn train_features(
    data: &DataConfig,
    base: &Path,
    settings: &FeatureTraining,
    report: &mut dyn FnMut(&FeatureStep),
) -> Result<TrainedFeatures, TrainError> {
    settings.check()?;
    let Parts { train, checked, test, classes } = Parts::open(data, base)?;
    let mut config = ClassifierConfig::new(train.sample_shape(), classes)?;
    if !settings.channels.is_empty() {
        config.channels.clone_from(&settings.channels);
    }
    let learned = Learned {
        version: FEATURES_VERSION,
        data: train.name().to_owned(),
        images: train.len(),
        seed: settings.seed,
        steps: 0,
        right: 0,
        tested: test.len(),
    };
    let model = Classifier::new(config, settings.seed, Dtype::F32)?;
    let (steps, classifier) = minimise(model, train, &checked, settings, report)?;
    let right = read(&classifier, &test)?.right;
    TrainedFeatures::new(classifier, Learned { steps, right, ..learned })
}

/// The average of the weights where the loss of `checked` was lowest, and the steps up to there.
fn minimise(
    mut model: Classifier,
    train: Part,
    checked: &Part,
    settings: &FeatureTraining,
    report: &mut dyn FnMut(&FeatureStep),
) -> Result<(u64, Classifier), TrainError> {
    let &FeatureTraining { batch, seed, flip, weight_decay, .. } = settings;
    let name = train.name().to_owned();
    let mut adam = Adam::new(&model, AdamConfig { weight_decay, ..AdamConfig::default() });
    // Fifty steps' worth of images, fewer at the start.
    let mut average = Ema::new(&model, EmaConfig::HalfLife { images: 50.0 * batch as f64, rampup: 0.1 });
    let schedule = Schedule::Constant { warmup: 50.min(settings.steps / 4) };
    let order = LoaderConfig { batch, seed, flip, ..LoaderConfig::default() };
    let mut loader = Loader::new(Arc::new(train) as Arc<dyn Dataset>, order, Cursor::default())?;
    let mut best: Option<(f64, u64, Classifier)> = None;
    let mut in_vain = 0;
    for step in 1..=settings.steps {
        let data = loader.next_batch()?;
        let labels = one_hot(&data.labels.expect("parts have labels"), model.config.classes);
        let (loss, grads) = value_and_grad(&model, |m| {
            let logits = m.logits(&m.features(&data.x));
            (&logits.logsumexp(1) - &(&logits * &labels).sum(&[1])).mean_all()
        });
        if !loss.is_finite() {
            let problem =
                format!("the loss is {loss} at step {step}: expected finite numbers, such as pixels in [-1, 1], in the data");
            return Err(TrainError::config(name, problem));
        }
        let rate = settings.learning_rate * schedule.factor(step - 1, settings.steps);
        adam.step_and_average(&mut model, &grads, rate, 1.0, &mut average, step * batch as u64, batch);
        let due = step.is_multiple_of(settings.check_every) || step == settings.steps;
        let check = due.then(|| read(&average.model, checked)).transpose()?;
        report(&FeatureStep { step, loss, check });
        let Some(check) = check else { continue };
        if best.as_ref().is_none_or(|(lowest, ..)| check.loss < *lowest) {
            best = Some((check.loss, step, average.model.clone()));
            in_vain = 0;
        } else {
            in_vain += 1;
            if in_vain >= settings.patience {
                break;
            }
        }
    }
    let (_, steps, classifier) = best.expect("the last step is always looked at");
    Ok((steps, classifier))
}

/// `[B, K]`: 1 at each label, otherwise 0.
fn one_hot(labels: &[u32], classes: usize) -> Tensor {
    let mut rows = vec![0.0f32; labels.len() * classes];
    rows.chunks_exact_mut(classes).zip(labels).for_each(|(row, &label)| row[label as usize] = 1.0);
    Tensor::from_vec(&[labels.len(), classes], rows)
}

/// How well a classifier reads all images of a part.
fn read(classifier: &Classifier, part: &Part) -> Result<Reading, TrainError> {
    let classes = classifier.config.classes;
    let mut found = Reading { loss: 0.0, right: 0, of: part.len() };
    let rows: Vec<usize> = (0..part.len()).collect();
    for rows in rows.chunks(at_once(classifier)) {
        let data = part.batch(rows)?;
        let labels = data.labels.expect("parts have labels");
        let logits = classifier.logits(&classifier.features(&data.x));
        let (rest, logits) = (logits.logsumexp(1).to_vec::<f64>(), logits.to_vec::<f64>());
        for ((row, rest), &label) in logits.chunks_exact(classes).zip(rest).zip(&labels) {
            found.loss += (rest - row[label as usize]) / part.len() as f64;
            // The first of equals is as arbitrary as any.
            let likeliest = (1..classes).fold(0, |best, class| if row[class] > row[best] { class } else { best });
            found.right += usize::from(likeliest == label as usize);
        }
    }
    Ok(found)
}

/// Images at once, so that a level's activations stay below some 20 MB: the same for all images, whatever their number.
fn at_once(classifier: &Classifier) -> usize {
    let config = &classifier.config;
    let positions = config.sample_shape[..2].iter().map(|side| side.div_ceil(config.stride)).product::<usize>();
    ((1 << 18) / positions).clamp(1, 256)
}

impl TrainedFeatures {
    fn new(classifier: Classifier, learned: Learned) -> Result<TrainedFeatures, TrainError> {
        let mut features = TrainedFeatures { classifier, learned, id: String::new() };
        features.id = sha256(&features.to_bytes()?);
        Ok(features)
    }

    /// The content of the `.safetensors` file. Write it through [`fokker_data::atomic_write`].
    ///
    /// # Errors
    /// If it cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrainError> {
        let mut checkpoint = self.classifier.to_checkpoint()?;
        let learned = serde_json::to_string(&self.learned).map_err(|e| TrainError::config(LEARNED, e.to_string()))?;
        checkpoint.metadata.insert(LEARNED.into(), learned);
        Ok(checkpoint.to_bytes()?)
    }

    /// Features from the content of their file; `file` is for messages.
    ///
    /// # Errors
    /// If it is another kind of file, of another version, or damaged.
    pub fn from_bytes(bytes: &[u8], file: &Path) -> Result<TrainedFeatures, TrainError> {
        let checkpoint = Checkpoint::from_bytes(bytes, file)?;
        let classifier = Classifier::from_checkpoint(&checkpoint, file)?;
        let learned: Learned = serde_json::from_str(checkpoint.text(LEARNED, file)?)
            .map_err(|e| TrainError::file(file, format!("metadata `{LEARNED}`: {e}")))?;
        if learned.version != FEATURES_VERSION {
            let found = learned.version;
            let problem = format!("features of version {found}, expected {FEATURES_VERSION}; train them with this program");
            return Err(TrainError::file(file, problem));
        }
        Ok(TrainedFeatures { classifier, learned, id: sha256(bytes) })
    }

    /// Reads a file that `fokker features train` wrote.
    ///
    /// # Errors
    /// If it cannot be read, is another kind of file, of another version, or damaged.
    pub fn load(file: &Path) -> Result<TrainedFeatures, TrainError> {
        let bytes = std::fs::read(file).map_err(|source| ModelError::Read { path: file.into(), source })?;
        TrainedFeatures::from_bytes(&bytes, file)
    }

    /// The SHA-256 of the file, in hexadecimal: scores are comparable where it is the same.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What they were learned from.
    pub fn learned(&self) -> &Learned {
        &self.learned
    }

    /// The network.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// The number of features `D`.
    pub fn width(&self) -> usize {
        self.classifier.width()
    }

    /// The number of classes `K`.
    pub fn classes(&self) -> usize {
        self.classifier.config.classes
    }

    /// Whether samples of this shape, without the batch, have such features. `origin`, where the samples come from, is for the message.
    ///
    /// # Errors
    /// If they have another shape.
    pub fn fits(&self, sample_shape: &[usize], origin: &str) -> Result<(), TrainError> {
        let (expected, data) = (&self.classifier.config.sample_shape, &self.learned.data);
        if sample_shape == expected {
            return Ok(());
        }
        let problem =
            format!("expected samples of shape {expected:?}, for features learned from `{data}`, found {sample_shape:?}");
        Err(TrainError::config(origin, problem))
    }

    /// The features of images in `[−1, 1]`, in batches: `[N, H, W, C] -> f32 [N, D]`. Numbers outside are taken for the nearest inside.
    ///
    /// # Errors
    /// If the images have another shape, or one has a number that is not finite.
    pub fn of(&self, x: &Tensor) -> Result<Tensor, TrainError> {
        self.fits(x.shape().get(1..).unwrap_or_default(), "images")?;
        let images = |some: &Tensor| self.classifier.features(&some.to(Dtype::F32).clamp(-1.0, 1.0));
        in_batches(x, at_once(&self.classifier), self.width(), images)
    }

    /// `p(class | x)` from [the features](Self::of) of `x`: `[N, D] -> f32 [N, K]`. Rows sum to 1.
    ///
    /// # Panics
    /// If these are not `D` features.
    #[track_caller]
    pub fn probabilities(&self, features: &Tensor) -> Tensor {
        self.classifier.logits(&features.to(Dtype::F32)).softmax()
    }
}

/// The features `f` `[B, width]` of all images `[N, H, W, C]`, so many at once.
fn in_batches(x: &Tensor, at_once: usize, width: usize, f: impl Fn(&Tensor) -> Tensor) -> Result<Tensor, TrainError> {
    let n = x.dim(0);
    let mut parts = Vec::new();
    for start in (0..n).step_by(at_once) {
        let some = x.slice(0, start..(start + at_once).min(n));
        if !some.all_finite() {
            let bad = (0..some.dim(0)).find(|&i| !some.slice(0, i..i + 1).all_finite()).expect("one of them is not finite");
            return Err(TrainError::config(format!("image {}", start + bad), "expected finite numbers, found others"));
        }
        parts.push(f(&some));
    }
    match parts.as_slice() {
        [] => Ok(Tensor::zeros(&[0, width], Dtype::F32)),
        parts => Ok(Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)),
    }
}
