//! `fokker preview`.

use std::path::{Path, PathBuf};

use clap::Args;
use fokker_data::DataConfig;
use fokker_train::{RunConfig, SampleSection};

use crate::failure::Failure;
use crate::train::data_path;
use crate::{print, sample};

/// The data that a recipe, a TOML file or the kind of a generated set names, with another `data.path` if one is given; and whether half
/// of the images are to be mirrored.
pub(crate) fn data_config(source: &str, path: Option<&Path>) -> Result<(DataConfig, bool), Failure> {
    let generated = DataConfig::generated().into_iter().find(|d| d.kind() == source);
    match generated {
        Some(data) if path.is_none() => Ok((data, false)),
        _ => {
            let path = path.map(data_path).transpose()?;
            let config = RunConfig::load(source, &path.into_iter().collect::<Vec<_>>())?;
            Ok((config.data, config.loader.flip))
        }
    }
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  fokker preview glyphs --out glyphs.png\n  fokker preview folder --data photos.zip --out photos.png"
)]
pub(crate) struct Preview {
    /// A recipe, a TOML file, or the kind of a generated data set.
    source: String,
    /// Where the data is: sets `data.path`.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Number of samples [default: 100 images or 10000 points].
    #[arg(short = 'n', long = "count", value_name = "N")]
    count: Option<std::num::NonZeroUsize>,
    /// The picture.
    #[arg(long, value_name = "PNG", default_value = "preview.png")]
    out: PathBuf,
}

impl Preview {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.out.extension().and_then(|e| e.to_str()) != Some("png") {
            return Err(Failure::usage(format!("--out {}: expected a file ending in .png", self.out.display())));
        }
        let set = data_config(&self.source, self.data.as_deref())?.0.open(".".as_ref())?;
        let default = if set.sample_shape().len() == 3 { 100 } else { 10_000 };
        let wanted = self.count.map_or(default, std::num::NonZeroUsize::get);
        if wanted > SampleSection::MOST {
            return Err(Failure::usage(format!("--count {wanted}: expected at most {}", SampleSection::MOST)));
        }
        let count = if set.is_unlimited() { wanted } else { wanted.min(set.len()) };
        let batch = set.batch(&(0..count).collect::<Vec<_>>())?;
        sample::picture(&batch.x)?.save_png(&self.out)?;
        let classes = set.classes().map_or("no classes".into(), |n| format!("{n} classes"));
        print::say(format_args!(
            "{}: samples of shape {:?}, {classes}; {count} of them in {}",
            set.name(),
            set.sample_shape(),
            self.out.display()
        ));
        Ok(())
    }
}
