//! A network that is trained in `f32`, its convolutions by Winograd's way, learns what one in `f64` does, whose convolutions are direct.

use fokker_models::{DiffusionModel, ModelConfig, NetworkConfig, UNetConfig};
use fokker_nn::{Adam, AdamConfig, Module, value_and_grad};
use fokker_sde::{Cond, Edm, Preconditioning, Times};
use fokker_tensor::{Dtype, Noise, Tensor};

/// Of the losses' relative differences, eight times what is found.
const BOUND: f64 = 1e-5;
const STEPS: u32 = 60;
const BATCH: usize = 8;
const SIDE: usize = 8;

/// All 3×3 convolutions but the first and the last have 16 channels or more on both sides, and images of whole tiles.
fn model() -> DiffusionModel {
    let network = UNetConfig { channels: vec![16, 32], blocks: 1, groups: 4, head_channels: 16, ..UNetConfig::default() };
    let config = ModelConfig {
        sample_shape: vec![SIDE, SIDE, 1],
        classes: None,
        sde: Edm::default().into(),
        preconditioning: Preconditioning::default(),
        learned_variance: false,
        network: NetworkConfig::UNet(network),
    };
    let mut model = DiffusionModel::new(config, 0, Dtype::F32).unwrap();
    // Adam makes whole steps of whatever is not zero: filters that start at zero would hide errors at first and then blow them up.
    for (i, t) in model.tensors_mut().into_iter().enumerate() {
        *t = &*t + &(&Noise::new(7, i as u64).normal(&[1, t.len()], 0, 0, Dtype::F32).reshape(t.shape()) * 0.05);
    }
    model
}

/// Images of a rank-one pattern each, rows times columns: a few batches, again and again.
fn images(step: u32) -> Tensor {
    let step = step % 3;
    let draw =
        |part: u32, shape: &[usize]| Noise::new(8, u64::from(part)).normal(&[BATCH, SIDE], 0, step, Dtype::F32).reshape(shape);
    &(&draw(0, &[BATCH, SIDE, 1, 1]) * &draw(1, &[BATCH, 1, SIDE, 1])) * 0.5
}

/// The parameters, with every filter that goes by Winograd's way moved by `error` times the size of a new one's weights.
fn deviating(model: &DiffusionModel, error: f64) -> DiffusionModel {
    if error == 0.0 {
        return model.clone();
    }
    model.map(|w| match *w.shape() {
        [3, 3, c_in, c_out] if c_in.min(c_out) >= 16 => {
            let noise = Noise::new(10, 0).normal(&[1, w.len()], 0, 0, w.dtype()).reshape(w.shape());
            w + &(&noise * (error / (9.0 * c_in as f64).sqrt()))
        }
        _ => w.clone(),
    })
}

/// The losses of a training in this type, from the same weights on the same noised images, by convolutions that are wrong by `error`.
fn curve(dtype: Dtype, error: f64) -> Vec<f64> {
    let mut model = model().to(dtype);
    let mut adam = Adam::new(&model, AdamConfig::default());
    let times = Times::Each((0..BATCH).map(|i| 0.1 * 1.5f64.powi(i as i32)).collect());
    let config = model.config.clone();
    let of = |t: f64| config.preconditioning.coefficients(&config.sde, t);
    (0..STEPS)
        .map(|step| {
            let x_0 = images(step).to(dtype);
            let epsilon = Noise::new(9, 0).normal(x_0.shape(), 0, step % 3, Dtype::F32).to(dtype);
            let x_t = &x_0 + &times.scale(&epsilon, |sigma| sigma);
            let target = times.scale(&(&x_0 - &times.scale(&x_t, |t| of(t).skip)), |t| 1.0 / of(t).out);
            let (loss, grads) =
                value_and_grad(&model, |m| (&deviating(m, error).raw(&x_t, &times, &Cond::NONE) - &target).square().mean_all());
            adam.step(&mut model, &grads, 3e-4, 1.0);
            loss
        })
        .collect()
}

/// The largest relative difference of two curves' losses.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max)
}

#[test]
fn the_losses_of_sixty_steps_in_f32_by_winograd_are_those_in_f64_by_direct_convolutions() {
    let (single, double) = (curve(Dtype::F32, 0.0), curve(Dtype::F64, 0.0));
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&double[..6]), mean(&double[54..]));
    let (found, wrong) = (distance(&single, &double), [1e-3, 1e-4].map(|error| distance(&curve(Dtype::F64, error), &double)));
    println!("from {first} to {last}: differences of {found:e}, of wrong convolutions {wrong:?}");
    assert!(last < 0.6 * first, "the network learns: {double:?}");
    assert!(found < BOUND, "losses differ by {found:e}");
    // That says something: convolutions that are wrong by a thousandth, or by a tenth of that, are seen.
    assert!(wrong[0] > 20.0 * BOUND && wrong[1] > 3.0 * BOUND, "{wrong:?}");
}
