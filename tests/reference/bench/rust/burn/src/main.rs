//! The benchmark's workloads in burn, on its `flex` backend.

// burn's types are deep.
#![recursion_limit = "256"]

mod networks;

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};
use networks::{Block, Mlp, UNet};
use peer_protocol::{BLOCK, BLOCK_PARAMETERS, Call, MLP, MLP_PARAMETERS, Unsupported};

fn normal<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

fn first<const D: usize>(t: Tensor<D>) -> f32 {
    t.slice::<[std::ops::Range<usize>; D]>(std::array::from_fn(|_| 0..1)).into_scalar()
}

fn main() {
    let parameters = |name: &str| match peer_protocol::unet(name) {
        Some(sizes) => UNet::new(&sizes, &Device::flex()).num_params(),
        None if name == "mlp" => Mlp::new(&Device::flex()).num_params(),
        None => Block::new(&Device::flex()).num_params(),
    };
    peer_protocol::run("burn-flex", call, parameters);
}

fn call(workload: &str) -> Result<Call, Unsupported> {
    let (network, task) = workload.split_once('-').expect("NETWORK-TASK");
    // Only training records.
    let device = if task == "train" { Device::flex().autodiff() } else { Device::flex() };
    Ok(match (network, task) {
        ("mlp", "sample") => sample_points(&device),
        ("mnist", "sample") => sample_images(&device),
        ("mlp", _) => {
            let batch = if task == "train" { 512 } else { 10_000 };
            timed(task, Mlp::new(&device), MLP_PARAMETERS, [batch, MLP[0]], [batch, 2], |net, x| net.forward(x), &device)
        }
        ("block", _) => timed(task, Block::new(&device), BLOCK_PARAMETERS, BLOCK.2, BLOCK.2, |net, x| net.forward(x), &device),
        _ => {
            let sizes = peer_protocol::unet(workload).expect("a U-Net");
            let (net, shape) = (UNet::new(&sizes, &device), [sizes.batch, sizes.pixels, 32, 32]);
            let t = Tensor::<1>::full([sizes.batch], 0.5, &device);
            timed(task, net, sizes.parameters, shape, shape, move |net, x| net.forward(x, t.clone()), &device)
        }
    })
}

/// A forward pass, or a step of training, of a network with this many parameters.
fn timed<M: Module + 'static, const D: usize>(
    task: &str,
    net: M,
    parameters: usize,
    inputs: [usize; D],
    outputs: [usize; D],
    forward: impl Fn(&M, Tensor<D>) -> Tensor<D> + 'static,
    device: &Device,
) -> Call {
    assert_eq!(net.num_params(), parameters, "parameters");
    let (x, y) = (normal(inputs, device), normal(outputs, device));
    if task != "train" {
        return Box::new(move || first(forward(&net, x.clone())));
    }
    let mut net = Some(net);
    let mut adam = AdamWConfig::new().with_weight_decay(0.01).with_epsilon(1e-8).init();
    Box::new(move || {
        let model = net.take().expect("put back after each step");
        let difference = forward(&model, x.clone()) - y.clone();
        let loss = (difference.clone() * difference).mean();
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        net = Some(adam.step(1e-4, model, grads));
        loss.into_scalar()
    })
}

fn sample_points(device: &Device) -> Call {
    let (net, device) = (Mlp::new(device), device.clone());
    let frequencies = Tensor::<1>::from_floats(peer_protocol::frequencies(64).as_slice(), &device).reshape([1, 32]);
    let steps = peer_protocol::euler_maruyama(500);
    Box::new(move || {
        let mut x = normal([10_000, 2], &device);
        for &(t, [a, b, c]) in &steps {
            let angles = frequencies.clone() * (100.0 * t);
            let features = Tensor::cat(vec![angles.clone().cos(), angles.sin()], 1).expand([10_000, 64]);
            let epsilon = net.forward(Tensor::cat(vec![x.clone(), features], 1));
            x = x * a - epsilon * b + normal([10_000, 2], &device) * c;
        }
        first(x)
    })
}

fn sample_images(device: &Device) -> Call {
    let sizes = peer_protocol::unet("mnist-sample").expect("a U-Net");
    let (net, device) = (UNet::new(&sizes, device), device.clone());
    let on = device.clone();
    let slope = move |x: Tensor<4>, sigma: f64| {
        let [skip, out, scale, noise] = peer_protocol::edm_factors(sigma);
        let raw = net.forward(x.clone() * scale, Tensor::full([sizes.batch], noise, &on));
        (x * (1.0 - skip) - raw * out) / sigma
    };
    let levels = peer_protocol::edm_levels();
    Box::new(move || {
        let mut x = normal([sizes.batch, 1, 32, 32], &device) * levels[0];
        for pair in levels.windows(2) {
            let (sigma, following) = (pair[0], pair[1]);
            let d = slope(x.clone(), sigma);
            let euler = x.clone() + d.clone() * (following - sigma);
            x = if following == 0.0 { euler } else { x + (d + slope(euler, following)) * (0.5 * (following - sigma)) };
        }
        first(x)
    })
}
