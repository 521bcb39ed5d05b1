//! A residual, time-conditioned multi-layer perceptron for vectors.
//!
//! ```text
//! e = SiLU(W₂ SiLU(W₁ φ(noise)) + class)       φ sinusoidal
//! h = W x
//! h = h + W_b SiLU(W_a SiLU(h) + W_e e)          for each block
//! y = W_out SiLU(h)
//! ```

use fokker_nn::{Embedding, Gain, Init, Linear, Sinusoidal, checkpoint, module};
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::network::{MOST_BLOCKS, MOST_WIDE, Purpose, within};

/// Size of an [`Mlp`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlpConfig {
    /// Width of every layer.
    pub hidden: usize,
    /// Number of residual blocks of two layers each.
    pub blocks: usize,
    /// Length of the noise-level embedding; even.
    pub embedding: usize,
    /// Whether training keeps only what goes into each block and computes the rest once more in the backward pass: less memory for about a
    /// third more time. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
}

impl Default for MlpConfig {
    fn default() -> Self {
        MlpConfig { hidden: 256, blocks: 3, embedding: 64, recompute: false }
    }
}

/// The network; see the module's equations.
#[derive(Clone, Debug)]
pub struct Mlp {
    sinusoidal: Sinusoidal,
    embed_in: Linear,
    embed_out: Linear,
    class: Option<Embedding>,
    input: Linear,
    blocks: Vec<Block>,
    output: Linear,
    recompute: bool,
}
module!(Mlp { embed_in, embed_out, class, input, blocks, output });

#[derive(Clone, Debug)]
struct Block {
    first: Linear,
    embed: Linear,
    second: Linear,
}
module!(Block { first, embed, second });

impl Block {
    fn forward(&self, x: &Tensor, embedding: &Tensor) -> Tensor {
        let h = self.first.forward_plus_silu(&x.silu(), &self.embed.forward(embedding));
        self.second.forward_plus(&h, x)
    }
}

impl MlpConfig {
    /// Draws the network.
    ///
    /// # Errors
    /// If a size is out of range, the embedding odd, or samples are not vectors.
    pub fn build(&self, purpose: Purpose<'_>, init: &mut Init) -> Result<Mlp, ModelError> {
        let &[dim] = purpose.sample_shape else {
            let found = format!("samples of shape [D], found {:?}; use `kind = \"unet\"` for images", purpose.sample_shape);
            return Err(ModelError::config("network.kind", found));
        };
        within("network.hidden", self.hidden, MOST_WIDE)?;
        within("network.blocks", self.blocks, MOST_BLOCKS)?;
        within("network.embedding", self.embedding, MOST_WIDE)?;
        if !self.embedding.is_multiple_of(2) {
            return Err(ModelError::config("network.embedding", format!("an even number above 0, found {}", self.embedding)));
        }
        let h = self.hidden;
        Ok(Mlp {
            sinusoidal: Sinusoidal { channels: self.embedding, max_period: 1000.0, scale: 20.0 },
            embed_in: Linear::new(self.embedding, h, init),
            embed_out: Linear::new(h, h, init),
            class: purpose.classes.map(|n| Embedding::new(n + 1, h, init)),
            input: Linear::new(dim, h, init),
            blocks: (0..self.blocks)
                .map(|_| Block {
                    first: Linear::new(h, h, init),
                    embed: Linear::new(h, h, init),
                    second: Linear::with_gain(h, h, Gain::Zero, init),
                })
                .collect(),
            output: Linear::with_gain(h, purpose.outputs * dim, Gain::Zero, init),
            recompute: self.recompute,
        })
    }
}

impl Mlp {
    /// See [`Network::forward`](crate::Network::forward): `[B, D] -> [B, D]`, or `[B, 2 D]` with variances.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, noise: &[f64], classes: Option<&[usize]>) -> Tensor {
        let e = self.embed_in.forward_silu(&self.sinusoidal.forward(noise, x.dtype()));
        let e = match (&self.class, classes) {
            (Some(table), Some(classes)) => (&self.embed_out.forward(&e) + &table.forward(classes)).silu(),
            _ => self.embed_out.forward_silu(&e),
        };
        let mut h = self.input.forward(x);
        for block in &self.blocks {
            h = match self.recompute {
                true => checkpoint(block, &[&h, &e], |block, t| block.forward(&t[0], &t[1])),
                false => block.forward(&h, &e),
            };
        }
        self.output.forward(&h.silu())
    }
}
