//! The operations, one directory each, all methods of [`Tensor`](crate::Tensor).

pub mod binary;
pub mod conv2d;
pub mod group_norm;
pub mod matmul;
pub mod reduce;
pub mod shape;
pub mod unary;
