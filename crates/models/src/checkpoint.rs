//! Named tensors with string metadata, as `.safetensors`.

use std::collections::BTreeMap;
use std::path::Path;

use fokker_nn::Module;
use fokker_tensor::{Bf16, Dtype, Tensor};
use safetensors::SafeTensors;
use serde::Serialize;

use crate::error::ModelError;
use crate::pretrained::ImageNetwork;

/// The metadata key of the checksum; added when a file is written and taken away when it is read.
const CHECKSUM: &str = "fokker.crc32";

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
        found.ok_or_else(|| ModelError::file(file, format!("no `{key}` in the metadata: this is {}", self.kind())))
    }

    /// What this is by its metadata or its names, for messages.
    pub fn kind(&self) -> &'static str {
        // The first that is there: a run's checkpoint says what its model is, too.
        let kinds = [
            ("fokker.run", "a run's checkpoint"),
            ("fokker.model", "a diffusion model"),
            ("fokker.classifier", "a classifier of images"),
        ];
        let found = kinds.iter().find(|(key, _)| self.metadata.contains_key(*key));
        let ours = found.map(|(_, kind)| *kind);
        ours.or_else(|| ImageNetwork::kind(self)).unwrap_or("a file that fokker did not write")
    }

    /// The file's content: the same bytes for the same tensors and strings. Write it through a temporary file
    /// (`fokker_data::atomic_write`), so that it is never half there.
    ///
    /// The layout is that of safetensors: the length of the header as a little-endian `u64`, the header in JSON padded with
    /// spaces to a multiple of 8, and the tensors, those of the most bytes per number first so that all are aligned. The library's own
    /// writer puts the metadata in a random order.
    ///
    /// # Errors
    /// If it cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let mut ordered: Vec<(&String, &Tensor)> = self.tensors.iter().collect();
        ordered.sort_by_key(|(_, t)| std::cmp::Reverse(t.dtype().size()));
        let mut metadata = self.metadata.clone();
        metadata.insert(CHECKSUM.into(), self.checksum());
        let mut header = BTreeMap::new();
        header.insert("__metadata__", Entry::Metadata(&metadata));
        let mut end = 0;
        for &(name, t) in &ordered {
            let dtype = match t.dtype() {
                Dtype::Bf16 => "BF16",
                Dtype::F32 => "F32",
                Dtype::F64 => "F64",
            };
            let start = end;
            end += t.len() * t.dtype().size();
            if name == "__metadata__" {
                return Err(ModelError::config("checkpoint", "a tensor's name other than `__metadata__`"));
            }
            header.insert(name.as_str(), Entry::Tensor { dtype, shape: t.shape(), data_offsets: [start, end] });
        }
        let mut json = serde_json::to_vec(&header)
            .map_err(|e| ModelError::config("checkpoint", format!("a header that can be stored: {e}")))?;
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut bytes = Vec::with_capacity(8 + json.len() + end);
        bytes.extend_from_slice(&(json.len() as u64).to_le_bytes());
        bytes.append(&mut json);
        for (_, t) in ordered {
            little_endian(t, |part| bytes.extend_from_slice(part));
        }
        Ok(bytes)
    }

    /// The CRC-32 of names, types, shapes, numbers and strings, in hexadecimal: whatever the layout of the file.
    fn checksum(&self) -> String {
        let mut crc = crc32fast::Hasher::new();
        for text in self.metadata.iter().flat_map(|(key, value)| [key, value]) {
            crc.update(&(text.len() as u64).to_le_bytes());
            crc.update(text.as_bytes());
        }
        for (name, t) in &self.tensors {
            crc.update(format!("{name} {} {:?}", t.dtype(), t.shape()).as_bytes());
            little_endian(t, |part| crc.update(part));
        }
        format!("{:08x}", crc.finalize())
    }

    /// Parses a file's content; `file` is for messages.
    ///
    /// # Errors
    /// If it is not a safetensors file of `bf16`, `f32` and `f64` tensors, or not what its checksum was made for. Files of other programs
    /// have none; their counters of batches (`….num_batches_tracked`), which are integers, are left out.
    pub fn from_bytes(bytes: &[u8], file: &Path) -> Result<Checkpoint, ModelError> {
        let bad = |e: safetensors::SafeTensorError| ModelError::file(file, format!("not a valid .safetensors file: {e}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(bad)?;
        let mut metadata: BTreeMap<String, String> = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let expected = metadata.remove(CHECKSUM);
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(bytes).map_err(bad)?.iter() {
            let data = view.data();
            let tensor = match view.dtype() {
                safetensors::Dtype::BF16 => {
                    Tensor::from_vec(view.shape(), numbers(data, |bytes| Bf16::from_bits(u16::from_le_bytes(bytes))))
                }
                safetensors::Dtype::F32 => Tensor::from_vec(view.shape(), numbers(data, f32::from_le_bytes)),
                safetensors::Dtype::F64 => Tensor::from_vec(view.shape(), numbers(data, f64::from_le_bytes)),
                // How many batches a batch norm has seen, which nothing depends on.
                _ if name.ends_with(".num_batches_tracked") => continue,
                other => return Err(ModelError::file(file, format!("tensor `{name}` is {other:?}, expected BF16, F32 or F64"))),
            };
            tensors.insert(name.to_owned(), tensor);
        }
        let checkpoint = Checkpoint { tensors, metadata };
        if let Some(expected) = expected {
            let found = checkpoint.checksum();
            if found != expected {
                let problem =
                    format!("corrupt: the checksum of the content is {found}, but metadata `{CHECKSUM}` says {expected}");
                return Err(ModelError::file(file, problem));
            }
        }
        Ok(checkpoint)
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

/// A value of the header.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Metadata(&'a BTreeMap<String, String>),
    Tensor { dtype: &'static str, shape: &'a [usize], data_offsets: [usize; 2] },
}

fn name(prefix: &str, path: &str) -> String {
    match (prefix, path) {
        ("", path) => path.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, path) => format!("{prefix}.{path}"),
    }
}

/// Hands out the bytes of a tensor's numbers, part by part.
fn little_endian(t: &Tensor, mut take: impl FnMut(&[u8])) {
    const AT_ONCE: usize = 1 << 12;
    let mut part = Vec::with_capacity(8 * AT_ONCE);
    macro_rules! each {
        ($T:ty, $bits:expr) => {
            for numbers in t.as_slice::<$T>().chunks(AT_ONCE) {
                part.clear();
                numbers.iter().for_each(|x| part.extend_from_slice(&$bits(*x).to_le_bytes()));
                take(&part);
            }
        };
    }
    match t.dtype() {
        Dtype::Bf16 => each!(Bf16, Bf16::to_bits),
        Dtype::F32 => each!(f32, f32::to_bits),
        Dtype::F64 => each!(f64, f64::to_bits),
    }
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
        c.tensors.insert("c".into(), Tensor::from_vec(&[0, 3], Vec::<f32>::new()));
        for i in 0..20 {
            c.metadata.insert(format!("k{i}"), format!("\"v\" {i}"));
        }
        c
    }

    #[test]
    fn tensors_and_metadata_survive_a_round_trip() {
        let bytes = example().to_bytes().unwrap();
        let back = Checkpoint::from_bytes(&bytes, "f".as_ref()).unwrap();
        assert_eq!(back.metadata, example().metadata);
        assert_eq!(back.tensors["a.x"].shape(), [2, 1]);
        assert_eq!(back.tensors["a.x"].as_slice::<f32>(), [1.5, -2.0]);
        assert_eq!(back.tensors["b"].item(), 0.1);
        assert_eq!(back.tensors["c"].shape(), [0, 3]);
        assert_eq!(bytes, back.to_bytes().unwrap());
    }

    #[test]
    fn the_numbers_are_aligned_and_the_same_content_has_the_same_bytes() {
        let bytes = example().to_bytes().unwrap();
        let (length, header) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(length % 8, 0);
        assert_eq!(header.info("b").unwrap().data_offsets, (0, 8));
        assert_eq!(header.info("a.x").unwrap().data_offsets, (8, 16));
        // A map in random order would differ at once with 20 keys.
        assert_eq!(bytes, example().to_bytes().unwrap());
    }

    #[test]
    fn every_flipped_bit_that_changes_the_content_is_an_error_that_names_the_file() {
        let bytes = example().to_bytes().unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                match Checkpoint::from_bytes(&bad, "some/file".as_ref()) {
                    Err(error) => assert!(error.to_string().starts_with("some/file: "), "{error}"),
                    // Other white space, or the name of the checksum's own key.
                    Ok(same) => assert!(same.tensors.len() == 3 && at < bytes.len() - 16, "bit {bit} of byte {at}"),
                }
            }
        }
        let mut bad = bytes.clone();
        *bad.last_mut().unwrap() ^= 1;
        let message = Checkpoint::from_bytes(&bad, "some/file".as_ref()).unwrap_err().to_string();
        assert!(message.contains("corrupt") && message.contains("checksum"), "{message}");
    }

    #[test]
    fn files_of_other_programs_need_no_checksum() {
        let data = 1.5f32.to_le_bytes();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &data).unwrap();
        let bytes = safetensors::serialize([("a", view)], None).unwrap();
        let read = Checkpoint::from_bytes(&bytes, "f".as_ref()).unwrap();
        assert_eq!(read.tensors["a"].item(), 1.5);
        assert!(read.metadata.is_empty());
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
