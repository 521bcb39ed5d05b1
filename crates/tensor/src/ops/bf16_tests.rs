//! Every operation on tensors of `bf16` against the same in `f64` on the same, rounded numbers: one rounding of the result and the rounding of
//! sums in `f32` are all that may lie between, forward and in the derivatives.

use super::conv2d::Conv2d;
use super::group_norm::Activation;
use crate::pairs::tests::PORTABLE;
use crate::{Bf16, Dtype, Noise, Tensor, checkpoint, grad, linearize};

/// Half the distance of two neighbours, relative to the smaller.
const ROUNDING: f64 = 1.0 / 256.0;

fn sample(shape: &[usize], step: u32) -> Tensor {
    let n = shape.iter().product();
    (&Noise::new(61, 0).normal(&[1, n], 0, step, Dtype::F64).reshape(shape) + 0.2).to(Dtype::Bf16)
}

type Case = (&'static str, &'static [&'static [usize]], fn(&[Tensor]) -> Tensor, f64);

const STRIDED: Conv2d = Conv2d { stride: (2, 2), padding: (1, 1) };

/// (name, shapes, operation, what else may differ as a part of the largest number: the roundings of sums, and of what is kept or used rounded.)
const CASES: &[Case] = &[
    ("linear", &[&[3, 5, 19], &[19, 33], &[33]], |t| t[0].linear(&t[1], Some(&t[2])), 1e-5),
    ("linear of many rows", &[&[700, 64], &[64, 48], &[48]], |t| t[0].linear(&t[1], Some(&t[2])), 1e-5),
    ("linear without a bias", &[&[4, 6], &[6, 3]], |t| t[0].linear(&t[1], None), 1e-5),
    (
        "linear, addend",
        &[&[4, 6], &[6, 3], &[3], &[4, 3]],
        |t| t[0].linear_with(&t[1], &t[2], Some(&t[3]), Activation::None),
        1e-5,
    ),
    // The activation's slope is taken where the argument was rounded to.
    ("linear, silu", &[&[4, 6], &[6, 3], &[3], &[4, 3]], |t| t[0].linear_with(&t[1], &t[2], Some(&t[3]), Activation::Silu), 4e-3),
    (
        "convolution, many channels",
        &[&[2, 9, 8, 17], &[3, 3, 17, 19], &[19]],
        |t| t[0].conv2d(&t[1], Some(&t[2]), Conv2d::same(3, 3)),
        2e-5,
    ),
    (
        "convolution, few tiles of many channels",
        &[&[1, 8, 8, 96], &[3, 3, 96, 80]],
        |t| t[0].conv2d(&t[1], None, Conv2d::same(3, 3)),
        2e-5,
    ),
    ("convolution, stride 2", &[&[2, 9, 8, 6], &[3, 3, 6, 10], &[10]], |t| t[0].conv2d(&t[1], Some(&t[2]), STRIDED), 1e-5),
    (
        "convolution from one channel",
        &[&[3, 7, 6, 1], &[3, 3, 1, 20], &[20]],
        |t| t[0].conv2d(&t[1], Some(&t[2]), Conv2d::same(3, 3)),
        1e-5,
    ),
    (
        "convolution to one channel",
        &[&[2, 7, 6, 16], &[3, 3, 16, 1], &[1]],
        |t| t[0].conv2d(&t[1], Some(&t[2]), Conv2d::same(3, 3)),
        1e-5,
    ),
    (
        "convolution, many channels, residual",
        &[&[2, 9, 8, 17], &[3, 3, 17, 19], &[19], &[2, 9, 8, 19]],
        |t| t[0].conv2d_plus(&t[1], Some(&t[2]), Conv2d::same(3, 3), &t[3]),
        2e-5,
    ),
    (
        "convolution, many channels, a shift of each sample",
        &[&[2, 9, 8, 17], &[3, 3, 17, 19], &[19], &[2, 1, 1, 19]],
        |t| t[0].conv2d_plus(&t[1], Some(&t[2]), Conv2d::same(3, 3), &t[3]),
        2e-5,
    ),
    (
        "convolution, stride 2, residual",
        &[&[2, 9, 8, 6], &[3, 3, 6, 10], &[2, 5, 4, 10]],
        |t| t[0].conv2d_plus(&t[1], None, STRIDED, &t[2]),
        1e-5,
    ),
    (
        "convolution to one channel, a shift of each sample",
        &[&[2, 7, 6, 16], &[3, 3, 16, 1], &[1], &[2, 1, 1, 1]],
        |t| t[0].conv2d_plus(&t[1], Some(&t[2]), Conv2d::same(3, 3), &t[3]),
        1e-5,
    ),
    ("1×1 convolution", &[&[2, 3, 4, 6], &[1, 1, 6, 5], &[5]], |t| t[0].conv2d(&t[1], Some(&t[2]), Conv2d::VALID), 1e-5),
    (
        "transposed convolution",
        &[&[2, 5, 4, 6], &[3, 3, 4, 6], &[4]],
        |t| t[0].conv_transpose2d(&t[1], Some(&t[2]), STRIDED, (9, 8)),
        1e-5,
    ),
    ("depthwise convolution", &[&[2, 5, 4, 6], &[3, 3, 6], &[6]], |t| t[0].depthwise_conv2d(&t[1], Some(&t[2]), STRIDED), 1e-5),
    ("group norm", &[&[2, 5, 3, 12], &[12], &[12]], |t| t[0].group_norm(3, Some((&t[1], &t[2])), 1e-5, Activation::None), 1e-5),
    (
        "group norm, silu",
        &[&[3, 7, 6, 40], &[40], &[40]],
        |t| t[0].group_norm(4, Some((&t[1], &t[2])), 1e-5, Activation::Silu),
        1e-5,
    ),
    ("layer norm", &[&[3, 24], &[24], &[24]], |t| t[0].layer_norm(Some((&t[1], &t[2])), 1e-5), 1e-5),
    ("rms norm", &[&[3, 24], &[24]], |t| t[0].rms_norm(Some(&t[1]), 1e-5), 1e-5),
    // Probabilities are rounded before they weigh the values; derivatives use the rounded output.
    ("attention", &[&[2, 9, 2, 6], &[2, 11, 2, 6], &[2, 11, 2, 6]], |t| Tensor::attention(&t[0], &t[1], &t[2], None), 4e-3),
    ("softmax", &[&[3, 17]], |t| t[0].softmax(), 1e-5),
    ("add", &[&[2, 3, 5], &[3, 1]], |t| &t[0] + &t[1], 1e-5),
    ("add of equal shapes", &[&[2, 3], &[2, 3]], |t| &t[0] + &t[1], 1e-5),
    ("sub", &[&[2, 3, 5], &[5]], |t| &t[0] - &t[1], 1e-5),
    ("mul", &[&[2, 3, 5], &[2, 1, 1]], |t| &t[0] * &t[1], 1e-5),
    ("silu", &[&[40]], |t| t[0].silu(), 1e-5),
    ("gelu", &[&[40]], |t| t[0].gelu(), 1e-5),
    ("times a number", &[&[40]], |t| &t[0] * 0.3, 1e-5),
    ("sum", &[&[4, 5, 6]], |t| t[0].sum(&[0, 2]), 1e-5),
    ("mean", &[&[4, 5, 6]], |t| t[0].mean_all(), 1e-5),
    ("max", &[&[4, 9]], |t| t[0].max(&[1]), 1e-5),
    ("up-sampling", &[&[2, 3, 2, 5]], |t| t[0].upsample_nearest(2, 2), 1e-5),
    ("pooling", &[&[2, 4, 6, 5]], |t| t[0].avg_pool2d(2, 3), 1e-5),
    ("gather", &[&[4, 3]], |t| t[0].gather(&[2, 0, 2]), 1e-5),
    ("broadcast_to", &[&[3, 1]], |t| t[0].broadcast_to(&[2, 3, 4]), 1e-5),
    (
        "moves",
        &[&[2, 3, 4], &[2, 1, 4]],
        |t| Tensor::concat(&[&t[0], &t[1]], 1).permute(&[2, 0, 1]).slice(0, 1..3).pad(2, 1, 2),
        1e-5,
    ),
];

fn wide(t: &Tensor) -> Tensor {
    t.to(Dtype::F64)
}

#[track_caller]
fn close(what: &str, got: &Tensor, exact: &Tensor, slack: f64) {
    assert_eq!((got.dtype(), got.shape()), (Dtype::Bf16, exact.shape()), "{what}");
    let scale = exact.abs().max_all().item();
    for (i, (got, exact)) in got.to_vec::<f64>().into_iter().zip(exact.to_vec::<f64>()).enumerate() {
        let bound = ROUNDING * exact.abs() + slack * scale;
        assert!(
            (got - exact).abs() <= bound,
            "{what}: {got} for {exact} at {i}, {} times what may be",
            (got - exact).abs() / bound
        );
    }
}

#[test]
fn every_operation_and_its_derivatives_are_those_of_f64_but_for_one_rounding() {
    for &(name, shapes, f, slack) in CASES {
        let inputs: Vec<Tensor> = shapes.iter().enumerate().map(|(i, shape)| sample(shape, i as u32)).collect();
        let exact: Vec<Tensor> = inputs.iter().map(wide).collect();
        let y = f(&inputs);
        close(name, &y, &f(&exact), slack);

        let v = sample(y.shape(), 90);
        let gradients = |inputs: &[Tensor], v: &Tensor| {
            let leaves: Vec<Tensor> = inputs.iter().map(Tensor::track).collect();
            let dtype = v.dtype();
            let loss = (&f(&leaves).to(Dtype::F64) * &wide(v)).sum_all();
            let grads = grad(loss, &leaves.iter().collect::<Vec<_>>());
            assert!(grads.iter().all(|g| g.dtype() == dtype), "{name}");
            grads
        };
        for (i, (got, exact)) in gradients(&inputs, &v).iter().zip(gradients(&exact, &wide(&v))).enumerate() {
            close(&format!("{name}: gradient {i}"), got, &exact, slack);
        }

        for (i, input) in inputs.iter().enumerate() {
            let with = |all: &[Tensor], x: &Tensor| {
                let mut all = all.to_vec();
                all[i] = x.clone();
                f(&all)
            };
            let u = sample(input.shape(), 91);
            let got = linearize(|x| with(&inputs, x), input).1.jvp(&u);
            let tangent = linearize(|x| with(&exact, x), &exact[i]).1.jvp(&wide(&u));
            // Two roundings where an operation is one of others.
            let moves = if name.starts_with("linear, silu") { 2.0 * slack } else { slack };
            close(&format!("{name}: tangent {i}"), &got, &tangent, moves + 1e-4);
        }
    }
}

/// A few of a network's operations, one after the other.
fn network(t: &[Tensor]) -> Tensor {
    let [x, w1, w2, w3, gamma, q] = t else { unreachable!("six tensors") };
    let h = x.conv2d(w1, None, Conv2d::same(3, 3)).group_norm(4, Some((gamma, gamma)), 1e-5, Activation::Silu);
    let h = h.conv2d(w2, None, STRIDED);
    let (b, height, width, c) = (h.dim(0), h.dim(1), h.dim(2), h.dim(3));
    let tokens =
        h.reshape(&[b, height * width, c]).linear_with(q, gamma, None, Activation::Silu).reshape(&[b, height * width, 2, c / 2]);
    let h = &h + &Tensor::attention(&tokens, &tokens, &tokens, None).reshape(h.shape());
    h.upsample_nearest(2, 2).conv2d(w3, None, Conv2d::same(3, 3))
}

fn tensors() -> [Tensor; 6] {
    let small = |shape: &[usize], step| (&sample(shape, step) * 0.1).detach();
    let w = [small(&[3, 3, 32, 32], 1), small(&[3, 3, 32, 32], 2), small(&[3, 3, 32, 1], 3)];
    let [w1, w2, w3] = w;
    [sample(&[5, 20, 24, 32], 0), w1, w2, w3, sample(&[32], 4), small(&[32, 32], 5)]
}

fn value_and_gradients(threads: usize, portable: bool) -> Vec<Vec<Bf16>> {
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(threads).start_handler(move |_| PORTABLE.set(portable)).build().unwrap();
    pool.install(|| {
        let leaves = tensors().map(|t| t.track());
        let y = network(&leaves);
        let mut all = grad(y.to(Dtype::F32).square().mean_all(), &leaves.each_ref());
        all.push(y.detach());
        all.iter().map(Tensor::to_vec::<Bf16>).collect()
    })
}

#[test]
fn values_and_gradients_have_the_same_bits_for_any_number_of_threads() {
    let bits = |threads| -> Vec<Vec<u16>> {
        value_and_gradients(threads, false).iter().map(|t| t.iter().map(|x| x.to_bits()).collect()).collect()
    };
    let one = bits(1);
    assert!(one == bits(2), "1 and 2 threads differ");
    assert!(one == bits(5), "1 and 5 threads differ");
}

#[test]
fn processors_without_instructions_for_it_compute_the_same_but_for_roundings() {
    for (own, portable) in value_and_gradients(2, false).iter().zip(value_and_gradients(2, true)) {
        let scale = own.iter().map(|x| x.to_f32().abs()).fold(0.0, f32::max);
        for (a, b) in own.iter().zip(&portable) {
            let (a, b) = (a.to_f32(), b.to_f32());
            assert!((a - b).abs() <= 0.02 * scale, "{a} and {b}, of numbers up to {scale}");
        }
    }
}

#[test]
fn what_is_computed_again_in_the_backward_pass_has_the_same_gradients() {
    let plain = |t: &[Tensor]| network(t).to(Dtype::F32).square().mean_all();
    let leaves = tensors().map(|t| t.track());
    let expected = grad(plain(&leaves), &leaves.each_ref());
    let loss = checkpoint(network, &leaves.each_ref()).to(Dtype::F32).square().mean_all();
    for (got, expected) in grad(loss, &leaves.each_ref()).iter().zip(expected) {
        assert!(got.to_vec::<Bf16>() == expected.to_vec::<Bf16>());
    }
}

#[test]
fn a_conversion_takes_gradients_back_to_the_type_it_came_from() {
    let x = Tensor::from_vec(&[2], vec![1.0f32, 3.0]).track();
    let y = x.to(Dtype::Bf16);
    let loss = (&y * &y).to(Dtype::F32).sum_all();
    let dx = grad(loss, &[&x]).remove(0);
    assert_eq!((dx.dtype(), dx.to_vec::<f32>()), (Dtype::F32, vec![2.0, 6.0]));
    assert_eq!(Tensor::from_f64(&[1], &[0.1], Dtype::Bf16).item(), 0.10009765625);
    assert!(!Tensor::full(&[3], f64::INFINITY, Dtype::Bf16).all_finite() && y.all_finite());
}

#[test]
#[should_panic(expected = "convert tensors of bf16 with `to(Dtype::F32)` first")]
fn what_has_no_use_for_it_says_what_to_use() {
    Noise::new(0, 0).normal(&[2, 2], 0, 0, Dtype::Bf16);
}
