//! `data/manifest.toml`: which data sets there are and how their files are known.

use crate::{Failure, Outcome};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// All data sets, by name.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Manifest(BTreeMap<String, DataSet>);

/// One data set: single files, or the members of one archive.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DataSet {
    /// One line for people.
    pub(super) title: String,
    /// Where it comes from and who made it.
    pub(super) source: String,
    /// The terms it is under.
    pub(super) licence: String,
    /// Who published the checksums below.
    #[serde(rename = "checksums")]
    pub(super) _checksums: String,
    /// Base URLs, tried in order.
    pub(super) mirrors: Vec<String>,
    /// The archive that holds all files, if there is one.
    pub(super) archive: Option<Archive>,
    /// The files as they lie in `data/NAME/`.
    pub(super) files: Vec<Entry>,
}

/// A `.tar.gz` with the files of a data set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Archive {
    /// Its name on the mirrors.
    pub(super) name: String,
    /// Its size.
    pub(super) bytes: u64,
    /// SHA-256 of the archive itself.
    pub(super) sha256: String,
}

/// One file of a data set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// Its name in `data/NAME/`; mirrors have it with `.gz`.
    pub(super) name: String,
    /// Its path inside the archive.
    pub(super) member: Option<String>,
    /// Its decompressed size.
    pub(super) bytes: u64,
    /// SHA-256 of the decompressed file.
    pub(super) sha256: Option<String>,
    /// SHA-256 of the file as distributed, compressed.
    pub(super) download_sha256: Option<String>,
}

impl Manifest {
    /// Reads and checks the manifest.
    pub(super) fn read(path: &Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
        Self::parse(&text).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        for (name, set) in &manifest.0 {
            set.check().map_err(|e| format!("[{name}]: {e}"))?;
        }
        Ok(manifest)
    }

    /// The data set with that name.
    pub(super) fn get(&self, name: &str) -> Option<&DataSet> {
        self.0.get(name)
    }

    /// The names of all data sets.
    pub(super) fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

impl DataSet {
    fn check(&self) -> Result<(), String> {
        if self.files.is_empty() {
            return Err("no files".into());
        }
        if self.mirrors.is_empty() {
            return Err("no mirrors".into());
        }
        for mirror in &self.mirrors {
            if !(mirror.starts_with("http://") || mirror.starts_with("https://")) || !mirror.ends_with('/') {
                return Err(format!("mirror '{mirror}': expected an http(s) URL that ends with '/'"));
            }
        }
        if let Some(archive) = &self.archive {
            check_name(&archive.name)?;
            check_hash(&archive.name, "sha256", &archive.sha256)?;
        }
        for file in &self.files {
            check_name(&file.name)?;
            for (field, hash) in [("sha256", &file.sha256), ("download_sha256", &file.download_sha256)] {
                if let Some(hash) = hash {
                    check_hash(&file.name, field, hash)?;
                }
            }
            match (&self.archive, &file.member) {
                (Some(_), None) => {
                    return Err(format!("{}: member: expected its path in the archive", file.name));
                }
                (None, Some(_)) => {
                    return Err(format!("{}: member: there is no [archive]", file.name));
                }
                (None, None) if file.sha256.is_none() && file.download_sha256.is_none() => {
                    return Err(format!("{}: neither sha256 nor download_sha256", file.name));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// File names become paths on this machine: a separator in one could leave `data/NAME/`.
fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(format!("name '{name}': expected a plain file name"));
    }
    Ok(())
}

fn check_hash(name: &str, field: &str, hash: &str) -> Result<(), String> {
    let is_hex = hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { Ok(()) } else { Err(format!("{name}: {field}: expected 64 lower-case hexadecimal digits, found '{hash}'")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [tiny]
        title = "t"
        source = "s"
        licence = "l"
        checksums = "c"
        mirrors = ["http://127.0.0.1/"]
        [[tiny.files]]
        name = "a"
        bytes = 1
        sha256 = "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    "#;

    #[test]
    fn the_committed_manifest_is_sound_and_names_the_four_data_sets() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/manifest.toml");
        let manifest = Manifest::read(&path).unwrap();
        assert_eq!(manifest.names(), ["cifar10", "fashion-mnist", "kmnist", "mnist"]);
        for name in manifest.names() {
            assert!(manifest.get(name).unwrap().mirrors.len() >= 2, "{name} has one mirror only");
        }
    }

    #[test]
    fn a_sound_manifest_is_read() {
        assert_eq!(Manifest::parse(GOOD).unwrap().get("tiny").unwrap().files[0].bytes, 1);
    }

    #[test]
    fn a_faulty_manifest_is_refused_with_the_field_named() {
        for (from, to, expected) in [
            ("name = \"a\"", "name = \"../a\"", "plain file name"),
            ("name = \"a\"", "name = \"\"", "plain file name"),
            ("ba891046", "BA891046", "64 lower-case hexadecimal"),
            ("76db\"", "76\"", "64 lower-case hexadecimal"),
            ("http://127.0.0.1/", "http://127.0.0.1", "ends with '/'"),
            ("[\"http://127.0.0.1/\"]", "[]", "no mirrors"),
            ("sha256 = \"", "sha1 = \"", "unknown field `sha1`"),
            ("bytes = 1", "bytes = 1\n member = \"m\"", "no [archive]"),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD, "{from} is not in the text");
            let error = Manifest::parse(&text).unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
