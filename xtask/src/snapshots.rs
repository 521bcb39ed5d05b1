//! `cargo xtask snapshots`: what changed in the trajectory snapshots, as numbers.
//!
//! The tests of `conformance` whose names begin with `snapshot_` write what they compute beside the
//! committed `*.snap` as `*.snap.new` where it differs. A text diff of trajectories says little;
//! here each changed number is shown with its absolute and relative difference.

mod compare;

use crate::{Failure, Outcome, run};
use std::path::{Path, PathBuf};

/// Arguments of `cargo xtask snapshots`.
#[derive(clap::Args)]
#[command(after_help = "Without an option it checks.")]
pub(crate) struct Args {
    /// Fail if a snapshot changed; leave the files as they are
    #[arg(long, conflicts_with = "accept")]
    check: bool,
    /// Replace the snapshots that changed, after showing the differences
    #[arg(long)]
    accept: bool,
}

/// Runs the snapshot tests and shows, and with `--accept` keeps, what changed.
pub(crate) fn run(args: &Args) -> Outcome {
    let root = run::workspace_root()?;
    let folder = root.join("tests");
    // Left over from a test run by hand: not what the code gives now.
    for stale in pending(&folder)? {
        remove(&stale)?;
    }
    let mut command = run::cargo(&root, &["test", "--package", "conformance", "--test", "snapshots"]);
    command.env("INSTA_UPDATE", "new").env("INSTA_OUTPUT", "none");
    // The panic of a changed snapshot is expected; where it came from is no news.
    command.env("RUST_BACKTRACE", "0");
    // To accept all changes in one go, a test must reach its later snapshots past a changed one.
    // To check, it must not pass by it.
    command.env("INSTA_FORCE_PASS", if args.accept { "1" } else { "0" });
    let passed = run::succeeds(&mut command)?;

    let changed = pending(&folder)?;
    let report = settle(&changed, &root, args.accept)?;
    print!("{report}");
    let count = changed.len();
    match (passed, count, args.accept) {
        (true, 0, _) => {
            println!("snapshots: none changed");
            Ok(())
        }
        (true, _, true) => {
            println!("snapshots: {count} accepted");
            Ok(())
        }
        (false, _, true) => Err(Failure::new(format!("{count} snapshots accepted, but the tests failed (see above)"))),
        (_, 0, false) => Err(Failure::new("the snapshot tests failed without a changed snapshot (see above)")),
        (_, _, false) => {
            Err(Failure::new(format!("{count} snapshots changed; if that is meant: cargo xtask snapshots --accept")))
        }
    }
}

/// Reports each changed snapshot, then accepts or discards the new version.
fn settle(changed: &[PathBuf], root: &Path, accept: bool) -> Outcome<String> {
    let mut report = String::new();
    for new in changed {
        let old = new.with_extension("");
        let shown = old.strip_prefix(root).unwrap_or(&old).display().to_string();
        let before = if old.exists() { Some(read(&old)?) } else { None };
        let after = read(new)?;
        report.push_str(&compare::report(&shown, before.as_deref(), &after));
        if accept {
            std::fs::write(new, without_assertion_line(&after)).map_err(|e| Failure::new(format!("{}: {e}", new.display())))?;
            std::fs::rename(new, &old).map_err(|e| Failure::new(format!("{}: {e}", old.display())))?;
        } else {
            remove(new)?;
        }
    }
    Ok(report)
}

/// The snapshot without the line number of its assertion, which moves with every edit of the tests.
fn without_assertion_line(snapshot: &str) -> String {
    let header = snapshot.len() - compare::body(snapshot).len();
    let kept = |line: &&str| !line.starts_with("assertion_line:");
    let lines = snapshot[..header].split_inclusive('\n').filter(kept);
    lines.chain([&snapshot[header..]]).collect()
}

fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

fn remove(path: &Path) -> Outcome {
    std::fs::remove_file(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

/// All `*.snap.new` below `folder`, in order.
fn pending(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let fault = |e: std::io::Error| Failure::new(format!("{}: {e}", folder.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(pending(&path)?);
        } else if path.to_string_lossy().ends_with(".snap.new") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = folder.path().join("tests/snapshots");
        std::fs::create_dir_all(&snapshots).unwrap();
        std::fs::write(snapshots.join("heun.snap"), "---\nsource: a\n---\n1.0 2.0\n").unwrap();
        std::fs::write(snapshots.join("heun.snap.new"), "---\nsource: a\n---\n1.0 2.5\n").unwrap();
        std::fs::write(snapshots.join("ddim.snap.new"), "---\nsource: a\n---\n3.0\n").unwrap();
        folder
    }

    fn text(folder: &Path, name: &str) -> Option<String> {
        std::fs::read_to_string(folder.join("snapshots").join(name)).ok()
    }

    #[test]
    fn accepting_replaces_the_old_snapshots_and_adds_new_ones() {
        let root = folder();
        let tests = root.path().join("tests");
        let changed = pending(&tests).unwrap();
        assert_eq!(changed.len(), 2);
        let report = settle(&changed, root.path(), true).unwrap();
        assert!(report.contains("tests/snapshots/heun.snap") && report.contains("ddim.snap: new"), "{report}");
        assert!(text(&tests, "heun.snap").unwrap().ends_with("2.5\n"));
        assert!(text(&tests, "ddim.snap").unwrap().ends_with("3.0\n"));
        assert!(pending(&tests).unwrap().is_empty());
    }

    #[test]
    fn only_the_header_loses_its_assertion_line() {
        let text = "---\nsource: a\nassertion_line: 7\nexpression: b\n---\nassertion_line: 8\n1.0\n";
        assert_eq!(without_assertion_line(text), "---\nsource: a\nexpression: b\n---\nassertion_line: 8\n1.0\n");
    }

    #[test]
    fn checking_leaves_the_snapshots_as_they_were() {
        let root = folder();
        let tests = root.path().join("tests");
        settle(&pending(&tests).unwrap(), root.path(), false).unwrap();
        assert!(text(&tests, "heun.snap").unwrap().ends_with("2.0\n"));
        assert_eq!(text(&tests, "ddim.snap"), None);
        assert!(pending(&tests).unwrap().is_empty());
    }
}
