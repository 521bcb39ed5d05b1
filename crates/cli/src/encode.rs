//! `fokker encode`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use fokker_data::sets::{Array, Images};
use fokker_data::{DataConfig, Dataset, write_npy};
use fokker_tensor::{Dtype, Tensor};
use fokker_train::{Classes, RunConfig, SampleSection, decode, encode};

use crate::failure::Failure;
use crate::method::{Method, Opened};
use crate::print;
use crate::progress::duration;
use crate::sample::SampleBar;

/// How many are taken of a set without end.
const OF_UNLIMITED: usize = 100;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  fokker encode runs/moons -n 500 --out codes.npy\n  fokker sample runs/moons --noise codes.npy --out again.npy\n  \
                        fokker encode runs/mnist digits.npy --solver exponential-adams --steps 50"
)]
pub(crate) struct Encode {
    #[command(flatten)]
    method: Method,
    /// An .npy or .npz array [N, ...] in the data's units, a folder or zip of images, or a generated data set's name [default: what
    /// the run was trained on].
    data: Option<PathBuf>,
    /// Number of samples, the first of the data [default: all, 100 of generated data].
    #[arg(short = 'n', long = "count", value_name = "N")]
    count: Option<usize>,
    /// The noise, f32 [N, ...]: standard normal numbers, as far as the model is right [default: RUN/codes.npy].
    #[arg(long, value_name = "NPY")]
    out: Option<PathBuf>,
}

impl Encode {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Opened { model, mut request, config, folder } = self.method.open(self.count)?;
        let out = self.out.clone().unwrap_or_else(|| folder.join("codes.npy"));
        if out.extension().and_then(|e| e.to_str()) != Some("npy") {
            return Err(Failure::usage(format!("--out {}: expected a file ending in .npy", out.display())));
        }
        let set = self.open_data(config.as_ref())?;
        if set.sample_shape() != model.config.sample_shape {
            let (found, expected) = (set.sample_shape(), &model.config.sample_shape);
            return Err(Failure::failed(format!("{}: expected samples of shape {expected:?}, found {found:?}", set.name())));
        }
        let available = if set.is_unlimited() { SampleSection::MOST } else { set.len() };
        request.count = self.count.unwrap_or(if set.is_unlimited() { OF_UNLIMITED } else { available }).min(available);
        let batch = set.batch(&(0..request.count).collect::<Vec<_>>())?;
        if let (Some(n), None) = (model.config.classes, &self.method.class) {
            request.classes = match batch.labels {
                Some(labels) if labels.iter().all(|&label| (label as usize) < n) => Classes::Each(labels),
                _ => Classes::Unconditional,
            };
        }

        let started = Instant::now();
        let mut bar = SampleBar::new("encode", request.count);
        let codes = encode(&model, &request, &batch.x, &mut [&mut bar])?;
        bar.finish();
        let mut bar = SampleBar::new("decode", request.count);
        let again = decode(&model, &request, &codes.x, &mut [&mut bar])?;
        bar.finish();
        write_npy(&out, &codes.x.to(Dtype::F32))?;
        let seconds = duration(started.elapsed().as_secs_f64());
        let (n, calls) = (request.count, codes.nfe);
        print::say(format_args!(
            "{n} samples encoded with {calls} network calls each, and decoded with {}, in {seconds}",
            again.nfe
        ));
        let rms = |x: &Tensor| x.to(Dtype::F64).square().mean_all().item().sqrt();
        let error = rms(&(&again.x - &batch.x.to(again.x.dtype())));
        print::say(format_args!("noise: {}, root mean square {:.4}", out.display(), rms(&codes.x)));
        print::say(format_args!("round trip: root mean square error {error:.3e} in the data's units"));
        Ok(())
    }

    fn open_data(&self, config: Option<&RunConfig>) -> Result<Box<dyn Dataset>, Failure> {
        let Some(data) = &self.data else {
            let run =
                config.ok_or_else(|| Failure::usage("DATA: expected data to encode, as a model's file does not say which"))?;
            return Ok(run.data.open(".".as_ref())?);
        };
        if let Some(generated) = DataConfig::generated().into_iter().find(|d| data.as_os_str() == d.kind()) {
            return Ok(generated.open(".".as_ref())?);
        }
        let images = data.is_dir() || data.extension().is_some_and(|e| e.eq_ignore_ascii_case("zip"));
        let set = if images { DataConfig::Images(Images::at(data)) } else { DataConfig::Array(Array::at(data)) };
        Ok(set.open(".".as_ref())?)
    }
}
