//! Inception-v3 as the FID has it: the network of Szegedy et al. 2016 (section 6, table 1) in the release of December 2015.
//!
//! ```text
//! x    [B, 299, 299, 3] in [−1, 1], by linear interpolation without smoothing
//! conv(h) = max(W' * h + b', 0),    W' = W γ/√(v + 10⁻³),    b' = β − m γ/√(v + 10⁻³)       the batch norm (γ, β, m, v), folded in
//! stem: five convolutions and two max poolings; then blocks, each the concatenation of branches of its input:
//!   A × 3  35 × 35       1×1 | 1×1 5×5 | 1×1 3×3 3×3 | mean 1×1
//!   B      to 17 × 17    3×3/2 | 1×1 3×3 3×3/2 | max/2
//!   C × 4  17 × 17       1×1 | 1×1 1×7 7×1 | 1×1 7×1 1×7 7×1 1×7 | mean 1×1
//!   D      to 8 × 8      1×1 3×3/2 | 1×1 1×7 7×1 3×3/2 | max/2
//!   E × 2  8 × 8         1×1 | 1×1 (1×3 | 3×1) | 1×1 3×3 (1×3 | 3×1) | mean 1×1, in the last block max 1×1
//! φ    = mean over the positions                                                            [B, 2048]
//! ```
//!
//! This differs from torchvision's network of that name: the mean of a 3×3 window leaves padding out of the count, and the last block has
//! a max for a mean. Both are how the original weights were used and part of the definition of the FID; the weights differ too. Extents of
//! channels are those of the file, filters and names are fixed.

use std::path::Path;

use fokker_nn::module;
use fokker_tensor::Tensor;
use fokker_tensor::ops::conv2d::Conv2d as Geometry;
use fokker_tensor::ops::max_pool::MaxPool;
use fokker_tensor::ops::resize::Resize;

use super::coloured;
use super::weights::{ANY, Weights};
use crate::checkpoint::Checkpoint;
use crate::error::ModelError;

/// Height and width that images are brought to.
const SIDE: usize = 299;

/// Rows of the last layer, which tells the release apart: torchvision's network has 1000.
const CLASSES: usize = 1008;

/// Added to variances.
const EPSILON: f64 = 1e-3;

const HALVE: Geometry = Geometry { stride: (2, 2), padding: (0, 0) };
const POOL_HALVE: MaxPool = MaxPool { kernel: 3, stride: 2, padding: 0 };
const POOL_SAME: MaxPool = MaxPool { kernel: 3, stride: 1, padding: 1 };

/// A convolution: its name, the extents of its filter, and how that moves.
#[derive(Clone, Copy)]
struct Layer(&'static str, (usize, usize), Geometry);

const fn one(name: &'static str) -> Layer {
    same(name, 1, 1)
}

const fn same(name: &'static str, height: usize, width: usize) -> Layer {
    Layer(name, (height, width), Geometry::same(height, width))
}

const fn valid(name: &'static str) -> Layer {
    Layer(name, (3, 3), Geometry::VALID)
}

const fn halve(name: &'static str) -> Layer {
    Layer(name, (3, 3), HALVE)
}

/// What a branch begins with.
#[derive(Clone, Copy, Debug)]
enum Pool {
    Nothing,
    Mean,
    Max(MaxPool),
}

/// A branch: a pooling, convolutions after each other, and convolutions beside each other of their result.
type Plan = (Pool, &'static [Layer], &'static [Layer]);

const BLOCK_A: &[Plan] = &[
    (Pool::Nothing, &[one("branch1x1")], &[]),
    (Pool::Nothing, &[one("branch5x5_1"), same("branch5x5_2", 5, 5)], &[]),
    (Pool::Nothing, &[one("branch3x3dbl_1"), same("branch3x3dbl_2", 3, 3), same("branch3x3dbl_3", 3, 3)], &[]),
    (Pool::Mean, &[one("branch_pool")], &[]),
];

const BLOCK_B: &[Plan] = &[
    (Pool::Nothing, &[halve("branch3x3")], &[]),
    (Pool::Nothing, &[one("branch3x3dbl_1"), same("branch3x3dbl_2", 3, 3), halve("branch3x3dbl_3")], &[]),
    (Pool::Max(POOL_HALVE), &[], &[]),
];

const BLOCK_C: &[Plan] = &[
    (Pool::Nothing, &[one("branch1x1")], &[]),
    (Pool::Nothing, &[one("branch7x7_1"), same("branch7x7_2", 1, 7), same("branch7x7_3", 7, 1)], &[]),
    (
        Pool::Nothing,
        &[
            one("branch7x7dbl_1"),
            same("branch7x7dbl_2", 7, 1),
            same("branch7x7dbl_3", 1, 7),
            same("branch7x7dbl_4", 7, 1),
            same("branch7x7dbl_5", 1, 7),
        ],
        &[],
    ),
    (Pool::Mean, &[one("branch_pool")], &[]),
];

const BLOCK_D: &[Plan] = &[
    (Pool::Nothing, &[one("branch3x3_1"), halve("branch3x3_2")], &[]),
    (
        Pool::Nothing,
        &[one("branch7x7x3_1"), same("branch7x7x3_2", 1, 7), same("branch7x7x3_3", 7, 1), halve("branch7x7x3_4")],
        &[],
    ),
    (Pool::Max(POOL_HALVE), &[], &[]),
];

const E_1: &[Layer] = &[one("branch1x1")];
const E_3: &[Layer] = &[one("branch3x3_1")];
const E_3_ENDS: &[Layer] = &[same("branch3x3_2a", 1, 3), same("branch3x3_2b", 3, 1)];
const E_33: &[Layer] = &[one("branch3x3dbl_1"), same("branch3x3dbl_2", 3, 3)];
const E_33_ENDS: &[Layer] = &[same("branch3x3dbl_3a", 1, 3), same("branch3x3dbl_3b", 3, 1)];
const E_POOL: &[Layer] = &[one("branch_pool")];

const fn block_e(pool: Pool) -> [Plan; 4] {
    [(Pool::Nothing, E_1, &[]), (Pool::Nothing, E_3, E_3_ENDS), (Pool::Nothing, E_33, E_33_ENDS), (pool, E_POOL, &[])]
}

const FIRST_E: &[Plan] = &block_e(Pool::Mean);
const LAST_E: &[Plan] = &block_e(Pool::Max(POOL_SAME));

/// The convolutions before the blocks; a max pooling comes after the third and after the last.
const STEM: [Layer; 5] =
    [halve("Conv2d_1a_3x3"), valid("Conv2d_2a_3x3"), same("Conv2d_2b_3x3", 3, 3), one("Conv2d_3b_1x1"), valid("Conv2d_4a_3x3")];

const BLOCKS: [(&str, &[Plan]); 11] = [
    ("Mixed_5b", BLOCK_A),
    ("Mixed_5c", BLOCK_A),
    ("Mixed_5d", BLOCK_A),
    ("Mixed_6a", BLOCK_B),
    ("Mixed_6b", BLOCK_C),
    ("Mixed_6c", BLOCK_C),
    ("Mixed_6d", BLOCK_C),
    ("Mixed_6e", BLOCK_C),
    ("Mixed_7a", BLOCK_D),
    ("Mixed_7b", FIRST_E),
    ("Mixed_7c", LAST_E),
];

/// A convolution with its batch norm folded in, and the cut at 0 after it.
#[derive(Clone, Debug)]
struct Conv {
    /// `[KH, KW, inputs, outputs]`.
    weight: Tensor,
    /// `[outputs]`.
    bias: Tensor,
    how: Geometry,
}
module!(Conv { weight, bias });

impl Conv {
    fn load(weights: &mut Weights<'_>, block: &str, layer: Layer, inputs: usize) -> Result<Conv, ModelError> {
        let Layer(name, (height, width), how) = layer;
        let name = [block, name].join(if block.is_empty() { "" } else { "." });
        let w = weights.take(&format!("{name}.conv.weight"), &[ANY, inputs, height, width])?;
        let outputs = w.dim(0);
        let mut of = |part: &str| weights.take(&format!("{name}.bn.{part}"), &[outputs]);
        let (gamma, beta, mean, variance) = (of("weight")?, of("bias")?, of("running_mean")?, of("running_var")?);
        if variance.as_slice::<f64>().iter().any(|&v| v < 0.0) {
            return Err(weights.problem(format!("tensor `{name}.bn.running_var`: expected variances, found a number below 0")));
        }
        let scale = &gamma / &(&variance + EPSILON).sqrt();
        let weight = &w.permute(&[2, 3, 1, 0]) * &scale;
        let bias = &beta - &(&mean * &scale);
        Ok(Conv { weight: weight.to(weights.dtype), bias: bias.to(weights.dtype), how })
    }

    fn outputs(&self) -> usize {
        self.weight.dim(3)
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x.conv2d(&self.weight, Some(&self.bias), self.how).relu()
    }
}

#[derive(Clone, Debug)]
struct Branch {
    pool: Pool,
    chain: Vec<Conv>,
    ends: Vec<Conv>,
}
module!(Branch { chain, ends });

impl Branch {
    fn load(weights: &mut Weights<'_>, block: &str, plan: &Plan, inputs: usize) -> Result<Branch, ModelError> {
        let &(pool, chain, ends) = plan;
        let mut branch = Branch { pool, chain: Vec::new(), ends: Vec::new() };
        for &layer in chain {
            branch.chain.push(Conv::load(weights, block, layer, branch.width(inputs))?);
        }
        let width = branch.width(inputs);
        branch.ends = ends.iter().map(|&layer| Conv::load(weights, block, layer, width)).collect::<Result<_, _>>()?;
        Ok(branch)
    }

    /// Channels that come out, of so many that go in.
    fn width(&self, inputs: usize) -> usize {
        match self.ends.as_slice() {
            [] => self.chain.last().map_or(inputs, Conv::outputs),
            ends => ends.iter().map(Conv::outputs).sum(),
        }
    }

    fn forward(&self, x: &Tensor, out: &mut Vec<Tensor>) {
        let h = match self.pool {
            Pool::Nothing => x.clone(),
            Pool::Mean => mean_around(x),
            Pool::Max(how) => x.max_pool2d(how),
        };
        let h = self.chain.iter().fold(h, |h, conv| conv.forward(&h));
        match self.ends.as_slice() {
            [] => out.push(h),
            ends => out.extend(ends.iter().map(|conv| conv.forward(&h))),
        }
    }
}

/// The mean of the 3×3 window around every pixel, of those pixels that are there: `[B, H, W, C]`, the same shape out.
fn mean_around(x: &Tensor) -> Tensor {
    let (h, w, channels) = (x.dim(1), x.dim(2), x.dim(3));
    let sums = x.depthwise_conv2d(&Tensor::ones(&[3, 3, channels], x.dtype()), None, Geometry::same(3, 3));
    let there = |i: usize, n: usize| ((i + 2).min(n) - i.saturating_sub(1)) as f64;
    let shares: Vec<f64> = (0..h * w).map(|k| 1.0 / (there(k / w, h) * there(k % w, w))).collect();
    &sums * &Tensor::from_f64(&[h, w, 1], &shares, x.dtype())
}

#[derive(Clone, Debug)]
struct Block {
    branches: Vec<Branch>,
}
module!(Block { branches });

impl Block {
    fn forward(&self, x: &Tensor) -> Tensor {
        let mut parts = Vec::new();
        self.branches.iter().for_each(|branch| branch.forward(x, &mut parts));
        Tensor::concat(&parts.iter().collect::<Vec<_>>(), 3)
    }
}

/// The network; see the module's equations.
#[derive(Clone, Debug)]
pub struct Inception {
    stem: Vec<Conv>,
    blocks: Vec<Block>,
    width: usize,
}
module!(Inception { stem, blocks });

impl Inception {
    /// See [`ImageNetwork::about`](super::ImageNetwork::about).
    pub(super) const ABOUT: &str =
        "Inception-v3 of pytorch-fid: images to 299 × 299 (linear, not smoothed), features after the last pooling";

    /// Whether a file has this network's names.
    pub(super) fn is_in(checkpoint: &Checkpoint) -> bool {
        checkpoint.tensors.contains_key("Conv2d_1a_3x3.conv.weight")
    }

    pub(super) fn from_checkpoint(checkpoint: &Checkpoint, file: &Path) -> Result<Inception, ModelError> {
        let mut weights = Weights::new(checkpoint, file, "pytorch-fid's Inception-v3");
        let mut stem: Vec<Conv> = Vec::new();
        for layer in STEM {
            let inputs = stem.last().map_or(3, Conv::outputs);
            stem.push(Conv::load(&mut weights, "", layer, inputs)?);
        }
        let mut width = stem.last().map_or(3, Conv::outputs);
        let mut blocks = Vec::new();
        for (name, plans) in BLOCKS {
            let branches =
                plans.iter().map(|plan| Branch::load(&mut weights, name, plan, width)).collect::<Result<Vec<_>, _>>()?;
            width = branches.iter().map(|branch| branch.width(width)).sum();
            blocks.push(Block { branches });
        }
        // Of another release, the network would be another one.
        weights.take("fc.weight", &[CLASSES, width])?;
        weights.take("fc.bias", &[CLASSES])?;
        weights.finish()?;
        Ok(Inception { stem, blocks, width })
    }

    /// The number of features.
    pub fn width(&self) -> usize {
        self.width
    }

    /// See [`ImageNetwork::features`](super::ImageNetwork::features).
    #[track_caller]
    pub(super) fn features(&self, x: &Tensor) -> Tensor {
        let mut h = coloured(x).resize2d((SIDE, SIDE), Resize::BILINEAR);
        for (i, conv) in self.stem.iter().enumerate() {
            h = conv.forward(&h);
            if i == 2 || i + 1 == STEM.len() {
                h = h.max_pool2d(POOL_HALVE);
            }
        }
        self.blocks.iter().fold(h, |h, block| block.forward(&h)).mean(&[1, 2])
    }
}

#[cfg(test)]
mod tests {
    use super::super::ImageNetwork;
    use super::*;
    use fokker_tensor::{Dtype, Noise};

    /// A network whose convolutions have two channels each.
    fn checkpoint() -> Checkpoint {
        let mut checkpoint = Checkpoint::default();
        let mut put = |name: String, shape: &[usize], scale: f64| {
            let count = shape.iter().product();
            let stream = checkpoint.tensors.len() as u64;
            let values = Noise::new(3, stream).normal(&[1, count], 0, 0, Dtype::F64).reshape(shape);
            checkpoint.tensors.insert(name, if scale > 0.0 { &values * scale } else { &values.square() + 0.5 });
        };
        let mut conv = |block: &str, Layer(name, (h, w), _): Layer, inputs: usize| {
            let name = [block, name].join(if block.is_empty() { "" } else { "." });
            put(format!("{name}.conv.weight"), &[2, inputs, h, w], (2.0 / (inputs * h * w) as f64).sqrt());
            for (part, scale) in [("weight", 0.0), ("bias", 0.2), ("running_mean", 0.2), ("running_var", 0.0)] {
                put(format!("{name}.bn.{part}"), &[2], scale);
            }
            2
        };
        let mut width = STEM.iter().fold(3, |inputs, &layer| conv("", layer, inputs));
        for (block, plans) in BLOCKS {
            let mut branch = |&(_, chain, ends): &Plan| {
                let inner = chain.iter().fold(width, |inputs, &layer| conv(block, layer, inputs));
                if ends.is_empty() { inner } else { ends.iter().map(|&layer| conv(block, layer, inner)).sum() }
            };
            width = plans.iter().map(&mut branch).sum();
        }
        put("fc.weight".into(), &[CLASSES, width], 1.0);
        put("fc.bias".into(), &[CLASSES], 1.0);
        checkpoint
    }

    fn read(checkpoint: &Checkpoint) -> Result<Inception, String> {
        Inception::from_checkpoint(checkpoint, "some/file".as_ref()).map_err(|e| e.to_string())
    }

    #[test]
    fn features_are_an_images_own_and_grey_is_colour() {
        let network = read(&checkpoint()).unwrap();
        let x = Noise::new(1, 0).uniform(&[3, 9, 12, 1], 0, 0, Dtype::F64);
        let features = network.features(&x);
        assert_eq!((features.shape(), network.width()), (&[3, 12][..], 12));
        assert!(features.all_finite() && features.abs().max_all().item() > 1e-3);
        let distance = |a: &Tensor, b: &Tensor| (a - b).abs().max_all().item() / b.abs().max_all().item();
        let alone = network.features(&x.slice(0, 1..2));
        assert!(distance(&alone, &features.slice(0, 1..2)) < 1e-12);
        let coloured = Tensor::concat(&[&x, &x, &x], 3);
        assert!(distance(&network.features(&coloured), &features) < 1e-12);
        let single = ImageNetwork::Inception(network).to(Dtype::F32).features(&x.to(Dtype::F32)).to(Dtype::F64);
        assert!(distance(&single, &features) < 1e-4);
    }

    #[test]
    fn the_mean_around_a_pixel_counts_only_pixels_that_are_there() {
        let x = Noise::new(1, 0).normal(&[2, 4, 3, 2], 0, 0, Dtype::F64);
        let xs = x.view::<f64>();
        for (index, &value) in mean_around(&x).view::<f64>().indexed_iter() {
            let near = |at: usize, n: usize| at.saturating_sub(1)..(at + 2).min(n);
            let all = near(index[1], 4).flat_map(|i| near(index[2], 3).map(move |j| (i, j)));
            let all: Vec<f64> = all.map(|(i, j)| xs[[index[0], i, j, index[3]]]).collect();
            assert!((value - all.iter().sum::<f64>() / all.len() as f64).abs() < 1e-14);
        }
        assert_eq!(
            mean_around(&x.slice(1, 0..1).slice(2, 0..1)).to_vec::<f64>(),
            x.slice(1, 0..1).slice(2, 0..1).to_vec::<f64>()
        );
    }

    #[test]
    fn a_file_that_does_not_fit_is_named_with_the_tensor_and_what_was_expected() {
        let error = |change: &dyn Fn(&mut Checkpoint)| {
            let mut checkpoint = checkpoint();
            change(&mut checkpoint);
            read(&checkpoint).unwrap_err()
        };
        let put = |name: &'static str, value: f64, shape: &'static [usize]| {
            move |c: &mut Checkpoint| drop(c.tensors.insert(name.into(), Tensor::full(shape, value, Dtype::F64)))
        };
        let of = "for pytorch-fid's Inception-v3";
        let name = "Mixed_6b.branch7x7_2.conv.weight";
        let missing = error(&|c| drop(c.tensors.remove(name)));
        assert_eq!(missing, format!("some/file: tensor `{name}` is missing, expected [any, 2, 1, 7] {of}"));
        let shape = error(&put(name, 0.0, &[2, 2, 7, 1]));
        assert_eq!(shape, format!("some/file: tensor `{name}` is [2, 2, 7, 1], expected [any, 2, 1, 7] {of}"));
        let name = "Conv2d_1a_3x3.bn.bias";
        assert_eq!(error(&put(name, 0.0, &[3])), format!("some/file: tensor `{name}` is [3], expected [2] {of}"));
        assert_eq!(error(&put(name, f64::NAN, &[2])), format!("some/file: tensor `{name}` has a number that is not finite"));
        let variance = error(&put("Mixed_7c.branch1x1.bn.running_var", -0.1, &[2]));
        assert!(variance.contains("`Mixed_7c.branch1x1.bn.running_var`: expected variances"), "{variance}");
        // Torchvision's own.
        assert!(error(&put("fc.weight", 0.0, &[1000, 12])).contains("`fc.weight` is [1000, 12], expected [1008, 12]"));
        let more = error(&|c| {
            put("AuxLogits.fc.bias", 0.0, &[1])(c);
            put("AuxLogits.fc.weight", 0.0, &[1])(c);
        });
        assert_eq!(more, format!("some/file: tensor `AuxLogits.fc.bias` and 1 more: not expected {of}"));
        let other = ImageNetwork::from_checkpoint(&Checkpoint::default(), "some/file".as_ref()).unwrap_err().to_string();
        assert!(other.ends_with("of DINOv2, found a file that fokker did not write"), "{other}");
    }

    #[test]
    fn counters_of_batches_are_left_out_when_a_file_is_read() {
        let bytes = 7i64.to_le_bytes();
        let view = |name: &str| {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::I64, vec![], &bytes).unwrap();
            let file = safetensors::serialize([(name, view)], None).unwrap();
            Checkpoint::from_bytes(&file, "f".as_ref()).map(|c| c.tensors.len()).map_err(|e| e.to_string())
        };
        assert_eq!(view("Conv2d_1a_3x3.bn.num_batches_tracked"), Ok(0));
        assert_eq!(view("a"), Err("f: tensor `a` is I64, expected BF16, F32 or F64".into()));
    }
}
