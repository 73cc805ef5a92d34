//! Aligned lines for people about the contents of a capture.

use std::fmt::{Display, Write as _};

use pmon_analysis::Statistics;

use crate::output::printable;
use crate::report::details;
use crate::report::verdict::Completeness;
use crate::terminal::{counted, grouped, per_event, size};

/// Width of the labels.
const LABEL: usize = 13;
/// Width at which sentences are wrapped.
const WIDTH: usize = 80;

/// A table of labels and values.
#[derive(Default)]
pub(crate) struct TextTable(String);

impl TextTable {
    /// Returns the lines, each with a newline.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    /// Adds a line, which is never wrapped.
    pub(crate) fn line(&mut self, label: &str, value: impl Display) {
        let line = format!("{label:<LABEL$}{value}");
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    /// Adds a sentence, which is wrapped to fit the width.
    pub(crate) fn sentence(&mut self, mut label: &str, text: &str) {
        let mut line = String::new();
        for word in text.split(' ') {
            if !line.is_empty() && LABEL + line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(label, &line);
                (label, line) = ("", String::new());
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(label, &line);
    }

    /// Adds a number and its meaning below the last line.
    pub(crate) fn item(&mut self, count: u64, what: impl Display) {
        let _ = writeln!(self.0, "{:>24}  {what}", grouped(count));
    }

    /// Adds the size of the capture.
    pub(crate) fn size(&mut self, bytes: u64, events: u64) {
        let per_event = per_event(bytes, events).map(|n| format!(", {n:.2} bytes/event"));
        self.line("size", format!("{}{}", size(bytes), per_event.unwrap_or_default()));
    }

    /// Adds the verdict on the completeness, and its reasons.
    pub(crate) fn verdict(&mut self, completeness: &Completeness) {
        self.sentence("verdict", &completeness.sentence());
        if let Some(scope) = completeness.scope() {
            self.sentence("only", &scope);
        }
        for shortfall in completeness.shortfalls() {
            self.sentence("blind", &shortfall);
        }
        if let Some(absent) = completeness.no_forks() {
            self.sentence("forks", &absent);
        }
        if let Some(unreached) = completeness.unreached() {
            self.sentence("unreached", &unreached);
        }
    }

    /// Adds the number of events.
    pub(crate) fn events(&mut self, events: u64) {
        self.line("events", grouped(events));
    }

    /// Adds the number of events, in total and of each kind.
    pub(crate) fn kinds(&mut self, statistics: &Statistics) {
        self.events(statistics.events);
        for (kind, count) in statistics.by_kind().filter(|&(_, count)| count > 0) {
            self.item(count, kind.name());
        }
    }

    /// Adds the number of lost events, the causes, and the source's own count of drops.
    pub(crate) fn losses(&mut self, completeness: &Completeness) {
        let report = &completeness.report;
        let lost = counted(report.lost.total(), "event");
        match report.intervals {
            0 => self.line("lost", lost),
            gaps => self.line("lost", format!("{lost} in {}", counted(gaps, "gap"))),
        }
        for (cause, count) in report.lost.by_cause().filter(|&(_, count)| count > 0) {
            self.item(count, cause.name());
        }
        if let Some(ring) = completeness.ring() {
            self.line("ring", ring);
        }
        if let Some(witness) = report.witness {
            let (drops, gaps) = (counted(witness.drops, "event"), grouped(witness.gaps));
            self.line("witness", format!("the source dropped {drops}; {gaps} are missing in its numbers"));
        }
    }

    /// Adds the number of messages that were rejected or malformed, if there are any.
    pub(crate) fn rejected(&mut self, completeness: &Completeness) {
        let rejected = completeness.report.end.map_or(0, |end| end.rejected);
        if rejected > 0 {
            self.line("rejected", format!("{} from user space", counted(rejected, "message")));
        }
        let malformed = completeness.malformed();
        if malformed > 0 {
            self.line("malformed", counted(malformed, "message"));
        }
    }

    /// Adds the number of execs with and without details, and the `programs` most frequent
    /// programs.
    pub(crate) fn details(&mut self, statistics: &Statistics, programs: usize) {
        self.sentence("details", &details::text(statistics));
        let busiest = statistics.most_executed(programs);
        if !busiest.is_empty() {
            self.line("busiest", "execs of the most frequent programs");
            busiest.into_iter().for_each(|(name, count)| self.item(count, printable(name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_wrapped_at_80_columns() {
        let mut table = TextTable::default();
        table.sentence("verdict", &"word ".repeat(30));
        table.line("file", "x".repeat(90));
        let text = table.into_text();
        let widths: Vec<_> = text.lines().map(str::len).collect();
        assert!(widths[0] > 70 && widths[..widths.len() - 1].iter().all(|&width| width <= 80), "{text}");
        assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("             word")), "{text}");
        assert_eq!(widths.last(), Some(&103));
    }
}
