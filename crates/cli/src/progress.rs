//! Progress bars on standard error; plain lines now and then where it is not a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar, or a line every few seconds.
pub(crate) struct Progress {
    bar: ProgressBar,
    plain: Option<Plain>,
}

struct Plain {
    last: Instant,
    started: Instant,
    from: u64,
    total: u64,
    what: &'static str,
}

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    /// Counts `what` ("step") from `from` to `total`.
    pub(crate) fn new(what: &'static str, from: u64, total: u64) -> Progress {
        if !std::io::stderr().is_terminal() || crate::print::quiet() {
            let now = Instant::now();
            let plain = Plain { last: now, started: now, from, total, what };
            return Progress { bar: ProgressBar::hidden(), plain: Some(plain) };
        }
        let template = "{prefix} {pos}/{len} [{wide_bar:.cyan/blue}] {msg} {elapsed_precise} (left {eta_precise})";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total).with_style(style.progress_chars("━╸ ")).with_prefix(what).with_position(from);
        bar.reset_eta();
        Progress { bar, plain: None }
    }

    /// `position` of the total is done.
    pub(crate) fn set(&mut self, position: u64, message: &str) {
        let Some(plain) = &mut self.plain else {
            self.bar.set_message(message.to_owned());
            self.bar.set_position(position);
            return;
        };
        if plain.last.elapsed() >= LINE_EVERY && position < plain.total {
            plain.last = Instant::now();
            let per_unit = plain.started.elapsed().as_secs_f64() / (position - plain.from).max(1) as f64;
            let left = per_unit * (plain.total - position) as f64;
            let (what, total) = (plain.what, plain.total);
            let message = if message.is_empty() { String::new() } else { format!(" {message}") };
            crate::print::note(format_args!("{what} {position}/{total}{message}, {} left", duration(left)));
        }
    }

    /// A line above the bar.
    pub(crate) fn note(&self, line: &str) {
        if self.plain.is_some() { crate::print::note(line) } else { self.bar.println(line) }
    }

    /// Removes the bar.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// Seconds for people: `42 s`, `3 min 05 s`, `2 h 10 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let s = seconds.round().max(0.0) as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_read_naturally() {
        assert_eq!(duration(0.4), "0 s");
        assert_eq!(duration(185.0), "3 min 05 s");
        assert_eq!(duration(7800.0), "2 h 10 min");
    }
}
