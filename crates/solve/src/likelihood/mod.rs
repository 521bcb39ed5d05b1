//! Exact log-densities of data under a model, through its probability-flow ODE.
//!
//! A density that is carried along a flow `dx/ds = v` changes by `d ln p/ds = −tr ∂v/∂x` (Chen et al. 2018, arXiv:1806.07366,
//! theorem 1; Song et al. 2021, arXiv:2011.13456, eq. 39). Here the flow is that of every process at once. With the angle `θ`
//! between signal and noise,
//!
//! ```text
//! tan θ = σ/α      x̃ = x/√(α² + σ²) = cos θ x_0 + sin θ ε      s = ln tan(θ/2)      cos θ = −tanh s      sin θ = 1/cosh s
//!
//! dx̃/ds = −tanh(s) x̃ − D(x̃, s)          D = E[x_0 | x̃]
//! d ln p̃/ds = d tanh(s) + tr ∂D/∂x̃      d dimensions
//! ```
//!
//! which is bounded at both ends: near the data `s → −∞`, `x̃ → D`, and pure noise is the finite place `s = 0`, where nothing is
//! divided by `α = 0` or by `1 − t`. The time variable of the process is gone, so that two processes with the same ends give the
//! same number. The first term is integrated in closed form, the trace with the state:
//!
//! ```text
//! ln p(x) = ln p̃_end(x̃_end) − d ln (cosh s_end/cosh s) − ∫_s^s_end tr ∂D/∂x̃ ds − d/2 ln(α² + σ²)
//! ```
//!
//! Steps whose length is controlled are measured in another variable, `q`, with `K = 100`,
//!
//! ```text
//! sinh q = K sinh s = −K α/σ      dq/ds = K cosh s/cosh q
//! ```
//!
//! which goes on with the logarithm of the noise level where `s` has come near its end, until `σ/α = K`. A network's answer changes
//! with that logarithm or with the time, and its mistakes in `D` grow like `σ/α`: in `s`, steps would have to shrink with what is left of
//! the way, and most of those that do not would be rejected.
//!
//! # What it is the density of
//!
//! The data are taken for states at the first time `t_min` of the span: the answer is the density of data *with the noise of that
//! time*, `σ(t_min)`. Data on a surface or a grid have no density without it.
//!
//! # The far end
//!
//! [`Prior::Noise`] takes the state there for pure noise, `N(0, σ²)`. That forgets what signal is left: an error of order `α/σ`
//! times the data's size. [`Prior::Matched`] asks the model. With `u = σ/α`, `y = x/α` and `h = y/u²`,
//!
//! ```text
//! ln p(y) = ln N(y; 0, u²) + K(h)      K(h) = ln E[exp(h·x_0 − |x_0|²/2u²)]      ∇K = D      ∇²K = u² J,  J = ∂D/∂y
//! ```
//!
//! (Bayes' rule; the second-order Tweedie formula). `K(h) − K(0) = ∫₀¹ h·D(ξy) dξ` follows to the fourth order in `h` from the
//! answers `D±` at `±y`, with the derivatives there: the model is asked at states as large as it knows, not at 0. `K(0)` is that
//! of normal data,
//!
//! ```text
//! K(h) − K(0) ≈ h·(D₊ + D₋)/2 + 5/16 h·(D₊ − D₋) − h·(J₊ − J₋) y/6 − h·(J₊ + J₋) y/16
//! K(0) ≈ ½ ln det(I − J) − m·(I − J) m/2u²      D(0) = (I − J) m      ½ ln det(I − J) ≈ −½ tr J − ¼ ‖J‖²
//! ```
//!
//! with means over both for `J` and `D(0)`. For data of size `r` the error is of order `(r/u)⁴`, without which it would be `r/u`;
//! for normal data, `(r/u)⁶`.

mod angle;

use std::f64::consts::TAU;

use fokker_sde::{Cond, Denoiser, Sde};
use fokker_tensor::{Dtype, Noise, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::combine::{combine, combine_each};
use crate::divergence::{Divergence, Drawn, Estimate, Linear, dots};
use crate::error::SolveError;
use crate::solvers::{Adaptive, Control, Method, VariableAdams, fixed};

pub(crate) use angle::place;
use angle::{Angle, STRETCH, each, ln_cosh, stretched};

/// How to compute log-densities, as written in configuration files. Fields that are left out take their defaults.
///
/// ```
/// use fokker_sde::{Cond, Covariance, GaussianMixture, Sde, VariancePreserving};
/// use fokker_solve::Likelihood;
/// use fokker_tensor::{Noise, Tensor};
///
/// // Two clusters in the plane, and the exact model of them.
/// let cluster = Covariance::Isotropic(0.1);
/// let sde = VariancePreserving::default();
/// let model =
///     GaussianMixture::new(sde.clone(), &[0.3, 0.7], &[vec![-1.0, 0.0], vec![1.0, 0.0]], &[cluster.clone(), cluster]);
/// let x = Tensor::from_vec(&[3, 2], vec![-1.0, 0.1, 0.8, -0.3, 0.0, 0.0]);
///
/// let found = Likelihood::default().log_density(&model, &x, &Cond::NONE, Noise::new(0, 0), 0)?;
/// let exact = model.log_density(&x, &sde.span().0.into(), &Cond::NONE).to_vec::<f64>();
/// for (found, exact) in found.log_density.iter().zip(exact) {
///     assert!((found - exact).abs() < 1e-4);
/// }
/// // The code of each sample is the noise that the flow takes it to.
/// assert_eq!(found.latent.shape(), [3, 2]);
/// println!("{} evaluations, {} products with the Jacobian", found.nfe, found.products);
/// # Ok::<(), fokker_solve::SolveError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Likelihood {
    /// How the trace is computed, default exactly.
    pub divergence: Divergence,
    /// How the ODE is solved, default with step control.
    pub integrator: Integrator,
    /// What is taken for the density at the far end.
    pub prior: Prior,
    /// The time whose noise the data have, instead of the start of the span.
    pub t_min: Option<f64>,
    /// The far end, instead of the end of the span.
    pub t_max: Option<f64>,
}

/// How the ODE is solved: `{ kind = "adams" }` and so on in configuration files.
///
/// Tolerances are in units of `x̃`, which is as large as data of unit variance, and in nats of the log-density; a step's error is the root
/// of the sum of the mean square error of the state and the square error of the log-density. Each sample has its own steps unless the
/// tolerance is the batch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Integrator {
    /// Adams' methods, the default: steps as long, and orders as high, as the tolerance suggests, with one evaluation each.
    Adams(VariableAdams),
    /// Runge–Kutta methods in steps as long as a tolerance allows.
    Adaptive {
        /// `dopri5` (default) or `tsit5`.
        #[serde(default = "dopri5")]
        method: Method,
        /// Tolerances and the controller; default tolerances 1e-5, and the first step from one more evaluation.
        #[serde(default = "control")]
        control: Control,
    },
    /// Equal steps in `s`.
    Fixed {
        /// The method, default the classical one of order 4.
        #[serde(default)]
        method: Method,
        /// The number of steps, default 50. Each costs as many evaluations as the method has stages.
        #[serde(default = "steps")]
        steps: usize,
    },
}

fn dopri5() -> Method {
    Method::Dopri5
}

fn control() -> Control {
    Control { rtol: 1e-5, atol: 1e-5, ..Control::default() }
}

fn steps() -> usize {
    50
}

impl Default for Integrator {
    fn default() -> Self {
        Self::Adams(VariableAdams::default())
    }
}

impl Integrator {
    /// The default with these tolerances.
    pub fn with_tolerances(rtol: f64, atol: f64) -> Self {
        Self::Adams(VariableAdams { rtol, atol, ..VariableAdams::default() })
    }

    /// The same with other tolerances, made of its own; fixed steps have none.
    #[must_use]
    pub fn map_tolerances(mut self, f: impl Fn(f64) -> f64) -> Self {
        if let Self::Adams(VariableAdams { rtol, atol, .. }) | Self::Adaptive { control: Control { rtol, atol, .. }, .. } =
            &mut self
        {
            (*rtol, *atol) = (f(*rtol), f(*atol));
        }
        self
    }
}

/// The density at the far end: see the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prior {
    /// That which the model's own answers there imply. Two evaluations, and three products and two estimates of the trace; none
    /// where `α = 0`, and there the same as [`Noise`](Self::Noise).
    #[default]
    Matched,
    /// `N(0, σ²)`, the law that samples start from: the density of what the sampler generates, and what the literature states.
    Noise,
}

/// Log-densities of a batch, and what they cost.
#[derive(Clone, Debug)]
pub struct LogDensity {
    /// `ln p` of each sample, in nats.
    pub log_density: Vec<f64>,
    /// The state at the far end, `[B, ...]` in `f64`: the code of each sample, which
    /// [`Sampler::integrate`](crate::Sampler::integrate) takes back to it.
    pub latent: Tensor,
    /// Evaluations of the model. Samples that are at the end have no part in later ones.
    pub nfe: usize,
    /// Products with Jacobians of the model, of the sample that had the most.
    pub products: usize,
}

/// The name in messages.
const NAME: &str = "likelihood";

impl Likelihood {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// Names the field that does not.
    pub fn check(&self) -> Result<(), SolveError> {
        let bad = |field, expected: &str| {
            Err(SolveError::Config { what: "integrator", kind: NAME, field, expected: expected.to_owned() })
        };
        self.divergence.check()?;
        match &self.integrator {
            Integrator::Fixed { steps: 0, .. } => bad("steps", "at least 1, found 0"),
            Integrator::Fixed { .. } => Ok(()),
            _ if self.divergence.probes().is_some_and(|probes| probes.fresh) => {
                bad("kind", "`fixed` with fresh probes: step control would take their scatter for errors of the step")
            }
            Integrator::Adams(adams) => adams.check(NAME),
            Integrator::Adaptive { method: Method::Dopri5 | Method::Tsit5, control } => control.check(NAME),
            Integrator::Adaptive { .. } => bad("method", "`dopri5` or `tsit5`, which estimate their errors"),
        }
    }

    /// `ln p(x)` of each sample of `x`, `[B, ...]`, in nats, with conditions `cond`. The state is in `f64`, whatever the type of
    /// `x` and of the model.
    ///
    /// Random probes of sample `i` are those of sample `first_sample + i` of `noise`: its value does not depend on the batch, up
    /// to the rounding of the model. The model has to be made of recorded operations, as networks and the exact ones are.
    ///
    /// Costs `nfe` evaluations, with `D`, `count` or `3 count` products with the Jacobian at each that has weight in a step: all of Adams',
    /// all but one of the six of Dormand and Prince's.
    ///
    /// # Errors
    /// If a number of the configuration makes no sense, a time is outside of the span, steps get too many, or `x`, the model's
    /// answer or its derivative is not finite: names the sample, the time and `s`.
    ///
    /// # Panics
    /// If `x` has no batch axis or `cond` is not for `B` samples.
    #[track_caller]
    pub fn log_density(
        &self,
        denoiser: &dyn Denoiser,
        x: &Tensor,
        cond: &Cond,
        noise: Noise,
        first_sample: u64,
    ) -> Result<LogDensity, SolveError> {
        self.check()?;
        denoiser.sde().check()?;
        assert!(x.rank() > 0, "a batch needs a leading axis [B, ...], got a scalar");
        let (batch, d) = (x.dim(0), x.len() / x.dim(0).max(1));
        assert!(cond.batch().is_none_or(|labels| labels == batch), "{:?} labels for a batch of {batch}", cond.batch());
        let angle = self.angle(denoiser.sde())?;
        let x = x.to(Dtype::F64).detach();
        if x.is_empty() {
            return Ok(LogDensity { log_density: vec![0.0; batch], latent: x, nfe: 0, products: 0 });
        }
        let mut flow = Flow {
            denoiser,
            cond,
            angle: &angle,
            divergence: &self.divergence,
            drawn: Drawn::new(&self.divergence, noise, first_sample, x.shape(), Dtype::F64),
            shape: &x.shape()[1..],
            first_sample,
            nfe: 0,
            products: 0,
        };
        flow.finite(&x, &[angle.s.0], &[], "the data", "")?;

        let state = (&x * (1.0 / angle.scale(angle.t.0))).reshape(&[batch, d]);
        let y = Tensor::concat(&[&state, &Tensor::zeros(&[batch, 1], Dtype::F64)], 1);
        let y = self.integrate(&mut flow, y)?;
        let end = y.slice(1, 0..d).reshape(x.shape());
        let prior = flow.prior(&end, self.prior)?;

        let closed = d as f64 * (ln_cosh(angle.s.1) - ln_cosh(angle.s.0) + angle.scale(angle.t.0).ln());
        let integrals = y.as_slice::<f64>().iter().skip(d).step_by(d + 1);
        let log_density = prior.iter().zip(integrals).map(|(prior, integral)| prior - integral - closed).collect();
        Ok(LogDensity { log_density, latent: &end * angle.scale(angle.t.1), nfe: flow.nfe, products: flow.products })
    }

    /// `y = (x̃, ∫ tr)`, `[B, d + 1]`, from data to noise.
    fn integrate(&self, flow: &mut Flow<'_>, y: Tensor) -> Result<Tensor, SolveError> {
        let (angle, d) = (flow.angle, y.dim(1) - 1);
        let mut stretched_slope = |y: &Tensor, q: &[f64], rows: &[usize], weighs: bool| {
            let place_and_rate = |q: f64| {
                let s = angle.place(q);
                (s, q.cosh() / (STRETCH * s.cosh()))
            };
            let (s, rates): (Vec<f64>, Vec<f64>) = each(q, place_and_rate).into_iter().unzip();
            Ok(combine_each(&rates, flow.slope(y, &s, rows, weighs)?, &[]))
        };
        let ends = (stretched(angle.s.0), stretched(angle.s.1));
        let parts = &[0..d, d..d + 1];
        let result = match &self.integrator {
            Integrator::Adams(adams) => adams.run(y, ends, (NAME, parts), &mut stretched_slope),
            Integrator::Adaptive { method, control } => {
                Adaptive { method: *method, control, name: NAME, parts }.run(y, ends, &mut stretched_slope)
            }
            Integrator::Fixed { method, steps } => {
                fixed(*method, *steps, y, angle.s, &mut |y, s, rows, weighs| flow.slope(y, s, rows, weighs))
            }
        };
        result.map_err(|error| match error {
            SolveError::TooManySteps { solver, steps, t: q, length } => {
                SolveError::TooManySteps { solver, steps, t: angle.time(angle.place(q)), length }
            }
            other => other,
        })
    }

    /// The way from data to noise.
    fn angle<'a>(&self, sde: &'a dyn Sde) -> Result<Angle<'a>, SolveError> {
        let (low, high) = sde.span();
        let t = (self.t_min.unwrap_or(low), self.t_max.unwrap_or(high));
        let inside = |t: f64| (low..=high).contains(&t);
        if !(inside(t.0) && inside(t.1) && t.0 < t.1) {
            return Err(SolveError::Config {
                what: "integrator",
                kind: NAME,
                field: "t_min, t_max",
                expected: format!("t_min < t_max in the span [{low}, {high}] of sde `{}`, found {} and {}", sde.name(), t.0, t.1),
            });
        }
        Ok(Angle::new(sde, t))
    }
}

/// `D`, `tr ∂D/∂x̃` and the number of products, of a block of rows.
type Block = Result<(Tensor, Vec<f64>, usize), SolveError>;

/// The right-hand side for one batch.
struct Flow<'a> {
    denoiser: &'a dyn Denoiser,
    cond: &'a Cond,
    angle: &'a Angle<'a>,
    divergence: &'a Divergence,
    drawn: Drawn,
    /// Of a sample.
    shape: &'a [usize],
    first_sample: u64,
    nfe: usize,
    products: usize,
}

/// Evaluations of samples of up to so many numbers go in blocks of so many rows side by side: the layers of networks for them are too small to be
/// shared out to threads one by one.
const FEW_NUMBERS: usize = 64;
const BLOCK: usize = 128;

impl Flow<'_> {
    /// `D` at the states `x̃`, `[A, ...]`, at the places `s`, of these rows of the batch.
    fn denoise(&self, x: &Tensor, s: &[f64], rows: &[usize]) -> Tensor {
        let times = self.angle.times(s);
        let class = self.cond.class.as_ref().map(|labels| rows.iter().map(|&i| labels[i]).collect());
        self.denoiser.denoise(&times.scale(x, |t| self.angle.scale(t)), &times, &Cond { class })
    }

    /// The same with its derivative with respect to `x̃`: one evaluation.
    fn linear(&self, x: &Tensor, s: &[f64], rows: &[usize]) -> Result<Linear, SolveError> {
        let at = |x: &Tensor, copies: &[usize]| {
            let s: Vec<f64> = copies.iter().map(|&i| s[i]).collect();
            let rows: Vec<usize> = copies.iter().map(|&i| rows[i]).collect();
            self.denoise(x, &s, &rows)
        };
        let linear = Linear::at(at, x, self.divergence.together(x.len() / rows.len()));
        self.answered(&linear.value, s, rows)?;
        Ok(linear)
    }

    fn answered(&self, value: &Tensor, s: &[f64], rows: &[usize]) -> Result<(), SolveError> {
        self.finite(value, s, rows, "the denoiser's answer", "; the model may have diverged in training")
    }

    fn estimate(&self, linear: &mut Linear, drawn: &[Tensor], s: &[f64], rows: &[usize]) -> Result<Estimate, SolveError> {
        let estimate = self.divergence.estimate(linear, drawn);
        let traces = Tensor::from_vec(&[rows.len()], estimate.trace.clone());
        self.finite(&traces, s, rows, "the denoiser's derivative", "; the model may have diverged in training")?;
        Ok(estimate)
    }

    /// `D` and `tr ∂D/∂x̃` of some rows, and the products that took; 0 for the trace where it is not wanted.
    fn block(&self, x: &Tensor, drawn: &[Tensor], s: &[f64], rows: &[usize], weighs: bool) -> Block {
        if weighs {
            let mut linear = self.linear(x, s, rows)?;
            let trace = self.estimate(&mut linear, drawn, s, rows)?.trace;
            Ok((linear.value, trace, linear.products))
        } else {
            let value = self.denoise(x, s, rows);
            self.answered(&value, s, rows)?;
            Ok((value, vec![0.0; rows.len()], 0))
        }
    }

    /// `(−tanh(s) x̃ − D, tr ∂D/∂x̃)` of rows `y = (x̃, …)`, `[A, d + 1]`; without the trace, which costs the most, where it has no
    /// weight, and then without a graph.
    fn slope(&mut self, y: &Tensor, s: &[f64], rows: &[usize], weighs: bool) -> Result<Tensor, SolveError> {
        let (count, d) = (rows.len(), y.dim(1) - 1);
        let x = y.slice(1, 0..d).reshape(&[&[count], self.shape].concat());
        let drawn = if weighs { self.drawn.next(rows) } else { Vec::new() };
        let length = if d <= FEW_NUMBERS { count.div_ceil(count.div_ceil(BLOCK)) } else { count };
        let block = |first: usize| {
            let range = first..count.min(first + length);
            let part = |t: &Tensor| if range.len() == count { t.clone() } else { t.slice(0, range.clone()) };
            let drawn: Vec<Tensor> = drawn.iter().map(part).collect();
            self.block(&part(&x), &drawn, &s[range.clone()], &rows[range.clone()], weighs)
        };
        let blocks: Vec<Block> = (0..count).into_par_iter().step_by(length).map(block).collect();
        let (mut values, mut trace) = (Vec::with_capacity(blocks.len()), Vec::with_capacity(count));
        let mut products = 0;
        for block in blocks {
            let (value, traces, taken) = block?;
            values.push(value);
            trace.extend(traces);
            products = products.max(taken);
        }
        self.nfe += 1;
        self.products += products;
        let value = match &values[..] {
            [value] => value.clone(),
            values => Tensor::concat(&values.iter().collect::<Vec<_>>(), 0),
        };
        let cosines: Vec<f64> = s.iter().map(|s| -s.tanh()).collect();
        let velocity = combine_each(&vec![-1.0; count], value, &[(&cosines[..], &x)]).reshape(&[count, d]);
        Ok(Tensor::concat(&[&velocity, &Tensor::from_vec(&[count, 1], trace)], 1))
    }

    /// `ln p̃` at the far end for the states `x̃`, `[B, ...]`: see the [module](self). Written in `x̃`, where `h·D = cos θ/sin²θ
    /// x̃·D` and `J y = ∂D/∂x̃ x̃`, so that nothing is divided by `α`.
    fn prior(&mut self, x: &Tensor, prior: Prior) -> Result<Vec<f64>, SolveError> {
        let s = vec![self.angle.s.1; x.dim(0)];
        let (cos, sin) = (-s[0].tanh(), 1.0 / s[0].cosh());
        let variance = sin * sin;
        let d = (x.len() / x.dim(0)) as f64;
        let normal = dots(x, x).into_iter().map(|square| -0.5 * d * (TAU * variance).ln() - 0.5 * square / variance);
        if prior == Prior::Noise || cos == 0.0 {
            return Ok(normal.collect());
        }
        let rows: Vec<usize> = (0..x.dim(0)).collect();
        let (mut plus, mut minus) = (self.linear(x, &s, &rows)?, self.linear(&(x * -1.0), &s, &rows)?);
        let estimates = [&mut plus, &mut minus].map(|linear| {
            let drawn = self.drawn.next(&rows);
            self.estimate(linear, &drawn, &s, &rows)
        });
        let [estimate_plus, estimate_minus] = estimates;
        let estimates = [estimate_plus?, estimate_minus?];
        self.nfe += 2;
        let (j_plus, j_minus) =
            (plus.products(std::slice::from_ref(x)).remove(0), minus.products(std::slice::from_ref(x)).remove(0));
        let centre = &(&plus.value + &minus.value) * 0.5;
        let j_centre = plus.products(std::slice::from_ref(&centre)).remove(0);
        self.products += plus.products + minus.products;

        // ∫₀¹ of a cubic from its values and slopes at ±1.
        let (sum, difference) = (&plus.value + &minus.value, &plus.value - &minus.value);
        let (j_sum, j_difference) = (&j_plus + &j_minus, &j_plus - &j_minus);
        let mean = combine(0.5, sum, &[(5.0 / 16.0, &difference), (-1.0 / 6.0, &j_difference), (-1.0 / 16.0, &j_sum)]);
        let along = dots(x, &mean).into_iter().map(|dot| cos / variance * dot);
        // m·(I − J) m = D(0)·(D(0) + J D(0) + …).
        let means = dots(&centre, &(&centre + &(&j_centre * cos))).into_iter().map(|dot| -0.5 * cos * cos / variance * dot);
        let volumes = rows.iter().map(|&i| {
            let trace = 0.5 * (estimates[0].trace[i] + estimates[1].trace[i]);
            let squared_norm = 0.5 * (estimates[0].squared_norm[i] + estimates[1].squared_norm[i]);
            -0.5 * cos * trace - 0.25 * cos * cos * squared_norm
        });
        Ok(normal
            .zip(along)
            .zip(means)
            .zip(volumes)
            .map(|(((normal, along), mean), volume)| normal + along + mean + volume)
            .collect())
    }

    /// Refuses a NaN or an infinity in `x`, `[A, ...]`, of these rows (all, if there are none) at these places (or one for all).
    fn finite(&self, x: &Tensor, s: &[f64], rows: &[usize], what: &'static str, hint: &'static str) -> Result<(), SolveError> {
        if x.all_finite() {
            return Ok(());
        }
        let bad = (0..x.dim(0)).find(|&i| !x.slice(0, i..i + 1).all_finite()).expect("one is not finite");
        let s = if s.len() == 1 { s[0] } else { s[bad] };
        let sample = self.first_sample + rows.get(bad).copied().unwrap_or(bad) as u64;
        Err(SolveError::NotFiniteSample { sample, t: self.angle.time(s), s, what, hint })
    }
}
