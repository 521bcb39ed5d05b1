//! The benchmark's workloads in candle, on its own matrix products (no MKL).

mod networks;

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use networks::{Block, Mlp, Names, UNet};
use peer_protocol::{BLOCK, BLOCK_PARAMETERS, Call, MLP, MLP_PARAMETERS, Unsupported};

const CPU: Device = Device::Cpu;

fn normal(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1.0, shape, &CPU)
}

fn first(t: &Tensor) -> Result<f32> {
    t.flatten_all()?.get(0)?.to_scalar()
}

fn main() {
    let parameters =
        |name: &str| network(&format!("{name}-train")).expect("a network").1.all_vars().iter().map(|v| v.elem_count()).sum();
    peer_protocol::run("candle", |workload| call(workload).map_err(|e| e.to_string()), parameters);
}

/// What a network makes of its input.
type Forward = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

/// A workload's network and its variables.
fn network(workload: &str) -> Result<(Forward, VarMap)> {
    if workload.ends_with("train") {
        let varmap = VarMap::new();
        let net = build(workload, true, &mut Names::new(VarBuilder::from_varmap(&varmap, DType::F32, &CPU)))?;
        return Ok((net, varmap));
    }
    constant(|names| build(workload, false, names))
}

/// A network of constants instead of variables, as one that was read from a file is: nothing is recorded.
fn constant<N>(build: impl Fn(&mut Names<'_>) -> Result<N>) -> Result<(N, VarMap)> {
    let varmap = VarMap::new();
    build(&mut Names::new(VarBuilder::from_varmap(&varmap, DType::F32, &CPU)))?;
    let constants: HashMap<String, Tensor> =
        varmap.data().lock().expect("one thread").iter().map(|(name, var)| (name.clone(), var.as_tensor().detach())).collect();
    Ok((build(&mut Names::new(VarBuilder::from_tensors(constants, DType::F32, &CPU)))?, varmap))
}

fn build(workload: &str, training: bool, names: &mut Names<'_>) -> Result<Forward> {
    if let Some(sizes) = peer_protocol::unet(workload) {
        let (net, t) = (UNet::new(names, &sizes, training)?, Tensor::full(0.5f32, sizes.batch, &CPU)?);
        return Ok(Box::new(move |x| net.forward(x, &t)));
    }
    if workload.starts_with("block") {
        let net = Block::new(names, training)?;
        return Ok(Box::new(move |x| net.forward(x)));
    }
    let net = Mlp::new(names)?;
    Ok(Box::new(move |x| net.forward(x)))
}

/// Shape of the input and of the output.
fn shapes(workload: &str) -> (Vec<usize>, Vec<usize>) {
    if let Some(sizes) = peer_protocol::unet(workload) {
        let shape = vec![sizes.batch, sizes.pixels, 32, 32];
        return (shape.clone(), shape);
    }
    if workload.starts_with("block") {
        return (BLOCK.2.to_vec(), BLOCK.2.to_vec());
    }
    let batch = if workload.ends_with("train") { 512 } else { 10_000 };
    (vec![batch, MLP[0]], vec![batch, 2])
}

fn call(workload: &str) -> std::result::Result<Call, Unsupported> {
    let made = match workload {
        "mlp-sample" => sample_points(),
        "mnist-sample" => sample_images(),
        _ => plain(workload),
    };
    made.map_err(|e| e.to_string())
}

fn plain(workload: &str) -> Result<Call> {
    let (forward, varmap) = network(workload)?;
    let expected = peer_protocol::unet(workload)
        .map_or(if workload.starts_with("mlp") { MLP_PARAMETERS } else { BLOCK_PARAMETERS }, |u| u.parameters);
    let found: usize = varmap.all_vars().iter().map(|v| v.elem_count()).sum();
    assert_eq!(found, expected, "{workload}: parameters");
    let (inputs, outputs) = shapes(workload);
    let (x, y) = (normal(&inputs)?, normal(&outputs)?);
    if !workload.ends_with("train") {
        return Ok(Box::new(move || first(&forward(&x).expect("a forward pass")).expect("a value")));
    }
    let mut adam = AdamW::new(varmap.all_vars(), ParamsAdamW { lr: 1e-4, ..ParamsAdamW::default() })?;
    let mut step = move || -> Result<f32> {
        let loss = candle_nn::loss::mse(&forward(&x)?, &y)?;
        adam.backward_step(&loss)?;
        loss.to_scalar()
    };
    // What candle cannot differentiate it says at the first step.
    step()?;
    Ok(Box::new(move || step().expect("a step")))
}

fn sample_points() -> Result<Call> {
    let (forward, _) = network("mlp-forward")?;
    let frequencies = Tensor::new(peer_protocol::frequencies(64), &CPU)?;
    let steps = peer_protocol::euler_maruyama(500);
    let draw = move || -> Result<f32> {
        let mut x = normal(&[10_000, 2])?;
        for &(t, [a, b, c]) in &steps {
            let angles = (&frequencies * (100.0 * t))?;
            let features = Tensor::cat(&[angles.cos()?, angles.sin()?], 0)?.broadcast_as((10_000, 64))?;
            let epsilon = forward(&Tensor::cat(&[&x, &features.contiguous()?], 1)?)?;
            x = (((x * a)? - (epsilon * b)?)? + (normal(&[10_000, 2])? * c)?)?;
        }
        first(&x)
    };
    Ok(Box::new(move || draw().expect("samples")))
}

fn sample_images() -> Result<Call> {
    let sizes = peer_protocol::unet("mnist-sample").expect("a U-Net");
    let (net, _) = constant(|names| UNet::new(names, &sizes, false))?;
    let slope = move |x: &Tensor, sigma: f64| -> Result<Tensor> {
        let [skip, out, scale, noise] = peer_protocol::edm_factors(sigma);
        let raw = net.forward(&(x * scale)?, &Tensor::full(noise as f32, sizes.batch, &CPU)?)?;
        ((x * (1.0 - skip))? - (raw * out)?)? / sigma
    };
    let levels = peer_protocol::edm_levels();
    let draw = move || -> Result<f32> {
        let mut x = (normal(&[sizes.batch, 1, 32, 32])? * levels[0])?;
        for pair in levels.windows(2) {
            let (sigma, following) = (pair[0], pair[1]);
            let d = slope(&x, sigma)?;
            let euler = (&x + (&d * (following - sigma))?)?;
            x = if following == 0.0 { euler } else { (&x + ((d + slope(&euler, following)?)? * (0.5 * (following - sigma)))?)? };
        }
        first(&x)
    };
    Ok(Box::new(move || draw().expect("samples")))
}
