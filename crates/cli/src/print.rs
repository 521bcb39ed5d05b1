//! Lines on standard output and standard error.
//!
//! `println!` panics where nobody reads (`fokker list recipes | head -1`) and on a full disk.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;

static QUIET: AtomicBool = AtomicBool::new(false);

/// Whether `--quiet` was given: then only answers and errors are printed.
pub(crate) fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// See [`set_quiet`].
pub(crate) fn quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Prints what a command was asked for. A reader that has gone away is not an error, a full disk is.
pub(crate) fn answer(text: impl Display) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints what is said besides a command's work, which is not to fail because nobody listens.
pub(crate) fn say(text: impl Display) {
    if quiet() {
        return;
    }
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints how things go on standard error, if it can.
pub(crate) fn note(text: impl Display) {
    if !quiet() {
        error(text);
    }
}

/// Prints a line on standard error, if it can.
pub(crate) fn error(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
