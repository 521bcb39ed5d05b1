use super::*;
use fokker_tensor::Tensor;

fn open(toml: &str) -> Box<dyn Dataset> {
    toml::from_str::<DataConfig>(toml).unwrap().open(Path::new("")).unwrap()
}

fn points(set: &dyn Dataset, n: usize) -> Vec<[f64; 2]> {
    let x = set.batch(&(0..n).collect::<Vec<_>>()).unwrap().x.to_vec::<f64>();
    x.as_chunks::<2>().0.to_vec()
}

fn parse_error(toml: &str) -> String {
    toml::from_str::<DataConfig>(toml).unwrap_err().to_string()
}

fn open_error(toml: &str) -> String {
    let config: DataConfig = toml::from_str(toml).unwrap();
    config.open(Path::new("")).err().expect("an error").to_string()
}

#[test]
fn every_generated_set_is_a_function_of_its_seed_and_row() {
    let generated = DataConfig::generated();
    assert_eq!(generated.len(), 8);
    for config in generated {
        let kind = config.kind();
        let set = config.open(Path::new("")).unwrap();
        assert_eq!(set.name(), kind);
        let one = |row: usize| set.batch(&[row]).unwrap();
        let rows = [5, 0, 70_000, 5];
        let batch = set.batch(&rows).unwrap();
        let expected: Vec<f32> = rows.iter().flat_map(|&row| one(row).x.to_vec::<f32>()).collect();
        assert_eq!(batch.x.as_slice::<f32>(), expected, "{kind}");
        assert_eq!(batch.x.shape()[1..], *set.sample_shape(), "{kind}");
        assert_eq!(batch.labels.is_some(), set.classes().is_some(), "{kind}");
        if let Some(labels) = batch.labels {
            assert_eq!(labels, rows.map(|row| one(row).labels.unwrap()[0]), "{kind}");
        }
        assert_ne!(one(0).x.to_vec::<f32>(), one(1).x.to_vec::<f32>(), "{kind}");
        let other = open(&format!("kind = \"{kind}\"\nseed = 1"));
        assert_ne!(one(0).x.to_vec::<f32>(), other.batch(&[0]).unwrap().x.to_vec::<f32>(), "{kind}");
    }
}

#[test]
fn sets_with_levels_have_no_other_values_and_those_without_have() {
    let mut with_levels = Vec::new();
    for config in DataConfig::generated() {
        let set = config.open(Path::new("")).unwrap();
        let values = set.batch(&(0..50).collect::<Vec<_>>()).unwrap().x.to_vec::<f64>();
        let byte = |x: f64| 127.5 * (x + 1.0);
        let on_levels = values.iter().all(|&x| x.abs() <= 1.0 && (byte(x) - byte(x).round()).abs() < 1e-4);
        assert_eq!(on_levels, set.levels() == Some(256), "{}", config.kind());
        with_levels.extend(set.levels().map(|_| config.kind()));
    }
    assert_eq!(with_levels, ["glyphs"]);
}

#[test]
fn every_class_is_as_likely_as_the_others() {
    for config in DataConfig::generated() {
        let set = config.open(Path::new("")).unwrap();
        let Some(classes) = set.classes() else { continue };
        let n = 2000;
        let mut counts = vec![0_i32; classes];
        for label in set.batch(&(0..n).collect::<Vec<_>>()).unwrap().labels.unwrap() {
            counts[label as usize] += 1;
        }
        let (p, n) = (1.0 / classes as f64, n as f64);
        let allowed = 4.5 * (n * p * (1.0 - p)).sqrt();
        assert!(counts.iter().all(|&c| (f64::from(c) - n * p).abs() < allowed), "{}: {counts:?}", config.kind());
    }
}

#[test]
fn densities_have_the_moments_they_state() {
    let variance_of_roll = {
        // E t^2 cos^2 t and E t cos t by the midpoint rule, as an independent check of the sampler.
        let n = 100_000;
        let t = |i: usize| 1.5 * std::f64::consts::PI * (1.0 + 2.0 * (i as f64 + 0.5) / n as f64);
        let mean = |f: &dyn Fn(f64) -> f64| (0..n).map(|i| f(t(i))).sum::<f64>() / n as f64;
        let moments = |f: fn(f64) -> f64| (mean(&|t| t * f(t) / 7.0), mean(&|t| (t * f(t) / 7.0).powi(2)));
        let ((mx, sx), (my, sy)) = (moments(f64::cos), moments(f64::sin));
        ([mx, my], [sx - mx * mx + 0.07_f64.powi(2), sy - my * my + 0.07_f64.powi(2)])
    };
    let moons_y = 2.0 * (0.5 - (2.0 / std::f64::consts::PI).powi(2) + (2.0 / std::f64::consts::PI - 0.25).powi(2)) + 0.01;
    let cases = [
        ("moons", [0.0; 2], [2.0 * 0.75 + 0.01, moons_y]),
        ("checkerboard", [0.0; 2], [4.0 / 3.0; 2]),
        ("eight-gaussians", [0.0; 2], [1.0225; 2]),
        ("pinwheel", [0.0; 2], [1.0; 2]),
        ("swiss-roll", variance_of_roll.0, variance_of_roll.1),
        ("rings", [0.0; 2], [15.0 / 16.0 + 0.0025; 2]),
    ];
    for (kind, mean, variance) in cases {
        let n = 20_000;
        let points = points(&*open(&format!("kind = \"{kind}\"")), n);
        for axis in 0..2 {
            let of = |p: i32, about: f64| points.iter().map(|x| (x[axis] - about).powi(p)).sum::<f64>() / n as f64;
            // Standard deviations of the two estimates are below 0.0095 and 0.013.
            assert!((of(1, 0.0) - mean[axis]).abs() < 0.045, "{kind}: mean {axis} is {}", of(1, 0.0));
            let found = of(2, mean[axis]);
            assert!((found - variance[axis]).abs() < 0.06, "{kind}: variance {axis} is {found}, not {}", variance[axis]);
        }
    }
}

#[test]
fn checkerboard_fills_its_eight_squares_evenly() {
    let mut counts = std::collections::BTreeMap::new();
    for x in points(&*open("kind = \"checkerboard\""), 8000) {
        assert_eq!(Checkerboard::density(x), 0.125, "{x:?}");
        *counts.entry((x[0].floor() as i32, x[1].floor() as i32)).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 8);
    assert!(counts.values().all(|&n: &i32| (n - 1000).abs() < 150), "{counts:?}");
}

#[test]
fn eight_gaussians_lie_around_their_centres() {
    let config = EightGaussians { radius: 2.0, std: 0.1, ..EightGaussians::default() };
    let set = DataConfig::EightGaussians(config.clone()).open(Path::new("")).unwrap();
    let batch = set.batch(&(0..4000).collect::<Vec<_>>()).unwrap();
    let mut squares = 0.0;
    for (x, label) in batch.x.to_vec::<f64>().chunks_exact(2).zip(batch.labels.unwrap()) {
        let centre = config.centres()[label as usize];
        assert!((centre[0].hypot(centre[1]) - 2.0).abs() < 1e-12);
        squares += (x[0] - centre[0]).powi(2) + (x[1] - centre[1]).powi(2);
    }
    assert!(((squares / 8000.0).sqrt() - 0.1).abs() < 0.004);
}

#[test]
fn rings_and_spirals_have_their_radii() {
    let rings = open("kind = \"rings\"\nnoise = 0.0").batch(&(0..200).collect::<Vec<_>>()).unwrap();
    for (x, label) in rings.x.to_vec::<f64>().chunks_exact(2).zip(rings.labels.unwrap()) {
        assert!((x[0].hypot(x[1]) - 0.5 * f64::from(label + 1)).abs() < 1e-6);
    }
    let spirals = open("kind = \"spirals\"\nnoise = 0.0").batch(&(0..200).collect::<Vec<_>>()).unwrap();
    for (x, label) in spirals.x.to_vec::<f64>().chunks_exact(2).zip(spirals.labels.unwrap()) {
        // On the arm, the radius decides the angle: phi = 3 pi r / 2.
        let (r, sign) = (x[0].hypot(x[1]), if label == 0 { 1.0 } else { -1.0 });
        let phi = 1.5 * std::f64::consts::PI * r;
        assert!((x[0] + sign * r * phi.cos()).abs() < 1e-5 && (x[1] - sign * r * phi.sin()).abs() < 1e-5);
    }
}

#[test]
fn glyphs_are_bytes_inside_the_image_and_all_different() {
    let set = open("kind = \"glyphs\"");
    let batch = set.batch(&(0..500).collect::<Vec<_>>()).unwrap();
    assert_eq!(batch.x.shape(), [500, 28, 28, 1]);
    let x = batch.x.as_slice::<f32>();
    let mut seen = std::collections::HashSet::new();
    for image in x.chunks_exact(28 * 28) {
        let bytes: Vec<u8> = image.iter().map(|&v| ((v + 1.0) * 127.5).round() as u8).collect();
        assert!(bytes.iter().zip(image).all(|(&b, &v)| f32::from(b) / 127.5 - 1.0 == v));
        let lit = bytes.iter().filter(|&&b| b > 127).count();
        assert!((20..400).contains(&lit), "{lit} lit pixels");
        let edge = (0..28).flat_map(|i| [i, 27 * 28 + i, 28 * i, 28 * i + 27]);
        assert!(edge.map(|i| bytes[i]).all(|b| b < 200), "ink is cut off at the edge");
        assert!(seen.insert(bytes));
    }
}

/// The bar for a data set of classes: a nearest-neighbour classifier on plain pixels tells them apart.
#[test]
fn glyphs_are_told_apart_by_their_nearest_neighbours() {
    let set = open("kind = \"glyphs\"");
    let (train, test) = (4000, 300);
    let of = |rows: std::ops::Range<usize>| {
        let batch = set.batch(&rows.collect::<Vec<_>>()).unwrap();
        (batch.x.to_vec::<f32>(), batch.labels.unwrap())
    };
    let ((x, labels), (probe, truth)) = (of(0..train), of(train..train + test));
    let right = probe.chunks_exact(784).zip(&truth).filter(|(image, truth)| {
        let distance = |other: &[f32]| image.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        let nearest = x.chunks_exact(784).map(distance).enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0;
        labels[nearest] == **truth
    });
    let share = right.count() as f64 / test as f64;
    assert!(share > 0.93, "{share}");
}

#[test]
fn configurations_survive_toml() {
    for config in DataConfig::generated() {
        assert_eq!(toml::from_str::<DataConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
    }
    let images: DataConfig = toml::from_str("kind = \"images\"\npath = \"x\"\nsize = [32, 48]\ncolour = \"gray\"").unwrap();
    let DataConfig::Images(inner) = &images else { panic!("{images:?}") };
    assert_eq!((inner.size, inner.colour), (Some(Size::Rectangle([32, 48])), Some(Colour::Grey)));
    assert_eq!(toml::from_str::<DataConfig>(&toml::to_string(&images).unwrap()).unwrap(), images);
}

#[test]
fn unknown_kinds_and_keys_and_wrong_types_are_errors() {
    assert!(parse_error("kind = \"moon\"").contains("moons"));
    assert!(parse_error("noise = 0.1").contains("kind"));
    let error = parse_error("kind = \"moons\"\nnoize = 0.1");
    assert!(error.contains("noize") && error.contains("noise"), "{error}");
    assert!(parse_error("kind = \"moons\"\nseed = \"one\"").contains("one"));
    assert!(parse_error("kind = \"cifar10\"").contains("path"));
    assert!(parse_error("kind = \"images\"\npath = \"x\"\nsize = \"big\"").contains("size is a number of pixels"));
    let error = DataConfig::with_defaults("cifar10").unwrap_err().to_string();
    assert!(error.contains("cifar10") && error.contains("path"), "{error}");
}

#[test]
fn values_out_of_range_are_errors_that_name_the_key() {
    assert_eq!(open_error("kind = \"moons\"\nlen = 0"), "len is 0, expected at least 1");
    assert!(open_error("kind = \"moons\"\nnoise = -1.0").starts_with("noise is -1"));
    assert!(open_error("kind = \"rings\"\nnoise = nan").starts_with("noise is NaN"));
    assert!(open_error("kind = \"eight-gaussians\"\nradius = 0.0").starts_with("radius is 0"));
    assert!(open_error("kind = \"pinwheel\"\narms = 1").starts_with("arms is 1"));
    assert!(open_error("kind = \"glyphs\"\nlen = 0").starts_with("len is 0"));
    assert!(open_error("kind = \"idx\"").contains("path, images, labels"));
    assert!(open_error("kind = \"images\"\npath = \"x\"\nsize = 0").starts_with("size is [0, 0]"));
}

#[test]
fn files_with_a_part_for_tests_say_which() {
    let test = |text: &str| toml::from_str::<DataConfig>(text).unwrap().test_split();
    for kind in ["idx", "cifar10"] {
        let expected: DataConfig = toml::from_str(&format!("kind = \"{kind}\"\npath = \"x\"\nsplit = \"test\"")).unwrap();
        assert_eq!(test(&format!("kind = \"{kind}\"\npath = \"x\"")), Some(expected));
        assert_eq!(test(&format!("kind = \"{kind}\"\npath = \"x\"\nsplit = \"test\"")), None);
    }
    assert_eq!(test("kind = \"idx\"\nimages = \"x\""), None);
    assert_eq!(test("kind = \"glyphs\""), None);
}

#[test]
fn a_missing_file_is_named_with_its_base() {
    for kind in ["cifar10", "images", "array", "idx"] {
        let config: DataConfig = toml::from_str(&format!("kind = \"{kind}\"\npath = \"no/such\"")).unwrap();
        let error = config.open(Path::new("/base")).err().expect("an error").to_string();
        assert!(error.starts_with("cannot read /base/no/such"), "{kind}: {error}");
    }
}

#[test]
#[should_panic(expected = "row 3 of three, which has 3 rows")]
fn a_row_beyond_a_table_panics() {
    let values = crate::dataset::Values::Floats(vec![0.0; 3]);
    let table = crate::dataset::Table::new(Path::new("three.npy"), &[1], values, None, None).unwrap();
    let _: Result<_, _> = table.batch(&[0, 3]);
}

#[test]
fn a_batch_of_no_rows_is_empty() {
    let batch = open("kind = \"moons\"").batch(&[]).unwrap();
    let x: &Tensor = &batch.x;
    assert_eq!(x.shape(), [0, 2]);
}
