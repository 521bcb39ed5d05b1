//! The space that samples are compared in, as an option names it.

use fokker_metrics::Moments;
use fokker_train::FeatureNetwork;
use fokker_train::evaluation::Features;

use crate::failure::Failure;
use crate::print;

/// From so many features on it is said what their covariances take.
const WIDE: usize = 4000;

/// The width of a projection where none is given.
const PROJECTED: usize = 64;

/// The features that an option names.
pub(crate) fn features(text: &str) -> Result<Features, Failure> {
    if [".safetensors", ".pth", ".pt"].iter().any(|end| text.ends_with(end)) {
        return Ok(Features::Network(FeatureNetwork::load(text.as_ref())?));
    }
    let width = match text.split_once(':') {
        None if text == "pixels" => return Ok(Features::Pixels),
        None if text == "projection" => Some(PROJECTED),
        Some(("projection", width)) => width.parse().ok().filter(|width| (1..=1 << 16).contains(width)),
        _ => None,
    };
    let width = width.ok_or_else(|| {
        Failure::usage(format!(
            "--features {text}: expected pixels, projection, projection:WIDTH with a WIDTH from 1 to 65536, or a .safetensors file of \
             features (see `fokker features --help`)"
        ))
    })?;
    Ok(Features::Projection { width, seed: 0 })
}

/// Whether features of so many numbers, of the space that an option names, have covariances.
pub(crate) fn check_width(text: &str, width: usize) -> Result<(), Failure> {
    let less = "--features projection:1024 takes less";
    Moments::check(width).map_err(|e| Failure::usage(format!("--features {text}: {e}; {less}")))?;
    if width >= WIDE {
        let gib = 40.0 * (width as f64).powi(2) / f64::from(1 << 30);
        print::note(format_args!(
            "--features {text}: {width} features; each Fréchet distance takes {gib:.1} GiB and minutes; {less}"
        ));
    }
    Ok(())
}
