//! Score networks, the diffusion models made of them, and networks of features for images.
//!
//! A [`DiffusionModel`] is a network together with the process it was trained under and its preconditioning: a
//! [`Denoiser`](fokker_sde::Denoiser) that solvers can sample from. Its file is a `.safetensors` with the configuration in the
//! metadata.
//!
//! ```
//! use fokker_models::{DiffusionModel, MlpConfig, ModelConfig, NetworkConfig};
//! use fokker_sde::{Cond, Denoiser, Times};
//! use fokker_tensor::{Dtype, Noise};
//!
//! let config = ModelConfig {
//!     sample_shape: vec![2],
//!     classes: None,
//!     sde: Default::default(),
//!     preconditioning: Default::default(),
//!     learned_variance: false,
//!     network: NetworkConfig::Mlp(MlpConfig { hidden: 32, ..Default::default() }),
//! };
//! let model = DiffusionModel::new(config, 0, Dtype::F32)?;
//! let x = Noise::new(1, 0).normal(&[8, 2], 0, 0, Dtype::F32);
//! let denoised = model.denoise(&x, &Times::Same(0.5), &Cond::default());
//! assert_eq!(denoised.shape(), [8, 2]);
//!
//! // Round trip through the bytes of a checkpoint.
//! let again = DiffusionModel::from_bytes(&model.to_bytes()?, "memory".as_ref())?;
//! assert_eq!(again.denoise(&x, &Times::Same(0.5), &Cond::default()).to_vec::<f32>(), denoised.to_vec::<f32>());
//! # Ok::<(), fokker_models::ModelError>(())
//! ```

pub mod checkpoint;
mod classifier;
mod diffusion;
mod error;
mod mlp;
mod network;
mod pretrained;
mod unet;

pub use classifier::{Classifier, ClassifierConfig};
pub use diffusion::{DiffusionModel, ModelConfig};
pub use error::ModelError;
pub use mlp::{Mlp, MlpConfig};
pub use network::{Network, NetworkConfig};
pub use pretrained::{Dinov2, ImageNetwork, Inception};
pub use unet::{UNet, UNetConfig};
