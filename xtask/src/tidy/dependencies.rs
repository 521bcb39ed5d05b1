//! Which crate may depend on which, and that versions stand in one place.

use super::{Finding, Tree};
use std::path::Path;
use toml::{Table, Value};

/// For each package of the workspace, the packages of the workspace it may depend on, tests included.
///
/// Solvers and guidance see only the `Denoiser` trait of `sde`: each is tested with an exact
/// denoiser and no network. The tasks depend on nothing here, so that they always build.
const MAY_USE: &[(&str, &[&str])] = &[
    ("fokker-tensor", &[]),
    ("fokker-nn", &["fokker-tensor"]),
    ("fokker-sde", &["fokker-tensor"]),
    ("fokker-data", &["fokker-tensor"]),
    ("fokker-metrics", &["fokker-tensor"]),
    ("fokker-models", &["fokker-tensor", "fokker-nn", "fokker-sde"]),
    ("fokker-solve", &["fokker-tensor", "fokker-sde"]),
    ("fokker-guidance", &["fokker-tensor", "fokker-sde"]),
    (
        "fokker-train",
        &[
            "fokker-tensor",
            "fokker-nn",
            "fokker-sde",
            "fokker-models",
            "fokker-solve",
            "fokker-guidance",
            "fokker-data",
            "fokker-metrics",
        ],
    ),
    ("fokker", LIBRARIES),
    ("conformance", &["fokker", "*"]),
    ("xtask", &[]),
];

/// Every library of the workspace.
const LIBRARIES: &[&str] = &["*"];

/// The tables of a manifest that list dependencies.
const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Workspaces of their own inside this one, which may use what they like and depend on nothing here.
const APART: [&str; 1] = ["tests/reference/bench/rust"];

/// Checks every manifest of the workspace.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = Vec::new();
    for (path, text) in tree.with_extension("toml") {
        if !path.ends_with("Cargo.toml") {
            continue;
        }
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(e) => {
                findings.push(Finding::new(path, 1, format!("not TOML: {}", e.message())));
                continue;
            }
        };
        let Some(package) = table.get("package").and_then(|p| p.get("name")).and_then(Value::as_str) else {
            continue;
        };
        for (name, value) in dependencies(&table) {
            let line = line_of(text, name);
            if APART.iter().any(|folder| path.starts_with(folder)) {
                findings.extend(is_ours(name).then(|| Finding::new(path, line, format!("{package} may not depend on {name}"))));
                continue;
            }
            findings.extend(direction(path, line, package, name));
            if value.get("workspace").and_then(Value::as_bool) != Some(true) {
                let message = format!("{name}: state it in [workspace.dependencies] and write {name}.workspace = true");
                findings.push(Finding::new(path, line, message));
            }
            used.push(name.to_owned());
        }
    }
    findings.extend(unused(tree, &used));
    findings
}

/// All dependencies of a manifest, those for some platforms included.
fn dependencies(table: &Table) -> Vec<(&str, &Value)> {
    let platforms = table.get("target").and_then(Value::as_table);
    let mut found = Vec::new();
    for scope in std::iter::once(table).chain(platforms.into_iter().flat_map(Table::values).filter_map(Value::as_table)) {
        for kind in TABLES {
            if let Some(listed) = scope.get(kind).and_then(Value::as_table) {
                found.extend(listed.iter().map(|(name, value)| (name.as_str(), value)));
            }
        }
    }
    found
}

fn is_ours(package: &str) -> bool {
    package == "fokker" || package == "conformance" || package == "xtask" || package.starts_with("fokker-")
}

/// A dependency within the workspace must go in an allowed direction.
fn direction(path: &Path, line: usize, package: &str, dependency: &str) -> Option<Finding> {
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == package) else {
        let message = format!("{package} is not in the table of allowed dependencies (xtask/src/tidy/dependencies.rs)");
        return Some(Finding::new(path, line, message));
    };
    let any_library = allowed.contains(&"*") && dependency.starts_with("fokker-");
    if !is_ours(dependency) || any_library || allowed.contains(&dependency) {
        return None;
    }
    Some(Finding::new(path, line, format!("{package} may not depend on {dependency}")))
}

/// Versions that are stated for the workspace but used by no crate.
fn unused(tree: &Tree, used: &[String]) -> Vec<Finding> {
    let Some(text) = tree.get("Cargo.toml") else {
        return Vec::new();
    };
    let table: Table = text.parse().unwrap_or_default();
    let stated = table.get("workspace").and_then(|w| w.get("dependencies")).and_then(Value::as_table);
    let names = stated.into_iter().flat_map(Table::keys);
    names
        .filter(|name| !used.contains(name))
        .map(|name| Finding::warning(Path::new("Cargo.toml"), line_of(text, name), format!("no crate uses {name}")))
        .collect()
}

/// The line on which a dependency is stated, or 1.
fn line_of(text: &str, name: &str) -> usize {
    let mut in_dependencies = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            in_dependencies = header.ends_with("dependencies");
            if header.ends_with(&format!("dependencies.{name}")) {
                return index + 1;
            }
        } else if in_dependencies {
            let key = line.trim_start_matches('"');
            let after = key.strip_prefix(name).map(|rest| rest.trim_start_matches('"').trim_start());
            if after.is_some_and(|rest| rest.starts_with(['=', '.'])) {
                return index + 1;
            }
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    fn found(package: &str, lines: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"{package}\"\n{lines}");
        check(&tree(&[("m/Cargo.toml", &text)])).into_iter().map(|f| f.to_string()).collect()
    }

    #[test]
    fn allowed_directions_pass() {
        for (package, dependency) in [
            ("fokker-nn", "fokker-tensor"),
            ("fokker-train", "fokker-metrics"),
            ("fokker", "fokker-guidance"),
            ("conformance", "fokker-train"),
            ("conformance", "fokker"),
            ("fokker-solve", "serde"),
        ] {
            assert_eq!(found(package, &format!("[dependencies]\n{dependency}.workspace = true\n")), [""; 0]);
        }
    }

    #[test]
    fn forbidden_directions_are_found_in_every_kind_of_table() {
        for table in ["dependencies", "dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
            for (package, dependency) in [
                ("fokker-solve", "fokker-nn"),
                ("fokker-solve", "fokker-models"),
                ("fokker-solve", "fokker-guidance"),
                ("fokker-guidance", "fokker-solve"),
                ("fokker-tensor", "fokker-nn"),
                ("fokker-train", "fokker"),
                ("xtask", "fokker-data"),
            ] {
                let lines = format!("[{table}]\n{dependency}.workspace = true\n");
                assert_eq!(found(package, &lines), [format!("m/Cargo.toml:4: {package} may not depend on {dependency}")]);
            }
        }
    }

    #[test]
    fn a_package_without_a_row_is_found() {
        let lines = "[dependencies]\nserde.workspace = true\n";
        assert!(found("fokker-novel", lines)[0].contains("not in the table"));
    }

    #[test]
    fn a_workspace_apart_uses_what_it_likes_and_nothing_of_ours() {
        let text = "[package]\nname = \"peer\"\n[dependencies]\nserde = \"1\"\nfokker-nn = \"1\"\n";
        let found = check(&tree(&[("tests/reference/bench/rust/peer/Cargo.toml", text)]));
        let found: Vec<String> = found.iter().map(Finding::to_string).collect();
        assert_eq!(found, ["tests/reference/bench/rust/peer/Cargo.toml:5: peer may not depend on fokker-nn"]);
    }

    #[test]
    fn versions_outside_the_workspace_table_are_found() {
        for line in ["serde = \"1\"", "serde = { version = \"1\" }", "serde.version = \"1\""] {
            let found = found("fokker-sde", &format!("[dependencies]\n{line}\n"));
            assert_eq!(found.len(), 1, "{line}");
            assert!(found[0].starts_with("m/Cargo.toml:4: serde: state it in [workspace.dependencies]"), "{found:?}");
        }
        assert_eq!(found("fokker-sde", "[dependencies.serde]\nworkspace = true\n"), [""; 0]);
        assert_eq!(found("fokker-sde", "[dependencies]\nserde = { workspace = true }\n"), [""; 0]);
    }

    #[test]
    fn a_stated_version_no_crate_uses_is_worth_a_warning() {
        let root = "[workspace.dependencies]\nserde = \"1\"\nlibm = \"1\"\n";
        let member = "[package]\nname = \"fokker-sde\"\n[dependencies]\nserde.workspace = true\n";
        let findings = check(&tree(&[("Cargo.toml", root), ("m/Cargo.toml", member)]));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].is_warning);
        assert_eq!(findings[0].to_string(), "Cargo.toml:3: warning: no crate uses libm");
    }

    #[test]
    fn a_manifest_that_is_not_toml_is_a_finding() {
        assert_eq!(check(&tree(&[("m/Cargo.toml", "[package\n")])).len(), 1);
    }
}
