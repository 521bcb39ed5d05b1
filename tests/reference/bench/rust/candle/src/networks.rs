//! The benchmark's networks in candle, `[B, C, H, W]`.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, GroupNorm, LayerNorm, Linear, Module, VarBuilder};
use peer_protocol::{BLOCK, MLP, UNet as Sizes, frequencies};

/// Gives every layer a name of its own.
pub struct Names<'a> {
    vb: VarBuilder<'a>,
    next: usize,
}

impl<'a> Names<'a> {
    pub fn new(vb: VarBuilder<'a>) -> Self {
        Names { vb, next: 0 }
    }

    fn one(&mut self) -> VarBuilder<'a> {
        self.next += 1;
        self.vb.pp(self.next)
    }

    fn linear(&mut self, inputs: usize, outputs: usize) -> Result<Linear> {
        candle_nn::linear(inputs, outputs, self.one())
    }

    fn conv(&mut self, inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Result<Conv2d> {
        let config = Conv2dConfig { padding: kernel / 2, stride, ..Conv2dConfig::default() };
        candle_nn::conv2d(inputs, outputs, kernel, config, self.one())
    }

    fn group_norm(&mut self, groups: usize, channels: usize) -> Result<GroupNorm> {
        candle_nn::group_norm(groups, channels, 1e-5, self.one())
    }
}

pub struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    pub fn new(names: &mut Names<'_>) -> Result<Mlp> {
        Ok(Mlp { layers: MLP.windows(2).map(|w| names.linear(w[0], w[1])).collect::<Result<_>>()? })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (last, hidden) = self.layers.split_last().expect("four layers");
        let h = hidden.iter().try_fold(x.clone(), |h, layer| layer.forward(&h)?.silu())?;
        last.forward(&h)
    }
}

/// Soft-max attention of `[B, N, C]` in heads. candle's soft-max in one pass has no derivative, so training takes the one that has.
fn attention(qkv: &Tensor, heads: usize, training: bool) -> Result<Tensor> {
    let (b, n, c3) = qkv.dims3()?;
    let (c, d) = (c3 / 3, c3 / 3 / heads);
    let part = |i: usize| qkv.narrow(2, i * c, c)?.reshape((b, n, heads, d))?.transpose(1, 2)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let scores = (q.matmul(&k.t()?)? * (1.0 / (d as f64).sqrt()))?;
    let weights =
        if training { candle_nn::ops::softmax(&scores, D::Minus1)? } else { candle_nn::ops::softmax_last_dim(&scores)? };
    weights.matmul(&v)?.transpose(1, 2)?.reshape((b, n, c))
}

pub struct Block {
    norms: [LayerNorm; 2],
    qkv: Linear,
    output: Linear,
    wide: Linear,
    narrow: Linear,
    training: bool,
}

impl Block {
    pub fn new(names: &mut Names<'_>, training: bool) -> Result<Block> {
        let c = BLOCK.0;
        Ok(Block {
            norms: [candle_nn::layer_norm(c, 1e-5, names.one())?, candle_nn::layer_norm(c, 1e-5, names.one())?],
            qkv: names.linear(c, 3 * c)?,
            output: names.linear(c, c)?,
            wide: names.linear(c, 4 * c)?,
            narrow: names.linear(4 * c, c)?,
            training,
        })
    }

    /// candle's layer norm in one pass has no derivative either.
    fn norm(&self, i: usize, x: &Tensor) -> Result<Tensor> {
        let norm = &self.norms[i];
        if self.training {
            candle_nn::ops::layer_norm_slow(x, norm.weight(), norm.bias().expect("affine"), 1e-5)
        } else {
            norm.forward(x)
        }
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = attention(&self.qkv.forward(&self.norm(0, x)?)?, BLOCK.1, self.training)?;
        let x = (x + self.output.forward(&y)?)?;
        let y = self.wide.forward(&self.norm(1, &x)?)?.gelu_erf()?;
        &x + self.narrow.forward(&y)?
    }
}

struct Residual {
    norm1: GroupNorm,
    conv1: Conv2d,
    embed: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    skip: Option<Conv2d>,
}

impl Residual {
    fn new(names: &mut Names<'_>, sizes: &Sizes, inputs: usize, outputs: usize) -> Result<Residual> {
        Ok(Residual {
            norm1: names.group_norm(sizes.groups, inputs)?,
            conv1: names.conv(inputs, outputs, 3, 1)?,
            embed: names.linear(4 * sizes.levels[0], outputs)?,
            norm2: names.group_norm(sizes.groups, outputs)?,
            conv2: names.conv(outputs, outputs, 3, 1)?,
            skip: if inputs == outputs { None } else { Some(names.conv(inputs, outputs, 1, 1)?) },
        })
    }

    fn forward(&self, x: &Tensor, e: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward(x)?.silu()?)?;
        let h = h.broadcast_add(&self.embed.forward(e)?.unsqueeze(2)?.unsqueeze(3)?)?;
        let h = self.conv2.forward(&self.norm2.forward(&h)?.silu()?)?;
        match &self.skip {
            Some(skip) => h + skip.forward(x)?,
            None => h + x,
        }
    }
}

struct Attention {
    norm: GroupNorm,
    qkv: Linear,
    output: Linear,
    heads: usize,
    training: bool,
}

impl Attention {
    fn new(names: &mut Names<'_>, sizes: &Sizes, channels: usize, training: bool) -> Result<Attention> {
        Ok(Attention {
            norm: names.group_norm(sizes.groups, channels)?,
            qkv: names.linear(channels, 3 * channels)?,
            output: names.linear(channels, channels)?,
            heads: channels / sizes.head,
            training,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, c, h, w) = x.dims4()?;
        let tokens = self.norm.forward(x)?.reshape((b, c, h * w))?.transpose(1, 2)?.contiguous()?;
        let y = self.output.forward(&attention(&self.qkv.forward(&tokens)?, self.heads, self.training)?)?;
        x + y.transpose(1, 2)?.reshape((b, c, h, w))?
    }
}

/// Residual blocks, each perhaps followed by attention, then a convolution between levels.
struct Stage {
    blocks: Vec<(Residual, Option<Attention>)>,
    resample: Option<Conv2d>,
}

pub struct UNet {
    frequencies: Tensor,
    embed: [Linear; 2],
    input: Conv2d,
    down: Vec<Stage>,
    middle: (Residual, Attention, Residual),
    up: Vec<Stage>,
    norm: GroupNorm,
    output: Conv2d,
}

impl UNet {
    pub fn new(names: &mut Names<'_>, sizes: &Sizes, training: bool) -> Result<UNet> {
        let first = sizes.levels[0];
        let embed = [names.linear(first, 4 * first)?, names.linear(4 * first, 4 * first)?];
        let input = names.conv(sizes.pixels, first, 3, 1)?;
        let block = |names: &mut Names<'_>, level: usize, inputs: usize| -> Result<(Residual, Option<Attention>)> {
            let channels = sizes.levels[level];
            let residual = Residual::new(names, sizes, inputs, channels)?;
            let attends = level == sizes.attention;
            Ok((residual, if attends { Some(Attention::new(names, sizes, channels, training)?) } else { None }))
        };
        let (mut kept, mut width) = (vec![first], first);
        let mut down = Vec::new();
        for (level, &channels) in sizes.levels.iter().enumerate() {
            let mut blocks = Vec::new();
            for _ in 0..2 {
                blocks.push(block(names, level, width)?);
                width = channels;
                kept.push(width);
            }
            let last = level + 1 == sizes.levels.len();
            if !last {
                kept.push(width);
            }
            down.push(Stage { blocks, resample: if last { None } else { Some(names.conv(width, width, 3, 2)?) } });
        }
        let residual = |names: &mut Names<'_>| Residual::new(names, sizes, width, width);
        let middle = (residual(names)?, Attention::new(names, sizes, width, training)?, residual(names)?);
        let mut up = Vec::new();
        for (level, &channels) in sizes.levels.iter().enumerate().rev() {
            let mut blocks = Vec::new();
            for _ in 0..3 {
                blocks.push(block(names, level, width + kept.pop().expect("one per block"))?);
                width = channels;
            }
            up.push(Stage { blocks, resample: if level == 0 { None } else { Some(names.conv(width, width, 3, 1)?) } });
        }
        let frequencies = Tensor::new(frequencies(first), &Device::Cpu)?.unsqueeze(0)?;
        let (norm, output) = (names.group_norm(sizes.groups, width)?, names.conv(width, sizes.pixels, 3, 1)?);
        Ok(UNet { frequencies, embed, input, down, middle, up, norm, output })
    }

    /// `x` `[B, C, H, W]`, `t` `[B]`.
    pub fn forward(&self, x: &Tensor, t: &Tensor) -> Result<Tensor> {
        let angles = t.unsqueeze(1)?.broadcast_mul(&self.frequencies)?;
        let e = Tensor::cat(&[angles.cos()?, angles.sin()?], 1)?;
        let e = self.embed[1].forward(&self.embed[0].forward(&e)?.silu()?)?.silu()?;
        let stage = |h: &Tensor, (residual, attention): &(Residual, Option<Attention>)| -> Result<Tensor> {
            let h = residual.forward(h, &e)?;
            attention.as_ref().map_or(Ok(h.clone()), |a| a.forward(&h))
        };
        let mut h = self.input.forward(x)?;
        let mut kept = vec![h.clone()];
        for Stage { blocks, resample } in &self.down {
            for block in blocks {
                h = stage(&h, block)?;
                kept.push(h.clone());
            }
            if let Some(halve) = resample {
                h = halve.forward(&h)?;
                kept.push(h.clone());
            }
        }
        h = self.middle.0.forward(&h, &e)?;
        h = self.middle.1.forward(&h)?;
        h = self.middle.2.forward(&h, &e)?;
        for Stage { blocks, resample } in &self.up {
            for block in blocks {
                h = stage(&Tensor::cat(&[&h, &kept.pop().expect("one per block")], 1)?, block)?;
            }
            if let Some(double) = resample {
                let (_, _, height, width) = h.dims4()?;
                h = double.forward(&h.upsample_nearest2d(2 * height, 2 * width)?)?;
            }
        }
        self.output.forward(&self.norm.forward(&h)?.silu()?)
    }
}
