//! Data sets, loaders and image output.

mod dataset;
mod density;
mod draws;
mod error;
mod loader;
mod order;
pub mod output;
pub mod sets;
#[doc(hidden)]
pub mod standin;

pub use dataset::{Batch, Dataset};
pub use error::DataError;
pub use loader::{Cursor, Loader, LoaderConfig};
pub use output::{Grid, Movie, Picture, Scatter, atomic_write, read_npy, save_gif, write_npy};
pub use sets::DataConfig;
