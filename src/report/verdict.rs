//! The completeness of a capture in words, in JSON, and as an exit code.

use std::fmt::Write as _;

use pmon_analysis::verify::{ChainReport, ChainVerifier, Finding, ForkReport, SegmentFacts, Shortfall};
use pmon_analysis::{Verdict, VerifyReport, WallClock};
use pmon_core::accounting::LossByCause;
use pmon_core::capture::{CpuCounts, Damage, Header, Record, UnobservedReason};
use pmon_core::wire::ByteOrder;
use serde_json::{Map, Value, json};

use crate::exit;
use crate::output::printable;
use crate::terminal::{counted, grouped, size};
use crate::time_spec::{brief, moment, rfc3339};

/// Checks the completeness of a recording from all its records and damaged parts.
pub(crate) struct CompletenessChecker {
    verifier: ChainVerifier,
    is_store: bool,
    recorder: Option<u32>,
}

/// The result of a [`CompletenessChecker`].
pub(crate) struct Completeness {
    pub(crate) report: VerifyReport,
    /// The segments of the recording.
    pub(crate) chain: ChainReport,
    pub(super) wall: WallClock,
    /// Whether the recording is the whole of a store, or several files.
    pub(super) is_store: bool,
    /// The process that is still recording.
    recorder: Option<u32>,
}

impl CompletenessChecker {
    /// Creates a checker for a capture with this header, if known, and datagrams in byte order
    /// `order`.
    pub(crate) fn new(header: Option<&Header>, order: ByteOrder) -> Self {
        Self::of_first(SegmentFacts { name: "", header, order, is_misnamed: false })
    }

    /// Creates a checker for a recording that begins with this capture.
    pub(crate) fn of_first(first: SegmentFacts<'_>) -> Self {
        Self { verifier: ChainVerifier::new(first), is_store: false, recorder: None }
    }

    /// Continues with the next capture. `was_sealed` states whether the one before it ended
    /// cleanly.
    pub(crate) fn begin(&mut self, was_sealed: bool, next: SegmentFacts<'_>) {
        self.verifier.begin(was_sealed, next);
    }

    /// Notes what the caller has found.
    pub(crate) fn add_finding(&mut self, finding: Finding) {
        self.verifier.add_finding(finding);
    }

    /// Notes whether the recording is the whole of a store, or several files.
    pub(crate) fn set_store(&mut self, is_store: bool) {
        self.is_store = is_store;
    }

    /// Notes the process that is still recording.
    pub(crate) fn set_recorder(&mut self, recorder: Option<u32>) {
        self.recorder = recorder;
    }

    pub(crate) fn count(&mut self, record: &Record<'_>) {
        self.verifier.count(record);
    }

    pub(crate) fn damage(&mut self, damage: &Damage) {
        self.verifier.damage(damage);
    }

    /// Returns the result. `clean_end` states whether the recorder ended the capture cleanly.
    pub(crate) fn finish(self, clean_end: bool) -> Completeness {
        let (report, chain, wall) = self.verifier.finish(clean_end);
        Completeness { report, chain, wall, is_store: self.is_store, recorder: self.recorder }
    }
}

impl Completeness {
    /// Returns the exit code of `verify` and of `record --strict`.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.report.verdict() {
            Verdict::Complete => exit::DONE,
            Verdict::Lossy | Verdict::Blind | Verdict::Unsealed => exit::INCOMPLETE,
            Verdict::Damaged => exit::DAMAGED,
        }
    }

    /// Returns the verdict and its reasons in words.
    pub(crate) fn sentence(&self) -> String {
        let report = &self.report;
        let missing = self.exceptions();
        let blind = self.blind();
        let except = |all: &[String]| match all {
            [] => String::new(),
            all => format!(" except {}", all.join(" and ")),
        };
        match report.verdict() {
            Verdict::Complete => format!("complete{}", self.since()),
            Verdict::Lossy => format!("complete{}{}", self.since(), except(&missing)),
            Verdict::Blind if report.all_blinds() == 0 => self.unobserved_sentence(&except(&missing)),
            Verdict::Blind if missing.is_empty() => format!("{blind}, else complete"),
            Verdict::Blind => format!("{blind}, else complete{}", except(&missing)),
            verdict => {
                let mut all = missing;
                all.extend((report.all_blinds() > 0).then_some(blind));
                all.extend((report.unobserved > 0).then(|| self.unobserved()));
                let up_to = match report.accounted_until {
                    Some(time) => format!("complete up to {}{}", moment(&self.wall, time), except(&all)),
                    None if report.events + report.self_generated == 0 => "no event in it".into(),
                    None => "not from its first event on".into(),
                };
                match verdict {
                    Verdict::Unsealed => match self.recorder {
                        Some(pid) => format!("unsealed (process {pid} is still recording; {up_to})"),
                        None => format!("unsealed (the recorder did not end cleanly; {up_to})"),
                    },
                    _ => format!("damaged ({}; {up_to})", self.damage().join(", ")),
                }
            }
        }
    }

    /// Describes the time in which the kernel did not emit all events.
    fn blind(&self) -> String {
        let (report, missing) = (&self.report, self.report.forks.missing);
        let forks = match missing {
            0 => String::new(),
            _ => format!(" (at least {} without an event)", counted(missing, "fork")),
        };
        format!("blind for {}{forks}", brief(report.all_blind_ns()))
    }

    /// Returns a line for each time in which forks have no event.
    pub(crate) fn shortfalls(&self) -> impl Iterator<Item = String> {
        let forks = &self.report.forks;
        let listed = forks.shortfalls.iter().map(|shortfall| {
            let (from, until) = (moment(&self.wall, shortfall.from), moment(&self.wall, shortfall.until));
            let missing = counted(shortfall.missing, "fork");
            format!("at least {missing} without an event between {from} and {until}")
        });
        let more = forks.shortfall_count - forks.shortfalls.len() as u64;
        listed.chain((more > 0).then(|| format!("{} more", counted(more, "such time"))))
    }

    /// Explains why the count of forks could not be read.
    pub(crate) fn no_forks(&self) -> Option<String> {
        let why = self.report.forks.absent.as_ref()?;
        Some(format!("without the kernel's count of forks: {}", printable(why.as_bytes())))
    }

    /// Describes the time without events, for which nothing else is known.
    fn unobserved(&self) -> String {
        let report = &self.report;
        let reason = report.unobserved_reason.map_or("", unobserved_reason);
        let length = brief(report.unobserved_ns);
        match report.unobserved {
            1 => format!("unobserved for {length} ({reason})"),
            times => format!("unobserved for {length} in {}", counted(times, "time")),
        }
    }

    /// Describes what an intact capture lacks.
    fn exceptions(&self) -> Vec<String> {
        let report = &self.report;
        let mut all = Vec::new();
        let lost = report.lost.total();
        if lost > 0 {
            let (intervals, causes) = (counted(report.intervals, "interval"), causes(&report.lost));
            all.push(format!("{} lost in {intervals} ({causes})", counted(lost, "event")));
        }
        if report.absent > 0 {
            let is_damaged = |found: &Finding| matches!(found, Finding::Absent { is_damaged: true, .. });
            let place = match self.chain.findings.iter().any(is_damaged) {
                true => "in damaged segments or between segments",
                false => "between segments",
            };
            all.push(format!("{} missing {place}", counted(report.absent, "event")));
        }
        for (position, cpu) in report.silent_cpus() {
            all.push(format!(
                "what cpu {cpu} emitted around the {}, where no event was received",
                position.name()
            ));
        }
        let unexplained = report.unexplained_drops();
        if unexplained > 0 {
            all.push(format!(
                "{} that the source dropped and no gap tells of",
                counted(unexplained, "message")
            ));
        }
        all
    }

    /// Describes what is wrong with a damaged capture.
    pub(crate) fn damage(&self) -> Vec<String> {
        let report = &self.report;
        let mut all = Vec::new();
        if report.damaged > 0 {
            let parts = counted(report.damaged, "damaged part");
            all.push(format!("{parts} of {} in all", size(report.damaged_bytes)));
        }
        if report.missing_records > 0 {
            all.push(format!("{} missing", counted(report.missing_records, "record")));
        }
        if report.missing > 0 {
            all.push(format!("{} missing without a record of their loss", counted(report.missing, "event")));
        }
        let found = |is_kind: fn(&Finding) -> bool| {
            self.chain.findings.iter().filter(|&finding| is_kind(finding)).count() as u64
        };
        let unreadable = found(|finding| matches!(finding, Finding::Unreadable { .. }));
        if unreadable > 0 {
            all.push(format!("{} unreadable", counted(unreadable, "capture")));
        }
        if found(|finding| matches!(finding, Finding::Overlap { is_repeated: false, .. })) > 0 {
            all.push("captures of two recorders overlap".into());
        }
        if found(|finding| matches!(finding, Finding::Overlap { is_repeated: true, .. })) > 0 {
            all.push("captures hold the same part of one recording".into());
        }
        if all.is_empty() {
            all.push(counted(report.problem_count, "contradiction"));
        }
        all
    }

    /// Returns the number of datagrams that are not a whole event, recorded or not.
    pub(crate) fn malformed(&self) -> u64 {
        self.report.end.map_or(0, |end| end.malformed).max(self.report.malformed)
    }

    /// Returns the first contradictions in words.
    pub(crate) fn problems(&self) -> impl Iterator<Item = String> {
        self.report.problems.iter().map(ToString::to_string)
    }

    /// Describes the scope of the recording, if it was limited.
    pub(crate) fn scope(&self) -> Option<String> {
        let report = &self.report;
        let scope = report.scope.as_ref()?;
        Some(format!("{}; {} left out", printable(scope.as_bytes()), counted(report.excluded, "other event")))
    }

    /// Describes the events for which the ring was full, if there are any.
    pub(crate) fn ring(&self) -> Option<String> {
        let cpus = &self.report.ring.as_ref()?.cpus;
        let sum = |count: fn(&CpuCounts) -> u64| cpus.iter().map(count).sum::<u64>();
        let (spilled, dropped) = (sum(|cpu| cpu.spilled), sum(|cpu| cpu.dropped));
        match (spilled, dropped) {
            (0, 0) => None,
            (spilled, 0) => {
                Some(format!("was full for {}, which the socket took", counted(spilled, "event")))
            }
            (_, dropped) => Some(format!("was full for {}", counted(dropped, "event"))),
        }
    }

    /// Names the CPUs that could not be made to emit an event, if there are any.
    pub(crate) fn unreached(&self) -> Option<String> {
        let mut text = String::new();
        for (position, unreached) in &self.report.unreached {
            let comma = if text.is_empty() { "" } else { ", " };
            let (cpu, why) = (unreached.cpu, unreached.why.name());
            let _ = write!(text, "{comma}cpu {cpu} at the {} ({why})", position.name());
        }
        (!text.is_empty()).then_some(text)
    }

    /// Returns the JSON fields that all verbs with a verdict have.
    pub(crate) fn json(&self) -> Map<String, Value> {
        let report = &self.report;
        let unreached: Vec<_> = report
            .unreached
            .iter()
            .map(|(position, cpu)| json!({ "edge": position.name(), "cpu": cpu.cpu, "why": cpu.why.name() }))
            .collect();
        let up_to = report.accounted_until.filter(|_| report.verdict() >= Verdict::Unsealed);
        let Value::Object(fields) = json!({
            "verdict": report.verdict().name(),
            "summary": self.sentence(),
            "events": { "total": report.events, "own": report.self_generated },
            "lost": { "total": report.lost.total(), "gaps": report.intervals, "by_cause": causes_json(&report.lost) },
            "missing": report.missing,
            "scope": report.scope,
            "left_out": report.excluded,
            "ring": report.ring.as_ref().map(|ring| ring.cpus.iter().map(|cpu| json!({
                "cpu": cpu.cpu, "spilled": cpu.spilled, "dropped": cpu.dropped, "left_out": cpu.excluded,
            })).collect::<Vec<_>>()),
            "rejected": report.end.map(|end| end.rejected),
            "malformed": self.malformed(),
            "blind_ns": report.all_blind_ns(),
            "blind_intervals": report.all_blinds(),
            "forks": forks(&report.forks),
            "witness": report.witness.map(|witness| json!({ "drops": witness.drops, "gaps": witness.gaps })),
            "unreached": unreached,
            "clean_end": report.is_sealed,
            "complete_up_to": up_to.and_then(|time| self.wall.at(time)).and_then(rfc3339),
            "complete_up_to_mono_ns": up_to,
            "damage": {
                "parts": report.damaged,
                "bytes": report.damaged_bytes,
                "records": report.missing_records,
            },
            "problems": self.problems().collect::<Vec<_>>(),
        }) else {
            return Map::new();
        };
        let mut fields = fields;
        fields.extend(self.chain_json());
        fields
    }
}

/// Describes causes, for example `socket` or `100 socket, 23 kernel_memory`.
pub(crate) fn causes(lost: &LossByCause) -> String {
    let causes: Vec<_> = lost.by_cause().filter(|&(_, count)| count > 0).collect();
    match causes[..] {
        [(cause, _)] => cause.name().into(),
        _ => {
            let counts = causes.iter().map(|(cause, count)| format!("{} {}", grouped(*count), cause.name()));
            counts.collect::<Vec<_>>().join(", ")
        }
    }
}

/// Explains in words why a time has no events.
pub(crate) fn unobserved_reason(reason: UnobservedReason) -> &'static str {
    match reason {
        UnobservedReason::Stopped => "the recorder was stopped",
        UnobservedReason::Pruned => "segments were pruned",
        UnobservedReason::Missing => "segments are missing",
        UnobservedReason::Killed => "the recorder was killed",
        UnobservedReason::Future => "it was in the future",
        _ => "for a reason of a newer pmon",
    }
}

/// Returns the number of lost events of each cause as JSON.
pub(crate) fn causes_json(lost: &LossByCause) -> Map<String, Value> {
    lost.by_cause().map(|(cause, count)| (cause.name().into(), count.into())).collect()
}

/// Returns the result of the kernel's count of forks as JSON; `None` if it was not read.
fn forks(forks: &ForkReport) -> Option<Value> {
    let interval = |shortfall: &Shortfall| json!({ "after_mono_ns": shortfall.from, "before_mono_ns": shortfall.until, "missing": shortfall.missing });
    let intervals: Vec<_> = forks.shortfalls.iter().map(interval).collect();
    (forks.readings > 0 || forks.absent.is_some()).then(|| {
        json!({
            "readings": forks.readings, "counted": forks.counted, "missing": forks.missing,
            "intervals": intervals, "absent": forks.absent,
        })
    })
}

#[cfg(test)]
mod tests;
