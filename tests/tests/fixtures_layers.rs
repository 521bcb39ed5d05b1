//! Norms, softmax, attention, resampling and embeddings against PyTorch.

mod fixture;

use std::collections::BTreeSet;

use fixture::{Case, Fixture};
use fokker_nn::Sinusoidal;
use fokker_tensor::ops::group_norm::Activation;
use fokker_tensor::{Dtype, Tensor};

fn check(op: &str, leaves: &[&str], f: fn(&Case, &[Tensor]) -> Tensor) {
    for case in Fixture::load("layers").of(op) {
        case.check(leaves, f);
    }
}

/// Scale and shift, if the case has them.
fn affine(leaves: &[Tensor]) -> Option<(&Tensor, &Tensor)> {
    leaves.get(1).zip(leaves.get(2))
}

#[test]
fn group_norm_and_its_gradients_are_those_of_pytorch() {
    check("group_norm", &["x", "w", "b"], |case, t| {
        t[0].group_norm(case.count("groups"), affine(t), case.number("eps"), Activation::None)
    });
}

#[test]
fn group_norm_with_silu_and_its_gradients_are_those_of_pytorch() {
    check("group_norm_silu", &["x", "w", "b"], |case, t| {
        t[0].group_norm(case.count("groups"), affine(t), case.number("eps"), Activation::Silu)
    });
}

#[test]
fn layer_norm_and_its_gradients_are_those_of_pytorch() {
    check("layer_norm", &["x", "w", "b"], |case, t| t[0].layer_norm(affine(t), case.number("eps")));
}

#[test]
fn rms_norm_and_its_gradients_are_those_of_pytorch() {
    check("rms_norm", &["x", "w"], |case, t| t[0].rms_norm(t.get(1), case.number("eps")));
}

#[test]
fn softmax_and_its_gradients_are_those_of_pytorch() {
    check("softmax", &["x"], |_, t| t[0].softmax());
}

#[test]
fn attention_and_its_gradients_are_those_of_pytorch() {
    check("attention", &["q", "k", "v"], |case, t| {
        let scale = case.has_parameter("scale").then(|| case.number("scale"));
        Tensor::attention(&t[0], &t[1], &t[2], scale)
    });
}

#[test]
fn nearest_up_sampling_and_its_gradient_are_those_of_pytorch() {
    check("upsample_nearest", &["x"], |case, t| {
        let [down, right] = case.pair("factor");
        t[0].upsample_nearest(down, right)
    });
}

#[test]
fn average_pooling_and_its_gradient_are_those_of_pytorch() {
    check("avg_pool", &["x"], |case, t| {
        let [down, right] = case.pair("factor");
        t[0].avg_pool2d(down, right)
    });
}

#[test]
fn embedding_and_its_gradient_are_those_of_pytorch() {
    check("gather", &["w"], |case, t| t[0].gather(&case.indices("i")));
}

/// Cosines and sines, in the order the case asks for: `[B, 2F]` of angles `[B, F]`.
fn waves(case: &Case, cosines: &Tensor, sines: &Tensor) -> Tensor {
    let parts = if case.flag("flip_sin_to_cos") { [cosines, sines] } else { [sines, cosines] };
    Tensor::concat(&parts, 1)
}

#[test]
fn sinusoidal_embedding_is_that_of_diffusers() {
    for case in Fixture::load("layers").of("sinusoidal") {
        let (dim, shift) = (case.count("dim"), case.number("downscale_freq_shift"));
        let half = (dim / 2) as f64;
        // Frequencies P^(-k/(half - shift)) are ours with another longest period.
        let max_period = case.number("max_period").powf(half / (half - shift));
        let ours = Sinusoidal { channels: dim, max_period, scale: 1.0 };
        let times = case.tensor("t").to_vec::<f64>();
        for (dtype, tolerance) in [(Dtype::F64, 1e-12), (Dtype::F32, 1e-7)] {
            let y = ours.forward(&times, dtype);
            assert_eq!(y.dtype(), dtype);
            let y = waves(&case, &y.slice(1, 0..dim / 2), &y.slice(1, dim / 2..dim));
            case.assert_close("y", &y, tolerance);
        }
    }
}

#[test]
fn fourier_features_of_given_frequencies_and_their_gradients_are_those_of_pytorch() {
    check("fourier", &["t", "f"], |case, leaves| {
        let angles = &(&leaves[0].reshape(&[leaves[0].len(), 1]) * &leaves[1]) * std::f64::consts::TAU;
        waves(case, &angles.cos(), &angles.sin())
    });
}

#[test]
fn every_layer_in_the_fixture_is_compared() {
    let compared = BTreeSet::from([
        "attention",
        "avg_pool",
        "fourier",
        "gather",
        "group_norm",
        "group_norm_silu",
        "layer_norm",
        "rms_norm",
        "sinusoidal",
        "softmax",
        "upsample_nearest",
    ]);
    assert_eq!(compared, Fixture::load("layers").ops());
}
