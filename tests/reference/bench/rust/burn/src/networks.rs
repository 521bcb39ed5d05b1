//! The benchmark's networks in burn, `[B, C, H, W]`.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::{gelu, silu};
use burn::tensor::module::{attention, interpolate};
use burn::tensor::ops::{AttentionModuleOptions, InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor};
use peer_protocol::{BLOCK, MLP, UNet as Sizes, frequencies};

fn linear(inputs: usize, outputs: usize, device: &Device) -> Linear {
    LinearConfig::new(inputs, outputs).init(device)
}

fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize, device: &Device) -> Conv2d {
    let p = kernel / 2;
    let config = Conv2dConfig::new([inputs, outputs], [kernel, kernel]).with_stride([stride, stride]);
    config.with_padding(PaddingConfig2d::Explicit(p, p, p, p)).init(device)
}

#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    pub fn new(device: &Device) -> Mlp {
        Mlp { layers: MLP.windows(2).map(|w| linear(w[0], w[1], device)).collect() }
    }

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let (last, hidden) = self.layers.split_last().expect("four layers");
        last.forward(hidden.iter().fold(x, |h, layer| silu(layer.forward(h))))
    }
}

/// Soft-max attention of `[B, N, C]` in heads.
fn attend(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    let [b, n, c3] = qkv.dims();
    let c = c3 / 3;
    let part = |i: usize| qkv.clone().narrow(2, i * c, c).reshape([b, n, heads, c / heads]).swap_dims(1, 2);
    let y = attention(part(0), part(1), part(2), None, None, AttentionModuleOptions::default());
    y.swap_dims(1, 2).reshape([b, n, c])
}

#[derive(Module, Debug)]
pub struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    output: Linear,
    norm2: LayerNorm,
    wide: Linear,
    narrow: Linear,
}

impl Block {
    pub fn new(device: &Device) -> Block {
        let c = BLOCK.0;
        let norm = || LayerNormConfig::new(c).init(device);
        Block {
            norm1: norm(),
            qkv: linear(c, 3 * c, device),
            output: linear(c, c, device),
            norm2: norm(),
            wide: linear(c, 4 * c, device),
            narrow: linear(4 * c, c, device),
        }
    }

    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let y = attend(self.qkv.forward(self.norm1.forward(x.clone())), BLOCK.1);
        let x = x + self.output.forward(y);
        let y = gelu(self.wide.forward(self.norm2.forward(x.clone())));
        x + self.narrow.forward(y)
    }
}

#[derive(Module, Debug)]
struct Residual {
    norm1: GroupNorm,
    conv1: Conv2d,
    embed: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    skip: Option<Conv2d>,
}

impl Residual {
    fn new(sizes: &Sizes, inputs: usize, outputs: usize, device: &Device) -> Residual {
        Residual {
            norm1: GroupNormConfig::new(sizes.groups, inputs).init(device),
            conv1: conv(inputs, outputs, 3, 1, device),
            embed: linear(4 * sizes.levels[0], outputs, device),
            norm2: GroupNormConfig::new(sizes.groups, outputs).init(device),
            conv2: conv(outputs, outputs, 3, 1, device),
            skip: (inputs != outputs).then(|| conv(inputs, outputs, 1, 1, device)),
        }
    }

    fn forward(&self, x: Tensor<4>, e: Tensor<2>) -> Tensor<4> {
        let h = self.conv1.forward(silu(self.norm1.forward(x.clone())));
        let e = self.embed.forward(e);
        let [b, c] = e.dims();
        let h = h + e.reshape([b, c, 1, 1]);
        let h = self.conv2.forward(silu(self.norm2.forward(h)));
        match &self.skip {
            Some(skip) => h + skip.forward(x),
            None => h + x,
        }
    }
}

#[derive(Module, Debug)]
struct Attention {
    norm: GroupNorm,
    qkv: Linear,
    output: Linear,
    heads: usize,
}

impl Attention {
    fn new(sizes: &Sizes, channels: usize, device: &Device) -> Attention {
        Attention {
            norm: GroupNormConfig::new(sizes.groups, channels).init(device),
            qkv: linear(channels, 3 * channels, device),
            output: linear(channels, channels, device),
            heads: channels / sizes.head,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, c, h, w] = x.dims();
        let tokens = self.norm.forward(x.clone()).reshape([b, c, h * w]).swap_dims(1, 2);
        let y = self.output.forward(attend(self.qkv.forward(tokens), self.heads));
        x + y.swap_dims(1, 2).reshape([b, c, h, w])
    }
}

/// Residual blocks, each perhaps followed by attention, then a convolution between levels.
#[derive(Module, Debug)]
struct Stage {
    blocks: Vec<Residual>,
    attention: Vec<Attention>,
    resample: Option<Conv2d>,
}

impl Stage {
    fn block(&self, i: usize, h: Tensor<4>, e: &Tensor<2>) -> Tensor<4> {
        let h = self.blocks[i].forward(h, e.clone());
        match self.attention.get(i) {
            Some(attention) => attention.forward(h),
            None => h,
        }
    }
}

#[derive(Module, Debug)]
pub struct UNet {
    channels: usize,
    embed_in: Linear,
    embed_out: Linear,
    input: Conv2d,
    down: Vec<Stage>,
    first: Residual,
    attention: Attention,
    second: Residual,
    up: Vec<Stage>,
    norm: GroupNorm,
    output: Conv2d,
}

impl UNet {
    pub fn new(sizes: &Sizes, device: &Device) -> UNet {
        let first = sizes.levels[0];
        let stage = |level: usize, inputs: Vec<usize>, resample: Option<Conv2d>| {
            let channels = sizes.levels[level];
            let attends = level == sizes.attention;
            Stage {
                attention: inputs.iter().filter(|_| attends).map(|_| Attention::new(sizes, channels, device)).collect(),
                blocks: inputs.into_iter().map(|n| Residual::new(sizes, n, channels, device)).collect(),
                resample,
            }
        };
        let (mut kept, mut width) = (vec![first], first);
        let mut down = Vec::new();
        for (level, &channels) in sizes.levels.iter().enumerate() {
            let halve = (level + 1 < sizes.levels.len()).then(|| conv(channels, channels, 3, 2, device));
            kept.extend(vec![channels; 2 + usize::from(halve.is_some())]);
            down.push(stage(level, vec![width, channels], halve));
            width = channels;
        }
        let residual = || Residual::new(sizes, width, width, device);
        let (before, attention, after) = (residual(), Attention::new(sizes, width, device), residual());
        let mut up = Vec::new();
        for (level, &channels) in sizes.levels.iter().enumerate().rev() {
            let mut inputs = Vec::new();
            for _ in 0..3 {
                inputs.push(width + kept.pop().expect("one per block"));
                width = channels;
            }
            up.push(stage(level, inputs, (level > 0).then(|| conv(channels, channels, 3, 1, device))));
        }
        UNet {
            channels: first,
            embed_in: linear(first, 4 * first, device),
            embed_out: linear(4 * first, 4 * first, device),
            input: conv(sizes.pixels, first, 3, 1, device),
            down,
            first: before,
            attention,
            second: after,
            up,
            norm: GroupNormConfig::new(sizes.groups, width).init(device),
            output: conv(width, sizes.pixels, 3, 1, device),
        }
    }

    /// `x` `[B, C, H, W]`, `t` `[B]`.
    pub fn forward(&self, x: Tensor<4>, t: Tensor<1>) -> Tensor<4> {
        let [b] = t.dims();
        let frequencies = Tensor::<1>::from_floats(frequencies(self.channels).as_slice(), &t.device());
        let angles = t.reshape([b, 1]) * frequencies.reshape([1, self.channels / 2]);
        let e = Tensor::cat(vec![angles.clone().cos(), angles.sin()], 1);
        let e = silu(self.embed_out.forward(silu(self.embed_in.forward(e))));

        let mut h = self.input.forward(x);
        let mut kept = vec![h.clone()];
        for stage in &self.down {
            for i in 0..stage.blocks.len() {
                h = stage.block(i, h, &e);
                kept.push(h.clone());
            }
            if let Some(halve) = &stage.resample {
                h = halve.forward(h);
                kept.push(h.clone());
            }
        }
        h = self.first.forward(h, e.clone());
        h = self.second.forward(self.attention.forward(h), e.clone());
        for stage in &self.up {
            for i in 0..stage.blocks.len() {
                h = stage.block(i, Tensor::cat(vec![h, kept.pop().expect("one per block")], 1), &e);
            }
            if let Some(double) = &stage.resample {
                let how = InterpolateOptions::new(InterpolateMode::Nearest).with_scale_factor([2.0, 2.0]);
                h = double.forward(interpolate(h, how));
            }
        }
        self.output.forward(silu(self.norm.forward(h)))
    }
}
