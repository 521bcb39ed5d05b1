//! Finished rows on disk, so that an interrupted evaluation goes on where it was.
//!
//! ```text
//! OUT/rows.jsonl       one line for each finished row
//! OUT/rows/KEY.npy     the first of its samples, for pictures
//! ```
//!
//! The samples come first and the line last; both are written as a whole or not at all, so that a line is there only once its row is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fokker_data::{atomic_write, read_npy, remove_leftovers, write_npy};
use fokker_tensor::Tensor;

use super::Row;
use crate::error::TrainError;

/// Rows by their keys.
pub struct Cache {
    folder: Option<PathBuf>,
    rows: BTreeMap<String, Kept>,
    /// In the order in which they were measured.
    order: Vec<String>,
}

struct Kept {
    row: Row,
    /// The row's line: reading and writing a number may change its last digit.
    line: String,
    shown: Option<Tensor>,
}

impl Cache {
    /// A cache that ends with the program.
    pub fn in_memory() -> Cache {
        Cache { folder: None, rows: BTreeMap::new(), order: Vec::new() }
    }

    /// That of a folder, which need not be there yet.
    ///
    /// # Errors
    /// If the file cannot be read or a line of it is no row.
    pub fn open(folder: &Path) -> Result<Cache, TrainError> {
        let mut cache = Cache { folder: Some(folder.into()), ..Cache::in_memory() };
        let path = folder.join("rows.jsonl");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(cache),
            Err(e) => return Err(TrainError::io(&path, "read")(e)),
        };
        for (i, line) in text.lines().enumerate() {
            let row = serde_json::from_str(line).map_err(|e| {
                TrainError::file(&path, format!("line {}: {e}; remove the line to have its row measured again", i + 1))
            })?;
            cache.insert(Kept { row, line: line.to_owned(), shown: None });
        }
        Ok(cache)
    }

    fn insert(&mut self, kept: Kept) {
        let key = kept.row.key.clone();
        if self.rows.insert(key.clone(), kept).is_none() {
            self.order.push(key);
        }
    }

    /// The row with this key, if it was measured.
    pub fn get(&self, key: &str) -> Option<&Row> {
        self.rows.get(key).map(|kept| &kept.row)
    }

    /// The samples that were kept of a row.
    ///
    /// # Errors
    /// If they are in a file that cannot be read.
    pub fn shown(&self, key: &str) -> Result<Option<Tensor>, TrainError> {
        match (self.rows.get(key), &self.folder) {
            (Some(Kept { shown: Some(shown), .. }), _) => Ok(Some(shown.clone())),
            (Some(_), Some(folder)) => {
                let path = samples(folder, key);
                if path.exists() { Ok(Some(read_npy(path)?)) } else { Ok(None) }
            }
            _ => Ok(None),
        }
    }

    /// Keeps a row, with some samples of it; the row as it will be read again.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, row: Row, shown: Option<Tensor>) -> Result<Row, TrainError> {
        let path = self.folder.as_deref().unwrap_or(Path::new("")).join("rows.jsonl");
        let bad = |e: serde_json::Error| TrainError::file(&path, e.to_string());
        let line = serde_json::to_string(&row).map_err(bad)?;
        let row: Row = serde_json::from_str(&line).map_err(bad)?;
        if let (Some(folder), Some(shown)) = (&self.folder, &shown) {
            let pictures = folder.join("rows");
            std::fs::create_dir_all(&pictures).map_err(TrainError::io(&pictures, "create the folder"))?;
            remove_leftovers(&pictures)?;
            write_npy(samples(folder, &row.key), shown)?;
        }
        self.insert(Kept { row: row.clone(), line, shown });
        if let Some(folder) = &self.folder {
            std::fs::create_dir_all(folder).map_err(TrainError::io(folder, "create the folder"))?;
            remove_leftovers(folder)?;
            let text: String = self.order.iter().map(|key| self.rows[key].line.clone() + "\n").collect();
            atomic_write(&path, |file| file.write_all(text.as_bytes()))?;
        }
        Ok(row)
    }
}

/// The start of a key is enough to name a file.
fn samples(folder: &Path, key: &str) -> PathBuf {
    folder.join("rows").join(format!("{}.npy", &key[..key.len().min(16)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fokker_tensor::Dtype;

    fn row(key: &str) -> Row {
        let scores = BTreeMap::from([("recall".to_owned(), vec![0.25, 0.1 + 0.2])]);
        Row { key: key.into(), name: "heun".into(), steps: Some(5), scores, ..Row::default() }
    }

    #[test]
    fn a_row_and_its_samples_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("report");
        let mut cache = Cache::open(&out).unwrap();
        assert!(cache.get("a").is_none());
        let shown = Tensor::from_vec(&[1, 2], vec![1.0f32, 2.0]);
        let a = cache.add(row("a"), Some(shown.clone())).unwrap();
        let b = cache.add(row("b"), None).unwrap();
        assert!((a.scores["recall"][1] - 0.3).abs() < 1e-15 && a.steps == Some(5));
        assert_eq!((cache.get("a"), cache.get("b")), (Some(&a), Some(&b)));
        let text = std::fs::read_to_string(out.join("rows.jsonl")).unwrap();
        let mut again = Cache::open(&out).unwrap();
        assert_eq!((again.get("a"), again.get("b")), (Some(&a), Some(&b)));
        let found = again.shown("a").unwrap().unwrap();
        assert_eq!((found.dtype(), found.to_vec::<f32>()), (Dtype::F32, vec![1.0, 2.0]));
        assert!(again.shown("b").unwrap().is_none() && again.get("c").is_none());
        // What was there stays as it was, to the letter.
        again.add(row("c"), None).unwrap();
        let after = std::fs::read_to_string(out.join("rows.jsonl")).unwrap();
        assert!(after.starts_with(&text) && after.lines().count() == 3, "{after}");
    }

    #[test]
    fn a_line_that_is_no_row_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rows.jsonl"), "{\"key\": 3}\n").unwrap();
        let message = Cache::open(folder.path()).err().unwrap().to_string();
        assert!(message.contains("rows.jsonl: line 1") && message.contains("remove the line"), "{message}");
    }
}
