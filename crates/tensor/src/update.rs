//! In-place updates of parameters, fused into one pass over each.
//!
//! These are not differentiable operations: they change their target, which must not be part of a graph.

mod combine;

pub use combine::{combine, combine_two};
use pulp::NullaryFnOnce;

use crate::Device;
use crate::element::Element;
use crate::element::num::Real;
use crate::par;
use crate::simd;
use crate::tensor::{Tensor, by_dtype};

#[track_caller]
fn same_shapes(name: &str, tensors: &[&Tensor]) {
    for t in tensors {
        assert!(
            t.shape() == tensors[0].shape() && t.dtype() == tensors[0].dtype(),
            "{name}: {} {:?} beside {} {:?}",
            tensors[0].dtype(),
            tensors[0].shape(),
            t.dtype(),
            t.shape()
        );
    }
}

/// Elements that stay in the first cache from an update to the average.
const BLOCK: usize = 512;

/// The coefficients of one step of Adam or AdamW, bias corrections included (Kingma & Ba 2015, algorithm 1, in the order of
/// operations of section 2's last paragraph generalised as PyTorch does; Loshchilov & Hutter 2019, algorithm 2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether weight decay acts on the parameters (AdamW) or joins the gradient (Adam).
    pub decoupled: bool,
    /// Steps taken, this one included: 1, 2, ….
    pub step: u64,
    /// What gradients are multiplied with first (gradient clipping).
    pub gradient_scale: f64,
}

/// One Adam or AdamW step: `param`, `mean` and `square` are updated in one pass, and if there is one, `average` with its weight too: what
/// [`lerp`] to the new `param` would make of it, to the bit.
///
/// # Panics
/// If shapes or types differ.
#[track_caller]
pub fn adam(
    param: &mut Tensor,
    mean: &mut Tensor,
    square: &mut Tensor,
    average: Option<(&mut Tensor, f64)>,
    grad: &Tensor,
    c: &AdamStep,
) {
    same_shapes("adam", &[param, mean, square, grad]);
    match param.device() {
        Device::Cpu => by_dtype!(param.dtype(), T => {
            let [p, m, v] = [param, mean, square].map(|t| t.make_mut::<T>());
            let (cost, of) = (p.len(), |i: usize, n: usize| &grad.as_slice::<T>()[i * par::PIECE..][..n]);
            match average {
                None => par::pieces_of([p, m, v], par::PIECE, cost, |i, [p, m, v]| {
                    simd::widest(AdamLoop { g: of(i, p.len()), p, m, v, average: None, c });
                }),
                Some((average, weight)) => {
                    same_shapes("adam", &[average, grad]);
                    par::pieces_of([p, m, v, average.make_mut::<T>()], par::PIECE, cost, |i, [p, m, v, e]| {
                        simd::widest(AdamLoop { g: of(i, p.len()), p, m, v, average: Some((e, T::of(weight))), c });
                    });
                }
            }
        }),
    }
}

struct AdamLoop<'a, T> {
    p: &'a mut [T],
    m: &'a mut [T],
    v: &'a mut [T],
    g: &'a [T],
    /// The average and its step's weight.
    average: Option<(&'a mut [T], T)>,
    c: &'a AdamStep,
}

impl<T: Element> NullaryFnOnce for AdamLoop<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let c = self.c;
        let correction1 = 1.0 - c.beta1.powf(c.step as f64);
        let correction2 = 1.0 - c.beta2.powf(c.step as f64);
        let (beta1, beta2) = (T::of(c.beta1), T::of(c.beta2));
        let (rest1, rest2) = (T::of(1.0 - c.beta1), T::of(1.0 - c.beta2));
        let rate = T::of(c.learning_rate / correction1);
        let root = T::of(1.0 / correction2.sqrt());
        let epsilon = T::of(c.epsilon);
        let scale = T::of(c.gradient_scale);
        let (joined, shrink) =
            if c.decoupled { (T::ZERO, T::of(1.0 - c.learning_rate * c.weight_decay)) } else { (T::of(c.weight_decay), T::ONE) };
        let mut average = self.average.map(|(e, w)| (e.chunks_mut(BLOCK), w));
        let blocks =
            self.p.chunks_mut(BLOCK).zip(self.m.chunks_mut(BLOCK)).zip(self.v.chunks_mut(BLOCK)).zip(self.g.chunks(BLOCK));
        for (((p, m), v), g) in blocks {
            for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
                let g = g * scale + joined * *p;
                *m = beta1 * *m + rest1 * g;
                *v = beta2 * *v + rest2 * (g * g);
                *p = shrink * *p - rate * *m / (v.sqrt() * root + epsilon);
            }
            if let Some((blocks, w)) = &mut average {
                let e = blocks.next().expect("as many blocks as of the parameters");
                e.iter_mut().zip(&*p).for_each(|(e, &p)| *e += *w * (p - *e));
            }
        }
    }
}

/// The coefficients of one step of gradient descent with momentum, in PyTorch's form (no dampening).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the velocity.
    pub momentum: f64,
    /// Nesterov's look-ahead.
    pub nesterov: bool,
    /// Joins the gradient.
    pub weight_decay: f64,
    /// What gradients are multiplied with first (gradient clipping).
    pub gradient_scale: f64,
}

/// One step of gradient descent: `velocity = momentum velocity + g`, `param -= rate velocity` (or Nesterov's form).
///
/// # Panics
/// If shapes or types differ.
#[track_caller]
pub fn sgd(param: &mut Tensor, velocity: &mut Tensor, grad: &Tensor, c: &SgdStep) {
    same_shapes("sgd", &[param, velocity, grad]);
    match param.device() {
        Device::Cpu => by_dtype!(param.dtype(), T => {
            let (rate, momentum) = (T::of(c.learning_rate), T::of(c.momentum));
            let (scale, decay) = (T::of(c.gradient_scale), T::of(c.weight_decay));
            let pairs = param.make_mut::<T>().iter_mut().zip(velocity.make_mut::<T>());
            for ((p, v), &g) in pairs.zip(grad.as_slice::<T>()) {
                let g = g * scale + decay * *p;
                *v = momentum * *v + g;
                let direction = if c.nesterov { g + momentum * *v } else { *v };
                *p += -(rate * direction);
            }
        }),
    }
}

/// `target += weight (towards - target)`: one step of an exponential moving average.
///
/// # Panics
/// If shapes or types differ.
#[track_caller]
pub fn lerp(target: &mut Tensor, towards: &Tensor, weight: f64) {
    same_shapes("lerp", &[target, towards]);
    match target.device() {
        Device::Cpu => by_dtype!(target.dtype(), T => {
            let w = T::of(weight);
            let cost = target.len();
            par::pieces(target.make_mut::<T>(), par::PIECE, cost, |i, out| {
                let x = &towards.as_slice::<T>()[i * par::PIECE..][..out.len()];
                simd::widest(simd::Update { out, x, f: move |t: T, x: T| t + w * (x - t) });
            });
        }),
    }
}

/// `Σ x²`, accumulated in `f64`.
pub fn squared_norm(x: &Tensor) -> f64 {
    match x.device() {
        Device::Cpu => by_dtype!(x.dtype(), T => simd::long_sum(x.as_slice::<T>(), |x| x * x)),
    }
}
