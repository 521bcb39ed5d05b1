//! Data sets, loaders and image output.
//!
//! A [`DataConfig`] (`kind = "moons"` and that kind's keys) opens a [`Dataset`]: rows addressed by number, each of one
//! shape, `[D]` or `[H, W, C]`, in network space. A [`Loader`] turns it into an endless, keyed and resumable sequence of
//! [`Batch`]es, made ahead on a background thread. [`Picture`], [`Scatter`] and [`Movie`] show what a model made of it.
//!
//! ```
//! use fokker_data::{Cursor, DataConfig, Grid, Loader, LoaderConfig, Picture, Scatter};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let folder = folder.path();
//! // Digits with their labels, from a seed.
//! let glyphs = DataConfig::with_defaults("glyphs")?.open(folder)?;
//! assert_eq!((glyphs.sample_shape(), glyphs.classes()), (&[28, 28, 1][..], Some(10)));
//!
//! let config = LoaderConfig { batch: 16, ..LoaderConfig::default() };
//! let mut loader = Loader::new(glyphs, config, Cursor::default())?;
//! let batch = loader.next_batch()?;
//! assert_eq!(batch.x.shape(), [16, 28, 28, 1]);
//! Picture::grid(&batch.x, &Grid::default()).save_png(folder.join("glyphs.png"))?;
//!
//! // Ten thousand points of a density on the plane.
//! let moons = DataConfig::with_defaults("moons")?.open(folder)?;
//! let points = moons.batch(&(0..10_000).collect::<Vec<_>>())?.x;
//! Scatter::default().picture(&points).save_png(folder.join("moons.png"))?;
//! # Ok::<(), fokker_data::DataError>(())
//! ```
//!
//! Conventions: images are channels last with `u8 / 127.5 − 1` in `[−1, 1]`, and stay bytes in memory until a batch is
//! made. Whatever comes from outside and is not as it should be is a [`DataError`] that names the file, the field and what
//! was expected. Every file is written [whole or not at all](atomic_write).

mod dataset;
mod density;
mod draws;
mod error;
mod loader;
mod order;
pub mod output;
pub mod sets;

pub use dataset::{Batch, Dataset};
pub use error::DataError;
pub use loader::{Cursor, Loader, LoaderConfig};
pub use output::{Grid, Movie, Picture, Scatter, atomic_write, is_temporary, read_npy, remove_leftovers, save_gif, write_npy};
pub use sets::DataConfig;
