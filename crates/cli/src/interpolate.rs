//! `fokker interpolate`.

use std::path::PathBuf;

use clap::Args;
use fokker_data::{Grid, Picture};
use fokker_tensor::{Dtype, Tensor};
use fokker_train::{Classes, Generate, decode, encode, interpolate};

use crate::failure::Failure;
use crate::method::{Method, Opened};
use crate::print;
use crate::rows::Rows;
use crate::sample::{SampleBar, check_output, has_picture, write};

#[derive(Args)]
#[command(after_help = "Examples:\n  fokker interpolate runs/mnist test --from 3 --to 8 --out path.png\n  \
                        fokker interpolate runs/moons --points 50 --out path.npy --solver exponential-adams --steps 50")]
pub(crate) struct Interpolate {
    #[command(flatten)]
    method: Method,
    #[command(flatten)]
    rows: Rows,
    /// The sample that the path begins at, counted from 0.
    #[arg(long, value_name = "I", default_value_t = 0)]
    from: usize,
    /// The sample that it ends at.
    #[arg(long, value_name = "J", default_value_t = 1)]
    to: usize,
    /// Samples on the path, both ends among them.
    #[arg(long, value_name = "N", default_value_t = 9)]
    points: usize,
    /// What to write: .png (the samples in a row: the two of the data, and between them the path), or .npy (the path: f32,
    /// in the data's units) [default: RUN/path.png, or path.npy where there is no picture].
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

/// The longest path.
const MOST: usize = 10_000;

impl Interpolate {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if !(2..=MOST).contains(&self.points) {
            return Err(Failure::usage(format!("--points {}: expected from 2 to {MOST}", self.points)));
        }
        let mut opened = self.method.open(self.rows.count)?;
        let shape = opened.model.config.sample_shape.clone();
        let default = if has_picture(&shape) { "path.png" } else { "path.npy" };
        let out = self.out.clone().unwrap_or_else(|| opened.folder.join(default));
        match out.extension().and_then(|e| e.to_str()) {
            Some("png" | "npy") => check_output(&out, &shape)?,
            _ => return Err(Failure::usage(format!("--out {}: expected a file ending in .png or .npy", out.display()))),
        }
        let x = self.rows.reading(self.from.max(self.to) + 1).read(&mut opened, &self.method.which)?.x;
        for (option, row) in [("--from", self.from), ("--to", self.to)] {
            if row >= x.dim(0) {
                return Err(Failure::usage(format!("{option} {row}: the data have {} samples, counted from 0", x.dim(0))));
            }
        }
        let Opened { model, request, .. } = opened;

        let ends = x.gather(&[self.from, self.to]);
        let class = |row: usize| match &request.classes {
            Classes::Each(labels) => Some(labels[row]),
            _ => None,
        };
        // Each end is of its own class, and the path of that of the nearer end.
        let labelled = |classes: Vec<Option<u32>>| Generate {
            count: classes.len(),
            classes: classes.into_iter().collect::<Option<Vec<_>>>().map_or(request.classes.clone(), Classes::Each),
            ..request.clone()
        };
        let middle = self.points.div_ceil(2);
        let classes = (0..self.points).map(|i| class(if i < middle { self.from } else { self.to })).collect();
        let mut bar = SampleBar::new("encode", 2);
        let codes = encode(&model, &labelled(vec![class(self.from), class(self.to)]), &ends, &mut [&mut bar])?;
        bar.finish();
        let row = |x: &Tensor, i: usize| x.slice(0, i..i + 1);
        let path = interpolate(&row(&codes.x, 0), &row(&codes.x, 1), self.points);
        let mut bar = SampleBar::new("decode", self.points);
        let found = decode(&model, &labelled(classes), &path, &mut [&mut bar])?;
        bar.finish();
        self.write(&found.x, &ends, &out)?;

        let last = self.points - 1;
        let again = Tensor::concat(&[&row(&found.x, 0), &row(&found.x, last)], 0);
        let rms = |x: &Tensor| x.to(Dtype::F64).square().mean_all().item().sqrt();
        print::say(format_args!(
            "path of {} samples: {}, with {} network calls both ways",
            self.points,
            out.display(),
            codes.nfe + found.nfe
        ));
        print::say(format_args!(
            "round trip of its ends: root mean square error {:.3e} in the data's units",
            rms(&(&again - &ends.to(again.dtype())))
        ));
        Ok(())
    }

    fn write(&self, path: &Tensor, ends: &Tensor, out: &std::path::Path) -> Result<(), Failure> {
        let is_strip = out.extension().is_some_and(|e| e == "png") && path.rank() == 4;
        if !is_strip {
            return write(path, out);
        }
        let ends = ends.to(path.dtype());
        let strip = Tensor::concat(&[&ends.slice(0, 0..1), path, &ends.slice(0, 1..2)], 0);
        let zoom = (64 / strip.dim(1).max(1)).max(1);
        Ok(Picture::grid(&strip, &Grid { columns: Some(strip.dim(0)), zoom, ..Grid::default() }).save_png(out)?)
    }
}
