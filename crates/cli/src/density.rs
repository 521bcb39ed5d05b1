//! A picture of the density that a model of points has learned, beside its data.

use std::fmt;
use std::path::{Path, PathBuf};

use fokker_data::{Picture, Scatter};
use fokker_models::DiffusionModel;
use fokker_solve::{Divergence, Likelihood};
use fokker_tensor::Tensor;
use fokker_train::{Classes, Generate, Scoring};

use crate::failure::Failure;
use crate::method::{Opened, Which};
use crate::progress::Progress;
use crate::rows::Rows;

/// What was drawn.
pub(crate) struct Drawn {
    /// The sum of the density over the square, which is 1 if it holds all of the model.
    pub(crate) integral: f64,
    /// The middle of the square and half its width.
    square: ([f64; 2], f64),
    path: PathBuf,
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([x, y], half) = self.square;
        write!(
            f,
            "density: {}; its integral over [{:.2}, {:.2}] x [{:.2}, {:.2}] is {:.4}",
            self.path.display(),
            x - half,
            x + half,
            y - half,
            y + half,
            self.integral
        )
    }
}

/// The points of the data's half.
const POINTS: usize = 20_000;

/// The most values in a row that are asked for.
const MOST: usize = 2000;

/// The tolerance of a picture, unless a larger one is asked for.
const TOLERANCE: f64 = 1e-4;

/// Whether there is such a picture of the model.
pub(crate) fn check(path: &Path, model: &DiffusionModel, side: usize) -> Result<(), Failure> {
    if model.config.sample_shape != [2] {
        let found = &model.config.sample_shape;
        return Err(Failure::usage(format!("--density {}: expected a model of points [2], found {found:?}", path.display())));
    }
    if !(2..=MOST).contains(&side) {
        return Err(Failure::usage(format!("--density-side {side}: expected from 2 to {MOST}")));
    }
    Ok(())
}

/// Computes the density on a grid around the data, and writes the picture.
pub(crate) fn draw(
    path: &Path,
    side: usize,
    opened: &Opened,
    likelihood: &Likelihood,
    rows: &Rows,
    which: &Which,
) -> Result<Drawn, Failure> {
    let Opened { model, request, config, .. } = opened;
    let class = match request.classes {
        Classes::Only(class) if which.class.is_some() => Some(class),
        _ => None,
    };
    let points = rows.points(config.as_ref(), POINTS, class)?;
    // A whole number of pixels for each value, about 480 in all.
    let scatter = Scatter { side: side * 480_usize.div_ceil(side).max(1), ..Scatter::around(&points) };
    let grid = scatter.cells(side);
    let classes = class.map_or(Classes::Unconditional, Classes::Only);
    let request = Generate { count: side * side, batch: request.batch.max(1024), classes, ..request.clone() };
    let scoring = Scoring { likelihood: roughly(likelihood), dequantisation: None };
    let mut progress = Progress::new("density", 0, request.count as u64);
    let found = scoring.run(model, &request, &grid, &mut |done| progress.set(done as u64, ""))?;
    progress.finish();
    let density: Vec<f64> = found.values.iter().map(|value| value.exp()).collect();
    let cell = (2.0 * scatter.half_width / side as f64).powi(2);
    let integral = density.iter().sum::<f64>() * cell;
    let (learned, data) = scatter.beside(&Tensor::from_vec(&[side, side], density), &points);
    Picture::row(&[learned, data], 8).save_png(path)?;
    Ok(Drawn { integral, square: (scatter.centre, scatter.half_width), path: path.to_owned() })
}

/// The same at the tolerance of a picture, with the exact trace: of points it takes two products, and the mean of `exp(ln p + error)` over random probes
/// is not `p`, so that the integral would not be 1.
fn roughly(likelihood: &Likelihood) -> Likelihood {
    let integrator = likelihood.integrator.clone().map_tolerances(|tolerance| tolerance.max(TOLERANCE));
    Likelihood { divergence: Divergence::Exact, integrator, ..likelihood.clone() }
}
