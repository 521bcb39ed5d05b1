//! The data that a command is given or that a run was trained on, and how much of it.

use std::path::PathBuf;

use clap::Args;
use fokker_data::sets::{Array, Images};
use fokker_data::{Batch, DataConfig, Dataset};
use fokker_models::DiffusionModel;
use fokker_tensor::Tensor;
use fokker_train::{Classes, RunConfig};

use crate::failure::Failure;
use crate::method::{Opened, Which};

/// How many are taken where no number is asked for and there may be very many.
const SOME: usize = 100;

#[derive(Args)]
pub(crate) struct Rows {
    /// The data: an .npy or .npz array [N, ...] in the data's units, a folder or zip of images, or a generated data set's name
    /// [default: what the run was trained on].
    data: Option<PathBuf>,
    /// Number of samples, the first of the data [default: all of a file or folder, otherwise 100].
    #[arg(short = 'n', long = "count", value_name = "N")]
    pub(crate) count: Option<usize>,
}

impl Rows {
    /// Reads samples that fit the model, and asks for as many of their classes: the labels, unless another class is asked for.
    pub(crate) fn read(&self, opened: &mut Opened, which: &Which) -> Result<Tensor, Failure> {
        let Opened { model, request, config, .. } = opened;
        let Batch { x, labels } = self.batch(model, config.as_ref())?;
        request.count = x.dim(0);
        if which.class.is_none() {
            request.classes = match (model.config.classes, labels) {
                (Some(n), Some(labels)) if labels.iter().all(|&label| (label as usize) < n) => Classes::Each(labels),
                _ => Classes::Unconditional,
            };
        }
        Ok(x)
    }

    fn batch(&self, model: &DiffusionModel, config: Option<&RunConfig>) -> Result<Batch, Failure> {
        let (set, named) = self.open(config)?;
        if set.sample_shape() != model.config.sample_shape {
            let (found, expected) = (set.sample_shape(), &model.config.sample_shape);
            return Err(Failure::failed(format!("{}: expected samples of shape {expected:?}, found {found:?}", set.name())));
        }
        let wanted = self.count.unwrap_or(if named && !set.is_unlimited() { set.len() } else { SOME });
        let count = if set.is_unlimited() { wanted } else { wanted.min(set.len()) };
        Ok(set.batch(&(0..count).collect::<Vec<_>>())?)
    }

    /// The data set, and whether it was named.
    fn open(&self, config: Option<&RunConfig>) -> Result<(Box<dyn Dataset>, bool), Failure> {
        let Some(data) = &self.data else {
            let run = config.ok_or_else(|| Failure::usage("DATA: expected data, as a model's file does not say which"))?;
            return Ok((run.data.open(".".as_ref())?, false));
        };
        let generated = DataConfig::generated().into_iter().find(|d| data.as_os_str() == d.kind());
        let images = data.is_dir() || data.extension().is_some_and(|e| e.eq_ignore_ascii_case("zip"));
        let config = match generated {
            Some(config) => config,
            None if images => DataConfig::Images(Images::at(data)),
            None => DataConfig::Array(Array::at(data)),
        };
        Ok((config.open(".".as_ref())?, true))
    }
}
