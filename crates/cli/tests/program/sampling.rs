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
    let of =
        |more: &[&str]| sample(&TRAINED.moons, &out, &[&["-n", "40", "--dtype", "f64", "--grid", "log-snr"], more].concat()).1;
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
    let method = ["--solver", "exponential-adams", "--steps", "60", "--dtype", "f64"];
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
fn a_path_between_two_samples_begins_and_ends_with_them() {
    let out = Place::new();
    let (moons, glyphs) = (TRAINED.moons.path("run"), TRAINED.glyphs.path("run"));
    let (moons, glyphs) = (moons.to_str().unwrap(), glyphs.to_str().unwrap());
    let method = ["--solver", "exponential-adams", "--steps", "60", "--dtype", "f64"];
    out.succeed(&[&["sample", moons, "-n", "6", "--out", "x.npy"], &method[..]].concat());
    let ends = ["--from", "4", "--to", "1", "--points", "7", "--out", "path.npy"];
    let said = out.succeed(&[&["interpolate", moons, "x.npy"], &ends[..], &method[..]].concat());
    assert!(said.contains("path of 7 samples") && said.contains("round trip of its ends: root mean square error"), "{said}");
    let [x, path] = ["x.npy", "path.npy"].map(|name| read_npy(out.path(name)).unwrap().to_vec::<f64>());
    let apart = |i: usize, j: usize| (path[2 * i] - x[2 * j]).hypot(path[2 * i + 1] - x[2 * j + 1]);
    assert_eq!(path.len(), 14);
    assert!(apart(0, 4) < 0.02 && apart(6, 1) < 0.02 && apart(6, 4) > 0.1, "{path:?} and {x:?}");

    // Images in a row: the two ends, and the path between. Each end has its own class.
    out.succeed(&["interpolate", glyphs, "glyphs", "--points", "3", "--steps", "3", "--out", "path.png"]);
    let png = out.read("path.png");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert_eq!((number(16), number(20)), (5 * (56 + 2) + 2, 56 + 4));

    out.refuse(&["interpolate", moons, "x.npy", "--to", "6", "--out", "y.npy"], 2, &["--to 6", "6 samples"]);
    out.refuse(&["interpolate", moons, "--points", "1", "--out", "y.npy"], 2, &["--points 1"]);
    out.refuse(&["interpolate", moons, "--out", "y.gif"], 2, &["y.gif", ".png", ".npy"]);
    out.refuse(&["interpolate", moons, "--solver", "ancestral", "--out", "y.npy"], 2, &["ancestral"]);
}

#[test]
fn log_densities_are_the_same_by_every_way_of_computing_them() {
    let out = Place::new();
    let run = TRAINED.moons.path("run");
    let run = run.to_str().unwrap();
    let of = |more: &[&str]| {
        let json = out.succeed(&[&["likelihood", run, "moons", "-n", "12", "--dtype", "f64", "--json"], more].concat());
        let json: Value = serde_json::from_str(&json).unwrap();
        let values = json["log_density"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
        assert_eq!((values.len(), json["samples"].as_u64(), json["dimensions"].as_u64()), (12, Some(12), Some(2)));
        (values, json)
    };
    let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let (exact, json) = of(&["--out", "scores.csv"]);
    let mean = exact.iter().sum::<f64>() / 12.0;
    assert!((json["log_density_mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert!(json["log_density_standard_error"].as_f64().unwrap() > 0.0);
    let table = String::from_utf8(out.read("scores.csv")).unwrap();
    let written = table.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect::<Vec<f64>>();
    // JSON is read to the last digit but one.
    assert!(apart(&written, &exact) < 1e-14);
    assert!(apart(&exact, &of(&["--batch", "5"]).0) < 1e-9);
    assert!(apart(&exact, &of(&["--rtol", "1e-7", "--atol", "1e-7"]).0) < 1e-3);
    // Two random signs of two dimensions are orthogonal half of the time, and many are nearly so.
    let random = of(&["--divergence", "hutchinson", "--probes", "200", "--rtol", "1e-3", "--atol", "1e-3"]).0;
    assert!((1e-9..0.3).contains(&apart(&exact, &random)), "{}", apart(&exact, &random));
    assert!(apart(&exact, &of(&["--noise-prior"]).0) < 0.1);
    assert!(apart(&exact, &of(&["--solver", "tsit5", "--rtol", "1e-5", "--atol", "1e-5"]).0) < 1e-3);
    let (fixed, json) = of(&["--solver", "rk4", "--steps", "100"]);
    assert!(apart(&exact, &fixed) < 1e-2, "{}", apart(&exact, &fixed));
    // Four stages of each step, and the far end; what twice the steps change is in the interval.
    assert!((400..405).contains(&json["evaluations"].as_u64().unwrap()), "{json}");
    assert!(json["solver_error"].as_f64().unwrap() > 0.0, "{json}");
    let normal =
        ["--divergence", "hutchinson", "--law", "gaussian", "--probes", "50", "--fresh", "--solver", "heun", "--steps", "40"];
    assert!((1e-9..0.5).contains(&apart(&exact, &of(&normal).0)), "{}", apart(&exact, &of(&normal).0));
    let said = out.succeed(&["likelihood", run, "-n", "3"]);
    assert!(said.contains("nats, mean of 3 samples"), "{said}");

    // What is not computed is not said to be uncertain.
    assert!(json["solver_error"].as_f64().unwrap() < 1e-4 && json["draws_standard_deviation"].is_null(), "{json}");
    let ends = json["log_density_interval"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
    assert!(ends[0] < mean && mean < ends[1]);
    // The same points with the bound, and ones that no training saw.
    let (_, json) = of(&["--bound", "--bound-times", "40", "--out", "both.csv"]);
    let bounds = json["bound"]["values"].as_array().unwrap();
    assert!(bounds.len() == 12 && json["bound"]["evaluations"] == 40 && json["bound"]["bits_per_dimension"].is_null());
    assert!(String::from_utf8(out.read("both.csv")).unwrap().starts_with("sample,log_density,bound\n0,"));
    let (_, json) = of(&["--bound", "chain", "--bound-times", "20"]);
    assert!(json["bound"]["mean"].as_f64().unwrap() < json["log_density_mean"].as_f64().unwrap() + 1.0);
    let said = out.succeed(&["likelihood", run, "test", "-n", "5", "--bound"]);
    assert!(said.contains("mean of 5 samples") && said.contains("variational bound: "), "{said}");

    out.refuse(&["likelihood", run, "--bound-times", "4"], 2, &["--bound"]);
    out.refuse(&["likelihood", run, "--bound", "--bound-times", "0"], 2, &["times", "0"]);
    out.refuse(&["likelihood", run, "--dequantise", "2"], 2, &["--dequantise 2", "--levels"]);
    out.refuse(&["likelihood", run, "--levels", "256"], 2, &["--levels 256", "found"]);
    out.refuse(&["likelihood", run, "--rtol", "0"], 2, &["rtol", "positive"]);
    out.refuse(&["likelihood", run, "--divergence", "hutchinson", "--probes", "0"], 2, &["count", "0"]);
    out.refuse(&["likelihood", run, "--probes", "3"], 2, &["--divergence exact", "hutch++", "--probes"]);
    out.refuse(&["likelihood", run, "--divergence", "hutchinson", "--fresh"], 2, &["--steps"]);
    out.refuse(&["likelihood", run, "--solver", "rk4"], 2, &["method", "`dopri5` or `tsit5`"]);
    out.refuse(&["likelihood", run, "--solver", "adams", "--steps", "9"], 2, &["--solver adams", "--steps"]);
    out.refuse(&["likelihood", run, "--steps", "0"], 2, &["steps", "at least 1"]);
    out.refuse(&["likelihood", run, "--steps", "9", "--rtol", "1e-3"], 2, &["--steps", "--rtol"]);
    out.refuse(&["likelihood", run, "--out", "scores.txt"], 2, &["scores.txt", ".csv"]);
}

#[test]
fn the_learned_density_is_drawn_beside_the_data_and_integrates_to_one() {
    let out = Place::new();
    let run = TRAINED.moons.path("run");
    let run = run.to_str().unwrap();
    let picture = ["-n", "2", "--density", "density.png", "--density-side", "48"];
    // Probes are for the scores: the picture has the exact trace.
    let json = out.succeed(&[&["likelihood", run, "--json", "--divergence", "hutchinson"], &picture[..]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    let integral = json["density_integral"].as_f64().unwrap();
    assert!((integral - 1.0).abs() < 0.01, "{integral}");
    // Two squares of 48 values, ten pixels each, and a gap.
    let png = out.read("density.png");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert_eq!((number(16), number(20)), (2 * 480 + 8, 480));
    let glyphs = TRAINED.glyphs.path("run");
    out.refuse(&["likelihood", glyphs.to_str().unwrap(), "--density", "d.png"], 2, &["d.png", "[28, 28, 1]"]);
    out.refuse(&["likelihood", run, "--density", "d.npy"], 2, &["d.npy", ".png"]);
    out.refuse(&["likelihood", run, "--density", "d.png", "--density-side", "1"], 2, &["--density-side 1"]);
}

#[test]
fn discrete_data_have_bits_per_dimension_with_an_interval() {
    let out = Place::new();
    let run = TRAINED.glyphs.path("run");
    let run = run.to_str().unwrap();
    let cheap = ["-n", "4", "--divergence", "hutchinson", "--rtol", "1e-2", "--atol", "1e-2", "--json"];
    let of = |more: &[&str]| -> Value {
        serde_json::from_str(&out.succeed(&[&["likelihood", run], &cheap[..], more].concat())).unwrap()
    };
    let number = |json: &Value, key: &str| json[key].as_f64().unwrap_or_else(|| panic!("{key} of {json}"));
    let bits = of(&["--out", "scores.csv"]);
    assert_eq!((bits["levels"].as_u64(), bits["draws"].as_u64(), bits["dimensions"].as_u64()), (Some(256), Some(1), Some(784)));
    let expected = -number(&bits, "log_probability_mean") / 784.0 / 2.0_f64.ln();
    assert!((number(&bits, "bits_per_dimension") - expected).abs() < 1e-9);
    let ends = bits["bits_per_dimension_interval"].as_array().unwrap();
    assert!(ends[0].as_f64().unwrap() < expected && expected < ends[1].as_f64().unwrap());
    // The solver's part is in it, besides Student's point of 3 degrees of freedom.
    let width = 3.182 * number(&bits, "log_probability_standard_error") + number(&bits, "solver_error");
    let found = bits["log_probability_interval"][1].as_f64().unwrap() - number(&bits, "log_probability_mean");
    assert!((found / width - 1.0).abs() < 2e-3 && number(&bits, "solver_error") > 0.0, "{found} and {width}");
    assert!(number(&bits, "draws_standard_deviation") > 0.0);
    assert!(String::from_utf8(out.read("scores.csv")).unwrap().starts_with("sample,log_probability\n0,"));

    // Numbers as they are have no bits, and the offset is that of 256 levels: half a level of noise changes little of a rough model.
    let raw = of(&["--dequantise", "0"]);
    assert!(raw["bits_per_dimension"].is_null() && raw["log_probability"].is_null());
    let offset = 784.0 * (2.0_f64 / 255.0).ln();
    let apart = number(&bits, "log_probability_mean") - number(&raw, "log_density_mean") - offset;
    assert!(apart.abs() < 0.05 * offset.abs(), "{apart} of {offset}");
    let bounded = of(&["--dequantise", "2", "--bound", "--bound-times", "4"]);
    assert!(number(&bounded["bound"], "bits_per_dimension") > 0.0 && bounded["draws"] == 2, "{bounded}");
    let said = out.succeed(&[&["likelihood", run], &cheap[..8]].concat());
    assert!(said.contains("bits/dim, mean of 4 samples and its 95 % interval") && said.contains("256 levels"), "{said}");
    // Other rows than those that it was trained on.
    assert_ne!(number(&of(&["--data", "test"]), "log_probability_mean"), number(&bits, "log_probability_mean"));
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
    out.succeed(&["sample", moons.to_str().unwrap(), "-n", "5", "--dtype", "f64", "--out", "wide.npy"]);
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
        ("metrics", "wasserstein-2"),
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

#[test]
fn samples_of_a_network_in_bf16_are_near_those_in_f32_and_their_distribution_nearer() {
    let out = Place::new();
    let of = |dtype: &str| sample(&TRAINED.moons, &out, &["-n", "3000", "--dtype", dtype]).1;
    let (wide, narrow) = (of("f32"), of("bf16"));
    let root_mean_square = |x: &[f32]| (x.iter().map(|x| f64::from(x * x)).sum::<f64>() / x.len() as f64).sqrt();
    let apart: Vec<f32> = wide.iter().zip(&narrow).map(|(a, b)| a - b).collect();
    let distance = root_mean_square(&apart) / root_mean_square(&wide);
    assert!((1e-4..0.1).contains(&distance), "{distance}");
    for axis in 0..2 {
        let moments = |x: &[f32]| {
            let values: Vec<f64> = x.iter().skip(axis).step_by(2).map(|&x| x.into()).collect();
            let mean = values.iter().sum::<f64>() / 3000.0;
            (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 3000.0).sqrt())
        };
        let ((mean, deviation), (other, another)) = (moments(&wide), moments(&narrow));
        assert!((mean - other).abs() < 0.01 && (deviation - another).abs() < 0.01, "{mean} ± {deviation}, {other} ± {another}");
    }
}
