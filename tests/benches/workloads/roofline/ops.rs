//! The operations of the workloads at the workloads' shapes.

use std::hint::black_box;

use fokker_tensor::ops::conv2d::Conv2d;
use fokker_tensor::ops::group_norm::Activation;
use fokker_tensor::update::{self, AdamStep};
use fokker_tensor::{Dtype, Noise, Tensor, grad, linearize};

/// An operation that can be timed.
pub(super) struct Case {
    pub(super) operation: &'static str,
    pub(super) shape: String,
    pub(super) flops: f64,
    pub(super) bytes: f64,
    pub(super) run: Box<dyn FnMut()>,
}

type Visit<'a> = &'a mut dyn FnMut(Case);

/// Hands over every case, one after the other, so that only one's arrays exist at a time.
pub(super) fn all(visit: Visit<'_>) {
    products(visit);
    linears(visit);
    convolutions(visit);
    depthwise(visit);
    norms(visit);
    attention(visit);
    elementwise(visit);
    updates(visit);
}

fn normal(shape: &[usize], step: u32) -> Tensor {
    Noise::new(1, 0).normal(&[1, shape.iter().product()], 0, step, Dtype::F32).reshape(shape)
}

fn text(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// The bytes of arrays of so many numbers.
fn bytes(arrays: &[usize]) -> f64 {
    4.0 * arrays.iter().sum::<usize>() as f64
}

/// A case whose work is the function's result.
fn case(operation: &'static str, shape: String, flops: f64, bytes: f64, f: impl Fn() -> Tensor + 'static) -> Case {
    Case { operation, shape, flops, bytes, run: Box::new(move || drop(black_box(f()))) }
}

/// The derivative of `f` at `x`, as a function of nothing.
fn backward(f: impl FnOnce(&Tensor) -> Tensor, x: &Tensor) -> Box<dyn Fn() -> Tensor> {
    let (y, jacobian) = linearize(f, x);
    let v = normal(y.shape(), 9);
    Box::new(move || jacobian.vjp(&v))
}

fn products(visit: Visit<'_>) {
    for (m, k, n) in [(1024, 1024, 1024), (512, 256, 256), (10_000, 256, 256), (4096, 384, 1536)] {
        let (a, b) = (normal(&[m, k], 0), normal(&[k, n], 1));
        let flops = 2.0 * (m * k * n) as f64;
        visit(case("product", format!("{m}×{k} · {k}×{n}"), flops, bytes(&[m * k, k * n, m * n]), move || a.matmul(&b)));
    }
}

/// Layers of the points' network, of the block, and 1×1 convolutions, which are the same.
fn linears(visit: Visit<'_>) {
    for (rows, k, n) in
        [(512, 256, 256), (10_000, 256, 256), (4096, 384, 1152), (65_536, 64, 32), (8192, 256, 128), (2048, 512, 256)]
    {
        let (x, w, b) = (normal(&[rows, k], 0), normal(&[k, n], 1), normal(&[n], 2));
        let (flops, bytes) = (2.0 * (rows * k * n) as f64, bytes(&[rows * k, k * n, rows * n]));
        let shape = format!("{rows} rows, {k} to {n}");
        let input = backward(|x| x.linear(&w, Some(&b)), &x);
        let weight = backward(|w| x.linear(w, Some(&b)), &w);
        visit(case("linear, 1×1 convolution: input gradient", shape.clone(), flops, bytes, input));
        visit(case("linear, 1×1 convolution: weight gradient", shape.clone(), flops, bytes, weight));
        let forward = move || x.linear_with(&w, &b, None, Activation::Silu);
        visit(case("linear, 1×1 convolution, with SiLU", shape, flops, bytes, forward));
    }
}

fn convolutions(visit: Visit<'_>) {
    for (batch, side, c_in, c_out, stride) in [
        (64, 32, 32, 32, 1),
        (64, 32, 64, 32, 1),
        (64, 16, 64, 64, 1),
        (64, 8, 128, 128, 1),
        (64, 4, 256, 128, 1),
        (8, 32, 128, 128, 1),
        (8, 16, 256, 256, 1),
        (8, 16, 512, 256, 1),
        (8, 8, 256, 256, 1),
        (8, 4, 512, 256, 1),
        (1, 32, 128, 128, 1),
        (64, 32, 1, 32, 1),
        (64, 32, 32, 1, 1),
        (64, 32, 32, 32, 2),
        (8, 32, 128, 128, 2),
    ] {
        let how = Conv2d { stride: (stride, stride), padding: (1, 1) };
        let (x, w, b) = (normal(&[batch, side, side, c_in], 0), normal(&[3, 3, c_in, c_out], 1), normal(&[c_out], 2));
        let outputs = batch * (side / stride) * (side / stride) * c_out;
        let (flops, bytes) = (2.0 * 9.0 * (outputs * c_in) as f64, bytes(&[x.len(), w.len(), outputs]));
        let names = match stride {
            1 => ["3×3 convolution", "3×3 convolution: input gradient", "3×3 convolution: weight gradient"],
            _ => ["3×3, stride 2", "3×3, stride 2: input gradient", "3×3, stride 2: weight gradient"],
        };
        let shape = format!("{batch} × {side}², {c_in} to {c_out}");
        let input = backward(|x| x.conv2d(&w, None, how), &x);
        let weight = backward(|w| x.conv2d(w, None, how), &w);
        visit(case(names[1], shape.clone(), flops, bytes, input));
        visit(case(names[2], shape.clone(), flops, bytes, weight));
        visit(case(names[0], shape, flops, bytes, move || x.conv2d(&w, Some(&b), how)));
    }
}

fn depthwise(visit: Visit<'_>) {
    for (batch, side, c) in [(64, 32, 32), (8, 32, 128)] {
        let how = Conv2d { stride: (1, 1), padding: (1, 1) };
        let (x, w) = (normal(&[batch, side, side, c], 0), normal(&[3, 3, c], 1));
        let (flops, bytes) = (18.0 * x.len() as f64, bytes(&[x.len(), x.len()]));
        let shape = format!("{batch} × {side}² × {c}");
        let input = backward(|x| x.depthwise_conv2d(&w, None, how), &x);
        let weight = backward(|w| x.depthwise_conv2d(w, None, how), &w);
        visit(case("depthwise 3×3: input gradient", shape.clone(), flops, bytes, input));
        visit(case("depthwise 3×3: weight gradient", shape.clone(), flops, bytes, weight));
        visit(case("depthwise 3×3", shape, flops, bytes, move || x.depthwise_conv2d(&w, None, how)));
    }
}

/// Their arithmetic is not counted: memory is what they should be limited by.
fn norms(visit: Visit<'_>) {
    for (shape, groups) in [([64, 32, 32, 32], 8), ([64, 8, 8, 128], 8), ([8, 32, 32, 128], 32)] {
        let c = shape[3];
        let (x, gamma, beta) = (normal(&shape, 0), normal(&[c], 1), normal(&[c], 2));
        let f = move |x: &Tensor| x.group_norm(groups, Some((&gamma, &beta)), 1e-5, Activation::Silu);
        let n = x.len();
        visit(case("group norm + SiLU: input gradient", text(&shape), 0.0, bytes(&[n, n, n]), backward(&f, &x)));
        visit(case("group norm + SiLU", text(&shape), 0.0, bytes(&[n, n]), move || f(&x)));
    }
    let shape = [4096, 384];
    let (x, gamma, beta) = (normal(&shape, 0), normal(&[384], 1), normal(&[384], 2));
    let f = move |x: &Tensor| x.layer_norm(Some((&gamma, &beta)), 1e-5);
    let n = x.len();
    visit(case("layer norm: input gradient", text(&shape), 0.0, bytes(&[n, n, n]), backward(&f, &x)));
    visit(case("layer norm", text(&shape), 0.0, bytes(&[n, n]), move || f(&x)));
    let x = normal(&[4096, 256], 0);
    let n = x.len();
    visit(case("softmax: input gradient", text(x.shape()), 0.0, bytes(&[n, n, n]), backward(Tensor::softmax, &x)));
    visit(case("softmax", text(x.shape()), 0.0, bytes(&[n, n]), move || x.softmax()));
}

/// Two products forward and five backward, the first of which is the forward pass's again.
fn attention(visit: Visit<'_>) {
    for (batch, n, heads, d) in [(16, 256, 6, 64), (8, 256, 1, 256), (64, 64, 16, 8)] {
        let shape = [batch, n, heads, d];
        let [q, k, v] = [0, 1, 2].map(|i| normal(&shape, i));
        let (product, array) = (2.0 * (batch * heads * n * n * d) as f64, q.len());
        let name = format!("{batch} × {n} tokens, {heads} heads of {d}");
        let leaves = [q.track(), k.track(), v.track()];
        let train = move || {
            let y = Tensor::attention(&leaves[0], &leaves[1], &leaves[2], None);
            grad(y.sum_all(), &leaves.each_ref()).swap_remove(0)
        };
        // Reads three and writes one; then reads five and writes three.
        visit(case("attention, forward and backward", name.clone(), 7.0 * product, bytes(&[12 * array]), train));
        let forward = move || Tensor::attention(&q, &k, &v, None);
        visit(case("attention", name, 2.0 * product, bytes(&[4 * array]), forward));
    }
}

fn elementwise(visit: Visit<'_>) {
    for shape in [[64, 32, 32, 32], [64, 8, 8, 128]] {
        let (x, y) = (normal(&shape, 0), normal(&shape, 1));
        let (n, name) = (x.len(), text(&shape));
        let copies = [x.clone(), x.clone(), x.clone(), x.clone(), x.clone()];
        let [a, b, c, d, e] = copies;
        let (y2, name) = (y.clone(), move || name.clone());
        visit(case("sum of two", name(), 0.0, bytes(&[3 * n]), move || &a + &y2));
        visit(case("SiLU: gradient", name(), 0.0, bytes(&[3 * n]), backward(Tensor::silu, &x)));
        visit(case("SiLU", name(), 0.0, bytes(&[2 * n]), move || b.silu()));
        visit(case("GELU", name(), 0.0, bytes(&[2 * n]), move || c.gelu()));
        visit(case("sum over pixels (bias gradient)", name(), 0.0, bytes(&[n]), move || d.sum(&[0, 1, 2])));
        visit(case("concatenation of two", name(), 0.0, bytes(&[4 * n]), move || Tensor::concat(&[&e, &y], 3)));
        visit(case("up-sampling by two", name(), 0.0, bytes(&[5 * n]), move || x.upsample_nearest(2, 2)));
    }
}

/// Adam reads four arrays and writes three; an average reads two and writes one.
fn updates(visit: Visit<'_>) {
    for n in [149_250, 6_337_345] {
        let [mut p, mut m, mut average] = [0, 1, 2].map(|i| normal(&[1, n], i));
        let (mut v, g) = (m.square(), normal(&[1, n], 3));
        let shape = format!("{n} parameters");
        let towards = p.detach();
        let run = Box::new(move || update::lerp(&mut average, &towards, 1e-3));
        visit(Case { operation: "average (EMA)", shape: shape.clone(), flops: 0.0, bytes: bytes(&[3 * n]), run });
        let step = AdamStep {
            learning_rate: 1e-6,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            decoupled: true,
            step: 10,
            gradient_scale: 1.0,
        };
        let run = Box::new(move || update::adam(&mut p, &mut m, &mut v, None, &g, &step));
        visit(Case { operation: "AdamW update", shape, flops: 0.0, bytes: bytes(&[7 * n]), run });
    }
}
