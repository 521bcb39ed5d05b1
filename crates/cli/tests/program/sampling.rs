//! `sample`, `preview`, `list` and `info`.

use std::process::Stdio;

use fokker_data::read_npy;
use serde_json::Value;

use crate::support::{Place, TRAINED, train_moons};

/// Samples of a run as numbers, with their shape.
fn sample(place: &Place, out: &Place, args: &[&str]) -> (Vec<usize>, Vec<f32>) {
    let (run, file) = (place.path("run"), out.path("x.npy"));
    let to = ["sample", run.to_str().unwrap(), "--out", file.to_str().unwrap()];
    out.succeed(&[&to, args].concat());
    let x = read_npy(&file).unwrap();
    (x.shape().to_vec(), x.as_slice::<f32>().to_vec())
}

#[test]
fn samples_do_not_depend_on_the_batch_or_the_number_of_threads() {
    for (place, shape, count) in [(&TRAINED.moons, vec![70, 2], "70"), (&TRAINED.glyphs, vec![20, 28, 28, 1], "20")] {
        let out = Place::new();
        let options = |more: &[&'static str]| [&["-n", count, "--steps", "12"], more].concat();
        let (found, whole) = sample(place, &out, &options(&["--batch", "64", "--threads", "1"]));
        assert_eq!(found, shape);
        assert!(whole.iter().all(|x| x.is_finite()));
        let (_, two_threads) = sample(place, &out, &options(&["--batch", "64", "--threads", "2"]));
        assert_eq!(whole, two_threads);
        let (_, single) = sample(place, &out, &options(&["--batch", "1"]));
        let worst = whole.iter().zip(&single).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-5, "{shape:?}: {worst}");
        let (_, other_seed) = sample(place, &out, &options(&["--seed", "1"]));
        assert_ne!(whole, other_seed);
    }
}

#[test]
fn a_class_changes_the_samples_and_none_is_not_a_class() {
    let out = Place::new();
    let of = |class: &str| sample(&TRAINED.glyphs, &out, &["-n", "3", "--class", class]).1;
    let apart = |a: &str, b: &str| of(a).iter().zip(of(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // Far more than rounding.
    assert!(apart("3", "4") > 1e-3 && apart("3", "none") > 1e-3, "{} {}", apart("3", "4"), apart("3", "none"));
    // The first sample of `all` is of class 0.
    assert_eq!(of("all")[..784], of("0")[..784]);
}

#[test]
fn guidance_moves_samples_with_a_class_and_is_refused_without() {
    let out = Place::new();
    let of = |more: &[&str]| sample(&TRAINED.glyphs, &out, &[&["-n", "3", "--steps", "4"], more].concat()).1;
    assert_eq!(of(&[]), of(&["--guidance", "2"]), "the recipe's");
    assert_ne!(of(&[]), of(&["--guidance", "1"]));
    assert_eq!(of(&["--class", "none"]), of(&["--guidance", "0"]));
    let (moons, glyphs) = (TRAINED.moons.path("run"), TRAINED.glyphs.path("run"));
    out.refuse(
        &["sample", moons.to_str().unwrap(), "--guidance", "2", "--out", "y.npy"],
        2,
        &["without classes", "no weaker model"],
    );
    out.refuse(&["sample", glyphs.to_str().unwrap(), "--guidance", "inf", "--out", "y.npy"], 2, &["`scale`"]);
}

#[test]
fn a_model_is_guided_by_what_it_was_earlier_in_its_training() {
    let place = Place::new();
    let guided = ["--set", "sample.weak=20", "--set", "sample.guidance.scale=2", "--set", "sample.every=10"];
    place.succeed(&train_moons("train.steps=40", &guided));
    // The step's model is kept, and pictures before it need none.
    assert!(place.files("run").iter().any(|file| file == "model-0000020.safetensors"), "{:?}", place.files("run"));
    assert!(place.files("run/samples").iter().any(|file| file == "step-0000010.png"));
    let of = |more: &[&str]| {
        let said =
            place.succeed(&[&["sample", "run", "-n", "5", "--solver", "euler", "--steps", "4", "--out", "x.npy"], more].concat());
        (said, place.read("x.npy"))
    };
    let (said, own) = of(&[]);
    assert!(said.contains("with 8 network calls each"), "{said}");
    assert_eq!(own, of(&["--weak", "run/model-0000020.safetensors"]).1);
    assert_ne!(own, of(&["--guidance", "3"]).1);
    let (said, alone) = of(&["--guidance", "1"]);
    assert!(said.contains("with 4 network calls each"), "{said}");
    assert_ne!(own, alone);
    // A model does not guide itself anywhere.
    let worst = |a: Vec<u8>, b: Vec<u8>| {
        place.write("a.npy", a);
        place.write("b.npy", b);
        let [a, b] = ["a.npy", "b.npy"].map(|name| read_npy(place.path(name)).unwrap());
        (&a - &b).abs().max_all().item()
    };
    assert!(worst(alone, of(&["--weak", "run/model.safetensors"]).1) < 1e-5);

    let glyphs = TRAINED.glyphs.path("run/model.safetensors");
    let weak = ["sample", "run", "--out", "y.npy", "--weak", glyphs.to_str().unwrap()];
    place.refuse(&weak, 1, &["model.safetensors", "same samples"]);
    place.refuse(&["sample", "run", "--out", "y.npy", "--weak", "none.safetensors"], 1, &["none.safetensors"]);
    place.refuse(&["train", "moons", "--steps", "40", "--set", "sample.weak=41"], 2, &["sample.weak", "1 to 40", "41"]);
}

#[test]
fn a_setting_of_the_sampler_changes_the_samples_and_a_wrong_one_is_refused() {
    let out = Place::new();
    let of = |more: &[&str]| sample(&TRAINED.moons, &out, &[&["-n", "4", "--steps", "6", "--solver", "ddim"], more].concat()).1;
    assert_eq!(of(&[]), of(&["--set", "solver.eta=0.0"]));
    assert_ne!(of(&[]), of(&["--set", "solver.eta=1.0"]));
    let run = TRAINED.moons.path("run");
    for (setting, part) in [("solver.etta=1", "etta"), ("solver.eta=2", "eta"), ("grid.spacing.kind=spiral", "spiral")] {
        let arguments = ["sample", run.to_str().unwrap(), "--solver", "ddim", "--out", "y.npy", "--set", setting];
        out.refuse(&arguments, 2, &[part]);
    }
}

#[test]
fn a_model_is_sampled_under_another_process_than_it_was_trained_under() {
    let out = Place::new();
    let of = |more: &[&str]| sample(&TRAINED.moons, &out, &[&["-n", "40", "--f64", "--grid", "log-snr"], more].concat()).1;
    let fine = ["--solver", "exponential-adams", "--steps", "60"];
    let own = of(&fine);
    let apart = |other: &[f32]| own.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // The same noise levels at other times: in the log-SNR the same flow from the same noise.
    let same = of(&[&fine[..], &["--sde", "ve", "--set", "sde.sigma_min=0.002", "--set", "sde.sigma_max=20"]].concat());
    assert!(apart(&same) < 1e-5, "{}", apart(&same));
    let other = of(&[&fine[..], &["--sde", "vp"]].concat());
    assert!((1e-4..0.1).contains(&apart(&other)), "{}", apart(&other));
    let run = TRAINED.moons.path("run");
    for (arguments, part) in [(["--sde", "magic"], "--sde magic"), (["--set", "sde.kind=magic"], "magic")] {
        out.refuse(&[&["sample", run.to_str().unwrap(), "--out", "y.npy"], &arguments[..]].concat(), 2, &[part]);
    }
}

#[test]
fn encoded_data_are_noise_that_leads_back_to_them() {
    let out = Place::new();
    let (moons, glyphs) = (TRAINED.moons.path("run"), TRAINED.glyphs.path("run"));
    let (moons, glyphs) = (moons.to_str().unwrap(), glyphs.to_str().unwrap());
    let method = ["--solver", "exponential-adams", "--steps", "60", "--f64"];
    out.succeed(&[&["sample", moons, "-n", "30", "--out", "x.npy"], &method[..]].concat());
    let said = out.succeed(&[&["encode", moons, "x.npy", "--batch", "7", "--out", "codes.npy"], &method[..]].concat());
    assert!(said.contains("round trip: root mean square error"), "{said}");
    out.succeed(&[&["sample", moons, "--noise", "codes.npy", "--out", "again.npy"], &method[..]].concat());
    let [x, codes, again] = ["x.npy", "codes.npy", "again.npy"].map(|name| read_npy(out.path(name)).unwrap());
    assert_eq!((codes.shape(), again.shape()), ([30, 2].as_slice(), [30, 2].as_slice()));
    let rms = |x: &fokker_tensor::Tensor| x.square().mean_all().item().sqrt();
    assert!(rms(&(&x - &again)) < 0.02 && rms(&x) > 0.3, "{} of {}", rms(&(&x - &again)), rms(&x));
    // The noise that `sample` drew.
    assert!((0.6..1.6).contains(&rms(&codes)), "{}", rms(&codes));

    // The run's own data, and generated data with their labels.
    out.succeed(&["encode", moons, "-n", "5", "--steps", "4", "--out", "own.npy"]);
    assert_eq!(read_npy(out.path("own.npy")).unwrap().shape(), [5, 2]);
    out.succeed(&["encode", glyphs, "glyphs", "-n", "3", "--steps", "3", "--out", "digits.npy"]);
    assert_eq!(read_npy(out.path("digits.npy")).unwrap().shape(), [3, 28, 28, 1]);

    out.refuse(&["encode", moons, "x.npy", "--solver", "ancestral", "--out", "y.npy"], 2, &["ancestral", "ddim"]);
    out.refuse(&["encode", glyphs, "x.npy", "--out", "y.npy"], 1, &["[28, 28, 1]", "[2]"]);
    out.refuse(&["encode", moons, "none.npy", "--out", "y.npy"], 1, &["none.npy"]);
    out.refuse(&["encode", moons, "x.npy", "--out", "y.png"], 2, &["y.png", ".npy"]);
    out.refuse(&["sample", glyphs, "--noise", "codes.npy", "--out", "y.npy"], 1, &["codes.npy", "[N, 28, 28, 1]", "[30, 2]"]);
    let model = format!("{moons}/model.safetensors");
    out.refuse(&["encode", &model, "--out", "y.npy"], 2, &["DATA"]);
}

#[test]
fn a_fitted_grid_is_written_and_used() {
    let out = Place::new();
    let run = TRAINED.moons.path("run");
    let run = run.to_str().unwrap();
    let method = ["--solver", "euler", "--steps", "5"];
    let said = out.succeed(&[&["fit-grid", run, "-n", "8", "--trials", "30", "--out", "grid.txt"], &method[..]].concat());
    assert!(said.contains("5 steps fitted on 8 trajectories"), "{said}");
    // Four moves and the step that denoises.
    let times = String::from_utf8(out.read("grid.txt")).unwrap();
    assert_eq!(times.lines().filter(|line| !line.starts_with('#')).count(), 5, "{times}");
    let list = ["--grid", "list", "--set", "grid.spacing.file=grid.txt"];
    let fitted = [&["sample", run, "-n", "4", "--out", "x.npy"], &method[..], &list].concat();
    assert!(out.succeed(&fitted).contains("with 5 network calls each"));
    out.refuse(&["fit-grid", run, "--solver", "ancestral", "--out", "y.txt"], 2, &["ancestral"]);
    out.refuse(&["fit-grid", run, "--trials", "0", "--out", "y.txt"], 2, &["--trials 0"]);
}

#[test]
fn every_kind_of_output_is_written() {
    let out = Place::new();
    let glyphs = TRAINED.glyphs.path("run");
    let run = ["sample", glyphs.to_str().unwrap(), "-n", "6", "--batch", "4"];
    out.succeed(&[&run[..], &["--out", "grid.png", "--movie", "movie.gif"]].concat());
    out.succeed(&[&run[..], &["--out", "many"]].concat());
    assert!(out.read("grid.png").starts_with(b"\x89PNG"));
    assert!(out.read("movie.gif").starts_with(b"GIF89a"));
    assert_eq!(out.files("many"), (0..6).map(|i| format!("{i:06}.png")).collect::<Vec<_>>());
    for solver in ["euler", "ddim", "ancestral", "euler-maruyama", "predictor-corrector", "unipc", "dpmpp-2m-sde"] {
        for grid in ["uniform", "karras", "polyexponential"] {
            out.succeed(&[&run[..], &["--solver", solver, "--grid", grid, "--steps", "3", "--out", "x.npy"]].concat());
            assert_eq!(read_npy(out.path("x.npy")).unwrap().shape(), [6, 28, 28, 1]);
        }
    }
    let moons = TRAINED.moons.path("run");
    out.succeed(&["sample", moons.to_str().unwrap(), "-n", "50", "--out", "points.png", "--movie", "points.gif"]);
    assert!(out.read("points.gif").starts_with(b"GIF89a"));
    out.succeed(&["sample", moons.to_str().unwrap(), "-n", "5", "--f64", "--out", "wide.npy"]);
    assert_eq!(read_npy(out.path("wide.npy")).unwrap().shape(), [5, 2]);
}

#[test]
fn a_run_its_model_and_its_checkpoint_give_the_same_samples() {
    let out = Place::new();
    let options = ["-n", "5", "--solver", "heun", "--grid", "karras", "--steps", "3", "--out", "x.npy"];
    let of = |name: &str| {
        let path = TRAINED.moons.path(name);
        out.succeed(&[&["sample", path.to_str().unwrap()], &options[..]].concat());
        out.read("x.npy")
    };
    let run = of("run");
    assert_eq!(run, of("run/model.safetensors"));
    assert_eq!(run, of("run/checkpoint.safetensors"));
}

#[test]
fn data_without_a_picture_trains_and_samples_as_arrays() {
    let place = Place::new();
    let x = fokker_tensor::Noise::new(0, 0).normal(&[64, 5], 0, 0, fokker_tensor::Dtype::F32);
    fokker_data::write_npy(place.path("x.npy"), &x).unwrap();
    place.succeed(&train_moons("train.steps=4", &["--set", "data={kind='array', path='x.npy'}"]));
    assert_eq!(read_npy(place.path("run/samples/step-0000004.npy")).unwrap().shape(), [300, 5]);
    place.succeed(&["sample", "run", "-n", "7"]);
    assert_eq!(read_npy(place.path("run/samples.npy")).unwrap().shape(), [7, 5]);
    place.refuse(&["sample", "run", "-n", "7", "--movie", "x.gif"], 2, &["--movie x.gif", "[5]"]);
}

#[test]
fn lists_name_everything_and_their_json_says_the_same() {
    let place = Place::new();
    for (what, member) in [
        ("recipes", "glyphs"),
        ("datasets", "moons"),
        ("networks", "unet"),
        ("sdes", "edm"),
        ("solvers", "heun"),
        ("grids", "karras"),
    ] {
        let text = place.succeed(&["list", what]);
        let json: Value = serde_json::from_str(&place.succeed(&["list", what, "--json"])).unwrap();
        let rows = json.as_array().unwrap();
        assert!(rows.iter().any(|row| row["name"] == member), "{what}: {json}");
        for row in rows {
            let (name, about) = (row["name"].as_str().unwrap(), row["about"].as_str().unwrap());
            assert!(text.contains(name) && text.contains(about) && !about.is_empty(), "{what}: {name}");
        }
    }
}

#[test]
fn inspect_describes_runs_and_models() {
    let run = TRAINED.glyphs.path("run");
    let place = Place::new();
    let text = place.succeed(&["inspect", run.to_str().unwrap()]);
    assert!(text.contains("step 4 of 4") && text.contains("[28, 28, 1], 10 classes"), "{text}");
    let json: Value = serde_json::from_str(&place.succeed(&["inspect", run.to_str().unwrap(), "--json"])).unwrap();
    assert_eq!(json["run"]["train"]["steps"], 4);
    assert_eq!(json["last"]["step"], 4);
    let model = run.join("model.safetensors");
    let json: Value = serde_json::from_str(&place.succeed(&["inspect", model.to_str().unwrap(), "--json"])).unwrap();
    assert_eq!(json["model"]["classes"], 10);
    assert!(json["parameters"].as_u64().unwrap() > 1000);
}

#[test]
fn previews_are_pictures() {
    let place = Place::new();
    for source in ["glyphs", "checkerboard", "spirals"] {
        place.succeed(&["preview", source, "-n", "9", "--out", "p.png"]);
        assert!(place.read("p.png").starts_with(b"\x89PNG"));
    }
}

#[test]
fn a_reader_that_leaves_is_no_error_and_a_full_disk_is() {
    let place = Place::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let done = place.command(&["list", "recipes"]).stdout(full).output().unwrap();
    crate::support::Done::from(done).is_one_error(1, &["standard output"]);
    let mut child = place.command(&["list", "recipes"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
