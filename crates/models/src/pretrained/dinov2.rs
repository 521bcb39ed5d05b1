//! DINOv2 (Oquab et al. 2023): a vision transformer (Dosovitskiy et al. 2021) whose class token is the feature.
//!
//! ```text
//! x   [B, 224, 224, 3], by cubic interpolation with smoothing, cut to [0, 1], less the mean and over the deviation of ImageNet's channels
//! h   = [c + e_0 ; P x + e]                      class token c and patches of 14 × 14 pixels through a linear map P, with positions e
//! h  ← h + λ₁ ∘ Attention(LN(h))                  every block: heads of 64 numbers,
//! h  ← h + λ₂ ∘ W₂ GELU(W₁ LN(h))                 λ is LayerScale (Touvron et al. 2021), folded into the layer before it
//! φ   = LN(h_0)                                   [B, D]:  D = 384, 768, 1024 of ViT-S, ViT-B, ViT-L
//! ```
//!
//! Norms have `ε = 10⁻⁶`. Positions are stored for a grid of `n × n` patches (37 × 37) and brought to that of the image, `m × m`, by cubic
//! interpolation without smoothing of ratio `n / (m + 0.1)`, as the released models do: the tenth is part of their definition, and other
//! programs that leave it out get features that differ by some 10⁻³.
//!
//! Depth and width are those of the file. Names may be those of the release or of Hugging Face's files of it.

use std::path::Path;

use fokker_nn::{Linear, module};
use fokker_tensor::Tensor;
use fokker_tensor::ops::conv2d::Conv2d as Geometry;
use fokker_tensor::ops::resize::Resize;

use super::coloured;
use super::weights::{ANY, Weights};
use crate::checkpoint::Checkpoint;
use crate::error::ModelError;

/// Height and width that images are brought to.
const SIDE: usize = 224;

/// Numbers of a head.
const HEAD: usize = 64;

const EPSILON: f64 = 1e-6;

/// Mean and standard deviation of the channels of ImageNet's images, in `[0, 1]`.
const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f64; 3] = [0.229, 0.224, 0.225];

/// What the tensors are called, `.weight` and `.bias` left out.
struct Names {
    class: &'static str,
    mask: &'static str,
    positions: &'static str,
    patches: &'static str,
    blocks: &'static str,
    /// One linear map for queries, keys and values, or three.
    qkv: &'static [&'static str],
    attended: &'static str,
    scale_1: &'static str,
    scale_2: &'static str,
    norm: &'static str,
}

const RELEASE: Names = Names {
    class: "cls_token",
    mask: "mask_token",
    positions: "pos_embed",
    patches: "patch_embed.proj",
    blocks: "blocks",
    qkv: &["attn.qkv"],
    attended: "attn.proj",
    scale_1: "ls1.gamma",
    scale_2: "ls2.gamma",
    norm: "norm",
};

const HUGGING_FACE: Names = Names {
    class: "embeddings.cls_token",
    mask: "embeddings.mask_token",
    positions: "embeddings.position_embeddings",
    patches: "embeddings.patch_embeddings.projection",
    blocks: "encoder.layer",
    qkv: &["attention.attention.query", "attention.attention.key", "attention.attention.value"],
    attended: "attention.output.dense",
    scale_1: "layer_scale1.lambda1",
    scale_2: "layer_scale2.lambda1",
    norm: "layernorm",
};

/// The fifth version of its library may write others.
const HUGGING_FACE_5: Names =
    Names { qkv: &["attention.q_proj", "attention.k_proj", "attention.v_proj"], attended: "attention.o_proj", ..HUGGING_FACE };

impl Names {
    /// Those of a file, if it is of this network.
    fn of(checkpoint: &Checkpoint) -> Option<&'static Names> {
        let has = |name: String| checkpoint.tensors.contains_key(&name);
        let fits = |names: &&Names| has(names.class.into()) && has(format!("{}.weight", names.patches));
        let exact = |names: &&Names| fits(names) && has(format!("{}.0.{}.weight", names.blocks, names.qkv[0]));
        const ALL: [&Names; 3] = [&RELEASE, &HUGGING_FACE, &HUGGING_FACE_5];
        ALL.into_iter().find(exact).or_else(|| ALL.into_iter().find(fits))
    }
}

#[derive(Clone, Debug)]
struct Norm {
    gamma: Tensor,
    beta: Tensor,
}
module!(Norm { gamma, beta });

impl Norm {
    fn load(weights: &mut Weights<'_>, name: &str, width: usize) -> Result<Norm, ModelError> {
        let gamma = weights.take(&format!("{name}.weight"), &[width])?.to(weights.dtype);
        let beta = weights.take(&format!("{name}.bias"), &[width])?.to(weights.dtype);
        Ok(Norm { gamma, beta })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(Some((&self.gamma, &self.beta)), EPSILON)
    }
}

/// A linear map of the file, and what each of its results is multiplied by.
fn linear(
    weights: &mut Weights<'_>,
    name: &str,
    [inputs, outputs]: [usize; 2],
    scale: Option<&Tensor>,
) -> Result<Linear, ModelError> {
    let weight = weights.take(&format!("{name}.weight"), &[outputs, inputs])?.permute(&[1, 0]);
    let bias = weights.take(&format!("{name}.bias"), &[weight.dim(1)])?;
    let scaled = |t: Tensor| scale.map_or(t.clone(), |scale| &t * scale).to(weights.dtype);
    Ok(Linear { weight: scaled(weight), bias: Some(scaled(bias)) })
}

#[derive(Clone, Debug)]
struct Block {
    norm_1: Norm,
    qkv: Linear,
    attended: Linear,
    norm_2: Norm,
    hidden: Linear,
    output: Linear,
}
module!(Block { norm_1, qkv, attended, norm_2, hidden, output });

impl Block {
    fn load(weights: &mut Weights<'_>, names: &Names, i: usize, width: usize) -> Result<Block, ModelError> {
        let at = |part: &str| format!("{}.{i}.{part}", names.blocks);
        let outputs = 3 * width / names.qkv.len();
        let mut parts = Vec::new();
        for part in names.qkv {
            parts.push(linear(weights, &at(part), [width, outputs], None)?);
        }
        let joined = |tensors: Vec<&Tensor>, axis| Tensor::concat(&tensors, axis);
        let qkv = Linear {
            weight: joined(parts.iter().map(|p| &p.weight).collect(), 1),
            bias: Some(joined(parts.iter().filter_map(|p| p.bias.as_ref()).collect(), 0)),
        };
        let scale_1 = weights.take(&at(names.scale_1), &[width])?;
        let scale_2 = weights.take(&at(names.scale_2), &[width])?;
        let hidden = linear(weights, &at("mlp.fc1"), [width, ANY], None)?;
        let inner = hidden.weight.dim(1);
        Ok(Block {
            norm_1: Norm::load(weights, &at("norm1"), width)?,
            qkv,
            attended: linear(weights, &at(names.attended), [width, width], Some(&scale_1))?,
            norm_2: Norm::load(weights, &at("norm2"), width)?,
            hidden,
            output: linear(weights, &at("mlp.fc2"), [inner, width], Some(&scale_2))?,
        })
    }

    /// `[B, N, D]`, the same shape out.
    fn forward(&self, h: &Tensor) -> Tensor {
        let &[b, n, d] = h.shape() else { unreachable!("tokens are [B, N, D]") };
        let qkv = self.qkv.forward(&self.norm_1.forward(h));
        let part = |i: usize| qkv.slice(2, i * d..(i + 1) * d).reshape(&[b, n, d / HEAD, HEAD]);
        let attended = Tensor::attention(&part(0), &part(1), &part(2), None).reshape(&[b, n, d]);
        let h = self.attended.forward_plus(&attended, h);
        self.output.forward_plus(&self.hidden.forward(&self.norm_2.forward(&h)).gelu(), &h)
    }
}

/// The network; see the module's equations.
#[derive(Clone, Debug)]
pub struct Dinov2 {
    /// `[1, 1, D]`, with its position.
    class: Tensor,
    /// `[1, m², D]`.
    positions: Tensor,
    /// `[14, 14, 3, D]`.
    patches: Tensor,
    /// `[D]`.
    patches_bias: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
}
module!(Dinov2 { class, positions, patches, patches_bias, blocks, norm });

impl Dinov2 {
    /// Whether a file has this network's names.
    pub(super) fn is_in(checkpoint: &Checkpoint) -> bool {
        Names::of(checkpoint).is_some()
    }

    pub(super) fn from_checkpoint(checkpoint: &Checkpoint, file: &Path) -> Result<Dinov2, ModelError> {
        let mut weights = Weights::new(checkpoint, file, "DINOv2");
        let Some(names) = Names::of(checkpoint) else {
            return Err(weights.problem("expected the weights of DINOv2".into()));
        };
        let class = weights.take(names.class, &[1, 1, ANY])?;
        let width = class.dim(2);
        if width % HEAD != 0 {
            let problem =
                format!("tensor `{}` is {:?}, expected [1, 1, a multiple of {HEAD}] for DINOv2", names.class, class.shape());
            return Err(weights.problem(problem));
        }
        let patch = 14;
        let patches = weights.take(&format!("{}.weight", names.patches), &[width, 3, patch, patch])?.permute(&[2, 3, 1, 0]);
        let patches_bias = weights.take(&format!("{}.bias", names.patches), &[width])?;
        let all = weights.take(names.positions, &[1, ANY, width])?;
        let Some(positions) = positions_for(&all, SIDE / patch) else {
            let expected = format!("expected [1, 1 + n², {width}] for DINOv2");
            return Err(weights.problem(format!("tensor `{}` is {:?}, {expected}", names.positions, all.shape())));
        };
        let mut blocks = Vec::new();
        // Each block has this one.
        while blocks.is_empty() || weights.has(&format!("{}.{}.norm1.weight", names.blocks, blocks.len())) {
            blocks.push(Block::load(&mut weights, names, blocks.len(), width)?);
        }
        let norm = Norm::load(&mut weights, names.norm, width)?;
        // What stands for patches that are hidden in training.
        weights.skip(names.mask);
        let dtype = weights.dtype;
        weights.finish()?;
        let [class, positions, patches, patches_bias] =
            [&class + &all.slice(1, 0..1), positions, patches, patches_bias].map(|t| t.to(dtype));
        Ok(Dinov2 { class, positions, patches, patches_bias, blocks, norm })
    }

    /// See [`ImageNetwork::name`](super::ImageNetwork::name).
    pub(super) fn name(&self) -> String {
        let size = match (self.width(), self.blocks.len()) {
            (384, 12) => "s".to_owned(),
            (768, 12) => "b".to_owned(),
            (1024, 24) => "l".to_owned(),
            (width, depth) => format!("{width}x{depth}"),
        };
        format!("dinov2-vit-{size}-14")
    }

    /// See [`ImageNetwork::about`](super::ImageNetwork::about).
    pub(super) fn about(&self) -> String {
        let (width, depth) = (self.width(), self.blocks.len());
        let images = "images to 224 × 224 (cubic, smoothed), features are the class token's";
        format!("DINOv2 of {depth} blocks, {} heads ({}): {images}", width / HEAD, self.name())
    }

    /// The number of features.
    pub fn width(&self) -> usize {
        self.class.dim(2)
    }

    /// See [`ImageNetwork::features`](super::ImageNetwork::features).
    #[track_caller]
    pub(super) fn features(&self, x: &Tensor) -> Tensor {
        // Cubic interpolation overshoots.
        let x = coloured(x).resize2d((SIDE, SIDE), Resize::SMOOTH_BICUBIC).clamp(-1.0, 1.0);
        // ((x + 1)/2 − mean) / deviation
        let scale = DEVIATION.map(|s| 0.5 / s);
        let shift: Vec<f64> = MEAN.iter().zip(DEVIATION).map(|(m, s)| (0.5 - m) / s).collect();
        let x = &(&x * &Tensor::from_f64(&[3], &scale, x.dtype())) + &Tensor::from_f64(&[3], &shift, x.dtype());
        let patch = self.patches.dim(0);
        let how = Geometry { stride: (patch, patch), padding: (0, 0) };
        let (b, d) = (x.dim(0), self.width());
        let patches = x.conv2d(&self.patches, Some(&self.patches_bias), how).reshape(&[b, self.positions.dim(1), d]);
        let tokens = Tensor::concat(&[&self.class.broadcast_to(&[b, 1, d]), &(&patches + &self.positions)], 1);
        let tokens = self.blocks.iter().fold(tokens, |h, block| block.forward(&h));
        self.norm.forward(&tokens.slice(1, 0..1)).reshape(&[b, d])
    }
}

/// The positions `[1, 1 + n², D]` without that of the class token, brought to a grid of `m × m`; none if `n` is no number.
fn positions_for(all: &Tensor, m: usize) -> Option<Tensor> {
    let (count, width) = (all.dim(1) - 1, all.dim(2));
    let n = count.isqrt();
    if n == 0 || n * n != count {
        return None;
    }
    let stored = all.slice(1, 1..count + 1);
    if n == m {
        return Some(stored);
    }
    let ratio = n as f64 / (m as f64 + 0.1);
    let how = Resize { ratio: Some((ratio, ratio)), ..Resize::BICUBIC };
    Some(stored.reshape(&[1, n, n, width]).resize2d((m, m), how).reshape(&[1, m * m, width]))
}

#[cfg(test)]
mod tests {
    use super::super::ImageNetwork;
    use super::*;
    use fokker_tensor::{Dtype, Noise};

    /// A network of two blocks with one head under these names.
    fn checkpoint(names: &Names, positions: usize) -> Checkpoint {
        let mut checkpoint = Checkpoint::default();
        let mut put = |name: String, shape: &[usize], scale: f64| {
            // The same numbers under every name.
            let count: usize = shape.iter().product();
            let values = Noise::new(3, count as u64).normal(&[1, count], 0, 0, Dtype::F64).reshape(shape);
            checkpoint.tensors.insert(name, &values * scale);
        };
        put(names.class.into(), &[1, 1, HEAD], 1.0);
        put(names.positions.into(), &[1, 1 + positions, HEAD], 0.5);
        put(names.mask.into(), &[1, HEAD], 1.0);
        put(format!("{}.weight", names.patches), &[HEAD, 3, 14, 14], 0.04);
        put(format!("{}.bias", names.patches), &[HEAD], 0.1);
        for i in 0..2 {
            let at = |part: &str| format!("{}.{i}.{part}", names.blocks);
            for part in names.qkv {
                put(at(part) + ".weight", &[3 * HEAD / names.qkv.len(), HEAD], 0.1);
                put(at(part) + ".bias", &[3 * HEAD / names.qkv.len()], 0.1);
            }
            for (part, outputs, inputs) in [(names.attended, HEAD, HEAD), ("mlp.fc1", 96, HEAD), ("mlp.fc2", HEAD, 96)] {
                put(at(part) + ".weight", &[outputs, inputs], 0.1);
                put(at(part) + ".bias", &[outputs], 0.1);
            }
            for part in ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", names.scale_1, names.scale_2] {
                put(at(part), &[HEAD], 1.0);
            }
        }
        put(format!("{}.weight", names.norm), &[HEAD], 1.0);
        put(format!("{}.bias", names.norm), &[HEAD], 1.0);
        checkpoint
    }

    fn read(checkpoint: &Checkpoint) -> Result<Dinov2, String> {
        Dinov2::from_checkpoint(checkpoint, "some/file".as_ref()).map_err(|e| e.to_string())
    }

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max_all().item() / b.abs().max_all().item()
    }

    #[test]
    fn features_are_an_images_own_and_grey_is_colour() {
        let network = read(&checkpoint(&RELEASE, 37 * 37)).unwrap();
        let x = Noise::new(1, 0).uniform(&[3, 9, 12, 1], 0, 0, Dtype::F64);
        let features = network.features(&x);
        assert_eq!((features.shape(), network.width()), (&[3, HEAD][..], HEAD));
        assert!(features.all_finite());
        let alone = network.features(&x.slice(0, 1..2));
        assert!(distance(&alone, &features.slice(0, 1..2)) < 1e-12 && distance(&alone, &features.slice(0, 2..3)) > 1e-3);
        assert!(distance(&network.features(&Tensor::concat(&[&x, &x, &x], 3)), &features) < 1e-12);
        let network = ImageNetwork::Dinov2(network);
        assert_eq!(network.name(), "dinov2-vit-64x2-14");
        assert!(distance(&network.to(Dtype::F32).features(&x.to(Dtype::F32)).to(Dtype::F64), &features) < 1e-4);
    }

    #[test]
    fn the_same_weights_are_the_same_network_under_all_names() {
        let x = Noise::new(1, 0).uniform(&[1, 8, 8, 3], 0, 0, Dtype::F64);
        // Three equal parts of queries, keys and values.
        let mut release = checkpoint(&RELEASE, 256);
        let parts = checkpoint(&HUGGING_FACE, 256);
        for i in 0..2 {
            for end in ["weight", "bias"] {
                let part = &parts.tensors[&format!("encoder.layer.{i}.attention.attention.query.{end}")];
                release.tensors.insert(format!("blocks.{i}.attn.qkv.{end}"), Tensor::concat(&[part, part, part], 0));
            }
        }
        let features = read(&release).unwrap().features(&x);
        for names in [&HUGGING_FACE, &HUGGING_FACE_5] {
            assert!(distance(&read(&checkpoint(names, 256)).unwrap().features(&x), &features) < 1e-13);
        }
    }

    #[test]
    fn positions_are_brought_to_the_images_grid_unless_they_have_it() {
        let all = Noise::new(1, 0).normal(&[1, 257, 4], 0, 0, Dtype::F64);
        assert_eq!(positions_for(&all, 16).unwrap().to_vec::<f64>(), all.slice(1, 1..257).to_vec::<f64>());
        assert_eq!(positions_for(&all, 5).unwrap().shape(), [1, 25, 4]);
        assert!(positions_for(&all.slice(1, 0..256), 16).is_none() && positions_for(&all.slice(1, 0..1), 16).is_none());
    }

    #[test]
    fn a_file_that_does_not_fit_is_named_with_the_tensor_and_what_was_expected() {
        let error = |name: &str, shape: Option<&[usize]>| {
            let mut checkpoint = checkpoint(&RELEASE, 37 * 37);
            match shape {
                Some(shape) => checkpoint.tensors.insert(name.into(), Tensor::zeros(shape, Dtype::F64)),
                None => checkpoint.tensors.remove(name),
            };
            read(&checkpoint).unwrap_err()
        };
        let told = |name: &str, shape: Option<&[usize]>, expected: &str| {
            let found = shape.map_or("missing".into(), |shape| format!("{shape:?}"));
            assert_eq!(error(name, shape), format!("some/file: tensor `{name}` is {found}, expected {expected} for DINOv2"));
        };
        told("blocks.1.mlp.fc1.weight", None, "[any, 64]");
        told("blocks.1.mlp.fc2.weight", Some(&[64, 95]), "[64, 96]");
        told("blocks.0.attn.qkv.weight", Some(&[64, 64]), "[192, 64]");
        told("patch_embed.proj.weight", Some(&[64, 3, 16, 16]), "[64, 3, 14, 14]");
        told("pos_embed", Some(&[1, 1369, 64]), "[1, 1 + n², 64]");
        told("cls_token", Some(&[1, 1, 80]), "[1, 1, a multiple of 64]");
        // Of a network with more tokens, and of a third block that has lost its norm.
        let more = error("register_tokens", Some(&[1, 4, 64]));
        assert_eq!(more, "some/file: tensor `register_tokens`: not expected for DINOv2");
        assert!(error("blocks.2.ls1.gamma", Some(&[64])).contains("`blocks.2.ls1.gamma`: not expected"));
    }
}
