//! Finished rows on disk, so that an interrupted evaluation goes on where it was, and what the page shows beside them.
//!
//! ```text
//! OUT/rows.jsonl               one line for each finished row
//! OUT/rows/KEY.npy             the first of its samples, for pictures
//! OUT/likelihoods/KEY.json     how likely a set is
//! OUT/trajectories/KEY.npy     the states of a trajectory
//! OUT/trajectories/KEY.json    when they are
//! ```
//!
//! Arrays come first, and the line or the JSON that speaks of them last; each is written as a whole or not at all, so that it is there only once
//! all of its own is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fokker_data::{atomic_write, read_npy, remove_leftovers, write_npy};
use fokker_tensor::Tensor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Likelihoods, Moment, Row, Trajectory};
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
                let path = file(folder, "rows", key, "npy");
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
            write_npy(place(folder, "rows", &row.key, "npy")?, shown)?;
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

/// What is kept of a trajectory besides its states.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Times {
    key: String,
    total: usize,
    moments: Vec<Moment>,
}

impl Cache {
    /// The likelihoods with this key, if they were kept.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn likelihoods(&self, key: &str) -> Result<Option<Likelihoods>, TrainError> {
        let found: Option<Likelihoods> = self.read("likelihoods", key)?;
        Ok(found.filter(|found| found.key == key))
    }

    /// Keeps likelihoods, where there is a folder; they as they will be read again.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn keep_likelihoods(&self, found: &Likelihoods) -> Result<Likelihoods, TrainError> {
        self.write("likelihoods", &found.key, found)?;
        Ok(self.likelihoods(&found.key)?.unwrap_or_else(|| found.clone()))
    }

    /// The trajectory with this key, if it was kept.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn trajectory(&self, key: &str) -> Result<Option<Trajectory>, TrainError> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let times: Option<Times> = self.read("trajectories", key)?;
        let path = file(folder, "trajectories", key, "npy");
        let Some(Times { key, total, moments }) = times.filter(|times| times.key == key && path.exists()) else {
            return Ok(None);
        };
        let states = read_npy(&path)?;
        if states.rank() < 4 || states.dim(0) != moments.len() {
            let problem = format!("an array {:?} for {} moments; remove the file", states.shape(), moments.len());
            return Err(TrainError::file(&path, problem));
        }
        Ok(Some(Trajectory { key, total, moments, states }))
    }

    /// Keeps a trajectory; where there is no folder it is forgotten.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_trajectory(&self, found: &Trajectory) -> Result<(), TrainError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        write_npy(place(folder, "trajectories", &found.key, "npy")?, &found.states)?;
        let times = Times { key: found.key.clone(), total: found.total, moments: found.moments.clone() };
        self.write("trajectories", &found.key, &times)
    }

    fn read<T: DeserializeOwned>(&self, kind: &str, key: &str) -> Result<Option<T>, TrainError> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let path = file(folder, kind, key, "json");
        match std::fs::read(&path) {
            Ok(bytes) => {
                let read = serde_json::from_slice(&bytes);
                read.map(Some).map_err(|e| TrainError::file(&path, format!("{e}; remove the file to have it made anew")))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(TrainError::io(&path, "read")(e)),
        }
    }

    fn write(&self, kind: &str, key: &str, value: &impl Serialize) -> Result<(), TrainError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let path = place(folder, kind, key, "json")?;
        let text = serde_json::to_string(value).map_err(|e| TrainError::file(&path, e.to_string()))?;
        Ok(atomic_write(&path, |file| file.write_all(text.as_bytes()))?)
    }
}

/// The start of a key is enough to name a file.
fn file(folder: &Path, kind: &str, key: &str, extension: &str) -> PathBuf {
    folder.join(kind).join(format!("{}.{extension}", &key[..key.len().min(16)]))
}

/// The same, in a folder that is there and free of leftovers.
fn place(folder: &Path, kind: &str, key: &str, extension: &str) -> Result<PathBuf, TrainError> {
    let within = folder.join(kind);
    std::fs::create_dir_all(&within).map_err(TrainError::io(&within, "create the folder"))?;
    remove_leftovers(&within)?;
    Ok(file(folder, kind, key, extension))
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
    fn what_is_shown_beside_rows_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("report")).unwrap();
        let found = Likelihoods {
            key: "0123456789abcdefgh".into(),
            name: "test data".into(),
            dimensions: 2,
            levels: None,
            values: vec![-1.25, 0.5],
            solver: 1e-3,
            draws: None,
            nfe: 90,
            products: 180,
            seconds: 0.5,
            failed: None,
        };
        assert_eq!(cache.likelihoods(&found.key).unwrap(), None);
        let kept = cache.keep_likelihoods(&found).unwrap();
        assert!((kept.values[0] + 1.25).abs() < 1e-15 && kept.nfe == 90);
        assert_eq!(cache.likelihoods(&found.key).unwrap(), Some(kept));
        // A key that starts alike is another.
        assert_eq!(cache.likelihoods("0123456789abcdefxx").unwrap(), None);
        let moments =
            vec![Moment { step: 0, t: 80.0, alpha: 1.0, sigma: 80.0 }, Moment { step: 3, t: 0.0, alpha: 1.0, sigma: 0.0 }];
        let states = Tensor::from_vec(&[2, 1, 2, 2], (0..8).map(|i| i as f32).collect());
        let way = Trajectory { key: "t".into(), total: 3, moments, states };
        assert!(cache.trajectory("t").unwrap().is_none());
        cache.keep_trajectory(&way).unwrap();
        let again = cache.trajectory("t").unwrap().unwrap();
        assert_eq!((again.total, &again.moments), (3, &way.moments));
        assert_eq!(again.states.to_vec::<f32>(), way.states.to_vec::<f32>());
        // Without a folder nothing is kept, and nothing fails.
        let cache = Cache::in_memory();
        assert_eq!(cache.keep_likelihoods(&found).unwrap(), found);
        cache.keep_trajectory(&way).unwrap();
        assert!(cache.likelihoods(&found.key).unwrap().is_none() && cache.trajectory("t").unwrap().is_none());
    }

    #[test]
    fn a_file_that_is_no_likelihood_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let within = folder.path().join("likelihoods");
        std::fs::create_dir(&within).unwrap();
        std::fs::write(within.join("a.json"), "{}").unwrap();
        let message = Cache::open(folder.path()).unwrap().likelihoods("a").unwrap_err().to_string();
        assert!(message.contains("a.json") && message.contains("remove the file"), "{message}");
    }

    #[test]
    fn a_line_that_is_no_row_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rows.jsonl"), "{\"key\": 3}\n").unwrap();
        let message = Cache::open(folder.path()).err().unwrap().to_string();
        assert!(message.contains("rows.jsonl: line 1") && message.contains("remove the line"), "{message}");
    }
}
