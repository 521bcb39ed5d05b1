//! What `fokker evaluate` answers: its rows as a table, and as JSON.

use fokker_train::Interval;
use fokker_train::evaluation::{COLUMNS, Likelihoods, Row};
use serde_json::json;

use crate::chart::short;

/// A mean with half its interval, in as many digits as the interval makes sense of.
pub(crate) fn plus_minus(interval: &Interval) -> String {
    let Some(half) = interval.half_width.filter(|half| *half > 0.0) else { return short(interval.mean) };
    if half < 1e-4 || interval.mean.abs() < 1e-3 && half < 1e-2 {
        return format!("{:.2e} ± {half:.0e}", interval.mean);
    }
    let digits = (1.0 - half.log10().floor()).clamp(0.0, 5.0) as usize;
    format!("{:.digits$} ± {half:.digits$}", interval.mean)
}

/// Bytes for people.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Seconds of one sample for people.
pub(crate) fn latency(seconds: f64) -> String {
    if seconds < 1.0 { format!("{} ms", short(seconds * 1e3)) } else { format!("{} s", short(seconds)) }
}

/// The table's cells, the headings first; a row that failed says why in place of its scores.
pub(crate) fn table(rows: &[Row], best: &[bool]) -> String {
    let columns: Vec<_> = COLUMNS.iter().filter(|c| rows.iter().any(|row| row.scores.contains_key(c.name))).collect();
    let mut cells = vec![vec!["".to_owned(), "solver".into(), "steps".into(), "NFE".into()]];
    cells[0].extend(columns.iter().map(|c| c.title.to_lowercase()));
    cells[0].extend(["samples/s", "latency", "memory"].map(str::to_owned));
    let number = |n: Option<usize>| n.map_or_else(String::new, |n| n.to_string());
    for (row, best) in rows.iter().zip(best) {
        let mut line = vec![if *best { "*" } else { "" }.to_owned(), row.name.clone(), number(row.steps), number(row.nfe)];
        if row.failed.is_none() {
            line.extend(columns.iter().map(|c| row.score(c.name).map_or_else(String::new, |i| plus_minus(&i))));
            line.push(row.rate().map_or_else(String::new, |rate| short(rate.mean)));
            line.push(row.latency.map_or_else(String::new, latency));
            line.push(row.memory.map_or_else(String::new, mebibytes));
        }
        cells.push(line);
    }
    let width = |i: usize| cells.iter().filter_map(|line| line.get(i)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..cells[0].len()).map(width).collect();
    let failed = std::iter::once(None).chain(rows.iter().map(|row| row.failed.as_ref()));
    let line = |(cells, failed): (&Vec<String>, Option<&String>)| {
        let text = |(i, cell): (usize, &String)| match i {
            0 | 1 => format!("{cell:<0$}", widths[i]),
            _ => format!("{cell:>0$}", widths[i]),
        };
        let text = cells.iter().enumerate().map(text).collect::<Vec<_>>().join("  ");
        let text = failed.map_or(text.clone(), |why| format!("{text}  failed: {why}"));
        text.trim_end().to_owned()
    };
    cells.iter().zip(failed).map(line).collect::<Vec<_>>().join("\n")
}

pub(crate) fn to_json(row: &Row, best: bool) -> serde_json::Value {
    let measured = |interval: Option<Interval>, values: &[f64]| {
        interval.map(|i| json!({ "mean": i.mean, "half_width": i.half_width, "values": values }))
    };
    let scores: serde_json::Map<String, serde_json::Value> =
        row.scores.iter().map(|(name, values)| (name.clone(), json!(measured(row.score(name), values)))).collect();
    json!({
        "name": row.name,
        "steps": row.steps,
        "nfe": row.nfe,
        "pareto": best,
        "scores": scores,
        "samples_per_second": measured(row.rate(), &row.rates),
        "latency_seconds": row.latency,
        "peak_memory_bytes": row.memory,
        "failed": row.failed,
        "key": row.key,
    })
}

/// A set's likelihoods in their unit.
pub(crate) fn likelihoods_json(found: &Likelihoods) -> serde_json::Value {
    let mean = found.mean();
    json!({
        "name": found.name,
        "unit": found.unit(),
        "samples": found.values.len(),
        "mean": mean.map(|i| i.mean),
        "half_width": mean.and_then(|i| i.half_width),
        "values": found.values.iter().map(|nats| found.in_unit(*nats)).collect::<Vec<f64>>(),
        "solver_error": found.in_unit(found.solver).abs(),
        "evaluations": found.nfe,
        "seconds": found.seconds,
        "failed": found.failed,
        "key": found.key,
    })
}

/// A set's mean likelihood in a line.
pub(crate) fn likelihoods_text(found: &Likelihoods) -> String {
    match (&found.failed, found.mean()) {
        (Some(why), _) => format!("likelihood of {}: failed: {why}", found.name),
        (None, Some(mean)) => {
            format!("likelihood of {}: {} {}, {} of them", found.name, plus_minus(&mean), found.unit(), found.values.len())
        }
        (None, None) => format!("likelihood of {}: none", found.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_as_many_digits_as_make_sense() {
        let text = |mean, half| plus_minus(&Interval { mean, standard_error: Some(0.0), half_width: half });
        assert_eq!(text(0.91234, Some(0.0123)), "0.912 ± 0.012");
        assert_eq!(text(12.34, Some(1.5)), "12.3 ± 1.5");
        assert_eq!(text(0.25, None), "0.25");
        assert_eq!(text(1.0, Some(0.0)), "1");
    }

    #[test]
    fn a_table_marks_the_best_and_says_why_a_row_is_empty() {
        let scores = [("coverage".to_owned(), vec![0.9, 0.92])];
        let good = Row { name: "heun".into(), steps: Some(5), nfe: Some(9), scores: scores.into(), ..Row::default() };
        let bad = Row { name: "euler".into(), steps: Some(5), failed: Some("not finite".into()), ..Row::default() };
        let text = table(&[good, bad], &[true, false]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("coverage") && !lines[0].contains("recall"), "{text}");
        assert!(lines[1].starts_with("*  heun") && lines[1].contains("0.91 ± 0.13"), "{text}");
        assert!(lines[2].starts_with("   euler") && lines[2].ends_with("failed: not finite"), "{text}");
    }
}
