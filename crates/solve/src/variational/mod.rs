//! The variational bound of log-densities and log-probabilities, by denoising alone: no ODE is solved and no derivative taken.
//!
//! The forward process, started at data `x_0`, and the model's reverse process, started at `N(0, σ(t_max)²)`, are laws of paths.
//! Between them (Kingma et al. 2021, arXiv:2107.00630, eq. 11 and 17; Song et al. 2021b, arXiv:2101.09258, theorem 3, in the form of
//! scores)
//!
//! ```text
//! −ln p(x_0) ≤ KL(q(x_{t_max} | x_0) ‖ N(0, σ²))  +  ½ ∫ E|x_0 − x̂₀(x_t)|² (−d snr)  +  end        snr = α²/σ²
//!               prior                               diffusion                             reconstruction
//! ```
//!
//! over the span, for any process: the integral is over the noise level and the time variable has no part in it. At the data's end
//!
//! - real data have the density of [`Likelihood`](crate::Likelihood), that of states with the noise of `t_min`, and the bound is on its mean
//!   over this noise, `−E ln p(α x_0 + σ ε)`: the end is `d/2 ln 2πe σ²`, the noise's entropy, and exactly known;
//! - data with `K` levels are decoded: the end is `−E ln P(x_0 | x_{t_min})` with the discretised normal law of Ho et al. 2020
//!   (arXiv:2006.11239, eq. 13), of mean `x̂₀` and variance `σ²/α²`.
//!
//! # How tight it is
//!
//! It bounds the density of the reverse SDE, not that of the ODE. The two are the same for a denoiser that is a conditional mean of
//! something: then the reverse process is the forward one, but for its start, and with the marginal `q` of those data
//!
//! ```text
//! bound(x_0) = −E ln q(α x_0 + σ ε) + E[ln q(x_{t_max}) − ln N(x_{t_max}; 0, σ²) | x_0]
//! ```
//!
//! for every `x_0` of any data: only the far end is left of the gap. An answer that is off by `e(x_t)` adds `½ ∫ E|e|² (−d snr)` to the
//! mean over data.
//!
//! # Times
//!
//! With `y = ln(1 + snr)` the integrand is `½ (1 + snr) |x_0 − x̂₀|²`, which has the constant mean `d/2` where the data are `N(0, I)`,
//! and `y` is finite at pure noise. Times are drawn uniformly in `y`, one in each of equal parts (stratified), and found by the
//! process's inverse of the log-SNR, in closed form where it has one. Near the data this is the density `g²/σ²` of Song et al.
//! 2021b (section 5), which is the one uniform in the log-SNR, as `g²/σ² = −d ln snr/dt`.
//!
//! # Chains
//!
//! [`VariationalBound::Chain`] is the bound of Ho et al. 2020 (eq. 5), with the steps of a [`chain`]: prior, transitions and decoder.

pub mod chain;
mod normal;

pub use chain::{Chain, Term};

use std::f64::consts::{E, TAU};

use fokker_sde::{Cond, Denoiser, Reverse, Sde, Times, diffuse};
use fokker_tensor::{Dtype, Noise, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::SolveError;
use crate::likelihood::place;

/// How the bound is computed: `{ kind = "continuous" }` and so on in configuration files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum VariationalBound {
    /// In continuous time: see the [module](self).
    Continuous {
        /// The evaluations for each sample's integral, default 64. The estimate is unbiased with any number.
        #[serde(default = "times")]
        times: usize,
    },
    /// Of a [`Chain`] of normal steps.
    Chain {
        /// The number of steps, default the process's where it is a ladder, otherwise 1000.
        #[serde(default)]
        steps: Option<usize>,
        /// How many of the transitions are evaluated for each sample, drawn evenly along the chain, default all. The estimate is
        /// unbiased with any number.
        #[serde(default)]
        times: Option<usize>,
        /// Where the variance of a step lies from `β̃` (0) to `β` (1), of models that have not learned it; default 0.
        #[serde(default)]
        fraction: f64,
    },
}

fn times() -> usize {
    64
}

impl Default for VariationalBound {
    fn default() -> Self {
        Self::Continuous { times: times() }
    }
}

/// The terms of the bound of a batch, each of them for each sample in nats, and what they cost. `ln p ≥ −(prior + diffusion + reconstruction)`.
#[derive(Clone, Debug, Default)]
pub struct Bounded {
    /// The divergence of the far end from noise: no estimate.
    pub prior: Vec<f64>,
    /// What the steps between cost.
    pub diffusion: Vec<f64>,
    /// What the data's end costs.
    pub reconstruction: Vec<f64>,
    /// Evaluations of the model.
    pub nfe: usize,
}

impl Bounded {
    /// The lower bound of each sample's log-density or log-probability, in nats.
    pub fn log_density(&self) -> Vec<f64> {
        let parts = self.prior.iter().zip(&self.diffusion).zip(&self.reconstruction);
        parts.map(|((prior, diffusion), reconstruction)| -(prior + diffusion + reconstruction)).collect()
    }
}

/// What is added to the stream of noise, for times, for transitions and for the data's end.
const STREAMS: [u64; 3] = [0xe1b0_0001, 0xe1b0_0002, 0xe1b0_0003];

impl VariationalBound {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// Names the field that does not.
    pub fn check(&self) -> Result<(), SolveError> {
        let bad = |kind, field, expected: String| Err(SolveError::Config { what: "bound", kind, field, expected });
        match *self {
            Self::Continuous { times: 0 } => bad("continuous", "times", "at least 1, found 0".to_owned()),
            Self::Chain { times: Some(0), .. } => bad("chain", "times", "at least 1, found 0".to_owned()),
            Self::Chain { steps: Some(n), .. } if n < 2 => bad("chain", "steps", format!("at least 2, found {n}")),
            Self::Chain { fraction, .. } if !(0.0..=1.0).contains(&fraction) => {
                bad("chain", "fraction", format!("from 0 to 1, found {fraction}"))
            }
            _ => Ok(()),
        }
    }

    /// The bound of each sample of `x`, `[B, ...]`: on the levels, if `levels` says how many there are from −1 to 1, otherwise real.
    /// Computed in `f64`, except for the model. Sample `i` has the noise of sample `first_sample + i`.
    ///
    /// Costs `times` evaluations, and one more of data with levels or of a chain.
    ///
    /// ```
    /// use fokker_sde::{Cond, Covariance, Gaussian, Sde, VariancePreserving};
    /// use fokker_solve::VariationalBound;
    /// use fokker_tensor::Noise;
    ///
    /// let model = Gaussian::new(VariancePreserving::default(), &[0.5], &Covariance::Isotropic(0.3));
    /// let x = model.sample(1000, Noise::new(1, 0), 0);
    /// let found = VariationalBound::default().evaluate(&model, &x, None, &Cond::NONE, Noise::new(2, 0), 0)?;
    /// let mean = found.log_density().iter().sum::<f64>() / 1000.0;
    /// // The exact denoiser: the mean over data is minus the entropy.
    /// let entropy = 0.5 * (std::f64::consts::TAU * std::f64::consts::E * 0.3_f64).ln();
    /// assert!((mean + entropy).abs() < 0.1, "{mean} {entropy}");
    /// # Ok::<(), fokker_solve::SolveError>(())
    /// ```
    ///
    /// # Errors
    /// If a number of the configuration makes no sense, or the data or the model's answer is not finite.
    ///
    /// # Panics
    /// If `x` has no batch axis, `cond` is not for `B` samples, or there are fewer than two levels.
    #[track_caller]
    pub fn evaluate(
        &self,
        denoiser: &dyn Denoiser,
        x: &Tensor,
        levels: Option<usize>,
        cond: &Cond,
        noise: Noise,
        first_sample: u64,
    ) -> Result<Bounded, SolveError> {
        self.check()?;
        denoiser.sde().check()?;
        assert!(x.rank() > 0, "a batch needs a leading axis [B, ...], got a scalar");
        assert!(levels.is_none_or(|levels| levels > 1), "data of {levels:?} levels");
        let x = x.to(Dtype::F64).detach();
        if x.is_empty() {
            let nothing = vec![0.0; x.dim(0)];
            return Ok(Bounded { prior: nothing.clone(), diffusion: nothing.clone(), reconstruction: nothing, nfe: 0 });
        }
        let half_bin = levels.map(|levels| 1.0 / (levels - 1) as f64);
        let batch = Evaluation { denoiser, sde: denoiser.sde(), x: &x, half_bin, cond, noise, first_sample };
        batch.finite(&x, &Times::Same(batch.sde.span().0), "the data", "")?;
        match *self {
            Self::Continuous { times } => batch.continuous(times),
            Self::Chain { steps, times, fraction } => batch.chain(&Chain::on(batch.sde, steps)?, times, fraction),
        }
    }
}

/// One batch and what is needed for it.
struct Evaluation<'a> {
    denoiser: &'a dyn Denoiser,
    sde: &'a dyn Sde,
    /// `[B, ...]` in `f64`.
    x: &'a Tensor,
    half_bin: Option<f64>,
    cond: &'a Cond,
    noise: Noise,
    first_sample: u64,
}

impl Evaluation<'_> {
    fn size(&self) -> usize {
        self.x.len() / self.x.dim(0)
    }

    fn noise(&self, what: usize) -> Noise {
        Noise { stream: self.noise.stream ^ STREAMS[what], ..self.noise }
    }

    /// `f` of each sample's numbers.
    fn each(&self, f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
        self.x.as_slice::<f64>().chunks(self.size()).map(f).collect()
    }

    /// `KL(N(α x_0, σ²) ‖ N(0, σ²))`.
    fn prior(&self, t: f64) -> Vec<f64> {
        let snr = self.sde.log_snr(t).exp();
        self.each(|x| 0.5 * snr * x.iter().map(|x| x * x).sum::<f64>())
    }

    /// A number in each of `count` equal parts of `(0, 1)`, one for each sample.
    fn stratified(&self, part: usize, count: usize) -> Vec<f64> {
        // Each part with a draw of its own.
        let u = self.noise(0).uniform(&[self.x.dim(0), 1], self.first_sample, part as u32, Dtype::F64);
        u.as_slice::<f64>().iter().map(|u| (part as f64 + u) / count as f64).collect()
    }

    /// `x̂₀ − x_0`, `[B, ...]`, and the fraction `v` of a model that has one, at draw `step` of `x_t`. One evaluation.
    fn error(&self, t: &Times, s: &Times, noise: Noise, step: usize) -> Result<(Tensor, Option<Tensor>), SolveError> {
        let epsilon = noise.normal(self.x.shape(), self.first_sample, step as u32, Dtype::F64);
        let x_t = diffuse(self.sde, t, self.x, &epsilon);
        let Reverse { denoised, fraction } = self.denoiser.reverse(&x_t, t, s, self.cond);
        self.finite(&denoised, t, "the denoiser's answer", "; the model may have diverged in training")?;
        Ok((&denoised.to(Dtype::F64) - self.x, fraction.map(|v| v.to(Dtype::F64))))
    }

    fn continuous(&self, times: usize) -> Result<Bounded, SolveError> {
        let (t_min, t_max) = self.sde.span();
        // y = ln(1 + snr), and ln snr = ln(e^y − 1).
        let softplus = |z: f64| z.max(0.0) + (-z.abs()).exp().ln_1p();
        let (low, high) = (softplus(self.sde.log_snr(t_max)), softplus(self.sde.log_snr(t_min)));
        let mut diffusion = vec![0.0; self.x.dim(0)];
        for j in 0..times {
            let y: Vec<f64> = self.stratified(j, times).into_iter().map(|u| low + u * (high - low)).collect();
            let log_snr = |y: f64| y + (-(-y).exp_m1()).ln();
            let t: Vec<f64> = y.iter().map(|&y| self.sde.time_at_log_snr(log_snr(y)).clamp(t_min, t_max)).collect();
            let t = Times::Each(t);
            let (error, _) = self.error(&t, &t, self.noise(1), j)?;
            let squares = error.as_slice::<f64>().chunks(self.size()).map(|e| e.iter().map(|e| e * e).sum::<f64>());
            for ((sum, y), square) in diffusion.iter_mut().zip(&y).zip(squares) {
                *sum += 0.5 * y.exp() * square * (high - low) / times as f64;
            }
        }
        let (reconstruction, more) = match self.half_bin {
            None => (self.each(|x| 0.5 * x.len() as f64 * (TAU * E * self.sde.sigma(t_min).powi(2)).ln()), 0),
            Some(half) => {
                let t = Times::Same(t_min);
                let (error, _) = self.error(&t, &t, self.noise(2), 0)?;
                (self.sums(&error, |_, x, error| normal::surprise(x, error, -self.sde.log_snr(t_min), Some(half)).0), 1)
            }
        };
        Ok(Bounded { prior: self.prior(t_max), diffusion, reconstruction, nfe: times + more })
    }

    fn chain(&self, chain: &Chain, times: Option<usize>, fraction: f64) -> Result<Bounded, SolveError> {
        let levels = chain.times();
        let (transitions, last) = (levels.len() - 1, levels.len() - 1);
        let count = times.map_or(transitions, |times| times.min(transitions));
        let term = |t: f64| chain.term(self.sde, t);
        let sums = |steps: &[usize], (error, v): (Tensor, Option<Tensor>)| {
            let terms: Vec<Term> = steps.iter().map(|&i| term(levels[i])).collect();
            let fractions = v.map(|v| v.to_vec::<f64>());
            self.sums(&error, |at, x, error| {
                let v = fractions.as_ref().map_or(fraction, |v| v[at]);
                terms[at / self.size()].at(v, x, error, self.half_bin).0
            })
        };
        let mut diffusion = vec![0.0; self.x.dim(0)];
        for j in 0..count {
            let place = |u: f64| ((u * transitions as f64) as usize).min(transitions - 1);
            // As many as transitions: each of them once.
            let steps: Vec<usize> = if count == transitions {
                vec![j; self.x.dim(0)]
            } else {
                self.stratified(j, count).into_iter().map(place).collect()
            };
            let at = |i: usize| Times::Each(steps.iter().map(|step| levels[step + i]).collect());
            let found = sums(&steps, self.error(&at(0), &at(1), self.noise(1), j)?);
            diffusion.iter_mut().zip(found).for_each(|(sum, term)| *sum += term * transitions as f64 / count as f64);
        }
        // Data have no level; the bounds of the decoder's variance are those of the step before.
        let (t, s) = (Times::Same(levels[last]), Times::Same(levels[last - 1]));
        let reconstruction = sums(&vec![last; self.x.dim(0)], self.error(&t, &s, self.noise(2), 0)?);
        Ok(Bounded { prior: self.prior(levels[0]), diffusion, reconstruction, nfe: count + 1 })
    }

    /// The sum over each sample of `f(i, x_0, x̂₀ − x_0)` of its elements, where `i` is an element's number in the batch.
    fn sums(&self, error: &Tensor, f: impl Fn(usize, f64, f64) -> f64) -> Vec<f64> {
        let (x, error) = (self.x.as_slice::<f64>(), error.as_slice::<f64>());
        let row = |start: usize| (start..start + self.size()).map(|i| f(i, x[i], error[i])).sum();
        (0..x.len()).step_by(self.size()).map(row).collect()
    }

    fn finite(&self, x: &Tensor, t: &Times, what: &'static str, hint: &'static str) -> Result<(), SolveError> {
        if x.all_finite() {
            return Ok(());
        }
        let bad = (0..x.dim(0)).find(|&i| !x.slice(0, i..i + 1).all_finite()).expect("one is not finite");
        let t = t.of(bad);
        Err(SolveError::NotFiniteSample { sample: self.first_sample + bad as u64, t, s: place(self.sde, t), what, hint })
    }
}
