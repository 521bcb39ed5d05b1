//! `cargo xtask tidy`: rules that neither the compiler nor rustfmt nor clippy checks.

mod dependencies;
mod links;
mod rust;

use crate::{Failure, Outcome, run};
use std::fmt;
use std::path::{Path, PathBuf};

/// A source file may not be longer than this.
const MOST_LINES: usize = 600;
/// A source file longer than this is worth a word.
const MANY_LINES: usize = 500;

/// One broken rule, at a place.
#[derive(Debug, PartialEq)]
struct Finding {
    path: PathBuf,
    line: usize,
    message: String,
    /// Said, but not a failure.
    is_warning: bool,
}

impl Finding {
    fn new(path: &Path, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_path_buf(), line, message: message.into(), is_warning: false }
    }

    fn warning(path: &Path, line: usize, message: impl Into<String>) -> Self {
        Self { is_warning: true, ..Self::new(path, line, message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_warning { "warning: " } else { "" };
        write!(f, "{}:{}: {kind}{}", self.path.display(), self.line, self.message)
    }
}

/// The text files git tracks, by their path in the workspace.
struct Tree {
    files: Vec<(PathBuf, String)>,
}

impl Tree {
    fn read(root: &Path) -> Outcome<Self> {
        let mut files = Vec::new();
        for path in run::tracked_files(root)? {
            let bytes = std::fs::read(root.join(&path)).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
            // Pictures, arrays and the like are not text.
            if let Ok(text) = String::from_utf8(bytes) {
                files.push((path, text));
            }
        }
        Ok(Self { files })
    }

    fn with_extension<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = (&'a Path, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.extension().is_some_and(|e| e == extension))
            .map(|(path, text)| (path.as_path(), text.as_str()))
    }

    fn get(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|(p, _)| p == Path::new(path)).map(|(_, text)| text.as_str())
    }
}

/// Checks the working tree and prints what it finds.
pub(crate) fn run() -> Outcome {
    let root = run::workspace_root()?;
    let tree = Tree::read(&root)?;
    let mut findings = check(&tree);
    findings.extend(links::check(&tree, &|path| root.join(path).exists()));
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| !finding.is_warning).count();
    match errors {
        0 => {
            println!("tidy: {} files in order", tree.files.len());
            Ok(())
        }
        1 => Err(Failure::new("tidy: 1 finding")),
        n => Err(Failure::new(format!("tidy: {n} findings"))),
    }
}

/// Every check that needs only the text of the files.
fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in &tree.files {
        findings.extend(whitespace(path, text));
        findings.extend(machine_paths(path, text));
    }
    for (path, text) in tree.with_extension("rs") {
        findings.extend(rust::check(path, text));
        findings.extend(length(path, text));
    }
    findings.extend(dependencies::check(tree));
    findings.extend(changelog(tree));
    findings
}

/// Tabs, blanks at line ends, and the newline at the end of the file.
fn whitespace(path: &Path, text: &str) -> Vec<Finding> {
    // Written by tools or lawyers: their form is not ours to choose.
    let is_generated = path.extension().is_some_and(|e| e == "snap" || e == "lock" || e == "svg" || e == "json");
    let is_licence = path.to_string_lossy().starts_with("LICENSE");
    if is_generated || is_licence || text.is_empty() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.contains('\t') {
            findings.push(Finding::new(path, index + 1, "tab"));
        }
        if line.ends_with([' ', '\t']) {
            findings.push(Finding::new(path, index + 1, "blank at the end of the line"));
        }
    }
    let lines = text.lines().count();
    if text.contains('\r') {
        findings.push(Finding::new(path, 1, "carriage return"));
    }
    if !text.ends_with('\n') {
        findings.push(Finding::new(path, lines, "no newline at the end of the file"));
    } else if text.ends_with("\n\n") {
        findings.push(Finding::new(path, lines, "blank line at the end of the file"));
    }
    findings
}

/// Absolute paths that exist only on the machine of whoever wrote them.
fn machine_paths(path: &Path, text: &str) -> Vec<Finding> {
    // Spelled in parts, or this file would be the first finding.
    let folders = ["work", "root", "home"].map(|name| format!("/{name}/"));
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for folder in &folders {
            let is_start = |at: usize| {
                let before = &line[..at];
                // In `a/root/b` or `$x/root/b` it is a part of another path.
                let continues = |c: char| c.is_alphanumeric() || "._-~$}*/)>".contains(c);
                before.ends_with("file://") || !before.ends_with(continues)
            };
            if line.match_indices(folder.as_str()).any(|(at, _)| is_start(at)) {
                findings.push(Finding::new(path, index + 1, format!("absolute path of a machine: {folder}…")));
            }
        }
    }
    findings
}

/// Files that have grown too long to read in one go.
fn length(path: &Path, text: &str) -> Option<Finding> {
    let is_source = path.components().any(|part| part.as_os_str() == "src");
    let lines = text.lines().count();
    if !is_source || lines <= MANY_LINES {
        return None;
    }
    Some(if lines > MOST_LINES {
        Finding::new(path, MOST_LINES + 1, format!("{lines} lines, at most {MOST_LINES}: split it by meaning"))
    } else {
        Finding::warning(path, MANY_LINES + 1, format!("{lines} lines, which is many (at most {MOST_LINES})"))
    })
}

/// The changelog must have a place for what the next release brings.
fn changelog(tree: &Tree) -> Option<Finding> {
    let path = Path::new("CHANGELOG.md");
    let Some(text) = tree.get("CHANGELOG.md") else {
        return Some(Finding::new(path, 1, "there is no changelog"));
    };
    let version = tree
        .get("Cargo.toml")
        .and_then(|text| text.parse::<toml::Table>().ok())
        .and_then(|table| Some(table.get("workspace")?.get("package")?.get("version")?.as_str()?.to_owned()));
    let version = version.unwrap_or_default();
    let is_section = |line: &str| {
        let Some(title) = line.strip_prefix("## ") else {
            return false;
        };
        let name: &str = title.trim_start_matches('[').split([']', ' ']).next().unwrap_or_default();
        name.eq_ignore_ascii_case("unreleased") || (!version.is_empty() && name == version)
    };
    if text.lines().any(is_section) {
        return None;
    }
    Some(Finding::new(path, 1, format!("neither a section '## Unreleased' nor one for version {version}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of files given as path and text.
    pub(super) fn tree(files: &[(&str, &str)]) -> Tree {
        Tree { files: files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect() }
    }

    fn messages(findings: impl IntoIterator<Item = Finding>) -> Vec<String> {
        findings.into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn whitespace_faults_are_found_where_they_are() {
        let path = Path::new("a.md");
        assert_eq!(messages(whitespace(path, "fine\nfine too\n")), [""; 0]);
        assert_eq!(messages(whitespace(path, "")), [""; 0]);
        assert_eq!(messages(whitespace(path, "a\n\tb\n")), ["a.md:2: tab"]);
        assert_eq!(messages(whitespace(path, "a \nb\n")), ["a.md:1: blank at the end of the line"]);
        assert_eq!(messages(whitespace(path, "a\nb")), ["a.md:2: no newline at the end of the file"]);
        assert_eq!(messages(whitespace(path, "a\n\n")), ["a.md:2: blank line at the end of the file"]);
        assert_eq!(messages(whitespace(path, "a\r\n")), ["a.md:1: carriage return"]);
        assert_eq!(messages(whitespace(Path::new("a.snap"), "a \n\n")), [""; 0]);
    }

    #[test]
    fn machine_paths_are_found_and_other_paths_left_alone() {
        let found = |text: String| machine_paths(Path::new("a"), &text).len();
        for name in ["work", "root", "home"] {
            for prefix in ["", "see ", "\"", "`", "=", "(", "file://"] {
                assert_eq!(found(format!("{prefix}/{name}/x")), 1, "{prefix}/{name}/x");
            }
            for prefix in ["src", "$dir", "~", "https://a.example", "${dir}", "..", "https:/"] {
                assert_eq!(found(format!("{prefix}/{name}/x")), 0, "{prefix}/{name}/x");
            }
            assert_eq!(found(format!("/{name}")), 0);
        }
    }

    #[test]
    fn long_source_files_are_warned_of_and_longer_ones_refused() {
        let path = Path::new("crates/nn/src/lib.rs");
        let of = |lines: usize, path: &str| length(Path::new(path), &"x\n".repeat(lines));
        assert_eq!(of(500, "crates/nn/src/lib.rs"), None);
        assert!(of(501, "crates/nn/src/lib.rs").unwrap().is_warning);
        assert!(of(600, "crates/nn/src/lib.rs").unwrap().is_warning);
        let error = of(601, "crates/nn/src/lib.rs").unwrap();
        assert!(!error.is_warning && error.path == path && error.line == 601);
        assert_eq!(of(2000, "crates/nn/tests/long.rs"), None);
    }

    #[test]
    fn the_changelog_needs_a_current_section() {
        let cargo = "[workspace.package]\nversion = \"0.3.0\"\n";
        let of = |text: &str| changelog(&tree(&[("Cargo.toml", cargo), ("CHANGELOG.md", text)])).is_none();
        for good in ["## Unreleased\n", "## [Unreleased]\n", "# C\n## 0.3.0 - 2030-01-01\n", "## [0.3.0]\n"] {
            assert!(of(good), "{good}");
        }
        for bad in ["", "## 0.2.0\n", "## 0.3.01\n", "Unreleased\n"] {
            assert!(!of(bad), "{bad}");
        }
        assert!(changelog(&tree(&[("Cargo.toml", cargo)])).is_some());
    }

    #[test]
    fn a_tree_with_one_fault_of_each_kind_gives_each_finding() {
        let home = format!("/{}/", "home");
        let tree = tree(&[
            (
                "Cargo.toml",
                "[workspace.package]\nversion = \"0.1.0\"\n[workspace.dependencies]\nfokker-nn = { path = \"crates/nn\" }\n",
            ),
            ("crates/sde/Cargo.toml", "[package]\nname = \"fokker-sde\"\n[dependencies]\nfokker-nn.workspace = true\n"),
            ("crates/sde/src/lib.rs", "fn f() { todo!() }\n"),
            ("notes.md", &format!("{home}me\n")),
        ]);
        let found = messages(check(&tree)).join("\n");
        for expected in [
            "notes.md:1: absolute path",
            "crates/sde/src/lib.rs:1: todo!",
            "crates/sde/src/lib.rs:1: begins without //! documentation",
            "crates/sde/Cargo.toml:4: fokker-sde may not depend on fokker-nn",
            "CHANGELOG.md:1: there is no changelog",
        ] {
            assert!(found.contains(expected), "{expected} is not in\n{found}");
        }
    }
}
