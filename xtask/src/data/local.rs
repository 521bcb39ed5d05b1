//! Files that are already on this machine, `--from FOLDER`.

use super::manifest::{Archive, Entry};
use super::verify::{Problem, Verifier, sha256_of_file};
use crate::{Failure, Outcome};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The names under which people have the file: as published, unpacked, and as some tools unpack it.
fn candidates(entry: &Entry) -> Vec<String> {
    let dotted = entry.name.replace("-idx", ".idx");
    let mut names = vec![entry.name.clone(), format!("{}.gz", entry.name)];
    if dotted != entry.name {
        names.extend([dotted.clone(), format!("{dotted}.gz")]);
    }
    names
}

/// Copies the first good file among the candidates in `from`, verified and decompressed; its SHA-256.
pub(super) fn copy(entry: &Entry, from: &Path, folder: &Path) -> Outcome<String> {
    let mut reasons = Vec::new();
    for name in candidates(entry) {
        let path = from.join(&name);
        if !path.is_file() {
            continue;
        }
        match copy_one(entry, &path, folder) {
            Ok(sha256) => return Ok(sha256),
            Err(Problem::Content(reason)) => reasons.push(format!("\n  {}: {reason}", path.display())),
            Err(Problem::Disk(reason)) => return Err(Failure::new(reason)),
        }
    }
    if reasons.is_empty() {
        return Err(Failure::new(format!("{}: has none of {}", from.display(), candidates(entry).join(", "))));
    }
    Err(Failure::new(format!("{}: no good copy:{}", entry.name, reasons.concat())))
}

fn copy_one(entry: &Entry, path: &Path, folder: &Path) -> Result<String, Problem> {
    let mut file = File::open(path).map_err(|e| Problem::Content(e.to_string()))?;
    let mut verifier = Verifier::new(entry, folder)?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return verifier.finish(),
            Ok(n) => verifier.take(&buffer[..n])?,
            Err(e) => return Err(Problem::Content(e.to_string())),
        }
    }
}

/// The archive in `from`, with its checksum verified.
pub(super) fn find_archive(archive: &Archive, from: &Path) -> Outcome<PathBuf> {
    let path = from.join(&archive.name);
    if !path.is_file() {
        return Err(Failure::new(format!("{}: has no {}", from.display(), archive.name)));
    }
    let found = sha256_of_file(&path)?;
    if found != archive.sha256 {
        return Err(Failure::new(format!("{}: its SHA-256 is {found}, expected {}", path.display(), archive.sha256)));
    }
    Ok(path)
}
