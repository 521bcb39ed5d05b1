//! The divergence of a function of many variables, `tr ∂f/∂x`, from products with its Jacobian `J`, and the size `‖J‖² = tr JᵀJ`
//! besides. The products are taken with `Jᵀ`, which has the same.
//!
//! ```text
//! exact        tr J = Σ_i e_iᵀ J e_i
//! Hutchinson   tr J = E[zᵀ J z]                                       E[z zᵀ] = I
//! Hutch++      tr J = tr QᵀJQ + E[zᵀ (I − QQᵀ) J (I − QQᵀ) z]         Q: an orthonormal basis of J S, S random
//! ```
//!
//! Hutchinson 1989 (doi:10.1080/03610918908812806) for normal and for random-sign `z`; Grathwohl et al. 2019 (arXiv:1810.01367),
//! section 3.1, in continuous flows; Meyer et al. 2021 (arXiv:2010.09649), algorithm 1. With a symmetric `J`, as that of a
//! conditional mean is,
//!
//! ```text
//! Var[zᵀ J z] = 2 ‖J‖²  for normal z,      2 (‖J‖² − Σ_i J_ii²)  for random signs,      divided by the number of probes
//! ```
//!
//! and Hutch++ has what remains of that outside of the few directions that matter most. Pairs `z, −z` are not offered: a
//! quadratic form is the same at both, so that an antithetic probe costs a product and says nothing.

use fokker_tensor::{Dtype, Jacobian, Noise, Tensor, linearize};
use serde::{Deserialize, Serialize};

use crate::error::SolveError;

/// How the divergence is computed: `{ kind = "exact" }` and so on in configuration files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Divergence {
    /// One product for each dimension: no error, no randomness.
    #[default]
    #[serde(rename = "exact")]
    Exact,
    /// The mean over random probes, unbiased: one product for each.
    #[serde(rename = "hutchinson")]
    Hutchinson(Probes),
    /// The same outside of a random sketch of `J`'s range, inside of which it is exact; unbiased. Three products for each probe:
    /// one for a vector of the sketch, one for a vector of its basis, one for a probe. For Jacobians that few directions make up.
    #[serde(rename = "hutch++")]
    HutchPlusPlus(Probes),
}

/// The random vectors of an estimator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Probes {
    /// How many, default 1.
    pub count: usize,
    /// What they are drawn from, default random signs.
    pub law: Law,
    /// Whether each evaluation has its own, default not: the same for a whole solution (Grathwohl et al. 2019, section 3.1),
    /// which makes the integrand a smooth function, as step control needs. Fresh ones average over the solution.
    pub fresh: bool,
}

impl Default for Probes {
    fn default() -> Self {
        Self { count: 1, law: Law::Rademacher, fresh: false }
    }
}

/// The law of a probe's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// −1 or 1: the least variance of all laws with independent numbers.
    #[default]
    Rademacher,
    /// Standard normal.
    Gaussian,
}

/// A function's values at a batch of points, and what was found of its Jacobians.
#[derive(Clone, Debug)]
pub struct Trace {
    /// `f(x)`, `[B, ...]`.
    pub value: Tensor,
    /// `tr J` of each sample, or an estimate.
    pub trace: Vec<f64>,
    /// `‖J‖²`, the sum of all squared entries, of each sample, or an estimate.
    pub squared_norm: Vec<f64>,
    /// How many products with the Jacobian that took.
    pub products: usize,
}

impl Divergence {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// If there are no probes.
    pub fn check(&self) -> Result<(), SolveError> {
        match self {
            Self::Hutchinson(Probes { count: 0, .. }) | Self::HutchPlusPlus(Probes { count: 0, .. }) => {
                let expected = "at least 1, found 0".to_owned();
                Err(SolveError::Config { what: "divergence", kind: self.name(), field: "count", expected })
            }
            _ => Ok(()),
        }
    }

    /// The divergence of `f` at `x`, `[B, ...]`, one for each sample; `f` must treat samples apart and be made of recorded operations.
    /// Sample `i` has the probes of sample `first_sample + i` of `noise`, in any batch.
    ///
    /// One evaluation of `f`, and `D`, `count` or `3 count` products with its Jacobian.
    ///
    /// ```
    /// use fokker_sde::{Cond, Covariance, Denoiser, Edm, Gaussian, Times};
    /// use fokker_solve::Divergence;
    /// use fokker_tensor::{Noise, Tensor};
    ///
    /// let model = Gaussian::new(Edm::default(), &[0.0, 0.0], &Covariance::Diagonal(vec![1.0, 3.0]));
    /// let x = Tensor::from_vec(&[1, 2], vec![0.3, -0.2]);
    /// let found = Divergence::Exact.trace(|x| model.denoise(x, &Times::Same(1.0), &Cond::NONE), &x, Noise::new(0, 0), 0);
    /// assert!((found.trace[0] - (1.0 / 2.0 + 3.0 / 4.0)).abs() < 1e-15);
    /// ```
    ///
    /// # Panics
    /// If `f` returns another shape than it was given.
    #[track_caller]
    pub fn trace(&self, f: impl FnOnce(&Tensor) -> Tensor, x: &Tensor, noise: Noise, first_sample: u64) -> Trace {
        let rows: Vec<usize> = (0..x.dim(0)).collect();
        let drawn = Drawn::new(self, noise, first_sample, x.shape(), x.dtype()).next(&rows);
        let mut linear = Linear::at(|x, _| f(x), x, 1);
        let Estimate { trace, squared_norm } = self.estimate(&mut linear, &drawn);
        Trace { value: linear.value, trace, squared_norm, products: linear.products }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Hutchinson(_) => "hutchinson",
            Self::HutchPlusPlus(_) => "hutch++",
        }
    }

    /// The random vectors, if there are any.
    pub(crate) fn probes(&self) -> Option<&Probes> {
        match self {
            Self::Exact => None,
            Self::Hutchinson(probes) | Self::HutchPlusPlus(probes) => Some(probes),
        }
    }

    /// The products that can be taken at once, for samples of `d` numbers.
    pub(crate) fn together(&self, d: usize) -> usize {
        self.probes().map_or(d, |probes| probes.count)
    }

    /// From the vectors of [`Drawn`].
    pub(crate) fn estimate(&self, linear: &mut Linear, drawn: &[Tensor]) -> Estimate {
        let mut sums = Estimate { trace: vec![0.0; linear.batch()], squared_norm: vec![0.0; linear.batch()] };
        match self {
            Self::Exact => {
                let dims: Vec<usize> = (0..linear.width()).collect();
                for block in dims.chunks(linear.at_once()) {
                    let units: Vec<Tensor> = block.iter().map(|&i| unit(&linear.value, i)).collect();
                    sums.add(linear, &units, 1.0);
                }
            }
            Self::Hutchinson(probes) => sums.add(linear, drawn, 1.0 / probes.count as f64),
            Self::HutchPlusPlus(probes) => {
                let (sketch, rest) = drawn.split_at(probes.count);
                let basis = orthonormal(linear.products(sketch));
                sums.add(linear, &basis, 1.0);
                let outside: Vec<Tensor> = rest.iter().map(|z| basis.iter().fold(z.clone(), |z, q| without(&z, q))).collect();
                sums.add(linear, &outside, 1.0 / probes.count as f64);
            }
        }
        sums
    }
}

/// What was found, one number for each sample.
pub(crate) struct Estimate {
    pub(crate) trace: Vec<f64>,
    pub(crate) squared_norm: Vec<f64>,
}

impl Estimate {
    /// Adds `weight · Σ_v vᵀJᵀv` and `weight · Σ_v |Jᵀv|²`.|Jv|²`.
    fn add(&mut self, linear: &mut Linear, vectors: &[Tensor], weight: f64) {
        for (v, product) in vectors.iter().zip(linear.products(vectors)) {
            self.trace.iter_mut().zip(dots(v, &product)).for_each(|(sum, dot)| *sum += weight * dot);
            self.squared_norm.iter_mut().zip(dots(&product, &product)).for_each(|(sum, dot)| *sum += weight * dot);
        }
    }
}

/// A function at a batch of points, and its derivative there.
pub(crate) struct Linear {
    /// `[B, ...]`.
    pub(crate) value: Tensor,
    jacobian: Jacobian,
    /// How often the batch was evaluated, one copy after the other: as many products are taken at once.
    pub(crate) copies: usize,
    /// The products so far.
    pub(crate) products: usize,
}

/// A batch is evaluated in copies up to this many rows, and up to this many numbers: products with few rows cost as much as with
/// some more, while products with many are only made more expensive by a longer evaluation.
const ROWS: usize = 32;
const NUMBERS: usize = 4096;

/// Products that no copies are made for are taken side by side up to this many numbers: all of their gradients are held at once.
const TOGETHER: usize = 4096;

impl Linear {
    /// `f` at `x`, `[B, ...]`, where `together` products can be taken at once. The rows that `f` is called with are the samples
    /// that its second argument says. One evaluation.
    #[track_caller]
    pub(crate) fn at(f: impl FnOnce(&Tensor, &[usize]) -> Tensor, x: &Tensor, together: usize) -> Self {
        let batch = x.dim(0);
        let copies = (ROWS / batch.max(1)).min(NUMBERS / x.len().max(1)).min(together).max(1);
        let rows: Vec<usize> = (0..copies).flat_map(|_| 0..batch).collect();
        let x = x.detach();
        let wide = if copies == 1 { x } else { x.gather(&rows) };
        let (value, jacobian) = linearize(|x| f(x, &rows), &wide);
        assert_eq!(value.shape(), wide.shape(), "the divergence of a function from {:?} to {:?}", wide.shape(), value.shape());
        let value = value.detach();
        let value = if copies == 1 { value } else { value.slice(0, 0..batch) };
        Self { value, jacobian, copies, products: 0 }
    }

    /// `Jᵀ v` for each of `vectors`, `[B, ...]`. All that is asked of them is the same for `J`; in reverse mode, layers have what they
    /// need from their evaluation.
    pub(crate) fn products(&mut self, vectors: &[Tensor]) -> Vec<Tensor> {
        self.products += vectors.len();
        let batch = self.batch();
        let mut products = Vec::with_capacity(vectors.len());
        if self.copies == 1 {
            return vectors.chunks(self.at_once()).flat_map(|block| self.jacobian.vjps(block)).collect();
        }
        for block in vectors.chunks(self.copies) {
            let nothing = Tensor::zeros(self.value.shape(), self.value.dtype());
            let filled: Vec<&Tensor> = block.iter().chain(std::iter::repeat(&nothing)).take(self.copies).collect();
            let all = self.jacobian.vjp(&Tensor::concat(&filled, 0));
            products.extend((0..block.len()).map(|i| all.slice(0, i * batch..(i + 1) * batch)));
        }
        products
    }

    /// How many products are taken at once.
    fn at_once(&self) -> usize {
        if self.copies == 1 { (TOGETHER / self.value.len().max(1)).max(1) } else { self.copies }
    }

    fn batch(&self) -> usize {
        self.value.dim(0)
    }

    /// The numbers of a sample.
    fn width(&self) -> usize {
        self.value.len() / self.batch().max(1)
    }
}

/// The random vectors of an estimator for the samples of one batch.
pub(crate) struct Drawn {
    probes: Option<Probes>,
    /// For one evaluation.
    count: usize,
    noise: Noise,
    first_sample: u64,
    /// Of the whole batch.
    shape: Vec<usize>,
    dtype: Dtype,
    evaluation: u32,
    kept: Vec<Tensor>,
}

impl Drawn {
    pub(crate) fn new(divergence: &Divergence, noise: Noise, first_sample: u64, shape: &[usize], dtype: Dtype) -> Self {
        let count = match divergence {
            Divergence::Exact => 0,
            Divergence::Hutchinson(probes) => probes.count,
            Divergence::HutchPlusPlus(probes) => 2 * probes.count,
        };
        let probes = divergence.probes().cloned();
        Self { probes, count, noise, first_sample, shape: shape.to_vec(), dtype, evaluation: 0, kept: Vec::new() }
    }

    /// The vectors of these rows of the batch for the next evaluation. Vector `j` of evaluation `n` of a solution is draw `n ·
    /// count + j` of its sample; `n` is 0 if they are the same for all.
    pub(crate) fn next(&mut self, rows: &[usize]) -> Vec<Tensor> {
        let Some(probes) = &self.probes else { return Vec::new() };
        if self.evaluation == 0 || probes.fresh {
            let draw = |j: usize| {
                let step = u32::try_from(self.evaluation as usize * self.count + j).expect("fewer than 2^32 probes");
                match probes.law {
                    Law::Rademacher => self.noise.rademacher(&self.shape, self.first_sample, step, self.dtype),
                    Law::Gaussian => self.noise.normal(&self.shape, self.first_sample, step, self.dtype),
                }
            };
            self.kept = (0..self.count).map(draw).collect();
            self.evaluation += 1;
        }
        if rows.len() == self.shape[0] { self.kept.clone() } else { self.kept.iter().map(|z| z.gather(rows)).collect() }
    }
}

/// The unit vector of dimension `i` for each sample of a batch like `like`.
fn unit(like: &Tensor, i: usize) -> Tensor {
    let width = like.len() / like.dim(0).max(1);
    let mut units = vec![0.0; like.len()];
    units.iter_mut().skip(i).step_by(width).for_each(|x| *x = 1.0);
    Tensor::from_f64(like.shape(), &units, like.dtype())
}

/// `⟨a, b⟩` of each sample, in `f64`.
pub(crate) fn dots(a: &Tensor, b: &Tensor) -> Vec<f64> {
    let (a, b) = (a.to(Dtype::F64), b.to(Dtype::F64));
    let width = (a.len() / a.dim(0).max(1)).max(1);
    let rows = a.as_slice::<f64>().chunks(width).zip(b.as_slice::<f64>().chunks(width));
    rows.map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum()).collect()
}

/// `z` less its part along the unit vector `q` (or nothing, if `q = 0`), of each sample.
fn without(z: &Tensor, q: &Tensor) -> Tensor {
    z - &(q * &column(z, &dots(z, q)))
}

/// One number for each sample of `like`, which broadcasts over it.
fn column(like: &Tensor, values: &[f64]) -> Tensor {
    let mut shape = vec![1; like.rank()];
    shape[0] = values.len();
    Tensor::from_f64(&shape, values, like.dtype())
}

/// An orthonormal basis of the vectors' span, of each sample: Gram and Schmidt's method, each vector twice, which is enough
/// (Giraud et al. 2005, doi:10.1007/s00211-005-0615-4). What is left of a vector that depends on those before it is nothing, and
/// 0 in the basis.
fn orthonormal(vectors: Vec<Tensor>) -> Vec<Tensor> {
    let mut basis: Vec<Tensor> = Vec::with_capacity(vectors.len());
    for v in vectors {
        let before = dots(&v, &v);
        let left = (0..2).fold(v, |v, _| basis.iter().fold(v, |v, q| without(&v, q)));
        let scales: Vec<f64> = dots(&left, &left)
            .iter()
            .zip(before)
            .map(|(&after, before)| if after > 1e-24 * before { 1.0 / after.sqrt() } else { 0.0 })
            .collect();
        basis.push(&left * &column(&left, &scales));
    }
    basis
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `x A` with the same matrix for every sample.
    fn matrix() -> Tensor {
        Noise::new(5, 0).normal(&[7, 7], 0, 0, Dtype::F64)
    }

    fn trace_and_norm(a: &Tensor) -> (f64, f64) {
        let values = a.to_vec::<f64>();
        ((0..7).map(|i| values[i * 7 + i]).sum(), values.iter().map(|v| v * v).sum())
    }

    #[test]
    fn the_exact_trace_is_exact_whatever_the_batch_and_the_number_of_copies() {
        let a = matrix();
        let (trace, norm) = trace_and_norm(&a);
        for batch in [1, 3, 40, 700] {
            let x = Noise::new(1, 0).normal(&[batch, 7], 0, 0, Dtype::F64);
            for together in [1, 4, 7] {
                let mut linear = Linear::at(|x, rows| &x.matmul(&a) + rows.len() as f64, &x, together);
                assert!(linear.copies <= together && linear.copies * batch <= ROWS.max(batch));
                let found = Divergence::Exact.estimate(&mut linear, &[]);
                assert_eq!(linear.products, 7);
                assert!(found.trace.len() == batch && found.trace.iter().all(|t| (t - trace).abs() < 1e-12));
                assert!(found.squared_norm.iter().all(|n| (n - norm).abs() < 1e-11));
            }
        }
    }

    #[test]
    fn hutch_plus_plus_is_exact_once_its_sketch_spans_the_range() {
        // Of rank 2, and of full rank with as many vectors as dimensions; square matrices of random signs are singular too often.
        let left = Noise::new(2, 0).normal(&[7, 2], 0, 0, Dtype::F64);
        let low = left.matmul_nt(&Noise::new(3, 0).normal(&[7, 2], 0, 0, Dtype::F64));
        let x = Noise::new(1, 0).normal(&[5, 7], 0, 0, Dtype::F64);
        let laws: [&[Law]; 2] = [&[Law::Rademacher, Law::Gaussian], &[Law::Gaussian]];
        for ((a, count), laws) in [(low.matmul_nt(&low), 3), (matrix(), 7)].into_iter().zip(laws) {
            let (trace, norm) = trace_and_norm(&a);
            for &law in laws {
                let estimator = Divergence::HutchPlusPlus(Probes { count, law, fresh: false });
                let found = estimator.trace(|x| x.matmul_nt(&a), &x, Noise::new(9, 9), 0);
                assert_eq!(found.products, 3 * count);
                assert!(
                    found.trace.iter().all(|t| (t - trace).abs() < 1e-9 * norm.sqrt()),
                    "{law:?}: {:?}, {trace}",
                    found.trace
                );
                assert!(found.squared_norm.iter().all(|n| (n - norm).abs() < 1e-9 * norm), "{law:?}");
            }
        }
    }

    #[test]
    fn a_constant_function_has_no_divergence() {
        let x = Noise::new(1, 0).normal(&[5, 7], 0, 0, Dtype::F64);
        for estimator in
            [Divergence::Exact, Divergence::Hutchinson(Probes::default()), Divergence::HutchPlusPlus(Probes::default())]
        {
            let found = estimator.trace(|x| Tensor::ones(x.shape(), Dtype::F64), &x, Noise::new(9, 9), 0);
            assert_eq!(found.trace, [0.0; 5]);
        }
    }

    #[test]
    fn probes_are_a_samples_own_and_stay_unless_they_are_fresh() {
        for fresh in [false, true] {
            let divergence = Divergence::Hutchinson(Probes { count: 2, law: Law::Gaussian, fresh });
            let mut all = Drawn::new(&divergence, Noise::new(4, 1), 10, &[4, 3], Dtype::F64);
            let mut one = Drawn::new(&divergence, Noise::new(4, 1), 12, &[1, 3], Dtype::F64);
            let (first, second, alone) = (all.next(&[0, 1, 2, 3]), all.next(&[2]), (one.next(&[0]), one.next(&[0])));
            for j in 0..2 {
                assert_eq!(first[j].slice(0, 2..3).to_vec::<f64>(), alone.0[j].to_vec::<f64>());
                assert_eq!(second[j].to_vec::<f64>(), alone.1[j].to_vec::<f64>());
                assert_eq!(first[j].slice(0, 2..3).to_vec::<f64>() == second[j].to_vec::<f64>(), !fresh);
            }
            assert_ne!(first[0].to_vec::<f64>(), first[1].to_vec::<f64>());
        }
    }
}
