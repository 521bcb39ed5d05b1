use crate::lanes::tests::Vectors;
use crate::ops::group_norm::Activation;
use crate::{Dtype, Noise, Tensor, check, grad};

fn sample(shape: &[usize], step: u32) -> Tensor {
    Noise::new(29, 0).normal(shape, 0, step, Dtype::F64)
}

/// Rows, inputs, outputs: from one of each to several pieces.
const SMALL: [[usize; 3]; 5] = [[1, 1, 1], [5, 3, 4], [3, 7, 17], [9, 2, 33], [20, 16, 1]];
const ACTIVATIONS: [Activation; 2] = [Activation::None, Activation::Silu];

fn inputs([rows, k, n]: [usize; 3]) -> [Tensor; 4] {
    [sample(&[rows, k], 0), sample(&[k, n], 1), sample(&[n], 2), sample(&[rows, n], 3)]
}

/// From other operations.
fn composed(t: &[Tensor], activation: Activation) -> Tensor {
    let z = &t[0].matmul(&t[1]) + &t[2];
    let z = t.get(3).map_or(z.clone(), |r| &z + r);
    if activation == Activation::Silu { z.silu() } else { z }
}

fn fused(t: &[Tensor], activation: Activation) -> Tensor {
    t[0].linear_with(&t[1], &t[2], t.get(3), activation)
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.to_vec::<f64>().iter().zip(b.to_vec::<f64>()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The value, and the gradients of its product with a fixed tensor.
fn all(f: impl Fn(&[Tensor], Activation) -> Tensor, t: &[Tensor], activation: Activation) -> Vec<Tensor> {
    let leaves: Vec<Tensor> = t.iter().map(Tensor::track).collect();
    let y = f(&leaves, activation);
    let v = sample(y.shape(), 4).to(y.dtype());
    let mut all = grad((&y * &v).sum_all(), &leaves.iter().collect::<Vec<_>>());
    all.push(y.detach());
    all
}

#[test]
fn the_linear_layer_passes_the_op_checks_with_and_without_all_that_is_fused() {
    for size in SMALL {
        let all = inputs(size);
        for activation in ACTIVATIONS {
            for n in [3, 4] {
                let name = format!("linear {size:?} {activation:?} of {n} inputs");
                check::op(&name, |t| fused(t, activation), &all[..n]);
                for alone in 0..n {
                    let f = |t: &[Tensor]| {
                        let mut inputs = all[..n].to_vec();
                        inputs[alone] = t[0].clone();
                        fused(&inputs, activation)
                    };
                    check::op(&format!("{name}: {alone} alone"), f, &all[alone..=alone]);
                }
            }
        }
    }
}

#[test]
fn values_and_gradients_are_those_of_the_separate_operations_for_every_width_of_vectors() {
    for size in SMALL {
        for activation in ACTIVATIONS {
            for n in [3, 4] {
                let t = &inputs(size)[..n];
                let expected = all(composed, t, activation);
                let single: Vec<Tensor> = t.iter().map(|t| t.to(Dtype::F32)).collect();
                for &vectors in Vectors::ALL {
                    let (double, single) = vectors.with(|| (all(fused, t, activation), all(fused, &single, activation)));
                    for ((expected, double), single) in expected.iter().zip(&double).zip(&single) {
                        let scale = 1.0 + expected.abs().max_all().item();
                        assert!(distance(double, expected) < 1e-13 * scale, "{size:?} {activation:?} {vectors:?}");
                        assert!(distance(single, expected) < 3e-6 * scale, "{size:?} {activation:?} {vectors:?} in f32");
                    }
                }
                let untracked = fused(t, activation);
                assert!(distance(&untracked, &expected[n]) < 1e-13 * (1.0 + expected[n].abs().max_all().item()));
            }
        }
    }
}

#[test]
fn large_layers_agree_with_f64_and_have_the_same_bits_for_any_number_of_threads() {
    // Two pieces, many pieces in several parts, wide and few rows.
    for size in [[512, 256, 256], [7001, 64, 96], [40, 700, 900], [30_000, 3, 5]] {
        for activation in ACTIVATIONS {
            let t: Vec<Tensor> = inputs(size).iter().map(|t| t.to(Dtype::F32)).collect();
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| all(fused, &t, activation))
            };
            let one = run(1);
            for threads in [2, 5] {
                for (a, b) in one.iter().zip(run(threads)) {
                    assert!(a.to_vec::<f32>() == b.to_vec::<f32>(), "{size:?} {activation:?} on {threads} threads");
                }
            }
            let double: Vec<Tensor> = t.iter().map(|t| t.to(Dtype::F64)).collect();
            for (a, b) in one.iter().zip(all(composed, &double, activation)) {
                let scale = b.abs().max_all().item();
                assert!(distance(a, &b) < 1e-5 * scale, "{size:?} {activation:?}: {:e}", distance(a, &b) / scale);
            }
        }
    }
}

#[test]
fn one_row_may_be_added_to_all() {
    let [x, w, b, _] = inputs([5, 3, 4]);
    let row = sample(&[1, 4], 5);
    let expected = composed(&[x.clone(), w.clone(), b.clone(), row.clone()], Activation::Silu);
    assert!(distance(&fused(&[x.clone(), w.clone(), b.clone(), row.clone()], Activation::Silu), &expected) < 1e-14);
    check::op("linear with one row added", |t| fused(t, Activation::Silu), &[x, w, b, row]);
}

#[test]
fn no_rows_give_no_results_and_zero_gradients() {
    let t = inputs([0, 3, 4]);
    let all = all(fused, &t, Activation::Silu);
    assert_eq!(all[4].shape(), [0, 4]);
    assert_eq!(all[1].to_vec::<f64>(), [0.0; 12]);
    assert_eq!(all[2].to_vec::<f64>(), [0.0; 4]);
}

#[test]
#[should_panic(expected = "linear: addend of shape [3, 4] for a result of shape [2, 4]")]
fn an_addend_of_another_shape_is_refused() {
    let t = |shape: &[usize]| Tensor::zeros(shape, Dtype::F32);
    t(&[2, 3]).linear_with(&t(&[3, 4]), &t(&[4]), Some(&t(&[3, 4])), Activation::None);
}

#[test]
fn products_side_by_side_are_those_taken_one_after_the_other() {
    // From one row to several pieces, alone and with an addend that depends on the input too.
    for size @ [rows, k, n] in [[1, 1, 1], [5, 3, 4], [3, 7, 17], [300, 128, 128], [9, 5, 5]] {
        let t = inputs(size);
        for activation in ACTIVATIONS {
            for with_addend in [false, true] {
                let f = |x: &Tensor| {
                    let addend = if with_addend { x.slice(1, 0..1).broadcast_to(&[rows, n]).square() } else { t[3].clone() };
                    x.linear_with(&t[1], &t[2], Some(&addend), activation)
                };
                let (_, jacobian) = crate::linearize(f, &t[0]);
                let vectors: Vec<Tensor> = (0..3).map(|i| sample(&[rows, n], 10 + i)).collect();
                let together = jacobian.vjps(&vectors);
                assert_eq!(together.len(), 3);
                for (v, found) in vectors.iter().zip(&together) {
                    let expected = jacobian.vjp(v);
                    assert_eq!(found.shape(), [rows, k]);
                    assert!(
                        distance(found, &expected) < 1e-13 * (1.0 + expected.abs().max_all().item()),
                        "{size:?} {activation:?}"
                    );
                }
            }
        }
    }
    // Of a function that does not depend on its input.
    let (_, jacobian) = crate::linearize(|_| sample(&[2, 3], 1), &sample(&[2, 3], 0));
    let found = jacobian.vjps(&[sample(&[2, 3], 2), sample(&[2, 3], 3)]);
    assert!(found.len() == 2 && found.iter().all(|v| v.to_vec::<f64>() == [0.0; 6]));
    assert!(jacobian.vjps(&[]).is_empty());
}
