//! The tensors of a file from PyTorch, taken one after the other.

use std::collections::BTreeSet;
use std::path::Path;

use fokker_tensor::{Dtype, Tensor};

use crate::checkpoint::Checkpoint;
use crate::error::ModelError;

/// What of a file has not been taken yet.
pub(super) struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    file: &'a Path,
    /// What the file is taken for, for messages.
    network: &'static str,
    left: BTreeSet<&'a str>,
    /// The type of the network to be made.
    pub(super) dtype: Dtype,
}

/// An extent that the file decides.
pub(super) const ANY: usize = 0;

impl<'a> Weights<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, file: &'a Path, network: &'static str) -> Weights<'a> {
        let first = checkpoint.tensors.values().next().map_or(Dtype::F32, Tensor::dtype);
        // The sums of two norms and a resampling are no place for eight bits.
        let dtype = if first == Dtype::Bf16 { Dtype::F32 } else { first };
        Weights { checkpoint, file, network, left: checkpoint.tensors.keys().map(String::as_str).collect(), dtype }
    }

    /// Takes a tensor, whose shape has to be this but for the extents that are [`ANY`], as `f64`.
    pub(super) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let expected = || {
            let extents: Vec<String> = shape.iter().map(|&n| if n == ANY { "any".into() } else { n.to_string() }).collect();
            format!("expected [{}] for {}", extents.join(", "), self.network)
        };
        let Some(found) = self.checkpoint.tensors.get(name) else {
            return Err(self.problem(format!("tensor `{name}` is missing, {}", expected())));
        };
        let fits = |(&n, &wanted): (&usize, &usize)| if wanted == ANY { n > 0 } else { n == wanted };
        if found.rank() != shape.len() || !found.shape().iter().zip(shape).all(fits) {
            return Err(self.problem(format!("tensor `{name}` is {:?}, {}", found.shape(), expected())));
        }
        if !found.all_finite() {
            return Err(self.problem(format!("tensor `{name}` has a number that is not finite")));
        }
        self.left.remove(name);
        Ok(found.to(Dtype::F64))
    }

    /// Takes a tensor that is not used, if it is there.
    pub(super) fn skip(&mut self, name: &str) {
        self.left.remove(name);
    }

    /// Whether the file has a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.checkpoint.tensors.contains_key(name)
    }

    /// Requires that everything has been taken.
    pub(super) fn finish(self) -> Result<(), ModelError> {
        let Some(first) = self.left.first() else { return Ok(()) };
        let more = match self.left.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        Err(self.problem(format!("tensor `{first}`{more}: not expected for {}", self.network)))
    }

    /// An error of this file.
    pub(super) fn problem(&self, problem: String) -> ModelError {
        ModelError::file(self.file, problem)
    }
}
