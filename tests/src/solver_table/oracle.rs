//! The two mixtures, the states that solvers start from, and where the exact flow takes them.
//!
//! `tests/reference/solver_table.py` has the same numbers.

use fokker_sde::{Cond, Covariance, Denoiser, Edm, GaussianMixture};
use fokker_solve::{GridConfig, LogSnr, Method, RungeKutta, Sampler, Variable};
use fokker_tensor::{Dtype, Noise, Tensor};

/// The seed of everything here.
pub const SEED: u64 = 2024;

/// What each stream of [`SEED`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// The 64-dimensional mixture's numbers.
    Parameters = 0,
    /// The states on which deterministic solvers are judged.
    Judged = 1,
    /// The states to which grids are fitted.
    Fitted = 2,
    /// The initial states and the noise of stochastic solvers.
    Samples = 3,
    /// Exact sets.
    Exact = 4,
    /// Directions of projection.
    Directions = 5,
}

impl Stream {
    /// Its numbers.
    pub fn noise(self) -> Noise {
        Noise::new(SEED, self as u64)
    }
}

/// The states on which deterministic solvers are judged.
pub const JUDGED: usize = 512;
/// The states to which grids are fitted.
pub const FITTED: usize = 128;

/// A mixture whose denoiser is exact.
#[derive(Clone, Debug)]
pub struct Oracle {
    /// What it is called.
    pub name: &'static str,
    /// The denoiser, under EDM.
    pub model: GaussianMixture,
}

impl Oracle {
    /// Five clusters in the plane, round, long and thin.
    pub fn plane() -> Self {
        let means = [vec![-1.1, -0.6], vec![0.9, -0.9], vec![0.1, 1.1], vec![1.3, 0.7], vec![-1.2, 0.9]];
        let covariances = [
            Covariance::Isotropic(0.02),
            Covariance::Full(vec![0.16, 0.07, 0.07, 0.04]),
            Covariance::Full(vec![0.09, -0.05, -0.05, 0.03]),
            Covariance::Isotropic(0.05),
            Covariance::Diagonal(vec![0.005, 0.08]),
        ];
        let model = GaussianMixture::new(Edm::default(), &[0.3, 0.25, 0.2, 0.15, 0.1], &means, &covariances);
        Self { name: "2-D", model }
    }

    /// Six clusters in 64 dimensions: eight directions of each are long, of standard deviations from 2 down to 0.4, and the others
    /// have 0.05. `μ = ¼ n_0`, `Σ = Σ_j l_j² n_j n_jᵀ + 0.05² I` with `l_j = ¼ j^(−3/4)` and standard normal vectors `n_j`.
    pub fn high() -> Self {
        const D: usize = 64;
        const LONG: usize = 8;
        let weights = [0.3, 0.25, 0.2, 0.1, 0.1, 0.05];
        let drawn = Stream::Parameters.noise().normal(&[weights.len(), (1 + LONG) * D], 0, 0, Dtype::F64).to_vec::<f64>();
        let (mut means, mut covariances) = (Vec::new(), Vec::new());
        for numbers in drawn.chunks((1 + LONG) * D) {
            let vector = |j: usize| &numbers[j * D..(j + 1) * D];
            means.push(vector(0).iter().map(|n| 0.25 * n).collect());
            let mut covariance = vec![0.0; D * D];
            for (i, entry) in covariance.iter_mut().enumerate() {
                let (row, column) = (i / D, i % D);
                let along = |j: usize| (0.25 * (j as f64).powf(-0.75)).powi(2) * vector(j)[row] * vector(j)[column];
                *entry = (1..=LONG).map(along).sum::<f64>() + if row == column { 0.0025 } else { 0.0 };
            }
            covariances.push(Covariance::Full(covariance));
        }
        Self { name: "64-D", model: GaussianMixture::new(Edm::default(), &weights, &means, &covariances) }
    }

    /// Both.
    pub fn all() -> Vec<Self> {
        vec![Self::plane(), Self::high()]
    }

    /// The number of dimensions `D`.
    pub fn dim(&self) -> usize {
        self.model.dim()
    }

    /// `n` initial states of a stream, `[n, D]`: `σ_max ε`.
    pub fn states(&self, stream: Stream, n: usize) -> Tensor {
        let (_, t_max) = self.model.sde().span();
        &stream.noise().normal(&[n, self.dim()], 0, 0, Dtype::F64) * self.model.sde().sigma(t_max)
    }

    /// Where the exact flow takes the judged states.
    pub fn target(&self) -> Target {
        self.target_of(self.states(Stream::Judged, JUDGED))
    }

    /// Where the exact flow takes `x`, `[B, D]`: to σ_min, and the denoiser's answer there.
    pub fn target_of(&self, x: Tensor) -> Target {
        let end = |steps: usize| {
            let reference = RungeKutta { method: Method::Tsit5, variable: Variable::LogSnr };
            let grid = GridConfig { steps, spacing: LogSnr::default().into(), ..GridConfig::default() };
            let grid = grid.build(self.model.sde()).expect("a grid of EDM");
            let sampler = Sampler::new(&self.model, reference, grid).expect("a solver of EDM").state(Dtype::F64);
            sampler.integrate(x.clone(), &Cond::NONE, Noise::new(0, 0), 0, &mut []).expect("an exact model").x
        };
        let (coarse, end) = (end(REFERENCE_MOVES / 2 + 1), end(REFERENCE_MOVES + 1));
        // Of order 5: half the step is 32 times as accurate.
        let error = rms(&coarse, &end) / 31.0;
        Target { x, end, error }
    }
}

/// The moves of the reference.
pub const REFERENCE_MOVES: usize = 600;

/// States and where the exact flow ends from there, `[B, D]` both.
pub struct Target {
    /// The initial states.
    pub x: Tensor,
    /// The ends.
    pub end: Tensor,
    /// The ends' own root mean square error, by halving the steps.
    pub error: f64,
}

/// The root mean square difference of two tensors of one shape.
pub fn rms(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).square().mean_all().item().sqrt()
}
