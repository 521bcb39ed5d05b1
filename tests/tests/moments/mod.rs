//! Exact moments at the end of stochastic trajectories.

#![allow(dead_code, reason = "each test program uses a part")]

use fokker_sde::{Cond, Denoiser};
use fokker_solve::{Grid, NoiseSource, Observer, Sampler, SolverConfig, Step, noise_step};
use fokker_tensor::noise::Brownian;
use fokker_tensor::{Dtype, Tensor};

use crate::oracle::NOISE;

/// Where the noise of a solver comes from; `None` if it does not ask.
pub(crate) fn noise_source(solver: &SolverConfig) -> Option<NoiseSource> {
    source(&mut solver.clone()).map(|noise| *noise)
}

/// Those of these solvers that can follow Brownian paths, doing so.
pub(crate) fn with_paths(solvers: Vec<SolverConfig>) -> Vec<SolverConfig> {
    let mut all = Vec::new();
    for mut solver in solvers {
        if let Some(noise) = source(&mut solver) {
            *noise = NoiseSource::Brownian;
            all.push(solver);
        }
    }
    all
}

fn source(solver: &mut SolverConfig) -> Option<&mut NoiseSource> {
    match solver {
        SolverConfig::EulerMaruyama(s) => Some(&mut s.noise),
        SolverConfig::Ancestral(s) => Some(&mut s.noise),
        SolverConfig::ReverseDiffusion(s) => Some(&mut s.noise),
        SolverConfig::ExponentialEuler(s) => Some(&mut s.noise),
        SolverConfig::EulerAncestral(s) => Some(&mut s.noise),
        SolverConfig::DpmppSde(s) => Some(&mut s.noise),
        SolverConfig::Dpmpp2mSde(s) => Some(&mut s.noise),
        SolverConfig::Dpmpp3mSde(s) => Some(&mut s.noise),
        SolverConfig::Srk(s) => Some(&mut s.noise),
        SolverConfig::SaSolver(s) => Some(&mut s.noise),
        _ => None,
    }
}

/// The mean and variance at the end of a trajectory of one-dimensional Gaussian data, exactly.
///
/// With a linear denoiser the end is `x_N = a x_0 + b + Σ_j c_j z_j` with the same numbers for all samples, whatever a
/// multistep solver remembers. They are found from as many samples as there are unknowns, whose noise is known: up to three draws
/// per step, or increment and area of the Brownian path over both halves (in log-SNR) of each step.
pub(crate) fn exact_moments(model: &dyn Denoiser, solver: &SolverConfig, grid: Grid, start: (f64, f64)) -> (f64, f64) {
    struct Start(Vec<f64>);
    impl Observer for Start {
        fn start(&mut self, x: &Tensor, _t: f64, _first_sample: u64) {
            self.0 = x.to_vec::<f64>();
        }
        fn step(&mut self, _step: &Step<'_>) {}
    }
    let sde = model.sde();
    let brownian = noise_source(solver) == Some(NoiseSource::Brownian);
    let unknowns = 2 + grid.moves() * if brownian { 4 } else { 3 };
    let mut columns = vec![Vec::new(), vec![1.0; unknowns]];
    for (index, pair) in grid.times().windows(2).enumerate() {
        if brownian {
            let (from, to) = (sde.log_snr(pair[0]), sde.log_snr(pair[1]));
            // What the solvers call the middle, after a round trip through time.
            let middle = sde.log_snr(sde.time_at_log_snr(from + 0.5 * (to - from)));
            for half in [(from, middle), (middle, to)] {
                let path = Brownian::new(NOISE).increment(&[unknowns, 1], 0, &[half], Dtype::F64);
                columns.extend([path.value.to_vec::<f64>(), path.area.to_vec::<f64>()]);
            }
        } else {
            let draw = |j| NOISE.normal(&[unknowns, 1], 0, noise_step(index, j), Dtype::F64).to_vec::<f64>();
            columns.extend([draw(0), draw(1), draw(2)]);
        }
    }
    let mut seen = Start(Vec::new());
    let sampler = Sampler::new(model, solver.clone(), grid).unwrap().state(Dtype::F64);
    let end = sampler.sample(&[unknowns, 1], &Cond::NONE, NOISE, 0, &mut [&mut seen]).unwrap().x.to_vec::<f64>();
    columns[0] = seen.0;
    let solution = solve_linear((0..unknowns).map(|i| columns.iter().map(|c| c[i]).chain([end[i]]).collect()).collect());
    let mean = solution[0] * start.0 + solution[1];
    let variance = solution[0].powi(2) * start.1 + solution[2..].iter().map(|c| c * c).sum::<f64>();
    (mean, variance)
}

/// Solves a linear system given as augmented rows, by elimination with partial pivoting.
fn solve_linear(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let n = rows.len();
    for k in 0..n {
        let pivot = (k..n).max_by(|&i, &j| rows[i][k].abs().total_cmp(&rows[j][k].abs())).unwrap();
        rows.swap(k, pivot);
        let (done, rest) = rows.split_at_mut(k + 1);
        for row in rest {
            let factor = row[k] / done[k][k];
            row.iter_mut().zip(&done[k]).skip(k).for_each(|(x, p)| *x -= factor * p);
        }
    }
    let mut solution = vec![0.0; n];
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|j| rows[k][j] * solution[j]).sum();
        solution[k] = (rows[k][n] - known) / rows[k][k];
    }
    solution
}
