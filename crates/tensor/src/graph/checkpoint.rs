//! A function as one operation, whose own graph is made when its derivatives are wanted.

use std::collections::HashMap;

use super::{Keep, Op, Saved, forward, leaf_id, nodes_between, record, reverse};
use crate::tensor::Tensor;

/// `f` of `inputs`, of which nothing but the inputs is kept for the backward pass: what lies between is computed once more there (Griewank &
/// Walther 2000, doi:10.1145/347837.347846; Chen et al. 2016, arXiv:1604.06174, section 4.1).
///
/// Everything tracked that `f` uses must be among the inputs: gradients do not reach what it has captured. `f` must give the same result
/// each time. Costs one evaluation of `f` more in a backward pass, and the memory of its graph only then.
///
/// # Panics
/// If there are more than 64 inputs.
#[track_caller]
pub fn checkpoint(f: impl Fn(&[Tensor]) -> Tensor + Send + Sync + 'static, inputs: &[&Tensor]) -> Tensor {
    assert!(inputs.len() <= 64, "checkpoint: {} inputs, at most 64", inputs.len());
    let plain: Vec<Tensor> = inputs.iter().map(|t| t.detach()).collect();
    let y = f(&plain);
    assert!(!y.is_tracked(), "checkpoint: the function uses a tracked tensor that is not among its inputs");
    record(Checkpoint(f), inputs, y)
}

struct Checkpoint<F>(F);

impl<F: Fn(&[Tensor]) -> Tensor + Send + Sync + 'static> Op for Checkpoint<F> {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn keep(&self, tracked: &[bool]) -> Keep {
        Keep::inputs(&(0..tracked.len()).collect::<Vec<_>>())
    }

    fn vjp(&self, saved: &Saved, grad: &Tensor, needed: &[bool]) -> Vec<Option<Tensor>> {
        self.vjps(saved, std::slice::from_ref(grad), needed).remove(0)
    }

    fn vjps(&self, saved: &Saved, grads: &[Tensor], needed: &[bool]) -> Vec<Vec<Option<Tensor>>> {
        let inputs: Vec<Tensor> = needed
            .iter()
            .enumerate()
            .map(|(i, &needed)| if needed { saved.input(i).track() } else { saved.input(i).detach() })
            .collect();
        let ids: Vec<u64> = inputs.iter().filter(|t| t.is_tracked()).map(leaf_id).collect();
        let mut found = match (self.0)(&inputs).node {
            None => HashMap::new(),
            Some(root) => {
                let order = nodes_between(&ids, &root);
                drop(root);
                reverse(order, grads.to_vec(), &ids)
            }
        };
        let mut results = vec![vec![None; inputs.len()]; grads.len()];
        for (i, t) in inputs.iter().enumerate().filter(|(_, t)| t.is_tracked()) {
            let zeros = || vec![Tensor::zeros(t.shape(), t.dtype()); grads.len()];
            let of_input = found.remove(&leaf_id(t)).unwrap_or_else(zeros);
            results.iter_mut().zip(of_input).for_each(|(result, grad)| result[i] = Some(grad));
        }
        results
    }

    fn widens(&self) -> bool {
        false
    }

    fn jvp(&self, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
        let recorded =
            (0..tangents.len()).any(|i| saved.input(i).is_tracked()) || tangents.iter().flatten().any(Tensor::is_tracked);
        // Leaves of their own, which keep the link to whatever the inputs were computed from.
        let inputs: Vec<Tensor> = (0..tangents.len())
            .map(|i| match (saved.input(i), &tangents[i]) {
                (x, None) => x.clone(),
                (x, Some(_)) if x.is_tracked() => crate::ops::shape::identity(x),
                (x, Some(_)) => x.track(),
            })
            .collect();
        let y = (self.0)(&inputs);
        let known: HashMap<u64, Tensor> =
            inputs.iter().zip(tangents).filter_map(|(x, t)| t.as_ref().map(|t| (leaf_id(x), t.clone()))).collect();
        let ids: Vec<u64> = known.keys().copied().collect();
        let tangent = y.node.as_ref().and_then(|root| forward(&nodes_between(&ids, root), known, recorded));
        tangent.unwrap_or_else(|| Tensor::zeros(y.shape(), y.dtype()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Noise, check, grad, linearize};

    fn inputs() -> [Tensor; 3] {
        let draw = |shape: &[usize], i| Noise::new(1, i).normal(shape, 0, 0, Dtype::F64);
        [draw(&[3, 4], 0), draw(&[4, 2], 1), draw(&[2], 2)]
    }

    /// Uses the first input twice, and not the last.
    fn f(t: &[Tensor]) -> Tensor {
        &t[0].linear(&t[1], None).silu() + &t[0].matmul(&t[1]).square()
    }

    #[test]
    fn it_has_the_derivatives_of_its_function_and_of_what_surrounds_it() {
        let given = inputs();
        let plain = |x: &Tensor| f(&[x.exp(), given[1].clone(), given[2].clone()]).sin();
        let kept = |x: &Tensor| checkpoint(f, &[&x.exp(), &given[1], &given[2]]).sin();
        let ((y, j), (expected, k)) = (linearize(kept, &given[0]), linearize(plain, &given[0]));
        assert_eq!(y.to_vec::<f64>(), expected.to_vec::<f64>());
        let (u, v) = (Noise::new(2, 0).normal(&[3, 4], 0, 0, Dtype::F64), Noise::new(2, 1).normal(&[3, 2], 0, 0, Dtype::F64));
        let close = |a: &Tensor, b: &Tensor| {
            let scale = 1.0 + b.abs().max_all().item();
            assert!((a - b).abs().max_all().item() < 1e-13 * scale, "{a:?} and {b:?}");
        };
        close(&j.jvp(&u), &k.jvp(&u));
        assert!(!j.jvp(&u).is_tracked());
        close(&j.vjp(&v), &k.vjp(&v));
        let several = [v.clone(), &v * -2.0];
        j.vjps(&several).iter().zip(k.vjps(&several)).for_each(|(a, b)| close(a, &b));
        // Reverse over forward, as sliced score matching needs it.
        let second = |f: &dyn Fn(&Tensor) -> Tensor| {
            let x = given[0].track();
            let (_, j) = linearize(f, &x);
            grad(j.jvp_recorded(&u).square().sum_all(), &[&x]).remove(0)
        };
        close(&second(&kept), &second(&plain));
        let weight = |f: &dyn Fn(&Tensor) -> Tensor| {
            let w = given[1].track();
            grad(f(&w), &[&w]).remove(0)
        };
        close(
            &weight(&|w| checkpoint(f, &[&given[0], w, &given[2]]).sum_all()),
            &weight(&|w| f(&[given[0].clone(), w.clone(), given[2].clone()]).sum_all()),
        );
    }

    #[test]
    fn it_passes_the_checks_of_every_operation() {
        check::op("checkpoint", |t| checkpoint(f, &t.iter().collect::<Vec<_>>()), &inputs());
    }

    #[test]
    fn an_input_that_is_not_used_has_gradient_zero_and_nothing_is_recorded_for_plain_inputs() {
        let [x, w, b] = inputs();
        assert!(!checkpoint(f, &[&x, &w, &b]).is_tracked());
        let b = b.track();
        assert_eq!(grad(checkpoint(f, &[&x, &w, &b]).sum_all(), &[&b])[0].to_vec::<f64>(), [0.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "not among its inputs")]
    fn a_tracked_tensor_that_is_captured_is_refused() {
        let [x, w, _] = inputs();
        let w = w.track();
        checkpoint(move |t| t[0].matmul(&w), &[&x]);
    }
}
