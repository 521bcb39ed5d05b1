//! What options of `train`, and the small commands, do.

use crate::support::{Place, train_moons};

#[test]
fn a_dry_run_prints_the_whole_configuration_and_writes_nothing() {
    let place = Place::new();
    let before = place.content();
    let text = place.succeed(&["train", "moons", "--steps", "7", "--seed", "3", "--dry-run"]);
    let config = fokker_train::RunConfig::parse(&text, "the dry run").unwrap();
    assert_eq!((config.train.steps, config.seed), (7, 3));
    assert!(before == place.content());
    place.refuse(&["train", "moons", "--steps", "0", "--dry-run"], 2, &["train.steps", "at least 1"]);
}

#[test]
fn a_run_is_resumed_by_its_recipe_its_folder_or_its_out() {
    let place = Place::new();
    place.succeed(&train_moons("train.steps=4", &[]));
    for resume in [["train", "--resume", "run"].as_slice(), &["train", "moons", "--out", "run", "--resume"]] {
        assert!(place.succeed(resume).contains("done: 4 steps"), "{resume:?}");
    }
    // The recipe alone stands for its own folder.
    place.refuse(&["train", "moons", "--resume"], 1, &["runs/moons", "not a run"]);
    place.refuse(&["train", "--resume"], 2, &["--resume", "folder of a run"]);
    place.refuse(&["train", "moons", "--resume", "--steps", "9"], 2, &["--steps"]);
}

#[test]
fn a_shown_recipe_is_a_configuration_file() {
    let place = Place::new();
    place.write("mine.toml", place.succeed(&["recipes", "show", "checkerboard"]));
    let dry = place.succeed(&["train", "mine.toml", "--dry-run"]);
    assert_eq!(dry, place.succeed(&["train", "checkerboard", "--dry-run"]));
    place.refuse(&["recipes", "show", "nonesuch"], 2, &["nonesuch", "checkerboard"]);
}

#[test]
fn completions_are_printed_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(place.succeed(&["completions", shell]).contains("fokker"), "{shell}");
    }
}

#[test]
fn quiet_says_nothing_but_still_answers_and_fails() {
    let place = Place::new();
    let done = place.run(&train_moons("train.steps=4", &["--quiet"]));
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (Some(0), "", ""));
    assert!(place.succeed(&["inspect", "run", "--quiet"]).contains("step 4 of 4"));
    place.refuse(&["sample", "nowhere", "--quiet"], 1, &["nowhere"]);
}

#[test]
fn a_gif_as_the_output_is_the_trajectory_and_nothing_else() {
    let place = Place::new();
    place.succeed(&train_moons("train.steps=4", &[]));
    let before = place.files("");
    place.succeed(&["sample", "run", "-n", "50", "--steps", "3", "--out", "path.gif"]);
    assert!(place.read("path.gif").starts_with(b"GIF89a"));
    assert_eq!(place.files("").len(), before.len() + 1);
}
