//! Exact moments at the end of stochastic trajectories.

#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::{Arc, Mutex};

use fokker_sde::{Cond, Denoiser, Sde};
use fokker_solve::{Grid, NoiseSource, Sampler, Solver, SolverConfig, noise_step};
use fokker_tensor::Dtype;
use fokker_tensor::noise::Brownian;

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
        SolverConfig::Dpm2Ancestral(s) => Some(&mut s.noise),
        SolverConfig::Dpmpp2sAncestral(s) => Some(&mut s.noise),
        _ => None,
    }
}

/// Solvers that use one draw per step, or the increment of a path over it. (If one used more, the moments found would make no sense.)
const ONE_DRAW: [&str; 12] = [
    "ddim",
    "euler-maruyama",
    "ancestral",
    "reverse-diffusion",
    "exponential-euler",
    "euler-ancestral",
    "dpm-2-ancestral",
    "dpmpp-2s-ancestral",
    "dpmpp-2m-sde",
    "dpmpp-3m-sde",
    "edm-stochastic",
    "sa-solver",
];

/// The mean and variance at the end of a trajectory of one-dimensional Gaussian data, exactly.
///
/// With a linear denoiser the end is `x_N = a x_0 + b + Σ_j c_j z_j` with the same numbers for all samples, whatever a
/// multistep solver remembers. They are found from as many samples as there are unknowns, whose noise is known: up to three draws
/// per step, or increment and area of the Brownian path over both halves (in log-SNR) of each step; of solvers that use no more, one draw or the
/// increment of a whole step.
pub(crate) fn exact_moments(model: &dyn Denoiser, solver: &SolverConfig, grid: Grid, start: (f64, f64)) -> (f64, f64) {
    let sde = model.sde();
    let brownian = noise_source(solver) == Some(NoiseSource::Brownian);
    let once = ONE_DRAW.contains(&solver.name());
    let pieces = if brownian { pieces(sde, &grid, once) } else { Vec::new() };
    let per_step = if once {
        1
    } else if brownian {
        4
    } else {
        3
    };
    let unknowns = 2 + grid.moves() * per_step;
    let sigma = sde.sigma(grid.first());
    let known = factors(unknowns, per_step, &pieces);
    let sampler = Sampler::new(model, solver.clone(), grid).unwrap().state(Dtype::F64);
    let end = sampler.sample(&[unknowns, 1], &Cond::NONE, NOISE, 0, &mut []).unwrap().x.to_vec::<f64>();
    let solution = known.solve(&end);
    let (a, b) = (solution[0] / sigma, solution[1]);
    (a * start.0 + b, a.powi(2) * start.1 + solution[2..].iter().map(|c| c * c).sum::<f64>())
}

/// The steps of a grid in log-SNR, or the halves of each.
fn pieces(sde: &dyn Sde, grid: &Grid, whole: bool) -> Vec<(f64, f64)> {
    let of_step = |pair: &[f64]| {
        let (from, to) = (sde.log_snr(pair[0]), sde.log_snr(pair[1]));
        // What the solvers call the middle, after a round trip through time.
        let middle = sde.log_snr(sde.time_at_log_snr(from + 0.5 * (to - from)));
        if whole { vec![(from, to)] } else { vec![(from, middle), (middle, to)] }
    };
    grid.times().windows(2).flat_map(of_step).collect()
}

/// What multiplies the unknowns for each sample: the initial noise, 1, and the noise of the steps. It is the same for all solvers, and but for
/// Brownian paths for all processes, and is factorised once.
fn factors(unknowns: usize, per_step: usize, pieces: &[(f64, f64)]) -> Arc<Factors> {
    type Known = Mutex<Vec<((usize, usize), Vec<(f64, f64)>, Arc<Factors>)>>;
    static KNOWN: Known = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap();
    if let Some((_, _, factors)) = known.iter().find(|(n, of, _)| *n == (unknowns, per_step) && of == pieces) {
        return factors.clone();
    }
    let draw = |step: u32| NOISE.normal(&[unknowns, 1], 0, step, Dtype::F64).to_vec::<f64>();
    let mut columns = vec![draw(0), vec![1.0; unknowns]];
    if pieces.is_empty() {
        columns.extend((0..unknowns - 2).map(|j| draw(noise_step(j / per_step, (j % per_step) as u32))));
    }
    for piece in pieces {
        let path = Brownian::new(NOISE).increment(&[unknowns, 1], 0, &[*piece], Dtype::F64);
        columns.push(path.value.to_vec::<f64>());
        if per_step > 1 {
            columns.push(path.area.to_vec::<f64>());
        }
    }
    let factors = Arc::new(Factors::of((0..unknowns).map(|i| columns.iter().map(|c| c[i]).collect()).collect()));
    known.push(((unknowns, per_step), pieces.to_vec(), factors.clone()));
    factors
}

/// A square matrix as `P A = L U`, by elimination with partial pivoting.
struct Factors {
    /// `U`, and below it the factors of `L`.
    rows: Vec<Vec<f64>>,
    /// Which row of `A` is where.
    order: Vec<usize>,
}

impl Factors {
    fn of(mut rows: Vec<Vec<f64>>) -> Self {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        for k in 0..rows.len() {
            let pivot = (k..rows.len()).max_by(|&i, &j| rows[i][k].abs().total_cmp(&rows[j][k].abs())).unwrap();
            rows.swap(k, pivot);
            order.swap(k, pivot);
            let (done, rest) = rows.split_at_mut(k + 1);
            for row in rest {
                let factor = row[k] / done[k][k];
                row[k + 1..].iter_mut().zip(&done[k][k + 1..]).for_each(|(x, p)| *x -= factor * p);
                row[k] = factor;
            }
        }
        Self { rows, order }
    }

    /// The solution of `A x = right`.
    fn solve(&self, right: &[f64]) -> Vec<f64> {
        let dot = |row: &[f64], x: &[f64]| row.iter().zip(x).map(|(a, x)| a * x).sum::<f64>();
        let mut x: Vec<f64> = self.order.iter().map(|&i| right[i]).collect();
        for k in 0..x.len() {
            x[k] -= dot(&self.rows[k][..k], &x[..k]);
        }
        for k in (0..x.len()).rev() {
            x[k] = (x[k] - dot(&self.rows[k][k + 1..], &x[k + 1..])) / self.rows[k][k];
        }
        x
    }
}
