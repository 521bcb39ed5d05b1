//! Convolutions against PyTorch: plain, depthwise, transposed.

mod fixture;

use std::collections::BTreeSet;

use fixture::{Case, Fixture};
use fokker_tensor::Tensor;
use fokker_tensor::ops::conv2d::Conv2d;

fn geometry(case: &Case) -> Conv2d {
    let ([down, right], [rows, columns]) = (case.pair("stride"), case.pair("pad"));
    Conv2d { stride: (down, right), padding: (rows, columns) }
}

fn check(op: &str, f: fn(&Case, &[Tensor]) -> Tensor) {
    for case in Fixture::load("convolutions").of(op) {
        case.check(&["x", "w", "b"], f);
    }
}

#[test]
fn convolutions_and_their_gradients_are_those_of_pytorch() {
    check("conv2d", |case, t| t[0].conv2d(&t[1], t.get(2), geometry(case)));
}

#[test]
fn depthwise_convolutions_and_their_gradients_are_those_of_pytorch() {
    check("depthwise_conv2d", |case, t| t[0].depthwise_conv2d(&t[1], t.get(2), geometry(case)));
}

#[test]
fn transposed_convolutions_and_their_gradients_are_those_of_pytorch() {
    check("conv_transpose2d", |case, t| {
        let size = case.tensor("y");
        t[0].conv_transpose2d(&t[1], t.get(2), geometry(case), (size.dim(1), size.dim(2)))
    });
}

#[test]
fn every_kind_of_convolution_in_the_fixture_is_compared() {
    let compared = BTreeSet::from(["conv2d", "depthwise_conv2d", "conv_transpose2d"]);
    assert_eq!(compared, Fixture::load("convolutions").ops());
}
