//! Every fast path of `f32` beside `f64`, with every kind of vectors: the values, and the gradients of all inputs.
//!
//! An error is the largest difference over the largest magnitude of what it should be. That of `f64` itself is what the operations' own tests
//! establish, against definitions, differences and PyTorch. Convolutions of `f64` never go by Winograd's way, those of `f32` do where it suits.

use crate::lanes::tests::Vectors;
use crate::ops::conv2d::Conv2d;
use crate::ops::group_norm::Activation::{None as Plain, Silu};
use crate::ops::max_pool::MaxPool;
use crate::ops::resize::Resize;
use crate::ops::unary;
use crate::update::{AdamStep, SgdStep, adam, combine, combine_two, lerp, sgd, squared_norm};
use crate::{Dtype, Noise, Tensor, grad};

/// The bound of all paths, five times the worst (Winograd's with many channels).
const BOUND: f64 = 1e-5;

type Function = Box<dyn Fn(&[Tensor]) -> Tensor + Sync>;

struct Case {
    name: String,
    inputs: Vec<Vec<usize>>,
    f: Function,
}

fn case(name: &str, inputs: &[&[usize]], f: impl Fn(&[Tensor]) -> Tensor + Sync + 'static) -> Case {
    Case { name: name.into(), inputs: inputs.iter().map(|s| s.to_vec()).collect(), f: Box::new(f) }
}

fn products() -> Vec<Case> {
    let of =
        |m: usize, k: usize, n: usize| case(&format!("product {m}×{k}·{k}×{n}"), &[&[m, k], &[k, n]], |t| t[0].matmul(&t[1]));
    let mut all: Vec<Case> = [
        (1, 1, 1),
        (1, 300, 70),
        (70, 300, 1),
        (3, 1, 5),
        (200, 2, 40),
        (17, 33, 65),
        (3, 4099, 5),
        (160, 150, 170),
        (600, 96, 64),
    ]
    .map(|(m, k, n)| of(m, k, n))
    .into();
    all.push(case("product, right side turned", &[&[40, 33], &[50, 33]], |t| t[0].matmul_nt(&t[1])));
    all.push(case("product, left side turned", &[&[33, 40], &[33, 50]], |t| t[0].matmul_tn(&t[1])));
    all.push(case("products of a batch", &[&[5, 9, 20], &[5, 20, 13]], |t| t[0].matmul(&t[1])));
    all.push(case("product of a batch with one matrix", &[&[5, 9, 20], &[20, 13]], |t| t[0].matmul(&t[1])));
    for (rows, k, n) in [(1, 64, 48), (37, 19, 33), (900, 64, 80)] {
        for activation in [Plain, Silu] {
            let name = format!("linear, {rows} rows of {k} to {n}, {activation:?}");
            let shapes: [&[usize]; 4] = [&[rows, k], &[k, n], &[n], &[rows, n]];
            all.push(case(&name, &shapes[..3], move |t| t[0].linear_with(&t[1], &t[2], None, activation)));
            all.push(case(&format!("{name}, plus"), &shapes, move |t| t[0].linear_with(&t[1], &t[2], Some(&t[3]), activation)));
        }
    }
    all
}

fn convolutions() -> Vec<Case> {
    let strided = Conv2d { stride: (2, 2), padding: (1, 1) };
    let mut all = Vec::new();
    let table: [(&str, [usize; 4], [usize; 4], Conv2d); 13] = [
        ("1×1", [2, 9, 7, 20], [1, 1, 20, 33], Conv2d::VALID),
        ("3×3, few channels in", [2, 12, 11, 1], [3, 3, 1, 32], Conv2d::same(3, 3)),
        ("3×3, few channels out", [2, 12, 11, 32], [3, 3, 32, 1], Conv2d::same(3, 3)),
        ("3×3, narrow", [3, 9, 10, 7], [3, 3, 7, 9], Conv2d::same(3, 3)),
        ("3×3, small images", [9, 2, 2, 32], [3, 3, 32, 40], Conv2d::same(3, 3)),
        ("3×3, stride 2", [2, 13, 12, 32], [3, 3, 32, 33], strided),
        ("5×5", [2, 10, 9, 8], [5, 5, 8, 17], Conv2d::same(5, 5)),
        ("7×7, stride 2", [1, 21, 20, 3], [7, 7, 3, 24], Conv2d { stride: (2, 2), padding: (3, 3) }),
        ("1×3", [2, 8, 9, 16], [1, 3, 16, 20], Conv2d::same(1, 3)),
        ("3×3 by Winograd, bands", [4, 12, 12, 32], [3, 3, 32, 33], Conv2d::same(3, 3)),
        ("3×3 by Winograd, padded tiles", [6, 7, 9, 17], [3, 3, 17, 20], Conv2d::same(3, 3)),
        ("3×3 by Winograd, many channels", [1, 8, 8, 130], [3, 3, 130, 70], Conv2d::same(3, 3)),
        ("3×3 by Winograd, without padding", [2, 14, 14, 24], [3, 3, 24, 16], Conv2d::VALID),
    ];
    for (name, image, filter, how) in table {
        let f = move |t: &[Tensor]| t[0].conv2d(&t[1], Some(&t[2]), how);
        all.push(case(&format!("convolution, {name}"), &[&image, &filter, &[filter[3]]], f));
    }
    let transposed = move |t: &[Tensor]| t[0].conv_transpose2d(&t[1], Some(&t[2]), strided, (13, 12));
    all.push(case("transposed convolution", &[&[2, 7, 6, 33], &[3, 3, 32, 33], &[32]], transposed));
    for (kernel, stride, side) in [(3, 1, 12), (3, 2, 13), (5, 1, 9)] {
        let how = Conv2d { stride: (stride, stride), padding: (kernel / 2, kernel / 2) };
        let shapes: [&[usize]; 3] = [&[3, side, side, 35], &[kernel, kernel, 35], &[35]];
        let name = format!("depthwise convolution, {kernel}×{kernel}, stride {stride}");
        all.push(case(&name, &shapes, move |t| t[0].depthwise_conv2d(&t[1], Some(&t[2]), how)));
    }
    all
}

fn norms_and_attention() -> Vec<Case> {
    let mut all = Vec::new();
    for (image, groups) in [([5, 6, 6, 24], 8), ([1, 40, 33, 32], 4), ([3, 4, 4, 72], 9)] {
        for activation in [Plain, Silu] {
            let f = move |t: &[Tensor]| t[0].group_norm(groups, Some((&t[1], &t[2])), 1e-5, activation);
            let own = [image[0], image[3]];
            all.push(case(&format!("group norm of {image:?}, {activation:?}"), &[&image, &[image[3]], &[image[3]]], f));
            all.push(case(
                &format!("group norm of {image:?} with each sample's own scale, {activation:?}"),
                &[&image, &own, &own],
                f,
            ));
        }
    }
    for n in [1, 33, 384] {
        let shapes: [&[usize]; 3] = [&[50, n], &[n], &[n]];
        // One number is its own mean and norm: nothing is left but rounding.
        if n > 1 {
            all.push(case(&format!("layer norm of {n}"), &shapes, |t| t[0].layer_norm(Some((&t[1], &t[2])), 1e-5)));
            all.push(case(&format!("RMS norm of {n}"), &shapes[..2], |t| t[0].rms_norm(Some(&t[1]), 1e-6)));
        }
        all.push(case(&format!("softmax of {n}"), &shapes[..1], |t| t[0].softmax()));
        all.push(case(&format!("log-sum-exp of {n}"), &shapes[..1], |t| t[0].logsumexp(1)));
    }
    for ([b, n_q, n_k, h, d], scale) in [([2, 19, 18, 3, 8], None), ([1, 150, 300, 2, 16], None), ([2, 64, 64, 1, 64], Some(0.3))]
    {
        let (q, k) = ([b, n_q, h, d], [b, n_k, h, d]);
        let f = move |t: &[Tensor]| Tensor::attention(&t[0], &t[1], &t[2], scale);
        all.push(case(&format!("attention, {n_q} queries, {n_k} keys, {h} heads of {d}"), &[&q, &k, &k], f));
    }
    all
}

fn the_rest() -> Vec<Case> {
    let image: [usize; 4] = [3, 8, 6, 21];
    let mut all = vec![
        case("sum of all", &[&[40_001]], |t| t[0].square().sum_all()),
        case("sums of rows", &[&[70, 33]], |t| t[0].sum(&[1])),
        case("sums of columns", &[&[700, 33]], |t| t[0].sum(&[0])),
        case("mean over the middle", &[&image], |t| t[0].mean(&[1, 2])),
        case("broadcast sum and product", &[&image, &[3, 1, 1, 21], &[21]], |t| &(&t[0] * &t[1]) + &t[2]),
        case("quotient", &[&[3, 50], &[50]], |t| &t[0] / &(&t[1].square() + 0.5)),
        case("up-sampling", &[&image], |t| t[0].upsample_nearest(2, 3).square()),
        case("average pooling", &[&image], |t| t[0].avg_pool2d(2, 3)),
        case("largest of windows", &[&image], |t| t[0].max_pool2d(MaxPool { kernel: 3, stride: 2, padding: 1 })),
        case("resizing", &[&image], |t| t[0].resize2d((5, 11), Resize::BICUBIC)),
        case("combination of states", &[&[9, 50], &[9, 50], &[9, 50]], |t| {
            combine(0.7, copy(&t[0]), &[(-1.3, &t[1]), (0.2, &t[2])])
        }),
        case("two combinations of states", &[&[450], &[450], &[450]], |t| {
            let (y, z) = combine_two(copy(&t[0]), copy(&t[1]), (0.3, -0.6), (1.1, 0.4), &[(0.5, -0.2, &t[2])]);
            Tensor::concat(&[&y, &z], 0)
        }),
        case("norm of gradients", &[&[40_001]], |t| Tensor::from_f64(&[1], &[squared_norm(&t[0])], t[0].dtype())),
        case("average of weights", &[&[333], &[333]], |t| {
            let mut average = copy(&t[0]);
            lerp(&mut average, &t[1], 0.01);
            average
        }),
        case("gradient descent", &[&[333], &[333], &[333]], |t| {
            let (mut p, mut velocity) = (copy(&t[0]), copy(&t[1]));
            let c = SgdStep { learning_rate: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.1, gradient_scale: 0.5 };
            (0..3).for_each(|_| sgd(&mut p, &mut velocity, &t[2], &c));
            p
        }),
    ];
    for decoupled in [true, false] {
        all.push(case(&format!("Adam, decoupled: {decoupled}"), &[&[999], &[3, 999]], move |t| adam_steps(t, decoupled)));
    }
    for &name in unary::NAMES {
        // Away from 0 for those with a pole or a kink there.
        let positive = matches!(name, "ln" | "sqrt" | "powf" | "recip");
        let f = move |t: &[Tensor]| {
            if positive { unary::tests::call(name, &(&t[0].square() + 0.3)) } else { unary::tests::call(name, &t[0]) }
        };
        all.push(case(name, &[&[1001]], f));
    }
    all
}

/// Its elements in a buffer of its own.
fn copy(t: &Tensor) -> Tensor {
    let mut own = t.detach();
    match own.dtype() {
        Dtype::F64 => own.update::<f64>(|_| {}),
        _ => own.update::<f32>(|_| {}),
    }
    own
}

/// Three steps with their average: parameters, moments and the average, one after the other.
fn adam_steps(t: &[Tensor], decoupled: bool) -> Tensor {
    let zero = Tensor::zeros(t[0].shape(), t[0].dtype());
    let [mut p, mut m, mut v, mut average] = [copy(&t[0]), zero.clone(), zero, copy(&t[0])];
    for step in 1..4 {
        let g = t[1].slice(0, step - 1..step).reshape(t[0].shape());
        let c = AdamStep {
            learning_rate: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
            decoupled,
            step: step as u64,
            gradient_scale: 0.5,
        };
        adam(&mut p, &mut m, &mut v, Some((&mut average, 0.3)), &g, &c);
    }
    Tensor::concat(&[&p, &(&m * 10.0), &(&v * 1000.0), &average], 0)
}

/// The value, then, where it is recorded, the gradients of its product with fixed numbers.
fn values(case: &Case, inputs: &[Tensor]) -> Vec<Tensor> {
    let leaves: Vec<Tensor> = inputs.iter().map(Tensor::track).collect();
    let y = (case.f)(&leaves);
    let mut all = vec![y.detach()];
    if y.is_tracked() {
        let v = draw(y.shape(), 99).to(y.dtype());
        all.extend(grad((&y * &v).sum_all(), &leaves.iter().collect::<Vec<_>>()));
    }
    all
}

fn draw(shape: &[usize], step: u32) -> Tensor {
    Noise::new(71, 0).normal(&[1, shape.iter().product()], 0, step, Dtype::F64).reshape(shape).to(Dtype::F32)
}

#[test]
fn every_fast_path_is_that_of_f64_to_its_bound_with_every_kind_of_vectors() {
    // On one thread, which is the one whose vectors are chosen.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (mut worst, mut wrong) = (Vec::new(), Vec::new());
    for case in [products(), convolutions(), norms_and_attention(), the_rest()].into_iter().flatten() {
        let single: Vec<Tensor> = case.inputs.iter().enumerate().map(|(i, shape)| draw(shape, i as u32)).collect();
        let double: Vec<Tensor> = single.iter().map(|t| t.to(Dtype::F64)).collect();
        let exact = values(&case, &double);
        for &vectors in Vectors::ALL {
            let mut most = 0.0f64;
            for (i, (got, exact)) in pool.install(|| vectors.with(|| values(&case, &single))).iter().zip(&exact).enumerate() {
                assert_eq!((got.dtype(), got.shape()), (Dtype::F32, exact.shape()), "{}", case.name);
                let scale = exact.abs().max_all().item();
                let error = (&got.to(Dtype::F64) - exact).abs().max_all().item();
                let what = if i == 0 { "value".into() } else { format!("gradient of input {}", i - 1) };
                if error.is_nan() || error > BOUND * scale {
                    wrong.push(format!("{}, {vectors:?}: {what} is off by {error:e} of {scale:e}", case.name));
                }
                most = most.max(if scale > 0.0 { error / scale } else { 0.0 });
            }
            worst.push((most, format!("{} {vectors:?}", case.name)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    worst.sort_by(|a: &(f64, String), b| b.0.total_cmp(&a.0));
    worst.iter().take(12).for_each(|(error, name)| println!("{error:.1e} {name}"));
}
