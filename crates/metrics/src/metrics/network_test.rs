//! Classifier two-sample test with a small trained network.
//!
//! ```text
//! f(x) = w₃ᵀ silu(W₂ silu(W₁ x̄ + b₁) + b₂) + b₃,     x̄ standardised,     loss = E softplus(−y f(x)),  y = ±1
//! ```
//!
//! The network is six tensors and a dozen of the tensor crate's operations, so this crate needs no layers of another.

use std::ops::Range;

use fokker_tensor::noise::stream;
use fokker_tensor::update::{AdamStep, adam};
use fokker_tensor::{Dtype, Noise, Tensor, grad};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Metric, Score};
use crate::classifier::{Split, TwoSampleAccuracy};
use crate::draws::permutation;
use crate::error::MetricError;
use crate::vectors::{BLOCK, Vectors};

/// Whether a small network tells real from generated vectors it has not seen (Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests", C2ST-NN).
/// Two hidden layers, Adam on random batches of half of the vectors, judged on the other half.
///
/// - **Range**: accuracy in `[0, 1]`, a half for equal laws, 1 for laws that do not overlap; a p-value.
/// - **Bias**: the accuracy is a lower bound of the best classifier's; under the null none, however much the network has learnt by heart.
/// - **Sample size**: thousands to find what nearest neighbours or kernels do not.
/// - **Cannot see**: what a network of this size does not learn in this many steps: a high p-value proves nothing.
/// - **Cost**: `6 S B (D H + H²)` operations for `S` steps of `B` vectors with `H` hidden units; memory that of both sets again, in the type they have, and `4 N D` bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkTest {
    /// Units of each hidden layer.
    pub hidden: usize,
    /// Steps of training.
    pub steps: usize,
    /// Vectors per step.
    pub batch: usize,
    /// Adam's learning rate, which falls to 0 linearly.
    pub learning_rate: f64,
}

impl Default for NetworkTest {
    fn default() -> Self {
        NetworkTest { hidden: 64, steps: 600, batch: 256, learning_rate: 3e-3 }
    }
}

impl NetworkTest {
    /// The accuracy on held-out vectors of `[N, ...]` and `[M, ...]`.
    ///
    /// # Errors
    /// When a set has fewer than four rows or a number that is not finite; when the widths differ; when an option is 0.
    pub fn estimate(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<TwoSampleAccuracy, MetricError> {
        for (field, value) in [("hidden", self.hidden), ("steps", self.steps), ("batch", self.batch)] {
            if value == 0 {
                return Err(MetricError::config(field, value, "at least 1"));
            }
        }
        if !(self.learning_rate > 0.0 && self.learning_rate < 1.0) {
            return Err(MetricError::config("learning_rate", self.learning_rate, "a number between 0 and 1"));
        }
        let (x, y) = Vectors::pair(real, generated)?;
        let split = Split::new(&x, &y, Noise::new(seed, stream("nethalve")))?;
        let (train, test) = (Vectors::checked(&split.train), Vectors::checked(&split.test));
        let standardise = Standardise::of(&train);
        let network = self.train(&standardise.apply(&train, 0..train.rows()), seed);
        let scores = (0..test.rows()).step_by(self.batch).flat_map(|first| {
            let some = first..(first + self.batch).min(test.rows());
            forward(&network, &standardise.apply(&test, some)).to_vec::<f64>()
        });
        Ok(split.judge(&scores.collect::<Vec<_>>()))
    }

    /// The parameters after training on `[n, D]`, real vectors first.
    fn train(&self, x: &Tensor, seed: u64) -> Vec<Tensor> {
        let (n, width) = (x.dim(0), x.dim(1));
        let batch = self.batch.min(n);
        let labels = Tensor::from_vec(&[n, 1], (0..n).map(|i| if i < n / 2 { 1.0f32 } else { -1.0 }).collect());
        let mut parameters = self.start(width, Noise::new(seed, stream("netstart")));
        let zeros: Vec<Tensor> = parameters.iter().map(|p| Tensor::zeros(p.shape(), Dtype::F32)).collect();
        let (mut means, mut squares) = (zeros.clone(), zeros);
        let order = Noise::new(seed, stream("netorder"));
        let mut rows: Vec<usize> = Vec::new();
        let mut pass = 0;
        for step in 1..=self.steps as u64 {
            if rows.len() < batch {
                rows = permutation(order, pass, n);
                pass += 1;
            }
            let some = rows.split_off(rows.len() - batch);
            let (x, y) = (x.gather(&some), labels.gather(&some));
            let leaves: Vec<Tensor> = parameters.iter().map(Tensor::track).collect();
            let loss = (&(&forward(&leaves, &x) * &y) * -1.0).softplus().mean_all();
            let gradients = grad(loss, &leaves.iter().collect::<Vec<_>>());
            drop(leaves);
            let c = AdamStep {
                learning_rate: self.learning_rate * (1.0 - (step - 1) as f64 / self.steps as f64),
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                weight_decay: 1e-2,
                decoupled: true,
                step,
                gradient_scale: 1.0,
            };
            for (((p, m), s), g) in parameters.iter_mut().zip(&mut means).zip(&mut squares).zip(&gradients) {
                adam(p, m, s, None, g, &c);
            }
        }
        parameters
    }

    /// Weights of variance `2/inputs`, the last layer and all biases zero.
    fn start(&self, width: usize, noise: Noise) -> Vec<Tensor> {
        let h = self.hidden;
        let zeros = |shape: &[usize]| Tensor::zeros(shape, Dtype::F32);
        let weights = |inputs: usize, layer: u32| {
            let flat = noise.normal(&[inputs, h], 0, layer, Dtype::F32);
            &flat * (2.0 / inputs as f64).sqrt()
        };
        vec![weights(width, 0), zeros(&[h]), weights(h, 1), zeros(&[h]), zeros(&[h, 1]), zeros(&[1])]
    }
}

/// `[B, D] -> [B, 1]`.
fn forward(parameters: &[Tensor], x: &Tensor) -> Tensor {
    let [w1, b1, w2, b2, w3, b3] = parameters else { panic!("six parameters, not {}", parameters.len()) };
    let h = x.linear(w1, Some(b1)).silu().linear(w2, Some(b2)).silu();
    h.linear(w3, Some(b3))
}

/// `x̄ = (x − m)/s` by the vectors learnt from; a constant feature is only shifted.
struct Standardise {
    mean: Vec<f64>,
    scale: Vec<f64>,
}

impl Standardise {
    fn of(x: &Vectors) -> Standardise {
        let mean = x.mean();
        // Of a block of rows at a time: no copy of all in `f64`.
        let squares: Vec<Vec<f64>> = (0..x.blocks())
            .into_par_iter()
            .map(|i| {
                let mut sum = vec![0.0; x.width()];
                for row in x.block(i, Some(&mean)).as_slice::<f64>().chunks_exact(x.width()) {
                    sum.iter_mut().zip(row).for_each(|(s, v)| *s += v * v);
                }
                sum
            })
            .collect();
        let deviation = |c: usize| (squares.iter().map(|sum| sum[c]).sum::<f64>() / x.rows() as f64).sqrt();
        // What is left of a constant by rounding is no deviation.
        let scale = |(c, m): (usize, &f64)| if deviation(c) > 1e-12 * m.abs() { 1.0 / deviation(c) } else { 1.0 };
        Standardise { scale: mean.iter().enumerate().map(scale).collect(), mean }
    }

    /// These rows, `f32` `[rows, D]`.
    fn apply(&self, x: &Vectors, rows: Range<usize>) -> Tensor {
        let (width, first) = (x.width(), rows.start);
        let mut data = vec![0.0f32; rows.len() * width];
        data.par_chunks_mut(width * BLOCK).enumerate().for_each(|(block, out)| {
            let mut row = vec![0.0; width];
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                x.copy_row(first + block * BLOCK + i, &mut row);
                for (c, (out, v)) in out.iter_mut().zip(&row).enumerate() {
                    // Far outside of what was learnt from all is alike; and nothing overflows in `f32`.
                    *out = ((v - self.mean[c]) * self.scale[c]).clamp(-1e6, 1e6) as f32;
                }
            }
        });
        Tensor::from_vec(&[rows.len(), width], data)
    }
}

impl Metric for NetworkTest {
    fn scores(&self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<Vec<Score>, MetricError> {
        let found = self.estimate(real, generated, seed)?;
        Ok(vec![Score::new("network-accuracy", found.accuracy), Score::new("network-p-value", found.p_value)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::tests::normal;

    #[test]
    fn equal_laws_are_a_coin_toss() {
        let metric = NetworkTest { hidden: 16, steps: 100, batch: 64, ..NetworkTest::default() };
        let tests = 30;
        let z: f64 = (0..tests)
            .map(|i| {
                let found = metric.estimate(&normal(150, 3, 2 * i), &normal(150, 3, 2 * i + 1), i).unwrap();
                (found.accuracy - 0.5) * 2.0 * (found.tested as f64).sqrt()
            })
            .sum();
        assert!((z / f64::sqrt(tests as f64)).abs() < 3.5, "{z}");
    }

    #[test]
    fn it_reaches_the_best_accuracy_between_two_gaussians() {
        // N(0, I) and N(μ, I): Φ(|μ|/2), with |μ| = 2: 0.8413.
        let n = 4000;
        let y = &normal(n, 5, 2) + &Tensor::from_vec(&[1, 5], vec![2.0, 0.0, 0.0, 0.0, 0.0]);
        let found = NetworkTest::default().estimate(&normal(n, 5, 1), &y, 0).unwrap();
        let error = (0.8413f64 * 0.1587 / n as f64).sqrt();
        assert!((found.accuracy - 0.8413).abs() < 4.0 * error && found.p_value < 1e-100, "{found:?}");
    }

    #[test]
    fn it_learns_what_no_marginal_shows() {
        // The sign of the product of two features: all marginals agree.
        let n = 3000;
        let folded = normal(n, 2, 2).to_vec::<f64>().chunks(2).flat_map(|r| [r[0], r[1].abs() * r[0].signum()]).collect();
        let found = NetworkTest::default().estimate(&normal(n, 2, 1), &Tensor::from_vec(&[n, 2], folded), 0).unwrap();
        // Half of the Gaussian's vectors lie where the other law has none: 3/4 at best.
        assert!(found.accuracy > 0.72, "{found:?}");
    }

    #[test]
    fn constant_features_and_bad_options_are_handled() {
        let x = Tensor::full(&[20, 2], 0.1, Dtype::F32);
        assert_eq!(NetworkTest::default().estimate(&x, &x, 0).unwrap().accuracy, 0.5);
        let error = NetworkTest { steps: 0, ..NetworkTest::default() }.estimate(&x, &x, 0).unwrap_err().to_string();
        assert_eq!(error, "steps is 0, expected at least 1");
    }
}
