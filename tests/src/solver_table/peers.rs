//! What other libraries' samplers reach on the same mixtures and states: `tests/fixtures/solver_table.json`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::lineup::GridKind;

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// The versions of the packages.
    pub versions: BTreeMap<String, String>,
    /// The columns.
    pub nfe: Vec<usize>,
    /// By the mixture's name.
    pub oracles: BTreeMap<String, PeerSection>,
}

/// All samplers on one mixture.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSection {
    /// `D`.
    pub dimensions: usize,
    /// Values that tell whether both sides mean the same mixture and states.
    pub probe: Probe,
    /// The samplers.
    pub samplers: Vec<Peer>,
}

/// The first four coordinates of some states.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The noise level of `denoised`.
    pub sigma: f64,
    /// The first two initial states, divided by 80.
    pub x: Vec<Vec<f64>>,
    /// The denoiser's answers for these.
    pub denoised: Vec<Vec<f64>>,
    /// Where the exact flow takes the first four initial states.
    pub end: Vec<Vec<f64>>,
}

/// One sampler with one choice of settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// The library.
    pub library: String,
    /// The sampler's name there.
    pub sampler: String,
    /// Its settings.
    pub settings: String,
    /// By grid, the error for each column; none where it cannot do with so few evaluations.
    pub errors: BTreeMap<String, Vec<Option<f64>>>,
    /// By grid, the evaluations counted.
    pub evaluations: BTreeMap<String, Vec<usize>>,
}

/// A peer's best number for one column.
#[derive(Clone, Debug)]
pub struct Best<'a> {
    /// The sampler.
    pub peer: &'a Peer,
    /// The error.
    pub value: f64,
    /// The grid.
    pub grid: GridKind,
}

impl Peers {
    /// Where the file is.
    pub fn path() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/solver_table.json")
    }

    /// Reads the file.
    ///
    /// # Errors
    /// If it is not there or not what it should be: names it.
    pub fn load() -> Result<Self, String> {
        let path = Self::path();
        let fault = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|e| fault(&e))?;
        let peers: Self = serde_json::from_str(&text).map_err(|e| fault(&e))?;
        for peer in peers.oracles.values().flat_map(|section| &section.samplers) {
            for (grid, errors) in &peer.errors {
                if GridKind::from_key(grid).is_none() || errors.len() != peers.nfe.len() {
                    return Err(fault(&format!(
                        "{} on {grid}: expected a known grid and {} numbers",
                        peer.sampler,
                        peers.nfe.len()
                    )));
                }
            }
        }
        Ok(peers)
    }
}

impl PeerSection {
    /// The best number of the samplers that `which` chooses, for a column.
    pub fn best(&self, column: usize, which: impl Fn(&Peer) -> bool) -> Option<Best<'_>> {
        let all = self.samplers.iter().filter(|peer| which(peer)).flat_map(|peer| {
            peer.errors
                .iter()
                .filter_map(move |(grid, errors)| Some(Best { peer, value: errors[column]?, grid: GridKind::from_key(grid)? }))
        });
        all.min_by(|a, b| a.value.total_cmp(&b.value))
    }

    /// The libraries and samplers in the order of the file, each once.
    pub fn names(&self) -> Vec<(&str, &str)> {
        let mut names: Vec<(&str, &str)> = Vec::new();
        for peer in &self.samplers {
            let name = (peer.library.as_str(), peer.sampler.as_str());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The libraries in the order of the file.
    pub fn libraries(&self) -> Vec<&str> {
        let mut libraries: Vec<&str> = self.names().into_iter().map(|(library, _)| library).collect();
        libraries.dedup();
        libraries
    }
}
