//! Taking the listed files, and nothing else, out of a verified `.tar.gz`.

use super::manifest::{Archive, Entry};
use super::verify::{Problem, Verifier};
use crate::{Failure, Outcome};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Unpacks every entry of `files` from the archive at `path` into `folder`.
///
/// Names and sizes come from the manifest, never from the archive, and only regular files are read:
/// links and paths that lead elsewhere have no effect. Returns the files' SHA-256 in their order.
pub(super) fn from_file(path: &Path, archive: &Archive, files: &[Entry], folder: &Path) -> Outcome<Vec<String>> {
    let fault = |reason: String| Failure::new(format!("{}: {reason}", archive.name));
    let file = File::open(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
    let mut tar = tar::Archive::new(MultiGzDecoder::new(BufReader::new(file)));
    let mut hashes: Vec<Option<String>> = vec![None; files.len()];
    for member in tar.entries().map_err(|e| fault(e.to_string()))? {
        let mut member = member.map_err(|e| fault(e.to_string()))?;
        let name = member.path_bytes().into_owned();
        let listed = |entry: &Entry| entry.member.as_ref().is_some_and(|m| m.as_bytes() == name.as_slice());
        let Some(index) = files.iter().position(listed) else {
            continue;
        };
        let entry = &files[index];
        let shown = String::from_utf8_lossy(&name).into_owned();
        if !member.header().entry_type().is_file() {
            return Err(fault(format!("{shown}: expected a regular file")));
        }
        if hashes[index].is_some() {
            return Err(fault(format!("{shown}: is in the archive twice")));
        }
        let size = member.size();
        if size != entry.bytes {
            return Err(fault(format!("{shown}: has {size} bytes, expected {}", entry.bytes)));
        }
        let sha256 = copy(&mut member, entry, folder).map_err(|problem| match problem {
            Problem::Content(reason) => fault(format!("{shown}: {reason}")),
            Problem::Disk(reason) => Failure::new(reason),
        })?;
        hashes[index] = Some(sha256);
    }
    let missing: Vec<&str> =
        files.iter().zip(&hashes).filter(|(_, hash)| hash.is_none()).map(|(entry, _)| entry.name.as_str()).collect();
    if !missing.is_empty() {
        return Err(fault(format!("has no {}", missing.join(", "))));
    }
    Ok(hashes.into_iter().flatten().collect())
}

fn copy(member: &mut impl Read, entry: &Entry, folder: &Path) -> Result<String, Problem> {
    let mut verifier = Verifier::new(entry, folder)?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match member.read(&mut buffer) {
            Ok(0) => return verifier.finish(),
            Ok(n) => verifier.take(&buffer[..n])?,
            Err(e) => return Err(Problem::Content(e.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use tar::{EntryType, Header};

    /// A tar.gz with the given members; a link's bytes are where it leads.
    fn archive(members: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, kind, bytes) in members {
            let mut header = Header::new_gnu();
            // Written directly: the builder itself refuses names such as `../x`.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            if kind.is_symlink() {
                header.set_link_name(std::str::from_utf8(bytes).unwrap()).unwrap();
            }
            let content: &[u8] = if kind.is_file() { bytes } else { &[] };
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, content).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn unpack(bytes: &[u8]) -> (Outcome<Vec<String>>, Vec<String>) {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("in");
        std::fs::create_dir(&folder).unwrap();
        let path = outer.path().join("set.tar.gz");
        std::fs::write(&path, bytes).unwrap();
        let entry = |name: &str| Entry {
            name: name.into(),
            member: Some(format!("set/{name}")),
            bytes: 3,
            sha256: None,
            download_sha256: None,
        };
        let described = Archive { name: "set.tar.gz".into(), bytes: bytes.len() as u64, sha256: String::new() };
        let result = from_file(&path, &described, &[entry("a.bin"), entry("b.bin")], &folder);
        assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 2, "something was written outside");
        let mut names: Vec<String> =
            std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        (result, names)
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn only_the_listed_members_are_taken() {
        let bytes = archive(&[
            ("set/b.bin", FILE, b"bbb"),
            ("../escaped", FILE, b"xxx"),
            ("set/readme.html", FILE, b"<p>"),
            ("set/a.bin", FILE, b"aaa"),
        ]);
        let (result, names) = unpack(&bytes);
        let hashes = result.unwrap();
        // SHA-256 of "aaa".
        assert_eq!(hashes[0], "9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0");
        assert_eq!(names, ["a.bin", "b.bin"]);
    }

    #[test]
    fn links_duplicates_wrong_sizes_and_missing_members_are_refused() {
        let cases: [(&str, Vec<u8>); 4] = [
            ("expected a regular file", archive(&[("set/a.bin", EntryType::Symlink, b"/etc/hostname")])),
            ("twice", archive(&[("set/a.bin", FILE, b"aaa"), ("set/a.bin", FILE, b"aab")])),
            ("has 4 bytes, expected 3", archive(&[("set/a.bin", FILE, b"aaaa")])),
            ("has no b.bin", archive(&[("set/a.bin", FILE, b"aaa")])),
        ];
        for (expected, bytes) in cases {
            let (result, _) = unpack(&bytes);
            let Err(Failure::Failed(reason)) = result else { panic!("{expected}: accepted") };
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn a_truncated_archive_is_refused() {
        let whole = archive(&[("set/a.bin", FILE, b"aaa"), ("set/b.bin", FILE, b"bbb")]);
        assert!(unpack(&whole[..whole.len() / 2]).0.is_err());
    }
}
