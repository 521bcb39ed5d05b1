//! Runs and models that are missing, in the way or damaged; folders and disks that cannot be written.

use std::process::Command;

use fokker_data::write_npy;
use fokker_tensor::{Dtype, Noise};

use crate::support::{Done, Place, TRAINED, train_moons, wait_for};

/// A copy of the finished run on moons.
fn copy_of_a_run() -> Place {
    let place = Place::new();
    for file in TRAINED.moons.files("run") {
        place.write(&format!("run/{file}"), TRAINED.moons.read(&format!("run/{file}")));
    }
    place
}

#[test]
fn a_run_is_not_overwritten() {
    let place = copy_of_a_run();
    place.refuse(&train_moons("train.steps=3", &[]), 1, &["run", "already exists", "--resume", "--out"]);
    place.write("other/file", "something else");
    place.refuse(&["train", "moons", "--out", "other"], 1, &["other", "already exists"]);
    // Before the data is looked at, which may take long.
    place.refuse(&["train", "mnist", "--data", "missing", "--out", "other"], 1, &["other", "already exists"]);
}

#[test]
fn what_is_not_a_run_is_named() {
    let place = Place::new();
    place.write("folder/file", "");
    for path in ["folder", "missing", "folder/file"] {
        place.refuse(&["train", "--resume", path], 1, &[path, "not a run"]);
    }
    place.refuse(&["sample", "folder"], 1, &["folder", "not a run"]);
    place.refuse(&["inspect", "folder"], 1, &["folder", "not a run"]);
    place.refuse(&["sample", "missing"], 1, &["missing"]);
    place.refuse(&["sample", "folder/file"], 1, &["folder/file", "not a valid .safetensors file"]);
    place.write("begun/run.toml", TRAINED.moons.read("run/run.toml"));
    place.refuse(&["sample", "begun"], 1, &["begun", "has not saved"]);
}

#[test]
fn truncated_and_corrupt_checkpoints_are_named() {
    for (file, args) in [
        ("run/checkpoint.safetensors", ["train", "--resume", "run"].as_slice()),
        ("run/checkpoint.safetensors", &["sample", "run/checkpoint.safetensors", "--out", "x.png"]),
        ("run/model.safetensors", &["sample", "run"]),
        ("run/model.safetensors", &["inspect", "run"]),
    ] {
        let place = copy_of_a_run();
        let whole = place.read(file);
        for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
            place.write(file, &whole[..length]);
            place.refuse(args, 1, &[file, "not a valid .safetensors file"]);
        }
        // A flipped bit of the header, of a setting in it, of the first number and of the last.
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let setting = whole.windows(12).position(|text| text == b"fokker.model").unwrap();
        for at in [3, 9, setting, setting + 40, header, whole.len() - 2] {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            place.write(file, &bytes);
            place.refuse(args, 1, &[file]);
        }
        place.write(file, TRAINED.glyphs.read("run/samples/step-0000004.png"));
        place.refuse(args, 1, &[file]);
    }
}

#[test]
fn a_model_is_not_a_checkpoint() {
    let place = copy_of_a_run();
    place.write("run/checkpoint.safetensors", place.read("run/model.safetensors"));
    place.refuse(&["train", "--resume", "run"], 1, &["run/checkpoint.safetensors", "fokker.run"]);
}

#[test]
fn damaged_logs_and_configurations_are_named() {
    let place = copy_of_a_run();
    let log = place.read("run/metrics.jsonl");
    place.write("run/metrics.jsonl", [b"{\"step\":\n", &log[..]].concat());
    place.refuse(&["train", "--resume", "run"], 1, &["run/metrics.jsonl", "line 1"]);
    place.write("run/metrics.jsonl", log);
    place.write("run/run.toml", "name = 3");
    place.refuse(&["inspect", "run"], 2, &["run/run.toml", "name"]);
    place.refuse(&["sample", "run"], 2, &["run/run.toml", "name"]);
}

#[test]
fn a_run_does_not_go_on_with_other_data() {
    let place = Place::new();
    let data = |rows: usize, columns: usize| {
        let x = Noise::new(0, 0).normal(&[rows, columns], 0, 0, Dtype::F32);
        write_npy(place.path("x.npy"), &x).unwrap();
    };
    data(40, 3);
    place.succeed(&train_moons("train.steps=2", &["--set", "data={kind='array', path='x.npy'}"]));
    data(40, 4);
    place.refuse(&["train", "--resume", "run"], 1, &["run/checkpoint.safetensors", "[4]", "[3]"]);
    data(41, 3);
    place.refuse(&["train", "--resume", "run"], 1, &["run/checkpoint.safetensors", "41", "40"]);
}

#[test]
fn folders_that_cannot_be_written_are_named() {
    let place = Place::new();
    place.write("file", "in the way");
    for out in ["file", "file/run", "/dev/full/run", "/proc/run"] {
        place.refuse(&["train", "moons", "--set", "train.steps=2", "--out", out], 1, &[out]);
        place.refuse(&["preview", "moons", "--out", &format!("{out}/x.png")], 1, &[out]);
        let run = TRAINED.glyphs.path("run");
        place.refuse(&["sample", run.to_str().unwrap(), "-n", "2", "--out", &format!("{out}/x.npy")], 1, &[out]);
        place.refuse(&["sample", run.to_str().unwrap(), "-n", "2", "--out", &format!("{out}/x")], 1, &[out]);
    }
}

/// Runs a command that cannot write more than `blocks` of 512 bytes to any file, as on a full disk.
fn run_with_small_files(place: &Place, blocks: usize, args: &[&str]) -> Done {
    // Writing beyond the limit is then an error rather than a deadly signal.
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_fokker")).args(args).current_dir(place.path("."));
    shell.output().unwrap().into()
}

#[test]
fn a_disk_that_is_full_leaves_the_last_checkpoint_whole() {
    // Wide enough for checkpoints to be the largest files by far.
    let more = ["--set", "model.network.hidden=192", "--set", "train.checkpoint_every=10"];
    let start = train_moons("train.steps=40", &more);
    let (whole, full) = (Place::new(), Place::new());
    whole.succeed(&start);
    let model = whole.read("run/model.safetensors").len();
    let checkpoint = whole.read("run/checkpoint.safetensors").len();
    assert!(checkpoint > 3 * model && model > 1 << 19, "{checkpoint} {model}");

    let mut child = full.spawn(&start);
    wait_for("a checkpoint", || full.path("run/checkpoint.safetensors").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let before = full.read("run/checkpoint.safetensors");
    let done = run_with_small_files(&full, 2 * model / 512, &["train", "--resume", "run"]);
    done.is_one_error(1, &["run/checkpoint.safetensors"]);
    assert!(before == full.read("run/checkpoint.safetensors"));
    assert!(full.files("run").iter().all(|file| !file.ends_with(".tmp")), "{:?}", full.files("run"));

    full.succeed(&["train", "--resume", "run"]);
    for file in ["run/model.safetensors", "run/checkpoint.safetensors"] {
        assert!(whole.read(file) == full.read(file), "{file} differs");
    }
    let model = whole.read("run/model.safetensors");
    let done = run_with_small_files(&whole, 1, &["sample", "run", "-n", "500", "--out", "x.npy"]);
    done.is_one_error(1, &["x.npy"]);
    assert!(!whole.path("x.npy").exists() && whole.files("").iter().all(|file| !file.ends_with(".tmp")));
    assert!(model == whole.read("run/model.safetensors"));
}
