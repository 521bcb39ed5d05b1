//! How a peer is asked for a measurement and how it answers, and the sizes of the benchmark's networks.
//!
//! ```text
//! RAYON_NUM_THREADS=2 peer-candle --workload mlp-train --reps 10 --seconds 20
//! peer-candle --describe                                             the networks' numbers of parameters
//! ```
//!
//! The answer is the last line of standard output, in JSON: `{workload, setting, threads, ms_all, peak_rss_mb, value}`, or
//! `{workload, setting, unsupported}` with the reason. `tests/reference/bench/peers.py` says what the workloads are.

use std::time::Instant;

/// A call to be timed: gives the loss (training) or one value of the output.
pub type Call = Box<dyn FnMut() -> f32>;

/// Why a peer cannot run a workload: the peer's own words.
pub type Unsupported = String;

/// The points' network: a SiLU between any two layers.
pub const MLP: [usize; 5] = [66, 256, 256, 256, 2];
/// Its parameters.
pub const MLP_PARAMETERS: usize = 149_250;

/// Width, heads, and the shape `[batch, tokens, width]` of the transformer block.
pub const BLOCK: (usize, usize, [usize; 3]) = (384, 6, [16, 256, 384]);
/// Its parameters.
pub const BLOCK_PARAMETERS: usize = 1_774_464;

/// A U-Net of 32×32 images with two residual blocks per level.
#[derive(Clone, Copy)]
pub struct UNet {
    /// Channels of the image.
    pub pixels: usize,
    /// Images per call.
    pub batch: usize,
    /// Channels of each level.
    pub levels: [usize; 4],
    /// The level with attention, which the middle has too.
    pub attention: usize,
    /// Channels per head.
    pub head: usize,
    /// Groups of group norm.
    pub groups: usize,
    /// Its parameters.
    pub parameters: usize,
}

/// The U-Net of a workload, if it has one.
pub fn unet(workload: &str) -> Option<UNet> {
    let mnist =
        UNet { pixels: 1, batch: 64, levels: [32, 64, 128, 128], attention: 2, head: 8, groups: 8, parameters: 6_337_345 };
    let cifar =
        UNet { pixels: 3, batch: 8, levels: [128, 256, 256, 256], attention: 1, head: 256, groups: 32, parameters: 35_746_307 };
    match workload {
        "cifar-single" => Some(UNet { batch: 1, ..cifar }),
        _ if workload.starts_with("mnist") => Some(mnist),
        _ if workload.starts_with("cifar") => Some(cifar),
        _ => None,
    }
}

/// Frequencies of a sinusoidal embedding of `channels` numbers.
pub fn frequencies(channels: usize) -> Vec<f32> {
    let half = channels / 2;
    (0..half).map(|i| (-(i as f64) / half as f64 * 10_000_f64.ln()).exp() as f32).collect()
}

/// Times `t > s` and the three factors of each Euler–Maruyama step of the reverse VP SDE with a network that predicts the noise:
/// `x ← a x − b ε̂ + c z`.
pub fn euler_maruyama(steps: usize) -> Vec<(f64, [f64; 3])> {
    let (beta_0, beta_1) = (0.1, 20.0);
    let time = |i: usize| 1.0 + (1e-3 - 1.0) * i as f64 / steps as f64;
    let step = |i: usize| {
        let (t, s) = (time(i), time(i + 1));
        let (beta, h) = (beta_0 + t * (beta_1 - beta_0), t - s);
        let sigma = (1.0 - (-beta_0 * t - 0.5 * t * t * (beta_1 - beta_0)).exp()).sqrt();
        (t, [1.0 + 0.5 * beta * h, beta * h / sigma, (beta * h).sqrt()])
    };
    (0..steps).map(step).collect()
}

/// The 18 noise levels of EDM and zero.
pub fn edm_levels() -> Vec<f64> {
    let (low, high, rho, steps) = (0.002_f64, 80.0_f64, 7.0, 18);
    let root = |sigma: f64| sigma.powf(1.0 / rho);
    let level = |i: usize| (root(high) + i as f64 / (steps - 1) as f64 * (root(low) - root(high))).powf(rho);
    (0..steps).map(level).chain([0.0]).collect()
}

/// EDM's factors at a noise level: `c_skip`, `c_out`, `c_in`, `c_noise`.
pub fn edm_factors(sigma: f64) -> [f64; 4] {
    let total = sigma * sigma + 0.25;
    [0.25 / total, sigma * 0.5 / total.sqrt(), 1.0 / total.sqrt(), 0.25 * sigma.ln()]
}

/// Peak resident memory of this process in MB; 0 where the system does not tell.
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap_or(0.0) / 1024.0
}

/// Runs the program: `build` makes a workload's call, and tries it once where it trains; `parameters` counts those of a network.
pub fn run(setting: &str, build: impl Fn(&str) -> Result<Call, Unsupported>, parameters: impl Fn(&str) -> usize) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).map(String::as_str);
    if arguments.iter().any(|a| a == "--describe") {
        ["mlp", "mnist", "cifar", "block"].iter().for_each(|name| println!("{name}: {} parameters", parameters(name)));
        return;
    }
    let workload = option("--workload").expect("--workload NAME");
    let reps: usize = option("--reps").unwrap_or("10").parse().expect("--reps N");
    let seconds: f64 = option("--seconds").unwrap_or("inf").parse().expect("--seconds S");
    let threads = std::env::var("RAYON_NUM_THREADS").expect("RAYON_NUM_THREADS, the number of threads");
    let common = serde_json::json!({ "workload": workload, "setting": setting, "threads": threads });
    let answer = |rest: serde_json::Value| {
        let mut all = common.clone();
        all.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
        println!("{all}");
    };
    let mut call = match build(workload) {
        Ok(call) => call,
        Err(reason) => return answer(serde_json::json!({ "unsupported": reason })),
    };
    let warm_up = match workload.split('-').next_back() {
        Some("sample") => 0,
        _ if workload.starts_with("mlp") => 10,
        // Training has taken a step already: see `build`.
        Some("train") => 0,
        _ => 1,
    };
    (0..warm_up).for_each(|_| assert!(call().is_finite(), "{workload}: a value is not finite"));
    let mut value = f32::NAN;
    let (begin, mut ms_all) = (Instant::now(), Vec::new());
    while ms_all.is_empty() || (ms_all.len() < reps && begin.elapsed().as_secs_f64() < seconds) {
        let started = Instant::now();
        value = call();
        ms_all.push(started.elapsed().as_secs_f64() * 1e3);
    }
    assert!(value.is_finite(), "{workload}: the last value is {value}");
    answer(serde_json::json!({ "ms_all": ms_all, "peak_rss_mb": peak_rss_mb(), "value": value }));
}
