//! Aligned lines for people: what a capture holds.

use std::fmt::{Display, Write as _};

use pmon_analysis::Statistics;

use crate::output::printable;
use crate::report::details;
use crate::report::verdict::Completeness;
use crate::terminal::{counted, grouped, per_event, size};

/// Lines of a label and a value.
#[derive(Default)]
pub(crate) struct TextTable(String);

impl TextTable {
    /// Its text, with a newline at the end.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    /// A line.
    pub(crate) fn line(&mut self, label: &str, value: impl Display) {
        let line = format!("{label:<13}{value}");
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    /// A number under the line before, and of what it is one.
    pub(crate) fn item(&mut self, count: u64, what: impl Display) {
        let _ = writeln!(self.0, "{:>24}  {what}", grouped(count));
    }

    /// The size of a capture.
    pub(crate) fn size(&mut self, bytes: u64, events: u64) {
        let per_event = per_event(bytes, events).map(|n| format!(", {n:.2} bytes/event"));
        self.line("size", format!("{}{}", size(bytes), per_event.unwrap_or_default()));
    }

    /// How complete the capture is.
    pub(crate) fn verdict(&mut self, completeness: &Completeness) {
        self.line("verdict", completeness.sentence());
        if let Some(scope) = completeness.scope() {
            self.line("only", scope);
        }
        for shortfall in completeness.shortfalls() {
            self.line("blind", shortfall);
        }
        if let Some(absent) = completeness.no_forks() {
            self.line("forks", absent);
        }
        if let Some(unreached) = completeness.unreached() {
            self.line("unreached", unreached);
        }
    }

    /// How many events there are.
    pub(crate) fn events(&mut self, events: u64) {
        self.line("events", grouped(events));
    }

    /// How many events there are, in all and of each kind.
    pub(crate) fn kinds(&mut self, tally: &Statistics) {
        self.events(tally.events);
        for (kind, count) in tally.by_kind().filter(|&(_, count)| count > 0) {
            self.item(count, kind.name());
        }
    }

    /// How many events were lost, why, and what the source counted itself.
    pub(crate) fn losses(&mut self, completeness: &Completeness) {
        let report = &completeness.report;
        let lost = grouped(report.lost.total());
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
            let (drops, gaps) = (grouped(witness.drops), grouped(witness.gaps));
            self.line("witness", format!("the source dropped {drops}; {gaps} are missing in its numbers"));
        }
    }

    /// How many messages were not recorded, or are no events, if there were any.
    pub(crate) fn rejected(&mut self, completeness: &Completeness) {
        let rejected = completeness.report.end.map_or(0, |end| end.rejected);
        if rejected > 0 {
            self.line("rejected", format!("{} from user space", grouped(rejected)));
        }
        let malformed = completeness.malformed();
        if malformed > 0 {
            self.line("malformed", counted(malformed, "message"));
        }
    }

    /// Of how many execs the details are known, and the `programs` that were run most often.
    pub(crate) fn details(&mut self, tally: &Statistics, programs: usize) {
        self.line("details", details::text(tally));
        let most_executed = tally.most_executed(programs);
        if !most_executed.is_empty() {
            self.line("most_executed", "");
            most_executed.into_iter().for_each(|(name, count)| self.item(count, printable(name)));
        }
    }
}
