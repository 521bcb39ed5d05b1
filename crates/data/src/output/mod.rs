//! Pictures, movies and arrays on disk. Every file appears whole or not at all: see [`atomic_write`].

mod atomic;
mod gif;
mod npy;
mod picture;
mod scatter;

pub use atomic::{atomic_write, is_temporary, remove_leftovers};
pub use gif::{Movie, save_gif};
pub(crate) use npy::{Numbers, parse as parse_npy};
pub use npy::{read_npy, write_npy};
pub use picture::{Grid, Picture};
pub use scatter::Scatter;
