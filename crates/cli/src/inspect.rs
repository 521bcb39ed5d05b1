//! `fokker inspect`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use fokker_models::checkpoint::Checkpoint;
use fokker_models::{Classifier, ImageNetwork};
use fokker_nn::Module;
use fokker_train::{FeatureNetwork, RunDirectory, load_model};

use crate::failure::Failure;
use crate::print;
use crate::progress::duration;

#[derive(Args)]
#[command(after_help = "Examples:\n  fokker inspect runs/glyphs\n  fokker inspect runs/glyphs/model.safetensors --json")]
pub(crate) struct Inspect {
    /// A run's folder, or a .safetensors file of a model, a checkpoint or features (the weights of Inception-v3 and DINOv2 too).
    path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.path.is_file() {
            let checkpoint = Checkpoint::read(&self.path)?;
            if Classifier::is_in(&checkpoint) || ImageNetwork::kind(&checkpoint).is_some() {
                return self.features();
            }
        }
        let run = if self.path.is_dir() { Some(RunDirectory::open(&self.path)?) } else { None };
        let file = run.as_ref().map_or_else(|| self.path.clone(), |r| r.file("model.safetensors"));
        let model = if run.is_some() && !file.exists() { None } else { Some(load_model(&file)?) };
        let last = run.as_ref().map(RunDirectory::metrics).transpose()?.and_then(|m| m.last().copied());
        let config = run.as_ref().map(RunDirectory::config).transpose()?;
        if self.json {
            let value = serde_json::json!({
                "run": config,
                "last": last,
                "model": model.as_ref().map(|m| &m.config),
                "parameters": model.as_ref().map(Module::parameter_count),
                "tensors": model.as_ref().map(|m| m.parameters().iter().map(|(p, t)| (p.clone(), t.shape().to_vec())).collect::<BTreeMap<_, _>>()),
            });
            return print::answer(format_args!("{value:#}"));
        }
        let mut lines = Vec::new();
        if let Some(config) = &config {
            lines.push(format!("run:        {} ({})", config.name, self.path.display()));
            let done = last.map_or(0, |r| r.step);
            let kind = config.data.kind();
            lines.push(format!("data:       {kind}, seed {}", config.seed));
            lines.push(format!("progress:   step {done} of {}", config.train.steps));
            if let Some(last) = last {
                let trained = duration(last.seconds);
                lines.push(format!("loss:       {:.4} after {} samples, {trained} of training", last.loss, last.images));
            }
        }
        match &model {
            None => lines.push("model:      not saved yet".into()),
            Some(model) => {
                let c = &model.config;
                let classes = c.classes.map_or("no classes".into(), |n| format!("{n} classes"));
                lines.push(format!("samples:    shape {:?}, {classes}", c.sample_shape));
                let process = fokker_sde::Sde::name(&c.sde);
                lines.push(format!("process:    {process}, preconditioning {}", c.preconditioning.name()));
                if c.learned_variance {
                    lines.push("variance:   learned, for `ancestral` with variance = \"learned\"".into());
                }
                lines.push(format!("parameters: {}", model.parameter_count()));
                let table = model.parameters();
                let width = table.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
                lines.extend(table.iter().map(|(path, t)| format!("  {path:width$}  {:>9}  {:?}", t.len(), t.shape())));
            }
        }
        print::answer(lines.join("\n"))
    }

    fn features(&self) -> Result<(), Failure> {
        let features = FeatureNetwork::load(&self.path)?;
        if self.json {
            return print::answer(format_args!("{:#}", crate::features::to_json(&features)));
        }
        print::answer(crate::features::describe(&features).join("\n"))
    }
}
