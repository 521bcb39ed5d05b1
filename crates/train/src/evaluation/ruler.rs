//! The ruler: what samples are compared with, and the scores that come of it.
//!
//! ```text
//! class entropy = −Σ_c p_c ln p_c / ln C,     p_c: the share of samples whose nearest reference vector has class c
//! duplicates    = 1 − distinct samples / samples
//! ```

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::OnceLock;

use fokker_metrics::{
    DensityCoverage, Frechet, KernelDistance, Manifold, Memorisation, MetricError, Moments, NearestTraining, PrecisionRecall,
    SlicedWasserstein, Statistics,
};
use fokker_tensor::{Dtype, Tensor};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::identity::{absorb, hex};
use super::space::Features;
use crate::error::TrainError;

/// Scores of one set of samples by name: see [`COLUMNS`].
pub type Scores = BTreeMap<String, f64>;

/// Which way a score is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Small values.
    Lower,
    /// Large values.
    Higher,
    /// Neither: near the data's own value.
    Data,
}

/// A score that may be in a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name in [`Scores`] and in JSON.
    pub name: &'static str,
    /// A heading.
    pub title: &'static str,
    /// Which corner of the trilemma it is of.
    pub corner: &'static str,
    /// Which way it is better.
    pub better: Better,
    /// What it is.
    pub about: &'static str,
    /// What it cannot see.
    pub blind: &'static str,
}

macro_rules! columns {
    ($($name:literal, $title:literal, $corner:literal, $better:ident, $about:literal, $blind:literal;)*) => {
        &[$(Column { name: $name, title: $title, corner: $corner, better: Better::$better, about: $about, blind: $blind }),*]
    };
}

/// Every score of quality and of coverage, in the order of tables. Which of them there are depends on the data: see [`Ruler`].
pub const COLUMNS: &[Column] = columns! {
    "sliced_wasserstein", "Sliced W2", "quality", Lower,
    "Wasserstein-2 distance along 512 random directions, in the data's unit (Bonneel et al. 2015).",
    "In many dimensions a difference along few directions is diluted. Two sets of the data themselves are not at distance 0: see the row “data”.";
    "frechet", "Fréchet", "quality", Lower,
    "Squared Fréchet distance between Gaussians of the sets' means and covariances (Heusel et al. 2017); a FID only in Inception's feature space.",
    "Everything beyond mean and covariance. Biased upwards by an amount that depends on the number of samples: compare at equal numbers only.";
    "kernel_distance", "Kernel distance", "quality", Lower,
    "Unbiased squared maximum mean discrepancy with a cubic kernel, over random subsets (Bińkowski et al. 2018).",
    "Moments beyond the third. May be below 0 by chance.";
    "precision", "Precision", "quality", Higher,
    "Share of samples within the data's manifold, balls to the third nearest neighbour (Kynkäänniemi et al. 2019).",
    "How samples are spread within it: a single good sample, repeated, has precision 1. Two sets of the data do not reach 1.";
    "recall", "Recall", "coverage", Higher,
    "Share of the data within the samples' manifold (Kynkäänniemi et al. 2019).",
    "Weights of modes; one stray sample has a huge ball that covers much. Two sets of the data do not reach 1.";
    "coverage", "Coverage", "coverage", Higher,
    "Share of data whose ball to the fifth nearest neighbour holds a sample (Naeem et al. 2020).",
    "How often a region is sampled, once it is.";
    "class_entropy", "Class entropy", "coverage", Data,
    "Entropy of the classes (or modes) of the samples' nearest data, relative to that of equal shares.",
    "Which class is missing, and diversity within classes. Noise that falls on all classes alike looks diverse.";
    "duplicates", "Duplicates", "coverage", Lower,
    "Share of samples that repeat another sample of the set in every bit.",
    "Copies that differ in one bit.";
    "nearest_training_ratio", "Neighbour ratio", "memorisation", Data,
    "Mean ratio of distances to the nearest and the second nearest training vector (Yoon et al. 2023); lower than that of held-out data means copies.",
    "Copies of training vectors that are there twice, and copies up to a change that the features see.";
    "memorised", "Memorised", "memorisation", Data,
    "Share of samples whose ratio is below 1/3 (Yoon et al. 2023).",
    "As the ratio. In few dimensions much of any fresh data is below 1/3: compare with the row “data”.";
};

/// Rows of the training set that are read at once.
const PIECE: usize = 4096;

/// Data to compare samples with, in a space of features.
///
/// Samples of rank 1 are judged by sliced Wasserstein distance, others (images) by kernel distance; all by the rest of [`COLUMNS`], those of
/// memorisation where the training set is known, the class entropy where the data have classes.
pub struct Ruler {
    features: Features,
    /// The data `[N, D]` with their neighbours: found once, for all sets of samples.
    real: Manifold,
    statistics: Statistics,
    labels: Option<Vec<u32>>,
    classes: usize,
    /// `[T, D]`.
    training: Option<Tensor>,
    images: bool,
    /// See [`id`](Self::id): every row's key has it, and hashing all the data takes a while.
    id: OnceLock<String>,
}

impl Ruler {
    /// Of the data `reference`, `[N, ...]`, with their classes if they have any.
    ///
    /// # Errors
    /// If there are too few rows for neighbours, a number is not finite, all rows are the same, or there are more features than have a covariance
    /// ([`Moments::MOST`]).
    ///
    /// # Panics
    /// If labels are not as many as rows.
    #[track_caller]
    pub fn new(features: Features, reference: &Tensor, labels: Option<Vec<u32>>) -> Result<Ruler, TrainError> {
        let images = reference.rank() > 2;
        // Before anything of that size is made.
        Moments::check(features.width(reference.len() / reference.dim(0).max(1)))?;
        let reference = features.of(reference)?;
        let rows = reference.dim(0);
        assert!(labels.as_ref().is_none_or(|labels| labels.len() == rows), "labels of {rows} rows");
        // What samples are refused for, the data are refused for before any are drawn.
        let real = Manifold::real(&reference, DensityCoverage::default().k.max(PrecisionRecall::default().k))?;
        let first = reference.slice(0, 0..1).to_vec::<f64>();
        if pieces(&reference).all(|some| some.to_vec::<f64>().chunks(first.len()).all(|row| row == first)) {
            return Err(MetricError::Degenerate {
                what: "the data".into(),
                found: format!("{rows} times the same vector"),
                expected: "vectors that differ".into(),
            }
            .into());
        }
        let classes = labels.as_ref().map_or(0, |labels| labels.iter().max().map_or(0, |&most| most as usize + 1));
        let labels = labels.filter(|_| classes > 1);
        let statistics = Moments::of(&reference)?.statistics()?;
        Ok(Ruler { features, real, statistics, labels, classes, training: None, images, id: OnceLock::new() })
    }

    /// The same, with `count` rows of the training set to look for copies in. They are read by `rows`, which answers `f32` `[n, ...]`, some at a
    /// time and several at once; what is kept of them are their features.
    ///
    /// # Errors
    /// If they cannot be read, a number is not finite, the width is another, or there are fewer than two.
    pub fn with_training(
        self,
        count: usize,
        rows: impl Fn(Range<usize>) -> Result<Tensor, TrainError> + Sync,
    ) -> Result<Ruler, TrainError> {
        let reference = self.real.tensor();
        let starts: Vec<usize> = (0..count).step_by(PIECE).collect();
        let parts = starts.into_par_iter().map(|first| self.features.of(&rows(first..count.min(first + PIECE))?));
        let parts = parts.collect::<Result<Vec<Tensor>, TrainError>>()?;
        let width = parts.first().map_or(reference.dim(1), |part| part.dim(1));
        let mut all: Vec<f32> = Vec::with_capacity(count * width);
        // Each is freed once it is copied: they are twice in memory one by one, not all together.
        parts.into_iter().for_each(|part| all.extend_from_slice(part.to(Dtype::F32).as_slice()));
        let training = Tensor::from_vec(&[count, width], all);
        Memorisation::default().estimate(&training, &reference.slice(0, 0..1))?;
        Ok(Ruler { training: Some(training), id: OnceLock::new(), ..self })
    }

    /// How many training samples copies are looked for in.
    pub fn training_count(&self) -> usize {
        self.training.as_ref().map_or(0, |training| training.dim(0))
    }

    /// The space.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// How many data there are.
    pub fn count(&self) -> usize {
        self.real.rows()
    }

    /// The score that stands for quality where there is to be one.
    pub fn distance(&self) -> &'static str {
        if self.images { "frechet" } else { "sliced_wasserstein" }
    }

    /// Scores of samples `[M, ...]`; directions and subsets follow from the seed.
    ///
    /// # Errors
    /// If there are too few samples, a number is not finite, or the width is another.
    pub fn measure(&self, x: &Tensor, seed: u64) -> Result<Scores, TrainError> {
        let (real, generated) = (self.real.tensor(), &self.features.of(x)?);
        let mut scores = Scores::new();
        let mut set = |name: &str, value: f64| scores.insert(name.to_owned(), value);
        let (precision_recall, density_coverage) = (PrecisionRecall::default(), DensityCoverage::default());
        let samples = Manifold::generated(generated, precision_recall.k)?;
        let met = self.real.meet(&samples, &precision_recall, &density_coverage)?;
        set("precision", met.precision_recall.precision);
        set("recall", met.precision_recall.recall);
        set("coverage", met.density_coverage.coverage);
        set("frechet", Frechet::between(&self.statistics, &Moments::of(generated)?.statistics()?)?);
        if self.images {
            let subsets = KernelDistance { subsets: 10, ..KernelDistance::default() };
            set("kernel_distance", subsets.estimate(real, generated, seed)?.distance);
        } else {
            set("sliced_wasserstein", SlicedWasserstein::default().estimate(real, generated, seed)?.distance);
        }
        if let Some(labels) = &self.labels {
            set("class_entropy", entropy(met.nearest.iter().map(|&row| labels[row]), self.classes));
        }
        set("duplicates", duplicates(x));
        if let Some(training) = &self.training {
            let found = Memorisation::default().estimate(training, generated)?;
            set("nearest_training_ratio", found.ratios.iter().sum::<f64>() / found.ratios.len() as f64);
            set("memorised", found.memorised);
        }
        Ok(scores)
    }

    /// What the training set has nearest to each sample of `[M, ...]`, where it is known.
    ///
    /// # Errors
    /// As [`measure`](Self::measure).
    pub fn nearest_training(&self, x: &Tensor) -> Result<Option<NearestTraining>, TrainError> {
        let Some(training) = &self.training else { return Ok(None) };
        Ok(Some(Memorisation::default().estimate(training, &self.features.of(x)?)?))
    }

    /// A hash of everything that scores depend on besides samples and seed.
    pub fn id(&self) -> &str {
        self.id.get_or_init(|| self.hash())
    }

    fn hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.features.id());
        hash.update([u8::from(self.images)]);
        absorb(&mut hash, self.real.tensor());
        for label in self.labels.iter().flatten() {
            hash.update(label.to_le_bytes());
        }
        if let Some(training) = &self.training {
            absorb(&mut hash, training);
        }
        hex(hash)
    }
}

/// Relative to that of `classes` equal shares.
fn entropy(labels: impl Iterator<Item = u32>, classes: usize) -> f64 {
    let mut counts = vec![0usize; classes];
    labels.for_each(|label| counts[label as usize] += 1);
    let total = counts.iter().sum::<usize>() as f64;
    let shares = counts.iter().filter(|&&n| n > 0).map(|&n| n as f64 / total);
    (-shares.map(|p| p * p.ln()).sum::<f64>() / (classes as f64).ln()).max(0.0)
}

/// The rows, some at a time: no copy of all of them in another type.
fn pieces(x: &Tensor) -> impl Iterator<Item = Tensor> + '_ {
    (0..x.dim(0)).step_by(PIECE).map(|first| x.slice(0, first..x.dim(0).min(first + PIECE)))
}

fn duplicates(x: &Tensor) -> f64 {
    let (n, width) = (x.dim(0), x.len() / x.dim(0));
    // Of each row a hash: rows of 256 equal bits are equal.
    let digest = |row: &[f64]| -> [u8; 32] {
        let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_bits().to_le_bytes()).collect();
        Sha256::digest(&bytes).into()
    };
    let mut distinct = HashSet::with_capacity(n);
    for some in pieces(x) {
        distinct.par_extend(some.to_vec::<f64>().par_chunks(width).map(digest));
    }
    1.0 - distinct.len() as f64 / n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use fokker_tensor::{Dtype, Noise};

    fn normal(n: usize, first: u64) -> Tensor {
        Noise::new(5, 1).normal(&[n, 2], first, 0, Dtype::F32)
    }

    #[test]
    fn entropy_is_one_for_equal_shares_and_nothing_for_one_class() {
        assert!((entropy([0, 1, 2, 3].into_iter(), 4) - 1.0).abs() < 1e-12);
        assert_eq!(entropy([2, 2, 2].into_iter(), 4), 0.0);
        assert!((entropy([0, 1, 0, 1].into_iter(), 4) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_collapsed_set_is_seen_by_every_column_of_coverage() {
        let data = normal(400, 0);
        let labels = data.to_vec::<f32>().chunks(2).map(|p| u32::from(p[0] > 0.0)).collect();
        let ruler = Ruler::new(Features::Pixels, &data, Some(labels)).unwrap();
        let training = normal(6000, 2000);
        let ruler = ruler.with_training(6000, |rows| Ok(training.slice(0, rows))).unwrap();
        assert_eq!(ruler.training_count(), 6000);
        assert_eq!(ruler.training.as_ref().unwrap().to_vec::<f32>(), training.to_vec::<f32>());
        let good = ruler.measure(&normal(400, 1000), 0).unwrap();
        let one = &normal(400, 1000) * 0.01;
        let copies = Tensor::concat(&[&one.slice(0, 0..200), &one.slice(0, 0..200)], 0);
        // All at a training vector on the right.
        let collapsed = ruler.measure(&(&copies + 1.0), 0).unwrap();
        assert!(good["recall"] > 0.7 && collapsed["recall"] < 0.1, "{good:?} {collapsed:?}");
        assert!(good["coverage"] > 0.9 && collapsed["coverage"] < 0.1);
        assert!(good["class_entropy"] > 0.95 && collapsed["class_entropy"] == 0.0);
        assert_eq!((good["duplicates"], collapsed["duplicates"]), (0.0, 0.5));
        assert!(good["sliced_wasserstein"] < 0.2 && collapsed["sliced_wasserstein"] > 0.5);
        assert_eq!(good.len(), COLUMNS.len() - 1, "all but the kernel distance, which is for images");
        assert!(good.keys().all(|name| COLUMNS.iter().any(|column| column.name == name)));
    }

    #[test]
    fn duplicates_are_rows_that_are_equal_in_every_bit() {
        let x = normal(5000, 0);
        assert_eq!(duplicates(&x), 0.0);
        // The first thousand again, in other pieces, and a thousand that differ in one number's last bit.
        let mut near = x.slice(0, 0..1000).to_vec::<f32>();
        near.chunks_mut(2).for_each(|p| p[1] = f32::from_bits(p[1].to_bits() ^ 1));
        let all = Tensor::concat(&[&x, &x.slice(0, 0..1000), &Tensor::from_vec(&[1000, 2], near)], 0);
        assert!((duplicates(&all) - 1.0 / 7.0).abs() < 1e-12, "{}", duplicates(&all));
    }

    #[test]
    fn data_that_cannot_judge_are_refused_at_once() {
        let message = |x: &Tensor| Ruler::new(Features::Pixels, x, None).err().unwrap().to_string();
        assert!(message(&normal(4, 0)).contains("the real set has 4 rows, expected at least 6"), "{}", message(&normal(4, 0)));
        let constant = Tensor::full(&[20, 2], 1.0, Dtype::F32);
        assert_eq!(message(&constant), "the data is 20 times the same vector, expected vectors that differ");
        // 64 × 64 pixels in colour.
        let wide = Ruler::new(Features::Pixels, &Tensor::zeros(&[6, 64, 64, 3], Dtype::F32), None).err().unwrap().to_string();
        assert!(wide.starts_with("12288 features have a covariance of 12288 × 12288 numbers, some 6 GiB"), "{wide}");
        let ruler = || Ruler::new(Features::Pixels, &normal(20, 0), None).unwrap();
        let training = |count, width| {
            let read = |rows: Range<usize>| Ok(Tensor::full(&[rows.len(), width], 0.5, Dtype::F32));
            ruler().with_training(count, read).err().unwrap().to_string()
        };
        assert_eq!(training(1, 2), "the training set has 1 rows, expected at least 2 (the two nearest)");
        assert!(training(0, 2).starts_with("the training set is of shape [0, 2]"), "{}", training(0, 2));
        assert!(training(9, 3).starts_with("the training set has 3 columns"), "{}", training(9, 3));
        let ruler = ruler();
        assert!(ruler.measure(&Tensor::full(&[20, 3], 1.0, Dtype::F32), 0).is_err());
        assert!(ruler.measure(&Tensor::full(&[20, 2], f64::NAN, Dtype::F32), 0).is_err());
    }
}
