//! The checks every differentiable operation passes.

use crate::element::Dtype;
use crate::graph::{grad, linearize};
use crate::noise::Noise;
use crate::tensor::{Tensor, count};

/// Checks the derivatives of `f` at `inputs` (all `f64`):
///
/// - `jvp` against central differences, relative error 1e-6;
/// - `⟨v, J u⟩ = ⟨Jᵀ v, u⟩` to 1e-12;
/// - reverse mode over a recorded `jvp` against central differences of the `jvp`, relative error 1e-6.
///
/// Inputs must be at least about 1e-3 away from kinks of `f`.
///
/// # Panics
/// If a check fails; the message says which, with both sides.
#[track_caller]
pub fn op(name: &str, f: impl Fn(&[Tensor]) -> Tensor, inputs: &[Tensor]) {
    for x in inputs {
        assert_eq!(x.dtype(), Dtype::F64, "{name}: checks are in f64");
    }
    // All inputs as one vector, so that they move together.
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|x| x.shape().to_vec()).collect();
    let unpack = |flat: &Tensor| -> Vec<Tensor> {
        let mut start = 0;
        shapes
            .iter()
            .map(|shape| {
                let range = start..start + count(shape);
                start = range.end;
                flat.slice(0, range).reshape(shape)
            })
            .collect()
    };
    let flats: Vec<Tensor> = inputs.iter().map(|x| x.reshape(&[x.len()])).collect();
    let x = Tensor::concat(&flats.iter().collect::<Vec<_>>(), 0);
    let apply = |x: &Tensor| f(&unpack(x));

    let noise = Noise::new(0x0c4e_c0de, 1);
    let direction = |n: usize, step: u32| noise.normal(&[1, n], 0, step, Dtype::F64).reshape(&[n]);
    let u = direction(x.len(), 0);
    let (y, jacobian) = linearize(apply, &x);
    let v = direction(y.len(), 1).reshape(y.shape());
    let plain = apply(&x);
    assert_eq!(plain.to_vec::<f64>(), y.to_vec::<f64>(), "{name}: the value changes when it is recorded");

    let ju = jacobian.jvp(&u);
    assert_eq!(ju.shape(), y.shape(), "{name}: shape of the jvp");
    let h = 1e-5;
    let central = |g: &dyn Fn(&Tensor) -> Tensor| &(&g(&(&x + &(&u * h))) - &g(&(&x - &(&u * h)))) * (0.5 / h);
    close(name, "jvp against central differences", &ju, &central(&apply), 1e-6);

    let jv = jacobian.vjp(&v);
    assert_eq!(jv.shape(), x.shape(), "{name}: shape of the vjp");
    let (left, right) = (dot(&v, &ju), dot(&jv, &u));
    let scale = norm(&v) * norm(&ju) + norm(&jv) * norm(&u) + 1e-30;
    assert!((left - right).abs() <= 1e-12 * scale, "{name}: ⟨v, Ju⟩ = {left} but ⟨Jᵀv, u⟩ = {right}");

    // d/dx ⟨v, J(x) u⟩, in the direction w, both ways.
    let w = direction(x.len(), 2);
    let leaf = x.track();
    let (_, jacobian) = linearize(apply, &leaf);
    let inner = (&jacobian.jvp_recorded(&u) * &v).sum_all();
    let reverse = grad(inner, &[&leaf]).remove(0);
    let at = |x: &Tensor| dot(&linearize(apply, x).1.jvp(&u), &v);
    let difference = (at(&(&x + &(&w * h))) - at(&(&x - &(&w * h)))) * (0.5 / h);
    let got = dot(&reverse, &w);
    let scale = difference.abs().max(got.abs()).max(norm(&v) * norm(&ju)).max(1e-6);
    assert!((got - difference).abs() <= 1e-6 * scale, "{name}: reverse over jvp gives {got}, differences give {difference}");
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).sum_all().item()
}

fn norm(a: &Tensor) -> f64 {
    dot(a, a).sqrt()
}

#[track_caller]
fn close(name: &str, what: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
    let error = norm(&(got - expected));
    let scale = norm(expected).max(norm(got)).max(1e-6);
    assert!(
        error <= tolerance * scale,
        "{name}: {what}: difference {error:e} for a norm of {scale:e}\n got {got:?}\nwant {expected:?}"
    );
}
