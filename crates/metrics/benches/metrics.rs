//! Whole metrics at the sizes people use, for developing and for comparing with other libraries:
//! `cargo bench -p fokker-metrics --bench metrics [-- FILTER…]`.
//!
//! `--peers PYTHON` runs scikit-learn's brute force for the same precision and recall in between, repetition by repetition (Python with
//! numpy and scikit-learn); beside the time that went by stands the processors', which depends less on what else the machine does.
//!
//! `large [COUNT [KIND…]]` runs every metric (or some) on COUNT × 2,048 features, 50,000 if not said otherwise, each in a process of its own, and
//! says how long it took and how much memory the process had at most, both sets included. It fails if that was above 4 GiB. Minutes for each that looks
//! at all pairs, whose time grows with the square of COUNT; memory grows with COUNT.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use fokker_metrics::{DensityCoverage, Frechet, Manifold, MetricConfig, Moments, PrecisionRecall, Wasserstein2};
use fokker_tensor::{Dtype, Noise, Tensor};

fn normal(n: usize, width: usize, seed: u64) -> Tensor {
    Noise::new(seed, 1).normal(&[n, width], 0, 0, Dtype::F32)
}

/// Precision and recall with scikit-learn, on 10,000 × 64 normal numbers: what a user of it would write. Answers each line of its input
/// with the seconds that took, and the processors' seconds.
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
    start, busy = time.perf_counter(), time.process_time()
    precision, recall = inside(x, y).mean(), inside(y, x).mean()
    print(time.perf_counter() - start, time.process_time() - busy, precision, recall, flush=True)
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

    fn seconds(&mut self) -> [f64; 2] {
        writeln!(self.input, "go").expect("the peer reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the peer answers");
        let mut numbers = line.split_whitespace().map(|s| s.parse().expect("seconds"));
        [numbers.next().expect("seconds"), numbers.next().expect("the processors' seconds")]
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

/// The seconds that this process's threads have run, in hundredths, where the system says so.
fn processor_seconds() -> f64 {
    let status = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in brackets: the state, ten more, then user and system time.
    let after = status.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |n: usize| after.split_whitespace().nth(n).and_then(|s| s.parse::<f64>().ok());
    ticks(11).zip(ticks(12)).map_or(f64::NAN, |(user, system)| (user + system) / 100.0)
}

/// Features of the usual width.
const WIDTH: usize = 2048;

/// What all metrics are to do with in 50,000 × 2,048 features.
const MOST_GIB: f64 = 4.0;

/// One metric on two sets of so many features, in this process.
fn one(kind: &str, count: usize) {
    let (x, y) = (normal(count, WIDTH, 1), normal(count, WIDTH, 2));
    let took = seconds(|| {
        if kind == "manifold" {
            let (real, generated) = (Manifold::real(&x, 5).expect("good sets"), Manifold::generated(&y, 3).expect("good sets"));
            drop(real.meet(&generated, &PrecisionRecall::default(), &DensityCoverage::default()).expect("good sets"));
        } else {
            let metric = MetricConfig::with_defaults(kind).expect("a metric");
            black_box(metric.scores(&x, &y, 0).expect("good sets"));
        }
    });
    println!("{took} {} {}", processor_seconds(), peak_memory());
}

/// Every metric, or those that are named, in a process each. Whether all stayed below the bound.
fn large(arguments: &[String]) -> bool {
    let (count, kinds) = match arguments.split_first().map(|(first, rest)| (first.parse::<usize>(), rest)) {
        Some((Ok(count), rest)) => (count, rest),
        _ => (50_000, arguments),
    };
    let known = MetricConfig::all().into_iter().map(|m| m.kind()).chain(["manifold"]);
    let mut within = true;
    for kind in known.filter(|kind| kinds.is_empty() || kinds.iter().any(|k| k == kind)) {
        let own = std::env::current_exe().expect("this program has a file");
        let output = Command::new(own).args(["--one", kind, &count.to_string()]).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|s| s.parse().ok()).collect();
        let &[wall, busy, memory] = &numbers[..] else { panic!("{kind}: {}", String::from_utf8_lossy(&output.stderr)) };
        let name = format!("{kind} {count} x {WIDTH}");
        println!("{name:48} {wall:9.1} s, {busy:.0} s of processors, peak memory {memory:.2} GiB");
        within &= memory <= MOST_GIB;
    }
    within
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("--one") => return one(&arguments[1], arguments[2].parse().expect("a number of vectors")),
        Some("large") => {
            assert!(large(&arguments[1..]), "more than {MOST_GIB} GiB");
            return;
        }
        _ => {}
    }
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
        let (mut own, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..7 {
            let before = processor_seconds();
            own[0].push(seconds(|| metric.estimate(&x, &y).expect("good sets")));
            own[1].push(processor_seconds() - before);
            for (all, found) in theirs.iter_mut().zip(peer.as_mut().map(Peer::seconds).into_iter().flatten()) {
                all.push(found);
            }
        }
        let [wall, busy] = own.map(median);
        print!("{:48} {wall:9.3} s ({busy:.2} s of processors)", "precision-recall 10000 x 64");
        let [their_wall, their_busy] = theirs.map(|all| if all.is_empty() { f64::NAN } else { median(all) });
        println!(
            "{}",
            if peer.is_none() {
                String::new()
            } else {
                format!(", scikit-learn {their_wall:.3} s ({their_busy:.2} s of processors)")
            }
        );
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
    let (c, d) = (normal(4000, 64, 1), normal(4000, 64, 2));
    for metric in MetricConfig::all() {
        time(&format!("{} 4000 x 64", metric.kind()), 1, &mut || {
            black_box(metric.scores(&c, &d, 0).expect("good sets"));
        });
    }
}
