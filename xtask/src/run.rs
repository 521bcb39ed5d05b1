//! Running cargo and git from a task.

use crate::{Failure, Outcome};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace root: the nearest folder at or above the current one whose Cargo.toml has `[workspace]`.
pub(crate) fn workspace_root() -> Outcome<PathBuf> {
    let start = std::env::current_dir().map_err(|e| Failure::new(format!("current directory: {e}")))?;
    for folder in start.ancestors() {
        let is_root = std::fs::read_to_string(folder.join("Cargo.toml"))
            .is_ok_and(|text| text.lines().any(|line| line.trim() == "[workspace]"));
        if is_root {
            return Ok(folder.to_path_buf());
        }
    }
    Err(Failure::new(format!("{}: not inside a cargo workspace", start.display())))
}

/// Whether `cargo run` sets this variable for the program it starts.
///
/// Build scripts that watch such variables (ring's does) would take their presence for a change and
/// be rebuilt, together with all that depends on them, each time a task runs cargo and again each
/// time the user does.
fn is_set_by_cargo_run(name: &str) -> bool {
    matches!(name, "CARGO" | "CARGO_CRATE_NAME" | "CARGO_BIN_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR")
        || name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
}

/// A cargo command in the workspace root, with the environment of a cargo that a person started.
pub(crate) fn cargo(root: &Path, args: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(root).args(args);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_set_by_cargo_run) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command with the terminal's output; `Ok(true)` if it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> Outcome<bool> {
    let status = command.status().map_err(|e| Failure::new(format!("cannot start {}: {e}", command.get_program().display())))?;
    Ok(status.success())
}

/// The paths git tracks, relative to `root`, without those removed from the working tree.
pub(crate) fn tracked_files(root: &Path) -> Outcome<Vec<PathBuf>> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z"])
        .output()
        .map_err(|e| Failure::new(format!("cannot start git: {e}")))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("git ls-files: {}", reason.trim())));
    }
    let listing =
        String::from_utf8(output.stdout).map_err(|_| Failure::new("git ls-files: a tracked file's name is not UTF-8"))?;
    Ok(listing.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).filter(|path| root.join(path).is_file()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_cargo_run_are_told_from_those_of_the_user() {
        for name in ["CARGO", "CARGO_PKG_NAME", "CARGO_PKG_VERSION_MAJOR", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH"] {
            assert!(is_set_by_cargo_run(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_INCREMENTAL", "CARGO_TERM_COLOR", "PATH"] {
            assert!(!is_set_by_cargo_run(name), "{name}");
        }
    }

    #[test]
    fn the_workspace_root_is_found_from_a_member() {
        // Tests run in the package's folder.
        let root = workspace_root().unwrap();
        assert!(root.join("xtask/Cargo.toml").is_file(), "{}", root.display());
    }
}
