//! Configurations and options that make no sense.

use crate::support::{Place, TRAINED};

#[test]
fn recipes_that_are_not_there_are_named_with_those_that_are() {
    let place = Place::new();
    place.refuse(&["train", "nonesuch"], 2, &["nonesuch", "moons", "glyphs", ".toml"]);
    place.refuse(&["preview", "nonesuch"], 2, &["nonesuch", "moons"]);
    place.refuse(&["train", "missing.toml"], 1, &["missing.toml"]);
    place.refuse(&["train", "moons", "--set", "data.kind=martian"], 2, &["martian", "kind"]);
    place.refuse(&["list", "martians"], 2, &["martians", "solvers"]);
    place.refuse(&["martian"], 2, &["martian"]);
}

#[test]
fn files_that_are_no_configurations_are_named_with_the_line() {
    let place = Place::new();
    place.write("syntax.toml", "name = \"a\"\n[train\nsteps = 3\n");
    place.refuse(&["train", "syntax.toml"], 2, &["syntax.toml", "line 2"]);
    place.write("key.toml", "name = \"a\"\nstepz = 3\n");
    place.refuse(&["train", "key.toml"], 2, &["key.toml", "stepz"]);
    place.write("type.toml", "name = \"a\"\nseed = \"many\"\n");
    place.refuse(&["train", "type.toml"], 2, &["type.toml", "seed", "line 2"]);
    place.write("missing.toml", "name = \"a\"\n[data]\nkind = \"moons\"\n");
    place.refuse(&["train", "missing.toml"], 2, &["missing.toml", "missing field `model`"]);
    place.write("bytes.toml", [0xff, 0xfe, 0x00]);
    place.refuse(&["train", "bytes.toml"], 1, &["bytes.toml"]);
    place.refuse(&["train", "."], 2, &["expected one of"]);
    place.refuse(&["train", "./"], 1, &["./"]);
}

#[test]
fn settings_out_of_range_name_the_field() {
    let place = Place::new();
    for (setting, field) in [
        ("train.stepz=3", "stepz"),
        ("train.steps=0", "train.steps"),
        ("train.steps=-1", "steps"),
        ("train.steps='many'", "steps"),
        ("train.batch=0", "train.batch"),
        ("train.batch=1000000000000", "train.batch"),
        ("train.checkpoint_every=0", "train.checkpoint_every"),
        ("train.log_every=0", "train.log_every"),
        ("train.learning_rate=nan", "train.learning_rate"),
        ("train.learning_rate=0.0", "train.learning_rate"),
        ("train.clip=-1.0", "train.clip"),
        ("train.adam.beta2=1.0", "train.adam.beta2"),
        ("train.adam.epsilon=-1.0", "train.adam.epsilon"),
        ("train.adam.weight_decay=nan", "train.adam.weight_decay"),
        ("train.schedule={kind='cosine', floor=nan}", "train.schedule.floor"),
        ("ema.decay=2.0", "ema.decay"),
        ("ema={kind='half-life', images=-1.0}", "images"),
        ("objective.label_dropout=2.0", "objective.label_dropout"),
        ("objective.times={kind='log-normal', std=0.0}", "objective.times"),
        ("sample.count=0", "sample.count"),
        ("sample.batch=0", "sample.batch"),
        ("sample.sampler.grid.steps=0", "sample.sampler.grid.steps"),
        ("sample.sampler.grid.t_max=1e9", "t_max"),
        ("sample.sampler.solver={kind='ddim', eta=-1.0}", "eta"),
        ("sample.sampler.solver.kind=magic", "magic"),
        ("model.sde.sigma_max=-3.0", "sigma_max"),
        ("model.sde.kind=martian", "martian"),
        ("model.preconditioning.sigma_data=0.0", "sigma_data"),
        ("model.network.hidden=0", "network.hidden"),
        ("model.network.hidden=1000000000000000", "network.hidden"),
        ("model.network.blocks=1000000000000000", "network.blocks"),
        ("model.network.embedding=3", "network.embedding"),
        ("model.network={kind='unet'}", "network.kind"),
        ("loader.flip=true", "flip"),
        ("data.kind=glyphs", "network.kind"),
        ("nonsense", "key.path=value"),
        ("train=3", "train"),
        ("train.steps.more=3", "steps"),
    ] {
        place.refuse(&["train", "moons", "--set", "train.steps=1", "--set", setting], 2, &[field]);
    }
    for (setting, field) in [
        ("model.network.channels=[]", "network.channels"),
        ("model.network.channels=[0]", "network.channels"),
        ("model.network.channels=[1000000000000]", "network.channels"),
        ("model.network.attention_levels=[9]", "network.attention_levels"),
        ("model.network.groups=0", "network.groups"),
        ("model.network={kind='mlp'}", "network.kind"),
    ] {
        place.refuse(&["train", "glyphs", "--set", "train.steps=1", "--set", setting], 2, &[field]);
    }
}

#[test]
fn sampling_options_that_make_no_sense_name_the_option() {
    let place = Place::new();
    let (moons, glyphs) = (TRAINED.moons.path("run"), TRAINED.glyphs.path("run"));
    let (moons, glyphs) = (moons.to_str().unwrap(), glyphs.to_str().unwrap());
    let before = (TRAINED.moons.content(), TRAINED.glyphs.content());
    for (run, option, value, parts) in [
        (moons, "--solver", "magic", &["--solver magic", "heun"][..]),
        (moons, "--grid", "magic", &["--grid magic", "karras"]),
        (moons, "-n", "0", &["--count 0", "at least 1"]),
        (moons, "--batch", "0", &["--batch 0", "at least 1"]),
        (moons, "--steps", "0", &["--steps 0", "at least 1"]),
        (moons, "-n", "many", &["many"]),
        (moons, "-n", "100000000000000000", &["--count 100000000000000000"]),
        (moons, "--seed", "-1", &["-1"]),
        (moons, "--class", "3", &["--class 3", "without classes"]),
        (glyphs, "--class", "10", &["--class 10", "0 to 9"]),
        (glyphs, "--class", "seven", &["--class seven", "0 to 9"]),
        (moons, "--out", "x.jpg", &["x.jpg", ".png, .npy"]),
        (moons, "--out", "points", &["points", ".npy"]),
        (moons, "--movie", "x.mp4", &["x.mp4", ".gif"]),
        (moons, "--threads", "0", &["--threads"]),
        (moons, "--dtype", "f16", &["f16", "bf16, f32, f64"]),
    ] {
        place.refuse(&["sample", run, option, value], 2, parts);
    }
    place.refuse(&["likelihood", moons, "moons", "--dtype", "bf16"], 2, &["--dtype bf16", "use f32 or f64"]);
    place.refuse(&["train", "moons", "--set", "train.precision=f16"], 2, &["f16", "`f32` or `bf16`"]);
    place.refuse(&["preview", "moons", "-n", "0"], 2, &["0", "--count"]);
    place.refuse(&["preview", "moons", "--out", "x.jpg"], 2, &["x.jpg", ".png"]);
    place.refuse(&["train", "moons", "--resume", "run"], 2, &["--resume"]);
    place.refuse(&["train"], 2, &["RECIPE"]);
    assert!(before == (TRAINED.moons.content(), TRAINED.glyphs.content()));
}
