//! `fokker info`.

use std::path::PathBuf;

use clap::Args;
use fokker_models::DiffusionModel;
use fokker_nn::Module;
use fokker_train::RunDirectory;

use crate::failure::Failure;
use crate::progress::duration;

#[derive(Args)]
pub(crate) struct Info {
    /// A run's folder or a model's .safetensors file.
    path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let run = if self.path.is_dir() { Some(RunDirectory::open(&self.path)?) } else { None };
        let file = run.as_ref().map_or_else(|| self.path.clone(), |r| r.file("model.safetensors"));
        let model = if run.is_some() && !file.exists() { None } else { Some(DiffusionModel::load(&file)?) };
        let last = run.as_ref().map(RunDirectory::metrics).transpose()?.and_then(|m| m.last().copied());
        let config = run.as_ref().map(RunDirectory::config).transpose()?;
        if self.json {
            let value = serde_json::json!({
                "run": config,
                "last": last,
                "model": model.as_ref().map(|m| &m.config),
                "parameters": model.as_ref().map(Module::parameter_count),
            });
            println!("{value:#}");
            return Ok(());
        }
        if let Some(config) = &config {
            println!("run:        {} ({})", config.name, self.path.display());
            let done = last.map_or(0, |r| r.step);
            println!("progress:   step {done} of {}", config.train.steps);
            if let Some(last) = last {
                println!("loss:       {:.4} after {} samples, {} of training", last.loss, last.images, duration(last.seconds));
            }
        }
        match &model {
            None => println!("model:      not saved yet"),
            Some(model) => {
                let c = &model.config;
                println!(
                    "samples:    shape {:?}, {}",
                    c.sample_shape,
                    c.classes.map_or("no classes".into(), |n| format!("{n} classes"))
                );
                println!("process:    {}, preconditioning {}", fokker_sde::Sde::name(&c.sde), c.preconditioning.name());
                println!("parameters: {}", model.parameter_count());
            }
        }
        Ok(())
    }
}
