//! Digits drawn from strokes.
//!
//! A glyph starts as the strokes of one form of its digit, between two hands (see `strokes.rs`). Then, with `u` a
//! fresh uniform number each time and lengths in pixels:
//!
//! 1. a smooth warp moves every point `p` of the pen's path by `Σₖ aₖ sin(2π fₖ·p + φₖ)`, `|fₖ| ≤ 0.8` (three waves);
//! 2. the body gets a height of 15–20 and a width of 0.75–1.15 times that, a slant (shear) of −0.15…0.4 and a
//!    rotation of ±12°;
//! 3. its box is centred on the image, up to 2 pixels off, and always inside it;
//! 4. a round pen of radius `r` from 0.8 to 1.6 runs along the path: with `d` the distance of a pixel's centre from
//!    the path, its coverage is `clamp(½ + r − d, 0, 1)`, an anti-aliased distance field.
//!
//! Pixels are bytes, white on black as in MNIST.

mod strokes;

use std::f64::consts::TAU;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::{Batch, Dataset, from_byte};
use crate::density::{EPOCH, positive_len};
use crate::draws::Draws;
use crate::error::DataError;
use crate::sets::Source;
use fokker_tensor::Tensor;
use fokker_tensor::noise::stream;
use strokes::{DIGITS, Stroke};

const SIDE: usize = 28;

/// 28×28×1 digits drawn by the project itself; the label is the digit, each as likely as the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Glyphs {
    /// The number of samples called an epoch.
    pub len: usize,
    /// The seed all samples follow from.
    pub seed: u64,
}

impl Default for Glyphs {
    fn default() -> Self {
        Glyphs { len: EPOCH, seed: 0 }
    }
}

impl Source for Glyphs {
    fn open(&self, _base: &Path) -> Result<Box<dyn Dataset>, DataError> {
        positive_len(self.len)?;
        Ok(Box::new(self.clone()))
    }
}

impl Dataset for Glyphs {
    fn name(&self) -> &str {
        "glyphs"
    }

    fn len(&self) -> usize {
        self.len
    }

    fn is_unlimited(&self) -> bool {
        true
    }

    fn sample_shape(&self) -> &[usize] {
        &[SIDE, SIDE, 1]
    }

    fn classes(&self) -> Option<usize> {
        Some(DIGITS.len())
    }

    fn levels(&self) -> Option<usize> {
        Some(256)
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        let key = stream("glyphs");
        let mut x = Vec::with_capacity(rows.len() * SIDE * SIDE);
        let mut labels = Vec::with_capacity(rows.len());
        for &row in rows {
            let mut draws = Draws::new(self.seed, key, row as u64);
            let digit = draws.below(DIGITS.len());
            x.extend(draw(digit, &mut draws).iter().map(|&byte| from_byte(byte)));
            labels.push(digit as u32);
        }
        Ok(Batch { x: Tensor::from_vec(&[rows.len(), SIDE, SIDE, 1], x), labels: Some(labels) })
    }
}

type Point = [f64; 2];

/// One digit in a random hand, `SIDE * SIDE` bytes in rows.
fn draw(digit: usize, draws: &mut Draws) -> Vec<u8> {
    let forms = DIGITS[digit];
    let form = forms[draws.below(forms.len())];
    let hand = draws.uniform();
    let mut paths: Vec<Vec<Point>> = form.iter().map(|stroke| path(stroke, hand)).collect();

    let warp = Warp::new(draws);
    let height = draws.between(15.0, 20.0);
    let width = height * draws.between(0.75, 1.15);
    let slant = draws.between(-0.15, 0.4);
    let (sin, cos) = draws.between(-0.21, 0.21).sin_cos();
    for point in paths.iter_mut().flatten() {
        let [x, y] = warp.apply(*point);
        let (x, y) = (width * (x - 0.5), height * (y - 0.5));
        let x = x - slant * y;
        *point = [cos * x - sin * y, sin * x + cos * y];
    }

    let radius = draws.between(0.8, 1.6);
    let off = [draws.between(-2.0, 2.0), draws.between(-2.0, 2.0)];
    place(&mut paths, radius, off);
    render(&paths, radius)
}

/// A sum of three plane waves that bends the unit square.
struct Warp([([f64; 2], f64, [f64; 2]); 3]);

impl Warp {
    fn new(draws: &mut Draws) -> Warp {
        Warp(std::array::from_fn(|_| {
            let (sin, cos) = draws.between(0.0, TAU).sin_cos();
            let frequency = draws.between(0.3, 0.8);
            let phase = draws.between(0.0, TAU);
            let amplitude = [0.025 * draws.normal(), 0.025 * draws.normal()].map(|a| a.clamp(-0.05, 0.05));
            ([frequency * cos, frequency * sin], phase, amplitude)
        }))
    }

    fn apply(&self, [x, y]: Point) -> Point {
        let mut moved = [x, y];
        for ([fx, fy], phase, amplitude) in &self.0 {
            let wave = (TAU * (fx * x + fy * y) + phase).sin();
            moved[0] += amplitude[0] * wave;
            moved[1] += amplitude[1] * wave;
        }
        moved
    }
}

/// The pen's path along a stroke, as short straight pieces.
fn path(stroke: &Stroke, hand: f64) -> Vec<Point> {
    const PIECES: usize = 8;
    let blend = |points: &[[f64; 4]]| -> Vec<Point> {
        points.iter().map(|[x, y, x2, y2]| [x + hand * (x2 - x), y + hand * (y2 - y)]).collect()
    };
    let (points, closed, curved) = match stroke {
        Stroke::Line(points) => (blend(points), false, false),
        Stroke::Curve(points) => (blend(points), false, true),
        Stroke::Loop(points) => (blend(points), true, true),
    };
    let n = points.len();
    // Beyond the ends of an open curve its end points repeat.
    let at = |i: isize| -> Point {
        if closed { points[i.rem_euclid(n as isize) as usize] } else { points[i.clamp(0, n as isize - 1) as usize] }
    };
    let spans = if closed { n } else { n - 1 };
    let mut path = vec![points[0]];
    for i in 0..spans as isize {
        let corners = [at(i - 1), at(i), at(i + 1), at(i + 2)];
        for piece in 1..=PIECES {
            let t = piece as f64 / PIECES as f64;
            path.push(std::array::from_fn(|axis| {
                let [a, b, c, d] = corners.map(|corner| corner[axis]);
                if curved { catmull_rom(a, b, c, d, t) } else { b + t * (c - b) }
            }));
        }
    }
    path
}

/// The uniform Catmull–Rom cubic from `b` (at `t = 0`) to `c` (at `t = 1`) with slopes `(c − a)/2` and `(d − b)/2`.
fn catmull_rom(a: f64, b: f64, c: f64, d: f64, t: f64) -> f64 {
    let (start, end) = ((c - a) / 2.0, (d - b) / 2.0);
    let (t2, t3) = (t * t, t * t * t);
    b * (2.0 * t3 - 3.0 * t2 + 1.0) + start * (t3 - 2.0 * t2 + t) + c * (3.0 * t2 - 2.0 * t3) + end * (t3 - t2)
}

/// Moves the paths' box to the middle of the image plus `off`, keeping the inked box inside the image.
fn place(paths: &mut [Vec<Point>], radius: f64, off: [f64; 2]) {
    let side = SIDE as f64;
    for axis in 0..2 {
        let values = || paths.iter().flatten().map(|point| point[axis]);
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        // Ink reaches half a pixel beyond the pen.
        let room = ((side - (high - low)) / 2.0 - radius - 0.5).max(0.0);
        let centre = side / 2.0 + off[axis].clamp(-room, room);
        for point in paths.iter_mut().flatten() {
            point[axis] += centre - (low + high) / 2.0;
        }
    }
}

/// The image of a round pen of `radius` that ran along the paths.
fn render(paths: &[Vec<Point>], radius: f64) -> Vec<u8> {
    let mut distance = vec![f64::INFINITY; SIDE * SIDE];
    let reach = radius + 0.5;
    for [from, to] in paths.iter().flat_map(|path| path.array_windows::<2>()) {
        // Pixel (i, j) has its centre at (j + ½, i + ½); only those within reach of the piece can change.
        let span = |axis: usize| {
            let low = (from[axis].min(to[axis]) - reach - 0.5).ceil().max(0.0) as usize;
            let high = (from[axis].max(to[axis]) + reach - 0.5).floor().min(SIDE as f64 - 1.0);
            low..if high < 0.0 { 0 } else { high as usize + 1 }
        };
        for i in span(1) {
            for j in span(0) {
                let d = distance_to_piece([j as f64 + 0.5, i as f64 + 0.5], *from, *to);
                let nearest = &mut distance[i * SIDE + j];
                *nearest = nearest.min(d);
            }
        }
    }
    distance.iter().map(|d| (255.0 * (0.5 + radius - d).clamp(0.0, 1.0)).round() as u8).collect()
}

/// The distance from `p` to the straight piece from `a` to `b`.
fn distance_to_piece(p: Point, a: Point, b: Point) -> f64 {
    let (along, to_p) = ([b[0] - a[0], b[1] - a[1]], [p[0] - a[0], p[1] - a[1]]);
    let length2 = along[0] * along[0] + along[1] * along[1];
    let t = if length2 == 0.0 { 0.0 } else { ((to_p[0] * along[0] + to_p[1] * along[1]) / length2).clamp(0.0, 1.0) };
    (to_p[0] - t * along[0]).hypot(to_p[1] - t * along[1])
}
