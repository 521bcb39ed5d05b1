//! The machine's roofs: fused multiply-adds of `f32` per second, and bytes per second from caches and memory.

use std::hint::black_box;
use std::sync::Mutex;
use std::time::Instant;

use pulp::{Simd, WithSimd};
use serde::{Deserialize, Serialize};

use super::least_seconds;

/// What this number of threads can do together.
#[derive(Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) threads: usize,
    /// Floating point operations per second, two for a multiply-add.
    pub(super) peak: f64,
    /// Widest vectors, in numbers of `f32`.
    pub(super) lanes: usize,
    /// From the nearest memory to the farthest, which holds everything.
    pub(super) levels: Vec<Level>,
}

/// A cache or the main memory.
#[derive(Serialize, Deserialize)]
pub(super) struct Level {
    pub(super) name: String,
    /// Bytes it holds, in all threads' parts together; `None` for main memory.
    pub(super) holds: Option<f64>,
    /// Bytes per second: the greater of reading and copying.
    pub(super) bandwidth: f64,
    pub(super) reading: f64,
    pub(super) copying: f64,
}

impl Machine {
    pub(super) fn measure(threads: usize) -> Machine {
        let (peak, lanes) = peak(threads);
        let (l2, l3) = (cache(2).unwrap_or(1 << 20), cache(3).unwrap_or(16 << 20));
        // Half of the private cache; a part of the shared one, which others use too; far more than either.
        let levels =
            [("L2", Some((l2 * threads) as f64), l2 / 2 * threads), ("L3", Some(l3 as f64), l3 / 4), ("memory", None, 256 << 20)];
        let levels = levels
            .into_iter()
            .map(|(name, holds, bytes)| {
                let (reading, copying) = (bandwidth(threads, bytes, read), bandwidth(threads, bytes, copy));
                Level { name: name.into(), holds, bandwidth: reading.max(copying), reading, copying }
            })
            .collect();
        Machine { processor: processor(), threads, peak, lanes, levels }
    }

    /// The best of both.
    pub(super) fn best(mut self, other: Machine) -> Machine {
        self.peak = self.peak.max(other.peak);
        for (a, b) in self.levels.iter_mut().zip(other.levels) {
            (a.reading, a.copying) = (a.reading.max(b.reading), a.copying.max(b.copying));
            a.bandwidth = a.reading.max(a.copying);
        }
        self
    }

    /// The nearest level that holds so many bytes.
    pub(super) fn level(&self, bytes: f64) -> &Level {
        self.levels.iter().find(|level| level.holds.is_none_or(|holds| bytes <= holds)).expect("memory holds everything")
    }
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned()));
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Bytes of the data cache of this level, where the system tells.
fn cache(level: u32) -> Option<usize> {
    (0..8).find_map(|i| {
        let read = |what: &str| std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{i}/{what}")).ok();
        let is_it = read("level")?.trim() == level.to_string() && read("type")?.trim() != "Instruction";
        let size = read("size")?;
        let kilobytes: usize = size.trim().strip_suffix('K')?.parse().ok()?;
        is_it.then_some(kilobytes << 10)
    })
}

/// Multiply-adds that do not wait for each other: enough to fill two units of latency four, few enough for the registers.
struct MultiplyAdds {
    rounds: usize,
}

const CHAINS: usize = 12;

impl WithSimd for MultiplyAdds {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let (a, b) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(1e-3)));
        let mut chains = [a; CHAINS];
        for _ in 0..self.rounds {
            for chain in &mut chains {
                *chain = simd.mul_add_e_f32s(*chain, a, b);
            }
        }
        let sum = chains.into_iter().fold(b, |sum, chain| simd.add_f32s(sum, chain));
        black_box(simd.reduce_sum_f32s(sum));
        S::F32_LANES
    }
}

/// Operations per second, and lanes of the widest vectors.
fn peak(threads: usize) -> (f64, usize) {
    let rounds = 200_000;
    let mut lanes = 1;
    let seconds = least_seconds(|| lanes = rayon::broadcast(|_| pulp::Arch::new().dispatch(MultiplyAdds { rounds }))[0]);
    ((2 * rounds * CHAINS * lanes * threads) as f64 / seconds, lanes)
}

/// Operations per second in the next ten milliseconds or so, which is longer than a turn of another program.
pub(super) fn peak_now(machine: &Machine) -> f64 {
    let rounds = 3_000_000;
    let started = Instant::now();
    rayon::broadcast(|_| pulp::Arch::new().dispatch(MultiplyAdds { rounds }));
    (2 * rounds * CHAINS * machine.lanes * machine.threads) as f64 / started.elapsed().as_secs_f64()
}

struct Sum<'a>(&'a [f32]);

impl WithSimd for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        const CHAINS: usize = 8;
        let (head, _) = S::as_simd_f32s(self.0);
        let mut sums = [simd.splat_f32s(0.0); CHAINS];
        for group in head.chunks_exact(CHAINS) {
            for (sum, x) in sums.iter_mut().zip(group) {
                *sum = simd.add_f32s(*sum, *x);
            }
        }
        black_box(simd.reduce_sum_f32s(sums.into_iter().reduce(|a, b| simd.add_f32s(a, b)).expect("some")));
    }
}

/// Reads both halves.
fn read(from: &mut [f32], to: &mut [f32]) {
    let arch = pulp::Arch::new();
    arch.dispatch(Sum(from));
    arch.dispatch(Sum(to));
}

/// Copies one half into the other.
fn copy(from: &mut [f32], to: &mut [f32]) {
    black_box(to).copy_from_slice(black_box(from));
}

/// Bytes per second that the threads move together, each in its own part of so many bytes.
fn bandwidth(threads: usize, bytes: usize, each: impl Fn(&mut [f32], &mut [f32]) + Sync) -> f64 {
    let floats = bytes / 4 / threads;
    let parts: Vec<Mutex<Vec<f32>>> = (0..threads).map(|_| Mutex::new(vec![1.0; floats])).collect();
    // So many passes that the threads' meeting does not count.
    let passes = (16_usize << 20).div_ceil(bytes);
    let seconds = least_seconds(|| {
        rayon::broadcast(|context| {
            let mut part = parts[context.index()].lock().expect("each thread has its own");
            let (from, to) = part.split_at_mut(floats / 2);
            (0..passes).for_each(|_| each(from, &mut to[..from.len()]));
        });
    });
    (passes * bytes) as f64 / seconds
}
