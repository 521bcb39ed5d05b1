//! A residual, time-conditioned multi-layer perceptron for vectors.
//!
//! ```text
//! e = SiLU(W₂ SiLU(W₁ φ(noise)) + class)       φ sinusoidal
//! h = W x
//! h = h + W_b SiLU(W_a SiLU(h) + W_e e)          for each block
//! y = W_out SiLU(h)
//! ```
//!
//! `e` and `W_e e` are computed once for all samples with the same noise level and class: in one row, where a solver asks for all at one time
//! without classes, or in a row for each class.

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
    /// `rows` says which row of the embedding each sample has, if they do not have one for all or one each.
    fn forward(&self, x: &Tensor, embedding: &Tensor, rows: Option<&[usize]>) -> Tensor {
        let e = self.embed.forward(embedding);
        let e = rows.map_or(e.clone(), |rows| e.gather(rows));
        let h = self.first.forward_plus_silu(&x.silu(), &e);
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
        // At one noise level for all, samples of one class have the same embedding.
        let (classes, rows) = match classes {
            Some(classes) if noise.len() == 1 => {
                let (classes, rows) = distinct(classes);
                (Some(classes), rows)
            }
            _ => (classes.map(<[usize]>::to_vec), None),
        };
        let e = self.embed_in.forward_silu(&self.sinusoidal.forward(noise, x.dtype()));
        let e = match (&self.class, classes) {
            (Some(table), Some(classes)) => (&self.embed_out.forward(&e) + &table.forward(&classes)).silu(),
            _ => self.embed_out.forward_silu(&e),
        };
        let mut h = self.input.forward(x);
        for block in &self.blocks {
            let rows = rows.clone();
            h = match self.recompute {
                true => checkpoint(block, &[&h, &e], move |block, t| block.forward(&t[0], &t[1], rows.as_deref())),
                false => block.forward(&h, &e, rows.as_deref()),
            };
        }
        self.output.forward(&h.silu())
    }
}

/// The classes that there are, each once, and for each sample which of them is its own; nothing for the samples if all have one class, or
/// if there are so many classes that nothing is saved: then the classes are the samples' own.
fn distinct(classes: &[usize]) -> (Vec<usize>, Option<Vec<usize>>) {
    let mut found = classes.to_vec();
    found.sort_unstable();
    found.dedup();
    if found.len() > 1 && 2 * found.len() > classes.len() {
        return (classes.to_vec(), None);
    }
    let rows = (found.len() > 1).then(|| classes.iter().map(|c| found.binary_search(c).expect("is among them")).collect());
    (found, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;
    use crate::{DiffusionModel, ModelConfig, NetworkConfig};
    use fokker_nn::Module;
    use fokker_tensor::{Dtype, Noise};

    fn network(classes: Option<usize>, recompute: bool) -> Network {
        let network = NetworkConfig::Mlp(MlpConfig { hidden: 12, blocks: 2, embedding: 6, recompute });
        let config = ModelConfig {
            sample_shape: vec![2],
            classes,
            sde: Default::default(),
            preconditioning: Default::default(),
            learned_variance: false,
            network,
        };
        let mut model = DiffusionModel::new(config, 1, Dtype::F64).unwrap();
        // The last layers start at zero, which would hide everything before them.
        for (i, t) in model.tensors_mut().into_iter().enumerate() {
            *t = &*t + &(&Noise::new(9, i as u64).normal(&[1, t.len()], 0, 0, Dtype::F64).reshape(t.shape()) * 0.3);
        }
        model.network
    }

    #[test]
    fn at_one_noise_level_a_batch_of_any_classes_is_what_each_sample_is_alone_and_with_a_level_of_its_own() {
        // One class, few among many samples, as many as samples; the last class stands for none.
        for classes in [vec![2; 9], vec![0, 3, 3, 1, 0, 3, 1, 1, 3], vec![3, 1, 2], vec![1]] {
            let x = Noise::new(2, 0).normal(&[classes.len(), 2], 0, 0, Dtype::F64);
            for recompute in [false, true] {
                let network = network(Some(3), recompute);
                let y = network.forward(&x, &[0.3], Some(&classes));
                let each = network.forward(&x, &vec![0.3; classes.len()], Some(&classes));
                assert!((&y - &each).abs().max_all().item() < 1e-13, "{classes:?}");
                for (i, &class) in classes.iter().enumerate() {
                    let alone = network.forward(&x.slice(0, i..i + 1), &[0.3], Some(&[class]));
                    assert!((&y.slice(0, i..i + 1) - &alone).abs().max_all().item() < 1e-13, "{classes:?}: sample {i}");
                }
            }
        }
    }

    #[test]
    fn gradients_of_rows_that_samples_share_are_those_of_rows_of_their_own() {
        let classes = [0, 3, 3, 1, 0, 3, 1, 1, 3];
        let x = Noise::new(2, 0).normal(&[9, 2], 0, 0, Dtype::F64);
        for recompute in [false, true] {
            let network = network(Some(3), recompute);
            let gradients = |noise: &[f64]| {
                let loss = |m: &Network| m.forward(&x, noise, Some(&classes)).square().sum_all();
                fokker_nn::value_and_grad(&network, loss).1
            };
            let (shared, each) = (gradients(&[0.3]), gradients(&[0.3; 9]));
            for ((path, a), (_, b)) in shared.parameters().iter().zip(each.parameters()) {
                let scale = 1.0 + b.abs().max_all().item();
                assert!((*a - b).abs().max_all().item() < 1e-12 * scale, "{path}");
            }
        }
    }
}
