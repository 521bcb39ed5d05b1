//! Exact models and helpers that the tests of solvers and of the sampler share.

use fokker_sde::{Covariance, Gaussian, GaussianMixture, Sde};
use fokker_solve::{
    AdaptiveSde, Ancestral, Ddim, Dpmpp2mSde, DpmppSde, EdmStochastic, EulerAncestral, EulerMaruyama, ExponentialEuler, Inner,
    Kind, Method, NoiseSource, Paradigms, ParallelStep, Predictor, PredictorCorrector, SaSolver, SlopeWeight, Solver,
    SolverConfig, Srk, Variance,
};
use fokker_tensor::{Dtype, Noise, Tensor};

/// The noise of all tests.
pub(crate) const NOISE: Noise = Noise { seed: 17, stream: 4 };

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

/// Every listed solver of this kind, and variants of them that differ in more than numbers; without `langevin`, which stays at
/// one noise level and does not sample.
pub(crate) fn solvers(kind: Kind) -> Vec<SolverConfig> {
    let mut all = SolverConfig::all();
    all.push(Ddim { eta: 0.7 }.into());
    all.push(PredictorCorrector { predictor: Predictor::EulerMaruyama, corrections: 2, ..PredictorCorrector::default() }.into());
    all.push(PredictorCorrector { predictor: Predictor::Ancestral, ..PredictorCorrector::default() }.into());
    let noise = NoiseSource::Brownian;
    all.push(EulerMaruyama { noise_level: 0.6.into(), ..EulerMaruyama::default() }.into());
    all.push(ExponentialEuler { noise_level: 0.6.into(), noise }.into());
    all.push(EulerAncestral { eta: 0.6, ..EulerAncestral::default() }.into());
    all.push(Ancestral { variance: Variance::Interpolated { v: 0.4 }, ..Ancestral::default() }.into());
    all.push(Ancestral { variance: Variance::Large, noise }.into());
    all.push(DpmppSde { noise, ..DpmppSde::default() }.into());
    all.push(Dpmpp2mSde { slope: SlopeWeight::Heun, eta: 0.5, ..Dpmpp2mSde::default() }.into());
    all.push(Srk { method: Method::Heun, noise }.into());
    all.push(EdmStochastic { solver: Inner::Euler, ..EdmStochastic::default() }.into());
    all.push(SaSolver { noise_level: 0.6.into(), predictor: 2, corrector: 0, noise }.into());
    all.push(AdaptiveSde { noise, ..AdaptiveSde::default() }.into());
    all.push(Paradigms { stochasticity: 1.0, window: 5, tolerance: 0.01, ..Paradigms::default() }.into());
    all.push(Paradigms { step: ParallelStep::EulerMaruyama, stochasticity: 1.0, noise, ..Paradigms::default() }.into());
    all.into_iter().filter(|solver| solver.kind() == kind && solver.name() != "langevin").collect()
}

/// Whether its noise is that of Brownian paths, which cost more than these small models.
pub(crate) fn follows_paths(solver: &SolverConfig) -> bool {
    format!("{solver:?}").contains("Brownian")
}
