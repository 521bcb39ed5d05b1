//! CIFAR-10 in its binary form (Krizhevsky 2009, <https://www.cs.toronto.edu/~kriz/cifar.html>).
//!
//! A file is a run of 3073-byte records: a label below 10, then 1024 red, 1024 green and 1024 blue bytes in rows.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Split;
use crate::dataset::{Dataset, Table, Values};
use crate::error::DataError;
use crate::sets::Source;

const PIXELS: usize = 32 * 32;
const RECORD: usize = 1 + 3 * PIXELS;
const CLASSES: usize = 10;

/// 32×32×3 images in ten classes (airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cifar10 {
    /// A `.bin` file, or a folder with `data_batch_1.bin` … `data_batch_5.bin` and `test_batch.bin`, itself or in a
    /// sub-folder `cifar-10-batches-bin`.
    pub path: PathBuf,
    /// Which of the folder's files: `train` takes all `data_batch_*.bin` there are, `test` takes `test_batch.bin`.
    #[serde(default)]
    pub split: Split,
}

impl Source for Cifar10 {
    const READS_FILES: bool = true;

    fn open(&self, base: &Path) -> Result<Box<dyn Dataset>, DataError> {
        let path = base.join(&self.path);
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for file in self.files(&path)? {
            append(&file, &mut pixels, &mut labels)?;
        }
        let table = Table::new(&path, &[32, 32, 3], Values::Bytes(pixels), Some(labels), Some(CLASSES))?;
        Ok(Box::new(table.named("cifar10")))
    }
}

impl Cifar10 {
    fn files(&self, path: &Path) -> Result<Vec<PathBuf>, DataError> {
        let metadata = std::fs::metadata(path).map_err(|source| DataError::read(path, source))?;
        if metadata.is_file() {
            return Ok(vec![path.to_owned()]);
        }
        for folder in [path.to_owned(), path.join("cifar-10-batches-bin")] {
            let names = match self.split {
                Split::Train => (1..=5).map(|i| format!("data_batch_{i}.bin")).collect(),
                Split::Test => vec!["test_batch.bin".to_owned()],
            };
            let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).filter(|file| file.is_file()).collect();
            if !files.is_empty() {
                return Ok(files);
            }
        }
        let expected = match self.split {
            Split::Train => "data_batch_1.bin to data_batch_5.bin",
            Split::Test => "test_batch.bin",
        };
        Err(DataError::format(path, "the folder", "without CIFAR-10 files", expected))
    }
}

/// Adds the records of one file, with the colours of each pixel side by side.
fn append(path: &Path, pixels: &mut Vec<u8>, labels: &mut Vec<u32>) -> Result<(), DataError> {
    let bytes = std::fs::read(path).map_err(|source| DataError::read(path, source))?;
    if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
        let expected = format!("a positive multiple of {RECORD} (a label and 3x32x32 pixels)");
        return Err(DataError::format(path, "the length in bytes", bytes.len(), expected));
    }
    pixels.reserve(bytes.len());
    for (row, record) in bytes.chunks_exact(RECORD).enumerate() {
        let (label, planes) = (record[0], &record[1..]);
        if usize::from(label) >= CLASSES {
            let field = format!("the label of record {row}");
            return Err(DataError::format(path, field, label, format!("a class below {CLASSES}")));
        }
        labels.push(u32::from(label));
        pixels.extend((0..PIXELS).flat_map(|i| [planes[i], planes[PIXELS + i], planes[2 * PIXELS + i]]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(label: u8, first: u8) -> Vec<u8> {
        let pixels = (0..3 * PIXELS).map(|i| (i / PIXELS * 80 + i % PIXELS % 32) as u8 ^ first);
        std::iter::once(label).chain(pixels).collect()
    }

    fn open(path: &Path, split: Split) -> Result<Box<dyn Dataset>, DataError> {
        Cifar10 { path: path.to_owned(), split }.open(Path::new(""))
    }

    fn message(path: &Path) -> String {
        open(path, Split::Train).err().expect("an error").to_string()
    }

    #[test]
    fn records_become_images_with_channels_last() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("cifar-10-batches-bin");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("data_batch_1.bin"), [record(3, 0), record(9, 1)].concat()).unwrap();
        std::fs::write(inner.join("data_batch_2.bin"), record(0, 2)).unwrap();
        std::fs::write(inner.join("test_batch.bin"), record(5, 3)).unwrap();
        let set = open(folder.path(), Split::Train).unwrap();
        assert_eq!((set.len(), set.sample_shape(), set.classes()), (3, &[32, 32, 3][..], Some(10)));
        let batch = set.batch(&[0, 2, 1]).unwrap();
        assert_eq!(batch.labels, Some(vec![3, 0, 9]));
        // Row 1, column 2 of the first image: planes hold 0 + 2, 80 + 2 and 160 + 2 there.
        let at = (32 + 2) * 3;
        let expected = [2.0, 82.0, 162.0].map(|byte: f32| byte / 127.5 - 1.0);
        assert_eq!(batch.x.as_slice::<f32>()[at..at + 3], expected);
        assert_eq!(open(folder.path(), Split::Test).unwrap().batch(&[0]).unwrap().labels, Some(vec![5]));
        assert_eq!(open(&inner.join("test_batch.bin"), Split::Train).unwrap().len(), 1);
    }

    #[test]
    fn damaged_files_are_named_with_what_was_expected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data_batch_1.bin");
        assert!(message(folder.path()).contains("data_batch_1.bin to"));
        assert!(message(&path).starts_with("cannot read"));
        std::fs::write(&path, &record(1, 0)[..RECORD - 1]).unwrap();
        let error = message(folder.path());
        assert!(error.contains("data_batch_1.bin: the length in bytes is 3072") && error.contains("3073"), "{error}");
        std::fs::write(&path, b"").unwrap();
        assert!(message(folder.path()).contains("the length in bytes is 0"));
        std::fs::write(&path, [record(1, 0), record(10, 0)].concat()).unwrap();
        let error = message(folder.path());
        assert!(error.contains("the label of record 1 is 10, expected a class below 10"), "{error}");
    }
}
