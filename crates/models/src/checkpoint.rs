//! Named tensors with string metadata, as `.safetensors`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use fokker_nn::Module;
use fokker_tensor::{Dtype, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize};

use crate::error::ModelError;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Strings by key.
    pub metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Adds every parameter of a module under `prefix.path` (or `path` for an empty prefix).
    pub fn insert_module(&mut self, prefix: &str, module: &impl Module) {
        for (path, tensor) in module.parameters() {
            self.tensors.insert(name(prefix, &path), tensor.clone());
        }
    }

    /// Replaces every parameter of a module by what is stored under `prefix.path`.
    ///
    /// # Errors
    /// If a parameter is missing, has another shape or type, or if there are others under the prefix. `file` is for the message.
    pub fn load_module(&self, prefix: &str, module: &mut impl Module, file: &Path) -> Result<(), ModelError> {
        let mut problem = None;
        let mut used = 0;
        let mut path = fokker_nn::Path::default();
        module.visit_mut(&mut path, &mut |path, target| {
            let name = name(prefix, path);
            match self.tensors.get(&name) {
                Some(t) if t.shape() == target.shape() && t.dtype() == target.dtype() => {
                    *target = t.clone();
                    used += 1;
                }
                Some(t) => {
                    let (got, want) =
                        (format!("{} {:?}", t.dtype(), t.shape()), format!("{} {:?}", target.dtype(), target.shape()));
                    problem.get_or_insert(format!("tensor `{name}` is {got}, expected {want}"));
                }
                None => {
                    problem.get_or_insert(format!("tensor `{name}` is missing"));
                }
            }
        });
        if let Some(problem) = problem {
            return Err(ModelError::file(file, problem));
        }
        let start = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        let present = self.tensors.keys().filter(|k| k.starts_with(&start)).count();
        if present != used {
            return Err(ModelError::file(
                file,
                format!("{present} tensors under `{prefix}`, but the model has {used} parameters"),
            ));
        }
        Ok(())
    }

    /// The string stored under `key`.
    ///
    /// # Errors
    /// If there is none. `file` is for the message.
    pub fn text(&self, key: &str, file: &Path) -> Result<&str, ModelError> {
        let found = self.metadata.get(key).map(String::as_str);
        found.ok_or_else(|| ModelError::file(file, format!("no `{key}` in the metadata: not a file that fokker wrote")))
    }

    /// The file's content. Write it through a temporary file (`fokker_data::atomic_write`), so that it is never half there.
    ///
    /// # Errors
    /// If it cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let views = self.tensors.iter().map(|(name, t)| {
            let (dtype, bytes) = match t.dtype() {
                Dtype::F32 => (safetensors::Dtype::F32, little_endian(t.as_slice::<f32>(), |x| x.to_le_bytes())),
                Dtype::F64 => (safetensors::Dtype::F64, little_endian(t.as_slice::<f64>(), |x| x.to_le_bytes())),
            };
            (name.clone(), dtype, t.shape().to_vec(), bytes)
        });
        let held: Vec<_> = views.collect();
        let mut entries = Vec::with_capacity(held.len());
        for (name, dtype, shape, bytes) in &held {
            let view = TensorView::new(*dtype, shape.clone(), bytes)
                .map_err(|e| ModelError::config(name, format!("a tensor that can be stored: {e}")))?;
            entries.push((name, view));
        }
        let metadata: HashMap<String, String> = self.metadata.clone().into_iter().collect();
        serialize(entries, Some(metadata))
            .map_err(|e| ModelError::config("checkpoint", format!("tensors that can be stored: {e}")))
    }

    /// Parses a file's content; `file` is for messages.
    ///
    /// # Errors
    /// If it is not a safetensors file of `f32` and `f64` tensors.
    pub fn from_bytes(bytes: &[u8], file: &Path) -> Result<Checkpoint, ModelError> {
        let bad = |e: safetensors::SafeTensorError| ModelError::file(file, format!("not a valid .safetensors file: {e}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(bad)?;
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(bytes).map_err(bad)?.iter() {
            let data = view.data();
            let tensor = match view.dtype() {
                safetensors::Dtype::F32 => Tensor::from_vec(view.shape(), numbers(data, f32::from_le_bytes)),
                safetensors::Dtype::F64 => Tensor::from_vec(view.shape(), numbers(data, f64::from_le_bytes)),
                other => return Err(ModelError::file(file, format!("tensor `{name}` is {other:?}, expected F32 or F64"))),
            };
            tensors.insert(name.to_owned(), tensor);
        }
        Ok(Checkpoint { tensors, metadata })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read or is not what it should be.
    pub fn read(file: &Path) -> Result<Checkpoint, ModelError> {
        let bytes = std::fs::read(file).map_err(|source| ModelError::Read { path: file.into(), source })?;
        Checkpoint::from_bytes(&bytes, file)
    }
}

fn name(prefix: &str, path: &str) -> String {
    match (prefix, path) {
        ("", path) => path.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, path) => format!("{prefix}.{path}"),
    }
}

fn little_endian<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() * N);
    values.iter().for_each(|&x| out.extend_from_slice(&bytes(x)));
    out
}

fn numbers<T, const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&b| number(b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Checkpoint {
        let mut c = Checkpoint::default();
        c.tensors.insert("a.x".into(), Tensor::from_vec(&[2, 1], vec![1.5f32, -2.0]));
        c.tensors.insert("b".into(), Tensor::from_vec(&[], vec![0.1f64]));
        c.metadata.insert("k".into(), "v".into());
        c
    }

    #[test]
    fn tensors_and_metadata_survive_a_round_trip() {
        let bytes = example().to_bytes().unwrap();
        let back = Checkpoint::from_bytes(&bytes, "f".as_ref()).unwrap();
        assert_eq!(back.metadata["k"], "v");
        assert_eq!(back.tensors["a.x"].shape(), [2, 1]);
        assert_eq!(back.tensors["a.x"].as_slice::<f32>(), [1.5, -2.0]);
        assert_eq!(back.tensors["b"].item(), 0.1);
        assert_eq!(bytes, back.to_bytes().unwrap());
    }

    #[test]
    fn every_truncation_is_an_error_that_names_the_file() {
        let bytes = example().to_bytes().unwrap();
        for length in 0..bytes.len() {
            let error = Checkpoint::from_bytes(&bytes[..length], "some/file".as_ref()).unwrap_err();
            assert!(error.to_string().starts_with("some/file: not a valid"), "{error}");
        }
    }

    #[test]
    fn a_tensor_of_the_wrong_shape_or_missing_or_left_over_is_named() {
        let c = example();
        let file = Path::new("f");
        let mut wrong = vec![Tensor::zeros(&[3], Dtype::F32)];
        assert!(c.load_module("a", &mut wrong, file).unwrap_err().to_string().contains("`a.0` is missing"));
        let mut shape = Tensor::zeros(&[3], Dtype::F32);
        let message = c.load_module("a.x", &mut shape, file).unwrap_err().to_string();
        assert!(message.contains("is f32 [2, 1], expected f32 [3]"), "{message}");
    }
}
