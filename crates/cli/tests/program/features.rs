//! `features`: a feature space is trained, described and used.

use fokker_data::{read_npy, write_npy};
use fokker_models::checkpoint::Checkpoint;
use fokker_tensor::{Dtype, Tensor};
use serde_json::Value;

use crate::support::{Place, TRAINED};

#[test]
fn features_are_trained_described_and_extracted() {
    let place = Place::new();
    let said = place.succeed(&["features", "train", "glyphs", "--steps", "2", "--seed", "3", "--threads", "1"]);
    assert!(said.contains("test accuracy: ") && said.contains("of 2000 images"), "{said}");
    let file = "features/glyphs.safetensors";
    // One that is there is not replaced.
    place.refuse(&["features", "train", "glyphs", "--steps", "1"], 2, &["glyphs.safetensors", "already exists"]);
    let again = ["features", "train", "glyphs", "--steps", "2", "--seed", "3", "--threads", "2", "--out", "b.safetensors"];
    place.succeed(&again);
    assert!(place.read(file) == place.read("b.safetensors"));

    let json: Value = serde_json::from_str(&place.succeed(&["inspect", file, "--json"])).unwrap();
    assert_eq!((&json["features"]["data"], &json["features"]["seed"]), (&"glyphs".into(), &3.into()));
    let id = json["sha256"].as_str().unwrap();
    assert!(said.contains(&format!("sha256: {id}")), "{said}");
    let text = place.succeed(&["inspect", file]);
    assert!(text.contains("128 of images [28, 28, 1]") && text.contains(id), "{text}");

    place.succeed(&["features", "extract", file, "glyphs", "-n", "5", "--split", "test", "--out", "set.npy"]);
    let set = fokker_data::DataConfig::with_defaults("glyphs").unwrap().open(".".as_ref()).unwrap();
    let x = set.batch(&(set.len()..set.len() + 5).collect::<Vec<_>>()).unwrap().x;
    write_npy(place.path("x.npy"), &x).unwrap();
    place.succeed(&["features", "extract", file, "x.npy", "--out", "x-features.npy"]);
    let features = read_npy(place.path("set.npy")).unwrap();
    assert_eq!((features.shape(), features.dtype()), (&[5, 128][..], Dtype::F32));
    assert!(place.read("set.npy") == place.read("x-features.npy"));
}

#[test]
fn data_and_files_that_features_cannot_use_are_named() {
    let place = Place::new();
    place.refuse(&["features", "train", "moons"], 2, &["moons: expected images", "[2]"]);
    place.refuse(&["features", "train", "nonesuch"], 2, &["nonesuch", "mnist"]);
    place.refuse(&["features", "train", "glyphs", "--steps", "0"], 2, &["steps: expected at least 1"]);
    place.refuse(&["features", "train", "glyphs", "--out", "f.npy"], 2, &["f.npy", ".safetensors"]);
    place.refuse(&["features", "train", "mnist", "--data", "nowhere"], 1, &["nowhere"]);
    write_npy(place.path("x.npy"), &Tensor::zeros(&[12, 4, 4, 1], Dtype::F32)).unwrap();
    let recipe = "name = \"mine\"\n[data]\nkind = \"array\"\npath = \"x.npy\"\n[model.network]\nkind = \"unet\"\n[train]\nsteps = 1\nbatch = 1\nlearning_rate = 1.0\n";
    place.write("mine.toml", recipe);
    place.refuse(&["features", "train", "mine.toml"], 2, &["x: expected images with labels"]);

    let model = TRAINED.glyphs.path("run/model.safetensors");
    let model = model.to_str().unwrap();
    place.refuse(&["features", "extract", model, "x.npy"], 1, &["model.safetensors", "a diffusion model"]);
    place.refuse(&["features", "extract", "x.npy", "x.npy"], 1, &["x.npy: not a valid .safetensors file"]);
    place.succeed(&["features", "train", "glyphs", "--steps", "1", "--out", "f.safetensors"]);
    place.refuse(&["features", "extract", "f.safetensors", "x.npy"], 2, &["x.npy", "[28, 28, 1]", "[4, 4, 1]"]);
    place.refuse(&["features", "extract", "f.safetensors", "none.npy"], 1, &["none.npy"]);
    place.refuse(&["features", "extract", "f.safetensors", "glyphs", "--out", "x.csv"], 2, &["x.csv", ".npy"]);
    place.refuse(&["features", "extract", "f.safetensors", "x.npy", "--split", "test"], 2, &["kept apart"]);
    place.refuse(&["sample", "f.safetensors", "--out", "y.npy"], 1, &["f.safetensors", "a classifier of images"]);
    write_npy(place.path("nan.npy"), &Tensor::full(&[3, 28, 28, 1], f64::NAN, Dtype::F32)).unwrap();
    place.refuse(&["features", "extract", "f.safetensors", "nan.npy"], 1, &["nan.npy", "row 0", "finite"]);
}

/// A small vision transformer under the names of DINOv2's release.
fn dinov2() -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    let mut put = |name: &str, shape: &[usize]| {
        let start = checkpoint.tensors.len() as f64;
        let count: usize = shape.iter().product();
        let scale = if shape.len() > 1 { 0.1 } else { 1.0 };
        let values = (0..count).map(|i| (scale * (1.7 * i as f64 + start).sin()) as f32).collect::<Vec<f32>>();
        checkpoint.tensors.insert(name.into(), Tensor::from_vec(shape, values));
    };
    for (name, shape) in [
        ("cls_token", &[1, 1, 64][..]),
        ("pos_embed", &[1, 10, 64]),
        ("patch_embed.proj.weight", &[64, 3, 14, 14]),
        ("patch_embed.proj.bias", &[64]),
        ("blocks.0.attn.qkv.weight", &[192, 64]),
        ("blocks.0.attn.qkv.bias", &[192]),
        ("blocks.0.attn.proj.weight", &[64, 64]),
        ("blocks.0.attn.proj.bias", &[64]),
        ("blocks.0.mlp.fc1.weight", &[32, 64]),
        ("blocks.0.mlp.fc1.bias", &[32]),
        ("blocks.0.mlp.fc2.weight", &[64, 32]),
        ("blocks.0.mlp.fc2.bias", &[64]),
    ] {
        put(name, shape);
    }
    for name in ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"] {
        put(&format!("blocks.0.{name}"), &[64]);
    }
    put("norm.weight", &[64]);
    put("norm.bias", &[64]);
    checkpoint
}

#[test]
fn weights_of_others_are_described_used_and_compared() {
    let place = Place::new();
    place.write("dino.safetensors", dinov2().to_bytes().unwrap());
    let json: Value = serde_json::from_str(&place.succeed(&["inspect", "dino.safetensors", "--json"])).unwrap();
    let id = json["sha256"].as_str().unwrap();
    assert_eq!((&json["features"]["network"], &json["features"]["width"]), (&"dinov2-vit-64x1-14".into(), &64.into()));
    let text = place.succeed(&["inspect", "dino.safetensors"]);
    assert!(text.contains("64 of images") && text.contains("DINOv2 of 1 blocks") && text.contains(id), "{text}");

    let extract = |out: &str, n: &str, split: &str| {
        place.succeed(&["features", "extract", "dino.safetensors", "glyphs", "-n", n, "--split", split, "--out", out])
    };
    extract("a.npy", "20", "train");
    extract("a.npz", "20", "train");
    extract("b.npz", "12", "test");
    let features = read_npy(place.path("a.npy")).unwrap();
    assert_eq!((features.shape(), features.dtype()), (&[20, 64][..], Dtype::F32));
    let compare =
        |a: &str, b: &str| -> Value { serde_json::from_str(&place.succeed(&["features", "compare", a, b, "--json"])).unwrap() };
    let (same, other) = (compare("a.npy", "a.npz"), compare("a.npy", "b.npz"));
    assert_eq!((&same["features"], &same["counts"]), (&64.into(), &serde_json::json!([20, 20])));
    assert_eq!(other["counts"], serde_json::json!([20, 12]));
    let distance = |value: &Value| value["frechet"].as_f64().unwrap();
    // Of fewer images than features, some 1e-6 of the trace are lost.
    assert!(distance(&same) < 1e-4 * distance(&other) && distance(&other) > 0.0, "{same} {other}");
    // Other metrics of the same sets.
    let metrics = |a: &str, b: &str, names: &str| -> Value {
        serde_json::from_str(&place.succeed(&["features", "compare", a, b, "--metrics", names, "--json"])).unwrap()
    };
    let same = metrics("a.npy", "a.npy", "precision-recall,vendi");
    assert_eq!((&same["counts"], same["metrics"].as_array().unwrap().len()), (&serde_json::json!([20, 20]), 2));
    assert_eq!(
        same["metrics"][0]["scores"],
        serde_json::json!([{"name": "precision", "value": 1.0}, {"name": "recall", "value": 1.0}])
    );
    let all = metrics("a.npy", "a.npy", "all");
    let kinds: Vec<&str> = all["metrics"].as_array().unwrap().iter().map(|m| m["kind"].as_str().unwrap()).collect();
    assert!(kinds.len() == 15 && kinds.contains(&"mmd") && kinds.contains(&"network-test"), "{kinds:?}");
    let said = place.succeed(&["features", "compare", "a.npy", "a.npy", "--metrics", "kernel-distance,wasserstein-2"]);
    assert!(said.contains("wasserstein-2") && said.contains("standard error") && said.contains("20 and 20 vectors"), "{said}");
    // Statistics say of which network they are; features in an .npy file do not.
    let mut other_weights = dinov2();
    other_weights.metadata.insert("note".into(), "another file".into());
    place.write("other.safetensors", other_weights.to_bytes().unwrap());
    place.succeed(&["features", "extract", "other.safetensors", "glyphs", "-n", "20", "--out", "c.npz"]);
    let parts = ["a.npz and c.npz", &format!("dinov2-vit-64x1-14-{id}"), "do not compare"];
    place.refuse(&["features", "compare", "a.npz", "c.npz"], 1, &parts);
    assert_eq!(other["spaces"], serde_json::json!([null, format!("dinov2-vit-64x1-14-{id}")]));
    let said = place.succeed(&["features", "compare", "a.npz", "b.npz"]);
    assert!(said.contains("Fréchet distance: ") && said.contains("64 features of 20 and 12 images"), "{said}");

    let run = TRAINED.glyphs.path("run");
    let run = run.to_str().unwrap();
    let args = [
        "evaluate",
        run,
        "--features",
        "dino.safetensors",
        "--solvers",
        "ddim",
        "--steps",
        "1",
        "-n",
        "6",
        "--seeds",
        "1",
        "--training",
        "20",
    ];
    let value: Value = serde_json::from_str(&place.succeed(&[&args[..], &["--json"]].concat())).unwrap();
    assert_eq!(value["features"].as_str().unwrap(), format!("dinov2-vit-64x1-14-{id}"));
}

#[test]
fn weights_and_statistics_that_do_not_fit_are_named() {
    let place = Place::new();
    let mut checkpoint = dinov2();
    place.write("dino.safetensors", checkpoint.to_bytes().unwrap());
    checkpoint.tensors.remove("blocks.0.ls2.gamma");
    place.write("less.safetensors", checkpoint.to_bytes().unwrap());
    let expected = ["less.safetensors", "`blocks.0.ls2.gamma` is missing, expected [64] for DINOv2"];
    place.refuse(&["inspect", "less.safetensors"], 1, &expected);
    place.refuse(&["features", "extract", "less.safetensors", "glyphs"], 1, &expected);
    place.write("w.pth", "a pickle");
    place.refuse(&["features", "extract", "w.pth", "glyphs"], 1, &["w.pth", ".safetensors", "fokker features --help"]);
    let run = TRAINED.glyphs.path("run");
    place.refuse(&["evaluate", run.to_str().unwrap(), "--training", "1"], 2, &["--training 1: expected 0 or at least 2"]);
    place.refuse(&["evaluate", run.to_str().unwrap(), "--features", "w.pth"], 1, &["w.pth", "fokker features --help"]);
    place.refuse(&["features", "extract", "dino.safetensors", "moons"], 2, &["moons", "[H, W, 3]", "found samples of shape [2]"]);

    write_npy(place.path("wide.npy"), &Tensor::ones(&[4, 3], Dtype::F32)).unwrap();
    write_npy(place.path("narrow.npy"), &Tensor::ones(&[4, 2], Dtype::F32)).unwrap();
    write_npy(place.path("images.npy"), &Tensor::ones(&[4, 2, 2, 1], Dtype::F32)).unwrap();
    write_npy(place.path("one.npy"), &Tensor::ones(&[1, 2], Dtype::F32)).unwrap();
    write_npy(place.path("pixels.npy"), &Tensor::ones(&[3, 12_288], Dtype::F32)).unwrap();
    let compare = |a: &str, b: &str, code: i32, parts: &[&str]| place.refuse(&["features", "compare", a, b], code, parts);
    compare("wide.npy", "narrow.npy", 1, &["wide.npy and narrow.npy", "3", "2"]);
    compare("images.npy", "wide.npy", 1, &["images.npy", "expected features [N, D]", "[4, 2, 2, 1]"]);
    compare("one.npy", "narrow.npy", 1, &["one.npy", "2"]);
    compare("pixels.npy", "narrow.npy", 1, &["pixels.npy", "12288 features", "some 6 GiB", "at most 10000"]);
    compare("x.npz", "narrow.npy", 1, &["x.npz", "cannot read"]);
    compare("w.pth", "narrow.npy", 2, &["w.pth", ".npy", ".npz"]);
    let metric = |a: &str, b: &str, names: &str, code: i32, parts: &[&str]| {
        place.refuse(&["features", "compare", a, b, "--metrics", names], code, parts);
    };
    metric("wide.npy", "wide.npy", "fid", 2, &["--metrics fid", "frechet", "all"]);
    metric("wide.npy", "wide.npy", "mmd", 1, &["wide.npy and wide.npy: mmd: the median distance is 0"]);
    metric("one.npy", "narrow.npy", "energy", 1, &["the real set has 1 rows, expected at least 2"]);
    metric("wide.npy", "narrow.npy", "all", 1, &["3 columns", "2: features of two different spaces"]);
    metric("a.npz", "narrow.npy", "mmd", 2, &["a.npz", ".npy"]);
    // What cannot be judged is a line that says why, among those that can.
    let said = place.succeed(&["features", "compare", "wide.npy", "wide.npy", "--metrics", "all"]);
    assert!(
        said.contains("none: the median distance is 0") && said.lines().any(|l| l.starts_with("frechet") && l.ends_with(" 0")),
        "{said}"
    );
}
