//! The [`Dataset`] trait, and rows held in memory.

use std::path::Path;

use crate::error::DataError;
use fokker_tensor::Tensor;

/// Rows of a data set, ready for a network.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `f32` `[B, ...]` in network space: images are `[B, H, W, C]` with `u8 / 127.5 - 1` in `[-1, 1]`.
    pub x: Tensor,
    /// One class per row, each below [`Dataset::classes`]; `None` where the data set has no labels.
    pub labels: Option<Vec<u32>>,
}

/// A set of samples, all of one shape, addressed by row.
///
/// A row's content is a pure function of its number (and of the seed, for generated sets), so that batches can be
/// made in any order and on any thread.
pub trait Dataset: Send + Sync {
    /// A name for people, such as `moons` or the file's name.
    fn name(&self) -> &str;

    /// The number of rows; for an [unlimited](Dataset::is_unlimited) set, the number that is called an epoch.
    fn len(&self) -> usize;

    /// Always false for a set that could be opened: empty input is an error there.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether rows at and beyond [`len`](Dataset::len) exist too (generated data).
    fn is_unlimited(&self) -> bool {
        false
    }

    /// The shape of one sample: `[D]` for vectors, `[H, W, C]` for images.
    fn sample_shape(&self) -> &[usize];

    /// The number of classes, or `None` where rows carry no labels.
    fn classes(&self) -> Option<usize>;

    /// How many values, equally spaced from −1 to 1, a number of a sample can have: 256 for images of bytes; `None` where numbers are
    /// real.
    fn levels(&self) -> Option<usize> {
        None
    }

    /// The given rows, in the given order, repeats allowed.
    ///
    /// # Errors
    /// When a row cannot be read (sets in memory and generated sets never fail).
    ///
    /// # Panics
    /// When a row is not below [`len`](Dataset::len) and the set is not unlimited.
    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError>;
}

/// Values of all rows, one row after another.
#[derive(Debug)]
pub(crate) enum Values {
    /// Image bytes, widened to `f32` only when a batch is made.
    Bytes(Vec<u8>),
    /// Numbers already in network space.
    Floats(Vec<f32>),
}

/// A data set held in memory: what every file format is read into.
#[derive(Debug)]
pub(crate) struct Table {
    name: String,
    shape: Vec<usize>,
    len: usize,
    values: Values,
    labels: Option<Vec<u32>>,
    classes: Option<usize>,
}

impl Table {
    /// Puts rows of `shape` together with their labels; `path` is what errors name.
    ///
    /// The number of classes is `classes` where given (a label at or above it is an error), else one more than the
    /// largest label.
    pub(crate) fn new(
        path: &Path,
        shape: &[usize],
        values: Values,
        labels: Option<Vec<u32>>,
        classes: Option<usize>,
    ) -> Result<Table, DataError> {
        let row: usize = shape.iter().product();
        let total = match &values {
            Values::Bytes(v) => v.len(),
            Values::Floats(v) => v.len(),
        };
        if row == 0 || total == 0 {
            let found = format!("empty ({total} values of sample shape {shape:?})");
            return Err(DataError::format(path, "the data", found, "at least one sample with at least one value"));
        }
        assert_eq!(total % row, 0, "{total} values do not divide into rows of shape {shape:?}");
        let len = total / row;
        if let Some(labels) = &labels {
            if labels.len() != len {
                return Err(DataError::format(path, "the number of labels", labels.len(), format!("{len}, one for each sample")));
            }
            if let Some(classes) = classes
                && let Some(row) = labels.iter().position(|&label| label as usize >= classes)
            {
                return Err(DataError::format(
                    path,
                    format!("the label of row {row}"),
                    labels[row],
                    format!("a class below {classes}"),
                ));
            }
        } else if let Some(classes) = classes {
            return Err(DataError::config("classes", classes, format!("no such key, as {} has no labels", path.display())));
        }
        let classes =
            labels.as_ref().map(|labels| classes.unwrap_or_else(|| labels.iter().max().map_or(0, |&label| label as usize + 1)));
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Table { name, shape: shape.to_vec(), len, values, labels, classes })
    }

    /// The same set under another name.
    pub(crate) fn named(self, name: impl Into<String>) -> Table {
        Table { name: name.into(), ..self }
    }
}

/// A label from outside as a class: below `classes` where that is known, else below 65536, which no typing error
/// should get past.
pub(crate) fn class_of(path: &Path, field: &str, label: i64, classes: Option<usize>) -> Result<u32, DataError> {
    let classes = classes.unwrap_or(1 << 16);
    match u32::try_from(label) {
        Ok(class) if (class as usize) < classes => Ok(class),
        _ => Err(DataError::format(path, field, label, format!("a class from 0 to {}", classes as i64 - 1))),
    }
}

/// Network space of an 8-bit pixel: `0..=255` to `[-1, 1]`.
pub(crate) fn from_byte(byte: u8) -> f32 {
    f32::from(byte) / 127.5 - 1.0
}

impl Dataset for Table {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.len
    }

    fn sample_shape(&self) -> &[usize] {
        &self.shape
    }

    fn classes(&self) -> Option<usize> {
        self.classes
    }

    fn levels(&self) -> Option<usize> {
        match self.values {
            Values::Bytes(_) => Some(256),
            Values::Floats(_) => None,
        }
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        let row: usize = self.shape.iter().product();
        let mut x = Vec::with_capacity(rows.len() * row);
        for &i in rows {
            assert!(i < self.len, "row {i} of {}, which has {} rows", self.name, self.len);
            let span = i * row..(i + 1) * row;
            match &self.values {
                Values::Bytes(v) => x.extend(v[span].iter().map(|&byte| from_byte(byte))),
                Values::Floats(v) => x.extend_from_slice(&v[span]),
            }
        }
        let shape: Vec<usize> = std::iter::once(rows.len()).chain(self.shape.iter().copied()).collect();
        let labels = self.labels.as_ref().map(|labels| rows.iter().map(|&i| labels[i]).collect());
        Ok(Batch { x: Tensor::from_vec(&shape, x), labels })
    }
}
