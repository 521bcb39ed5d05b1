//! A U-Net for images, in the form of DDPM (Ho et al. 2020, appendix B).
//!
//! Every level has residual blocks of two 3×3 convolutions with group norm and SiLU; between levels the image is halved by a
//! convolution of stride 2, and doubled by nearest-neighbour up-sampling and a convolution. What a level puts out on the way
//! down is concatenated on the way up. The noise level, as a sinusoidal embedding through two layers, is added between a block's
//! convolutions; so is the class, if there is one. Chosen levels and the middle have self-attention.
//!
//! With `patch` above 1 the network works on patches: `patch × patch` pixels become the channels of one position on the way in
//! and pixels again on the way out (Hoogeboom et al. 2023, arXiv:2301.11093, section 2.3). Full resolution is where most of the time
//! goes and where smooth images need it least.
//!
//! Images of any height and width are padded with zeros to what the levels need, and the output is cropped.

use fokker_nn::{Conv2d, Embedding, Gain, GroupNorm, Init, Linear, Sinusoidal, checkpoint, module};
use fokker_tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::network::{MOST_BLOCKS, MOST_WIDE, Purpose, within};

/// Size of a [`UNet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UNetConfig {
    /// Side of the square of pixels that is one position of the first level, default 1.
    pub patch: usize,
    /// Channels of each level, from full resolution down; each further level halves height and width.
    pub channels: Vec<usize>,
    /// Residual blocks per level on the way down; one more on the way up.
    pub blocks: usize,
    /// Levels with self-attention after each block (0 is full resolution).
    pub attention_levels: Vec<usize>,
    /// Self-attention between the two blocks of the middle.
    pub middle_attention: bool,
    /// Channels per attention head.
    pub head_channels: usize,
    /// Groups of group norm, or the largest smaller number that divides a layer's channels.
    pub groups: usize,
    /// Length of the embedding as a multiple of the first level's channels.
    pub embedding_factor: usize,
    /// Whether training keeps only what goes into each block and each attention and computes the rest once more in the backward pass: less
    /// memory for about a third more time. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
}

impl Default for UNetConfig {
    fn default() -> Self {
        UNetConfig {
            patch: 1,
            channels: vec![32, 64, 128],
            blocks: 2,
            attention_levels: Vec::new(),
            middle_attention: true,
            head_channels: 32,
            groups: 8,
            embedding_factor: 4,
            recompute: false,
        }
    }
}

/// The network; see the module's description.
#[derive(Clone, Debug)]
pub struct UNet {
    patch: usize,
    sinusoidal: Sinusoidal,
    embed_in: Linear,
    embed_out: Linear,
    class: Option<Embedding>,
    input: Conv2d,
    down: Vec<Down>,
    middle: Middle,
    up: Vec<Up>,
    norm: GroupNorm,
    output: Conv2d,
    recompute: bool,
}
module!(UNet { embed_in, embed_out, class, input, down, middle, up, norm, output });

/// A level on the way down: blocks, each perhaps followed by attention, then a convolution of stride 2 unless it is the last.
#[derive(Clone, Debug)]
struct Down {
    blocks: Vec<Block>,
    attention: Vec<Attention>,
    halve: Option<Conv2d>,
}
module!(Down { blocks, attention, halve });

#[derive(Clone, Debug)]
struct Middle {
    first: Block,
    attention: Option<Attention>,
    second: Block,
}
module!(Middle { first, attention, second });

/// A level on the way up: blocks, each perhaps followed by attention, then a convolution after doubling unless it is the last.
#[derive(Clone, Debug)]
struct Up {
    blocks: Vec<Block>,
    attention: Vec<Attention>,
    double: Option<Conv2d>,
}
module!(Up { blocks, attention, double });

#[derive(Clone, Debug)]
struct Block {
    norm1: GroupNorm,
    conv1: Conv2d,
    embed: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    skip: Option<Linear>,
}
module!(Block { norm1, conv1, embed, norm2, conv2, skip });

impl Block {
    fn new(inputs: usize, outputs: usize, embedding: usize, groups: usize, init: &mut Init) -> Block {
        Block {
            norm1: GroupNorm::new(groups, inputs, init),
            conv1: Conv2d::new(inputs, outputs, 3, init),
            embed: Linear::new(embedding, outputs, init),
            norm2: GroupNorm::new(groups, outputs, init),
            conv2: Conv2d::with_gain(outputs, outputs, 3, 1, Gain::Zero, init),
            skip: (inputs != outputs).then(|| Linear::new(inputs, outputs, init)),
        }
    }

    fn forward(&self, x: &Tensor, embedding: &Tensor) -> Tensor {
        let e = self.embed.forward(embedding);
        let mut h = self.conv1.forward_plus(&self.norm1.forward_silu(x), &e.reshape(&[e.dim(0), 1, 1, e.dim(1)]));
        h = self.norm2.forward_silu(&h);
        match &self.skip {
            Some(skip) => skip.forward_plus(x, &self.conv2.forward(&h)),
            None => self.conv2.forward_plus(&h, x),
        }
    }
}

#[derive(Clone, Debug)]
struct Attention {
    norm: GroupNorm,
    qkv: Linear,
    output: Linear,
    heads: usize,
}
module!(Attention { norm, qkv, output });

impl Attention {
    fn new(channels: usize, head_channels: usize, groups: usize, init: &mut Init) -> Attention {
        // The number of heads nearest to the asked-for size that divides the channels.
        let wanted = (channels / head_channels).max(1);
        let heads = (1..=wanted).rev().find(|h| channels.is_multiple_of(*h)).unwrap_or(1);
        Attention {
            norm: GroupNorm::new(groups, channels, init),
            qkv: Linear::new(channels, 3 * channels, init),
            output: Linear::with_gain(channels, channels, Gain::Zero, init),
            heads,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let &[b, h, w, c] = x.shape() else { panic!("attention: expected [B, H, W, C], found {:?}", x.shape()) };
        let qkv = self.qkv.forward(&self.norm.forward(x)).reshape(&[b, h * w, 3 * c]);
        let part = |i: usize| qkv.slice(2, i * c..(i + 1) * c).reshape(&[b, h * w, self.heads, c / self.heads]);
        let y = Tensor::attention(&part(0), &part(1), &part(2), None).reshape(&[b, h, w, c]);
        self.output.forward_plus(&y, x)
    }
}

impl UNetConfig {
    fn check(&self, purpose: Purpose<'_>) -> Result<(), ModelError> {
        if purpose.sample_shape.len() != 3 {
            let found = format!("samples of shape [H, W, C], found {:?}; use `kind = \"mlp\"` for vectors", purpose.sample_shape);
            return Err(ModelError::config("network.kind", found));
        }
        within("network.patch", self.patch, 64)?;
        // More levels than that halve any image to nothing.
        within("network.channels: the number of levels", self.channels.len(), 16)?;
        for &channels in &self.channels {
            within("network.channels", channels, MOST_WIDE)?;
        }
        within("network.blocks", self.blocks, MOST_BLOCKS)?;
        within("network.head_channels", self.head_channels, MOST_WIDE)?;
        within("network.groups", self.groups, MOST_WIDE)?;
        within("network.embedding_factor", self.embedding_factor, 64)?;
        let levels = self.channels.len();
        if let Some(level) = self.attention_levels.iter().find(|&&l| l >= levels) {
            let expected = format!("levels below {levels}, the number of `channels`, found {level}");
            return Err(ModelError::config("network.attention_levels", expected));
        }
        if !self.channels[0].is_multiple_of(2) {
            let expected = format!("an even number of channels at full resolution, found {}", self.channels[0]);
            return Err(ModelError::config("network.channels", expected));
        }
        Ok(())
    }

    /// Draws the network.
    ///
    /// # Errors
    /// If a size is out of range or samples are not images.
    pub fn build(&self, purpose: Purpose<'_>, init: &mut Init) -> Result<UNet, ModelError> {
        self.check(purpose)?;
        let patch_channels = self.patch * self.patch * purpose.sample_shape[2];
        let (groups, levels) = (self.groups, self.channels.len());
        let embedding = self.channels[0] * self.embedding_factor;
        let block = |inputs, outputs, init: &mut Init| Block::new(inputs, outputs, embedding, groups, init);
        let attention = |channels, init: &mut Init| Attention::new(channels, self.head_channels, groups, init);

        let sinusoidal = Sinusoidal { channels: self.channels[0], max_period: 10_000.0, scale: 100.0 };
        let embed_in = Linear::new(self.channels[0], embedding, init);
        let embed_out = Linear::new(embedding, embedding, init);
        let class = purpose.classes.map(|n| Embedding::new(n + 1, embedding, init));
        let input = Conv2d::new(patch_channels, self.channels[0], 3, init);

        // The channels of everything that is kept for the way up, in order.
        let mut kept = vec![self.channels[0]];
        let mut width = self.channels[0];
        let mut down = Vec::new();
        for (level, &channels) in self.channels.iter().enumerate() {
            let attends = self.attention_levels.contains(&level);
            let mut stage = Down { blocks: Vec::new(), attention: Vec::new(), halve: None };
            for _ in 0..self.blocks {
                stage.blocks.push(block(width, channels, init));
                if attends {
                    stage.attention.push(attention(channels, init));
                }
                width = channels;
                kept.push(width);
            }
            if level + 1 < levels {
                stage.halve = Some(Conv2d::with_gain(width, width, 3, 2, Gain::Default, init));
                kept.push(width);
            }
            down.push(stage);
        }
        let middle = Middle {
            first: block(width, width, init),
            attention: self.middle_attention.then(|| attention(width, init)),
            second: block(width, width, init),
        };
        let mut up = Vec::new();
        for (level, &channels) in self.channels.iter().enumerate().rev() {
            let attends = self.attention_levels.contains(&level);
            let mut stage = Up { blocks: Vec::new(), attention: Vec::new(), double: None };
            for _ in 0..self.blocks + 1 {
                let skip = kept.pop().expect("one kept tensor per block on the way up");
                stage.blocks.push(block(width + skip, channels, init));
                if attends {
                    stage.attention.push(attention(channels, init));
                }
                width = channels;
            }
            if level > 0 {
                stage.double = Some(Conv2d::new(width, width, 3, init));
            }
            up.push(stage);
        }
        let norm = GroupNorm::new(groups, width, init);
        let output = Conv2d::with_gain(width, purpose.outputs * patch_channels, 3, 1, Gain::Zero, init);
        Ok(UNet {
            patch: self.patch,
            recompute: self.recompute,
            sinusoidal,
            embed_in,
            embed_out,
            class,
            input,
            down,
            middle,
            up,
            norm,
            output,
        })
    }
}

/// Zeros around an axis so that its extent becomes a multiple of `multiple`.
fn pad_axis(x: &Tensor, axis: usize, multiple: usize) -> Tensor {
    let missing = x.dim(axis).next_multiple_of(multiple) - x.dim(axis);
    x.pad(axis, missing / 2, missing - missing / 2)
}

fn crop_axis(x: &Tensor, axis: usize, extent: usize) -> Tensor {
    let before = (x.dim(axis) - extent) / 2;
    x.slice(axis, before..before + extent)
}

/// `[B, H, W, C] -> [B, H/p, W/p, p² C]`: the pixels of a patch, row by row, as channels.
fn into_patches(x: &Tensor, p: usize) -> Tensor {
    let &[b, h, w, c] = x.shape() else { unreachable!("an image has four axes") };
    if p == 1 {
        return x.clone();
    }
    x.reshape(&[b, h / p, p, w / p, p, c]).permute(&[0, 1, 3, 2, 4, 5]).reshape(&[b, h / p, w / p, p * p * c])
}

/// The inverse of [`into_patches`].
fn out_of_patches(x: &Tensor, p: usize) -> Tensor {
    let &[b, h, w, c] = x.shape() else { unreachable!("an image has four axes") };
    if p == 1 {
        return x.clone();
    }
    x.reshape(&[b, h, w, p, p, c / (p * p)]).permute(&[0, 1, 3, 2, 4, 5]).reshape(&[b, h * p, w * p, c / (p * p)])
}

impl UNet {
    /// See [`Network::forward`](crate::Network::forward): `[B, H, W, C] -> [B, H, W, C]`, or `[B, H, W, 2 C]` with variances.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, noise: &[f64], classes: Option<&[usize]>) -> Tensor {
        let &[_, height, width, _] = x.shape() else { panic!("U-Net: expected [B, H, W, C], found {:?}", x.shape()) };
        let multiple = self.patch << (self.down.len() - 1);
        let mut e = self.embed_out.forward(&self.embed_in.forward_silu(&self.sinusoidal.forward(noise, x.dtype())));
        if let (Some(table), Some(classes)) = (&self.class, classes) {
            e = &e + &table.forward(classes);
        }
        let e = e.silu();

        let padded = pad_axis(&pad_axis(x, 1, multiple), 2, multiple);
        let mut h = self.input.forward(&into_patches(&padded, self.patch));
        let mut kept = vec![h.clone()];
        for stage in &self.down {
            for (i, block) in stage.blocks.iter().enumerate() {
                h = self.block(block, &[&h], &e);
                if let Some(attention) = stage.attention.get(i) {
                    h = self.attention(attention, &h);
                }
                kept.push(h.clone());
            }
            if let Some(halve) = &stage.halve {
                h = halve.forward(&h);
                kept.push(h.clone());
            }
        }
        h = self.block(&self.middle.first, &[&h], &e);
        if let Some(attention) = &self.middle.attention {
            h = self.attention(attention, &h);
        }
        h = self.block(&self.middle.second, &[&h], &e);
        for stage in &self.up {
            for (i, block) in stage.blocks.iter().enumerate() {
                let skip = kept.pop().expect("one kept tensor per block on the way up");
                h = self.block(block, &[&h, &skip], &e);
                if let Some(attention) = stage.attention.get(i) {
                    h = self.attention(attention, &h);
                }
            }
            if let Some(double) = &stage.double {
                h = double.forward(&h.upsample_nearest(2, 2));
            }
        }
        let y = out_of_patches(&self.output.forward(&self.norm.forward_silu(&h)), self.patch);
        crop_axis(&crop_axis(&y, 1, height), 2, width)
    }
    /// A block on the channels of all `parts`.
    fn block(&self, block: &Block, parts: &[&Tensor], embedding: &Tensor) -> Tensor {
        let forward = |block: &Block, parts: &[&Tensor], embedding: &Tensor| match parts {
            [x] => block.forward(x, embedding),
            parts => block.forward(&Tensor::concat(parts, 3), embedding),
        };
        if !self.recompute {
            return forward(block, parts, embedding);
        }
        checkpoint(block, &[parts, &[embedding]].concat(), move |block, t| {
            let (embedding, parts) = t.split_last().expect("an embedding");
            forward(block, &parts.iter().collect::<Vec<_>>(), embedding)
        })
    }

    fn attention(&self, attention: &Attention, x: &Tensor) -> Tensor {
        match self.recompute {
            true => checkpoint(attention, &[x], |attention, t| attention.forward(&t[0])),
            false => attention.forward(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;
    use crate::{DiffusionModel, ModelConfig, NetworkConfig};
    use fokker_nn::Module;
    use fokker_tensor::{Dtype, Noise};

    fn network(sample_shape: [usize; 3], classes: Option<usize>, patch: usize) -> Network {
        let unet = UNetConfig {
            patch,
            channels: vec![4, 6, 6],
            blocks: 1,
            attention_levels: vec![2],
            head_channels: 2,
            groups: 2,
            ..Default::default()
        };
        let config = ModelConfig {
            sample_shape: sample_shape.to_vec(),
            classes,
            sde: Default::default(),
            preconditioning: Default::default(),
            learned_variance: false,
            network: NetworkConfig::UNet(unet),
        };
        let mut model = DiffusionModel::new(config, 1, Dtype::F64).unwrap();
        // Output layers start at zero, which would hide everything before them.
        for (i, t) in model.tensors_mut().into_iter().enumerate() {
            *t = &*t + &(&Noise::new(9, i as u64).normal(&[1, t.len()], 0, 0, Dtype::F64).reshape(t.shape()) * 0.1);
        }
        model.network
    }

    fn forward(network: &Network, x: &Tensor, classes: Option<&[usize]>) -> Vec<f64> {
        let y = network.forward(x, &[0.3], classes);
        assert_eq!(y.shape(), x.shape());
        y.to_vec::<f64>()
    }

    #[test]
    fn at_one_noise_level_a_batch_is_what_each_sample_is_alone_and_with_a_level_of_its_own() {
        for (classes, labels) in [(None, None), (Some(3), Some(vec![0, 2, 3]))] {
            let network = network([8, 8, 2], classes, 1);
            let x = Noise::new(2, 0).normal(&[3, 8, 8, 2], 0, 0, Dtype::F64);
            let y = network.forward(&x, &[0.3], labels.as_deref());
            let each = network.forward(&x, &[0.3; 3], labels.as_deref());
            assert!((&y - &each).abs().max_all().item() < 1e-12, "{classes:?}");
            for i in 0..3 {
                let alone = network.forward(&x.slice(0, i..i + 1), &[0.3], labels.as_ref().map(|labels| &labels[i..i + 1]));
                assert!((&y.slice(0, i..i + 1) - &alone).abs().max_all().item() < 1e-12, "{classes:?}, sample {i}");
            }
            // Gradients too: all samples share what the embedding adds.
            let gradients = |noise: &[f64]| {
                fokker_nn::value_and_grad(&network, |m: &Network| m.forward(&x, noise, labels.as_deref()).square().sum_all()).1
            };
            let (shared, own) = (gradients(&[0.3]), gradients(&[0.3; 3]));
            for ((path, a), (_, b)) in shared.parameters().iter().zip(own.parameters()) {
                let scale = 1.0 + b.abs().max_all().item();
                assert!((*a - b).abs().max_all().item() < 1e-11 * scale, "{path}");
            }
        }
    }

    #[test]
    fn images_of_any_size_keep_their_shape_and_their_last_pixel_counts() {
        for (shape, patch) in [([8, 8, 1], 1), ([7, 10, 3], 1), ([1, 5, 2], 1), ([8, 8, 1], 2), ([7, 11, 2], 3)] {
            let network = network(shape, None, patch);
            let x = Noise::new(2, 0).normal(&[&[1], &shape[..]].concat(), 0, 0, Dtype::F64);
            let y = forward(&network, &x, None);
            for at in [0, x.len() - 1] {
                let mut values = x.to_vec::<f64>();
                values[at] += 1.0;
                let moved = forward(&network, &Tensor::from_vec(x.shape(), values), None);
                assert!((moved[at] - y[at]).abs() > 1e-6, "{shape:?} in patches of {patch}: pixel {at}");
            }
        }
    }

    #[test]
    fn a_patch_holds_its_pixels_row_by_row_and_gives_them_back() {
        let pixels: Vec<f64> = (0..24).map(f64::from).collect();
        let x = Tensor::from_vec(&[1, 2, 6, 2], pixels);
        let patches = into_patches(&x, 2);
        assert_eq!(patches.shape(), [1, 1, 3, 8]);
        assert_eq!(patches.slice(2, 1..2).to_vec::<f64>(), [4.0, 5.0, 6.0, 7.0, 16.0, 17.0, 18.0, 19.0]);
        assert_eq!(out_of_patches(&patches, 2).to_vec::<f64>(), x.to_vec::<f64>());
    }

    #[test]
    fn samples_of_a_batch_do_not_see_each_other_and_classes_matter() {
        let network = network([6, 6, 1], Some(3), 1);
        let x = Noise::new(2, 0).normal(&[2, 6, 6, 1], 0, 0, Dtype::F64);
        let both = forward(&network, &x, Some(&[1, 3]));
        let second = forward(&network, &x.slice(0, 1..2), Some(&[3]));
        assert!(both[36..].iter().zip(&second).all(|(a, b)| (a - b).abs() < 1e-12));
        let other = forward(&network, &x.slice(0, 1..2), Some(&[2]));
        assert!(other.iter().zip(&second).any(|(a, b)| (a - b).abs() > 1e-6));
    }

    #[test]
    fn in_bf16_the_output_is_that_of_f64_to_a_few_of_its_roundings() {
        for (shape, patch) in [([8, 8, 1], 1), ([7, 11, 2], 3)] {
            let network = network(shape, Some(2), patch).map(|t| t.to(Dtype::Bf16));
            let x = Noise::new(2, 0).normal(&[&[2], &shape[..]].concat(), 0, 0, Dtype::F64).to(Dtype::Bf16);
            let y = network.forward(&x, &[0.3], Some(&[1, 2]));
            assert_eq!((y.dtype(), y.shape()), (Dtype::Bf16, x.shape()));
            let exact = network.to(Dtype::F64).forward(&x.to(Dtype::F64), &[0.3], Some(&[1, 2]));
            let size = |t: &Tensor| t.square().mean_all().item().sqrt();
            let error = size(&(&y.to(Dtype::F64) - &exact)) / size(&exact);
            assert!(error < 0.02, "{shape:?} in patches of {patch}: {error}");
        }
    }

    #[test]
    fn sizes_out_of_range_name_the_field() {
        let purpose = Purpose { sample_shape: &[8, 8, 1], classes: None, outputs: 1 };
        let build = |config: UNetConfig, purpose| config.build(purpose, &mut Init::new(0, Dtype::F32)).unwrap_err().to_string();
        for (config, field) in [
            (UNetConfig { channels: vec![], ..Default::default() }, "network.channels"),
            (UNetConfig { channels: vec![8, 0], ..Default::default() }, "network.channels"),
            (UNetConfig { channels: vec![7], ..Default::default() }, "network.channels"),
            (UNetConfig { channels: vec![8; 17], ..Default::default() }, "network.channels"),
            (UNetConfig { blocks: usize::MAX, ..Default::default() }, "network.blocks"),
            (UNetConfig { patch: 0, ..Default::default() }, "network.patch"),
            (UNetConfig { groups: 0, ..Default::default() }, "network.groups"),
            (UNetConfig { attention_levels: vec![3], ..Default::default() }, "network.attention_levels"),
        ] {
            let message = build(config, purpose);
            assert!(message.contains(field), "{message}");
        }
        let message = build(UNetConfig::default(), Purpose { sample_shape: &[8], classes: None, outputs: 1 });
        assert!(message.contains("mlp"), "{message}");
    }
}
