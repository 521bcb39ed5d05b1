use super::super::tests::{distance, naive, sample};
use super::super::{Addend, Conv2d, geometry};
use super::*;
use crate::lanes::tests::Vectors;
use crate::{Tensor, grad};

/// (image [B, H, W, C_in], output channels, padding)
type Case = ([usize; 4], usize, (usize, usize));

/// Extents that four does not divide, images of one pixel or row, channels that no vector divides, several bands and groups of them.
const CASES: [Case; 10] = [
    ([2, 9, 7, 17], 19, (1, 1)),
    ([1, 1, 1, 3], 2, (1, 1)),
    ([3, 4, 4, 16], 32, (1, 1)),
    ([2, 1, 13, 5], 40, (2, 1)),
    ([1, 11, 6, 8], 33, (0, 0)),
    ([1, 6, 5, 1], 1, (0, 2)),
    ([1, 3, 3, 4], 7, (4, 3)),
    ([70, 5, 5, 3], 4, (1, 1)),
    ([1, 61, 58, 9], 50, (1, 1)),
    ([2, 44, 40, 160], 20, (1, 1)),
];

fn parts(case: &Case) -> (Conv2d, [usize; 4]) {
    let &([.., c_in], c_out, padding) = case;
    (Conv2d { stride: (1, 1), padding }, [3, 3, c_in, c_out])
}

fn of(how: Conv2d, transposed: bool, image: &Tensor, small: &[usize], w: &Tensor) -> Geometry {
    geometry(how, transposed, image.dim(0), (image.dim(1), image.dim(2)), (small[1], small[2]), w.shape())
}

const ORDERS: [Order; 2] = [Order::Bands, Order::Channels];

/// The convolution, the transpose of `v`, and the gradient of the weights, in the tensors' type.
fn all(how_to: (Vectors, Order), how: Conv2d, x: &Tensor, w: &Tensor, bias: &Tensor, v: &Tensor) -> [Tensor; 3] {
    fn typed<T: Lanes>(how_to: (Vectors, Order), how: Conv2d, x: &Tensor, w: &Tensor, bias: &Tensor, v: &Tensor) -> [Tensor; 3] {
        let (vectors, order) = how_to;
        let (xs, ws, vs) = (x.as_slice::<T>(), w.as_slice::<T>(), v.as_slice::<T>());
        let (g, adjoint) = (of(how, false, x, v.shape(), w), of(how, true, x, v.shape(), w));
        let (bias, addend) = (Some(bias.as_slice::<T>()), Addend::Nothing);
        [
            Tensor::build(v.shape(), |y| vectors.run(Correlation::<T, T> { g: &g, x: xs, w: ws, bias, addend, y, order })),
            Tensor::build(x.shape(), |y| {
                vectors.run(Correlation::<T, T> { g: &adjoint, x: vs, w: ws, bias: None, addend, y, order })
            }),
            Tensor::build(w.shape(), |dw| vectors.run(WeightGradient { g: &g, x: xs, grad: vs, dw, order })),
        ]
    }
    match x.dtype() {
        Dtype::F32 => typed::<f32>(how_to, how, x, w, bias, v),
        Dtype::Bf16 => unreachable!("compared elsewhere"),
        Dtype::F64 => typed::<f64>(how_to, how, x, w, bias, v),
    }
}

/// The same by the direct kernels, which other tests compare with the definition.
fn direct(how: Conv2d, x: &Tensor, w: &Tensor, bias: &Tensor, v: &Tensor) -> [Tensor; 3] {
    let (x, w, bias, v) = (x.to(Dtype::F64), w.to(Dtype::F64), bias.to(Dtype::F64), v.to(Dtype::F64));
    let y = x.conv2d(&w, Some(&bias), how);
    let (x, w) = (x.track(), w.track());
    let mut grads = grad((&x.conv2d(&w, None, how) * &v).sum_all(), &[&x, &w]);
    let dw = grads.remove(1);
    [y, grads.remove(0), dw]
}

#[test]
fn in_f64_every_stage_is_exact_for_every_width_of_vectors() {
    for case in &CASES {
        let (how, filter) = parts(case);
        let (x, w, bias) = (sample(&case.0, 0), sample(&filter, 1), sample(&[case.1], 2));
        let expected = naive(&x, &w, how);
        let v = sample(expected.shape(), 3);
        let expected = [&expected + &bias, direct(how, &x, &w, &bias, &v)[1].clone(), direct(how, &x, &w, &bias, &v)[2].clone()];
        for how_to in Vectors::ALL.iter().flat_map(|&vectors| ORDERS.map(|order| (vectors, order))) {
            for (got, expected) in all(how_to, how, &x, &w, &bias, &v).iter().zip(&expected) {
                let scale = 1.0 + expected.abs().max_all().item();
                assert!(distance(got, expected) < 1e-12 * scale, "{case:?}, {how_to:?}: {:?}", expected.shape());
            }
        }
    }
}

#[test]
fn what_is_added_lies_where_it_belongs_for_every_width_of_vectors() {
    for case in &CASES {
        let (how, filter) = parts(case);
        let (x, w, bias) = (sample(&case.0, 0), sample(&filter, 1), sample(&[case.1], 2));
        let sums = &x.conv2d(&w, None, how) + &bias;
        let (image, rows) = (sample(sums.shape(), 3), sample(&[x.dim(0), 1, 1, case.1], 4));
        let row = sample(&[1, 1, 1, case.1], 5);
        let g = of(how, false, &x, sums.shape(), &w);
        for addend in [Addend::Image(&image), Addend::Rows(&rows), Addend::Rows(&row)] {
            let expected = &sums + if let Addend::Image(r) | Addend::Rows(r) = addend { r } else { unreachable!() };
            for (&vectors, order) in Vectors::ALL.iter().flat_map(|vectors| ORDERS.map(|order| (vectors, order))) {
                let (x, w, bias, addend) = (x.as_slice(), w.as_slice(), Some(bias.as_slice()), addend.map(Tensor::as_slice));
                let got = Tensor::build(sums.shape(), |y| {
                    vectors.run(Correlation::<f64, f64> { g: &g, x, w, bias, addend, y, order });
                });
                let scale = 1.0 + expected.abs().max_all().item();
                assert!(distance(&got, &expected) < 1e-12 * scale, "{case:?}, {vectors:?}, {order:?}");
            }
        }
    }
}

/// Root mean square and largest error, as fractions of the root mean square of the exact values.
fn errors(got: &Tensor, exact: &Tensor) -> (f64, f64) {
    let difference = &got.to(Dtype::F64) - exact;
    let scale = exact.square().mean_all().item().sqrt();
    (difference.square().mean_all().item().sqrt() / scale, difference.abs().max_all().item() / scale)
}

#[test]
fn in_f32_the_error_is_a_few_roundings_for_every_width_of_vectors() {
    // As in a network: normal values, filters that keep their size.
    let mut worst = (0.0f64, 0.0f64);
    for (image, c_out) in [([4, 28, 28, 32], 32), ([8, 14, 14, 64], 64), ([4, 7, 9, 130], 70)] {
        let how = Conv2d::same(3, 3);
        let x = sample(&image, 0).to(Dtype::F32);
        let w = (&sample(&[3, 3, image[3], c_out], 1) * (1.0 / (9.0 * image[3] as f64)).sqrt()).to(Dtype::F32);
        let bias = Tensor::zeros(&[c_out], Dtype::F32);
        let v = sample(&[image[0], image[1], image[2], c_out], 3).to(Dtype::F32);
        let exact = direct(how, &x, &w, &bias, &v);
        for how_to in Vectors::ALL.iter().flat_map(|&vectors| ORDERS.map(|order| (vectors, order))) {
            for (got, exact) in all(how_to, how, &x, &w, &bias, &v).iter().zip(&exact) {
                let (mean, most) = errors(got, exact);
                worst = (worst.0.max(mean), worst.1.max(most));
                assert!(mean < 1.5e-6 && most < 1.5e-5, "{image:?} to {c_out}, {how_to:?}: {mean:e}, {most:e}");
            }
        }
    }
    println!("worst: {:e} and {:e}", worst.0, worst.1);
}

#[test]
fn only_what_it_can_do_and_gains_from_it_is_done_this_way() {
    let suits = |image: [usize; 4], filter: [usize; 4], how: Conv2d, dtype| {
        let small = how.output((image[1], image[2]), (filter[0], filter[1])).unwrap();
        super::suits(&geometry(how, false, image[0], (image[1], image[2]), small, &filter), dtype)
    };
    let same = Conv2d::same(3, 3);
    let strided = Conv2d { stride: (2, 2), ..same };
    assert!(suits([64, 28, 28, 32], [3, 3, 32, 32], same, Dtype::F32));
    assert!(suits([1, 28, 28, 32], [3, 3, 32, 32], same, Dtype::F32), "whatever the batch");
    assert!(suits([64, 7, 7, 128], [3, 3, 128, 128], same, Dtype::F32));
    assert!(suits([64, 6, 9, 16], [3, 3, 16, 17], Conv2d::VALID, Dtype::F32));
    assert!(!suits([64, 28, 28, 32], [3, 3, 32, 32], same, Dtype::F64));
    assert!(!suits([64, 28, 28, 32], [3, 3, 32, 32], strided, Dtype::F32));
    assert!(!suits([64, 28, 28, 32], [3, 3, 32, 32], Conv2d { stride: (1, 2), ..same }, Dtype::F32));
    assert!(!suits([64, 28, 28, 32], [5, 5, 32, 32], Conv2d::same(5, 5), Dtype::F32));
    assert!(!suits([64, 28, 28, 32], [1, 3, 32, 32], Conv2d::same(1, 3), Dtype::F32));
    assert!(!suits([64, 28, 28, 1], [3, 3, 1, 32], same, Dtype::F32));
    assert!(!suits([64, 28, 28, 32], [3, 3, 32, 3], same, Dtype::F32));
    assert!(!suits([64, 2, 2, 32], [3, 3, 32, 32], same, Dtype::F32));
    assert!(!suits([64, 1, 1, 32], [3, 3, 32, 32], same, Dtype::F32));
}

#[test]
fn a_sample_does_not_depend_on_its_batch_nor_anything_on_the_number_of_threads() {
    for (image, c_out) in [([7, 28, 28, 20], 37), ([40, 6, 7, 32], 16), ([2, 40, 33, 64], 48), ([2, 44, 40, 160], 20)] {
        let how = Conv2d::same(3, 3);
        let (x, w) = (sample(&image, 0).to(Dtype::F32), sample(&[3, 3, image[3], c_out], 1).to(Dtype::F32));
        let bias = sample(&[c_out], 2).to(Dtype::F32);
        let v = sample(&[image[0], image[1], image[2], c_out], 3).to(Dtype::F32);
        let run = |threads: usize, order: Order| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| all((Vectors::Widest, order), how, &x, &w, &bias, &v).map(|t| t.to_vec::<f32>()))
        };
        let one = run(1, Order::Bands);
        assert!(one == run(2, Order::Bands) && one == run(5, Order::Bands), "{image:?}");
        let other = run(1, Order::Channels);
        assert!(other == run(2, Order::Channels) && other == run(5, Order::Channels), "{image:?}");
        assert!(one[..2] == other[..2], "{image:?}: the order does not matter where nothing is summed over the batch");
        for b in 0..image[0] {
            let part = [x.slice(0, b..b + 1), v.slice(0, b..b + 1)];
            let alone = all((Vectors::Widest, ORDERS[b % 2]), how, &part[0], &w, &bias, &part[1]);
            for (alone, batch) in alone[..2].iter().zip(&one) {
                let n = alone.len();
                assert!(alone.to_vec::<f32>() == batch[b * n..][..n], "{image:?}: sample {b}");
            }
        }
    }
}
