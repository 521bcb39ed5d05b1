//! Linear combinations of states, the only arithmetic solvers do on tensors.

use fokker_tensor::{Device, Dtype, Element, Tensor, update};

/// `a x + Σ_i c_i y_i`, all of one shape and type; coefficients in `f64`, rounded to the state's type once.
///
/// Terms with coefficient 0 are left out, whatever is in them. In one pass over memory and in `x`'s own buffer where
/// nothing else uses it; recorded like any operation if a tensor is tracked.
///
/// # Panics
/// If shapes or types differ.
#[track_caller]
pub fn combine(a: f64, x: Tensor, terms: &[(f64, &Tensor)]) -> Tensor {
    for (_, y) in terms {
        assert_eq!(x.shape(), y.shape(), "combine: shapes {:?} and {:?}", x.shape(), y.shape());
        assert_eq!(x.dtype(), y.dtype(), "combine: types {} and {}", x.dtype(), y.dtype());
    }
    let terms: Vec<(f64, &Tensor)> = terms.iter().filter(|(c, _)| *c != 0.0).copied().collect();
    if x.is_tracked() || terms.iter().any(|(_, y)| y.is_tracked()) {
        return terms.iter().fold(&x * a, |sum, (c, y)| &sum + &(*y * *c));
    }
    update::combine(a, x, &terms)
}

/// `y' = a y + b z + Σ_i c_i u_i` and then `z' = d z + e y' + Σ_i f_i u_i` with `first` `(a, b)`, `second` `(d, e)` and `terms`
/// `(c_i, f_i, u_i)`: an answer and the state it leads to, each with the bits that [`combine`] gives it, but in one pass over memory.
///
/// What has coefficient 0 is left out, whatever is in it.
///
/// # Panics
/// If shapes or types differ.
#[track_caller]
pub(crate) fn combine_two(
    y: Tensor,
    z: Tensor,
    first: (f64, f64),
    second: (f64, f64),
    terms: &[(f64, f64, &Tensor)],
) -> (Tensor, Tensor) {
    if y.is_tracked() || z.is_tracked() || terms.iter().any(|(_, _, u)| u.is_tracked()) {
        let of = |x: &Tensor, scale: f64, by: &Tensor, c: f64, terms: Vec<(f64, &Tensor)>| match scale {
            0.0 => combine(c, by.clone(), &terms),
            _ => combine(scale, x.clone(), &[vec![(c, by)], terms].concat()),
        };
        let y = of(&y, first.0, &z, first.1, terms.iter().map(|(c, _, u)| (*c, *u)).collect());
        let z = of(&z, second.0, &y, second.1, terms.iter().map(|(_, f, u)| (*f, *u)).collect());
        return (y, z);
    }
    update::combine_two(y, z, first, second, terms)
}

/// The same with coefficients of its own for each sample: row `b` is `a[b] x[b] + Σ_i c_i[b] y_i[b]`, all of shape `[B, ...]`. What has
/// coefficient 0 is left out, `x` too.
///
/// # Panics
/// If shapes or types differ, or coefficients are not as many as samples.
#[track_caller]
pub(crate) fn combine_each(a: &[f64], x: Tensor, terms: &[(&[f64], &Tensor)]) -> Tensor {
    assert!(
        a.len() == x.dim(0) && terms.iter().all(|(c, y)| c.len() == a.len() && y.shape() == x.shape()),
        "combine_each: one coefficient for each of {} samples, and one shape",
        x.dim(0)
    );
    if x.is_tracked() || terms.iter().any(|(_, y)| y.is_tracked()) {
        let mut shape = vec![1; x.rank()];
        shape[0] = a.len();
        let scaled = |c: &[f64], y: &Tensor| y * &Tensor::from_f64(&shape, c, y.dtype());
        return terms.iter().fold(scaled(a, &x), |sum, (c, y)| &sum + &scaled(c, y));
    }
    match (x.device(), x.dtype()) {
        (Device::Cpu, Dtype::F32) => each_in_place::<f32>(a, x, terms),
        (Device::Cpu, Dtype::F64) => each_in_place::<f64>(a, x, terms),
        (Device::Cpu, Dtype::Bf16) => panic!("combine_each: a state of bf16: states are f32 or f64"),
    }
}

fn each_in_place<T: Element>(a: &[f64], mut x: Tensor, terms: &[(&[f64], &Tensor)]) -> Tensor {
    let size = (x.len() / a.len().max(1)).max(1);
    x.update::<T>(|x| {
        for (b, row) in x.chunks_mut(size).enumerate() {
            match (a[b], T::of(a[b])) {
                (0.0, zero) => row.fill(zero),
                (_, scale) => row.iter_mut().for_each(|x| *x = scale * *x),
            }
            for (c, y) in terms.iter().filter(|(c, _)| c[b] != 0.0) {
                let c = T::of(c[b]);
                row.iter_mut().zip(&y.as_slice::<T>()[b * size..]).for_each(|(x, &y)| *x += c * y);
            }
        }
    });
    x
}

/// Row `b` of `chosen` where `which[b]`, of `other` elsewhere; both `[B, ...]`.
pub(crate) fn select(which: &[bool], chosen: Tensor, other: &Tensor) -> Tensor {
    if which.iter().all(|&w| w) {
        return chosen;
    }
    let part = |wanted: bool| which.iter().map(|&w| f64::from(w == wanted)).collect::<Vec<_>>();
    combine_each(&part(true), chosen, &[(&part(false), other)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_of_up_to_five_terms_agree_with_tensor_arithmetic_and_spare_shared_states() {
        let noise = fokker_tensor::Noise::new(1, 0);
        for dtype in [Dtype::F32, Dtype::F64] {
            let tensors: Vec<Tensor> = (0..6).map(|i| noise.normal(&[3, 5], 0, i, dtype)).collect();
            for n in 0..6 {
                let terms: Vec<(f64, &Tensor)> = (0..n).map(|i| (0.3 * i as f64 - 0.5, &tensors[i + 1])).collect();
                let before = tensors[0].to_vec::<f64>();
                let found = combine(1.7, tensors[0].clone(), &terms).to_vec::<f64>();
                assert_eq!(tensors[0].to_vec::<f64>(), before, "a state that is still in use must not change");
                for (j, found) in found.iter().enumerate() {
                    let sum: f64 = terms.iter().map(|(c, y)| c * y.to_vec::<f64>()[j]).sum();
                    assert!((found - (1.7 * before[j] + sum)).abs() < 1e-6, "{n} terms: {found}");
                }
            }
        }
    }

    #[test]
    fn long_states_are_combined_like_short_ones_whether_shared_or_not() {
        let noise = fokker_tensor::Noise::new(3, 0);
        let tensors: Vec<Tensor> = (0..5).map(|i| noise.normal(&[40_001, 1], 0, i, Dtype::F32)).collect();
        let terms: Vec<(f64, &Tensor)> = tensors[1..].iter().zip([0.5, -2.0, 0.25, 3.0]).map(|(y, c)| (c, y)).collect();
        let (kept, own) = (tensors[0].to_vec::<f64>(), Tensor::from_vec(&[40_001, 1], tensors[0].to_vec::<f32>()));
        let shared = combine(-0.75, tensors[0].clone(), &terms);
        assert_eq!(tensors[0].to_vec::<f64>(), kept);
        assert_eq!(shared.to_vec::<f32>(), combine(-0.75, own, &terms).to_vec::<f32>());
        for i in [0, 1023, 1024, 16_383, 16_384, 32_768, 40_000] {
            let row = |t: &Tensor| t.slice(0, i..i + 1);
            let short: Vec<(f64, Tensor)> = terms.iter().map(|(c, y)| (*c, row(y))).collect();
            let expected = combine(-0.75, row(&tensors[0]), &short.iter().map(|(c, y)| (*c, y)).collect::<Vec<_>>());
            assert_eq!(row(&shared).item(), expected.item(), "element {i}");
        }
    }

    #[test]
    fn two_combinations_in_one_pass_have_the_bits_of_two_passes_whatever_is_shared_and_tracked() {
        let noise = fokker_tensor::Noise::new(4, 0);
        for (dtype, n) in [(Dtype::F32, 40_001), (Dtype::F64, 77)] {
            let tensors: Vec<Tensor> = (0..6).map(|i| noise.normal(&[n, 1], 0, i, dtype)).collect();
            let fresh = |i: usize| combine(1.0, tensors[i].clone(), &[]);
            let bad = Tensor::full(&[n, 1], f64::NAN, dtype);
            for ((a, b), (d, e)) in [((1.5, -0.5), (0.25, 2.0)), ((1.5, 0.0), (0.0, 2.0)), ((0.5, 1.0), (0.0, 1.5))] {
                for count in 0..5 {
                    let terms: Vec<(f64, f64, &Tensor)> = (0..count)
                        .map(|i| (0.5 * i as f64, 0.75 - i as f64, &tensors[i + 2]))
                        .chain([(0.0, 0.0, &bad)])
                        .collect();
                    let part = |c: &dyn Fn(&(f64, f64, &Tensor)) -> f64| terms.iter().map(c).collect::<Vec<_>>();
                    let with = |first: (f64, &Tensor), c: Vec<f64>| {
                        let terms = terms.iter().zip(c).map(|(t, c)| (c, t.2));
                        [first].into_iter().chain(terms).map(|(c, u)| (c, u.clone())).collect::<Vec<_>>()
                    };
                    let sum = |scale: f64, x: &Tensor, terms: &[(f64, Tensor)]| {
                        let terms: Vec<(f64, &Tensor)> = terms.iter().map(|(c, u)| (*c, u)).collect();
                        if scale == 0.0 {
                            combine(terms[0].0, terms[0].1.clone(), &terms[1..])
                        } else {
                            combine(scale, x.clone(), &terms)
                        }
                    };
                    let y = sum(a, &tensors[0], &with((b, &tensors[1]), part(&|t| t.0)));
                    let z = sum(d, &tensors[1], &with((e, &y), part(&|t| t.1)));
                    let expected = (y.to_vec::<f64>(), z.to_vec::<f64>());
                    let bits = |(y, z): (Tensor, Tensor)| (y.to_vec::<f64>(), z.to_vec::<f64>());
                    let before = (tensors[0].to_vec::<f64>(), tensors[1].to_vec::<f64>());
                    for (y, z) in [(tensors[0].clone(), tensors[1].clone()), (fresh(0), fresh(1)), (fresh(0), tensors[1].clone())]
                    {
                        assert_eq!(bits(combine_two(y, z, (a, b), (d, e), &terms)), expected, "{count} terms");
                    }
                    assert_eq!(
                        (tensors[0].to_vec::<f64>(), tensors[1].to_vec::<f64>()),
                        before,
                        "shared tensors must not change"
                    );
                    let tracked = combine_two(tensors[0].track(), tensors[1].clone(), (a, b), (d, e), &terms);
                    assert!(tracked.0.is_tracked() && tracked.1.is_tracked());
                    for (found, expected) in [(tracked.0, &y), (tracked.1, &z)] {
                        assert!((&found.detach() - expected).abs().max_all().item() < 1e-5);
                    }
                }
            }
            // One tensor as both, as of a state that is a term of its own answer.
            let (y, z) = combine_two(tensors[0].clone(), tensors[0].clone(), (1.0, 1.0), (1.0, 1.0), &[]);
            assert_eq!(y.to_vec::<f64>(), combine(2.0, tensors[0].clone(), &[]).to_vec::<f64>());
            assert_eq!(z.to_vec::<f64>(), combine(1.0, tensors[0].clone(), &[(1.0, &y)]).to_vec::<f64>());
        }
    }

    #[test]
    fn samples_with_coefficients_of_their_own_are_combined_row_by_row() {
        let noise = fokker_tensor::Noise::new(2, 0);
        for dtype in [Dtype::F32, Dtype::F64] {
            let tensors: Vec<Tensor> = (0..3).map(|i| noise.normal(&[2, 3], 0, i, dtype)).collect();
            let (a, c, d) = ([2.0, -1.0], [0.5, 0.0], [-3.0, 1.5]);
            let terms = [(&c[..], &tensors[1]), (&d[..], &tensors[2])];
            let found = combine_each(&a, tensors[0].clone(), &terms);
            for b in 0..2 {
                let row = |t: &Tensor| t.slice(0, b..b + 1);
                let expected = combine(a[b], row(&tensors[0]), &[(c[b], &row(&tensors[1])), (d[b], &row(&tensors[2]))]);
                assert!((&row(&found) - &expected).abs().max_all().item() < 1e-6);
            }
            let tracked = combine_each(&a, tensors[0].track(), &terms);
            assert!(tracked.is_tracked() && (&tracked.detach() - &found).abs().max_all().item() < 1e-6);
            let selected = select(&[false, true], tensors[0].clone(), &tensors[1]).to_vec::<f64>();
            assert_eq!(selected, [&tensors[1].to_vec::<f64>()[..3], &tensors[0].to_vec::<f64>()[3..]].concat());
        }
    }

    #[test]
    fn a_term_with_coefficient_zero_is_left_out_even_if_it_is_not_finite() {
        let x = Tensor::ones(&[2], Dtype::F64);
        let bad = Tensor::full(&[2], f64::INFINITY, Dtype::F64);
        assert_eq!(combine(2.0, x, &[(0.0, &bad)]).to_vec::<f64>(), [2.0, 2.0]);
    }

    #[test]
    fn a_tracked_combination_is_recorded() {
        let x = Tensor::ones(&[2], Dtype::F64).track();
        let y = Tensor::ones(&[2], Dtype::F64);
        let loss = combine(3.0, x.clone(), &[(2.0, &y)]).square().sum_all();
        assert_eq!(fokker_tensor::grad(loss, &[&x])[0].to_vec::<f64>(), [30.0, 30.0]);
    }
}
