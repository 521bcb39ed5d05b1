//! Two versions of a snapshot, number by number.

use std::fmt::Write;

/// Changed lines shown of one snapshot; the maxima cover all.
const SHOWN_LINES: usize = 40;

/// A changed number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Change {
    old: f64,
    new: f64,
}

impl Change {
    /// |new − old|; infinite where exactly one of them is NaN.
    fn absolute(self) -> f64 {
        let difference = (self.new - self.old).abs();
        if difference.is_nan() { f64::INFINITY } else { difference }
    }

    /// |new − old| / |old|; infinite where the old value is 0 and the new one is not.
    fn relative(self) -> f64 {
        match self.absolute() {
            0.0 => 0.0,
            difference => difference / self.old.abs(),
        }
    }
}

/// The text below insta's header, which lies between two `---` lines.
pub(super) fn body(snapshot: &str) -> &str {
    let after_header = snapshot.strip_prefix("---\n").and_then(|rest| {
        let end = if rest.starts_with("---\n") { Some(0) } else { rest.find("\n---\n").map(|at| at + 1) };
        end.map(|at| &rest[at + "---\n".len()..])
    });
    after_header.unwrap_or(snapshot)
}

/// The number a token stands for, without the brackets and commas around it.
fn number(token: &str) -> Option<f64> {
    token.trim_matches(|c| matches!(c, '[' | ']' | '(' | ')' | ',' | ';')).parse().ok()
}

/// What a snapshot's change amounts to, as text for people that ends with a newline.
pub(super) fn report(name: &str, old: Option<&str>, new: &str) -> String {
    let new: Vec<&str> = body(new).trim_end().lines().collect();
    let Some(old) = old else {
        return format!("{name}: new, {}\n", count(new.len(), "line"));
    };
    let old: Vec<&str> = body(old).trim_end().lines().collect();
    let mut lines = Vec::new();
    let mut numbers = 0;
    let mut most_absolute: Option<(f64, usize)> = None;
    let mut most_relative: Option<(f64, usize)> = None;
    for (index, (before, after)) in old.iter().zip(&new).enumerate() {
        if before == after {
            continue;
        }
        let line = index + 1;
        let (text, changes) = compare_lines(line, before, after);
        lines.push(text);
        numbers += changes.len();
        for change in changes {
            raise(&mut most_absolute, change.absolute(), line);
            raise(&mut most_relative, change.relative(), line);
        }
    }
    let mut report = format!("{name}: changed in {}\n", count(lines.len(), "line"));
    for line in lines.iter().take(SHOWN_LINES) {
        report.push_str(line);
    }
    if lines.len() > SHOWN_LINES {
        let _ = writeln!(report, "  … and in {} more", count(lines.len() - SHOWN_LINES, "line"));
    }
    if old.len() != new.len() {
        let _ = writeln!(report, "  its length changed from {} to {} lines", old.len(), new.len());
    }
    if let (Some((absolute, at)), Some((relative, there))) = (most_absolute, most_relative) {
        let _ = writeln!(
            report,
            "  {} changed; at most {absolute:.3e} absolute (line {at}), {relative:.3e} relative (line {there})",
            count(numbers, "number")
        );
    }
    report
}

/// A number of things in words.
fn count(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// Keeps the largest value and where it was first.
fn raise(most: &mut Option<(f64, usize)>, value: f64, line: usize) {
    if most.is_none_or(|(largest, _)| value > largest) {
        *most = Some((value, line));
    }
}

/// The changed columns of one line as text, and the numbers among them.
fn compare_lines(line: usize, before: &str, after: &str) -> (String, Vec<Change>) {
    let (left, right): (Vec<_>, Vec<_>) = (before.split_whitespace().collect(), after.split_whitespace().collect());
    if left.len() != right.len() {
        return (format!("  line {line}: '{before}' -> '{after}'\n"), Vec::new());
    }
    if left == right {
        return (format!("  line {line}: only its spaces\n"), Vec::new());
    }
    let mut text = String::new();
    let mut changes = Vec::new();
    for (column, (old, new)) in left.iter().zip(&right).enumerate().filter(|(_, (old, new))| old != new) {
        let _ = write!(text, "  line {line}, column {}: {old} -> {new}", column + 1);
        if let (Some(old), Some(new)) = (number(old), number(new)) {
            let change = Change { old, new };
            let _ = write!(text, "  absolute {:.3e}  relative {:.3e}", change.absolute(), change.relative());
            changes.push(change);
        }
        text.push('\n');
    }
    (text, changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "---\nsource: tests/tests/snapshots.rs\nexpression: text\n---\n";

    #[test]
    fn changed_numbers_are_given_with_both_differences_and_the_maxima() {
        let old = format!("{HEADER}t x y\n1.0 2.0 4.0\n0.5 100.0 -3\n");
        let new = format!("{HEADER}t x y\n1.0 2.0 4.2\n0.5 101.0 -3\n");
        let report = report("heun", Some(&old), &new);
        assert_eq!(
            report,
            "heun: changed in 2 lines\n  \
             line 2, column 3: 4.0 -> 4.2  absolute 2.000e-1  relative 5.000e-2\n  \
             line 3, column 2: 100.0 -> 101.0  absolute 1.000e0  relative 1.000e-2\n  \
             2 numbers changed; at most 1.000e0 absolute (line 3), 5.000e-2 relative (line 2)\n"
        );
    }

    #[test]
    fn a_changed_header_alone_is_no_changed_line() {
        let old = format!("{HEADER}1.0\n");
        let new = old.replace("expression: text", "expression: other");
        assert_ne!(old, new);
        assert_eq!(report("a", Some(&old), &new), "a: changed in 0 lines\n");
    }

    #[test]
    fn words_line_counts_and_column_counts_are_reported_as_text() {
        let report = report("a", Some("step 1\n1 2\n"), "stop 1\n1 2 3\n4\n");
        assert!(report.contains("line 1, column 1: step -> stop\n"), "{report}");
        assert!(report.contains("line 2: '1 2' -> '1 2 3'"), "{report}");
        assert!(report.contains("its length changed from 2 to 3 lines"), "{report}");
        assert!(!report.contains("numbers changed"), "{report}");
    }

    #[test]
    fn a_number_that_became_nan_is_the_largest_change() {
        let report = report("a", Some("1.0 5.0\n"), "NaN 9.0\n");
        assert!(report.contains("at most inf absolute"), "{report}");
    }

    #[test]
    fn zero_that_became_something_is_infinitely_larger_and_signed_zero_is_not() {
        assert_eq!(Change { old: 0.0, new: 1e-9 }.relative(), f64::INFINITY);
        assert_eq!(Change { old: 0.0, new: -0.0 }.relative(), 0.0);
    }

    #[test]
    fn numbers_are_read_out_of_brackets() {
        assert_eq!(number("[1.5,"), Some(1.5));
        assert_eq!(number("-2e-3]"), Some(-2e-3));
        assert_eq!(number("step"), None);
    }

    #[test]
    fn long_reports_are_cut_but_their_maxima_cover_all_lines() {
        let old: String = (0..60).map(|_| "1.0\n").collect();
        let new: String = (0..60).map(|i| format!("{}.0\n", i + 2)).collect();
        let report = report("a", Some(&old), &new);
        assert!(report.contains("and in 20 lines more"), "{report}");
        assert!(report.contains("60 numbers changed; at most 6.000e1 absolute (line 60)"), "{report}");
    }
}
