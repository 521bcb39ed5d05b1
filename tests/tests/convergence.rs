//! The order of convergence of every deterministic solver on every process, on data whose flow is known.

mod oracle;

use fokker_sde::{Cond, LinearFlow, Sde, SdeConfig, diffuse};
use fokker_solve::{CosineAngle, Family, Grid, GridConfig, Kind, Sampler, Solver, SolverConfig};
use fokker_tensor::Dtype;

use oracle::{NOISE, fitted_order, gaussian, max_difference, smooth_processes, solvers};

/// A grid that is uniform in the angle arctan(σ/α): in no variable that a solver has.
fn uneven_grid(sde: &SdeConfig, steps: usize) -> Grid {
    let config = GridConfig {
        steps,
        spacing: CosineAngle::default().into(),
        t_max: Some(sde.time_at_log_snr(-2.0)),
        t_min: Some(sde.time_at_log_snr(2.0)),
        denoise_last: false,
    };
    config.build(sde).unwrap()
}

/// The grid with its first interval cut into pieces that double. A multistep method is of order 1, 2, … while it has few answers; the
/// first pieces are so short that this adds less than its own order.
fn with_short_start(grid: Grid, order: u32, sde: &dyn Sde) -> Grid {
    let (t, s) = (grid.times()[0], grid.times()[1]);
    let halvings = 2 + (0.5 * f64::from(order - 2) * (grid.moves() as f64).log2()).ceil() as i32;
    let pieces = (1..=halvings).rev().map(|k| t + (s - t) * 0.5_f64.powi(k));
    let times = [t].into_iter().chain(pieces).chain(grid.times()[1..].iter().copied()).collect();
    Grid::new(times, false, sde).unwrap()
}

/// The error against the exact flow of Gaussian data.
fn error(sde: &SdeConfig, solver: &SolverConfig, grid: Grid) -> f64 {
    let model = gaussian(sde.clone());
    let (t, s) = (grid.first(), grid.last());
    let x_0 = model.sample(8, NOISE, 0);
    let x = diffuse(sde, &t.into(), &x_0, &NOISE.normal(&[8, 2], 0, 9, Dtype::F64));
    let exact = model.flow(&x, t, s);
    let sampler = Sampler::new(&model, solver.clone(), grid).unwrap().state(Dtype::F64);
    max_difference(&sampler.integrate(x, &Cond::NONE, NOISE, 0, &mut []).unwrap().x, &exact)
}

/// Deterministic solvers that take the steps of the grid.
fn fixed_step() -> Vec<SolverConfig> {
    solvers(Kind::Ode).into_iter().filter(|solver| !matches!(solver.family(), Family::Adaptive | Family::Parallel)).collect()
}

#[test]
fn deterministic_solvers_have_their_order_on_every_sde() {
    let mut wrong = Vec::new();
    for sde in smooth_processes() {
        for solver in fixed_step() {
            // Methods of order 5 soon reach the rounding of f64.
            let steps = match (solver.order(), sde.name()) {
                (5.., _) => [10, 20, 40, 80],
                // Methods in t feel a process whose velocity changes much: 40 steps are far from the limit.
                (3.., "scaled") => [80, 160, 320, 640],
                _ => [40, 80, 160, 320],
            };
            let errors = steps.map(|n| {
                let mut grid = uneven_grid(&sde, n);
                if solver.family() == Family::Multistep && solver.order() > 2 {
                    grid = with_short_start(grid, solver.order(), &sde);
                }
                error(&sde, &solver, grid)
            });
            let order = fitted_order(&steps, &errors);
            if (order - f64::from(solver.order())).abs() >= 0.2 {
                wrong.push(format!(
                    "{solver:?} on {}: order {order:.3}, declared {}; errors {errors:?}",
                    sde.name(),
                    solver.order()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn deterministic_solvers_have_their_order_on_a_flow_that_starts_at_pure_noise() {
    let sde = LinearFlow::default();
    let model = gaussian(sde.clone());
    let mut wrong = Vec::new();
    for solver in fixed_step().into_iter().filter(|solver| solver.takes_pure_noise()) {
        let steps = [40, 80, 160, 320];
        let mut errors = steps.map(|n| {
            let grid = GridConfig { steps: n, t_min: Some(0.2), denoise_last: false, ..GridConfig::default() };
            let x = NOISE.normal(&[8, 2], 0, 9, Dtype::F64);
            let exact = model.flow(&x, 1.0, 0.2);
            let sampler = Sampler::new(&model, solver.clone(), grid.build(&sde).unwrap()).unwrap().state(Dtype::F64);
            max_difference(&sampler.integrate(x, &Cond::NONE, NOISE, 0, &mut []).unwrap().x, &exact)
        });
        if let SolverConfig::DpmPpMultistep(_) = solver {
            // Its approximate weights cost O(h²) per unit of the log-SNR, of which n steps from pure noise cover about 2 ln n.
            errors.iter_mut().zip(steps).for_each(|(error, n)| *error /= (n as f64).ln());
        }
        let order = fitted_order(&steps, &errors);
        // The first steps of a multistep method are of first order here: they begin at an infinite log-SNR, without history.
        let expected = if solver.family() == Family::Multistep { solver.order().min(2) } else { solver.order() };
        if (order - f64::from(expected)).abs() >= 0.2 {
            wrong.push(format!("{solver:?}: order {order:.3}, errors {errors:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
