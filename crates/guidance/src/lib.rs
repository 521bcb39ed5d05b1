//! Guidance: a [`Denoiser`](fokker_sde::Denoiser) made from another, so that every solver can follow it and none needs to know of it.
//!
//! [`ClassifierFree`] moves the answer of a class-conditional model away from its unconditional one, [`AutoGuidance`] that of any model
//! away from a weaker one's.
//!
//! ```
//! use fokker_guidance::{ClassifierFree, Guidance};
//! use fokker_sde::{Cond, Covariance, Denoiser, Edm, GaussianMixture};
//! use fokker_tensor::Tensor;
//!
//! // An exact model of two classes; the null class of a model with classes 0 and 1 is 2.
//! let wide = Covariance::Isotropic(0.5);
//! let model = GaussianMixture::new(Edm::default(), &[0.5, 0.5], &[vec![-1.0], vec![1.0]], &[wide.clone(), wide])
//!     .with_classes(vec![0, 1]);
//! let guided = ClassifierFree::new(&model, 2, Guidance { scale: 3.0, ..Guidance::default() })?;
//!
//! let (x, t, right) = (Tensor::from_vec(&[1, 1], vec![0.2]), 1.0.into(), Cond::classes(vec![1]));
//! let conditional = model.denoise(&x, &t, &right).item();
//! let unconditional = model.denoise(&x, &t, &Cond::classes(vec![2])).item();
//! let expected = unconditional + 3.0 * (conditional - unconditional);
//! assert!((guided.denoise(&x, &t, &right).item() - expected).abs() < 1e-12);
//! # Ok::<(), fokker_guidance::GuidanceError>(())
//! ```

mod auto;
mod classifier_free;

pub use auto::AutoGuidance;
pub use classifier_free::{ClassifierFree, Guidance, GuidanceError};
