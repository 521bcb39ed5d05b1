//! `features`: a feature space is trained, described and used.

use fokker_data::{read_npy, write_npy};
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
