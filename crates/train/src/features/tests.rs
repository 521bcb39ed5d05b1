use std::sync::LazyLock;

use fokker_data::write_npy;
use fokker_models::{DiffusionModel, MlpConfig, ModelConfig, NetworkConfig};

use super::*;

fn glyphs(len: usize) -> DataConfig {
    toml::from_str(&format!("kind = \"glyphs\"\nlen = {len}")).unwrap()
}

/// A network that learns glyphs in a second or two.
fn quick() -> FeatureTraining {
    FeatureTraining {
        steps: 160,
        batch: 32,
        learning_rate: 6e-3,
        check_every: 40,
        channels: vec![8, 16, 32],
        ..FeatureTraining::default()
    }
}

fn learn(settings: &FeatureTraining) -> TrainedFeatures {
    train_features(&glyphs(4000), ".".as_ref(), settings, &mut |_| {}).unwrap()
}

static FEATURES: LazyLock<TrainedFeatures> = LazyLock::new(|| learn(&quick()));

fn images(n: usize) -> Tensor {
    glyphs(100).open(".".as_ref()).unwrap().batch(&(5000..5000 + n).collect::<Vec<_>>()).unwrap().x
}

#[test]
fn glyphs_are_learned_in_a_few_seconds() {
    let features = &*FEATURES;
    let learned = features.learned();
    assert!(learned.accuracy() > 0.95, "{learned:?}");
    assert_eq!((learned.data.as_str(), learned.images, learned.tested), ("glyphs", 3600, 2000));
    assert_eq!((features.width(), features.classes()), (32, 10));
    // What the program says of test images is what they say of themselves.
    let set = glyphs(4000).open(".".as_ref()).unwrap();
    let batch = set.batch(&(4000..6000).collect::<Vec<_>>()).unwrap();
    let p = features.probabilities(&features.of(&batch.x).unwrap());
    assert_eq!(p.shape(), [2000, 10]);
    let p = p.to_vec::<f64>();
    let right = p.chunks(10).zip(batch.labels.unwrap()).filter(|(p, label)| p.iter().all(|q| *q <= p[*label as usize])).count();
    assert_eq!(right, learned.right);
    assert!(p.chunks(10).all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-5));
}

#[test]
fn features_have_the_same_bits_for_any_number_of_threads_and_from_their_file() {
    let settings = FeatureTraining { steps: 6, check_every: 3, ..quick() };
    let x = images(300);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let features = learn(&settings);
            let values = features.of(&x).unwrap();
            (features.to_bytes().unwrap(), values.to_vec::<f32>())
        })
    };
    let (bytes, values) = with(1);
    assert!((bytes.clone(), values.clone()) == with(3));
    let again = TrainedFeatures::from_bytes(&bytes, "memory".as_ref()).unwrap();
    assert_eq!(again.of(&x).unwrap().to_vec::<f32>(), values);
    assert_eq!(again.to_bytes().unwrap(), bytes);
    let fresh = learn(&settings);
    assert_eq!((again.id(), again.learned()), (fresh.id(), fresh.learned()));
    assert_eq!(again.id().len(), 64);
    assert_ne!(learn(&FeatureTraining { seed: 1, ..settings }).id(), again.id());
}

#[test]
fn training_stops_when_it_no_longer_helps_and_keeps_the_best() {
    // So few images that they are soon known by heart.
    let settings = FeatureTraining { steps: 2000, check_every: 5, patience: 2, channels: vec![8, 8], ..quick() };
    let mut steps = Vec::new();
    let features = train_features(&glyphs(60), ".".as_ref(), &settings, &mut |step| steps.push(*step)).unwrap();
    let looks: Vec<(u64, f64)> = steps.iter().filter_map(|s| s.check.map(|check| (s.step, check.loss))).collect();
    assert!(steps.len() < 2000 && steps.len() == 5 * looks.len(), "{}", steps.len());
    let best = looks.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert_eq!(features.learned().steps, best.0);
    assert_eq!(best.0 + 10, steps.len() as u64);
}

#[test]
fn a_folder_without_a_test_part_is_tested_on_a_tenth_that_is_not_learned_from() {
    let folder = tempfile::tempdir().unwrap();
    let batch = glyphs(100).open(".".as_ref()).unwrap().batch(&(0..50).collect::<Vec<_>>()).unwrap();
    write_npy(folder.path().join("x.npy"), &batch.x).unwrap();
    let bytes: Vec<u8> = batch.labels.unwrap().into_iter().map(|label| label as u8).collect();
    std::fs::write(folder.path().join("y.npy"), npy_bytes(&bytes)).unwrap();
    let data: DataConfig = toml::from_str("kind = \"array\"\npath = \"x.npy\"\nlabels = \"y.npy\"\nclasses = 10").unwrap();
    let settings = FeatureTraining { steps: 2, ..quick() };
    let features = train_features(&data, folder.path(), &settings, &mut |_| {}).unwrap();
    assert_eq!((features.learned().images, features.learned().tested), (41, 5));

    let unlabelled: DataConfig = toml::from_str("kind = \"array\"\npath = \"x.npy\"").unwrap();
    let error = train_features(&unlabelled, folder.path(), &settings, &mut |_| {}).unwrap_err().to_string();
    assert_eq!(error, "x: expected images with labels, found none");
}

/// An `.npy` file of a row of bytes.
fn npy_bytes(values: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({},), }}", values.len());
    header.push_str(&" ".repeat(63 - (10 + header.len()) % 64));
    header.push('\n');
    [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes(), values].concat()
}

#[test]
fn data_and_settings_that_features_cannot_be_learned_from_are_named() {
    let error = |data: &DataConfig, settings: &FeatureTraining| {
        train_features(data, ".".as_ref(), settings, &mut |_| {}).unwrap_err().to_string()
    };
    let moons = DataConfig::with_defaults("moons").unwrap();
    assert_eq!(error(&moons, &quick()), "moons: expected images of shape [H, W, C], found samples of shape [2]");
    assert_eq!(error(&glyphs(9), &quick()), "glyphs: expected at least 10 images, found 9");
    assert_eq!(error(&glyphs(99), &FeatureTraining { steps: 0, ..quick() }), "steps: expected at least 1, found 0");
    assert!(error(&glyphs(99), &FeatureTraining { batch: 1 << 20, ..quick() }).starts_with("batch: expected at most"));
    assert!(error(&glyphs(99), &FeatureTraining { learning_rate: f64::NAN, ..quick() }).starts_with("learning_rate: expected"));
    assert!(error(&glyphs(99), &FeatureTraining { channels: vec![0], ..quick() }).contains("`channels`"));
}

#[test]
fn images_and_files_that_do_not_fit_are_named() {
    let features = &*FEATURES;
    let error = |x: &Tensor| features.of(x).unwrap_err().to_string();
    let expected = "images: expected samples of shape [28, 28, 1], for features learned from `glyphs`, found [28, 28, 3]";
    assert_eq!(error(&Tensor::zeros(&[2, 28, 28, 3], Dtype::F32)), expected);
    assert!(error(&Tensor::zeros(&[2], Dtype::F32)).ends_with("found []"));
    let mut values = images(300).to_vec::<f64>();
    values[290 * 784 + 5] = f64::NAN;
    assert_eq!(error(&Tensor::from_vec(&[300, 28, 28, 1], values)), "image 290: expected finite numbers, found others");
    assert_eq!(features.of(&Tensor::zeros(&[0, 28, 28, 1], Dtype::F32)).unwrap().shape(), [0, 32]);
    // Overshooting samples are read as what a picture of them shows.
    let x = images(2);
    assert_eq!(
        features.of(&(&x * 3.0)).unwrap().to_vec::<f32>(),
        features.of(&(&x * 3.0).clamp(-1.0, 1.0)).unwrap().to_vec::<f32>()
    );

    let config = ModelConfig {
        sample_shape: vec![2],
        classes: None,
        sde: Default::default(),
        preconditioning: Default::default(),
        learned_variance: false,
        network: NetworkConfig::Mlp(MlpConfig { hidden: 8, ..MlpConfig::default() }),
    };
    let model = DiffusionModel::new(config, 0, Dtype::F32).unwrap().to_bytes().unwrap();
    let read = |bytes: &[u8]| TrainedFeatures::from_bytes(bytes, "some/file".as_ref()).unwrap_err().to_string();
    assert_eq!(read(&model), "some/file: expected a classifier's file, found a diffusion model");
    let mut newer = Checkpoint::from_bytes(&features.to_bytes().unwrap(), "f".as_ref()).unwrap();
    newer.metadata.insert(LEARNED.into(), serde_json::to_string(&Learned { version: 2, ..features.learned().clone() }).unwrap());
    assert!(read(&newer.to_bytes().unwrap()).starts_with("some/file: features of version 2, expected 1"));
    newer.metadata.remove(LEARNED);
    assert!(read(&newer.to_bytes().unwrap()).contains("no `fokker.features` in the metadata"));
    let missing = TrainedFeatures::load("no/such".as_ref()).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read no/such"), "{missing}");
    let as_model = DiffusionModel::from_bytes(&features.to_bytes().unwrap(), "f".as_ref()).unwrap_err().to_string();
    assert_eq!(as_model, "f: no `fokker.model` in the metadata: this is a classifier of images");
}
