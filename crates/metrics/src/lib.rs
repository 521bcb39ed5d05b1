//! Metrics of sample quality and coverage: how far a set of generated vectors is from a set of real ones.
//!
//! Vectors are points of data space or features of images; a set is a tensor `[N, ...]`, `f32` or `f64`, whose other axes are taken as
//! one. Each metric is a struct whose fields are its options ([`PrecisionRecall`], …) with a method that returns all it has
//! found, and a kind of [`MetricConfig`], which gives every metric the same face: named [`Score`]s.
//!
//! ```
//! use fokker_metrics::{MetricConfig, PrecisionRecall};
//! use fokker_tensor::{Dtype, Noise};
//!
//! let noise = Noise::new(0, 1);
//! let real = noise.normal(&[500, 4], 0, 0, Dtype::F32);
//! // Too narrow: every sample is likely, but much of the data is not met.
//! let generated = &noise.normal(&[500, 4], 500, 0, Dtype::F32) * 0.3;
//! let found = PrecisionRecall::default().estimate(&real, &generated)?;
//! assert!(found.precision > 0.9 && found.recall < 0.5);
//!
//! for metric in MetricConfig::all() {
//!     for score in metric.scores(&real, &generated, 0)? {
//!         println!("{}: {} = {:.4}", metric.kind(), score.name, score.value);
//!     }
//! }
//! # Ok::<(), fokker_metrics::MetricError>(())
//! ```
//!
//! Everything is computed in `f64` from the numbers as they stand, over tiles of pairs or blocks of rows, so that 50,000 × 2,048
//! features fit in 4 GiB; results have the same bits for any number of threads. Randomness (slices, permutations, subsets) follows
//! from the seed that is passed. Input that a metric cannot judge is a [`MetricError`] that names the set, row and column.

mod assignment;
mod balls;
mod classifier;
mod draws;
mod error;
mod likelihood;
mod line;
mod manifold;
pub mod metrics;
mod moments;
mod nearest;
mod pairs;
mod symmetric;
mod two_sample;
mod vectors;

pub use classifier::TwoSampleAccuracy;
pub use error::MetricError;
pub use likelihood::NegativeLogLikelihood;
pub use manifold::{Manifold, Meeting};
pub use metrics::*;
pub use moments::{Moments, Statistics};
