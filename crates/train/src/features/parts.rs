//! The rows of a labelled data set that are learned from, looked at while learning, and kept apart for the test.

use std::path::Path;
use std::sync::Arc;

use fokker_data::{Batch, DataConfig, DataError, Dataset};
use fokker_tensor::{Dtype, Noise};

use crate::error::TrainError;

/// The stream that rows are chosen by: not a run's, so that every feature space of a data set is tested on the same rows.
const STREAM: Noise = Noise { seed: 0, stream: 0x7261_0020 };

/// Rows that are looked at while learning, at most.
const CHECKED: usize = 2000;

/// Rows that the features of a generated set are tested on.
const TESTED: usize = 2000;

/// The least number of rows to learn from.
const LEAST: usize = 10;

/// Some rows of a data set.
#[derive(Clone)]
pub(super) struct Part {
    set: Arc<dyn Dataset>,
    rows: Vec<usize>,
}

/// The parts of a data set with labels.
pub(super) struct Parts {
    pub(super) train: Part,
    /// Rows like those of `train`, on which it shows when to stop.
    pub(super) checked: Part,
    pub(super) test: Part,
    pub(super) classes: usize,
}

impl Parts {
    /// Opens a data set; relative paths are taken from `base`.
    pub(super) fn open(data: &DataConfig, base: &Path) -> Result<Parts, TrainError> {
        let set: Arc<dyn Dataset> = data.open(base)?.into();
        let classes = labelled(&*set)?;
        let len = set.len();
        if len < LEAST {
            return Err(TrainError::config(set.name(), format!("expected at least {LEAST} images, found {len}")));
        }
        let mut rows: Vec<usize> = (0..len).collect();
        let test = match data.test_split() {
            Some(split) => Part::whole(test_set(split.open(base)?, &*set, classes)?),
            None if set.is_unlimited() => Part { set: set.clone(), rows: (len..len + TESTED).collect() },
            None => Part { set: set.clone(), rows: take(&mut rows, len / 10, 0) },
        };
        let count = (rows.len() / 10).clamp(1, CHECKED);
        let checked = Part { set: set.clone(), rows: take(&mut rows, count, 1) };
        Ok(Parts { train: Part { set, rows }, checked, test, classes })
    }
}

/// The number of classes of a set that features can be learned from.
fn labelled(set: &dyn Dataset) -> Result<usize, TrainError> {
    let bad = |expected: &str, found: String| TrainError::config(set.name(), format!("expected {expected}, found {found}"));
    if set.sample_shape().len() != 3 {
        return Err(bad("images of shape [H, W, C]", format!("samples of shape {:?}", set.sample_shape())));
    }
    match set.classes() {
        None => Err(bad("images with labels", "none".into())),
        Some(classes @ 0..2) => Err(bad("labels of at least 2 classes", classes.to_string())),
        Some(classes) => Ok(classes),
    }
}

/// The part for tests, if it goes with the part to learn from.
fn test_set(test: Box<dyn Dataset>, set: &dyn Dataset, classes: usize) -> Result<Arc<dyn Dataset>, TrainError> {
    let fits = test.sample_shape() == set.sample_shape() && labelled(&*test)? <= classes;
    if fits {
        return Ok(test.into());
    }
    let about = |set: &dyn Dataset| format!("shape {:?} and {} classes", set.sample_shape(), set.classes().unwrap_or(0));
    Err(TrainError::config(
        format!("{}, the test part", test.name()),
        format!("expected {}, found {}", about(set), about(&*test)),
    ))
}

/// Takes `count` of the rows away, chosen at random but always the same; both are in order afterwards.
fn take(rows: &mut Vec<usize>, count: usize, step: u32) -> Vec<usize> {
    let u = STREAM.uniform(&[rows.len(), 1], 0, step, Dtype::F64).to_vec::<f64>();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| u[a].total_cmp(&u[b]));
    let mut is_taken = vec![false; rows.len()];
    order[..count].iter().for_each(|&i| is_taken[i] = true);
    let (taken, left) = (0..rows.len()).partition::<Vec<_>, _>(|&i| is_taken[i]);
    let of = |places: Vec<usize>| places.into_iter().map(|i| rows[i]).collect::<Vec<_>>();
    let (taken, left) = (of(taken), of(left));
    *rows = left;
    taken
}

impl Part {
    fn whole(set: Arc<dyn Dataset>) -> Part {
        Part { rows: (0..set.len()).collect(), set }
    }
}

impl Dataset for Part {
    fn name(&self) -> &str {
        self.set.name()
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn sample_shape(&self) -> &[usize] {
        self.set.sample_shape()
    }

    fn classes(&self) -> Option<usize> {
        self.set.classes()
    }

    fn levels(&self) -> Option<usize> {
        self.set.levels()
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        self.set.batch(&rows.iter().map(|&row| self.rows[row]).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_without_order_but_always_the_same() {
        let mut left: Vec<usize> = (0..1000).collect();
        let taken = take(&mut left, 100, 0);
        let mut all = [taken.clone(), left.clone()].concat();
        assert!((taken.len(), left.len()) == (100, 900) && taken.is_sorted() && left.is_sorted());
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        assert_eq!(take(&mut (0..1000).collect(), 100, 0), taken);
        assert_ne!(take(&mut (0..1000).collect(), 100, 1), taken);
        // As many of each half as chance allows: 50 ± 5.
        assert!((30..70).contains(&taken.iter().filter(|&&row| row < 500).count()));
    }

    #[test]
    fn a_generated_set_is_tested_beyond_the_rows_that_are_learned_from() {
        let data: DataConfig = toml::from_str("kind = \"glyphs\"\nlen = 50").unwrap();
        let parts = Parts::open(&data, ".".as_ref()).unwrap();
        assert_eq!((parts.train.len(), parts.checked.len(), parts.test.len(), parts.classes), (45, 5, TESTED, 10));
        assert!(!parts.train.is_unlimited() && parts.test.rows.iter().all(|&row| row >= 50));
        assert!(parts.train.rows.iter().all(|row| !parts.checked.rows.contains(row)));
        let row = parts.checked.rows[2];
        let (a, b) = (parts.checked.batch(&[2]).unwrap(), parts.train.set.batch(&[row]).unwrap());
        assert_eq!((a.x.to_vec::<f32>(), a.labels), (b.x.to_vec::<f32>(), b.labels));
    }
}
