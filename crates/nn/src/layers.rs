//! Layers: small structs of parameters with a `forward`.

use fokker_tensor::Tensor;
use fokker_tensor::ops::conv2d::Conv2d as Geometry;
use fokker_tensor::ops::group_norm::Activation;

use crate::init::{Gain, Init};
use crate::module;

/// `y = x W + b` over the last axis: `[..., inputs] -> [..., outputs]`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[inputs, outputs]`.
    pub weight: Tensor,
    /// `[outputs]`.
    pub bias: Option<Tensor>,
}
module!(Linear { weight, bias });

impl Linear {
    /// With PyTorch's default initialisation.
    pub fn new(inputs: usize, outputs: usize, init: &mut Init) -> Linear {
        Linear::with_gain(inputs, outputs, Gain::Default, init)
    }

    /// With a chosen initialisation.
    pub fn with_gain(inputs: usize, outputs: usize, gain: Gain, init: &mut Init) -> Linear {
        let weight = init.weight(&[inputs, outputs], inputs, outputs, gain);
        let bias = Some(init.bias(outputs, inputs, gain));
        Linear { weight, bias }
    }

    /// `[..., inputs] -> [..., outputs]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }

    /// SiLU of [`forward`](Self::forward), in the same pass.
    #[track_caller]
    pub fn forward_silu(&self, x: &Tensor) -> Tensor {
        match &self.bias {
            Some(bias) => x.linear_with(&self.weight, bias, None, Activation::Silu),
            None => self.forward(x).silu(),
        }
    }

    /// [`forward`](Self::forward) plus a tensor of the result's shape, or of one row for all, in the same pass.
    #[track_caller]
    pub fn forward_plus(&self, x: &Tensor, addend: &Tensor) -> Tensor {
        match &self.bias {
            Some(bias) => x.linear_with(&self.weight, bias, Some(addend), Activation::None),
            None => &self.forward(x) + addend,
        }
    }

    /// SiLU of [`forward_plus`](Self::forward_plus), in the same pass.
    #[track_caller]
    pub fn forward_plus_silu(&self, x: &Tensor, addend: &Tensor) -> Tensor {
        match &self.bias {
            Some(bias) => x.linear_with(&self.weight, bias, Some(addend), Activation::Silu),
            None => self.forward_plus(x, addend).silu(),
        }
    }
}

/// A convolution over images `[B, H, W, C]`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    /// `[KH, KW, inputs, outputs]`.
    pub weight: Tensor,
    /// `[outputs]`.
    pub bias: Option<Tensor>,
    stride: usize,
    padding: usize,
}
module!(Conv2d { weight, bias });

impl Conv2d {
    /// An odd square kernel, stride 1, the image size kept; PyTorch's default initialisation.
    pub fn new(inputs: usize, outputs: usize, kernel: usize, init: &mut Init) -> Conv2d {
        Conv2d::with_gain(inputs, outputs, kernel, 1, Gain::Default, init)
    }

    /// A square kernel padded by half of it, with a stride and a chosen initialisation.
    pub fn with_gain(inputs: usize, outputs: usize, kernel: usize, stride: usize, gain: Gain, init: &mut Init) -> Conv2d {
        let (fan_in, fan_out) = (inputs * kernel * kernel, outputs * kernel * kernel);
        let weight = init.weight(&[kernel, kernel, inputs, outputs], fan_in, fan_out, gain);
        let bias = Some(init.bias(outputs, fan_in, gain));
        Conv2d { weight, bias, stride, padding: kernel / 2 }
    }

    /// `[B, H, W, inputs] -> [B, H', W', outputs]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.conv2d(&self.weight, self.bias.as_ref(), self.geometry())
    }

    /// [`forward`](Self::forward) plus a tensor of the result's shape, or of one pixel for each sample, `[B, 1, 1, outputs]`, or for all, in the
    /// same pass.
    #[track_caller]
    pub fn forward_plus(&self, x: &Tensor, addend: &Tensor) -> Tensor {
        x.conv2d_plus(&self.weight, self.bias.as_ref(), self.geometry(), addend)
    }

    fn geometry(&self) -> Geometry {
        Geometry { stride: (self.stride, self.stride), padding: (self.padding, self.padding) }
    }
}

/// A convolution of each channel with its own kernel.
#[derive(Clone, Debug)]
pub struct DepthwiseConv2d {
    /// `[KH, KW, channels]`.
    pub weight: Tensor,
    /// `[channels]`.
    pub bias: Option<Tensor>,
    stride: usize,
    padding: usize,
}
module!(DepthwiseConv2d { weight, bias });

impl DepthwiseConv2d {
    /// A square kernel padded by half of it.
    pub fn new(channels: usize, kernel: usize, stride: usize, init: &mut Init) -> DepthwiseConv2d {
        let fan_in = kernel * kernel;
        DepthwiseConv2d {
            weight: init.weight(&[kernel, kernel, channels], fan_in, fan_in, Gain::Default),
            bias: Some(init.bias(channels, fan_in, Gain::Default)),
            stride,
            padding: kernel / 2,
        }
    }

    /// `[B, H, W, channels] -> [B, H', W', channels]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let geometry = Geometry { stride: (self.stride, self.stride), padding: (self.padding, self.padding) };
        x.depthwise_conv2d(&self.weight, self.bias.as_ref(), geometry)
    }
}

/// Normalisation over groups of channels and all positions (Wu & He 2018), with a learned scale and shift per channel.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    /// `[channels]`.
    pub gamma: Tensor,
    /// `[channels]`.
    pub beta: Tensor,
    groups: usize,
    epsilon: f64,
}
module!(GroupNorm { gamma, beta });

impl GroupNorm {
    /// The largest number of groups up to `groups` that divides the channels.
    pub fn new(groups: usize, channels: usize, init: &Init) -> GroupNorm {
        let groups = (1..=groups.min(channels)).rev().find(|g| channels.is_multiple_of(*g)).unwrap_or(1);
        GroupNorm { gamma: init.constant(&[channels], 1.0), beta: init.constant(&[channels], 0.0), groups, epsilon: 1e-5 }
    }

    /// `[B, ..., channels]`, the same shape out.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.group_norm(self.groups, Some((&self.gamma, &self.beta)), self.epsilon, Activation::None)
    }

    /// SiLU of [`forward`](Self::forward), in the same pass.
    #[track_caller]
    pub fn forward_silu(&self, x: &Tensor) -> Tensor {
        x.group_norm(self.groups, Some((&self.gamma, &self.beta)), self.epsilon, Activation::Silu)
    }

    /// SiLU of `forward(x) (1 + scale) + shift`, in the same pass: each sample's own `scale` and `shift`, `[B, channels]`, say what follows the
    /// norm, as in a network that is told the noise level so (Dhariwal & Nichol 2021, arXiv:2105.05233, section 3).
    #[track_caller]
    pub fn forward_scaled_silu(&self, x: &Tensor, scale: &Tensor, shift: &Tensor) -> Tensor {
        let scale = scale + 1.0;
        let (gamma, beta) = (&scale * &self.gamma, &(&scale * &self.beta) + shift);
        x.group_norm(self.groups, Some((&gamma, &beta)), self.epsilon, Activation::Silu)
    }
}

/// Normalisation over the last axis (Ba et al. 2016), with a learned scale and shift.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// `[channels]`.
    pub gamma: Tensor,
    /// `[channels]`.
    pub beta: Tensor,
    epsilon: f64,
}
module!(LayerNorm { gamma, beta });

impl LayerNorm {
    /// Scale 1, shift 0.
    pub fn new(channels: usize, init: &Init) -> LayerNorm {
        LayerNorm { gamma: init.constant(&[channels], 1.0), beta: init.constant(&[channels], 0.0), epsilon: 1e-5 }
    }

    /// `[..., channels]`, the same shape out.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(Some((&self.gamma, &self.beta)), self.epsilon)
    }
}

/// Division by the root mean square over the last axis (Zhang & Sennrich 2019), with a learned scale.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// `[channels]`.
    pub gamma: Tensor,
    epsilon: f64,
}
module!(RmsNorm { gamma });

impl RmsNorm {
    /// Scale 1.
    pub fn new(channels: usize, init: &Init) -> RmsNorm {
        RmsNorm { gamma: init.constant(&[channels], 1.0), epsilon: 1e-6 }
    }

    /// `[..., channels]`, the same shape out.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.rms_norm(Some(&self.gamma), self.epsilon)
    }
}

/// A learned vector for each of a number of classes.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// `[classes, channels]`.
    pub table: Tensor,
}
module!(Embedding { table });

impl Embedding {
    /// Standard normal vectors, as PyTorch's.
    pub fn new(classes: usize, channels: usize, init: &mut Init) -> Embedding {
        Embedding { table: init.normal(&[classes, channels], 1.0) }
    }

    /// One vector per class: `[classes.len(), channels]`.
    ///
    /// # Panics
    /// If there is no such class.
    #[track_caller]
    pub fn forward(&self, classes: &[usize]) -> Tensor {
        self.table.gather(classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fokker_tensor::{Dtype, Noise};

    #[test]
    fn a_scaled_norm_is_the_norm_scaled_and_shifted_before_its_activation() {
        let draw = |shape: &[usize], step| Noise::new(3, 0).normal(shape, 0, step, Dtype::F64);
        let mut norm = GroupNorm::new(2, 6, &Init::new(0, Dtype::F64));
        (norm.gamma, norm.beta) = (draw(&[1, 6], 0).reshape(&[6]), draw(&[1, 6], 1).reshape(&[6]));
        let (x, scale, shift) = (draw(&[3, 4, 5, 6], 2), draw(&[3, 6], 3), draw(&[3, 6], 4));
        let pixel = |t: &Tensor| t.reshape(&[3, 1, 1, 6]);
        let expected = (&(&norm.forward(&x) * &(&pixel(&scale) + 1.0)) + &pixel(&shift)).silu();
        let found = norm.forward_scaled_silu(&x, &scale, &shift);
        assert!((&found - &expected).abs().max_all().item() < 1e-13);
    }
}
