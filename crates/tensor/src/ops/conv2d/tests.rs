use super::Conv2d;
use crate::{Dtype, Noise, Tensor, check, grad};

pub(super) fn sample(shape: &[usize], step: u32) -> Tensor {
    Noise::new(11, 0).normal(shape, 0, step, Dtype::F64)
}

/// (image [B, H, W, C_in], filter [KH, KW, C_out], stride, padding)
type Case = ([usize; 4], [usize; 3], (usize, usize), (usize, usize));

const CASES: [Case; 18] = [
    ([2, 5, 6, 3], [3, 3, 4], (1, 1), (1, 1)),
    ([1, 7, 5, 1], [3, 3, 2], (2, 2), (1, 1)),
    ([2, 6, 6, 2], [3, 3, 1], (2, 2), (0, 0)),
    ([1, 8, 7, 2], [2, 4, 3], (2, 3), (0, 1)),
    ([3, 4, 4, 5], [1, 1, 3], (1, 1), (0, 0)),
    ([2, 6, 5, 2], [1, 1, 3], (2, 2), (0, 0)),
    ([1, 5, 5, 2], [5, 5, 3], (1, 1), (2, 2)),
    ([2, 3, 3, 2], [3, 3, 2], (1, 1), (3, 4)),
    ([1, 9, 4, 2], [2, 2, 2], (4, 3), (0, 0)),
    ([1, 2, 9, 3], [1, 4, 17], (1, 1), (0, 2)),
    ([2, 4, 4, 17], [3, 3, 3], (1, 1), (1, 1)),
    ([1, 4, 5, 2], [4, 2, 35], (2, 1), (1, 0)),
    ([20, 3, 3, 2], [3, 3, 2], (1, 1), (1, 1)),
    ([1, 11, 1, 1], [3, 1, 1], (5, 1), (1, 0)),
    ([3, 5, 7, 9], [3, 3, 1], (1, 1), (1, 1)),
    ([2, 4, 3, 8], [2, 5, 4], (1, 1), (0, 2)),
    ([1, 1, 1, 10], [3, 3, 3], (1, 1), (1, 2)),
    ([2, 5, 4, 2], [3, 3, 11], (1, 1), (3, 1)),
];

fn parts(case: &Case) -> (Conv2d, [usize; 4]) {
    let ([.., c_in], [kh, kw, c_out], stride, padding) = *case;
    (Conv2d { stride, padding }, [kh, kw, c_in, c_out])
}

/// The definition, written out.
pub(super) fn naive(x: &Tensor, w: &Tensor, how: Conv2d) -> Tensor {
    let [batch, h, width, c_in] = x.shape().try_into().unwrap();
    let [kh, kw, _, c_out] = w.shape().try_into().unwrap();
    let (oh, ow) = how.output((h, width), (kh, kw)).unwrap();
    let (xs, ws) = (x.as_slice::<f64>(), w.as_slice::<f64>());
    let mut y = vec![0.0; batch * oh * ow * c_out];
    for (at, y) in y.iter_mut().enumerate() {
        let (o, j, i, b) = (at % c_out, at / c_out % ow, at / c_out / ow % oh, at / c_out / ow / oh);
        for k in 0..kh {
            for l in 0..kw {
                let row = (i * how.stride.0 + k).wrapping_sub(how.padding.0);
                let column = (j * how.stride.1 + l).wrapping_sub(how.padding.1);
                if row < h && column < width {
                    for c in 0..c_in {
                        *y += xs[((b * h + row) * width + column) * c_in + c] * ws[((k * kw + l) * c_in + c) * c_out + o];
                    }
                }
            }
        }
    }
    Tensor::from_vec(&[batch, oh, ow, c_out], y)
}

pub(super) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.to_vec::<f64>().iter().zip(b.to_vec::<f64>()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn convolution_is_its_definition() {
    for case in &CASES {
        let (how, filter) = parts(case);
        let (x, w) = (sample(&case.0, 0), sample(&filter, 1));
        let expected = naive(&x, &w, how);
        assert!(distance(&x.conv2d(&w, None, how), &expected) < 1e-12, "{case:?}");
        let bias = sample(&[filter[3]], 2);
        assert!(distance(&x.conv2d(&w, Some(&bias), how), &(&expected + &bias)) < 1e-12, "{case:?} with bias");
        let single = x.to(Dtype::F32).conv2d(&w.to(Dtype::F32), Some(&bias.to(Dtype::F32)), how);
        assert!(distance(&single, &(&expected + &bias)) < 1e-4, "{case:?} in f32");
    }
}

#[test]
fn the_transpose_is_the_adjoint_in_the_image() {
    for case in &CASES {
        let (how, filter) = parts(case);
        let (x, w) = (sample(&case.0, 0), sample(&filter, 1));
        let y = x.conv2d(&w, None, how);
        let v = sample(y.shape(), 3);
        let back = v.conv_transpose2d(&w, None, how, (case.0[1], case.0[2]));
        assert_eq!(back.shape(), x.shape());
        let (left, right) = ((&y * &v).sum_all().item(), (&x * &back).sum_all().item());
        assert!((left - right).abs() < 1e-11 * (1.0 + left.abs()), "{case:?}: {left} and {right}");
        let bias = sample(&[filter[2]], 4);
        let biased = v.conv_transpose2d(&w, Some(&bias), how, (case.0[1], case.0[2]));
        assert!(distance(&biased, &(&back + &bias)) < 1e-12, "{case:?} with bias");
    }
}

#[test]
fn convolution_passes_the_op_checks() {
    for case in &CASES {
        let (how, filter) = parts(case);
        let inputs = [sample(&case.0, 0), sample(&filter, 1), sample(&[filter[3]], 2)];
        check::op(&format!("conv2d {case:?}"), |x| x[0].conv2d(&x[1], Some(&x[2]), how), &inputs);
    }
}

#[test]
fn the_transpose_passes_the_op_checks() {
    for case in &CASES {
        let (how, filter) = parts(case);
        let size = (case.0[1], case.0[2]);
        let (oh, ow) = how.output(size, (filter[0], filter[1])).unwrap();
        let inputs = [sample(&[case.0[0], oh, ow, filter[3]], 0), sample(&filter, 1), sample(&[filter[2]], 2)];
        check::op(&format!("conv_transpose2d {case:?}"), |x| x[0].conv_transpose2d(&x[1], Some(&x[2]), how, size), &inputs);
    }
}

/// What may be added to a result of this shape: a tensor of that shape, a pixel for each sample, and one for all.
fn addends(y: &[usize]) -> [Tensor; 3] {
    [sample(y, 5), sample(&[y[0], 1, 1, y[3]], 6), sample(&[1, 1, 1, y[3]], 7)]
}

#[test]
fn what_is_added_in_the_same_pass_is_what_another_pass_would_add() {
    for case in &CASES {
        let (how, filter) = parts(case);
        let (x, w, bias) = (sample(&case.0, 0), sample(&filter, 1), sample(&[filter[3]], 2));
        let single = [&x, &w, &bias].map(|t| t.to(Dtype::F32));
        for bias in [None, Some(&bias)] {
            let y = x.conv2d(&w, bias, how);
            for r in addends(y.shape()) {
                let expected = &y + &r;
                assert!(distance(&x.conv2d_plus(&w, bias, how, &r), &expected) < 1e-12, "{case:?} plus {:?}", r.shape());
                let single = single[0].conv2d_plus(&single[1], bias.map(|_| &single[2]), how, &r.to(Dtype::F32));
                assert!(distance(&single, &expected) < 1e-4, "{case:?} plus {:?} in f32", r.shape());
            }
        }
    }
}

#[test]
fn convolution_with_an_addend_passes_the_op_checks() {
    for case in &CASES {
        let (how, filter) = parts(case);
        let (x, w, bias) = (sample(&case.0, 0), sample(&filter, 1), sample(&[filter[3]], 2));
        for r in addends(x.conv2d(&w, None, how).shape()) {
            let name = format!("conv2d {case:?} plus {:?}", r.shape());
            let inputs = [x.clone(), w.clone(), r, bias.clone()];
            check::op(&name, |t| t[0].conv2d_plus(&t[1], Some(&t[3]), how, &t[2]), &inputs);
            check::op(&format!("{name}, no bias"), |t| t[0].conv2d_plus(&t[1], None, how, &t[2]), &inputs[..3]);
        }
    }
}

#[test]
fn an_addend_alone_passes_the_op_checks() {
    let (how, filter) = parts(&CASES[0]);
    let (x, w, bias) = (sample(&CASES[0].0, 0), sample(&filter, 1), sample(&[filter[3]], 2));
    for r in addends(x.conv2d(&w, None, how).shape()) {
        for bias in [None, Some(&bias)] {
            check::op("conv2d in its addend", |t| x.conv2d_plus(&w, bias, how, &t[0]), std::slice::from_ref(&r));
        }
        let both = [bias.clone(), r.clone()];
        check::op("conv2d in bias and addend", |t| x.conv2d_plus(&w, Some(&t[0]), how, &t[1]), &both);
    }
}

/// By tiles of images and of rows, Winograd's bands and blocks of channels, planes of few channels.
#[test]
fn with_an_addend_the_bits_are_the_same_for_any_number_of_threads() {
    let cases = [
        ([2, 50, 41, 12], [3, 3, 12, 40], Conv2d { stride: (2, 2), padding: (1, 1) }),
        ([40, 5, 5, 6], [3, 3, 6, 20], Conv2d::same(3, 3)),
        ([3, 45, 37, 20], [3, 3, 20, 50], Conv2d::same(3, 3)),
        ([70, 8, 8, 24], [3, 3, 24, 33], Conv2d::same(3, 3)),
        ([2, 8, 8, 96], [3, 3, 96, 80], Conv2d::same(3, 3)),
        ([5, 12, 9, 32], [3, 3, 32, 3], Conv2d::same(3, 3)),
    ];
    for (image, filter, how) in cases {
        let (x, w, bias) = (sample(&image, 0), sample(&filter, 1), sample(&[filter[3]], 2));
        let sums = &x.conv2d(&w, None, how) + &bias;
        let v = sample(sums.shape(), 3);
        for r in addends(sums.shape()) {
            let single = [&x, &w, &bias, &r].map(|t| t.to(Dtype::F32));
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let leaves = single.each_ref().map(|t| t.track());
                    let y = leaves[0].conv2d_plus(&leaves[1], Some(&leaves[2]), how, &leaves[3]);
                    let mut all = grad((&y * &v.to(Dtype::F32)).sum_all(), &leaves.each_ref());
                    all.push(y.detach());
                    all
                })
            };
            let bits = |all: &[Tensor]| all.iter().map(Tensor::to_vec::<f32>).collect::<Vec<_>>();
            let one = run(1);
            for threads in [2, 5] {
                assert!(bits(&one) == bits(&run(threads)), "{image:?} plus {:?} on {threads} threads", r.shape());
            }
            // The gradient of what is added is the sum of the result's over what it was repeated for.
            let over = match r.shape() {
                shape if shape == sums.shape() => v.clone(),
                [1, ..] => v.sum_keep(&[0, 1, 2]),
                _ => v.sum_keep(&[1, 2]),
            };
            for (got, exact) in [(&one[4], &sums + &r), (&one[2], v.sum(&[0, 1, 2])), (&one[3], over)] {
                assert!(distance(got, &exact) < 1e-5 * exact.abs().max_all().item(), "{image:?} plus {:?}", r.shape());
            }
        }
    }
}

#[test]
#[should_panic(expected = "conv2d: addend of shape [3, 1, 1, 5] for a result of shape [2, 4, 4, 5]")]
fn an_addend_of_another_shape_is_named() {
    let t = |shape: &[usize]| Tensor::zeros(shape, Dtype::F32);
    t(&[2, 4, 4, 3]).conv2d_plus(&t(&[3, 3, 3, 5]), None, Conv2d::same(3, 3), &t(&[3, 1, 1, 5]));
}

#[test]
fn derivatives_in_one_operand_alone_pass_the_op_checks() {
    let (how, filter) = parts(&CASES[1]);
    let (x, w, bias) = (sample(&CASES[1].0, 0), sample(&filter, 1), sample(&[filter[3]], 2));
    check::op("conv2d in x", |t| t[0].conv2d(&w, Some(&bias), how), std::slice::from_ref(&x));
    check::op("conv2d in w", |t| x.conv2d(&t[0], Some(&bias), how), std::slice::from_ref(&w));
    check::op("conv2d in bias", |t| x.conv2d(&w, Some(&t[0]), how), std::slice::from_ref(&bias));
}

/// Large enough for many tiles, rows that do not divide evenly, and more than one block of channels.
#[test]
fn values_and_gradients_have_the_same_bits_for_any_number_of_threads() {
    let cases = [
        ([21, 28, 28, 32], [3, 3, 32, 1], Conv2d::same(3, 3)),
        ([2, 50, 41, 3], [5, 5, 3, 12], Conv2d::same(5, 5)),
        ([3, 45, 37, 20], [3, 3, 20, 50], Conv2d { stride: (1, 1), padding: (1, 1) }),
        ([70, 8, 8, 24], [3, 3, 24, 33], Conv2d { stride: (1, 1), padding: (1, 1) }),
        ([2, 50, 41, 12], [3, 3, 12, 40], Conv2d { stride: (2, 2), padding: (1, 1) }),
        ([1, 64, 64, 1], [3, 3, 1, 32], Conv2d { stride: (1, 1), padding: (1, 1) }),
    ];
    for (image, filter, how) in cases {
        let x = sample(&image, 0).to(Dtype::F32);
        let w = sample(&filter, 1).to(Dtype::F32);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (x, w) = (x.track(), w.track());
                let y = x.conv2d(&w, None, how);
                let weight = sample(y.shape(), 3).to(Dtype::F32);
                let mut grads = grad((&y * &weight).sum_all(), &[&x, &w]);
                grads.push(y.detach());
                grads.iter().map(Tensor::to_vec::<f32>).collect::<Vec<_>>()
            })
        };
        let one = run(1);
        assert!(one == run(2), "{image:?}: 1 and 2 threads differ");
        assert!(one == run(5), "{image:?}: 1 and 5 threads differ");

        // The same in f64, against the definition.
        let (x, w) = (x.to(Dtype::F64), w.to(Dtype::F64));
        let y = naive(&x, &w, how);
        let single = Tensor::from_vec(y.shape(), one[2].clone());
        assert!(distance(&single, &y) < 1e-3, "{image:?}");
        let (x, w) = (x.track(), w.track());
        let v = sample(y.shape(), 3);
        let grads = grad((&x.conv2d(&w, None, how) * &v).sum_all(), &[&x, &w]);
        for (grad, single) in grads.iter().zip(&one) {
            let scale = grad.abs().max_all().item();
            let single = Tensor::from_vec(grad.shape(), single.clone());
            assert!(distance(grad, &single) < 1e-5 * scale, "{image:?}: gradient in f32 and f64");
        }
        // d/dw ⟨v, conv(x, w)⟩ is linear in x: against the definition through one weight at a time.
        for at in [0, 7, w.len() / 2, w.len() - 1] {
            let mut unit = vec![0.0; w.len()];
            unit[at] = 1.0;
            let column = naive(&x.detach(), &Tensor::from_vec(w.shape(), unit), how);
            let expected = (&column * &v).sum_all().item();
            assert!((grads[1].as_slice::<f64>()[at] - expected).abs() < 1e-9, "{image:?}: weight {at}");
        }
    }
}

#[test]
fn an_empty_batch_has_an_empty_result_and_zero_weight_gradient() {
    let x = Tensor::zeros(&[0, 4, 4, 2], Dtype::F32).track();
    let w = Tensor::ones(&[3, 3, 2, 3], Dtype::F32).track();
    let y = x.conv2d(&w, None, Conv2d::same(3, 3));
    assert_eq!(y.shape(), [0, 4, 4, 3]);
    let dw = grad(y.sum_all(), &[&w]).remove(0);
    assert!(dw.to_vec::<f32>().iter().all(|&v| v == 0.0));
}

#[test]
#[should_panic(expected = "conv2d: image of shape [1, 4, 4, 3] and filter of shape [3, 3, 2, 5]")]
fn channels_that_do_not_match_are_named() {
    let x = Tensor::zeros(&[1, 4, 4, 3], Dtype::F32);
    x.conv2d(&Tensor::zeros(&[3, 3, 2, 5], Dtype::F32), None, Conv2d::same(3, 3));
}

#[test]
#[should_panic(expected = "conv2d: filter of shape [5, 3, 1, 1] on an image of shape [1, 2, 4, 1] with padding (1, 0)")]
fn a_filter_that_does_not_fit_is_named() {
    let x = Tensor::zeros(&[1, 2, 4, 1], Dtype::F32);
    x.conv2d(&Tensor::zeros(&[5, 3, 1, 1], Dtype::F32), None, Conv2d { stride: (1, 1), padding: (1, 0) });
}

#[test]
#[should_panic(expected = "conv_transpose2d: extents of [1, 3, 3, 1]")]
fn a_transpose_to_impossible_extents_is_refused() {
    let x = Tensor::zeros(&[1, 3, 3, 1], Dtype::F32);
    x.conv_transpose2d(&Tensor::zeros(&[3, 3, 1, 1], Dtype::F32), None, Conv2d::same(3, 3), (4, 4));
}
