//! Single operations at the shapes of the networks, for developing: `cargo bench -p fokker-tensor --bench ops [-- FILTER]`.
//!
//! Times are processor time of one thread (`/proc/thread-self/schedstat`), which other programs on a shared machine disturb less
//! than the clock on the wall; elsewhere they are wall time. With each product and convolution stands its rate, in operations of
//! the direct form.

use std::hint::black_box;
use std::time::Instant;

use fokker_tensor::ops::conv2d::Conv2d;
use fokker_tensor::ops::group_norm::Activation;
use fokker_tensor::{Dtype, Noise, Tensor, grad};

fn normal(shape: &[usize], step: u32) -> Tensor {
    Noise::new(1, 0).normal(&[1, shape.iter().product()], 0, step, Dtype::F32).reshape(shape)
}

/// Milliseconds this thread has run, or that have passed.
fn now(start: Instant) -> f64 {
    // The kernel brings its account up to date when a thread yields.
    std::thread::yield_now();
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let spent = spent.and_then(|s| s.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()));
    spent.map_or_else(|| start.elapsed().as_secs_f64() * 1e3, |ns| ns / 1e6)
}

/// Whether the filter asks for any of these names.
fn wanted(filter: &[String], names: &[&str]) -> bool {
    filter.is_empty() || filter.iter().any(|f| names.iter().any(|name| name.contains(f.as_str())))
}

/// Prints the median of several runs.
fn time(filter: &[String], name: &str, operations: f64, mut f: impl FnMut()) {
    if !wanted(filter, &[name]) {
        return;
    }
    let start = Instant::now();
    f();
    let first = start.elapsed().as_secs_f64() * 1e3;
    let calls = ((10.0 / first).ceil() as usize).clamp(1, 1000);
    let mut all: Vec<f64> = (0..7)
        .map(|_| {
            let before = now(start);
            (0..calls).for_each(|_| f());
            (now(start) - before) / calls as f64
        })
        .collect();
    all.sort_by(f64::total_cmp);
    let rate = if operations > 0.0 { format!("{:7.1} GFLOP/s", operations / all[3] / 1e6) } else { String::new() };
    println!("{name:52} {:9.3} ms {rate}", all[3]);
}

fn convolutions(filter: &[String]) {
    for (batch, side, c_in, c_out, stride) in [
        (64, 28, 32, 32, 1),
        (64, 28, 64, 32, 1),
        (64, 28, 96, 32, 1),
        (64, 28, 16, 16, 1),
        (64, 28, 32, 16, 1),
        (64, 14, 64, 64, 1),
        (64, 14, 128, 64, 1),
        (64, 7, 128, 128, 1),
        (64, 32, 32, 32, 1),
        (64, 8, 128, 128, 1),
        (64, 4, 128, 128, 1),
        (64, 8, 256, 128, 1),
        (8, 32, 128, 128, 1),
        (8, 16, 256, 256, 1),
        (8, 16, 512, 256, 1),
        (8, 8, 256, 256, 1),
        (8, 4, 256, 256, 1),
        (1, 32, 128, 128, 1),
        (1, 16, 256, 256, 1),
        (1, 16, 512, 256, 1),
        (1, 8, 256, 256, 1),
        (1, 4, 256, 256, 1),
        (1, 28, 32, 32, 1),
        (1, 8, 128, 128, 1),
        (64, 28, 1, 32, 1),
        (64, 28, 32, 1, 1),
        (64, 28, 32, 32, 2),
    ] {
        let name = format!("{batch} x {side}x{side}, {c_in} to {c_out}, stride {stride}");
        let kinds = ["conv ", "conv plus ", "conv then add ", "conv dx ", "conv dw "].map(|kind| format!("{kind}{name}"));
        if !wanted(filter, &kinds.each_ref().map(String::as_str)) {
            continue;
        }
        let how = Conv2d { stride: (stride, stride), padding: (1, 1) };
        let (x, w, b) = (normal(&[batch, side, side, c_in], 0), normal(&[3, 3, c_in, c_out], 1), normal(&[c_out], 2));
        let y = x.conv2d(&w, Some(&b), how);
        let operations = 2.0 * 9.0 * (y.len() * c_in) as f64;
        time(filter, &format!("conv {name}"), operations, || drop(black_box(x.conv2d(&w, Some(&b), how))));
        // A residual in the same pass and in another one.
        let plus = || drop(black_box(x.conv2d_plus(&w, Some(&b), how, &y)));
        time(filter, &format!("conv plus {name}"), operations, plus);
        time(filter, &format!("conv then add {name}"), operations, || drop(black_box(&x.conv2d(&w, Some(&b), how) + &y)));
        time(filter, &format!("conv dx {name}"), operations, || {
            drop(black_box(y.conv_transpose2d(&w, None, how, (side, side))));
        });
        // The forward pass is counted too: it is subtracted by hand.
        let (_, jacobian) = fokker_tensor::linearize(|w| x.conv2d(w, None, how), &w);
        time(filter, &format!("conv dw {name}"), operations, || drop(black_box(jacobian.vjp(&y))));
    }
}

type Block<'a> = &'a dyn Fn(&[Tensor; 5]) -> Tensor;

/// A network's residual block with its backward pass, what is added being part of the convolutions or operations of its own.
fn blocks(filter: &[String]) {
    for (batch, side, channels) in [(64, 28, 32), (64, 14, 64), (8, 32, 128), (8, 16, 256)] {
        let name = format!("{batch} x {side}x{side}, {channels}");
        let how = Conv2d::same(3, 3);
        let leaves = [
            normal(&[batch, side, side, channels], 0),
            normal(&[3, 3, channels, channels], 1),
            normal(&[3, 3, channels, channels], 2),
            normal(&[channels], 3),
            normal(&[batch, 1, 1, channels], 4),
        ];
        let norm = |x: &Tensor, gamma: &Tensor| x.group_norm(8, Some((gamma, gamma)), 1e-5, Activation::Silu);
        let fused = |[x, w1, w2, b, e]: &[Tensor; 5]| {
            let h = norm(&norm(x, b).conv2d_plus(w1, Some(b), how, e), b);
            h.conv2d_plus(w2, Some(b), how, x)
        };
        let apart = |[x, w1, w2, b, e]: &[Tensor; 5]| {
            let h = norm(&(&norm(x, b).conv2d(w1, Some(b), how) + e), b);
            x + &h.conv2d(w2, Some(b), how)
        };
        for (kind, f) in [("block", &fused as Block<'_>), ("block, adding apart", &apart)] {
            time(filter, &format!("{kind} {name}"), 0.0, || drop(black_box(f(&leaves))));
            time(filter, &format!("{kind}, backward {name}"), 0.0, || {
                let leaves = leaves.each_ref().map(|t| t.track());
                drop(black_box(grad(f(&leaves).square().mean_all(), &leaves.each_ref())));
            });
        }
    }
}

fn products(filter: &[String]) {
    for (m, k, n) in [(1024, 1024, 1024), (512, 256, 256), (512, 66, 256), (50176, 64, 32), (12544, 128, 64), (64, 128, 64)] {
        let (a, b, c) = (normal(&[m, k], 0), normal(&[k, n], 1), normal(&[m, n], 2));
        let operations = 2.0 * (m * k * n) as f64;
        time(filter, &format!("product {m} x {k} x {n}"), operations, || drop(black_box(a.matmul(&b))));
        time(filter, &format!("product tn {k} x {m} x {n}"), operations, || drop(black_box(a.matmul_tn(&c))));
        time(filter, &format!("product nt {m} x {n} x {k}"), operations, || drop(black_box(c.matmul_nt(&b))));
    }
}

fn passes(filter: &[String]) {
    for (batch, side, channels) in [(64, 28, 32), (64, 28, 64), (64, 14, 64)] {
        let shape = [batch, side, side, channels];
        let name = format!("{batch} x {side}x{side} x {channels}");
        let (x, y) = (normal(&shape, 0), normal(&shape, 1));
        let (gamma, beta) = (normal(&[channels], 2), normal(&[channels], 3));
        let norm = |x: &Tensor| x.group_norm(8, Some((&gamma, &beta)), 1e-5, Activation::Silu);
        time(filter, &format!("group norm + silu {name}"), 0.0, || drop(black_box(norm(&x))));
        let (_, jacobian) = fokker_tensor::linearize(norm, &x);
        time(filter, &format!("group norm + silu backward {name}"), 0.0, || drop(black_box(jacobian.vjp(&y))));
        time(filter, &format!("add {name}"), 0.0, || drop(black_box(&x + &y)));
        let e = normal(&[batch, 1, 1, channels], 4);
        time(filter, &format!("add [B, 1, 1, C] {name}"), 0.0, || drop(black_box(&x + &e)));
        time(filter, &format!("sum over pixels {name}"), 0.0, || drop(black_box(x.sum_keep(&[1, 2]))));
        time(filter, &format!("sum over all but channels {name}"), 0.0, || drop(black_box(x.sum(&[0, 1, 2]))));
        time(filter, &format!("concat {name}"), 0.0, || drop(black_box(Tensor::concat(&[&x, &y], 3))));
        time(filter, &format!("slice {name}"), 0.0, || drop(black_box(x.slice(3, 0..channels / 2))));
        time(filter, &format!("upsample {name}"), 0.0, || drop(black_box(x.upsample_nearest(2, 2))));
        time(filter, &format!("silu {name}"), 0.0, || drop(black_box(x.silu())));
    }
    for (batch, n, heads, d) in [(64, 196, 2, 32), (64, 64, 16, 8), (64, 16, 16, 8)] {
        let shape = [batch, n, heads, d];
        let q = [0, 1, 2].map(|i| normal(&shape, i));
        let name = format!("{batch} x {n} x {heads} x {d}");
        time(filter, &format!("attention {name}"), 0.0, || drop(black_box(Tensor::attention(&q[0], &q[1], &q[2], None))));
        time(filter, &format!("attention with backward {name}"), 0.0, || {
            let leaves = [q[0].track(), q[1].track(), q[2].track()];
            let y = Tensor::attention(&leaves[0], &leaves[1], &leaves[2], None);
            drop(black_box(grad(y.sum_all(), &leaves.each_ref())));
        });
    }
}

fn main() {
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    one.install(|| {
        convolutions(&filter);
        blocks(&filter);
        products(&filter);
        passes(&filter);
    });
}
