//! Relative links in Markdown files must lead to something in the repository.

use super::{Finding, Tree};
use std::path::{Component, Path, PathBuf};

/// Checks every Markdown file; `exists` tells whether a path relative to the workspace does.
pub(super) fn check(tree: &Tree, exists: &dyn Fn(&Path) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_extension("md") {
        for (line, target) in targets(text) {
            let file = target.split(['#', '?']).next().unwrap_or_default();
            if file.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let folder = path.parent().unwrap_or(Path::new(""));
            match inside(&folder.join(file)) {
                Some(resolved) if exists(&resolved) => {}
                Some(_) => findings.push(Finding::new(path, line, format!("the link leads to no file: {target}"))),
                None => findings.push(Finding::new(path, line, format!("the link leads out of the repository: {target}"))),
            }
        }
    }
    findings
}

/// The path without `.` and `..`; nothing if it is absolute or leaves the folder it starts from.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !out.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(out)
}

/// Line number and target of each `](target)` and `[name]: target` outside code.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fence: Option<&str> = None;
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if let Some(mark) = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark)) {
            fence = match fence {
                None => Some(mark),
                Some(open) if open == mark => None,
                open => open,
            };
            continue;
        }
        if fence.is_some() {
            continue;
        }
        let prose = without_code(line);
        for (at, _) in prose.match_indices("](") {
            if let Some(target) = destination(&prose[at + 2..]) {
                found.push((index + 1, target.to_owned()));
            }
        }
        let definition = prose.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        if let Some(target) = definition.and_then(|(_, rest)| rest.split_whitespace().next()) {
            found.push((index + 1, target.trim_matches(['<', '>']).to_owned()));
        }
    }
    found
}

/// The target of an inline link: up to its closing parenthesis or title.
fn destination(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('<') {
        return rest.split_once('>').map(|(target, _)| target);
    }
    let mut depth = 0;
    let end = text.find(|c: char| match c {
        '(' => {
            depth += 1;
            false
        }
        ')' if depth > 0 => {
            depth -= 1;
            false
        }
        c => c == ')' || c.is_whitespace(),
    })?;
    Some(&text[..end])
}

/// The line with `code` between backquotes left out.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let exists = |path: &Path| ["docs/a.md", "README.md", "docs/x (1).png"].iter().any(|p| path == Path::new(p));
        check(&tree(&[("docs/page.md", text)]), &exists).into_iter().map(|f| f.to_string()).collect()
    }

    #[test]
    fn links_that_lead_somewhere_are_fine() {
        for text in [
            "[a](a.md) and [r](../README.md#top) and ![p](<x (1).png>)\n",
            "[w](https://example.org/x.md) [m](mailto:a@example.org) [here](#section)\n",
            "[t](a.md \"title\")\n[ref]: ./a.md\n",
            "`[code](missing.md)`\n",
            "```\n[code](missing.md)\n```\n",
            "an index a[0](x) in `code`, [x]\n".replace("(x)", " (x)").as_str(),
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        for (text, expected) in [
            ("\n[a](b.md)\n", "docs/page.md:2: the link leads to no file: b.md"),
            ("[a](a.md) [b](b.md#x)\n", "docs/page.md:1: the link leads to no file: b.md#x"),
            ("[ref]: b.md\n", "docs/page.md:1: the link leads to no file: b.md"),
            ("```\n```\n[a](b.md)\n", "docs/page.md:3: the link leads to no file: b.md"),
            ("[a](../../other/a.md)\n", "docs/page.md:1: the link leads out of the repository: ../../other/a.md"),
            ("[a](/docs/a.md)\n", "docs/page.md:1: the link leads out of the repository: /docs/a.md"),
        ] {
            assert_eq!(found(text), [expected], "{text}");
        }
    }
}
