//! The list of data sets, and what a configuration says about each: a type's fields are its configuration keys.
//!
//! One file in this folder and one line in the `data_sets!` list add a data set.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::error::DataError;

/// A data set that a configuration describes.
pub(crate) trait Source {
    /// Whether the samples come from files, not from a seed.
    const READS_FILES: bool = false;

    /// Opens the set; relative paths are taken from `base`.
    fn open(&self, base: &Path) -> Result<Box<dyn Dataset>, DataError>;
}

macro_rules! data_sets {
    ($($module:ident :: $Type:ident = $kind:literal : $doc:literal),* $(,)?) => {
        $(mod $module; pub use $module::$Type;)*

        /// Which data set, and with which options: `kind = "moons"` and that kind's own keys.
        ///
        /// An unknown kind or key is an error; keys left out take their defaults.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        #[non_exhaustive]
        pub enum DataConfig {
            $(#[doc = $doc] #[serde(rename = $kind)] $Type($Type),)*
        }

        impl DataConfig {
            /// Every kind with one line about it, in the order of the list.
            pub const KINDS: &[(&str, &str)] = &[$(($kind, $doc)),*];

            /// The kind's name, as in `kind = "moons"`.
            pub fn kind(&self) -> &'static str {
                match self { $(DataConfig::$Type(_) => $kind,)* }
            }

            /// Whether the samples come from files, not from a seed.
            pub fn reads_files(&self) -> bool {
                fn of<S: Source>(_: &S) -> bool {
                    S::READS_FILES
                }
                match self { $(DataConfig::$Type(source) => of(source),)* }
            }

            /// Opens the data set; relative paths are taken from `base`, usually the configuration's folder.
            ///
            /// Generated sets open at once. Files are read and checked whole, and stay in memory (images as bytes).
            ///
            /// # Errors
            /// When an option is out of range, or a file is missing, corrupt, truncated or empty.
            pub fn open(&self, base: &Path) -> Result<Box<dyn Dataset>, DataError> {
                match self { $(DataConfig::$Type(source) => source.open(base),)* }
            }
        }
    };
}

data_sets! {
    moons::Moons = "moons": "2-D: two interleaving half circles",
    checkerboard::Checkerboard = "checkerboard": "2-D: eight squares of a 4x4 board on [-2, 2]^2",
    eight_gaussians::EightGaussians = "eight-gaussians": "2-D: eight Gaussians on a circle",
    pinwheel::Pinwheel = "pinwheel": "2-D: curved arms around the origin",
    swiss_roll::SwissRoll = "swiss-roll": "2-D: one spiral, wound one and a half times",
    spirals::Spirals = "spirals": "2-D: two intertwined spirals",
    rings::Rings = "rings": "2-D: four concentric circles",
    glyphs::Glyphs = "glyphs": "28x28x1: digits 0-9 from the project's own strokes, generated, with labels",
    idx::Idx = "idx": "IDX files, gzipped or not: MNIST, Fashion-MNIST, KMNIST and their like",
    cifar10::Cifar10 = "cifar10": "32x32x3: CIFAR-10 in its binary form",
    images::Images = "images": "a folder or zip of PNG and JPEG, with classes from sub-folders or dataset.json",
    array::Array = "array": "an .npy or .npz array of any shape, one sample per row",
}

pub use idx::Split;
pub use images::{Colour, LabelSource, Size};

impl DataConfig {
    /// Every data set that needs no file, with its defaults: what tests and listings go through.
    pub fn generated() -> Vec<DataConfig> {
        let all = DataConfig::KINDS.iter().filter_map(|(kind, _)| DataConfig::with_defaults(kind).ok());
        all.filter(|config| !config.reads_files()).collect()
    }

    /// The part of the same files that is kept apart for tests; `None` where there is none. What a generated set is not trained on are
    /// its rows at and beyond [`len`](Dataset::len).
    pub fn test_split(&self) -> Option<DataConfig> {
        let test = match self.clone() {
            DataConfig::Idx(idx) if idx.path.is_some() => DataConfig::Idx(Idx { split: Split::Test, ..idx }),
            DataConfig::Cifar10(cifar) => DataConfig::Cifar10(Cifar10 { split: Split::Test, ..cifar }),
            _ => return None,
        };
        (test != *self).then_some(test)
    }

    /// A kind with all its defaults.
    ///
    /// # Errors
    /// When there is no such kind, or the kind has a key without a default (the path of a file).
    pub fn with_defaults(kind: &str) -> Result<DataConfig, DataError> {
        serde_json::from_value(serde_json::json!({ "kind": kind })).map_err(|error| {
            let names: Vec<&str> = DataConfig::KINDS.iter().map(|&(name, _)| name).collect();
            let expected = format!("a kind without required keys, among {} ({error})", names.join(", "));
            DataError::config("kind", format_args!("{kind:?}"), expected)
        })
    }
}

#[cfg(test)]
mod tests;
