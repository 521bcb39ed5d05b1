//! IDX files, the format of MNIST and its successors (LeCun, Cortes, Burges, <http://yann.lecun.com/exdb/mnist/>).
//!
//! ```text
//! 0x00 0x00 type rank | rank big-endian u32 sizes | values, last index fastest
//! ```
//!
//! Images have type `0x08` (unsigned byte) and rank 3, `[N, H, W]`; labels type `0x08` and rank 1. A file that starts
//! with gzip's magic is decompressed, whatever its name.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Table, Values};
use crate::error::DataError;
use crate::sets::Source;

/// Images, and labels if there are any, from IDX files.
///
/// Either `path` is a folder with MNIST's file names and `split` chooses between them, or `images` (and `labels`) name
/// the files. Samples are `[H, W, 1]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Idx {
    /// A folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
    /// `t10k-labels-idx1-ubyte` (also with a dot, `train-images.idx3-ubyte`), each with or without `.gz`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Which of the folder's files.
    pub split: Split,
    /// A file of images, instead of `path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// The labels of `images`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// The number of classes; by default one more than the largest label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
}

/// The part of a data set that is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// The part to train on.
    #[default]
    Train,
    /// The part that is held out.
    Test,
}

impl Source for Idx {
    const READS_FILES: bool = true;

    fn open(&self, base: &Path) -> Result<Box<dyn Dataset>, DataError> {
        let (images, labels) = match (&self.path, &self.images) {
            (Some(folder), None) if self.labels.is_none() => self.in_folder(&base.join(folder))?,
            (None, Some(images)) => (base.join(images), self.labels.as_ref().map(|labels| base.join(labels))),
            _ => {
                let found = "not one of the two";
                let expected = "either path (a folder with MNIST's file names) or images (and labels)";
                return Err(DataError::config("path, images, labels", found, expected));
            }
        };
        let ([count, height, width], pixels) = read_idx::<3>(&images)?;
        if count == 0 || height == 0 || width == 0 {
            let found = format!("[{count}, {height}, {width}]");
            return Err(DataError::format(&images, "the size in the header", found, "at least one pixel"));
        }
        let labels = match labels {
            None => None,
            Some(path) => {
                let ([labelled], labels) = read_idx::<1>(&path)?;
                if labelled != count {
                    let expected = format!("{count}, as in {}", images.display());
                    return Err(DataError::format(&path, "the number of labels", labelled, expected));
                }
                if let Some(classes) = self.classes
                    && let Some(row) = labels.iter().position(|&label| usize::from(label) >= classes)
                {
                    let expected = format!("a class below {classes}");
                    return Err(DataError::format(&path, format!("the label of row {row}"), labels[row], expected));
                }
                Some(labels.into_iter().map(u32::from).collect())
            }
        };
        let table = Table::new(&images, &[height, width, 1], Values::Bytes(pixels), labels, self.classes)?;
        let named = self.path.as_ref().and_then(|folder| folder.file_name());
        Ok(Box::new(match named {
            Some(name) => table.named(name.to_string_lossy()),
            None => table,
        }))
    }
}

impl Idx {
    /// The files of the split in `folder`; labels may be missing.
    fn in_folder(&self, folder: &Path) -> Result<(PathBuf, Option<PathBuf>), DataError> {
        std::fs::read_dir(folder).map_err(|source| DataError::read(folder, source))?;
        let prefix = match self.split {
            Split::Train => "train",
            Split::Test => "t10k",
        };
        let find = |part: &str| {
            ["-", "."]
                .into_iter()
                .flat_map(|dot| ["", ".gz"].map(|end| folder.join(format!("{prefix}-{}{end}", part.replacen('?', dot, 1)))))
                .find(|path| path.is_file())
        };
        let images = find("images?idx3-ubyte").ok_or_else(|| {
            let expected = format!("a file {prefix}-images-idx3-ubyte or {prefix}-images-idx3-ubyte.gz");
            DataError::format(folder, "the folder", "without such images", expected)
        })?;
        Ok((images, find("labels?idx1-ubyte")))
    }
}

/// The sizes and bytes of an IDX file of unsigned bytes with `RANK` indices.
///
/// The announced size is compared with the file's before memory is taken for it.
fn read_idx<const RANK: usize>(path: &Path) -> Result<([usize; RANK], Vec<u8>), DataError> {
    let failed = |source| DataError::read(path, source);
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let on_disk = file.get_ref().metadata().map_err(failed)?.len();
    let mut magic = Vec::new();
    file.by_ref().take(2).read_to_end(&mut magic).map_err(failed)?;
    let start = std::io::Cursor::new(magic.clone()).chain(file);
    // Deflate makes at most 1032 bytes of one.
    if magic == [0x1f, 0x8b] {
        parse(path, MultiGzDecoder::new(start), on_disk.saturating_mul(1032))
    } else {
        parse(path, start, on_disk)
    }
}

fn parse<const RANK: usize>(path: &Path, mut from: impl Read, at_most: u64) -> Result<([usize; RANK], Vec<u8>), DataError> {
    let mut header = Vec::new();
    let header_len = 4 + 4 * RANK;
    let cut = |source| DataError::read(path, source);
    from.by_ref().take(header_len as u64).read_to_end(&mut header).map_err(cut)?;
    let magic = [0, 0, 8, RANK as u8];
    if header.len() >= 4 && header[..4] != magic {
        let found = format!("{:02x?}", &header[..4]);
        let what = if RANK == 1 { "labels" } else { "images" };
        let expected = format!("{magic:02x?}, unsigned bytes of rank {RANK} ({what})");
        return Err(DataError::format(path, "the IDX magic", found, expected));
    }
    if header.len() < header_len {
        let found = format!("cut off after {} bytes", header.len());
        return Err(DataError::format(path, "the IDX header", found, format!("{header_len} bytes")));
    }
    let shape: [usize; RANK] = std::array::from_fn(|i| {
        let at = 4 + 4 * i;
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize
    });
    let total = shape.iter().try_fold(1_u64, |product, &n| product.checked_mul(n as u64));
    let Some(total) = total.filter(|&total| total <= at_most) else {
        let found = format!("{shape:?}");
        let expected = format!("at most the {at_most} values that a file of this length can hold");
        return Err(DataError::format(path, "the size in the IDX header", found, expected));
    };
    let mut values = Vec::new();
    from.by_ref().take(total).read_to_end(&mut values).map_err(cut)?;
    if (values.len() as u64) < total {
        let expected = format!("{total}, as the header says {shape:?}");
        return Err(DataError::format(path, "the number of values", values.len(), expected));
    }
    // Reading on to the end also checks gzip's checksum.
    let beyond = std::io::copy(&mut from, &mut std::io::sink()).map_err(cut)?;
    if beyond > 0 {
        let found = total.saturating_add(beyond);
        let expected = format!("{total}, as the header says {shape:?}");
        return Err(DataError::format(path, "the number of values", found, expected));
    }
    Ok((shape, values))
}

#[cfg(test)]
mod tests;
