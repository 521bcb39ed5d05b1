//! Time grids, ODE and SDE solvers, the sampler, and log-densities.
//!
//! A [`Sampler`] runs a [`Solver`] over a [`Grid`] of times, from noise to data. It sees nothing of a model but its
//! [`Denoiser`](fokker_sde::Denoiser), so that every solver is tested with exact ones.
//!
//! ```
//! use fokker_sde::{Cond, Covariance, Edm, GaussianMixture};
//! use fokker_solve::{GridConfig, Heun, Karras, Sampler, Step};
//! use fokker_tensor::Noise;
//!
//! // Two clusters, and the exact model of them.
//! let cluster = Covariance::Isotropic(0.01);
//! let model = GaussianMixture::new(
//!     Edm::default(),
//!     &[0.5, 0.5],
//!     &[vec![-1.0, 0.0], vec![1.0, 0.0]],
//!     &[cluster.clone(), cluster],
//! );
//!
//! // EDM's sampler: Heun on a Karras grid of 18 steps, the last of which denoises.
//! let grid = GridConfig { steps: 18, spacing: Karras::default().into(), ..GridConfig::default() };
//! let sampler = Sampler::new(&model, Heun::default(), grid.build(&Edm::default())?)?;
//! let mut times = Vec::new();
//! let mut observer = |step: &Step<'_>| times.push(step.t);
//! let samples = sampler.sample(&[100, 2], &Cond::NONE, Noise::new(42, 0), 0, &mut [&mut observer])?;
//!
//! assert_eq!(samples.nfe, 35);
//! assert_eq!(times.len(), 18);
//! let left = samples.x.to_vec::<f32>().chunks(2).filter(|p| (p[0] + 1.0).hypot(p[1]) < 0.5).count();
//! let right = samples.x.to_vec::<f32>().chunks(2).filter(|p| (p[0] - 1.0).hypot(p[1]) < 0.5).count();
//! assert!(left + right == 100 && left > 30 && right > 30);
//! # Ok::<(), fokker_solve::SolveError>(())
//! ```
//!
//! [`Likelihood`] computes exact log-densities of data, with the trace of the Jacobian by [`Divergence`], and log-probabilities
//! of discrete data; [`VariationalBound`] bounds both by denoising alone.
//!
//! Solvers in a configuration file are tables with a tag: `kind = "predictor-corrector"`, then fields that differ from
//! the defaults. [`SolverConfig::all`] lists them.

mod analytic;
mod combine;
mod dense;
pub mod dequantise;
pub mod divergence;
mod error;
pub mod grid;
pub mod likelihood;
mod observer;
pub mod optimise;
pub mod path;
mod sampler;
mod solver;
mod solvers;
mod spacings;
mod threshold;
pub mod variational;

pub use analytic::PosteriorVariance;
pub use combine::combine;
pub use dense::Trajectory;
pub use dequantise::{Dequantisation, LogProbability};
pub use divergence::{Divergence, Law, Probes, Trace};
pub use error::SolveError;
pub use grid::{Grid, GridConfig};
pub use likelihood::{Integrator, Likelihood, LogDensity, Prior};
pub use observer::{Observer, Step};
pub use optimise::{FittedGrid, GridFit, optimise_grid};
pub use path::{NoiseLevel, NoiseSource};
pub use sampler::{Sampler, SamplerConfig, Samples, StateDtype};
pub use solver::{Context, Family, Kind, Solver, Stepper, noise_step};
pub use solvers::{
    AdaptiveRungeKutta, Control, Deis, DpmAdaptive, DpmPpMultistep, DpmPpSinglestep, DpmSolver, ExponentialAdams, Ipndm, Lms,
    LowerOrderFinal, Method, Per, Pndm, Prediction, RungeKutta, UniPc, UniPcVariant, Variable, VariableAdams, WarmUp,
};
pub use solvers::{
    AdaptiveSde, AnnealedLangevin, Dpm2Ancestral, Dpmpp2mSde, Dpmpp2sAncestral, Dpmpp3mSde, DpmppSde, EdmStochastic,
    EulerAncestral, ExponentialEuler, Inner, Langevin, Paradigms, ParallelStep, Restart, RestartInterval, ReverseDiffusion,
    SaSolver, SlopeWeight, Srk, SrkMethod, Variance,
};
pub use solvers::{
    Ancestral, Ddim, Euler, EulerMaruyama, Heun, Predictor, PredictorCorrector, SolverConfig, SolverInfo, StepSize,
};
pub use spacings::{
    CosineAngle, Discrete, Exponential, FlowShift, Iddpm, Karras, List, LogSnr, Picking, Polyexponential, Quadratic, Spacing,
    Uniform,
};
pub use threshold::Threshold;
pub use variational::{Bounded, VariationalBound};
