//! Metrics beside scipy, scikit-learn, POT and their definitions in numpy.

mod fixture;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use fixture::{Case, Fixture};
use fokker_metrics::{
    Authenticity, DensityCoverage, EnergyDistance, Frechet, KernelDistance, MarginalKs, MaxSlicedWasserstein, Memorisation,
    MetricConfig, Mmd, ModeCounts, Moments, NearestNeighbourTest, NegativeLogLikelihood, PrecisionRecall, SlicedWasserstein,
    Statistics, Vendi, Wasserstein2,
};
use fokker_sde::{Cond, Covariance, Edm, GaussianMixture, Times};
use fokker_tensor::Tensor;

/// Asserts that a number is the stored one, relative to it or to 1.
fn close(case: &Case, key: &str, found: f64, tolerance: f64) {
    case.assert_close(key, &Tensor::from_vec(&[1], vec![found]), tolerance);
}

fn closes(case: &Case, key: &str, found: Vec<f64>, tolerance: f64) {
    case.assert_close(key, &Tensor::from_vec(&[found.len()], found), tolerance);
}

#[test]
fn every_operation_in_the_fixture_is_compared() {
    let compared = [
        "copies",
        "diversity",
        "exact-density",
        "frechet",
        "manifolds",
        "marginals",
        "modes",
        "transport",
        "two-sample",
        "votes",
    ];
    assert_eq!(Fixture::load("metrics").ops(), BTreeSet::from(compared));
}

#[test]
fn precision_recall_density_and_coverage_are_those_of_scikit_learns_neighbours() {
    let fixture = Fixture::load("metrics");
    for case in fixture.of("manifolds") {
        let (x, y) = (case.tensor("x"), case.tensor("y"));
        let found = PrecisionRecall { k: case.count("k_precision") }.estimate(&x, &y).unwrap();
        close(&case, "precision", found.precision, 1e-14);
        close(&case, "recall", found.recall, 1e-14);
        let found = DensityCoverage { k: case.count("k_density") }.estimate(&x, &y).unwrap();
        close(&case, "density", found.density, 1e-14);
        close(&case, "coverage", found.coverage, 1e-14);
    }
}

#[test]
fn kernel_and_energy_distances_are_those_of_scipy_and_scikit_learn() {
    let fixture = Fixture::load("metrics");
    for case in fixture.of("two-sample") {
        let (x, y) = (case.tensor("x"), case.tensor("y"));
        let energy = EnergyDistance { permutations: 0 };
        let found = energy.estimate(&x, &y, 0).unwrap();
        close(&case, "energy", found.unbiased, 1e-12);
        close(&case, "energy_biased", found.biased, 1e-12);
        let line = |c: usize| energy.estimate(&x.slice(1, c..c + 1), &y.slice(1, c..c + 1), 0).unwrap().biased;
        closes(&case, "energy_line", (0..x.dim(1)).map(line).collect(), 1e-12);
        let found = Mmd { bandwidth: None, permutations: 0 }.estimate(&x, &y, 0).unwrap();
        close(&case, "bandwidth", found.bandwidth, 1e-12);
        close(&case, "mmd", found.unbiased, 1e-12);
        close(&case, "mmd_biased", found.biased, 1e-12);
        close(&case, "kernel_distance", KernelDistance::whole(&x, &y).unwrap(), 1e-12);
    }
}

#[test]
fn transport_distances_are_those_of_pot_and_scipy() {
    let fixture = Fixture::load("metrics");
    for case in fixture.of("transport") {
        let (x, y, theta) = (case.tensor("x"), case.tensor("y"), case.tensor("theta"));
        for (p, key) in [(1.0, "sliced_1"), (2.0, "sliced_2")] {
            let metric = SlicedWasserstein { p, ..SlicedWasserstein::default() };
            let found = metric.along(&x, &y, &theta).unwrap();
            close(&case, key, found.distance, 1e-12);
            if p == 2.0 {
                let most = found.costs.iter().copied().fold(0.0, f64::max).sqrt();
                close(&case, "max_sliced", most, 1e-12);
                // Ascent finds at least what a few directions do.
                assert!(MaxSlicedWasserstein::default().estimate(&x, &y, 0).unwrap().distance >= most);
            }
        }
        if case.has("exact") {
            let found = Wasserstein2::exact(&x, &y).unwrap();
            close(&case, "exact", found.distance, 1e-12);
            assert_eq!(found.matching, case.indices("matching"));
        }
    }
}

#[test]
fn frechet_distances_are_those_of_numpy_singular_covariances_included() {
    let fixture = Fixture::load("metrics");
    for case in fixture.of("frechet") {
        let (x, y) = (case.tensor("x"), case.tensor("y"));
        let statistics = Moments::of(&x).unwrap().statistics().unwrap();
        closes(&case, "mu", statistics.mean().to_vec(), 1e-13);
        let sigma = Tensor::from_vec(&[x.dim(1), x.dim(1)], statistics.covariance().to_vec());
        case.assert_close("sigma", &sigma, 1e-13);
        let tolerance = if case.name.contains("singular") { 1e-8 } else { 1e-12 };
        close(&case, "frechet", Frechet {}.estimate(&x, &y).unwrap(), tolerance);
    }
}

#[test]
fn statistics_that_numpy_wrote_are_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/statistics.npz");
    let read = Statistics::read_npz(File::open(path).unwrap()).unwrap();
    assert_eq!((read.mean().len(), read.covariance().len(), read.count()), (5, 25, None));
    // No distance from itself, and the trace from a point at its mean.
    assert!(Frechet::between(&read, &read).unwrap() < 1e-14);
    let point = Statistics::new(read.mean().to_vec(), vec![0.0; 25], None).unwrap();
    let trace: f64 = (0..5).map(|i| read.covariance()[6 * i]).sum();
    assert!((Frechet::between(&point, &read).unwrap() / trace - 1.0).abs() < 1e-14);
}

#[test]
fn marginal_distances_are_those_of_scipy() {
    let fixture = Fixture::load("metrics");
    for case in fixture.of("marginals") {
        let found = MarginalKs {}.estimate(&case.tensor("x"), &case.tensor("y")).unwrap();
        closes(&case, "distances", found.distances, 1e-14);
        closes(&case, "p_values", found.p_values, 1e-13);
    }
}

#[test]
fn vendi_scores_are_those_of_scikit_learns_similarities() {
    let fixture = Fixture::load("metrics");
    for case in fixture.of("diversity") {
        for (order, key) in [(1.0, "vendi"), (0.5, "vendi_half"), (2.0, "vendi_two")] {
            close(&case, key, Vendi { order }.estimate(&case.tensor("x")).unwrap(), 1e-11);
        }
    }
}

#[test]
fn ratios_and_authenticity_are_those_of_scikit_learns_neighbours() {
    let fixture = Fixture::load("metrics");
    for case in fixture.of("copies") {
        let (x, y) = (case.tensor("x"), case.tensor("y"));
        let found = Memorisation::default().estimate(&x, &y).unwrap();
        closes(&case, "ratios", found.ratios, 1e-12);
        assert_eq!(found.neighbours, case.indices("neighbours"));
        let authentic = Authenticity {}.estimate(&x, &y).unwrap();
        closes(&case, "authentic", authentic.into_iter().map(|a| f64::from(u8::from(a))).collect(), 0.0);
    }
}

#[test]
fn modes_are_counted_as_by_scikit_learns_neighbours() {
    let fixture = Fixture::load("metrics");
    for case in fixture.of("modes") {
        let centres = case.tensor("centres");
        let centres = centres.to_vec::<f64>().chunks(centres.dim(1)).map(<[f64]>::to_vec).collect();
        let metric = ModeCounts { centres, radius: case.number("radius") };
        let (x, y) = (case.tensor("x"), case.tensor("y"));
        let found = metric.estimate(&y).unwrap();
        let counts = |counts: &[usize]| counts.iter().map(|&n| n as f64).collect();
        closes(&case, "near", counts(&found.near), 0.0);
        closes(&case, "nearest", counts(&found.nearest), 0.0);
        close(&case, "total_variation", found.total_variation(&metric.estimate(&x).unwrap()), 1e-14);
        let scores = MetricConfig::ModeCounts(metric).scores(&x, &y, 0).unwrap();
        close(&case, "total_variation", scores.iter().find(|s| s.name == "mode-total-variation").unwrap().value, 1e-14);
    }
}

#[test]
fn nearest_neighbours_vote_as_scikit_learns_do() {
    let fixture = Fixture::load("metrics");
    for case in fixture.of("votes") {
        let (x, y) = (case.tensor("x"), case.tensor("y"));
        let (n, half) = (x.dim(0), x.dim(0) / 2);
        let (first, second) = (|x: &Tensor| x.slice(0, 0..half), |x: &Tensor| x.slice(0, half..n));
        let metric = NearestNeighbourTest { k: Some(case.count("k")) };
        let found = metric.with_halves([&first(&x), &first(&y)], [&second(&x), &second(&y)]).unwrap();
        close(&case, "accuracy", found.accuracy, 1e-14);
        close(&case, "p_value", found.p_value, 1e-12);
        assert_eq!(found.tested, 2 * half);
    }
}

#[test]
fn negative_log_likelihoods_under_a_mixture_are_those_of_scipy() {
    let fixture = Fixture::load("metrics");
    for case in fixture.of("exact-density") {
        let (x, means, covariances) = (case.tensor("x"), case.tensor("means"), case.tensor("covariances"));
        let width = x.dim(1);
        let rows = |x: &Tensor, n: usize| -> Vec<Vec<f64>> { x.to_vec::<f64>().chunks(n).map(<[f64]>::to_vec).collect() };
        let full: Vec<Covariance> = rows(&covariances, width * width).into_iter().map(Covariance::Full).collect();
        let weights = case.tensor("weights").to_vec::<f64>();
        // At a time at which the noise is below what any digit shows.
        let law = GaussianMixture::new(Edm { sigma_min: 1e-12, ..Edm::default() }, &weights, &rows(&means, width), &full);
        let log_density = |x: &Tensor| law.log_density(x, &Times::Same(1e-12), &Cond::NONE).to_vec();
        let found = NegativeLogLikelihood::under(&x, log_density).unwrap();
        close(&case, "nats", found.nats, 1e-12);
        close(&case, "error", found.error, 1e-12);
    }
}
