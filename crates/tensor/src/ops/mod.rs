//! The operations, one directory each, all methods of [`Tensor`](crate::Tensor).

pub mod attention;
pub mod binary;
pub mod conv2d;
pub mod depthwise;
pub mod group_norm;
pub mod layer_norm;
pub mod linear;
pub mod matmul;
pub mod max_pool;
pub mod pool;
pub mod reduce;
pub mod resize;
pub mod rms_norm;
pub mod shape;
pub mod softmax;
pub mod unary;
pub mod upsample;

#[cfg(test)]
mod bf16_tests;
