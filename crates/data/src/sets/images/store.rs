//! The files of a folder or of a zip archive, by relative path.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use crate::error::DataError;

/// A folder or zip archive with the sorted relative paths (with `/`) of its images.
pub(super) struct Store {
    path: PathBuf,
    archive: Option<ZipArchive<BufReader<File>>>,
    images: Vec<String>,
    others: HashSet<String>,
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Store, DataError> {
        let failed = |source| DataError::read(path, source);
        let mut names = Vec::new();
        let archive = if std::fs::metadata(path).map_err(failed)?.is_dir() {
            let mut visited = HashSet::new();
            walk(path, "", &mut visited, &mut names)?;
            None
        } else {
            let archive = ZipArchive::new(BufReader::new(File::open(path).map_err(failed)?)).map_err(|error| {
                let found = format!("unreadable ({error})");
                DataError::format(path, "the zip archive", found, "a folder or a whole zip archive of images")
            })?;
            let files = archive.file_names().filter(|name| !name.ends_with('/'));
            names.extend(files.filter(|name| !is_hidden(name)).map(str::to_owned));
            Some(archive)
        };
        let (mut images, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| is_image(name));
        images.sort();
        Ok(Store { path: path.to_owned(), archive, images, others: others.into_iter().collect() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn images(&self) -> &[String] {
        &self.images
    }

    /// Whether there is a file that is not an image under this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.others.contains(name)
    }

    /// What to call a file in a message.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn read(&mut self, name: &str) -> Result<Vec<u8>, DataError> {
        let path = self.path_of(name);
        let bytes = match &mut self.archive {
            None => std::fs::read(&path),
            Some(archive) => archive.by_name(name).map_err(io::Error::other).and_then(|mut member| {
                let mut bytes = Vec::new();
                member.read_to_end(&mut bytes).map(|_| bytes)
            }),
        };
        bytes.map_err(|source| DataError::read(path, source))
    }
}

/// Adds the files below `folder`, whose own relative path is `prefix`, following links but never in a circle.
fn walk(folder: &Path, prefix: &str, visited: &mut HashSet<PathBuf>, names: &mut Vec<String>) -> Result<(), DataError> {
    let failed = |source| DataError::read(folder, source);
    if !visited.insert(folder.canonicalize().map_err(failed)?) {
        return Ok(());
    }
    let mut entries = std::fs::read_dir(folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    // The order decides under which name a folder with several links is visited.
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let path = entry.path();
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str() else {
            return Err(DataError::format(&path, "the file name", "not UTF-8", "a name that is"));
        };
        if is_hidden(name) {
            continue;
        }
        let metadata = std::fs::metadata(&path).map_err(|source| DataError::read(&path, source))?;
        if metadata.is_dir() {
            walk(&path, &format!("{prefix}{name}/"), visited, names)?;
        } else {
            names.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
}

fn is_image(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}
