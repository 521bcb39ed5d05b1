//! Exact models and helpers that the tests of solvers and of the sampler share.

#![allow(dead_code, reason = "each test program uses a part")]

use fokker_sde::{Betas, Covariance, Discrete, Gaussian, GaussianMixture, Ladder, Sde, SdeConfig};
use fokker_solve::{Ddim, Kind, Predictor, PredictorCorrector, Solver, SolverConfig};
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

/// The largest difference of two tensors of one shape, whatever their types.
pub(crate) fn max_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    (&a.to(Dtype::F64) - &b.to(Dtype::F64)).abs().max_all().item()
}

/// Every listed solver of this kind, and variants of them that differ in more than numbers.
pub(crate) fn solvers(kind: Kind) -> Vec<SolverConfig> {
    let mut all = SolverConfig::all();
    all.push(Ddim { eta: 0.7 }.into());
    all.push(PredictorCorrector { predictor: Predictor::EulerMaruyama, corrections: 2, ..PredictorCorrector::default() }.into());
    all.push(PredictorCorrector { predictor: Predictor::Ancestral, ..PredictorCorrector::default() }.into());
    all.into_iter().filter(|solver| solver.kind() == kind).collect()
}
