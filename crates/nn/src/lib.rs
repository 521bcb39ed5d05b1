//! Parameters, layers, initialisers, optimisers, learning-rate schedules and averages of weights.
//!
//! A model is a plain struct of layers that implements [`Module`] (usually by [`module!`]): its gradients, its optimiser's
//! moments and its moving average are values of the same type.
//!
//! ```
//! use fokker_nn::{Adam, AdamConfig, Init, Linear, Module, value_and_grad};
//! use fokker_tensor::{Dtype, Noise, Tensor};
//!
//! let mut init = Init::new(0, Dtype::F32);
//! let mut model = vec![Linear::new(2, 16, &mut init), Linear::new(16, 1, &mut init)];
//! let x = Noise::new(1, 0).normal(&[64, 2], 0, 0, Dtype::F32);
//! let y = x.square().sum(&[1]).reshape(&[64, 1]);
//! let mut adam = Adam::new(&model, AdamConfig::default());
//! let mut losses = Vec::new();
//! for _ in 0..50 {
//!     let (loss, grads) = value_and_grad(&model, |m| (&m[1].forward(&m[0].forward(&x).silu()) - &y).square().mean_all());
//!     adam.step(&mut model, &grads, 1e-2, 1.0);
//!     losses.push(loss);
//! }
//! assert!(losses[49] < 0.5 * losses[0]);
//! ```

mod clip;
mod ema;
mod embed;
mod init;
mod layers;
mod module;
mod optim;
mod schedule;

pub use clip::{clip_scale, global_norm};
pub use ema::{Ema, EmaConfig};
pub use embed::{Fourier, Sinusoidal};
pub use init::{Gain, Init};
pub use layers::{Conv2d, DepthwiseConv2d, Embedding, GroupNorm, LayerNorm, Linear, RmsNorm};
pub use module::{Module, Path, checkpoint, value_and_grad};
pub use optim::{Adam, AdamConfig, Sgd, SgdConfig};
pub use schedule::Schedule;
