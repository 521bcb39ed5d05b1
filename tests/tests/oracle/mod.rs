//! Exact models and helpers that the tests of solvers and of the sampler share.

#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::Mutex;

use fokker_sde::{Betas, Cond, Covariance, Denoiser, Discrete, Gaussian, GaussianMixture, Ladder, Sde, SdeConfig, Times};
use fokker_solve::{
    AdaptiveRungeKutta, AdaptiveSde, Ancestral, Ddim, Deis, Dpm2Ancestral, DpmAdaptive, DpmPpMultistep, DpmPpSinglestep,
    DpmSolver, Dpmpp2mSde, Dpmpp2sAncestral, DpmppSde, EdmStochastic, EulerAncestral, EulerMaruyama, ExponentialAdams,
    ExponentialEuler, Grid, GridConfig, Inner, Ipndm, Kind, Lms, LogSnr, LowerOrderFinal, Method, NoiseSource, Paradigms,
    ParallelStep, Pndm, Prediction, Predictor, PredictorCorrector, RungeKutta, SaSolver, SlopeWeight, Solver, SolverConfig,
    Spacing, Srk, SrkMethod, UniPc, UniPcVariant, Uniform, Variable, Variance, WarmUp,
};
use fokker_tensor::{Dtype, Noise, Tensor};

/// The noise of all tests.
pub(crate) const NOISE: Noise = Noise { seed: 17, stream: 4 };

/// Every process, a ladder of discrete steps with one of its segments reaching over all log-SNRs from −4 to 4.
///
/// A solver has its order where the equation is smooth. Within a segment a ladder is as smooth as any process, but at each step
/// its derivatives jump, and a grid that goes over hundreds of steps sees these jumps (of a thousandth each) before its own
/// error.
pub(crate) fn smooth_processes() -> Vec<SdeConfig> {
    let smooth = |sde: SdeConfig| match sde {
        SdeConfig::Discrete(_) => {
            let ladder = Ladder { steps: 3, betas: Betas::Array { values: vec![0.018, 0.982, 0.5] }, ..Ladder::default() };
            Discrete::new(ladder).unwrap().into()
        }
        other => other,
    };
    SdeConfig::all().into_iter().map(smooth).collect()
}

/// The time at which the log-SNR is `log_snr`, or the end of the span if no time of it is: geometric VP, for one, stops at −4.6.
pub(crate) fn time_within_span(sde: &dyn Sde, log_snr: f64) -> f64 {
    let (t_min, t_max) = sde.span();
    sde.time_at_log_snr(log_snr).clamp(t_min, t_max)
}

/// Normally distributed data with a mean that is not 0 and variances that are not 1.
pub(crate) fn gaussian(sde: impl Sde + 'static) -> Gaussian {
    Gaussian::new(sde, &[0.5, -1.0], &Covariance::Full(vec![1.5, 0.6, 0.6, 0.5]))
}

/// Three clusters in the plane of different weights and shapes.
pub(crate) fn mixture(sde: impl Sde + 'static) -> GaussianMixture {
    GaussianMixture::new(
        sde,
        &[0.5, 0.3, 0.2],
        &[vec![-1.0, -0.5], vec![1.0, -0.5], vec![0.2, 1.2]],
        &[Covariance::Isotropic(0.04), Covariance::Diagonal(vec![0.02, 0.2]), Covariance::Full(vec![0.2, 0.1, 0.1, 0.1])],
    )
}

/// A mixture whose answer is one point from some time upwards.
pub(crate) struct FlatStart {
    pub(crate) inner: GaussianMixture,
    pub(crate) from: f64,
}

impl Denoiser for FlatStart {
    fn sde(&self) -> &dyn Sde {
        self.inner.sde()
    }

    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        if t.of(0) >= self.from { Tensor::full(x.shape(), 0.3, x.dtype()) } else { self.inner.denoise(x, t, c) }
    }
}

/// A denoiser that remembers what it was asked: the times and the state of each call.
pub(crate) struct Recorded<D> {
    pub(crate) inner: D,
    calls: Mutex<Vec<(Times, Tensor)>>,
}

impl<D> Recorded<D> {
    pub(crate) fn new(inner: D) -> Self {
        Self { inner, calls: Mutex::default() }
    }

    /// The calls since the last time this was asked.
    pub(crate) fn calls(&self) -> Vec<(Times, Tensor)> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

impl<D: Denoiser> Denoiser for Recorded<D> {
    fn sde(&self) -> &dyn Sde {
        self.inner.sde()
    }

    fn denoise(&self, x: &Tensor, t: &Times, c: &Cond) -> Tensor {
        self.calls.lock().unwrap().push((t.clone(), x.clone()));
        self.inner.denoise(x, t, c)
    }
}

/// The largest difference of two tensors of one shape, whatever their types.
pub(crate) fn max_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    (&a.to(Dtype::F64) - &b.to(Dtype::F64)).abs().max_all().item()
}

/// Every listed solver of this kind, and variants of them that differ in more than numbers; without `langevin`, which stays at
/// one noise level and does not sample.
pub(crate) fn solvers(kind: Kind) -> Vec<SolverConfig> {
    let mut all = SolverConfig::all();
    all.push(Ddim { eta: 0.7 }.into());
    all.push(PredictorCorrector { predictor: Predictor::EulerMaruyama, corrections: 2, ..PredictorCorrector::default() }.into());
    all.push(PredictorCorrector { predictor: Predictor::Ancestral, ..PredictorCorrector::default() }.into());
    all.extend(multistep_variants());
    all.extend(one_step_variants());
    all.extend(stochastic_variants());
    // Langevin dynamics at one noise level does not take noise to data.
    all.into_iter().filter(|solver| solver.kind() == kind && solver.name() != "langevin").collect()
}

/// Stochastic solvers with other noise, variances and stages than the listed ones.
fn stochastic_variants() -> Vec<SolverConfig> {
    let noise = NoiseSource::Brownian;
    vec![
        EulerMaruyama { noise_level: 0.6.into(), ..EulerMaruyama::default() }.into(),
        ExponentialEuler { noise_level: 0.6.into(), noise }.into(),
        EulerAncestral { eta: 0.6, ..EulerAncestral::default() }.into(),
        Ancestral { variance: Variance::Interpolated { v: 0.4 }, ..Ancestral::default() }.into(),
        Ancestral { variance: Variance::Large, noise }.into(),
        DpmppSde { noise, ..DpmppSde::default() }.into(),
        Dpmpp2mSde { slope: SlopeWeight::Heun, eta: 0.5, ..Dpmpp2mSde::default() }.into(),
        Srk { method: SrkMethod::Heun, noise }.into(),
        EdmStochastic { solver: Inner::Euler, ..EdmStochastic::default() }.into(),
        SaSolver { noise_level: 0.6.into(), predictor: 2, corrector: 0, noise }.into(),
        AdaptiveSde { noise, ..AdaptiveSde::default() }.into(),
        Paradigms { stochasticity: 1.0, window: 5, tolerance: 0.01, ..Paradigms::default() }.into(),
        Paradigms { step: ParallelStep::EulerMaruyama, stochasticity: 1.0, noise, ..Paradigms::default() }.into(),
        Dpm2Ancestral { eta: 0.6, ..Dpm2Ancestral::default() }.into(),
        Dpmpp2sAncestral { eta: 0.6, noise, ..Dpmpp2sAncestral::default() }.into(),
    ]
}

/// Whether its noise is that of Brownian paths, which cost more than these small models.
pub(crate) fn follows_paths(solver: &SolverConfig) -> bool {
    format!("{solver:?}").contains("Brownian")
}

/// Multistep solvers of other orders, predictions and variables than the listed ones.
fn multistep_variants() -> Vec<SolverConfig> {
    let adams = ExponentialAdams { lower_order_final: LowerOrderFinal::Never, ..ExponentialAdams::default() };
    let unipc = UniPc { lower_order_final: LowerOrderFinal::Never, ..UniPc::default() };
    vec![
        ExponentialAdams { order: 1, ..adams.clone() }.into(),
        ExponentialAdams { order: 4, ..adams.clone() }.into(),
        ExponentialAdams { order: 2, variable: Variable::T, ..adams.clone() }.into(),
        ExponentialAdams { order: 2, variable: Variable::Sigma, ..adams.clone() }.into(),
        ExponentialAdams { prediction: Prediction::Noise, ..adams.clone() }.into(),
        ExponentialAdams { prediction: Prediction::Velocity, variable: Variable::T, ..adams.clone() }.into(),
        ExponentialAdams { order: 2, corrector: true, ..adams }.into(),
        Deis { order: 2, variable: Variable::Sigma, ..Deis::default() }.into(),
        Deis { order: 3, variable: Variable::LogSnr, ..Deis::default() }.into(),
        Lms { order: 3 }.into(),
        Pndm { warm_up: WarmUp::Plms }.into(),
        Ipndm { order: 2 }.into(),
        DpmPpMultistep { order: 3, ..DpmPpMultistep::default() }.into(),
        UniPc { order: 1, ..unipc.clone() }.into(),
        UniPc { variant: UniPcVariant::Bh1, ..unipc.clone() }.into(),
        UniPc { order: 3, prediction: Prediction::Noise, ..unipc.clone() }.into(),
        UniPc { order: 3, corrector: false, ..unipc }.into(),
    ]
}

/// One-step and adaptive solvers of other orders and variables than the listed ones.
fn one_step_variants() -> Vec<SolverConfig> {
    let runge_kutta = |method, variable| SolverConfig::from(RungeKutta { method, variable });
    let adaptive = AdaptiveRungeKutta { method: Method::Tsit5, variable: Variable::LogSnr, ..AdaptiveRungeKutta::default() };
    vec![
        DpmSolver { order: 1 }.into(),
        DpmSolver { order: 2 }.into(),
        DpmPpSinglestep { order: 3 }.into(),
        runge_kutta(Method::Euler, Variable::Sigma),
        runge_kutta(Method::Midpoint, Variable::LogSnr),
        runge_kutta(Method::Heun, Variable::Sigma),
        runge_kutta(Method::Ralston, Variable::T),
        runge_kutta(Method::Rk3, Variable::LogSnr),
        runge_kutta(Method::Rk4, Variable::T),
        runge_kutta(Method::Dopri5, Variable::LogSnr),
        runge_kutta(Method::Tsit5, Variable::LogSnr),
        adaptive.into(),
        DpmAdaptive { order: 2, ..DpmAdaptive::default() }.into(),
    ]
}

/// The least-squares slope of `ln error` against `ln n`, negated: the observed order.
pub(crate) fn fitted_order(steps: &[usize], errors: &[f64]) -> f64 {
    let points: Vec<(f64, f64)> = steps.iter().zip(errors).map(|(n, e)| ((*n as f64).ln(), e.ln())).collect();
    let count = points.len() as f64;
    let mean = points.iter().fold((0.0, 0.0), |m, p| (m.0 + p.0 / count, m.1 + p.1 / count));
    let covariance: f64 = points.iter().map(|p| (p.0 - mean.0) * (p.1 - mean.1)).sum();
    -covariance / points.iter().map(|p| (p.0 - mean.0).powi(2)).sum::<f64>()
}

/// A grid uniform in time without last denoising step between two noise levels.
pub(crate) fn interior_grid(sde: &dyn Sde, steps: usize, log_snr: (f64, f64)) -> Grid {
    spaced_grid(sde, steps, log_snr, Uniform::default().into())
}

/// The same uniform in the log-SNR.
pub(crate) fn log_snr_grid(sde: &dyn Sde, steps: usize, log_snr: (f64, f64)) -> Grid {
    spaced_grid(sde, steps, log_snr, LogSnr::default().into())
}

fn spaced_grid(sde: &dyn Sde, steps: usize, log_snr: (f64, f64), spacing: Spacing) -> Grid {
    let config = GridConfig {
        steps,
        spacing,
        t_max: Some(sde.time_at_log_snr(log_snr.0)),
        t_min: Some(sde.time_at_log_snr(log_snr.1)),
        denoise_last: false,
    };
    config.build(sde).unwrap()
}

/// A time at the noisy end at which this solver can start.
pub(crate) fn latest_start(solver: &SolverConfig, sde: &dyn Sde) -> f64 {
    let (_, end) = sde.span();
    if sde.alpha(end) > 0.0 || solver.takes_pure_noise() { end } else { 0.999 * end }
}
