//! The workloads: each a call to be timed. `tests/reference/bench/peers.py` has the same, and says what they are.

use std::hint::black_box;

use fokker_models::{DiffusionModel, ModelConfig, NetworkConfig, UNetConfig};
use fokker_nn::{Adam, AdamConfig, Init, LayerNorm, Linear, Module, Sinusoidal, module, value_and_grad};
use fokker_sde::{Cond, Denoiser, Edm, Preconditioning, Sde, Times, VariancePreserving};
use fokker_solve::{EulerMaruyama, GridConfig, Heun, Karras, Sampler};
use fokker_tensor::{Dtype, Noise, Tensor};

use clap::Args;
use serde::Serialize;

use crate::{Failure, likelihood};

pub(crate) const WORKLOADS: [&str; 15] = [
    "mlp-train",
    "mlp-forward",
    "mlp-sample",
    "mlp-likelihood",
    "mnist-train",
    "mnist-forward",
    "mnist-bf16",
    "mnist-sample",
    "cifar-train",
    "cifar-forward",
    "cifar-single",
    "cifar-bf16",
    "block-train",
    "block-forward",
    "overhead",
];

pub(crate) type Call = Box<dyn FnMut()>;

/// Other sizes than the workload's own, for the MNIST U-Net.
#[derive(Args, Clone, Debug, Default, Serialize)]
pub(crate) struct Sizes {
    /// Images per call of the MNIST U-Net, instead of 64
    #[arg(long, value_name = "IMAGES")]
    pub(crate) batch: Option<usize>,
    /// Its images' height and width, instead of 32
    #[arg(long, value_name = "PIXELS")]
    pub(crate) side: Option<usize>,
    /// Its channels at full resolution, instead of 32
    #[arg(long, value_name = "CHANNELS")]
    pub(crate) width: Option<usize>,
}

impl Sizes {
    /// As options of a command line.
    pub(crate) fn options(&self) -> Vec<String> {
        let all = [("--batch", self.batch), ("--side", self.side), ("--width", self.width)];
        all.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?.to_string()])).flatten().collect()
    }
}

/// The call of a workload, with all it needs built.
pub(crate) fn call(workload: &str, sizes: &Sizes) -> Result<Call, Failure> {
    if !sizes.options().is_empty() && !["mnist-train", "mnist-forward", "mnist-bf16"].contains(&workload) {
        return Err(format!("{workload}: has one size only").into());
    }
    let (batch, side) = (sizes.batch.unwrap_or(64), sizes.side.unwrap_or(32));
    let images = [batch, side, side, 1];
    Ok(match workload {
        "mlp-train" => train(Mlp::new(), normal(&[512, 66], 0), normal(&[512, 2], 1), Mlp::forward),
        "mlp-forward" => forward(Mlp::new(), normal(&[10_000, 66], 0), Mlp::forward),
        "mlp-sample" => mlp_sample()?,
        "mlp-likelihood" => likelihood::call()?,
        "mnist-train" => train(mnist(sizes)?, normal(&images, 0), normal(&images, 1), raw),
        "mnist-forward" => forward(mnist(sizes)?, normal(&images, 0), raw),
        "mnist-bf16" => forward(mnist(sizes)?.to(Dtype::Bf16), normal(&images, 0), raw),
        "mnist-sample" => mnist_sample()?,
        "cifar-train" => train(cifar()?, normal(&[8, 32, 32, 3], 0), normal(&[8, 32, 32, 3], 1), raw),
        "cifar-forward" => forward(cifar()?, normal(&[8, 32, 32, 3], 0), raw),
        "cifar-single" => forward(cifar()?, normal(&[1, 32, 32, 3], 0), raw),
        "cifar-bf16" => forward(cifar()?.to(Dtype::Bf16), normal(&[8, 32, 32, 3], 0), raw),
        "block-train" => train(Block::new(), normal(&[16, 256, 384], 0), normal(&[16, 256, 384], 1), Block::forward),
        "block-forward" => forward(Block::new(), normal(&[16, 256, 384], 0), Block::forward),
        other => return Err(format!("no workload `{other}`").into()),
    })
}

fn forward<M: 'static>(model: M, x: Tensor, output: impl Fn(&M, &Tensor) -> Tensor + 'static) -> Call {
    Box::new(move || drop(black_box(output(&model, &x))))
}

fn train<M: Module + Clone + 'static>(
    mut model: M,
    x: Tensor,
    y: Tensor,
    output: impl Fn(&M, &Tensor) -> Tensor + 'static,
) -> Call {
    let mut adam = Adam::new(&model, AdamConfig { weight_decay: 0.01, ..AdamConfig::default() });
    Box::new(move || {
        let (loss, grads) = value_and_grad(&model, |m| (&output(m, &x) - &y).square().mean_all());
        adam.step(&mut model, &grads, 1e-4, 1.0);
        black_box(loss);
    })
}

fn normal(shape: &[usize], step: u32) -> Tensor {
    Noise::new(1, 0).normal(shape, 0, step, Dtype::F32)
}

/// 66 -> 256 -> 256 -> 256 -> 2 with SiLU.
#[derive(Clone)]
pub(crate) struct Mlp {
    layers: Vec<Linear>,
}
module!(Mlp { layers });

impl Mlp {
    fn new() -> Mlp {
        let mut init = Init::new(0, Dtype::F32);
        Mlp { layers: [66, 256, 256, 256, 2].windows(2).map(|w| Linear::new(w[0], w[1], &mut init)).collect() }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let (last, hidden) = self.layers.split_last().expect("four layers");
        last.forward(&hidden.iter().fold(x.clone(), |h, layer| layer.forward_silu(&h)))
    }

    /// The same for `x`, `[B, 2]`, beside the same 64 numbers, `[1, 64]`, in each row.
    fn forward_at(&self, x: &Tensor, same: &Tensor) -> Tensor {
        let [first, hidden @ .., last] = &self.layers[..] else { unreachable!("four layers") };
        let of_x = Linear { weight: first.weight.slice(0, 0..2), bias: first.bias.clone() };
        let h = of_x.forward_plus_silu(x, &same.matmul(&first.weight.slice(0, 2..66)));
        last.forward(&hidden.iter().fold(h, |h, layer| layer.forward_silu(&h)))
    }
}

/// The network as a model of points that predicts the noise.
#[derive(Clone)]
pub(crate) struct Points {
    pub(crate) network: Mlp,
    pub(crate) features: Sinusoidal,
    pub(crate) sde: VariancePreserving,
}

impl Points {
    pub(crate) fn new(sde: VariancePreserving) -> Points {
        Points { network: Mlp::new(), features: Sinusoidal { channels: 64, max_period: 10_000.0, scale: 100.0 }, sde }
    }

    /// At one time for all, its features are one row of the first layer.
    pub(crate) fn noise(&self, x: &Tensor, t: &Times) -> Tensor {
        let features = self.features.forward(t.values(), x.dtype());
        match t {
            Times::Same(_) => self.network.forward_at(x, &features),
            Times::Each(_) => self.network.forward(&Tensor::concat(&[x, &features], 1)),
        }
    }
}

impl Denoiser for Points {
    fn sde(&self) -> &dyn Sde {
        &self.sde
    }

    fn denoise(&self, x: &Tensor, t: &Times, _: &Cond) -> Tensor {
        let epsilon = self.noise(&x.to(self.network.layers[0].weight.dtype()), t).to(x.dtype());
        let signal = &t.scale(x, |t| 1.0 / self.sde.alpha(t));
        signal - &t.scale(&epsilon, |t| self.sde.sigma(t) / self.sde.alpha(t))
    }
}

fn mlp_sample() -> Result<Call, Failure> {
    let model = Points::new(VariancePreserving::default());
    let grid = GridConfig { denoise_last: false, ..GridConfig::with_steps(500) }.build(&model.sde)?;
    sample(model, EulerMaruyama::default(), grid, vec![10_000, 2])
}

fn mnist_sample() -> Result<Call, Failure> {
    let model = mnist(&Sizes::default())?;
    let grid = GridConfig { steps: 18, spacing: Karras::default().into(), ..GridConfig::default() }.build(&Edm::default())?;
    sample(model, Heun::default(), grid, vec![64, 32, 32, 1])
}

fn sample(
    model: impl Denoiser + 'static,
    solver: impl fokker_solve::Solver + 'static,
    grid: fokker_solve::Grid,
    shape: Vec<usize>,
) -> Result<Call, Failure> {
    let sampler = Sampler::new(model, solver, grid)?;
    Ok(Box::new(move || {
        let samples = sampler.sample(&shape, &Cond::NONE, Noise::new(3, 0), 0, &mut []);
        drop(black_box(samples.expect("a network of finite numbers")));
    }))
}

fn raw(model: &DiffusionModel, x: &Tensor) -> Tensor {
    model.raw(x, &Times::Each(vec![0.5; x.dim(0)]), &Cond::NONE)
}

fn mnist(sizes: &Sizes) -> Result<DiffusionModel, Failure> {
    let width = sizes.width.unwrap_or(32);
    let network = UNetConfig {
        channels: vec![width, 2 * width, 4 * width, 4 * width],
        blocks: 2,
        attention_levels: vec![2],
        head_channels: 8,
        ..UNetConfig::default()
    };
    let side = sizes.side.unwrap_or(32);
    unet([side, side, 1], network, sizes.width.is_none_or(|w| w == 32).then_some(6_337_345))
}

fn cifar() -> Result<DiffusionModel, Failure> {
    let network = UNetConfig {
        channels: vec![128, 256, 256, 256],
        blocks: 2,
        attention_levels: vec![1],
        head_channels: 256,
        groups: 32,
        ..UNetConfig::default()
    };
    unet([32, 32, 3], network, Some(35_746_307))
}

/// A model of images whose network has this many parameters, as the peers' has.
fn unet(shape: [usize; 3], network: UNetConfig, parameters: Option<usize>) -> Result<DiffusionModel, Failure> {
    let config = ModelConfig {
        sample_shape: shape.to_vec(),
        classes: None,
        sde: Edm::default().into(),
        preconditioning: Preconditioning::default(),
        learned_variance: false,
        network: NetworkConfig::UNet(network),
    };
    let mut model = DiffusionModel::new(config, 0, Dtype::F32)?;
    // Output layers start at zero; a network that does the same work on numbers that are not.
    for (i, t) in model.tensors_mut().into_iter().enumerate() {
        *t = &*t + &(&Noise::new(2, i as u64).normal(&[1, t.len()], 0, 0, Dtype::F32).reshape(t.shape()) * 0.01);
    }
    if let Some(parameters) = parameters {
        assert_eq!(model.parameter_count(), parameters, "the peers' number of parameters");
    }
    Ok(model)
}

/// A transformer block of 6 heads.
#[derive(Clone)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    output: Linear,
    norm2: LayerNorm,
    wide: Linear,
    narrow: Linear,
}
module!(Block { norm1, qkv, output, norm2, wide, narrow });

impl Block {
    fn new() -> Block {
        let (init, width) = (&mut Init::new(0, Dtype::F32), 384);
        Block {
            norm1: LayerNorm::new(width, init),
            qkv: Linear::new(width, 3 * width, init),
            output: Linear::new(width, width, init),
            norm2: LayerNorm::new(width, init),
            wide: Linear::new(width, 4 * width, init),
            narrow: Linear::new(4 * width, width, init),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let &[b, n, c] = x.shape() else { unreachable!("[batch, tokens, channels]") };
        let qkv = self.qkv.forward(&self.norm1.forward(x));
        let part = |i: usize| qkv.slice(2, i * c..(i + 1) * c).reshape(&[b, n, 6, c / 6]);
        let y = Tensor::attention(&part(0), &part(1), &part(2), None).reshape(&[b, n, c]);
        let x = self.output.forward_plus(&y, x);
        self.narrow.forward_plus(&self.wide.forward(&self.norm2.forward(&x)).gelu(), &x)
    }
}
