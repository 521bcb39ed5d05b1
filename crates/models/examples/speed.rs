//! scratch
use fokker_models::*;
use fokker_nn::*;
use fokker_sde::*;
use fokker_tensor::*;
use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let channels: Vec<usize> = a[1].split(',').map(|s| s.parse().unwrap()).collect();
    let blocks: usize = a[2].parse().unwrap();
    let side: usize = a[3].parse().unwrap();
    let batch: usize = a[4].parse().unwrap();
    let att: Vec<usize> =
        a.get(5).map(|s| s.split(',').filter(|s| !s.is_empty()).map(|s| s.parse().unwrap()).collect()).unwrap_or_default();
    let net = UNetConfig { channels, blocks, attention_levels: att, head_channels: 8, ..Default::default() };
    let config = ModelConfig {
        sample_shape: vec![side, side, 1],
        classes: None,
        sde: Default::default(),
        preconditioning: Default::default(),
        network: NetworkConfig::UNet(net),
    };
    let model = DiffusionModel::new(config, 0, Dtype::F32).unwrap();
    println!("params {}", model.parameter_count());
    let x = Noise::new(1, 0).normal(&[batch, side, side, 1], 0, 0, Dtype::F32);
    let t = Times::Each(vec![0.5; batch]);
    for _ in 0..4 {
        let s = Instant::now();
        let _ = model.denoise(&x, &t, &Cond::NONE);
        let f = s.elapsed();
        let s = Instant::now();
        let (_, g) = value_and_grad(&model, |m| m.raw(&x, &t, &Cond::NONE).square().mean_all());
        println!("forward {:?}, fwd+bwd {:?} {}", f, s.elapsed(), global_norm(&g));
    }
    let m = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", m.lines().find(|l| l.starts_with("VmHWM")).unwrap());
}
