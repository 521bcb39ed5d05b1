//! Matrix products.

use crate::gemm::{Into, Mat, Threads, gemm};
use crate::graph::{Keep, Op, Saved, record};
use crate::par;
use crate::tensor::{Tensor, by_dtype, count, in_f32};
use crate::{Device, Dtype};

/// `op(A) op(B)` over leading batch axes, `op` a transpose where asked.
#[derive(Clone, Copy)]
struct Matmul {
    transpose_a: bool,
    transpose_b: bool,
}

/// The last two extents, swapped if `transposed`.
fn matrix(shape: &[usize], transposed: bool) -> (usize, usize) {
    let (rows, cols) = (shape[shape.len() - 2], shape[shape.len() - 1]);
    if transposed { (cols, rows) } else { (rows, cols) }
}

#[track_caller]
fn matmul(a: &Tensor, b: &Tensor, transpose_a: bool, transpose_b: bool) -> Tensor {
    assert_eq!(a.dtype(), b.dtype(), "matmul: element types differ");
    let (sa, sb) = (a.shape(), b.shape());
    let fits = sa.len() >= 2
        && sb.len() >= 2
        && matrix(sa, transpose_a).1 == matrix(sb, transpose_b).0
        && (sb.len() == 2 || sa[..sa.len() - 2] == sb[..sb.len() - 2]);
    assert!(
        fits,
        "matmul: shapes {sa:?}{} and {sb:?}{} do not multiply",
        if transpose_a { " (transposed)" } else { "" },
        if transpose_b { " (transposed)" } else { "" }
    );
    if sb.len() == 2 && sa.len() > 2 {
        // One matrix for the whole batch: the batch joins the rows.
        assert!(!transpose_a, "matmul: a batch of transposed matrices {sa:?} with a single {sb:?}");
        let (_, n) = matrix(sb, transpose_b);
        let rows = count(&sa[..sa.len() - 1]);
        let mut shape = sa.to_vec();
        *shape.last_mut().expect("at least two axes") = n;
        return matmul(&a.reshape(&[rows, sa[sa.len() - 1]]), b, false, transpose_b).reshape(&shape);
    }
    if a.dtype() == Dtype::Bf16 {
        return in_f32([a, b], |[a, b]| matmul(a, b, transpose_a, transpose_b));
    }
    let op = Matmul { transpose_a, transpose_b };
    record(op, &[a, b], op.forward(a, b))
}

impl Matmul {
    fn forward(self, a: &Tensor, b: &Tensor) -> Tensor {
        let (m, k) = matrix(a.shape(), self.transpose_a);
        let (_, n) = matrix(b.shape(), self.transpose_b);
        let lead = &a.shape()[..a.rank() - 2];
        let batch = count(lead);
        let shape: Vec<usize> = lead.iter().copied().chain([m, n]).collect();
        match a.device() {
            Device::Cpu => by_dtype!(a.dtype(), T => {
                let (x, y) = (a.as_slice::<T>(), b.as_slice::<T>());
                let left = |i: usize| {
                    let data = &x[i * m * k..][..m * k];
                    if self.transpose_a { Mat::new(data, k, m).t() } else { Mat::new(data, m, k) }
                };
                let right = |i: usize| {
                    let data = &y[i * k * n..][..k * n];
                    if self.transpose_b { Mat::new(data, n, k).t() } else { Mat::new(data, k, n) }
                };
                Tensor::build(&shape, |out: &mut [T]| {
                    if batch == 1 {
                        gemm(left(0), right(0), out, n, 1.0, Into::Overwrite, Threads::Pool);
                    } else {
                        par::pieces(out, m * n, batch * m * n * k, |i, out| {
                            gemm(left(i), right(i), out, n, 1.0, Into::Overwrite, Threads::One);
                        });
                    }
                })
            }),
        }
    }
}

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn keep(&self, tracked: &[bool]) -> Keep {
        Keep::inputs(&[1, 0].into_iter().filter(|&other| tracked[1 - other]).collect::<Vec<_>>())
    }

    fn vjp(&self, saved: &Saved, grad: &Tensor, needed: &[bool]) -> Vec<Option<Tensor>> {
        let Matmul { transpose_a, transpose_b } = *self;
        let da = needed[0].then(|| {
            let b = saved.input(1);
            if transpose_a { matmul(b, grad, transpose_b, true) } else { matmul(grad, b, false, !transpose_b) }
        });
        let db = needed[1].then(|| {
            let a = saved.input(0);
            if transpose_b { matmul(grad, a, true, transpose_a) } else { matmul(a, grad, !transpose_a, false) }
        });
        vec![da, db]
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        let Matmul { transpose_a, transpose_b } = *self;
        let from_a = tangents[0].as_ref().map(|t| matmul(t, saved.input(1), transpose_a, transpose_b));
        let from_b = tangents[1].as_ref().map(|t| matmul(saved.input(0), t, transpose_a, transpose_b));
        sum_of(from_a, from_b)
    }
}

fn sum_of(a: Option<Tensor>, b: Option<Tensor>) -> Tensor {
    match (a, b) {
        (Some(a), Some(b)) => &a + &b,
        (Some(t), None) | (None, Some(t)) => t,
        (None, None) => unreachable!("jvp is called with a tangent"),
    }
}

impl Tensor {
    /// `self · other`: `[..., M, K] × [..., K, N]`, or a single `[K, N]` for all of a batch.
    ///
    /// # Panics
    /// If the shapes do not multiply or the types differ.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Tensor {
        matmul(self, other, false, false)
    }

    /// `self · otherᵀ`: `[..., M, K] × [..., N, K]`.
    ///
    /// # Panics
    /// If the shapes do not multiply or the types differ.
    #[track_caller]
    pub fn matmul_nt(&self, other: &Tensor) -> Tensor {
        matmul(self, other, false, true)
    }

    /// `selfᵀ · other`: `[..., K, M] × [..., K, N]`.
    ///
    /// # Panics
    /// If the shapes do not multiply or the types differ.
    #[track_caller]
    pub fn matmul_tn(&self, other: &Tensor) -> Tensor {
        matmul(self, other, true, false)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Dtype, Noise, Tensor, check};

    fn sample(shape: &[usize], step: u32) -> Tensor {
        Noise::new(11, 0).normal(shape, 0, step, Dtype::F64)
    }

    #[test]
    fn products_pass_the_op_checks() {
        for (name, a, b) in
            [("plain", vec![3, 4], vec![4, 5]), ("batched", vec![2, 3, 4], vec![2, 4, 5]), ("shared", vec![2, 3, 4], vec![4, 5])]
        {
            check::op(name, |x| x[0].matmul(&x[1]), &[sample(&a, 0), sample(&b, 1)]);
        }
        check::op("nt", |x| x[0].matmul_nt(&x[1]), &[sample(&[2, 3, 4], 0), sample(&[2, 5, 4], 1)]);
        check::op("tn", |x| x[0].matmul_tn(&x[1]), &[sample(&[2, 4, 3], 0), sample(&[2, 4, 5], 1)]);
        check::op("linear", |x| x[0].linear(&x[1], Some(&x[2])), &[sample(&[2, 3, 4], 0), sample(&[4, 5], 1), sample(&[5], 2)]);
        let (x, w) = (sample(&[3, 4], 0), sample(&[4, 5], 1));
        check::op("bias alone", |b| x.linear(&w, Some(&b[0])), &[sample(&[5], 2)]);
    }

    #[test]
    fn products_of_any_size_agree_with_ndarray_and_have_the_same_bits_on_any_number_of_threads() {
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let three = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for (m, k, n) in [
            (1, 1, 1),
            (7, 5, 3),
            (130, 70, 65),
            (512, 256, 256),
            (1000, 300, 500),
            (3, 2000, 1500),
            (2000, 3, 1500),
            (1, 300, 500),
        ] {
            let noise = Noise::new(1, 2);
            let a = noise.normal(&[m, k], 0, 0, Dtype::F32);
            let b = noise.normal(&[k, n], 0, 1, Dtype::F32);
            let first = one.install(|| a.matmul(&b));
            let second = three.install(|| a.matmul(&b));
            assert_eq!(first.as_slice::<f32>(), second.as_slice::<f32>(), "{m}x{k}x{n}");
            let (a64, b64) = (a.to(Dtype::F64), b.to(Dtype::F64));
            let a2 = ndarray::ArrayView2::from_shape((m, k), a64.as_slice::<f64>()).unwrap();
            let b2 = ndarray::ArrayView2::from_shape((k, n), b64.as_slice::<f64>()).unwrap();
            for (x, y) in first.as_slice::<f32>().iter().zip(a2.dot(&b2).iter()) {
                assert!((f64::from(*x) - y).abs() < 1e-4 * (k as f64).sqrt(), "{m}x{k}x{n}: {x} for {y}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "matmul: shapes [2, 3] and [4, 5] do not multiply")]
    fn shapes_that_do_not_multiply_are_named() {
        let _ = Tensor::zeros(&[2, 3], Dtype::F32).matmul(&Tensor::zeros(&[4, 5], Dtype::F32));
    }
}
