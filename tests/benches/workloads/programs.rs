//! The programs that are compared: fokker, PyTorch in three settings, candle, burn.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde::Deserialize;

use crate::calls::Sizes;
use crate::compare::Measured;
use crate::{Arguments, Failure, How, likelihood};

/// A program that runs workloads.
pub(crate) enum Program {
    /// This one.
    Fokker,
    /// `peers.py` with a setting, by this Python.
    PyTorch { python: String, setting: &'static str },
    /// A package of the workspace of peers in Rust.
    Rust { library: &'static str },
}

/// What a program said to a workload.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Measured(Measured),
    /// It cannot, for this reason.
    Unsupported {
        unsupported: String,
    },
}

/// The peers that the command line asks for.
pub(crate) fn wanted(arguments: &Arguments) -> Result<Vec<Program>, Failure> {
    if arguments.peers.is_none() && arguments.peer.is_empty() {
        return Ok(Vec::new());
    }
    let python = arguments.peers.clone().unwrap_or_else(|| "python3".into());
    let settings = ["eager", "channels-last", "compile"].map(|setting| Program::PyTorch { python: python.clone(), setting });
    let libraries = ["candle", "burn"].map(|library| Program::Rust { library });
    let mut all: Vec<Program> = settings.into_iter().chain(libraries).collect();
    if let Some(unknown) = arguments.peer.iter().find(|name| !all.iter().any(|p| p.name().starts_with(name.as_str()))) {
        let names: Vec<String> = all.iter().map(Program::name).collect();
        return Err(format!("--peer {unknown}: expected one of {}", names.join(", ")).into());
    }
    all.retain(|p| arguments.peer.is_empty() || arguments.peer.iter().any(|name| p.name().starts_with(name.as_str())));
    Ok(all)
}

/// The folder of the peers.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("reference/bench")
}

impl Program {
    pub(crate) fn name(&self) -> String {
        match self {
            Program::Fokker => "fokker".into(),
            Program::PyTorch { setting, .. } => format!("pytorch-{setting}"),
            Program::Rust { library } => (*library).into(),
        }
    }

    pub(crate) fn is_pytorch(&self) -> bool {
        matches!(self, Program::PyTorch { .. })
    }

    /// Whether the workload means something to the program: channels last means nothing for vectors.
    pub(crate) fn takes(&self, workload: &str) -> bool {
        let images = workload.starts_with("mnist") || workload.starts_with("cifar");
        !matches!(self, Program::PyTorch { setting: "channels-last", .. }) || images
    }

    /// Builds the program where it has to be.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        let Program::Rust { library } = self else { return Ok(()) };
        let package = format!("peer-{library}");
        let mut command = Command::new("cargo");
        // Its own configuration and target folder, and none of what the cargo that runs this has set.
        command.current_dir(folder().join("rust")).args(["build", "--release", "--target-dir", "target", "--package", &package]);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|n| n.starts_with("CARGO") && n != "CARGO_HOME") {
                command.env_remove(name);
            }
        }
        if command.status()?.success() { Ok(()) } else { Err(format!("{package} could not be built").into()) }
    }

    /// Runs a workload in a process of its own.
    pub(crate) fn measure(&self, workload: &str, sizes: &Sizes, how: &How) -> Result<Answer, Failure> {
        // A call that draws samples is many calls of the network.
        let reps = if workload.ends_with("sample") { how.reps.div_ceil(10) } else { how.reps };
        let mut command = match self {
            Program::Fokker => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["--here", workload, "--threads", &how.threads.to_string()]);
                command
            }
            Program::PyTorch { python, setting } => {
                let mut command = Command::new(python);
                command.arg(folder().join("peers.py")).args(["--here", "--workload", workload, "--setting", setting]);
                command.args(["--threads", &how.threads.to_string()]);
                if workload == likelihood::WORKLOAD {
                    command.arg("--given").arg(likelihood::file());
                }
                command
            }
            Program::Rust { library } => {
                let mut command = Command::new(folder().join("rust/target/release").join(format!("peer-{library}")));
                command.args(["--workload", workload]).env("RAYON_NUM_THREADS", how.threads.to_string());
                command
            }
        };
        command.args(["--reps", &reps.to_string(), "--seconds", &how.seconds.to_string()]).args(sizes.options());
        let output = command.output().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
        match (self, parse(&output)) {
            // A peer that fails is a line of the table; so is, with its reason, one that says that it cannot.
            (Program::PyTorch { .. } | Program::Rust { .. }, Err(failure)) => {
                Ok(Answer::Unsupported { unsupported: failure.to_string() })
            }
            (_, answer) => answer,
        }
    }
}

/// The last line of JSON that a process printed.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(output: &Output) -> Result<T, Failure> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().last().unwrap_or("nothing on standard error").to_owned();
        return Err(format!("a measurement failed ({}): {last}", output.status).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rev().find(|l| l.starts_with('{')).ok_or("a measurement printed no JSON")?;
    Ok(serde_json::from_str(line)?)
}
