//! Downloads that go on where they broke off, from the first mirror that has a good copy.
//!
//! What has come lies in `FILE.part`; `FILE.part.source` says from where. To go on, the part is read
//! back through the same checks as fresh bytes and the rest asked for with `Range` (RFC 9110,
//! section 14). A server that ignores the range sends the file whole, and the part is dropped. If
//! the result of a resumed download is wrong, the part may have belonged to another version of the
//! file, so it is fetched once more from the start.

mod http;

use super::manifest::{Archive, Entry};
use super::verify::{ArchiveCheck, Problem, Verifier};
use crate::{Failure, Outcome};
use http::{Answer, Body};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Attempts in a row that bring nothing new before a mirror is given up.
const FRUITLESS_ATTEMPTS: u32 = 3;
/// Attempts on one mirror altogether.
const ALL_ATTEMPTS: u32 = 50;
/// Pause after the first failed attempt; each further one waits as long again.
const PAUSE: Duration = Duration::from_millis(250);

/// Decides over a file that comes in pieces.
pub(super) trait Check {
    /// The next piece.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Problem>;
    /// Whether all bytes have come, where their number is known beforehand.
    fn is_full(&self) -> bool {
        false
    }
    /// After the last piece: the SHA-256 of the file as used, if it is the right one.
    fn finish(self: Box<Self>) -> Result<String, Problem>;
}

impl Check for Verifier<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.take(bytes)
    }

    fn finish(self: Box<Self>) -> Result<String, Problem> {
        (*self).finish()
    }
}

impl Check for ArchiveCheck<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.take(bytes)
    }

    fn is_full(&self) -> bool {
        self.is_full()
    }

    fn finish(self: Box<Self>) -> Result<String, Problem> {
        (*self).finish()
    }
}

/// How one attempt on one URL ended.
enum Attempt {
    Done(String),
    /// The connection failed or ended early: going on may help.
    Broken(String),
    /// The server does not have the file.
    Refused(String),
    /// The bytes are not those of the file.
    Wrong {
        reason: String,
        resumed: bool,
    },
}

/// One file to download.
struct Job<'a> {
    part: PathBuf,
    /// Whether all mirrors have it byte for byte, so that one can go on where another broke off.
    same_everywhere: bool,
    begin: Box<dyn Fn() -> Result<Box<dyn Check + 'a>, Problem> + 'a>,
}

/// Downloads one file into `folder`, verified and decompressed; its SHA-256.
pub(super) fn file(entry: &Entry, mirrors: &[String], folder: &Path) -> Outcome<String> {
    let job = Job {
        part: folder.join(format!("{}.part", entry.name)),
        same_everywhere: entry.sha256.is_none() && entry.download_sha256.is_some(),
        begin: Box::new(|| Ok(Box::new(Verifier::new(entry, folder)?))),
    };
    let sha256 = job.try_mirrors(&entry.name, &[format!("{}.gz", entry.name), entry.name.clone()], mirrors)?;
    forget(&job.part);
    Ok(sha256)
}

/// Downloads an archive, verified but still packed; the path it lies at. [`forget`] removes it.
pub(super) fn archive(archive: &Archive, mirrors: &[String], folder: &Path) -> Outcome<PathBuf> {
    let job = Job {
        part: folder.join(format!("{}.part", archive.name)),
        same_everywhere: true,
        begin: Box::new(|| Ok(Box::new(ArchiveCheck::new(archive)))),
    };
    job.try_mirrors(&archive.name, std::slice::from_ref(&archive.name), mirrors)?;
    Ok(job.part)
}

/// Removes a part file and the note beside it.
pub(super) fn forget(part: &Path) {
    // Either may be absent; what cannot be removed now is replaced by the next download.
    let _ = std::fs::remove_file(part);
    let _ = std::fs::remove_file(note_of(part));
}

fn note_of(part: &Path) -> PathBuf {
    part.with_added_extension("source")
}

impl Job<'_> {
    /// Tries `names` on each mirror in turn; the second name only where the first is not there.
    fn try_mirrors(&self, shown: &str, names: &[String], mirrors: &[String]) -> Outcome<String> {
        let mut reasons = String::new();
        for mirror in mirrors {
            for name in names {
                let url = format!("{}/{name}", mirror.trim_end_matches('/'));
                match self.try_url(&url)? {
                    Ok(sha256) => return Ok(sha256),
                    Err(reason) => {
                        eprintln!("{url}: {}", reason.text);
                        reasons.push_str(&format!("\n  {url}: {}", reason.text));
                        if !reason.not_there {
                            break;
                        }
                    }
                }
            }
        }
        Err(Failure::new(format!("{shown}: no mirror gave a good copy:{reasons}")))
    }

    /// Attempts one URL until the file is there or there is no point in going on.
    fn try_url(&self, url: &str) -> Outcome<Result<String, Reason>> {
        let mut furthest = 0;
        let mut fruitless = 0;
        for _ in 0..ALL_ATTEMPTS {
            let reason = match self.attempt(url)? {
                Attempt::Done(sha256) => return Ok(Ok(sha256)),
                Attempt::Refused(text) => {
                    return Ok(Err(Reason { text, not_there: true }));
                }
                Attempt::Wrong { reason, resumed } => {
                    forget(&self.part);
                    if !resumed {
                        return Ok(Err(Reason { text: reason, not_there: false }));
                    }
                    eprintln!("{url}: {reason}; it was a resumed download, so once more from the start");
                    continue;
                }
                Attempt::Broken(reason) => reason,
            };
            let reached = match self.usable_note(url) {
                Some(_) => std::fs::metadata(&self.part).map_or(0, |m| m.len()),
                None => 0,
            };
            if reached > furthest {
                (furthest, fruitless) = (reached, 0);
            }
            fruitless += 1;
            if fruitless == FRUITLESS_ATTEMPTS {
                return Ok(Err(Reason { text: reason, not_there: false }));
            }
            eprintln!("{url}: {reason}; trying again from byte {reached}");
            std::thread::sleep(PAUSE * fruitless);
        }
        Ok(Err(Reason { text: format!("not complete after {ALL_ATTEMPTS} attempts"), not_there: false }))
    }

    fn attempt(&self, url: &str) -> Outcome<Attempt> {
        let mut check = match (self.begin)() {
            Ok(check) => check,
            Err(problem) => return self.judged(problem, false),
        };
        let note = self.usable_note(url);
        let mut offset = 0;
        if note.is_some() {
            match feed_file(check.as_mut(), &self.part) {
                Ok(bytes) => offset = bytes,
                Err(problem) => return self.judged(problem, true),
            }
            if check.is_full() {
                return self.finished(check, true);
            }
        }
        let validator = note.filter(|note| note.url == url).and_then(|note| note.validator);
        let body = match http::get(url, offset, validator.as_deref()) {
            Answer::Whole(body) => {
                if offset > 0 {
                    // First, for both write the same unverified file and the old one removes it.
                    drop(check);
                    check = match (self.begin)() {
                        Ok(check) => check,
                        Err(problem) => return self.judged(problem, false),
                    };
                    offset = 0;
                }
                self.write_note(url, body.validator.as_deref())?;
                body
            }
            Answer::Rest(body) => body,
            Answer::NothingLeft => return self.finished(check, true),
            Answer::BadRange(reason) => {
                return Ok(Attempt::Wrong { reason, resumed: true });
            }
            Answer::Refused(reason) => return Ok(Attempt::Refused(reason)),
            Answer::Broken(reason) => return Ok(Attempt::Broken(reason)),
        };
        self.stream(url, body, check, offset)
    }

    /// Passes the body on to the part file and the check.
    fn stream<'c>(&self, url: &str, mut body: Body, mut check: Box<dyn Check + 'c>, offset: u64) -> Outcome<Attempt> {
        let disk = |e: std::io::Error| Failure::new(format!("{}: {e}", self.part.display()));
        let mut options = OpenOptions::new();
        let mut part = if offset > 0 { options.append(true) } else { options.write(true).create(true).truncate(true) }
            .open(&self.part)
            .map_err(disk)?;
        let bar = progress_bar(url, body.total, offset);
        let mut received = offset;
        let mut buffer = vec![0; 1 << 16];
        let ended = loop {
            match body.reader.read(&mut buffer) {
                Ok(0) => break None,
                Ok(n) => {
                    part.write_all(&buffer[..n]).map_err(disk)?;
                    if let Err(problem) = check.take(&buffer[..n]) {
                        bar.finish_and_clear();
                        return self.judged(problem, offset > 0);
                    }
                    received += n as u64;
                    bar.set_position(received);
                }
                Err(e) => break Some(e.to_string()),
            }
        };
        bar.finish_and_clear();
        let short = body.total.filter(|&total| received < total);
        match (ended, short) {
            (Some(reason), _) => {
                let of = body.total.map_or(String::new(), |total| format!(" of {total}"));
                Ok(Attempt::Broken(format!("broke off after {received}{of} bytes: {reason}")))
            }
            (None, Some(total)) => Ok(Attempt::Broken(format!("broke off after {received} of {total} bytes"))),
            (None, None) => self.finished(check, offset > 0),
        }
    }

    fn finished<'c>(&self, check: Box<dyn Check + 'c>, resumed: bool) -> Outcome<Attempt> {
        match check.finish() {
            Ok(sha256) => Ok(Attempt::Done(sha256)),
            Err(problem) => self.judged(problem, resumed),
        }
    }

    fn judged(&self, problem: Problem, resumed: bool) -> Outcome<Attempt> {
        match problem {
            Problem::Content(reason) => Ok(Attempt::Wrong { reason, resumed }),
            Problem::Disk(reason) => Err(Failure::new(reason)),
        }
    }

    /// The note beside the part file, if the part can be continued from `url`.
    fn usable_note(&self, url: &str) -> Option<Note> {
        if !self.part.is_file() {
            return None;
        }
        let text = std::fs::read_to_string(note_of(&self.part)).ok()?;
        let mut lines = text.lines();
        let note = Note { url: lines.next()?.to_owned(), validator: lines.next().map(str::to_owned) };
        (note.url == url || self.same_everywhere).then_some(note)
    }

    fn write_note(&self, url: &str, validator: Option<&str>) -> Outcome {
        // The part of another source must not be taken for this one's, should the note be written
        // and the program be stopped before the part is truncated.
        forget(&self.part);
        let text = format!("{url}\n{}", validator.map_or(String::new(), |v| format!("{v}\n")));
        let path = note_of(&self.part);
        std::fs::write(&path, text).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
    }
}

/// Why a URL gave no file.
struct Reason {
    text: String,
    /// The server answered that it has no such file: another name may do.
    not_there: bool,
}

/// Where a part came from.
struct Note {
    url: String,
    /// The ETag or date that named this version of the file.
    validator: Option<String>,
}

/// Reads the part so far through the check; its length.
fn feed_file(check: &mut dyn Check, part: &Path) -> Result<u64, Problem> {
    let disk = |e: std::io::Error| Problem::Disk(format!("{}: {e}", part.display()));
    let mut file = File::open(part).map_err(disk)?;
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer).map_err(disk)? {
            0 => return Ok(bytes),
            n => {
                check.take(&buffer[..n])?;
                bytes += n as u64;
            }
        }
    }
}

/// A bar on the terminal; nothing where standard error is not one.
fn progress_bar(url: &str, total: Option<u64>, offset: u64) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left"),
        None => (ProgressBar::no_length(), "{msg} {spinner} {bytes} {bytes_per_sec}"),
    };
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    let name = url.rsplit('/').next().unwrap_or(url).to_owned();
    bar.with_style(style.progress_chars("=> ")).with_message(name).with_position(offset)
}
