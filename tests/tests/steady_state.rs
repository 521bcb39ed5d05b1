//! What steps cost beside their arithmetic, once the first are done: no new buffers, no pages touched for the first time, no threads woken for
//! small work; and saved activations are gone as soon as the backward pass has used them.

use std::sync::{Arc, Mutex, MutexGuard};

use fokker_models::{DiffusionModel, MlpConfig, ModelConfig, NetworkConfig, UNetConfig};
use fokker_nn::{Adam, AdamConfig, Ema, EmaConfig, clip_scale, global_norm, value_and_grad};
use fokker_sde::{Cond, Edm, Preconditioning, Times};
use fokker_solve::{EulerMaruyama, GridConfig, Heun, Karras, Sampler, Solver};
use fokker_tensor::{Dtype, Noise, checkpoint, grad, memory};
use fokker_train::{RunConfig, Trainer};

/// What is counted is counted for the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// On one thread, where the order in which buffers are asked for is the same each time.
fn on_one_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(f)
}

fn model(sample_shape: &[usize], classes: Option<usize>, network: NetworkConfig) -> DiffusionModel {
    let config = ModelConfig {
        sample_shape: sample_shape.to_vec(),
        classes,
        sde: Edm::default().into(),
        preconditioning: Preconditioning::default(),
        learned_variance: false,
        network,
    };
    DiffusionModel::new(config, 0, Dtype::F32).unwrap()
}

fn mlp(classes: Option<usize>, recompute: bool) -> DiffusionModel {
    model(&[2], classes, NetworkConfig::Mlp(MlpConfig { hidden: 128, blocks: 2, embedding: 32, recompute }))
}

fn unet(recompute: bool) -> DiffusionModel {
    let network = UNetConfig {
        channels: vec![16, 32],
        blocks: 1,
        attention_levels: vec![1],
        head_channels: 8,
        recompute,
        ..UNetConfig::default()
    };
    model(&[16, 16, 1], Some(3), NetworkConfig::UNet(network))
}

/// A model, the shape of a batch and its labels.
fn networks() -> Vec<(&'static str, DiffusionModel, Vec<usize>, Cond)> {
    let labels = |n: u32| Cond::classes((0..n).map(|i| i % 3).collect());
    vec![
        ("mlp", mlp(None, false), vec![512, 2], Cond::NONE),
        ("mlp with classes, recomputed", mlp(Some(3), true), vec![256, 2], labels(256)),
        ("unet", unet(false), vec![8, 16, 16, 1], labels(8)),
        ("unet, recomputed", unet(true), vec![8, 16, 16, 1], labels(8)),
    ]
}

/// A step of training, again and again: forward, backward, clipping, AdamW, the average.
fn training(mut model: DiffusionModel, shape: Vec<usize>, cond: Cond) -> impl FnMut() + Send {
    let noise = Noise::new(5, 0);
    let (x, y) = (noise.normal(&shape, 0, 0, Dtype::F32), noise.normal(&shape, 0, 1, Dtype::F32));
    let times = Times::Each((0..shape[0]).map(|i| 0.1 + i as f64 / shape[0] as f64).collect());
    let mut adam = Adam::new(&model, AdamConfig::default());
    let mut average = Ema::new(&model, EmaConfig::Constant { decay: 0.99 });
    move || {
        let (_, grads) = value_and_grad(&model, |m| (&m.raw(&x, &times, &cond) - &y).square().mean_all());
        let scale = clip_scale(global_norm(&grads), 1.0);
        adam.step_and_average(&mut model, &grads, 1e-3, scale, &mut average, 1, 1);
    }
}

/// A run of a solver, again and again.
fn sampling(model: DiffusionModel, solver: impl Solver + 'static, shape: Vec<usize>, cond: Cond) -> impl FnMut() {
    let grid =
        GridConfig { steps: 6, spacing: Karras::default().into(), ..GridConfig::default() }.build(&Edm::default()).unwrap();
    let sampler = Sampler::new(model, solver, grid).unwrap();
    move || drop(sampler.sample(&shape, &cond, Noise::new(3, 0), 0, &mut []).unwrap())
}

/// Buffers that `call` allocates in ten calls after eight: what is cached has found its place after four or so.
fn allocated(mut call: impl FnMut()) -> u64 {
    (0..8).for_each(|_| call());
    let before = memory().allocated;
    (0..10).for_each(|_| call());
    memory().allocated - before
}

#[test]
fn a_step_of_training_allocates_no_buffer_once_the_first_are_done() {
    let _alone = alone();
    for (name, model, shape, cond) in networks() {
        let found = on_one_thread(|| allocated(training(model, shape, cond)));
        assert_eq!(found, 0, "{name}: buffers in ten steps");
    }
    for (recipe, network) in [("moons", "{ kind = \"mlp\" }"), ("glyphs", "{ kind = \"unet\", channels = [16, 16], blocks = 1 }")]
    {
        let overrides = [format!("model.network={network}"), "train.batch=8".into()];
        let mut trainer = Trainer::new(RunConfig::load(recipe, &overrides).unwrap(), ".".as_ref()).unwrap();
        let found = on_one_thread(|| allocated(|| assert!(trainer.step().unwrap().loss.is_finite())));
        assert_eq!(found, 0, "recipe {recipe}: buffers in ten steps");
    }
}

#[test]
fn a_run_of_a_solver_allocates_no_buffer_once_there_was_one() {
    let _alone = alone();
    for (name, model, shape, cond) in networks() {
        let found = on_one_thread(|| allocated(sampling(model.clone(), Heun::default(), shape.clone(), cond.clone())));
        assert_eq!(found, 0, "{name}: Heun");
        let found = on_one_thread(|| allocated(sampling(model, EulerMaruyama::default(), shape, cond)));
        assert_eq!(found, 0, "{name}: Euler-Maruyama");
    }
}

/// A number of this process, by its place after the name in `/proc/self/stat`.
#[cfg(target_os = "linux")]
fn of_this_process(place: usize) -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(place).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn twenty_steps_touch_fewer_new_pages_than_one_step_uses_once_the_first_are_done() {
    const MINOR_FAULTS: usize = 7;
    let _alone = alone();
    for (name, model, shape, cond) in networks() {
        let bytes = memory();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let mut steps = training(model, shape, cond);
        let (faults, taken) = pool.install(move || {
            (0..5).for_each(|_| steps());
            let before = of_this_process(MINOR_FAULTS);
            (0..20).for_each(|_| steps());
            (of_this_process(MINOR_FAULTS) - before, memory())
        });
        // Of 4 KiB each. What is left are those of the working memory of products, which the allocator gives back now and then.
        let pages = ((taken.in_use + taken.cached).saturating_sub(bytes.in_use) / 4096) as u64;
        assert!(pages > 400, "{name}: {pages} pages");
        assert!(faults < pages, "{name}: {faults} faults in 20 steps on {pages} pages");
    }
}

#[test]
fn what_a_layer_saved_is_freed_before_the_backward_pass_reaches_the_layers_below() {
    let _alone = alone();
    const LAYERS: usize = 8;
    const SIZE: usize = 1 << 18;
    let x = Noise::new(1, 0).normal(&[1, SIZE], 0, 0, Dtype::F32).track();
    // Bytes in use as the backward pass arrives at each layer, the last first.
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let mut h = x.clone();
    for _ in 0..LAYERS {
        // Each saves what goes into it.
        h = h.sin();
        let arrivals = arrivals.clone();
        h = checkpoint(
            move |t| {
                arrivals.lock().unwrap().push(memory().in_use);
                &t[0] * 1.0
            },
            &[&h],
        );
    }
    let loss = h.sum_all();
    drop(h);
    arrivals.lock().unwrap().clear();
    let saved = memory().in_use;
    grad(loss, &[&x]);
    let arrivals = arrivals.lock().unwrap();
    assert_eq!(arrivals.len(), LAYERS);
    for (done, in_use) in arrivals.iter().enumerate() {
        // Of each layer that is done both tensors are gone; a gradient or two and one evaluation are there.
        let expected = saved - 2 * done * 4 * SIZE + 3 * 4 * SIZE;
        assert!(*in_use <= expected, "after {done} layers {in_use} bytes are in use, of {saved} saved: more than {expected}");
    }
}

/// How often each of the `count` threads of this name's beginning went to sleep, once all but number `here` are asleep, from the system.
#[cfg(target_os = "linux")]
fn sleeps(name: &str, count: usize, here: usize) -> Vec<u64> {
    loop {
        let mut all: Vec<(String, bool, u64)> = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|entry| {
                let status = std::fs::read_to_string(entry.unwrap().path().join("status")).ok()?;
                let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(|text| text.trim().to_owned());
                let thread = field("Name:").filter(|found| found.starts_with(name))?;
                let switches = field("voluntary_ctxt_switches:")?.parse().unwrap();
                Some((thread, field("State:")?.starts_with('S'), switches))
            })
            .collect();
        all.sort();
        // A thread that has just begun has no name yet.
        if all.len() == count && all.iter().enumerate().all(|(i, (_, asleep, _))| i == here || *asleep) {
            return all.into_iter().map(|(_, _, switches)| switches).collect();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn one_point_of_the_plane_wakes_no_other_thread_and_a_batch_of_many_does() {
    const THREADS: usize = 4;
    let _alone = alone();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS).thread_name(|i| format!("point-{i}")).build().unwrap();
    // Threads other than this one that were woken.
    let woken = |batch: usize| {
        let here = rayon::current_thread_index().unwrap();
        let mut sample = sampling(mlp(None, false), Heun::default(), vec![batch, 2], Cond::NONE);
        sample();
        let before = sleeps("point-", THREADS, here);
        sample();
        sleeps("point-", THREADS, here)
            .iter()
            .zip(&before)
            .enumerate()
            .filter(|(i, (after, before))| *i != here && after > before)
            .count()
    };
    let [one, many] = pool.install(|| [1, 4096].map(woken));
    assert_eq!(one, 0, "threads woken for one point");
    assert!(many >= 1, "threads woken for many points");
}
