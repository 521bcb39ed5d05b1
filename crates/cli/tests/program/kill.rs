//! A run killed at any moment continues to the same bits; a run asked to stop saves first.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fokker_tensor::{Dtype, Noise};
use serde_json::Value;

use crate::support::{Place, train_glyphs, train_moons, wait_for};

/// The lines of the log without the time taken.
fn log(place: &Place) -> Vec<Value> {
    let text = String::from_utf8(place.read("run/metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        value.as_object_mut().unwrap().remove("seconds").unwrap();
        value
    };
    text.lines().map(line).collect()
}

/// Asserts that two finished runs have the same files with the same content, the time taken in the log apart.
#[track_caller]
fn assert_same_runs(a: &Place, b: &Place) {
    assert_eq!(a.files("run"), b.files("run"));
    assert_eq!(log(a), log(b));
    for file in a.files("run").iter().filter(|file| *file != "metrics.jsonl") {
        let file = format!("run/{file}");
        assert!(a.read(&file) == b.read(&file), "{file} differs");
    }
}

/// Kills and resumes a run at random moments until it is done; returns how many kills there were, and how many of them came
/// after a checkpoint. `longest` is the longest time between a start and a kill.
fn train_with_kills(place: &Place, start: &[&str], seed: u64, most: usize, longest: Duration) -> (usize, usize) {
    let moments = Noise::new(seed, 0).uniform(&[most, 1], 0, 0, Dtype::F64).to_vec::<f64>();
    let (mut kills, mut after_checkpoint) = (0, 0);
    for moment in moments {
        let threads = if kills % 2 == 0 { "1" } else { "2" };
        let started = place.path("run/run.toml").exists();
        let args = if started { vec!["train", "--resume", "run"] } else { start.to_vec() };
        let mut child = place.spawn(&[&["--threads", threads], &args[..]].concat());
        let until = Instant::now() + longest.mul_f64(moment);
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() >= until => break None,
                None => std::thread::sleep(Duration::from_micros(300)),
            }
        };
        if let Some(status) = ended {
            assert!(status.success(), "the run ended with {status}");
            return (kills, after_checkpoint);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        after_checkpoint += usize::from(place.path("run/checkpoint.safetensors").exists());
    }
    place.succeed(&["train", "--resume", "run"]);
    (kills, after_checkpoint)
}

#[test]
fn a_run_killed_at_random_moments_ends_with_the_same_bits() {
    let start = train_moons("train.steps=80", &[]);
    let whole = Place::new();
    let began = Instant::now();
    whole.succeed(&[&["--threads", "1"], &start[..]].concat());
    let longest = began.elapsed().mul_f64(0.4);
    let (mut kills, mut after_checkpoint) = (0, 0);
    for seed in 0..5 {
        let place = Place::new();
        let (k, a) = train_with_kills(&place, &start, seed, 12, longest);
        (kills, after_checkpoint) = (kills + k, after_checkpoint + a);
        assert_same_runs(&whole, &place);
    }
    assert!(kills >= 8 && after_checkpoint >= 4, "only {kills} kills, {after_checkpoint} of them after a checkpoint");
}

#[test]
fn a_killed_run_of_a_unet_on_one_and_two_threads_ends_with_the_same_bits() {
    let start = train_glyphs("train.steps=8", &[]);
    let (one, two, killed) = (Place::new(), Place::new(), Place::new());
    let began = Instant::now();
    one.succeed(&[&["--threads", "1"], &start[..]].concat());
    let longest = began.elapsed().mul_f64(0.6);
    two.succeed(&[&["--threads", "2"], &start[..]].concat());
    assert_same_runs(&one, &two);
    let (kills, _) = train_with_kills(&killed, &start, 7, 6, longest);
    assert!(kills > 0);
    assert_same_runs(&one, &killed);
}

#[test]
fn what_a_kill_cut_off_after_the_last_checkpoint_is_made_up_for() {
    let whole = Place::new();
    whole.succeed(&train_moons("train.steps=20", &[]));
    let before = whole.content();
    for file in ["samples/step-0000020.png", "loss.svg", "loss.png"] {
        std::fs::remove_file(whole.path(&format!("run/{file}"))).unwrap();
    }
    // What a kill leaves of files that were being written.
    whole.write("run/.checkpoint.safetensors.a1B2c3.tmp", b"part");
    whole.write("run/samples/.step-0000020.png.Zz9Yy8.tmp", b"part");
    whole.succeed(&["train", "--resume", "run"]);
    assert!(before == whole.content(), "{:?} became {:?}", before.keys(), whole.content().keys());
}

#[test]
fn a_run_killed_before_it_has_a_configuration_can_be_started_again() {
    let place = Place::new();
    place.write("run/.run.toml.a1B2c3.tmp", b"name = ");
    place.succeed(&train_moons("train.steps=2", &[]));
    assert!(!place.path("run/.run.toml.a1B2c3.tmp").exists());
}

#[test]
fn a_torn_last_line_of_the_log_is_written_again() {
    let start = train_moons("train.steps=30", &["--set", "train.checkpoint_every=15"]);
    let (whole, torn) = (Place::new(), Place::new());
    whole.succeed(&start);
    let mut child = torn.spawn(&start);
    wait_for("a checkpoint", || torn.path("run/checkpoint.safetensors").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let mut text = torn.read("run/metrics.jsonl");
    text.extend(b"{\"step\":28,\"ima");
    torn.write("run/metrics.jsonl", text);
    torn.succeed(&["train", "--resume", "run"]);
    assert_same_runs(&whole, &torn);
}

#[test]
fn a_signal_finishes_the_step_and_saves() {
    let start = train_moons("train.steps=400", &["--set", "train.checkpoint_every=100", "--set", "sample.every=0"]);
    let whole = Place::new();
    whole.succeed(&start);
    for signal in ["-INT", "-TERM"] {
        let place = Place::new();
        let child = place.command(&start).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // After the first line of the log and long before the first checkpoint.
        wait_for("the log", || std::fs::metadata(place.path("run/metrics.jsonl")).is_ok_and(|file| file.len() > 0));
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{signal}: {out}");
        assert!(out.contains("stopped and saved at step ") && out.contains("fokker train --resume run"), "{signal}: {out}");
        let steps = log(&place).last().unwrap()["step"].as_u64().unwrap();
        assert!(steps < 400 && out.contains(&format!("step {steps} of 400")), "{signal}: {steps}, {out}");
        assert!(place.path("run/model.safetensors").exists());

        place.succeed(&["train", "--resume", "run"]);
        for file in ["run/model.safetensors", "run/checkpoint.safetensors", "run/samples/step-0000400.png"] {
            assert!(whole.read(file) == place.read(file), "{signal}: {file} differs");
        }
    }
}
