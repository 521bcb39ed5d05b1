//! `fokker encode`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use fokker_data::write_npy;
use fokker_tensor::{Dtype, Tensor};
use fokker_train::{decode, encode};

use crate::failure::Failure;
use crate::method::{Method, Opened};
use crate::print;
use crate::progress::duration;
use crate::rows::Rows;
use crate::sample::SampleBar;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  fokker encode runs/moons -n 500 --out codes.npy\n  fokker sample runs/moons --noise codes.npy --out again.npy\n  \
                        fokker encode runs/mnist digits.npy --solver exponential-adams --steps 50"
)]
pub(crate) struct Encode {
    #[command(flatten)]
    method: Method,
    #[command(flatten)]
    rows: Rows,
    /// The noise, f32 [N, ...]: standard normal numbers, as far as the model is right [default: RUN/codes.npy].
    #[arg(long, value_name = "NPY")]
    out: Option<PathBuf>,
}

impl Encode {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut opened = self.method.open(self.rows.count)?;
        let out = self.out.clone().unwrap_or_else(|| opened.folder.join("codes.npy"));
        if out.extension().and_then(|e| e.to_str()) != Some("npy") {
            return Err(Failure::usage(format!("--out {}: expected a file ending in .npy", out.display())));
        }
        let x = self.rows.read(&mut opened, &self.method.which)?.x;
        let Opened { model, request, .. } = opened;

        let started = Instant::now();
        let mut bar = SampleBar::new("encode", request.count);
        let codes = encode(&model, &request, &x, &mut [&mut bar])?;
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
        let error = rms(&(&again.x - &x.to(again.x.dtype())));
        print::say(format_args!("noise: {}, root mean square {:.4}", out.display(), rms(&codes.x)));
        print::say(format_args!("round trip: root mean square error {error:.3e} in the data's units"));
        Ok(())
    }
}
