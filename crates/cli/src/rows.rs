//! The data that a command is given or that a run was trained on, and how much of it.

use std::path::PathBuf;

use clap::Args;
use fokker_data::sets::{Array, Idx, Images};
use fokker_data::{Batch, DataConfig, Dataset};
use fokker_models::DiffusionModel;
use fokker_tensor::Tensor;
use fokker_train::{Classes, RunConfig};

use crate::failure::Failure;
use crate::method::{Opened, Which};

/// How many are taken where no number is asked for and there may be very many.
const SOME: usize = 100;

#[derive(Args, Clone)]
pub(crate) struct Rows {
    /// The data: an .npy or .npz array [N, ...] in the data's units, a folder or zip of images, an IDX file of images, a generated data
    /// set's name, or `test`: what the run's data set keeps apart for tests, of a generated one what it was not trained on
    /// [default: what the run was trained on].
    #[arg(value_name = "DATA")]
    positional: Option<PathBuf>,
    /// The same as DATA.
    #[arg(long, value_name = "DATA", conflicts_with = "positional")]
    data: Option<PathBuf>,
    /// Number of samples, the first of the data [default: all of a file or folder, otherwise 100].
    #[arg(short = 'n', long = "count", value_name = "N")]
    pub(crate) count: Option<usize>,
}

/// Samples that were read.
pub(crate) struct Read {
    /// `[N, ...]`.
    pub(crate) x: Tensor,
    /// How many values their numbers can have, equally spaced from −1 to 1; none if they are real.
    pub(crate) levels: Option<usize>,
}

/// A data set, and which of it.
struct Source {
    set: Box<dyn Dataset>,
    /// The first row.
    first: usize,
    /// How many, where no number is asked for.
    default: usize,
}

impl Source {
    fn rows(&self, count: Option<usize>) -> Vec<usize> {
        let wanted = count.unwrap_or(self.default);
        let count = if self.set.is_unlimited() { wanted } else { wanted.min(self.set.len() - self.first) };
        (self.first..self.first + count).collect()
    }
}

impl Rows {
    /// Those of the data that are named, or that the run was trained on.
    pub(crate) fn of(data: Option<PathBuf>) -> Rows {
        Rows { positional: None, data, count: None }
    }

    /// Whether they can be opened, for data that need not be there.
    pub(crate) fn there(&self, opened: &Opened) -> bool {
        self.open(opened.config.as_ref()).is_ok()
    }

    /// The first samples, up to `count`, with their labels; and how many values their numbers can have, if not any.
    pub(crate) fn first(&self, opened: &Opened, count: usize) -> Result<(Batch, Option<usize>), Failure> {
        let source = self.open(opened.config.as_ref())?;
        fits(source.set.as_ref(), &opened.model)?;
        Ok((source.set.batch(&source.rows(Some(count)))?, source.set.levels()))
    }

    /// The whole set, whose samples fit the model.
    pub(crate) fn set(&self, opened: &Opened) -> Result<Box<dyn Dataset>, Failure> {
        let set = self.open(opened.config.as_ref())?.set;
        fits(set.as_ref(), &opened.model)?;
        Ok(set)
    }

    /// The same data, at least so many samples of them.
    pub(crate) fn reading(&self, least: usize) -> Rows {
        Rows { count: Some(self.count.unwrap_or(0).max(least)), ..self.clone() }
    }

    /// Reads samples that fit the model, and asks for as many of their classes: the labels, unless another class is asked for.
    pub(crate) fn read(&self, opened: &mut Opened, which: &Which) -> Result<Read, Failure> {
        let Opened { model, request, config, .. } = opened;
        let source = self.open(config.as_ref())?;
        fits(source.set.as_ref(), model)?;
        let Batch { x, labels } = source.set.batch(&source.rows(self.count))?;
        request.count = x.dim(0);
        if which.class.is_none() {
            request.classes = classes(model, labels);
        }
        Ok(Read { x, levels: source.set.levels() })
    }

    /// Up to `count` points `[N, ...]` of the data, of one class if it is given and the data have classes.
    pub(crate) fn points(&self, config: Option<&RunConfig>, count: usize, class: Option<u32>) -> Result<Tensor, Failure> {
        let source = self.open(config)?;
        let Batch { x, labels } = source.set.batch(&source.rows(Some(count)))?;
        let (Some(class), Some(labels)) = (class, labels) else { return Ok(x) };
        let rows: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class).collect();
        if rows.is_empty() {
            return Err(Failure::failed(format!("{}: no sample of class {class}", source.set.name())));
        }
        Ok(x.gather(&rows))
    }

    fn open(&self, config: Option<&RunConfig>) -> Result<Source, Failure> {
        let data = self.positional.as_ref().or(self.data.as_ref());
        let run = || config.ok_or_else(|| Failure::usage("DATA: expected data, as a model's file does not say which"));
        let whole = |config: &DataConfig, named: bool| -> Result<Source, Failure> {
            let set = config.open(".".as_ref())?;
            let default = if named && !set.is_unlimited() { set.len() } else { SOME };
            Ok(Source { set, first: 0, default })
        };
        let Some(data) = data else { return whole(&run()?.data, false) };
        if data.as_os_str() == "test" {
            let set = test_set(&run()?.data)?;
            let first = if set.is_unlimited() { set.len() } else { 0 };
            return Ok(Source { set, first, default: SOME });
        }
        let generated = DataConfig::generated().into_iter().find(|d| data.as_os_str() == d.kind());
        let has = |end: &str| data.extension().is_some_and(|e| e.eq_ignore_ascii_case(end));
        let config = match generated {
            Some(config) => config,
            None if data.is_dir() || has("zip") => DataConfig::Images(Images::at(data)),
            None if data.to_string_lossy().contains("idx3-ubyte") => {
                DataConfig::Idx(Idx { images: Some(data.clone()), ..Idx::default() })
            }
            None => DataConfig::Array(Array::at(data)),
        };
        whole(&config, true)
    }
}

/// The classes of data with these labels: none, unless all are the model's.
pub(crate) fn classes(model: &DiffusionModel, labels: Option<Vec<u32>>) -> Classes {
    match (model.config.classes, labels) {
        (Some(n), Some(labels)) if labels.iter().all(|&label| (label as usize) < n) => Classes::Each(labels),
        _ => Classes::Unconditional,
    }
}

fn fits(set: &dyn Dataset, model: &DiffusionModel) -> Result<(), Failure> {
    let (found, expected) = (set.sample_shape(), &model.config.sample_shape);
    if found == expected {
        return Ok(());
    }
    Err(Failure::failed(format!("{}: expected samples of shape {expected:?}, found {found:?}", set.name())))
}

/// What a run's data set keeps apart, or the set itself if its rows have no end.
pub(crate) fn test_set(data: &DataConfig) -> Result<Box<dyn Dataset>, Failure> {
    let test = data.test_split();
    let set = test.as_ref().unwrap_or(data).open(".".as_ref())?;
    if test.is_none() && !set.is_unlimited() {
        let message = format!("the `{}` data have no part that is kept apart for tests; name a file", data.kind());
        return Err(Failure::usage(message));
    }
    Ok(set)
}
