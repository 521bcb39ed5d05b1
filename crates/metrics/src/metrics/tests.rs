//! What every metric of the list must do.

use super::*;
use crate::pairs::tests::normal;
use fokker_tensor::{Dtype, Tensor};

/// Two sets that differ a little, `[120, 4]` and `[100, 4]`.
fn sets() -> (Tensor, Tensor) {
    (normal(120, 4, 1), &normal(100, 4, 2) * 1.2)
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn every_metric_has_the_same_bits_for_any_number_of_threads() {
    // More than one block of rows.
    let (x, y) = (normal(600, 5, 3), &normal(530, 5, 4) + 0.1);
    for metric in MetricConfig::all() {
        let scores = |threads| pool(threads).install(|| metric.scores(&x, &y, 7).unwrap());
        let one = scores(1);
        assert!(!one.is_empty());
        for score in &one {
            assert!(score.value.is_finite(), "{}: {score:?}", metric.kind());
        }
        for threads in [2, 5] {
            assert_eq!(scores(threads), one, "{} with {threads} threads", metric.kind());
        }
    }
}

#[test]
fn every_metric_refuses_bad_sets_and_says_where() {
    let (x, y) = sets();
    for metric in MetricConfig::all() {
        let fails = |x: &Tensor, y: &Tensor, part: &str| {
            let error = metric.scores(x, y, 0).expect_err(metric.kind()).to_string();
            assert!(error.contains(part), "{}: {error}", metric.kind());
        };
        let mut bad = y.clone();
        bad.update(|v: &mut [f64]| v[4 * 17 + 3] = f64::NAN);
        fails(&x, &bad, "NaN at row 17, column 3");
        fails(&x, &y.slice(1, 0..3), "columns");
        fails(&Tensor::zeros(&[0, 4], Dtype::F64), &y, "shape [0, 4]");
    }
}

#[test]
fn every_metric_takes_either_type_and_any_axes() {
    let (x, y) = sets();
    let (x, y) = (x.to(Dtype::F32), y.to(Dtype::F32));
    for metric in MetricConfig::all() {
        let narrow = metric.scores(&x, &y, 0).unwrap();
        let wide = metric.scores(&x.to(Dtype::F64).reshape(&[120, 2, 2, 1]), &y.to(Dtype::F64), 0).unwrap();
        assert_eq!(narrow, wide, "{}", metric.kind());
    }
}

#[test]
fn every_metric_survives_a_round_trip_and_refuses_unknown_keys() {
    for metric in MetricConfig::all() {
        let text = serde_json::to_string(&metric).unwrap();
        assert_eq!(serde_json::from_str::<MetricConfig>(&text).unwrap(), metric);
        let with_more = text.replacen('{', "{\"novel\":1,", 1);
        assert!(serde_json::from_str::<MetricConfig>(&with_more).is_err(), "{with_more}");
    }
    let error = MetricConfig::with_defaults("fid").unwrap_err().to_string();
    assert!(error.starts_with("kind is \"fid\", expected") && error.contains("precision-recall"), "{error}");
}

#[test]
fn every_metric_has_a_number_or_a_reason_for_constant_features() {
    let x = Tensor::full(&[40, 4], 0.5, Dtype::F32);
    let y = &normal(40, 4, 1) + 0.5;
    for metric in MetricConfig::all() {
        for (real, generated) in [(&x, &x), (&x, &y), (&y, &x)] {
            match metric.scores(real, generated, 0) {
                Ok(scores) => assert!(scores.iter().all(|s| s.value.is_finite()), "{}: {scores:?}", metric.kind()),
                Err(MetricError::Degenerate { what, found, expected }) => {
                    assert!(!(what.is_empty() || found.is_empty() || expected.is_empty()), "{}", metric.kind());
                }
                Err(error) => panic!("{}: {error}", metric.kind()),
            }
        }
    }
}

#[test]
fn every_metric_says_how_few_vectors_it_was_given() {
    // Two of each: enough for distances and covariances, not for neighbours among neighbours or for halves to learn from.
    let (x, y) = (normal(2, 3, 1), normal(2, 3, 2));
    let mut refused = Vec::new();
    for metric in MetricConfig::all() {
        match metric.scores(&x, &y, 0) {
            Ok(scores) => assert!(scores.iter().all(|s| s.value.is_finite()), "{}: {scores:?}", metric.kind()),
            Err(MetricError::TooFew { found, needed, .. }) => {
                assert!(found == 2 && needed > 2, "{}: {found} of {needed}", metric.kind());
                refused.push(metric.kind());
            }
            Err(error) => panic!("{}: {error}", metric.kind()),
        }
    }
    assert_eq!(refused, ["precision-recall", "density-coverage", "nearest-neighbour-test", "network-test"]);
}

#[test]
fn every_metric_says_its_range_its_bias_the_samples_it_needs_and_what_it_cannot_see() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = MetricConfig::KINDS.iter().map(|(kind, _)| match *kind {
        "wasserstein-2" => "metrics/wasserstein2.rs".to_owned(),
        kind => format!("metrics/{}.rs", kind.replace('-', "_")),
    });
    for file in files.chain(["likelihood.rs".to_owned()]) {
        let text = std::fs::read_to_string(folder.join(&file)).unwrap();
        assert!(text.starts_with("//! ") && text.contains("```text\n"), "{file} opens with its equations");
        for part in ["Range", "Bias", "Sample size", "Cannot see", "Cost"] {
            assert_eq!(text.matches(&format!("/// - **{part}**: ")).count(), 1, "{part} of {file}");
        }
    }
}

#[test]
fn features_of_two_networks_do_not_compare() {
    let (x, y) = (normal(20, 3, 1), normal(20, 5, 2));
    let expected = "the real set has 3 columns, the generated set 5: features of two different spaces";
    let statistics = |x: &Tensor| crate::Moments::of(x).unwrap().statistics().unwrap();
    assert_eq!(Frechet::between(&statistics(&x), &statistics(&y)).unwrap_err().to_string(), expected);
    for metric in MetricConfig::all() {
        let error = metric.scores(&x, &y, 0).unwrap_err().to_string();
        assert!(
            error.contains("3 columns") && error.contains("5: features of two different spaces"),
            "{}: {error}",
            metric.kind()
        );
    }
}
