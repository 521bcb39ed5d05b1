//! `.npy` and `.npz` arrays: the first index counts samples, the rest is the shape of one.
//!
//! Floats are taken as they stand, so they should be in network space: standardised, or images in `[−1, 1]`. `uint8`
//! arrays are images and go through `u8 / 127.5 − 1`; one of shape `[N, H, W]` gets a channel.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Table, Values, class_of};
use crate::error::DataError;
use crate::output::{Numbers, parse_npy};
use crate::sets::Source;

/// An array from an `.npy` file, or from an `.npz` file with optional labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Array {
    /// The file: `float32`, `float64` or `uint8` of shape `[N, ...]`. In an `.npz`, the array called `x`, `images` or
    /// `arr_0`, and integer labels `[N]` called `labels` or `y` where there are such.
    pub path: PathBuf,
    /// An `.npy` file of integer labels `[N]`, for an array without its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// The number of classes; by default one more than the largest label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
}

impl Array {
    /// A file with the labels that it has itself.
    pub fn at(path: impl Into<PathBuf>) -> Array {
        Array { path: path.into(), labels: None, classes: None }
    }
}

/// An array and the file, or the member of an archive, that it came from.
struct Named {
    path: PathBuf,
    shape: Vec<usize>,
    numbers: Numbers,
}

impl Source for Array {
    const READS_FILES: bool = true;

    fn open(&self, base: &Path) -> Result<Box<dyn Dataset>, DataError> {
        let path = base.join(&self.path);
        let bytes = std::fs::read(&path).map_err(|source| DataError::read(&path, source))?;
        let (data, mut labels) = if bytes.starts_with(b"PK") {
            members(&path)?
        } else {
            let (shape, numbers) = parse_npy(&path, &bytes)?;
            (Named { path: path.clone(), shape, numbers }, None)
        };
        drop(bytes);
        if let Some(file) = &self.labels {
            let path = base.join(file);
            if labels.is_some() {
                let expected = format!("no such key, as {} has labels", data.path.display());
                return Err(DataError::config("labels", path.display(), expected));
            }
            let bytes = std::fs::read(&path).map_err(|source| DataError::read(&path, source))?;
            let (shape, numbers) = parse_npy(&path, &bytes)?;
            labels = Some(Named { path, shape, numbers });
        }
        let Some((&count, sample)) = data.shape.split_first() else {
            return Err(DataError::format(&data.path, "the shape", "[]", "[N, ...]"));
        };
        let labels = labels.map(|labels| classes_of(labels, count, self.classes)).transpose()?;
        // A one-dimensional array holds numbers, that is vectors of length one.
        let mut shape = if sample.is_empty() { vec![1] } else { sample.to_vec() };
        if let (Numbers::Bytes(_), [height, width]) = (&data.numbers, &shape[..]) {
            shape = vec![*height, *width, 1];
        }
        let values = network_space(&data.path, data.numbers, shape.iter().product())?;
        let table = Table::new(&data.path, &shape, values, labels, self.classes)?;
        Ok(Box::new(table.named(path.file_stem().unwrap_or_default().to_string_lossy())))
    }
}

/// The values as a network sees them, `row` of them to a sample.
fn network_space(path: &Path, numbers: Numbers, row: usize) -> Result<Values, DataError> {
    let values: Vec<f32> = match numbers {
        Numbers::Bytes(bytes) => return Ok(Values::Bytes(bytes)),
        Numbers::F32(values) => values,
        Numbers::F64(values) => values.into_iter().map(|v| v as f32).collect(),
        Numbers::Integers(_) => {
            return Err(DataError::format(path, "the dtype", "an integer type", "float32, float64 or uint8"));
        }
    };
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        let field = format!("row {} (value {} of {row})", at / row, at % row);
        return Err(DataError::format(path, field, values[at], "a finite float32"));
    }
    Ok(Values::Floats(values))
}

/// Labels as classes.
fn classes_of(labels: Named, count: usize, classes: Option<usize>) -> Result<Vec<u32>, DataError> {
    let path = &labels.path;
    if labels.shape != [count] {
        let found = format!("{:?}", labels.shape);
        return Err(DataError::format(path, "the shape of the labels", found, format!("[{count}], one per sample")));
    }
    let integers = match labels.numbers {
        Numbers::Bytes(bytes) => bytes.into_iter().map(i64::from).collect(),
        Numbers::Integers(integers) => integers,
        Numbers::F32(_) | Numbers::F64(_) => {
            return Err(DataError::format(path, "the dtype of the labels", "a float type", "an integer type"));
        }
    };
    let rows = integers.into_iter().enumerate();
    rows.map(|(row, label)| class_of(path, &format!("the label of row {row}"), label, classes)).collect()
}

/// The data and the labels of an `.npz` file.
fn members(path: &Path) -> Result<(Named, Option<Named>), DataError> {
    let file = File::open(path).map_err(|source| DataError::read(path, source))?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file))
        .map_err(|error| DataError::format(path, "the zip archive", format!("unreadable ({error})"), "an .npz file"))?;
    let mut member = |names: &[&str]| -> Result<Option<Named>, DataError> {
        let Some(index) = names.iter().find_map(|name| archive.index_for_name(&format!("{name}.npy"))) else {
            return Ok(None);
        };
        let name = archive.name_for_index(index).unwrap_or_default().to_owned();
        let path = path.join(name);
        let mut bytes = Vec::new();
        archive
            .by_index(index)
            .map_err(std::io::Error::other)
            .and_then(|mut member| member.read_to_end(&mut bytes))
            .map_err(|source| DataError::read(&path, source))?;
        let (shape, numbers) = parse_npy(&path, &bytes)?;
        Ok(Some(Named { path, shape, numbers }))
    };
    let data = member(&["x", "images", "arr_0"])?;
    let labels = member(&["labels", "y"])?;
    let data = data.ok_or_else(|| {
        let names: Vec<&str> = archive.file_names().collect();
        DataError::format(path, "the archive", format!("made of {names:?}"), "an array called x, images or arr_0")
    })?;
    Ok((data, labels))
}

#[cfg(test)]
mod tests;
