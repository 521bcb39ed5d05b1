//! The networks of features against pytorch-fid, timm and transformers, whole: resizing, units and all; and the Fréchet distance of features
//! against statistics that pytorch-fid wrote.
//!
//! Weights are a function of names and shapes that `tests/reference/features.py` has too.

mod fixture;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use fixture::{Case, Fixture};
use fokker_metrics::{Frechet, Moments, Statistics};
use fokker_models::ImageNetwork;
use fokker_models::checkpoint::Checkpoint;
use fokker_tensor::ops::max_pool::MaxPool;
use fokker_tensor::ops::resize::Resize;
use fokker_tensor::{Dtype, Tensor};
use fokker_train::FeatureNetwork;

/// `features.py`, `numbers`.
fn numbers(name: &str, shape: &[usize]) -> Vec<f64> {
    let start = crc32fast::hash(name.as_bytes());
    let number = |i: usize| {
        let mut h = (i as u32).wrapping_mul(0x9E37_79B1).wrapping_add(start);
        for (shift, factor) in [(16, 0x85EB_CA6B), (13, 0xC2B2_AE35), (16, 1)] {
            h = (h ^ (h >> shift)).wrapping_mul(factor);
        }
        (2.0 * ((f64::from(h) + 0.5) / 2f64.powi(32)) - 1.0) * 3f64.sqrt()
    };
    (0..shape.iter().product()).map(number).collect()
}

/// `features.py`, `weight`.
fn weight(name: &str, shape: &[usize]) -> Tensor {
    let (shift, scale) = if shape.len() > 1 && name.ends_with("weight") {
        let gain = if shape.len() == 4 { 2.0 } else { 1.0 };
        (0.0, (gain * shape[0] as f64 / shape.iter().product::<usize>() as f64).sqrt())
    } else if name.ends_with("running_var") || shape.len() == 1 && !name.ends_with("bias") && !name.ends_with("running_mean") {
        (1.0, 0.3)
    } else {
        (0.0, 0.2)
    };
    Tensor::from_vec(shape, numbers(name, shape).into_iter().map(|v| shift + scale * v).collect::<Vec<f64>>())
}

/// `features.py`, `images`.
fn images(name: &str, shape: &[usize]) -> Tensor {
    let pixel = |v: f64| ((v / 3f64.sqrt() + 1.0) * 128.0).floor() / 127.5 - 1.0;
    Tensor::from_vec(shape, numbers(name, shape).into_iter().map(pixel).collect::<Vec<f64>>())
}

/// The network that a case is of, as a file.
fn weights(fixture: &Fixture, case: &Case, dtype: Dtype) -> Checkpoint {
    let network = case.word_or("network", "").to_owned();
    let shapes = fixture.case(&network).shapes("shapes");
    let tensors: BTreeMap<_, _> =
        shapes.into_iter().map(|(name, shape)| (name.clone(), weight(&name, &shape).to(dtype))).collect();
    Checkpoint { tensors, ..Checkpoint::default() }
}

fn compare(fixture: &Fixture, case: &Case, dtype: Dtype, tolerance: f64) {
    let checkpoint = weights(fixture, case, dtype);
    let network = ImageNetwork::from_checkpoint(&checkpoint, case.name.as_ref()).unwrap();
    let expected = case.tensor("y");
    // Far apart in what they say of the image: a wrong one would not pass.
    let size = (&expected * &expected).mean_all().item().sqrt();
    assert!(size > 0.05, "{}: features of size {size}", case.name);
    let x = images(case.name, &case.counts("x"));
    case.assert_close("y", &network.features(&x.to(dtype)).to(Dtype::F64), tolerance * size.min(1.0));
}

#[test]
fn narrow_networks_have_the_features_of_pytorch_fid_timm_and_transformers() {
    let fixture = Fixture::load("features");
    for case in fixture.of("features") {
        compare(&fixture, &case, Dtype::F64, 1e-10);
        compare(&fixture, &case, Dtype::F32, 1e-4);
    }
}

/// Of the extents of real networks; a minute and some gigabytes.
#[test]
#[ignore = "24 and 86 million weights"]
fn full_networks_have_the_features_of_pytorch_fid_and_timm() {
    let fixture = Fixture::load("features");
    for case in fixture.of("full") {
        let network = ImageNetwork::from_checkpoint(&weights(&fixture, &case, Dtype::F32), case.name.as_ref()).unwrap();
        assert_eq!(network.name(), case.word_or("network", ""));
        compare(&fixture, &case, Dtype::F32, 1e-4);
        compare(&fixture, &case, Dtype::F64, 1e-10);
    }
}

#[test]
fn the_distance_to_statistics_of_pytorch_fid_is_that_of_both_sets_of_features() {
    let fixture = Fixture::load("features");
    let case = fixture.case("statistics");
    let file = weights(&fixture, &case, Dtype::F32).to_bytes().unwrap();
    let features = FeatureNetwork::from_bytes(&file, "inception".as_ref()).unwrap();
    assert_eq!(features.name(), "inception-v3");
    let statistics = |x: &Tensor| Moments::of(&features.of(x).unwrap()).unwrap().statistics().unwrap();
    let a = statistics(&images("statistics-a", &case.counts("a")));
    let b = statistics(&images("statistics-b", &case.counts("b")).clamp(-1.0, 0.2));
    let theirs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fid_statistics.npz");
    let theirs = Statistics::read_npz(File::open(theirs).unwrap()).unwrap();
    let (trace, expected) = (case.tensor("trace").item(), case.tensor("frechet").item());
    assert!(expected > 0.05 * trace, "the sets differ");
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-4 * trace, "{found}, expected {expected}");
    near(Frechet::between(&theirs, &a).unwrap(), 0.0);
    near(Frechet::between(&theirs, &b).unwrap(), expected);
    near(Frechet::between(&a, &b).unwrap(), expected);
}

#[test]
fn resizing_and_max_pooling_are_pytorchs() {
    let fixture = Fixture::load("features");
    for case in fixture.of("resize") {
        case.check(&["x"], |case, x| {
            let how = match (case.word_or("kernel", ""), case.flag("smooth")) {
                ("bicubic", true) => Resize::SMOOTH_BICUBIC,
                ("bicubic", false) => Resize::BICUBIC,
                (_, smooth) => Resize { smooth, ..Resize::BILINEAR },
            };
            let ratio = case.has_parameter("ratio").then(|| case.list("ratio")).map(|r| (r[0], r[1]));
            x[0].resize2d(case.pair("size").into(), Resize { ratio, ..how })
        });
    }
    for case in fixture.of("max_pool") {
        case.check(&["x"], |case, x| {
            let [kernel, stride, padding] = ["kernel", "stride", "padding"].map(|key| case.count(key));
            x[0].max_pool2d(MaxPool { kernel, stride, padding })
        });
    }
}

#[test]
fn every_case_of_the_fixture_is_compared() {
    let ops: Vec<String> = Fixture::load("features").ops().into_iter().map(str::to_owned).collect();
    assert_eq!(ops, ["features", "full", "max_pool", "network", "resize", "statistics"]);
}
