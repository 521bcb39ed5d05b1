//! Elementwise functions, products and reductions against PyTorch.

mod fixture;

use std::collections::BTreeSet;

use fixture::{Case, Fixture};
use fokker_tensor::Tensor;

type Row = (&'static str, &'static [&'static str], fn(&Case, &[Tensor]) -> Tensor);

const ELEMENTWISE: &[Row] = &[
    ("exp", &["x"], |_, t| t[0].exp()),
    ("ln", &["x"], |_, t| t[0].ln()),
    ("sqrt", &["x"], |_, t| t[0].sqrt()),
    ("sin", &["x"], |_, t| t[0].sin()),
    ("cos", &["x"], |_, t| t[0].cos()),
    ("tanh", &["x"], |_, t| t[0].tanh()),
    ("sigmoid", &["x"], |_, t| t[0].sigmoid()),
    ("silu", &["x"], |_, t| t[0].silu()),
    ("gelu", &["x"], |_, t| t[0].gelu()),
    ("relu", &["x"], |_, t| t[0].relu()),
    ("softplus", &["x"], |_, t| t[0].softplus()),
    ("abs", &["x"], |_, t| t[0].abs()),
    ("neg", &["x"], |_, t| t[0].neg()),
    ("square", &["x"], |_, t| t[0].square()),
    ("powf", &["x"], |c, t| t[0].powf(c.number("p"))),
    ("clamp", &["x"], |c, t| t[0].clamp(c.number("lo"), c.number("hi"))),
];

const BINARY: &[Row] = &[
    ("add", &["a", "b"], |_, t| &t[0] + &t[1]),
    ("sub", &["a", "b"], |_, t| &t[0] - &t[1]),
    ("mul", &["a", "b"], |_, t| &t[0] * &t[1]),
    ("div", &["a", "b"], |_, t| &t[0] / &t[1]),
    ("minimum", &["a", "b"], |_, t| t[0].minimum(&t[1])),
    ("maximum", &["a", "b"], |_, t| t[0].maximum(&t[1])),
];

const PRODUCTS: &[Row] = &[
    ("matmul", &["a", "b"], |_, t| t[0].matmul(&t[1])),
    ("matmul_nt", &["a", "b"], |_, t| t[0].matmul_nt(&t[1])),
    ("matmul_tn", &["a", "b"], |_, t| t[0].matmul_tn(&t[1])),
    ("linear", &["x", "w", "b"], |_, t| t[0].linear(&t[1], t.get(2))),
];

const REDUCTIONS: &[Row] = &[
    ("sum", &["x"], |c, t| t[0].sum(&c.counts("axes"))),
    ("mean", &["x"], |c, t| t[0].mean(&c.counts("axes"))),
    ("max", &["x"], |c, t| t[0].max(&c.counts("axes"))),
    ("logsumexp", &["x"], |c, t| t[0].logsumexp(c.count("axis"))),
];

fn check(rows: &[Row]) {
    let fixture = Fixture::load("ops");
    for (op, leaves, f) in rows {
        for case in fixture.of(op) {
            case.check(leaves, f);
        }
    }
}

#[test]
fn elementwise_functions_and_their_gradients_are_those_of_pytorch() {
    check(ELEMENTWISE);
}

#[test]
fn arithmetic_with_broadcasting_and_its_gradients_are_those_of_pytorch() {
    check(BINARY);
}

#[test]
fn products_and_their_gradients_are_those_of_pytorch() {
    check(PRODUCTS);
}

#[test]
fn reductions_and_their_gradients_are_those_of_pytorch() {
    check(REDUCTIONS);
}

#[test]
fn every_operation_in_the_fixture_is_compared() {
    let compared: BTreeSet<&str> = [ELEMENTWISE, BINARY, PRODUCTS, REDUCTIONS].concat().iter().map(|r| r.0).collect();
    assert_eq!(compared, Fixture::load("ops").ops());
}
