//! Measuring every way of sampling a run.

use fokker_data::write_npy;
use fokker_tensor::{Dtype, Noise, Tensor};
use serde_json::Value;

use crate::support::{Place, TRAINED, train_glyphs};

/// `fokker evaluate` of the trained moons with two solvers, few samples and two seeds.
fn evaluate(more: &[&str]) -> Vec<String> {
    let run = TRAINED.moons.path("run").to_str().unwrap().to_owned();
    let base = ["--solvers", "euler,heun", "-n", "60", "--seeds", "2", "--json"].map(str::to_owned);
    let more = more.iter().map(|argument| (*argument).to_owned());
    ["evaluate".to_owned(), run].into_iter().chain(base).chain(more).collect()
}

fn succeed(place: &Place, more: &[&str]) -> Value {
    let args = evaluate(more);
    let out = place.succeed(&args.iter().map(String::as_str).collect::<Vec<_>>());
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

fn names(found: &Value) -> Vec<(String, Option<u64>)> {
    let rows = found["rows"].as_array().unwrap();
    rows.iter().map(|row| (row["name"].as_str().unwrap().to_owned(), row["steps"].as_u64())).collect()
}

fn ways(all: &[(&str, u64)]) -> Vec<(String, Option<u64>)> {
    let ways = all.iter().map(|(name, steps)| ((*name).to_owned(), Some(*steps)));
    std::iter::once(("data".to_owned(), None)).chain(ways).collect()
}

#[test]
fn every_way_of_sampling_is_measured_once_and_the_page_needs_nothing_else() {
    let place = Place::new();
    let first = succeed(&place, &["--steps", "4,2", "--out", "report"]);
    assert_eq!(names(&first), ways(&[("euler", 2), ("euler", 4), ("heun", 2), ("heun", 4)]));
    let rows = first["rows"].as_array().unwrap();
    for row in &rows[1..] {
        let steps = row["steps"].as_u64().unwrap();
        // The last step denoises alone.
        let nfe = if row["name"] == "heun" { 2 * steps - 1 } else { steps };
        assert_eq!(row["nfe"], nfe, "{row}");
        assert!(row["latency_seconds"].as_f64().unwrap() > 0.0 && row["failed"].is_null());
        for name in ["precision", "recall", "coverage", "frechet", "sliced_wasserstein", "memorised", "duplicates"] {
            let score = &row["scores"][name];
            assert_eq!(score["values"].as_array().unwrap().len(), 2, "{name} of {row}");
            assert!(score["mean"].is_number() && score["half_width"].is_number(), "{name} of {row}");
        }
    }
    assert!(rows[1..].iter().any(|row| row["pareto"] == true) && rows[0]["pareto"] == false);
    // Real data are nearer to real data than samples of two Euler steps.
    let distance = |row: &Value| row["scores"]["sliced_wasserstein"]["mean"].as_f64().unwrap();
    assert!(distance(&rows[0]) < distance(&rows[1]), "{} {}", rows[0], rows[1]);
    let hash = first["model"]["sha256"].as_str().unwrap();
    assert_eq!(hash.len(), 64);

    let page = String::from_utf8(place.read("report/report.html")).unwrap();
    for part in
        ["<!DOCTYPE html>", hash, "class=\"front\"", "data:image/png;base64,", "data:image/svg+xml;base64,", "fokker evaluate"]
    {
        assert!(page.contains(part), "no `{part}` in the page");
    }
    for part in ["http://", "https://", "src=\"/", "<script ", "fetch(", "import(", "@import", "<link", "NaN"] {
        assert!(!page.contains(part), "`{part}` in the page");
    }
    assert_eq!(page.matches("<svg viewBox=\"0 0 480 340\"").count(), 3);
    // How samples come about: every moment is in the page, whether a script runs or not, and says which it is.
    let frames: Vec<&str> = page.split("<figure class=\"frame\">").skip(1).collect();
    let captions = frames.iter().map(|frame| frame.split("<figcaption>step ").nth(1).unwrap().split(' ').next().unwrap());
    let captions: Vec<usize> = captions.map(|step| step.parse().unwrap()).collect();
    let steps = captions[captions.len() - 1];
    assert!(matches!(steps, 2 | 4), "steps of some row, not {steps}");
    assert_eq!(captions, (0..=steps).collect::<Vec<_>>());
    // The data, the data again, and the rows.
    assert_eq!(page.matches("src=\"data:image/png").count(), 6 + frames.len());
    // How likely the data are, and the samples of the row of least distance: more likely are data.
    let likelihoods = first["likelihoods"].as_array().unwrap();
    assert_eq!((&likelihoods[0]["name"], likelihoods.len()), (&"test data".into(), 2));
    for found in likelihoods {
        assert_eq!((&found["unit"], &found["samples"], &found["failed"]), (&"nats".into(), &60.into(), &Value::Null), "{found}");
        assert_eq!(found["values"].as_array().unwrap().len(), 60);
        assert!(found["half_width"].as_f64().unwrap() > 0.0 && found["mean"].as_f64().unwrap().abs() < 50.0, "{found}");
    }
    assert_eq!(page.matches("class=\"histogram\"").count(), 1);
    assert!(page.contains(likelihoods[1]["name"].as_str().unwrap()), "{}", likelihoods[1]["name"]);

    // The same again is read, times and all; other steps are measured as long as there is time, which is none.
    let files = place.files("report");
    assert_eq!(files.len(), 10, "{files:?}");
    assert_eq!(succeed(&place, &["--steps", "4,2", "--out", "report"]), first);
    let more = succeed(&place, &["--steps", "2,3,4", "--out", "report", "--budget", "0s"]);
    assert_eq!(more["rows"], first["rows"]);
    assert_eq!(more["missing"], serde_json::json!(["euler, 3 steps", "heun, 3 steps"]));
    let page = String::from_utf8(place.read("report/report.html")).unwrap();
    assert!(page.contains("Not measured, as the budget was spent: euler, 3 steps; heun, 3 steps."));
    // Likelihoods of other samples are not computed without time, nor where none are wanted; what was computed is there.
    let few = succeed(&place, &["--steps", "2,4", "--out", "report", "--budget", "0s", "--likelihood", "7"]);
    assert_eq!(few["likelihoods"], serde_json::json!([]));
    let missing = format!("likelihood of {}", likelihoods[1]["name"].as_str().unwrap());
    assert_eq!(few["missing"], serde_json::json!(["likelihood of test data", missing]));
    let none = succeed(&place, &["--steps", "2,4", "--out", "report", "--budget", "0s", "--likelihood", "0"]);
    assert_eq!((&none["likelihoods"], &none["missing"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert!(!String::from_utf8(place.read("report/report.html")).unwrap().contains("class=\"histogram\""));

    // An interrupted run has the first rows alone, and goes on after them.
    let lines = String::from_utf8(place.read("report/rows.jsonl")).unwrap();
    let begun: Vec<&str> = lines.lines().take(3).collect();
    place.write("report/rows.jsonl", begun.join("\n"));
    let resumed = succeed(&place, &["--steps", "2,4", "--out", "report"]);
    let (before, after) = (first["rows"].as_array().unwrap(), resumed["rows"].as_array().unwrap());
    let same = before.iter().zip(after).filter(|(a, b)| a == b).count();
    assert_eq!(same, 4, "the data and three rows are as they were, times and all");
    for (a, b) in before.iter().zip(after) {
        assert_eq!(a["scores"], b["scores"], "samples follow from their seeds");
    }
    // Another seed is another row.
    let other = succeed(&place, &["--steps", "2", "--seed", "7", "--out", "report"]);
    assert_ne!(other["rows"][1]["scores"], first["rows"][1]["scores"]);
}

#[test]
fn samples_of_a_file_are_judged_by_the_same_ruler() {
    let place = Place::new();
    let run = TRAINED.moons.path("run").to_str().unwrap().to_owned();
    place.succeed(&["sample", &run, "-n", "60", "--solver", "heun", "--steps", "2", "--out", "x.npy"]);
    let found = succeed(&place, &["--steps", "2", "--samples", "x.npy", "--features", "projection:3", "--data", "train"]);
    assert_eq!((&found["features"], &found["data"]), (&"projection-3-0".into(), &"training data".into()));
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows[1]["name"], "x.npy");
    assert_eq!(rows[1]["scores"]["recall"]["values"][0], rows[3]["scores"]["recall"]["values"][0]);
    assert!(rows[1]["nfe"].is_null() && rows[1]["scores"]["recall"]["half_width"].is_null());
    // Likelihoods are of the page, or asked for.
    assert_eq!(found["likelihoods"], serde_json::json!([]));
    let asked = succeed(&place, &["--steps", "2", "--likelihood", "6"]);
    assert_eq!((&asked["likelihoods"][0]["samples"], &asked["likelihoods"][1]["samples"]), (&6.into(), &6.into()));
    // Where nothing is to be kept, nothing is written.
    assert_eq!(place.files(""), ["x.npy"]);
    let args = evaluate(&["--steps", "2", "--likelihood", "6"]);
    let args: Vec<&str> = args.iter().map(String::as_str).filter(|a| *a != "--json").collect();
    let text = place.succeed(&args[..]);
    assert!(text.contains("sliced w2") && text.contains("euler") && text.lines().any(|line| line.starts_with('*')), "{text}");
    assert!(text.contains("likelihood of test data: ") && text.contains(" nats, 6 of them"), "{text}");
}

#[test]
fn samples_that_are_all_alike_or_on_a_line_have_a_row() {
    let place = Place::new();
    let alike = Tensor::full(&[60, 2], 0.5, Dtype::F32);
    let line = Noise::new(0, 1).normal(&[60, 1], 0, 0, Dtype::F32);
    write_npy(place.path("alike.npy"), &alike).unwrap();
    write_npy(place.path("line.npy"), &Tensor::concat(&[&line, &(&line * 0.0)], 1)).unwrap();
    let row = |name: &str| {
        let found = succeed(&place, &["--steps", "1", "--samples", name]);
        let row = found["rows"][1].clone();
        assert_eq!((&row["name"], &row["failed"]), (&name.into(), &Value::Null));
        for (score, values) in row["scores"].as_object().unwrap() {
            assert!(values["mean"].is_number(), "{score} of {name}: {values}");
        }
        row["scores"].clone()
    };
    // One point, sixty times: no covariance, no diversity.
    let alike = row("alike.npy");
    assert!((alike["duplicates"]["mean"].as_f64().unwrap() - 59.0 / 60.0).abs() < 1e-12, "{alike}");
    assert!(alike["coverage"]["mean"].as_f64().unwrap() < 0.2 && alike["frechet"]["mean"].as_f64().unwrap() > 0.1, "{alike}");
    // A covariance of rank one.
    let line = row("line.npy");
    assert_eq!(line["duplicates"]["mean"], 0.0);
    assert!(line["frechet"]["mean"].as_f64().unwrap() > 0.01, "{line}");
}

#[test]
fn images_are_judged_by_kernel_distance_and_shown_beside_their_nearest_training_images() {
    let place = Place::new();
    place.succeed(&train_glyphs("train.steps=2", &["--set", "data.len=300"]));
    let base = ["--solvers", "ddim", "--steps", "2", "-n", "12", "--seeds", "1", "--features", "projection:8"];
    let base = [&base[..], &["--likelihood", "2"]].concat();
    let args = [&["evaluate", "run", "--guidance", "2"][..], &base[..], &["--out", "report", "--json"]].concat();
    let found: Value = serde_json::from_str(&place.succeed(&args)).unwrap();
    let row = &found["rows"][1];
    // Guidance takes two calls for each answer.
    assert_eq!((&row["name"], &row["nfe"]), (&"ddim".into(), &4.into()));
    assert!(row["scores"]["kernel_distance"]["mean"].is_number() && row["scores"]["sliced_wasserstein"].is_null(), "{row}");
    // Glyphs have classes.
    let entropy = row["scores"]["class_entropy"]["mean"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&entropy));
    assert_eq!(found["pareto_objectives"][0], "frechet");
    let page = String::from_utf8(place.read("report/report.html")).unwrap();
    assert!(page.contains("Above, samples; below, the training sample nearest to each."));
    // The data twice, the row, and the pairs; the moments of two steps, noise and samples.
    assert_eq!(page.matches("src=\"data:image/png").count(), 4 + 3);
    // Glyphs are bytes: an image has bits.
    assert_eq!((&found["likelihoods"][0]["unit"], &found["likelihoods"][0]["samples"]), (&"bits/dim".into(), &2.into()));

    // Images of another system, as bytes: judged as the numbers that they are for a network.
    let bytes: Vec<u8> = (0..12 * 784u32).map(|i| (i * 37 % 251) as u8).collect();
    let numbers = bytes.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0).collect::<Vec<f32>>();
    write_npy(place.path("numbers.npy"), &Tensor::from_vec(&[12, 28, 28, 1], numbers)).unwrap();
    let mut header = "{'descr': '|u1', 'fortran_order': False, 'shape': (12, 28, 28), }".to_owned();
    header.push_str(&" ".repeat(117 - header.len()));
    header.push('\n');
    let file = [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes(), &bytes].concat();
    place.write("bytes.npy", file);
    let scores = |name: &str| {
        let args =
            [&["evaluate", "run", "--guidance", "2"][..], &base[..8], &["--training", "0", "--json", "--samples", name]].concat();
        let found: Value = serde_json::from_str(&place.succeed(&args)).unwrap();
        assert_eq!(found["rows"][1]["name"], name);
        found["rows"][1]["scores"].clone()
    };
    assert_eq!(scores("bytes.npy"), scores("numbers.npy"));

    // In a learned space, whose name is the hash of its file.
    place.succeed(&["features", "train", "glyphs", "--steps", "1", "--out", "f.safetensors"]);
    let learned = ["evaluate", "run", "--solvers", "ddim", "--steps", "2", "-n", "12", "--seeds", "1", "--json", "--features"];
    let found: Value = serde_json::from_str(&place.succeed(&[&learned[..], &["f.safetensors"]].concat())).unwrap();
    assert!(found["features"].as_str().unwrap().strip_prefix("trained-").is_some_and(|hash| hash.len() == 64), "{found}");
    assert!(found["rows"][1]["scores"]["frechet"]["mean"].is_number(), "{found}");
    place.refuse(&[&learned[..], &["none.safetensors"]].concat(), 1, &["none.safetensors"]);
    // Of images of another kind.
    let moons = TRAINED.moons.path("run").to_str().unwrap().to_owned();
    let other = ["evaluate", &moons, "--solvers", "euler", "--steps", "1", "-n", "12", "--features", "f.safetensors"];
    place.refuse(&other, 1, &["f.safetensors", "[28, 28, 1]", "`glyphs`", "[2]"]);
    place.refuse(&[&learned[..], &["run/model.safetensors"]].concat(), 1, &["model.safetensors", "a diffusion model"]);
}

#[test]
fn what_cannot_be_judged_is_refused_with_a_reason() {
    let place = Place::new();
    let write = |name: &str, x: &Tensor| write_npy(place.path(name), x).unwrap();
    write("few.npy", &Noise::new(0, 1).normal(&[3, 2], 0, 0, Dtype::F32));
    write("wide.npy", &Noise::new(0, 1).normal(&[60, 3], 0, 0, Dtype::F32));
    write("constant.npy", &Tensor::full(&[60, 2], 0.5, Dtype::F32));
    let mut values = Noise::new(0, 1).normal(&[60, 2], 0, 0, Dtype::F32).to_vec::<f32>();
    values[7] = f32::NAN;
    write("nan.npy", &Tensor::from_vec(&[60, 2], values));
    write("empty.npy", &Tensor::zeros(&[0, 2], Dtype::F32));
    place.write("file", "not a folder");
    for (more, code, parts) in [
        (&["--solvers", "euler,magic"][..], 2, &["--solvers magic", "heun"][..]),
        (&["--steps", "0"], 2, &["--steps 0"]),
        (&["--steps", "2,many"], 2, &["many"]),
        (&["-n", "5"], 2, &["--count 5", "at least 6", "neighbours"]),
        (&["--seeds", "0"], 2, &["--seeds 0"]),
        (&["--features", "magic"], 2, &["--features magic", "projection:WIDTH"]),
        (&["--features", "projection:0"], 2, &["projection:0"]),
        (&["--budget", "soon"], 2, &["--budget soon", "5m"]),
        (&["--out", "file"], 2, &["--out file", "folder"]),
        (&["--set", "grid.t_max=1e9"], 2, &["t_max"]),
        (&["--samples", "few.npy"], 1, &["few.npy", "3 rows", "at least 4", "neighbours"]),
        (&["--samples", "wide.npy"], 1, &["wide.npy", "[2]", "[3]"]),
        (&["--samples", "nan.npy"], 1, &["nan.npy", "NaN", "row 3 (value 1 of 2)"]),
        (&["--samples", "empty.npy"], 1, &["empty.npy", "empty", "at least one sample"]),
        (&["--features", "projection:20000"], 2, &["projection:20000", "some 15 GiB", "at most 10000", "projection:1024"]),
        (&["--samples", "missing.npy"], 1, &["missing.npy"]),
        (&["--data", "few.npy"], 1, &["few.npy", "3 rows", "at least 6"]),
        (&["--data", "wide.npy"], 1, &["[2]", "[3]"]),
        (&["--data", "constant.npy"], 1, &["constant.npy", "same vector"]),
        (&["--data", "nan.npy"], 1, &["nan.npy"]),
    ] {
        let run = TRAINED.moons.path("run").to_str().unwrap().to_owned();
        let args: Vec<&str> = ["evaluate", &run].into_iter().chain(more.iter().copied()).collect();
        place.refuse(&args, code, parts);
    }
    let model = TRAINED.moons.path("run/model.safetensors").to_str().unwrap().to_owned();
    place.refuse(&["evaluate", &model], 2, &["--data"]);
    place.refuse(&["evaluate", "nowhere"], 1, &["nowhere"]);
}
