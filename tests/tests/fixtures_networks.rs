//! The networks of `fokker-models` against PyTorch: outputs, and the gradients of every parameter and of the input.

mod fixture;

use fixture::{Case, Fixture};
use fokker_models::{DiffusionModel, MlpConfig, ModelConfig, Network, NetworkConfig, UNetConfig};
use fokker_nn::{Module, value_and_grad};
use fokker_tensor::{Dtype, Tensor, linearize};

/// The network with the parameters of the case.
fn load(case: &Case, network: NetworkConfig) -> Network {
    let config = ModelConfig {
        sample_shape: case.tensor("x").shape()[1..].to_vec(),
        classes: Some(case.count("classes")),
        sde: Default::default(),
        preconditioning: Default::default(),
        learned_variance: false,
        network,
    };
    let mut network = DiffusionModel::new(config, 0, Dtype::F64).expect("a valid configuration").network;
    let paths: Vec<String> = network.parameters().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths.len(), case.keys_starting_with("p.").len(), "{}: {paths:?}", case.name);
    for (path, parameter) in paths.iter().zip(network.tensors_mut()) {
        let given = case.tensor(&format!("p.{path}"));
        assert_eq!(parameter.shape(), given.shape(), "{}/p.{path}", case.name);
        *parameter = given;
    }
    network
}

fn compare(case: &Case, network: NetworkConfig) {
    let network = load(case, network);
    let (noise, classes) = (case.tensor("noise").to_vec::<f64>(), case.indices("classes"));
    for (dtype, tolerance) in [(Dtype::F64, 1e-10), (Dtype::F32, 5e-5)] {
        let network = network.to(dtype);
        let (x, dy) = (case.tensor("x").to(dtype), case.tensor("dy").to(dtype));
        let (y, jacobian) = linearize(|x| network.forward(x, &noise, Some(&classes)), &x);
        case.assert_close("y", &y, tolerance);
        case.assert_close("dx", &jacobian.vjp(&dy), tolerance);
        let loss = |network: &Network| -> Tensor { (&network.forward(&x, &noise, Some(&classes)) * &dy).sum_all() };
        let (_, gradients) = value_and_grad(&network, loss);
        for (path, gradient) in gradients.parameters() {
            case.assert_close(&format!("dp.{path}"), gradient, tolerance);
        }
    }
}

#[test]
fn the_unet_and_its_gradients_are_those_of_diffusers() {
    let fixture = Fixture::load("networks");
    let case = fixture.case("unet");
    let config = |recompute| UNetConfig {
        patch: 1,
        channels: case.counts("channels"),
        blocks: case.count("blocks"),
        attention_levels: case.counts("attention_levels"),
        middle_attention: true,
        head_channels: case.count("head_channels"),
        groups: case.count("groups"),
        embedding_factor: 4,
        recompute,
    };
    compare(&case, NetworkConfig::UNet(config(false)));
    compare(&case, NetworkConfig::UNet(config(true)));
}

#[test]
fn the_mlp_and_its_gradients_are_those_of_its_equations() {
    let fixture = Fixture::load("networks");
    let case = fixture.case("mlp");
    let (hidden, blocks, embedding) = (case.count("hidden"), case.count("blocks"), case.count("embedding"));
    for recompute in [false, true] {
        compare(&case, NetworkConfig::Mlp(MlpConfig { hidden, blocks, embedding, recompute }));
    }
}

#[test]
fn the_benchmarks_unet_has_as_many_parameters_as_that_of_diffusers() {
    let network = NetworkConfig::UNet(UNetConfig {
        patch: 1,
        channels: vec![32, 64, 128, 128],
        blocks: 2,
        attention_levels: vec![2],
        middle_attention: true,
        head_channels: 8,
        groups: 8,
        embedding_factor: 4,
        recompute: false,
    });
    let config = ModelConfig {
        sample_shape: vec![32, 32, 1],
        classes: None,
        sde: Default::default(),
        preconditioning: Default::default(),
        learned_variance: false,
        network,
    };
    let model = DiffusionModel::new(config, 0, Dtype::F32).expect("a valid configuration");
    // `tests/reference/bench/peers.py --describe`
    assert_eq!(model.parameter_count(), 6_337_345);
}
