//! The networks, as one type.

use fokker_nn::{Init, Module, Path};
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::mlp::{Mlp, MlpConfig};
use crate::unet::{UNet, UNetConfig};

/// What a network is built for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose<'a> {
    /// The shape of one sample: `[D]` or `[H, W, C]`.
    pub sample_shape: &'a [usize],
    /// The number of classes it can be conditioned on, if any. One more embedding stands for "no class".
    pub classes: Option<usize>,
    /// How many numbers it puts out for each of a sample's: 1, or 2 with a variance for each. They follow each other in the last axis.
    pub outputs: usize,
}

/// The largest width of a layer that memory is taken for, so that a typing error is a message.
pub(crate) const MOST_WIDE: usize = 1 << 14;

/// The largest number of blocks.
pub(crate) const MOST_BLOCKS: usize = 1 << 10;

/// Requires `1 <= value <= most` for a field.
pub(crate) fn within(field: &str, value: usize, most: usize) -> Result<(), ModelError> {
    if (1..=most).contains(&value) {
        Ok(())
    } else {
        Err(ModelError::config(field, format!("a number from 1 to {most}, found {value}")))
    }
}

macro_rules! networks {
    ($($tag:literal => $variant:ident($network:ident, $config:ident), $about:literal;)*) => {
        /// Which network, and how large. `kind` selects it in files.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum NetworkConfig {
            $( #[doc = $about] #[serde(rename = $tag)] $variant($config), )*
        }

        /// A network of one of the kinds.
        #[derive(Clone, Debug)]
        #[allow(clippy::large_enum_variant, reason = "a model has one network, there are no collections of them")]
        pub enum Network {
            $( #[doc = $about] $variant($network), )*
        }

        impl NetworkConfig {
            /// Every kind with one line about it.
            pub const KINDS: &[(&str, &str)] = &[$(($tag, $about)),*];

            /// Draws a network.
            ///
            /// # Errors
            /// If the configuration cannot serve the purpose.
            pub fn build(&self, purpose: Purpose<'_>, init: &mut Init) -> Result<Network, ModelError> {
                match self {
                    $( NetworkConfig::$variant(config) => Ok(Network::$variant(config.build(purpose, init)?)), )*
                }
            }
        }

        impl Network {
            /// The output for a batch `x` `[B, ...]` at noise levels `noise` (one for all, or one each), and the classes, where
            /// the number of classes stands for "no class". Same shape as `x`, or twice the last axis of one
            /// with variances.
            #[track_caller]
            pub fn forward(&self, x: &Tensor, noise: &[f64], classes: Option<&[usize]>) -> Tensor {
                match self { $( Network::$variant(network) => network.forward(x, noise, classes), )* }
            }
        }

        impl Module for Network {
            fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&str, &'a Tensor)) {
                match self { $( Network::$variant(network) => network.visit(path, f), )* }
            }

            fn visit_mut<'a>(&'a mut self, path: &mut Path, f: &mut dyn FnMut(&str, &'a mut Tensor)) {
                match self { $( Network::$variant(network) => network.visit_mut(path, f), )* }
            }
        }
    };
}

networks! {
    "mlp" => Mlp(Mlp, MlpConfig), "A residual multi-layer perceptron for vectors";
    "unet" => UNet(UNet, UNetConfig), "A U-Net for images of any size and number of channels";
}
