//! States after each answer what the recording lacks.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use pmon_analysis::coverage::{Gap, GapReason};
use pmon_core::Cpu;
use pmon_core::capture::UnobservedReason;
use serde_json::{Value, json};

use super::{QueryOutcome, clock_time, time};
use crate::output::{json_line, printable};
use crate::terminal::{self, counted, grouped};

/// Maximum number of characters of the sentence, so that its line fits 80 columns.
const MAX_SENTENCE: usize = 80 - "incomplete: ".len();

impl QueryOutcome {
    /// Prints one line on standard error if the answer may be incomplete.
    pub(crate) fn report(&self) {
        if let Some(sentence) = self.sentence() {
            terminal::eprintln(format_args!("incomplete: {sentence}"));
        }
    }

    /// Returns what the recording lacks, in words; `None` if the answer is complete.
    pub(crate) fn sentence(&self) -> Option<String> {
        let items = self.items();
        let fits = |taken: usize| {
            let more = items.len() - taken;
            let more = if more > 0 { format!(" and {} more", grouped(more as u64)) } else { String::new() };
            let sentence = items[..taken].join(", ") + &more;
            (taken == 1 || sentence.chars().count() <= MAX_SENTENCE).then_some(sentence)
        };
        (1..=items.len()).rev().find_map(fits)
    }

    /// Returns the last line of JSON output, with a newline.
    pub(crate) fn json(&self) -> String {
        let gaps: Vec<_> = self.coverage.gaps().iter().map(gap_json).collect();
        let value = json!({
            "kind": "coverage",
            "complete": self.items().is_empty(),
            "lost": self.coverage.lost(),
            "gaps": gaps,
            "gap_count": self.coverage.count(),
            "missed_details": self.missed_execs,
            "undecided": self.undecided,
            "dropped": self.incomplete,
            "scope": self.scope,
            "recording": self.recorder.is_some(),
        });
        json_line(&value) + "\n"
    }

    /// Returns what the recording lacks, in words, the most important first.
    fn items(&self) -> Vec<String> {
        let day = self.last_ns.and_then(day_of);
        let at = |real_ns: Option<i64>| real_ns.map_or_else(|| "an unknown time".into(), |at| clock(at, day));
        let mut items = Vec::new();
        if let Some(scope) = &self.scope {
            items.push(format!("recorded were only {}", printable(scope.as_bytes())));
        }
        let mut sums = GapSums::default();
        self.coverage.gaps().iter().for_each(|gap| sums.add(gap));
        items.extend(sums.lost(day));
        items.extend(sums.blind.describe("no events received", day));
        for (reason, spans) in &sums.unobserved {
            items.extend(spans.describe(reason, day));
        }
        for gap in self.coverage.gaps() {
            let (from, until) = gap.real_ns;
            items.push(match gap.reason {
                GapReason::BeforeStart => format!("the recording begins at {}", at(until)),
                GapReason::AfterEnd => match self.recorder {
                    Some(_) => format!("still being recorded, read up to {}", at(from)),
                    None if self.read.clean_end => format!("the recording ends at {}", at(from)),
                    None => format!("the recorder was killed after {}", at(from)),
                },
                _ => continue,
            });
        }
        if sums.damaged > 0 {
            items.push(format!("{} of the file", counted(sums.damaged, "damaged part")));
        }
        if self.undecided > 0 {
            let processes = counted(self.undecided, "process");
            items.push(format!("{processes} left out, because too little is known of them"));
        }
        if self.missed_execs > 0 {
            let why: Vec<_> = self.missed_why.iter().copied().collect();
            let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
            items.push(format!("arguments of {} missed{why}", counted(self.missed_execs, "exec")));
        }
        if self.incomplete > 0 {
            let dropped = grouped(self.incomplete);
            items.push(format!("{dropped} processes or texts dropped for lack of memory"));
        }
        let unlisted = self.coverage.count().saturating_sub(self.coverage.gaps().len() as u64);
        if unlisted > 0 {
            items.push(counted(unlisted, "further gap"));
        }
        items
    }
}

/// The gaps of an answer, summed up by their reasons.
#[derive(Debug, Default)]
struct GapSums {
    lost: BTreeMap<Cpu, u64>,
    lost_in: SpanSum,
    blind: SpanSum,
    unobserved: BTreeMap<&'static str, SpanSum>,
    damaged: u64,
}

impl GapSums {
    fn add(&mut self, gap: &Gap) {
        match gap.reason {
            GapReason::Lost { cpu, events, .. } => {
                let sum = self.lost.entry(cpu).or_default();
                *sum = sum.saturating_add(events);
                self.lost_in.add(gap.real_ns);
            }
            GapReason::Blind => self.blind.add(gap.real_ns),
            GapReason::Unobserved(reason) => {
                self.unobserved.entry(unobserved(reason)).or_default().add(gap.real_ns);
            }
            GapReason::Damaged => self.damaged += 1,
            GapReason::BeforeStart | GapReason::AfterEnd => {}
        }
    }

    /// Describes the losses of all CPUs.
    fn lost(&self, day: Option<Date>) -> Option<String> {
        let (&first, _) = self.lost.first_key_value()?;
        let events = self.lost.values().fold(0u64, |sum, &events| sum.saturating_add(events));
        let cpus = match self.lost.len() {
            1 => format!("cpu {first}"),
            cpus => counted(cpus as u64, "cpu"),
        };
        Some(format!("{} lost on {cpus} at {}", counted(events, "event"), self.lost_in.span(day)))
    }
}

/// Some gaps, from the start of the first one to the end of the last one.
#[derive(Debug, Default)]
struct SpanSum {
    count: u64,
    from: Option<i64>,
    until: Option<i64>,
}

impl SpanSum {
    fn add(&mut self, (from, until): (Option<i64>, Option<i64>)) {
        self.count += 1;
        self.from = [self.from, from].into_iter().flatten().min();
        self.until = self.until.max(until);
    }

    fn span(&self, day: Option<Date>) -> String {
        span(self.from, self.until, day)
    }

    /// Describes the gaps after `what`; `None` if there are none.
    fn describe(&self, what: &str, day: Option<Date>) -> Option<String> {
        let times = if self.count > 1 { format!("{} times ", grouped(self.count)) } else { String::new() };
        (self.count > 0).then(|| format!("{what} {times}{}", self.span(day)))
    }
}

fn gap_json(gap: &Gap) -> Value {
    let (from, until) = gap.real_ns;
    let (reason, cpu, events, cause) = match gap.reason {
        GapReason::Lost { cpu, events, cause } => ("lost", Some(cpu.0), Some(events), Some(cause.name())),
        GapReason::Blind => ("blind", None, None, None),
        GapReason::Unobserved(reason) => ("unobserved", None, None, Some(reason.name())),
        GapReason::Damaged => ("damaged", None, None, None),
        GapReason::BeforeStart => ("before_start", None, None, None),
        GapReason::AfterEnd => ("after_end", None, None, None),
    };
    json!({
        "reason": reason,
        "cause": cause,
        "cpu": cpu,
        "events": events,
        "from": time(from),
        "until": time(until),
    })
}

fn unobserved(reason: UnobservedReason) -> &'static str {
    match reason {
        UnobservedReason::Stopped => "recorder stopped",
        UnobservedReason::Pruned => "segments pruned",
        UnobservedReason::Missing => "segments missing",
        UnobservedReason::Killed => "recorder killed",
        UnobservedReason::Future => "not yet recorded",
        _ => "not recorded",
    }
}

fn span(from: Option<i64>, until: Option<i64>, day: Option<Date>) -> String {
    match (from, until) {
        (Some(from), Some(until)) if day_of(from) == day_of(until) => {
            let (begin, begin_time) = (clock(from, day), clock_time(from, false));
            let end = clock_time(until, false);
            if begin_time == end { begin } else { format!("{begin}-{end}") }
        }
        (Some(from), Some(until)) => format!("{}-{}", clock_time(from, true), clock_time(until, true)),
        (Some(at), None) | (None, Some(at)) => clock(at, day),
        (None, None) => "an unknown time".into(),
    }
}

/// Formats a time of day; with the date, unless it is of this day.
fn clock(real_ns: i64, day: Option<Date>) -> String {
    clock_time(real_ns, day.filter(|&day| day_of(real_ns) == Some(day)).is_none())
}

fn day_of(real_ns: i64) -> Option<Date> {
    Some(Timestamp::from_nanosecond(real_ns.into()).ok()?.to_zoned(TimeZone::system()).date())
}
