//! Files that appear whole or not at all.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::error::DataError;

/// Writes a file through a temporary one in the same folder, synced and then renamed over `path`.
///
/// A reader, or the next run after a crash or a full disk, finds the old content or the new, never a part. The
/// folder is created if it is missing.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("note.txt");
/// fokker_data::atomic_write(&path, |file| file.write_all(b"all of it"))?;
/// assert_eq!(std::fs::read(&path).unwrap(), b"all of it");
/// # Ok::<(), fokker_data::DataError>(())
/// ```
///
/// # Errors
/// [`DataError::Write`] with what the system or `fill` said; `path` is then as it was before.
pub fn atomic_write(path: impl AsRef<Path>, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), DataError> {
    let path = path.as_ref();
    write(path, fill).map_err(|source| DataError::write(path, source))
}

/// Removes what a killed [`atomic_write`] left in `folder`; returns how many files that were. A folder that is not there has
/// none.
///
/// Nobody else may be writing there: their temporary files would go too.
///
/// # Errors
/// [`DataError::Write`] when the folder cannot be read, or a file not be removed.
pub fn remove_leftovers(folder: impl AsRef<Path>) -> Result<usize, DataError> {
    let folder = folder.as_ref();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(|source| DataError::write(folder, source))?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(|source| DataError::write(folder, source))?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && entry.file_name().to_str().is_some_and(is_temporary) {
            std::fs::remove_file(entry.path()).map_err(|source| DataError::write(entry.path(), source))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The length of the random part of a temporary file's name.
const RANDOM: usize = 6;

/// Whether a name is one of [`write`]'s temporary names, `.NAME.random.tmp`.
pub fn is_temporary(name: &str) -> bool {
    let inner = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp"));
    let Some((file, random)) = inner.and_then(|inner| inner.rsplit_once('.')) else { return false };
    !file.is_empty() && random.len() == RANDOM && random.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let name =
        path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a file name"))?;
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder)?;

    let prefix = format!(".{}.", name.to_string_lossy());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).rand_bytes(RANDOM).suffix(".tmp");
    // Temporary files are private by default, but this one becomes an ordinary file of the user's.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;

    let mut writer = BufWriter::with_capacity(1 << 16, file.as_file_mut());
    fill(&mut writer)?;
    writer.flush()?;
    drop(writer);
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename itself is durable only once the folder is.
    #[cfg(unix)]
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept.bin");
        atomic_write(&path, |file| file.write_all(b"old")).unwrap();
        let error = atomic_write(&path, |file| {
            file.write_all(&[7; 1 << 17])?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert!(error.to_string().contains("kept.bin"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["kept.bin"]);
    }

    #[test]
    fn a_write_replaces_the_file_and_makes_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c.bin");
        atomic_write(&path, |file| file.write_all(b"one")).unwrap();
        atomic_write(&path, |file| file.write_all(b"two")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(names(path.parent().unwrap()), ["c.bin"]);
    }

    #[test]
    fn leftovers_of_a_killed_write_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut during = Vec::new();
        atomic_write(folder.path().join("a.bin"), |_| {
            during = names(folder.path());
            Ok(())
        })
        .unwrap();
        // What a kill would have left at that moment.
        std::fs::write(folder.path().join(&during[0]), b"part").unwrap();
        for name in ["x.tmp", ".x.tmp", ".profile", ".x.short.tmp", ".x.sev-en.tmp"] {
            std::fs::write(folder.path().join(name), b"a user's").unwrap();
        }
        assert_eq!(remove_leftovers(folder.path()).unwrap(), 1);
        let mut left = names(folder.path());
        left.sort();
        assert_eq!(left, [".profile", ".x.sev-en.tmp", ".x.short.tmp", ".x.tmp", "a.bin", "x.tmp"]);
        assert_eq!(remove_leftovers(folder.path().join("none")).unwrap(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn written_files_have_ordinary_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (plain, ours) = (folder.path().join("plain"), folder.path().join("ours"));
        std::fs::write(&plain, b"").unwrap();
        atomic_write(&ours, |_| Ok(())).unwrap();
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn a_folder_in_the_way_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(atomic_write(folder.path(), |_| Ok(())).is_err());
    }
}
