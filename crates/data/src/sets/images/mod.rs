//! A folder or a zip archive of PNG and JPEG files.
//!
//! Files count whose names end in `.png`, `.jpg` or `.jpeg`, in any case, at any depth, in the order of their paths;
//! hidden ones (and macOS's `__MACOSX`) do not. Photographs are turned as their EXIF orientation says. 16-bit
//! files become 8-bit.

mod decode;
mod labels;
mod store;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Table, Values};
use crate::error::DataError;
use crate::sets::Source;
use decode::{Decoded, decode};
use store::Store;

/// PNG and JPEG files, `[H, W, 1]` or `[H, W, 3]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// The folder or zip archive.
    pub path: PathBuf,
    /// Where classes come from.
    #[serde(default)]
    pub labels: LabelSource,
    /// The number of classes; by default one more than the largest label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// Cut the middle out of each image and resize it (Lanczos) to this size. Without, all must have one size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Turn all images to grey (Rec. 709 luma) or to RGB. Without, all must be of one kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colour: Option<Colour>,
    /// The RGB colour to lay transparent images on. Without, a transparent pixel is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<[u8; 3]>,
}

impl Images {
    /// A folder or zip archive, with nothing done to the images.
    pub fn at(path: impl Into<PathBuf>) -> Images {
        Images { path: path.into(), labels: LabelSource::default(), classes: None, size: None, colour: None, background: None }
    }
}

/// Where the classes of images come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelSource {
    /// `dataset.json` if there is one, else sub-folders if there are several, else none.
    #[default]
    Auto,
    /// The sub-folder, in the order of the names (of the numbers, if all are numbers). Folders that contain all
    /// images do not count.
    Folders,
    /// `dataset.json` as EDM writes it: `{"labels": [["sub/file.png", 3], …]}` or `{"labels": null}`.
    Json,
    /// No classes.
    None,
}

/// A size in pixels: `32`, or `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "size is a number of pixels or [height, width]")]
pub enum Size {
    /// A square of this side.
    Square(u32),
    /// Height and width.
    Rectangle([u32; 2]),
}

/// Grey or colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// One channel.
    #[serde(alias = "gray")]
    Grey,
    /// Three channels.
    Rgb,
}

impl Size {
    /// Height and width.
    fn sides(self) -> [u32; 2] {
        match self {
            Size::Square(side) => [side, side],
            Size::Rectangle(sides) => sides,
        }
    }
}

impl Colour {
    fn channels(self) -> usize {
        match self {
            Colour::Grey => 1,
            Colour::Rgb => 3,
        }
    }
}

impl Source for Images {
    const READS_FILES: bool = true;

    fn open(&self, base: &Path) -> Result<Box<dyn Dataset>, DataError> {
        if let Some(size) = self.size
            && size.sides().iter().any(|&side| !(1..=1 << 14).contains(&side))
        {
            return Err(DataError::config("size", format!("{:?}", size.sides()), "1 to 16384 pixels a side"));
        }
        let path = base.join(&self.path);
        let mut store = Store::open(&path)?;
        let names = store.images().to_vec();
        if names.is_empty() {
            return Err(DataError::format(&path, "the content", "without images", "files ending in .png, .jpg or .jpeg"));
        }
        let labels = labels::read(&mut store, self.labels, self.classes)?;
        let (shape, pixels) = self.pixels(&mut store, &names)?;
        Ok(Box::new(Table::new(&path, &shape, Values::Bytes(pixels), labels, self.classes)?))
    }
}

impl Images {
    /// The shape of one image, and the bytes of all.
    fn pixels(&self, store: &mut Store, names: &[String]) -> Result<([usize; 3], Vec<u8>), DataError> {
        const AT_ONCE: usize = 256;
        let mut first: Option<Decoded> = None;
        let mut pixels = Vec::new();
        for (chunk, names_of) in names.chunks(AT_ONCE).enumerate() {
            let files = names_of.iter().map(|name| store.read(name)).collect::<Result<Vec<_>, _>>()?;
            // In order, so that the same file is named whichever thread is faster.
            let decoded: Vec<Result<Decoded, DataError>> =
                names_of.par_iter().zip(&files).map(|(name, bytes)| decode(&store.path_of(name), bytes, self)).collect();
            for (name, image) in names_of.iter().zip(decoded) {
                let image = image?;
                let first = first.get_or_insert_with(|| Decoded { pixels: Vec::new(), ..image });
                self.check_alike(store, &names[0], first, name, &image)?;
                if chunk == 0 && pixels.is_empty() {
                    let total = image.pixels.len().saturating_mul(names.len());
                    pixels.try_reserve_exact(total).map_err(|_| {
                        let found = format!("{} images of {} bytes", names.len(), image.pixels.len());
                        DataError::format(store.path(), "the content", found, "what fits into memory")
                    })?;
                }
                pixels.extend(image.pixels);
            }
        }
        let first = first.expect("there are images");
        Ok(([first.height, first.width, first.channels], pixels))
    }

    fn check_alike(
        &self,
        store: &Store,
        first_name: &str,
        first: &Decoded,
        name: &str,
        image: &Decoded,
    ) -> Result<(), DataError> {
        let mixed = |what, first_is: String, second_is: String, hint| DataError::Mixed {
            what,
            first: format!("{} is {first_is}", store.path_of(first_name).display()),
            second: format!("{} is {second_is}", store.path_of(name).display()),
            hint,
        };
        if (image.height, image.width) != (first.height, first.width) {
            let size = |image: &Decoded| format!("{}x{} (height x width)", image.height, image.width);
            let hint = "set size to cut and resize them all";
            return Err(mixed("size", size(first), size(image), hint));
        }
        if image.channels != first.channels {
            let kind = |image: &Decoded| if image.channels == 1 { "grey".to_owned() } else { "RGB".to_owned() };
            let hint = "set colour to \"grey\" or \"rgb\" to turn them all into that";
            return Err(mixed("colour", kind(first), kind(image), hint));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
