//! Checking a file while it streams by: the bytes as they come are hashed, decompressed if they are
//! gzip, hashed again and written.

use super::manifest::{Archive, Entry};
use crate::{Failure, Outcome};
use flate2::write::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What is wrong with a copy of a file.
#[derive(Debug)]
pub(super) enum Problem {
    /// The bytes are not those of the file: another copy may be good.
    Content(String),
    /// This machine cannot store the file: another copy will not help.
    Disk(String),
}

/// Lower-case hexadecimal digits of a finished hash.
fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file on disk.
pub(super) fn sha256_of_file(path: &Path) -> Outcome<String> {
    let fault = |e: io::Error| Failure::new(format!("{}: {e}", path.display()));
    let mut file = File::open(path).map_err(fault)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(fault)? {
            0 => return Ok(hex(hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// The decompressed file on its way to disk: counted, bounded and hashed.
struct Output {
    file: File,
    hash: Sha256,
    written: u64,
    limit: u64,
    disk_error: Option<String>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written += bytes.len() as u64;
        // Stops a wrong or hostile gzip stream before it fills the disk.
        if self.written > self.limit {
            return Err(io::Error::other(format!("decompresses to more than the expected {} bytes", self.limit)));
        }
        self.hash.update(bytes);
        if let Err(e) = self.file.write_all(bytes) {
            self.disk_error = Some(e.to_string());
            return Err(e);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

enum Sink {
    /// Fewer than two bytes have come: too few to tell gzip from plain.
    Undecided(Vec<u8>, Output),
    Plain(Output),
    Gzip(Box<MultiGzDecoder<Output>>),
    /// Left behind by an error.
    Closed,
}

/// Takes a file in pieces and decides at the end whether it is the right one.
pub(super) struct Verifier<'a> {
    entry: &'a Entry,
    target: PathBuf,
    unverified: PathBuf,
    download: Sha256,
    sink: Sink,
}

impl<'a> Verifier<'a> {
    /// Starts a verification that ends with `folder/NAME`.
    pub(super) fn new(entry: &'a Entry, folder: &Path) -> Result<Self, Problem> {
        let target = folder.join(&entry.name);
        let unverified = folder.join(format!("{}.unverified", entry.name));
        let file = File::create(&unverified).map_err(|e| Problem::Disk(format!("{}: {e}", unverified.display())))?;
        let output = Output { file, hash: Sha256::new(), written: 0, limit: entry.bytes, disk_error: None };
        Ok(Self { entry, target, unverified, download: Sha256::new(), sink: Sink::Undecided(Vec::new(), output) })
    }

    /// Takes the next piece of the file as it is distributed.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.download.update(bytes);
        let mut held = Vec::new();
        self.sink = match std::mem::replace(&mut self.sink, Sink::Closed) {
            Sink::Undecided(mut start, output) => {
                start.extend_from_slice(bytes);
                if start.len() < 2 {
                    self.sink = Sink::Undecided(start, output);
                    return Ok(());
                }
                held = start;
                // RFC 1952, section 2.3.1: the two bytes every gzip member begins with. What comes
                // out of an archive is decompressed already and may begin with anything.
                if self.entry.member.is_none() && held.starts_with(&[0x1f, 0x8b]) {
                    Sink::Gzip(Box::new(MultiGzDecoder::new(output)))
                } else {
                    Sink::Plain(output)
                }
            }
            decided => decided,
        };
        let bytes = if held.is_empty() { bytes } else { &held };
        let result = match &mut self.sink {
            Sink::Plain(output) => output.write_all(bytes),
            Sink::Gzip(decoder) => decoder.write_all(bytes),
            Sink::Undecided(..) | Sink::Closed => Ok(()),
        };
        result.map_err(|e| self.problem(&e))
    }

    /// Checks hashes and size; a good file is moved into place and its SHA-256 returned.
    pub(super) fn finish(mut self) -> Result<String, Problem> {
        let output = match std::mem::replace(&mut self.sink, Sink::Closed) {
            Sink::Plain(output) | Sink::Undecided(_, output) => output,
            Sink::Gzip(mut decoder) => {
                if let Err(e) = decoder.try_finish() {
                    self.sink = Sink::Gzip(decoder);
                    return Err(self.problem(&e));
                }
                match decoder.finish() {
                    Ok(output) => output,
                    Err(e) => return Err(self.problem(&e)),
                }
            }
            Sink::Closed => return Err(Problem::Content("the file ended with an error".into())),
        };
        let (sha256, download) = (hex(output.hash.finalize()), hex(std::mem::take(&mut self.download).finalize()));
        if let Some(expected) = &self.entry.sha256 {
            if sha256 != *expected {
                let note = if output.written < self.entry.bytes {
                    format!(" ({} of {} bytes)", output.written, self.entry.bytes)
                } else {
                    String::new()
                };
                return Err(Problem::Content(format!("its decompressed SHA-256 is {sha256}{note}, expected {expected}")));
            }
        } else if let Some(expected) = &self.entry.download_sha256
            && download != *expected
        {
            return Err(Problem::Content(format!(
                "its SHA-256 is {download}, expected {expected} (of the file as published, compressed)"
            )));
        }
        if output.written != self.entry.bytes {
            return Err(Problem::Content(format!("it has {} bytes, expected {}", output.written, self.entry.bytes)));
        }
        let disk = |e: io::Error| Problem::Disk(format!("{}: {e}", self.target.display()));
        output.file.sync_all().map_err(disk)?;
        std::fs::rename(&self.unverified, &self.target).map_err(disk)?;
        Ok(sha256)
    }

    fn problem(&self, error: &io::Error) -> Problem {
        let output = match &self.sink {
            Sink::Plain(output) | Sink::Undecided(_, output) => Some(output),
            Sink::Gzip(decoder) => Some(decoder.get_ref()),
            Sink::Closed => None,
        };
        match output.and_then(|o| o.disk_error.as_ref()) {
            Some(reason) => Problem::Disk(format!("{}: {reason}", self.unverified.display())),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Problem::Content("its gzip data end early".into()),
            None => Problem::Content(error.to_string()),
        }
    }
}

impl Drop for Verifier<'_> {
    fn drop(&mut self) {
        // Gone already if the file was good.
        let _ = std::fs::remove_file(&self.unverified);
    }
}

/// Takes an archive in pieces and decides at the end whether it is the right one.
pub(super) struct ArchiveCheck<'a> {
    archive: &'a Archive,
    hash: Sha256,
    received: u64,
}

impl<'a> ArchiveCheck<'a> {
    /// Starts a verification.
    pub(super) fn new(archive: &'a Archive) -> Self {
        Self { archive, hash: Sha256::new(), received: 0 }
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.received += bytes.len() as u64;
        if self.received > self.archive.bytes {
            return Err(Problem::Content(format!("it has more than the expected {} bytes", self.archive.bytes)));
        }
        self.hash.update(bytes);
        Ok(())
    }

    /// Whether as many bytes have come as the archive has.
    pub(super) fn is_full(&self) -> bool {
        self.received == self.archive.bytes
    }

    /// The archive's SHA-256, if it is the expected one.
    pub(super) fn finish(self) -> Result<String, Problem> {
        let (found, expected) = (hex(self.hash.finalize()), &self.archive.sha256);
        if found == *expected {
            return Ok(found);
        }
        Err(Problem::Content(format!(
            "its SHA-256 is {found} ({} of {} bytes), expected {expected}",
            self.received, self.archive.bytes
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    const TEXT: &[u8] = b"score matching, score matching, score matching";

    fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn entry(sha256: Option<&[u8]>, download: Option<&[u8]>) -> Entry {
        Entry {
            name: "file".into(),
            member: None,
            bytes: TEXT.len() as u64,
            sha256: sha256.map(|bytes| hex(Sha256::digest(bytes))),
            download_sha256: download.map(|bytes| hex(Sha256::digest(bytes))),
        }
    }

    /// Feeds `bytes` in pieces of `step`; the folder's file names afterwards come second.
    fn verify(entry: &Entry, bytes: &[u8], step: usize) -> (Result<String, Problem>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let mut verifier = Verifier::new(entry, folder.path()).unwrap();
        let taken = bytes.chunks(step).try_for_each(|piece| verifier.take(piece));
        let result = match taken {
            Ok(()) => verifier.finish(),
            Err(problem) => {
                drop(verifier);
                Err(problem)
            }
        };
        if result.is_ok() {
            assert_eq!(std::fs::read(folder.path().join("file")).unwrap(), TEXT);
        }
        let names = std::fs::read_dir(folder.path()).unwrap();
        (result, names.map(|f| f.unwrap().file_name().into_string().unwrap()).collect())
    }

    #[test]
    fn plain_and_gzip_of_any_level_and_piece_size_are_accepted_by_the_decompressed_hash() {
        let entry = entry(Some(TEXT), None);
        for bytes in [TEXT.to_vec(), gzip(TEXT, 0), gzip(TEXT, 9)] {
            for step in [1, 2, 7, 1000] {
                let (result, names) = verify(&entry, &bytes, step);
                assert_eq!(result.unwrap(), *entry.sha256.as_ref().unwrap());
                assert_eq!(names, ["file"]);
            }
        }
    }

    #[test]
    fn a_file_known_by_its_download_is_accepted_only_as_published() {
        let entry = entry(None, Some(&gzip(TEXT, 9)));
        assert_eq!(verify(&entry, &gzip(TEXT, 9), 5).0.unwrap(), hex(Sha256::digest(TEXT)));
        for other in [gzip(TEXT, 0), TEXT.to_vec()] {
            let Err(Problem::Content(reason)) = verify(&entry, &other, 5).0 else { panic!("accepted") };
            assert!(reason.contains("as published, compressed"), "{reason}");
        }
    }

    #[test]
    fn every_kind_of_wrong_content_is_told_apart_and_leaves_nothing_behind() {
        let whole = gzip(TEXT, 6);
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let cases: [(&str, Vec<u8>, &str); 6] = [
            ("empty", Vec::new(), "0 of 46 bytes"),
            ("other text", b"score patching, score matching, score matching".to_vec(), "expected"),
            ("too long", [TEXT, b"!"].concat(), "more than the expected 46 bytes"),
            ("gzip bomb", gzip(&[0; 100_000], 9), "more than the expected 46 bytes"),
            ("truncated", whole[..whole.len() - 9].to_vec(), "end early"),
            ("bad checksum", flipped, "corrupt"),
        ];
        for (name, bytes, expected) in cases {
            let (result, names) = verify(&entry(Some(TEXT), None), &bytes, 7);
            let Err(Problem::Content(reason)) = result else { panic!("{name}: {result:?}") };
            assert!(reason.contains(expected), "{name}: {reason}");
            assert!(names.is_empty(), "{name}: {names:?}");
        }
    }
}
