//! `data/NAME/verified.toml`: SHA-256 of each unpacked file of an earlier verified fetch.
//!
//! For some files only the checksum of the compressed file is published. Once that has been
//! checked, the hash of what came out of it is written here, so that the next run can tell whether
//! the unpacked file is still the same without fetching it again.

use crate::{Failure, Outcome};
use std::collections::BTreeMap;
use std::path::Path;

const NAME: &str = "verified.toml";

/// File name to SHA-256 of the decompressed file.
#[derive(Default)]
pub(super) struct Record(BTreeMap<String, String>);

impl Record {
    /// Reads the record of `folder`; one that is missing or unreadable counts as empty.
    pub(super) fn read(folder: &Path) -> Outcome<Self> {
        let path = folder.join(NAME);
        match std::fs::read_to_string(&path) {
            // A damaged record only means that files are fetched again.
            Ok(text) => Ok(Self(toml::from_str(&text).unwrap_or_default())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Failure::new(format!("{}: {e}", path.display()))),
        }
    }

    /// The recorded hash of a file.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Records the hash of a file that has just been verified.
    pub(super) fn insert(&mut self, name: &str, sha256: String) {
        self.0.insert(name.to_owned(), sha256);
    }

    /// Writes the record beside the files, whole or not at all.
    pub(super) fn write(&self, folder: &Path) -> Outcome {
        let mut text = String::from("# SHA-256 of the files as unpacked, written by `cargo xtask data`.\n");
        for (name, sha256) in &self.0 {
            text.push_str(&format!("\"{name}\" = \"{sha256}\"\n"));
        }
        let (path, fresh) = (folder.join(NAME), folder.join(format!("{NAME}.new")));
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|e| Failure::new(format!("{}: {e}", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_being_written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = Record::read(folder.path()).unwrap();
        assert_eq!(record.get("data_batch_1.bin"), None);
        record.insert("data_batch_1.bin", "00ff".into());
        record.write(folder.path()).unwrap();
        assert_eq!(Record::read(folder.path()).unwrap().get("data_batch_1.bin"), Some("00ff"));
    }

    #[test]
    fn a_damaged_record_counts_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), "not = [toml").unwrap();
        assert_eq!(Record::read(folder.path()).unwrap().get("a"), None);
    }
}
