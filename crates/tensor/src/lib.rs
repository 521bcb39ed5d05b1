//! Dense tensors with forward and reverse differentiation, and counter-based noise.
//!
//! ```
//! use fokker_tensor::{Dtype, Tensor, grad, linearize};
//!
//! let x = Tensor::from_vec(&[3], vec![1.0_f64, 2.0, 3.0]);
//!
//! // Reverse mode: d/dx Σ x² = 2x.
//! let leaf = x.track();
//! let gradient = grad((&leaf * &leaf).sum_all(), &[&leaf]).remove(0);
//! assert_eq!(gradient.to_vec::<f64>(), [2.0, 4.0, 6.0]);
//!
//! // Forward mode, or both: a function's derivative as a linear map.
//! let (y, jacobian) = linearize(|x| x.exp(), &x);
//! let tangent = jacobian.jvp(&Tensor::ones(&[3], Dtype::F64));
//! assert_eq!(tangent.to_vec::<f64>(), y.to_vec::<f64>());
//! ```
//!
//! - [`Tensor`]: dense, row-major, `f32`, `f64` or (for networks) `bf16`, channels last where it holds images.
//! - [`linearize`], [`grad`]: differentiation of whatever was computed from tracked tensors.
//! - [`check::op`]: the checks every op passes, for your own.
//! - [`noise::Noise`]: random numbers that depend on (seed, stream, sample, step, element) alone.
//!
//! Misuse of shapes and types panics with both sides in the message.

#[cfg(test)]
mod accuracy;
mod bf16;
pub mod check;
pub mod element;
mod gemm;
pub mod graph;
mod lanes;
pub mod noise;
pub mod ops;
mod pairs;
mod par;
mod pool;
mod simd;
mod storage;
mod tensor;
pub mod update;

pub use bf16::Bf16;
pub use element::{Dtype, Element, Stored};
pub use graph::{Jacobian, checkpoint, grad, linearize};
pub use noise::Noise;
pub use pool::{Memory, memory};
pub use storage::Device;
pub use tensor::Tensor;
