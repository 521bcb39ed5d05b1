//! Rules about Rust source files, on their code without comments and literals.

use super::Finding;
use std::path::Path;

/// The one crate that may contain `unsafe`.
const UNSAFE_HOME: &str = "crates/tensor";

/// Checks one source file.
pub(super) fn check(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if path.file_name().is_some_and(|name| name == "utils.rs") || path.components().any(|c| c.as_os_str() == "utils") {
        findings.push(Finding::new(path, 1, "named utils: name it after what it does"));
    }
    let is_crate_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    if is_crate_root && !text.starts_with("//!") {
        findings.push(Finding::new(path, 1, "begins without //! documentation"));
    }
    for (index, line) in code(text).lines().enumerate() {
        for word in ["todo", "unimplemented", "dbg"] {
            if has_macro(line, word) {
                findings.push(Finding::new(path, index + 1, format!("{word}!")));
            }
        }
        if !path.starts_with(UNSAFE_HOME) && words(line).any(|(_, word)| word == "unsafe") {
            findings.push(Finding::new(path, index + 1, format!("unsafe outside {UNSAFE_HOME}")));
        }
    }
    findings
}

/// The identifiers and keywords of a line, with where they begin.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - line.as_ptr() as usize, word))
}

fn has_macro(line: &str, name: &str) -> bool {
    words(line).any(|(at, word)| word == name && line[at + word.len()..].trim_start().starts_with('!'))
}

/// The text with comments, strings and characters blanked out; lines stay where they are.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_identifier = false;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' | 'b' | 'c' if !after_identifier => prefixed_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if skipped > 0 {
            out.extend(rest[..skipped].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[skipped..];
            after_identifier = false;
        } else {
            out.push(c);
            after_identifier = c.is_alphanumeric() || c == '_';
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Length of the block comment `text` begins with; such comments nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Length of the string literal `text` begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a string such as `r"…"`, `br#"…"#`, `b"…"` or `c"…"`; 0 if `text` begins with none.
fn prefixed_string(text: &str) -> usize {
    let letters = text.len() - text.trim_start_matches(['b', 'c']).len();
    let after = &text[letters..];
    if letters > 1 {
        return 0;
    }
    if letters == 1 && after.starts_with('"') {
        return letters + string(after);
    }
    let Some(after_r) = after.strip_prefix('r') else {
        return 0;
    };
    let hashes = after_r.len() - after_r.trim_start_matches('#').len();
    if !after_r[hashes..].starts_with('"') {
        return 0;
    }
    let start = letters + 1 + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    text[start..].find(&close).map_or(text.len(), |at| start + at + close.len())
}

/// Length of the character literal `text` begins with; 0 if it is a lifetime.
fn character(text: &str) -> usize {
    let mut rest = text.char_indices().skip(1);
    match rest.next() {
        Some((_, '\\')) => {
            // Past the escaped character, which may itself be a quote.
            rest.next();
            rest.find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1)
        }
        Some(_) => match rest.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(Path::new(path), text).into_iter().map(|f| f.to_string()).collect()
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        for text in [
            "// unsafe todo!()\n",
            "/* unsafe /* nested */ dbg!(x) */\n",
            "let a = \"unsafe \\\" todo!()\";\n",
            "let a = r#\"unsafe \" todo!()\"#;\n",
            "let a = br\"unsafe\";\n",
            "let a = b\"unsafe\";\n",
            "let a = \"\nunsafe\n\";\n",
            "#![forbid(unsafe_code)]\n",
            "fn unsafe_name() {}\n",
        ] {
            assert_eq!(found("crates/nn/src/a.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn code_after_literals_and_lifetimes_is_still_code() {
        for text in [
            "let a = '\"'; unsafe { f() }\n",
            "let a = '\\''; unsafe { f() }\n",
            "let a = '\\u{1f}'; unsafe { f() }\n",
            "fn f<'a>(x: &'a str) { unsafe { g(x) } }\n",
            "let a = r\"\\\"; unsafe { f() }\n",
            "let a = br##\"\"# \"##; unsafe { f() }\n",
            "let bar = 1; let x = \"s\"; unsafe { f() }\n",
            "/* a */ unsafe { f() }\n",
        ] {
            assert_eq!(found("crates/nn/src/a.rs", text), ["crates/nn/src/a.rs:1: unsafe outside crates/tensor"], "{text}");
        }
    }

    #[test]
    fn lines_are_counted_through_literals_and_comments() {
        let text = "let a = \"\n\n\";\n/*\n*/\ntodo!();\n";
        assert_eq!(found("crates/nn/src/a.rs", text), ["crates/nn/src/a.rs:6: todo!"]);
    }

    #[test]
    fn the_tensor_crate_may_use_unsafe_and_no_other() {
        let text = "unsafe { f() }\n";
        assert_eq!(found("crates/tensor/src/a.rs", text), [""; 0]);
        assert_eq!(found("crates/tensor-extra/src/a.rs", text).len(), 1);
        assert_eq!(found("xtask/src/a.rs", text).len(), 1);
    }

    #[test]
    fn unfinished_work_is_found_by_its_macros_only() {
        let text = "todo!()\nunimplemented! ()\ndbg!(x)\nlet todo = 1;\nmy_todo!()\n";
        assert_eq!(
            found("xtask/src/a.rs", text),
            ["xtask/src/a.rs:1: todo!", "xtask/src/a.rs:2: unimplemented!", "xtask/src/a.rs:3: dbg!"]
        );
    }

    #[test]
    fn crate_roots_need_documentation_and_nothing_is_named_utils() {
        assert_eq!(found("crates/nn/src/lib.rs", "//! Layers.\n"), [""; 0]);
        assert_eq!(found("crates/nn/src/layer.rs", "fn f() {}\n"), [""; 0]);
        assert_eq!(found("crates/nn/src/lib.rs", "fn f() {}\n").len(), 1);
        assert_eq!(found("crates/nn/src/utils.rs", "fn f() {}\n").len(), 1);
        assert_eq!(found("crates/nn/src/utils/mod.rs", "fn f() {}\n").len(), 1);
    }
}
