//! Whole metrics at the sizes people use, for developing and for comparing with other libraries:
//! `cargo bench -p fokker-metrics --bench metrics [-- FILTER…]`.
//!
//! `--peers PYTHON` runs scikit-learn's brute force for the same precision and recall in between, repetition by repetition (Python with
//! numpy and scikit-learn). `large` runs 50,000 × 2,048 features (minutes) and says how much memory that took.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use fokker_metrics::{DensityCoverage, Frechet, MetricConfig, Moments, PrecisionRecall, Wasserstein2};
use fokker_tensor::{Dtype, Noise, Tensor};

fn normal(n: usize, width: usize, seed: u64) -> Tensor {
    Noise::new(seed, 1).normal(&[n, width], 0, 0, Dtype::F32)
}

/// Precision and recall with scikit-learn, on 10,000 × 64 normal numbers: what a user of it would write. Answers each line of its input
/// with the seconds that took.
const PEER: &str = "
import sys, time
import numpy as np
from sklearn.neighbors import NearestNeighbors
n, d, k = map(int, sys.argv[1:4])
generator = np.random.default_rng(0)
x, y = (generator.standard_normal((n, d)).astype(np.float32) for _ in range(2))
def inside(of, points):
    search = NearestNeighbors(n_neighbors=k, algorithm='brute').fit(of)
    radii = search.kneighbors()[0][:, -1]
    # Whether some ball holds the point: the distances to all centres, a chunk of points at a time.
    from sklearn.metrics import pairwise_distances_chunked
    check = lambda distances, start: (distances <= radii).any(axis=1)
    return np.concatenate(list(pairwise_distances_chunked(points, of, reduce_func=check)))
for line in sys.stdin:
    start = time.perf_counter()
    precision, recall = inside(x, y).mean(), inside(y, x).mean()
    print(time.perf_counter() - start, precision, recall, flush=True)
";

struct Peer {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn new(python: &str, n: usize, width: usize, k: usize) -> Peer {
        let mut process = Command::new(python)
            .args(["-c", PEER, &n.to_string(), &width.to_string(), &k.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let (input, output) = (process.stdin.take().expect("piped"), process.stdout.take().expect("piped"));
        Peer { process, input, output: BufReader::new(output) }
    }

    fn seconds(&mut self) -> f64 {
        writeln!(self.input, "go").expect("the peer reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the peer answers");
        line.split_whitespace().next().and_then(|s| s.parse().ok()).expect("seconds")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn seconds<R>(f: impl FnOnce() -> R) -> f64 {
    let start = Instant::now();
    black_box(f());
    start.elapsed().as_secs_f64()
}

/// The most memory this process has had, in GiB, where the system says so.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok()).map_or(f64::NAN, |kib| kib / f64::from(1 << 20))
}

/// Two sets of 50,000 × 2,048 features.
fn large() {
    let (x, y) = (normal(50_000, 2048, 1), normal(50_000, 2048, 2));
    let report = |name: &str, seconds: f64| println!("{name:48} {seconds:9.1} s, peak memory {:.2} GiB", peak_memory());
    report("frechet 50000 x 2048", seconds(|| Frechet {}.estimate(&x, &y).expect("good sets")));
    report("density-coverage 50000 x 2048", seconds(|| DensityCoverage::default().estimate(&x, &y).expect("good sets")));
    report("precision-recall 50000 x 2048", seconds(|| PrecisionRecall::default().estimate(&x, &y).expect("good sets")));
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let peers = arguments.iter().position(|a| a == "--peers").map(|i| arguments[i + 1].clone());
    let filter: Vec<&String> = arguments.iter().filter(|&a| a != "--peers" && Some(a) != peers.as_ref()).collect();
    let wanted = |name: &str| filter.is_empty() || filter.iter().any(|f| name.contains(f.as_str()));
    let time = |name: &str, runs: usize, f: &mut dyn FnMut()| {
        if wanted(name) {
            println!("{name:48} {:9.3} s", median((0..runs).map(|_| seconds(&mut *f)).collect()));
        }
    };

    let (n, width) = (10_000, 64);
    let (x, y) = (normal(n, width, 1), normal(n, width, 2));
    let metric = PrecisionRecall::default();
    if wanted("precision-recall 10000 x 64") {
        let mut peer = peers.as_ref().map(|python| Peer::new(python, n, width, metric.k));
        let (mut own, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            own.push(seconds(|| metric.estimate(&x, &y).expect("good sets")));
            theirs.extend(peer.as_mut().map(Peer::seconds));
        }
        print!("{:48} {:9.3} s", "precision-recall 10000 x 64", median(own));
        println!("{}", if theirs.is_empty() { String::new() } else { format!(", scikit-learn {:.3} s", median(theirs)) });
    }
    time("density-coverage 10000 x 64", 3, &mut || {
        black_box(DensityCoverage::default().estimate(&x, &y).expect("good sets"));
    });
    let (a, b) = (normal(2000, 16, 1).to(Dtype::F64), normal(2000, 16, 2).to(Dtype::F64));
    time("exact wasserstein-2 2000 x 16", 3, &mut || {
        black_box(Wasserstein2::exact(&a, &b).expect("good sets"));
    });
    if wanted("frechet from statistics of 2048 features") {
        let of = |seed| Moments::of(&normal(3000, 2048, seed)).and_then(|m| m.statistics()).expect("good sets");
        let (a, b) = (of(1), of(2));
        time("frechet from statistics of 2048 features", 3, &mut || {
            black_box(Frechet::between(&a, &b).expect("covariances"));
        });
    }
    if filter.iter().any(|f| *f == "large") {
        large();
    }
    let (c, d) = (normal(4000, 64, 1), normal(4000, 64, 2));
    for metric in MetricConfig::all() {
        time(&format!("{} 4000 x 64", metric.kind()), 1, &mut || {
            black_box(metric.scores(&c, &d, 0).expect("good sets"));
        });
    }
}
