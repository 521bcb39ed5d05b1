//! How far samples are from the exact distribution, in the distance between exact sets of the same size.
//!
//! ```text
//! SW₂² = mean over directions of W₂² between the projections;  W₂² of sorted numbers p, q: mean of (p_i − q_i)²
//! ```

use std::ops::Range;

use fokker_tensor::{Dtype, Tensor};

use super::oracle::{Oracle, Stream};

/// Samples of one set.
pub const SAMPLES: usize = 2048;
/// Exact sets.
const SETS: usize = 6;
/// Further exact sets, which say how much the ratio of one varies.
const OTHERS: usize = 20;
/// Directions of projection.
const DIRECTIONS: usize = 128;

/// Exact sets of one mixture, and how far apart they are.
pub struct Judge {
    /// Unit vectors in columns, `[D, P]`.
    directions: Tensor,
    sets: Vec<Projections>,
    unit: f64,
    /// What other exact sets get.
    pub exact: Range<f64>,
}

/// The sorted projections of a set, one list per direction.
type Projections = Vec<Vec<f64>>;

impl Judge {
    /// Draws the sets.
    pub fn new(oracle: &Oracle) -> Self {
        let directions = directions(oracle.dim());
        let draw = |k: usize| {
            let x = oracle.model.sample(SAMPLES, Stream::Exact.noise(), (k * SAMPLES) as u64);
            project(&x, &directions)
        };
        let sets: Vec<Projections> = (0..SETS).map(draw).collect();
        let pairs = (0..SETS).flat_map(|i| (0..i).map(move |j| (i, j)));
        let apart: Vec<f64> = pairs.map(|(i, j)| distance(&sets[i], &sets[j])).collect();
        let unit = apart.iter().sum::<f64>() / apart.len() as f64;
        let others = (SETS..SETS + OTHERS).map(|k| mean_distance(&draw(k), &sets) / unit);
        let (least, most) = others.fold((f64::INFINITY, 0.0_f64), |(least, most), r| (least.min(r), most.max(r)));
        Self { directions, sets, unit, exact: least..most }
    }

    /// The samples that make a set.
    pub fn size(&self) -> usize {
        SAMPLES
    }

    /// The mean distance of `x`, `[SAMPLES, D]`, to the exact sets, in the mean distance between these.
    ///
    /// # Panics
    /// If there are more or fewer samples.
    #[track_caller]
    pub fn ratio(&self, x: &Tensor) -> f64 {
        assert_eq!(x.dim(0), SAMPLES, "{} samples beside sets of {SAMPLES}", x.dim(0));
        mean_distance(&project(x, &self.directions), &self.sets) / self.unit
    }
}

/// Equally spaced in the plane, normal vectors scaled to length 1 elsewhere: `[D, P]`.
fn directions(d: usize) -> Tensor {
    if d == 2 {
        let angles = (0..DIRECTIONS).map(|k| std::f64::consts::PI * k as f64 / DIRECTIONS as f64);
        let (x, y): (Vec<f64>, Vec<f64>) = angles.map(|a| (a.cos(), a.sin())).unzip();
        return Tensor::from_vec(&[2, DIRECTIONS], [x, y].concat());
    }
    let normal = Stream::Directions.noise().normal(&[DIRECTIONS, d], 0, 0, Dtype::F64);
    let length = normal.square().sum_keep(&[1]).sqrt();
    (&normal / &length).permute(&[1, 0])
}

fn project(x: &Tensor, directions: &Tensor) -> Projections {
    let projected = x.matmul(directions).permute(&[1, 0]).to_vec::<f64>();
    let sorted = |p: &[f64]| {
        let mut p = p.to_vec();
        p.sort_by(f64::total_cmp);
        p
    };
    projected.chunks(x.dim(0)).map(sorted).collect()
}

fn mean_distance(own: &Projections, sets: &[Projections]) -> f64 {
    sets.iter().map(|set| distance(own, set)).sum::<f64>() / sets.len() as f64
}

fn distance(a: &Projections, b: &Projections) -> f64 {
    let apart = |(p, q): (&Vec<f64>, &Vec<f64>)| p.iter().zip(q).map(|(p, q)| (p - q).powi(2)).sum::<f64>() / p.len() as f64;
    (a.iter().zip(b).map(apart).sum::<f64>() / a.len() as f64).sqrt()
}
