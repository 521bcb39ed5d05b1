//! `cargo xtask data NAME`: the files of a data set, verified, in `data/NAME/`.
//!
//! A file appears under its own name only after it has been verified; until then it is
//! `FILE.part` (as downloaded, kept so that a broken download can go on) or `FILE.unverified`.

mod download;
mod local;
mod manifest;
mod record;
mod unpack;
mod verify;

use crate::{Failure, Outcome, run};
use manifest::{DataSet, Entry, Manifest};
use record::Record;
use std::path::{Path, PathBuf};

/// Arguments of `cargo xtask data`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask data mnist\n  cargo xtask data mnist --from ~/Downloads/mnist\n  \
                        cargo xtask data cifar10 --from https://mirror.example.org/cifar/")]
pub(crate) struct Args {
    /// Which data set: a section of the manifest
    name: String,
    /// Take the files from this folder (compressed or not) or base URL instead of the mirrors
    #[arg(long, value_name = "DIR|URL")]
    from: Option<String>,
    /// Where NAME/ is created [default: data/ of the workspace]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// The list of data sets [default: data/manifest.toml of the workspace]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

/// Where the files are to come from.
enum Source {
    Folder(PathBuf),
    Mirrors(Vec<String>),
}

/// Fetches what is missing and verifies what is there.
pub(crate) fn run(args: &Args) -> Outcome {
    let root = run::workspace_root()?;
    let manifest_path = args.manifest.clone().unwrap_or_else(|| root.join("data/manifest.toml"));
    let manifest = Manifest::read(&manifest_path)?;
    let set = manifest.get(&args.name).ok_or_else(|| {
        Failure::Usage(format!(
            "no data set named '{}'; {} has: {}",
            args.name,
            manifest_path.display(),
            manifest.names().join(", ")
        ))
    })?;
    let source = match &args.from {
        None => Source::Mirrors(set.mirrors.clone()),
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => Source::Mirrors(vec![url.clone()]),
        Some(folder) if Path::new(folder).is_dir() => Source::Folder(PathBuf::from(folder)),
        Some(other) => {
            return Err(Failure::new(format!("--from {other}: neither a folder nor an http(s) URL")));
        }
    };

    let folder = args.into.clone().unwrap_or_else(|| root.join("data")).join(&args.name);
    std::fs::create_dir_all(&folder).map_err(|e| Failure::new(format!("{}: {e}", folder.display())))?;
    let shown = folder.strip_prefix(&root).unwrap_or(&folder).to_path_buf();
    println!("{}\n  source:  {}\n  licence: {}", set.title, set.source, set.licence);
    fetch_set(set, &source, &folder, &shown)?;
    println!("{}: complete, {} files verified", shown.display(), set.files.len());
    Ok(())
}

/// Brings every file of `set` into `folder`; `shown` is the folder's name in messages.
fn fetch_set(set: &DataSet, source: &Source, folder: &Path, shown: &Path) -> Outcome {
    let mut record = Record::read(folder)?;
    let mut missing = Vec::new();
    for entry in &set.files {
        match state_of(entry, folder, &record)? {
            State::Verified => println!("{}: already there, verified", shown.join(&entry.name).display()),
            State::Absent => missing.push(entry),
            State::Different(why) => {
                println!("{}: {why}; fetching it again", shown.join(&entry.name).display());
                missing.push(entry);
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    if let Some(archive) = &set.archive {
        let unpacked = match source {
            Source::Folder(from) => unpack::from_file(&local::find_archive(archive, from)?, archive, &set.files, folder)?,
            Source::Mirrors(mirrors) => {
                let file = download::archive(archive, mirrors, folder)?;
                let unpacked = unpack::from_file(&file, archive, &set.files, folder)?;
                download::forget(&file);
                unpacked
            }
        };
        for (entry, sha256) in set.files.iter().zip(unpacked) {
            record.insert(&entry.name, sha256);
            println!("{}: unpacked and verified", shown.join(&entry.name).display());
        }
        return record.write(folder);
    }
    for entry in missing {
        let sha256 = match source {
            Source::Folder(from) => local::copy(entry, from, folder)?,
            Source::Mirrors(mirrors) => download::file(entry, mirrors, folder)?,
        };
        record.insert(&entry.name, sha256);
        // After each file: an interrupted run then repeats nothing.
        record.write(folder)?;
        println!("{}: verified", shown.join(&entry.name).display());
    }
    Ok(())
}

enum State {
    Verified,
    Absent,
    Different(String),
}

/// Whether the file in place is the one the manifest, or the record of an earlier verified fetch, describes.
fn state_of(entry: &Entry, folder: &Path, record: &Record) -> Outcome<State> {
    let path = folder.join(&entry.name);
    if !path.exists() {
        return Ok(State::Absent);
    }
    let Some(expected) = entry.sha256.as_deref().or_else(|| record.get(&entry.name)) else {
        return Ok(State::Different("there, but nothing says what it should be".into()));
    };
    let found = verify::sha256_of_file(&path)?;
    Ok(if found == expected {
        State::Verified
    } else {
        State::Different(format!("there, but its SHA-256 is {found}, expected {expected}"))
    })
}
