//! Brownian motion as a function of time: a path for every element, which may be asked for at any times in any order.
//!
//! A virtual Brownian tree (Li et al. 2020, arXiv:2001.01328, section 4; with the area of Jelinčič, Foster & Kidger 2024,
//! arXiv:2405.06464). Nothing is stored: a binary tree of intervals covers the time axis, every node owns two normal
//! numbers of the generator, and a path is evaluated by descending from the root to the time asked for. Refining a grid
//! therefore refines the *same* path.
//!
//! # One interval
//!
//! A path is known on `[a, b]`, `h = b − a`, through its increment and its area against the chord
//!
//! ```text
//! w = W(b) − W(a) ~ N(0, h)        A = ∫_a^b (W(τ) − W(a)) dτ − h w/2 ~ N(0, h³/12)        independent
//! ```
//!
//! Splitting at `c`, with `h₁ = c − a`, `h₂ = b − c`, `p = h₁/h`, `q = h₂/h`, the parts add up to the whole,
//!
//! ```text
//! w = w₁ + w₂        A = A₁ + A₂ + (h₂ w₁ − h₁ w₂)/2
//! ```
//!
//! and given `(w, A)` the left part `(w₁, A₁)` is normal with
//!
//! ```text
//! E w₁ = p w + 6 (p q/h) A      Var w₁ = h p q (1 − 3 p q)         E A₁ = p³ A      Var A₁ = h³ p³ (1 − p³)/12
//! Cov(w₁, A₁) = −h² p⁴ q/2
//! ```
//!
//! (condition the four independent normal numbers `w₁, w₂, A₁, A₂` on the two sums).
//!
//! # The axis
//!
//! Intervals are halved in `ln τ`, so that the path is resolved equally well at every scale: `ln τ` from −64 (which counts as
//! `τ = 0`) to 64 in 2²⁴ leaves of width 2⁻¹⁷. Inside a leaf the path is one more split. Increments between times in
//! different leaves have exactly their distribution, up to `f64` rounding; two times within one leaf have each the right
//! distribution and are right together with all others, but not with each other.

use super::values::box_muller;
use super::{Noise, mix};
use crate::element::Dtype;
use crate::par;
use crate::tensor::{Tensor, by_dtype, count};

/// The largest `ln τ`; its negative is where time starts.
const LIMIT: f64 = 64.0;
/// Halvings from the whole axis to a leaf.
const DEPTH: u32 = 24;

/// A Brownian motion `W(τ)`, `τ ≥ 0`, for every element of every sample of a [`Noise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brownian {
    noise: Noise,
}

/// Where paths are at one time, and all that increments between it and other times need.
#[derive(Clone, Debug)]
pub struct Point {
    /// `ln τ` of all samples, or of each.
    log_times: Vec<f64>,
    /// `W(τ)` and `∫₀^τ W`, `[B, ...]` in `f64`.
    value: Tensor,
    integral: Tensor,
}

/// What a path does between two times, as two independent standard normal numbers `ξ`, `ζ` for each element. With `h` the
/// time between:
///
/// ```text
/// ΔW = √h ξ        ΔZ = ∫ (W(τ) − W(τ₁)) dτ = ½ h^(3/2) (ξ + ζ/√3)
/// ```
#[derive(Clone, Debug)]
pub struct Increment {
    /// `ξ`, the increment.
    pub value: Tensor,
    /// `ζ`, the area between path and chord.
    pub area: Tensor,
}

impl Brownian {
    /// The paths of this seed and stream. They have nothing to do with other draws from the same [`Noise`].
    pub fn new(noise: Noise) -> Self {
        Self { noise: Noise { seed: noise.seed, stream: mix(noise.stream) ^ 0x6272_6f77_6e69_616e } }
    }

    /// The paths of a batch, `[B, ...]`, at times given by their logarithms (`−∞` is time 0): one for all samples, or one for each.
    /// Sample `i` has index `first_sample + i`. Costs 25 pairs of normal numbers per element.
    ///
    /// # Panics
    /// If the shape is empty, the list has neither one entry nor `B`, or a time is above `e⁶⁴` or not a number.
    #[track_caller]
    pub fn at(self, shape: &[usize], first_sample: u64, log_times: &[f64]) -> Point {
        assert!(!shape.is_empty(), "brownian: the shape needs a sample axis");
        let (batch, each) = (shape[0], count(&shape[1..]));
        let times = log_times.len();
        assert!(times == 1 || times == batch, "brownian: {times} times for a batch of shape {shape:?}");
        assert!(each.div_ceil(2) <= u32::MAX as usize, "brownian: {each} elements per sample");
        if let Some(log) = log_times.iter().find(|log| log.is_nan() || **log > LIMIT) {
            panic!("brownian: time is at most e^{LIMIT}, got ln τ = {log}");
        }
        let log_times: Vec<f64> = log_times.iter().map(|log| log.max(-LIMIT)).collect();
        let descents: Vec<Vec<Split>> = log_times.iter().map(|&log| descent(log)).collect();
        let key = self.noise.key();
        let both = Tensor::build(&[batch, 2, each], |out: &mut [f64]| {
            par::pieces(out, 2 * each.max(1), 64 * 2 * out.len(), |i, out| {
                let splits = &descents[if descents.len() == 1 { 0 } else { i }];
                let (value, integral) = out.split_at_mut(each);
                for (block, (value, integral)) in value.chunks_mut(2).zip(integral.chunks_mut(2)).enumerate() {
                    // A block of four words at each node: two normal numbers for each of two elements.
                    let normal = |node: u32| {
                        let words = Noise::words(key, first_sample + i as u64, node, block as u32);
                        [box_muller(words[0], words[1]), box_muller(words[2], words[3])]
                    };
                    let mut walk = Walk::root(normal(0));
                    splits.iter().for_each(|split| walk.step(split, normal(split.node)));
                    value.copy_from_slice(&walk.value[..value.len()]);
                    integral.copy_from_slice(&walk.integral[..integral.len()]);
                }
            });
        });
        let part = |i: usize| both.slice(1, i..i + 1).reshape(shape);
        Point { log_times, value: part(0), integral: part(1) }
    }

    /// What the paths of a batch do between times: [`at`](Self::at) twice.
    ///
    /// # Panics
    /// As [`at`](Self::at) and [`Point::until`] do.
    #[track_caller]
    pub fn increment(self, shape: &[usize], first_sample: u64, log_times: &[(f64, f64)], dtype: Dtype) -> Increment {
        let at = |pick: fn(&(f64, f64)) -> f64| {
            let times: Vec<f64> = log_times.iter().map(pick).collect();
            self.at(shape, first_sample, &times)
        };
        at(|pair| pair.0).until(&at(|pair| pair.1), dtype)
    }
}

impl Point {
    /// What the paths do from here until a later time, `[B, ...]`. Where no time is between, the answer is 0.
    ///
    /// # Panics
    /// If time runs backwards, or the points are not of the same samples.
    #[track_caller]
    pub fn until(&self, later: &Point, dtype: Dtype) -> Increment {
        assert_eq!(self.value.shape(), later.value.shape(), "brownian: points of different batches");
        let (batch, times) = (self.value.dim(0), self.log_times.len().max(later.log_times.len()));
        let pick = |times: &[f64], i: usize| times[if times.len() == 1 { 0 } else { i }];
        let lengths: Vec<f64> = (0..times)
            .map(|i| {
                let (from, to) = (pick(&self.log_times, i), pick(&later.log_times, i));
                assert!(from <= to, "brownian: times must increase, got ln τ = {from} and {to}");
                length(from, to)
            })
            .collect();
        let each = self.value.len() / batch.max(1);
        let [w_1, z_1, w_2, z_2] = [&self.value, &self.integral, &later.value, &later.integral].map(Tensor::as_slice::<f64>);
        let build = |f: &dyn Fn(f64, f64, f64) -> f64| {
            by_dtype!(dtype, T => Tensor::build(self.value.shape(), |out: &mut [T]| {
                for (i, out) in out.iter_mut().enumerate() {
                    let h = pick(&lengths, i / each);
                    let w = w_2[i] - w_1[i];
                    *out = if h == 0.0 { 0.0 } else { f(h, w, z_2[i] - z_1[i] - h * w_1[i]) as T };
                }
            }))
        };
        Increment { value: build(&|h, w, _| w / h.sqrt()), area: build(&|h, w, z| (z - 0.5 * h * w) / (h * h * h / 12.0).sqrt()) }
    }
}

/// The time between two logarithms, without its cancellation.
fn length(from: f64, to: f64) -> f64 {
    if from <= -LIMIT { time(to) } else { from.exp() * (to - from).exp_m1() }
}

/// `τ` of a logarithm, where the lower limit is time 0.
fn time(log: f64) -> f64 {
    if log <= -LIMIT { 0.0 } else { log.exp() }
}

/// The splits from the root down to the time `e^log`, the last one at that time.
fn descent(log: f64) -> Vec<Split> {
    let (mut low, mut high) = (-LIMIT, LIMIT);
    let mut node = 1_u32;
    let mut splits = Vec::with_capacity(DEPTH as usize + 1);
    for _ in 0..DEPTH {
        // Halves of 128 by powers of two: exact.
        let middle = 0.5 * (low + high);
        let right = log >= middle;
        splits.push(Split::new(node, low, middle, high, right));
        if right {
            low = middle;
        } else {
            high = middle;
        }
        node = 2 * node + u32::from(right);
    }
    // Left of the time asked for is all that counts.
    splits.push(Split::new(node, low, log, high, true));
    splits
}

/// One split of an interval, and which part the descent goes on with.
struct Split {
    node: u32,
    right: bool,
    h: f64,
    h_1: f64,
    /// `w₁ = p w + tilt A + spread n₁`.
    p: f64,
    tilt: f64,
    spread: f64,
    /// `A₁ = p³ A + cross n₁ + rest n₂`.
    cube: f64,
    cross: f64,
    rest: f64,
}

impl Split {
    fn new(node: u32, a: f64, c: f64, b: f64, right: bool) -> Self {
        let (h, h_1, h_2) = (length(a, b), length(a, c), length(c, b));
        let (p, q) = (h_1 / h, h_2 / h);
        let cube = p * p * p;
        let spread = (h * p * q * (1.0 - 3.0 * p * q)).max(0.0).sqrt();
        let cross = if spread > 0.0 { -0.5 * h * h * cube * p * q / spread } else { 0.0 };
        let rest = (h * h * h * cube * (1.0 - cube) / 12.0 - cross * cross).max(0.0).sqrt();
        Self { node, right, h, h_1, p, tilt: 6.0 * p * q / h, spread, cube, cross, rest }
    }
}

/// A descent of two elements: the interval it is in, and the path at the interval's start.
#[derive(Clone)]
struct Walk {
    /// `w` and `A` of the interval.
    w: [f64; 2],
    area: [f64; 2],
    /// `W` and `∫ W dτ` from time 0 to the interval's start.
    value: [f64; 2],
    integral: [f64; 2],
}

impl Walk {
    /// The whole axis.
    fn root(normal: [[f64; 2]; 2]) -> Self {
        let h = time(LIMIT);
        let (w, area) = (h.sqrt(), (h * h * h / 12.0).sqrt());
        Self { w: normal.map(|n| w * n[0]), area: normal.map(|n| area * n[1]), value: [0.0; 2], integral: [0.0; 2] }
    }

    fn step(&mut self, split: &Split, normal: [[f64; 2]; 2]) {
        for (i, [n_1, n_2]) in normal.into_iter().enumerate() {
            let (w, area) = (self.w[i], self.area[i]);
            let w_1 = split.p * w + split.tilt * area + split.spread * n_1;
            let area_1 = split.cube * area + split.cross * n_1 + split.rest * n_2;
            if split.right {
                self.integral[i] += split.h_1 * (self.value[i] + 0.5 * w_1) + area_1;
                self.value[i] += w_1;
                self.w[i] = w - w_1;
                self.area[i] = area + 0.5 * (split.h_1 * w - split.h * w_1) - area_1;
            } else {
                (self.w[i], self.area[i]) = (w_1, area_1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: Noise = Noise { seed: 5, stream: 6 };
    const N: usize = 20_000;

    /// `ΔW` and `ΔZ` between two times.
    fn between(from: f64, to: f64) -> (Vec<f64>, Vec<f64>) {
        let found = Brownian::new(NOISE).increment(&[N / 4, 4], 0, &[(from.ln(), to.ln())], Dtype::F64);
        let h = to - from;
        let (value, area) = (found.value.to_vec::<f64>(), found.area.to_vec::<f64>());
        let w = value.iter().map(|x| h.sqrt() * x).collect();
        let z = value.iter().zip(&area).map(|(x, y)| 0.5 * h.powf(1.5) * (x + y / 3.0_f64.sqrt())).collect();
        (w, z)
    }

    fn mean(values: impl Iterator<Item = f64>) -> f64 {
        values.sum::<f64>() / N as f64
    }

    /// Five standard errors of a mean of `N` numbers with this variance.
    fn bound(variance: f64) -> f64 {
        5.0 * (variance / N as f64).sqrt()
    }

    #[test]
    fn increments_and_areas_are_independent_standard_normal_numbers() {
        // Adjacent intervals of very different lengths and scales, across the large splits (τ = 1) and from time 0.
        let times: [f64; 10] = [0.0, 1e-4, 0.03, 0.9, 0.99, 1.0, 1.0001, 3.0, 700.0, 2e5];
        let brownian = Brownian::new(NOISE);
        let mut columns = Vec::new();
        for pair in times.windows(2) {
            let found = brownian.increment(&[N / 4, 4], 0, &[(pair[0].ln(), pair[1].ln())], Dtype::F64);
            columns.push(found.value.to_vec::<f64>());
            columns.push(found.area.to_vec::<f64>());
        }
        for (i, a) in columns.iter().enumerate() {
            assert!(mean(a.iter().copied()).abs() < bound(1.0), "mean of column {i}");
            assert!((mean(a.iter().map(|x| x.powi(4))) - 3.0).abs() < bound(96.0), "fourth moment of column {i}");
            assert!((mean(a.iter().map(|x| x * x)) - 1.0).abs() < bound(2.0), "variance of column {i}");
            for (j, b) in columns.iter().enumerate().take(i) {
                let correlation = mean(a.iter().zip(b).map(|(x, y)| x * y));
                assert!(correlation.abs() < bound(1.0), "columns {i} and {j}: {correlation}");
            }
        }
    }

    #[test]
    fn the_parts_of_an_interval_add_up_to_the_whole_path() {
        for (a, c, b) in [(0.2, 0.3, 0.7), (0.0, 1e-3, 5.0), (0.9, 1.1, 40.0), (1.0, 1.001, 1.002), (1e3, 2e3, 1e5)] {
            let ((w, z), (w_1, z_1), (w_2, z_2)) = (between(a, b), between(a, c), between(c, b));
            for i in 0..N {
                let scale = (b - a).sqrt();
                assert!((w_1[i] + w_2[i] - w[i]).abs() < 1e-11 * scale, "increments over [{a}, {c}, {b}]");
                let sum = z_1[i] + z_2[i] + (b - c) * w_1[i];
                // Relative to ∫ W, of which the area of a short interval is a small part.
                assert!((sum - z[i]).abs() < 1e-13 * b.powf(1.5) + 1e-11 * scale.powi(3), "areas over [{a}, {c}, {b}]");
            }
        }
    }

    #[test]
    fn the_covariance_of_a_path_is_the_smaller_time() {
        let (s, t) = (0.37, 2.9);
        let (at_s, at_t) = (between(0.0, s).0, between(0.0, t).0);
        let covariance = mean(at_s.iter().zip(&at_t).map(|(a, b)| a * b));
        assert!((covariance - s).abs() < bound(s * t + s * s), "{covariance}");
        // ∫ W over [0, t] with W(t): t²/2, with itself: t³/3.
        let area = between(0.0, t).1;
        let covariance = mean(area.iter().zip(&at_t).map(|(a, b)| a * b));
        assert!((covariance - t * t / 2.0).abs() < bound(t.powi(4) * (1.0 / 3.0 + 0.25)), "{covariance}");
        let variance = mean(area.iter().map(|a| a * a));
        assert!((variance - t.powi(3) / 3.0).abs() < bound(2.0 * (t.powi(3) / 3.0).powi(2)), "{variance}");
    }

    #[test]
    fn a_sample_has_the_same_path_in_any_batch_on_any_number_of_threads_with_any_times_of_others() {
        let brownian = Brownian::new(NOISE);
        let times = (-1.0, 0.5);
        let whole = brownian.increment(&[64, 5], 100, &[times], Dtype::F64);
        let one = brownian.increment(&[1, 5], 117, &[times], Dtype::F64);
        let mut each = vec![(-3.0, 2.0); 64];
        each[17] = times;
        let mixed = brownian.increment(&[64, 5], 100, &each, Dtype::F64);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let threaded = pool.install(|| brownian.increment(&[64, 5], 100, &[times], Dtype::F64));
        for pick in [|i: &Increment| i.value.clone(), |i: &Increment| i.area.clone()] {
            let row = |i: &Increment| pick(i).slice(0, 17..18).to_vec::<f64>();
            assert_eq!(row(&whole), pick(&one).to_vec::<f64>());
            assert_eq!(row(&whole), row(&mixed));
            assert_eq!(pick(&whole).to_vec::<f64>(), pick(&threaded).to_vec::<f64>());
            assert_ne!(row(&whole), pick(&whole).slice(0, 18..19).to_vec::<f64>());
        }
        // f32 numbers are the f64 ones rounded; no time, no increment.
        let single = brownian.increment(&[64, 5], 100, &[times], Dtype::F32);
        assert_eq!(single.value.to_vec::<f32>(), whole.value.to(Dtype::F32).to_vec::<f32>());
        let none = brownian.increment(&[1, 5], 0, &[(0.5, 0.5)], Dtype::F64);
        assert_eq!((none.value.to_vec::<f64>(), none.area.to_vec::<f64>()), (vec![0.0; 5], vec![0.0; 5]));
    }

    #[test]
    #[should_panic(expected = "times must increase")]
    fn times_in_the_wrong_order_are_refused() {
        let _ = Brownian::new(NOISE).increment(&[1, 1], 0, &[(0.5, 0.4)], Dtype::F64);
    }
}
