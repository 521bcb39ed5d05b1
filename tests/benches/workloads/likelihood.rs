//! Log-densities of eight Gaussians under the network of points, with the same weights, points, ends and tolerances in every program.
//!
//! The network is trained here, from fixed seeds, and written with the points, and with their log-densities by the network in `f64` at
//! tolerances that leave nothing to be seen of them, to a file that all programs read. So each can say how far off it is.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use fokker_models::checkpoint::Checkpoint;
use fokker_nn::{Adam, AdamConfig, Module, value_and_grad};
use fokker_sde::{Cond, Times, VariancePreserving, diffuse};
use fokker_solve::{Integrator, Likelihood, LogDensity, Per, Prior, VariableAdams};
use fokker_tensor::{Dtype, Noise, Tensor};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::calls::{Call, Points};

pub(crate) const WORKLOAD: &str = "mlp-likelihood";
const T_MIN: f64 = 1e-3;

/// How good a program's answers are, and what they cost.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Accuracy {
    /// Of the network on the batch.
    pub(crate) evaluations: usize,
    /// Root of the mean square error of the log-densities, in nats.
    pub(crate) error: f64,
    /// The largest error, in nats.
    pub(crate) largest_error: f64,
}

/// What all programs are given.
struct Given {
    model: Points,
    /// `[256, 2]`.
    points: Tensor,
    exact: Vec<f64>,
}

/// Where it is written.
pub(crate) fn file() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("mlp-likelihood.safetensors")
}

/// Trains the network and writes the file.
pub(crate) fn prepare() -> Result<(), Failure> {
    let noise = Noise::new(7, 0);
    let mut model = model();
    train(&mut model, noise);
    let points = eight_gaussians(noise, 256, u32::MAX / 2);
    let wide = Points { network: model.network.clone().to(Dtype::F64), ..model.clone() };
    let exact = solve(&wide, &points.to(Dtype::F64), 1e-9).log_density;
    let mut checkpoint = Checkpoint::default();
    checkpoint.insert_module("network", &model.network);
    checkpoint.tensors.insert("points".into(), points);
    checkpoint.tensors.insert("log_density".into(), Tensor::from_f64(&[exact.len()], &exact, Dtype::F64));
    std::fs::write(file(), checkpoint.to_bytes()?)?;
    Ok(())
}

/// The call of the workload.
pub(crate) fn call() -> Result<Call, Failure> {
    let given = read()?;
    Ok(Box::new(move || drop(black_box(solve(&given.model, &given.points, 1e-5)))))
}

/// How good the answers of that call are.
pub(crate) fn accuracy() -> Result<Accuracy, Failure> {
    let Given { model, points, exact } = read()?;
    let found = solve(&model, &points, 1e-5);
    let errors: Vec<f64> = found.log_density.iter().zip(exact).map(|(found, exact)| (found - exact).abs()).collect();
    let mean_square = errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64;
    let largest_error = errors.into_iter().fold(0.0, f64::max);
    Ok(Accuracy { evaluations: found.nfe, error: mean_square.sqrt(), largest_error })
}

fn model() -> Points {
    Points::new(VariancePreserving { t_min: T_MIN, ..VariancePreserving::default() })
}

fn read() -> Result<Given, Failure> {
    if !file().is_file() {
        prepare()?;
    }
    let checkpoint = Checkpoint::read(&file())?;
    let tensor = |name: &str| checkpoint.tensors.get(name).ok_or_else(|| format!("{}: no `{name}`", file().display()));
    let mut model = model();
    checkpoint.load_module("network", &mut model.network, &file())?;
    Ok(Given { points: tensor("points")?.clone(), exact: tensor("log_density")?.to_vec::<f64>(), model })
}

/// As in other libraries: the density of what samples start from, and steps of one length for all.
fn solve(model: &Points, points: &Tensor, tolerance: f64) -> LogDensity {
    let adams = VariableAdams { rtol: tolerance, atol: tolerance, per: Per::Batch, ..VariableAdams::default() };
    let integrator = Integrator::Adams(adams);
    let likelihood = Likelihood { prior: Prior::Noise, integrator, ..Likelihood::default() };
    likelihood.log_density(model, points, &Cond::NONE, Noise::new(3, 0), 0).expect("a network of finite numbers")
}

/// A thousand steps on the prediction of the noise.
fn train(model: &mut Points, noise: Noise) {
    let mut adam = Adam::new(&model.network, AdamConfig::default());
    for step in 0..1000 {
        let x = eight_gaussians(noise, 512, 3 * step);
        let epsilon = noise.normal(&[512, 2], 0, 3 * step + 2, Dtype::F32);
        let u = noise.uniform(&[512, 1], 0, u32::MAX - step, Dtype::F64).to_vec::<f64>();
        let t = Times::Each(u.into_iter().map(|u| T_MIN + u * (1.0 - T_MIN)).collect());
        let x_t = diffuse(&model.sde, &t, &x, &epsilon);
        let points = model.clone();
        let (_, grads) = value_and_grad(&model.network, |network| {
            (&Points { network: network.clone(), ..points.clone() }.noise(&x_t, &t) - &epsilon).square().mean_all()
        });
        adam.step(&mut model.network, &grads, 2e-3, 1.0);
    }
}

/// Points on a circle of radius √2, of standard deviation 0.15 around eight places.
fn eight_gaussians(noise: Noise, n: usize, step: u32) -> Tensor {
    let mut x = noise.normal(&[n, 2], 0, step, Dtype::F64).to_vec::<f64>();
    let places = noise.uniform(&[n, 1], 0, step + 1, Dtype::F64).to_vec::<f64>();
    for (x, u) in x.chunks_mut(2).zip(places) {
        let angle = (u * 8.0).floor() * std::f64::consts::FRAC_PI_4;
        x[0] = std::f64::consts::SQRT_2 * angle.cos() + 0.15 * x[0];
        x[1] = std::f64::consts::SQRT_2 * angle.sin() + 0.15 * x[1];
    }
    Tensor::from_f64(&[n, 2], &x, Dtype::F32)
}
