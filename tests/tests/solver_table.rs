//! The pieces of the table in `docs/solvers.md`: that it measures what it says, and that the committed files are whole.

mod oracle;

use std::path::Path;

use conformance::solver_table::distance::{Judge, SAMPLES};
use conformance::solver_table::lineup::{self, GridKind};
use conformance::solver_table::measure::{best_cell, best_ratio, error_on, fitted_cell, fitted_grid};
use conformance::solver_table::oracle::{Oracle, Stream, Target, rms};
use conformance::solver_table::peers::Peers;
use conformance::solver_table::{FITTED, NFE};
use fokker_sde::{Cond, Denoiser};
use fokker_solve::{
    AnnealedLangevin, Ddim, DpmPpMultistep, DpmSolver, ExponentialAdams, Family, Heun, Kind, LowerOrderFinal, Solver,
    SolverConfig, Variable,
};
use fokker_tensor::{Dtype, Tensor};

/// A few states, for tests that need not be precise.
fn few(oracle: &Oracle) -> Target {
    oracle.target_of(oracle.states(Stream::Judged, 32))
}

#[test]
fn errors_in_the_table_fall_with_the_declared_orders() {
    let plane = Oracle::plane();
    let target = few(&plane);
    let adams = ExponentialAdams { order: 3, lower_order_final: LowerOrderFinal::Never, ..ExponentialAdams::default() };
    let solvers: [(SolverConfig, f64); 5] = [
        (Ddim::default().into(), 1.0),
        (Heun::default().into(), 2.0),
        (DpmPpMultistep::default().into(), 2.0),
        (adams.into(), 3.0),
        (DpmSolver { order: 3 }.into(), 3.0),
    ];
    for (solver, order) in solvers {
        let nfe = [200, 400, 800];
        let errors = nfe.map(|n| error_on(&plane, &target, &solver, GridKind::LogSnr, n).unwrap().value);
        let found = oracle::fitted_order(&nfe, &errors);
        assert!((found - order).abs() < 0.25, "{solver:?}: order {found:.2} of errors {errors:?}, expected {order}");
    }
    assert!(target.error < 1e-9, "the reference's own error is {:e}", target.error);
}

#[test]
fn a_cell_costs_at_most_what_its_column_allows_and_says_where_that_does_not_do() {
    let plane = Oracle::plane();
    let target = few(&plane);
    for solver in lineup::solvers(Kind::Ode) {
        for most in [5, 10, 20] {
            let Some(cell) = best_cell(&plane, &target, &solver, most) else {
                // Those with step control need some steps, of up to 7 evaluations, at the loosest tolerance too.
                assert!(solver.family() == Family::Adaptive, "{solver:?} with {most}");
                continue;
            };
            assert!(cell.nfe <= most && cell.value.is_finite(), "{solver:?}: {cell:?} for {most}");
            // One step more costs at most four evaluations more.
            let fixed = solver.evaluations(1).is_some();
            assert!(!fixed || cell.nfe + 4 > most, "{solver:?} spends {} of {most}", cell.nfe);
        }
    }
    let judge = Judge::new(&plane);
    let annealed: SolverConfig = AnnealedLangevin { iterations: 5, step: None }.into();
    // One move is five evaluations at each of two levels, and one more at the end.
    assert_eq!(best_ratio(&plane, &judge, &annealed, 10), None);
    assert_eq!(best_ratio(&plane, &judge, &annealed, 11).unwrap().nfe, 11);
}

#[test]
fn a_grid_is_fitted_on_states_that_it_is_not_judged_on_and_is_better_than_the_usual_ones() {
    let plane = Oracle::plane();
    let (judged, fitted) = (plane.states(Stream::Judged, 8), plane.states(Stream::Fitted, 8));
    assert!((&judged - &fitted).abs().to_vec::<f64>().iter().all(|apart| *apart > 0.0));
    let target = plane.target();
    let solver: SolverConfig = ExponentialAdams::default().into();
    let grid = fitted_grid(&plane, &solver, 8).unwrap();
    assert_eq!((grid.steps(), grid.first(), grid.last()), (8, 80.0, 0.002));
    let fitted = fitted_cell(&plane, &target, &solver, 8).unwrap();
    let usual = best_cell(&plane, &target, &solver, 8).unwrap();
    assert!(fitted.nfe == 8 && fitted.value < usual.value, "{fitted:?} and {usual:?}");
}

#[test]
fn the_distance_of_exact_samples_is_one_and_that_of_others_is_more() {
    for oracle in Oracle::all() {
        let judge = Judge::new(&oracle);
        let exact = oracle.model.sample(SAMPLES, Stream::Exact.noise(), 1 << 40);
        let ratio = judge.ratio(&exact);
        assert!((ratio - 1.0).abs() < 0.25, "{}: {ratio}", oracle.name);
        let shifted = judge.ratio(&(&exact + 0.1));
        assert!(shifted > 1.5 * ratio, "{}: {shifted} of shifted samples, {ratio} of exact ones", oracle.name);
    }
}

#[test]
fn every_solver_that_samples_is_in_the_lineup_once() {
    let names = |kind| lineup::solvers(kind).iter().map(|solver| solver.name()).collect::<Vec<_>>();
    let mut found = [names(Kind::Ode), names(Kind::Sde)].concat();
    found.push("langevin");
    found.sort_unstable();
    let mut listed = SolverConfig::KINDS.to_vec();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

#[test]
fn settings_are_shown_where_they_differ_from_the_defaults() {
    let deis = fokker_solve::Deis { order: 2, variable: Variable::LogSnr, ..fokker_solve::Deis::default() };
    assert_eq!(lineup::changes(&deis.into()), "order = 2, variable = \"log-snr\"");
    assert_eq!(lineup::changes(&Heun::default().into()), "");
}

/// The first four coordinates of some rows.
fn corner(x: &Tensor, rows: usize) -> Vec<Vec<f64>> {
    let each = x.dim(1);
    x.to_vec::<f64>().chunks(each).take(rows).map(|row| row[..each.min(4)].to_vec()).collect()
}

fn assert_close(what: &str, found: &[Vec<f64>], expected: &[Vec<f64>], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((a - b).abs() < tolerance, "{what}: {a}, the file has {b}");
    }
}

#[test]
fn the_peers_were_measured_on_the_same_mixtures_and_states_and_have_every_column() {
    let peers = Peers::load().unwrap();
    assert_eq!(peers.nfe, NFE);
    assert_eq!(peers.oracles.len(), Oracle::all().len());
    for oracle in Oracle::all() {
        let section = &peers.oracles[oracle.name];
        assert_eq!(section.dimensions, oracle.dim());
        let probe = &section.probe;
        let x = &oracle.states(Stream::Judged, 2) * (1.0 / 80.0);
        assert_close("initial states", &corner(&x, 2), &probe.x, 1e-12);
        let denoised = oracle.model.denoise(&x, &probe.sigma.into(), &Cond::NONE);
        assert_close("denoised", &corner(&denoised, 2), &probe.denoised, 1e-10);
        let end = oracle.target_of(oracle.states(Stream::Judged, 4)).end;
        assert_close("the exact flow's end", &corner(&end, 4), &probe.end, 1e-8);

        assert_eq!(section.libraries(), ["diffusers", "k-diffusion", "azula"]);
        for (column, nfe) in NFE.into_iter().enumerate() {
            for library in section.libraries() {
                let best = section.best(column, |peer| peer.library == library);
                assert!(best.is_some_and(|best| best.value > 0.0), "{library} at {nfe}");
            }
        }
        for peer in &section.samplers {
            for (grid, evaluations) in &peer.evaluations {
                let errors = &peer.errors[grid];
                assert!(errors.iter().zip(evaluations).zip(NFE).all(|((e, n), most)| e.is_none() || (1..=most).contains(n)));
            }
        }
    }
}

/// Our Euler method and theirs are the same, so that the same grid has to give the same error.
#[test]
fn the_same_method_on_the_same_grid_has_the_same_error_here_and_there() {
    let peers = Peers::load().unwrap();
    let same: [(SolverConfig, &str); 3] = [
        (Ddim::default().into(), "sample_euler"),
        (Heun::default().into(), "sample_heun"),
        (DpmPpMultistep { order: 2, lower_order_final: LowerOrderFinal::Never }.into(), "sample_dpmpp_2m"),
    ];
    for oracle in Oracle::all() {
        let target = oracle.target();
        for (solver, sampler) in &same {
            let peer = peers.oracles[oracle.name].samplers.iter().find(|peer| peer.sampler == *sampler).unwrap();
            for (key, errors) in &peer.errors {
                for (column, expected) in errors.iter().enumerate().take(FITTED) {
                    let found = error_on(&oracle, &target, solver, GridKind::from_key(key).unwrap(), NFE[column]).unwrap().value;
                    let expected = expected.unwrap();
                    let what = format!("{sampler} on {key} at {}: {found:e} here, {expected:e} there", NFE[column]);
                    assert!((found - expected).abs() < 1e-4 * expected, "{}: {what}", oracle.name);
                }
            }
        }
    }
}

#[test]
fn the_page_names_every_solver_and_the_versions_of_the_peers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let page = read("../docs/solvers.md");
    for name in SolverConfig::KINDS {
        assert!(page.contains(&format!("`{name}`")), "{name} is not on the page: cargo xtask solvers");
    }
    let requirements = read("reference/requirements.txt");
    for (package, version) in Peers::load().unwrap().versions {
        assert!(page.contains(&format!("{package} {version}")), "{package} {version} is not on the page: cargo xtask solvers");
        assert!(requirements.contains(&format!("{package}=={version}")), "{package} {version} is not what is required");
    }
}

#[test]
fn the_reference_is_as_accurate_as_halving_its_steps_says() {
    let plane = Oracle::plane();
    let x = plane.states(Stream::Judged, 32);
    let target = plane.target_of(x.clone());
    // Another method of another order on another grid.
    let other: SolverConfig = fokker_solve::RungeKutta::default().into();
    let end = error_on(&plane, &Target { x, end: target.end.clone(), error: 0.0 }, &other, GridKind::Karras, 16_001).unwrap();
    assert!(end.value < 1e-9, "{:e} apart", end.value);
    assert_eq!(rms(&target.end, &target.end), 0.0);
    assert_eq!(target.end.dtype(), Dtype::F64);
}
