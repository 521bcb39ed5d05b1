//! Data that is missing, corrupt, truncated or not what it should be.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use fokker_data::{Picture, write_npy};
use fokker_tensor::{Dtype, Noise, Tensor};

use crate::support::{Place, train_moons};

fn png(height: usize, width: usize) -> Vec<u8> {
    Picture::new(height, width, 3, vec![77; height * width * 3]).to_png().unwrap()
}

fn idx(kind: u8, sizes: &[u32], values: usize) -> Vec<u8> {
    let mut bytes = vec![0, 0, kind, sizes.len() as u8];
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.resize(bytes.len() + values, 9);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn image_folders_that_cannot_be_used_are_named_with_the_file() {
    let place = Place::new();
    let train = |data: &str, parts: &[&str]| {
        place.refuse(&["train", "folder", "--data", data], 1, parts);
        place.refuse(&["preview", "folder", "--data", data], 1, parts);
    };
    train("missing", &["missing"]);
    std::fs::create_dir(place.path("empty")).unwrap();
    train("empty", &["empty", "without images"]);
    place.write("corrupt/a.png", png(8, 8));
    place.write("corrupt/b.png", &png(8, 8)[..40]);
    train("corrupt", &["corrupt/b.png"]);
    place.write("other/a.png", png(8, 8));
    place.write("other/b.png", "not a picture");
    train("other", &["other/b.png", "neither PNG nor JPEG"]);
    place.write("void/a.png", "");
    train("void", &["void/a.png", "empty"]);
    // A recipe with a size cuts and resizes; a run without one refuses.
    let recipe = String::from_utf8(std::fs::read("../train/recipes/folder.toml").unwrap()).unwrap();
    place.write("plain.toml", recipe.replace("size = 32\n", ""));
    place.write("mixed/a.png", png(8, 8));
    place.write("mixed/b.png", png(8, 9));
    place.refuse(&["train", "plain.toml", "--data", "mixed"], 1, &["mixed/a.png", "8x8", "mixed/b.png", "8x9", "set size"]);
}

#[test]
fn zip_archives_that_cannot_be_used_are_named() {
    let place = Place::new();
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in ["a.png", "b.png"] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(&png(32, 32)).unwrap();
    }
    let whole = archive.finish().unwrap().into_inner();
    place.write("whole.zip", &whole);
    place.succeed(&["preview", "folder", "--data", "whole.zip", "--out", "whole.png"]);
    place.write("half.zip", &whole[..whole.len() / 2]);
    place.refuse(&["train", "folder", "--data", "half.zip"], 1, &["half.zip"]);
    let mut corrupt = whole.clone();
    corrupt[60..90].fill(0x55);
    place.write("corrupt.zip", corrupt);
    place.refuse(&["train", "folder", "--data", "corrupt.zip"], 1, &["corrupt.zip/a.png"]);
    place.write("other.zip", "PK but no archive");
    place.refuse(&["train", "folder", "--data", "other.zip"], 1, &["other.zip"]);
}

#[test]
fn idx_files_that_cannot_be_used_are_named_with_what_is_wrong() {
    let images = idx(8, &[3, 28, 28], 3 * 784);
    for (name, bytes, part) in [
        ("train-images-idx3-ubyte", images[..1000].to_vec(), "size in the IDX header"),
        ("train-images-idx3-ubyte", images[..10].to_vec(), "header"),
        ("train-images-idx3-ubyte", idx(9, &[3, 28, 28], 3 * 784), "magic"),
        ("train-images-idx3-ubyte", idx(8, &[3], 3), "magic"),
        ("train-images-idx3-ubyte", idx(8, &[u32::MAX, 28, 28], 9), "size in the IDX header"),
        ("train-images-idx3-ubyte", Vec::new(), "header"),
        ("train-images-idx3-ubyte.gz", gzip(&images)[..20].to_vec(), "cannot read"),
        ("train-images-idx3-ubyte.gz", gzip(&images[..1000]), "number of values"),
    ] {
        let place = Place::new();
        place.write(&format!("mnist/{name}"), bytes);
        place.refuse(&["train", "mnist", "--data", "mnist"], 1, &[name, part]);
    }
    let place = Place::new();
    place.refuse(&["train", "mnist", "--data", "mnist"], 1, &["mnist"]);
    place.write("mnist/train-images-idx3-ubyte", &images);
    place.write("mnist/train-labels-idx1-ubyte", idx(8, &[2], 2));
    place.refuse(&["train", "mnist", "--data", "mnist"], 1, &["train-labels-idx1-ubyte", "number of labels", "3"]);
}

#[test]
fn arrays_that_cannot_be_used_are_named_with_the_row() {
    let place = Place::new();
    let x = Noise::new(0, 0).normal(&[40, 3], 0, 0, Dtype::F32);
    write_npy(place.path("x.npy"), &x).unwrap();
    let whole = place.read("x.npy");
    let refuse = |parts: &[&str]| {
        let args = train_moons("train.steps=2", &["--set", "data={kind='array', path='x.npy'}"]);
        place.refuse(&args, 1, &[&["x.npy"], parts].concat());
    };
    let labelled = ["--set", "data={kind='array', path='x.npy'}", "--set", "model.conditional=true"];
    place.refuse(&train_moons("train.steps=2", &labelled), 2, &["model.conditional", "labels"]);
    place.write("x.npy", &whole[..whole.len() - 5]);
    refuse(&["bytes"]);
    place.write("x.npy", &whole[..20]);
    refuse(&["header"]);
    place.write("x.npy", "no array at all");
    refuse(&["magic"]);
    let mut values = x.to_vec::<f32>();
    values[3 * 7 + 1] = f32::NAN;
    write_npy(place.path("x.npy"), &Tensor::from_vec(&[40, 3], values)).unwrap();
    refuse(&["row 7", "NaN"]);
    std::fs::remove_file(place.path("x.npy")).unwrap();
    refuse(&["No such file"]);
}

#[test]
fn a_diverging_loss_is_one_message_with_the_step_and_the_rate() {
    let place = Place::new();
    let settings = ["train.learning_rate=1e6", "train.clip=0", "train.schedule={kind='constant'}", "train.checkpoint_every=1000"];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let done = place.run(&train_moons("train.steps=1000", &settings));
    done.is_one_error(1, &["diverged", "step ", "1000000"]);
    // Nothing that looks like a result.
    assert!(!place.path("run/model.safetensors").exists());
}
