//! The result of an excerpt.

use pmon_analysis::Verdict;
use pmon_core::MonoNs;
use pmon_core::accounting::LossByCause;
use pmon_core::capture::{ClockAnchor, Unobserved, UnobservedReason};

use crate::reader::SkippedSegment;

/// What an excerpt contains, and what it lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CutReport {
    /// First time of the range.
    pub from: MonoNs,
    /// Last time of the range.
    pub until: MonoNs,
    /// Reading of the clocks that belongs to `from`.
    pub clock: ClockAnchor,
    /// Number of events, including self-generated ones.
    pub events: u64,
    /// Number of processes in the process table at the start.
    pub processes: u64,
    /// Number of lost events by cause.
    pub lost: LossByCause,
    /// Total length of the blind spans in ns.
    pub blind_ns: u64,
    /// The spans of the range of which there are no events.
    pub unobserved: Vec<Unobserved>,
    /// Number of unreadable parts of the sources within the range.
    pub damaged: u64,
    /// The sources that could not be read, and were left out.
    pub skipped: Vec<SkippedSegment>,
    /// Number of CPUs whose events at the start or at the end may be missing.
    pub silent_cpus: u64,
    /// Number of blocks copied without decoding their events.
    pub copied_blocks: u64,
    /// Number of blocks whose records were decoded and encoded again.
    pub encoded_blocks: u64,
    /// Size of the excerpt in bytes.
    pub bytes: u64,
    /// Number of drops of the source that no lost event explains.
    pub unexplained_drops: u64,
}

impl CutReport {
    /// Returns the verdict that a verification of the excerpt returns.
    pub fn verdict(&self) -> Verdict {
        if !self.unobserved.is_empty() || self.blind_ns > 0 {
            Verdict::Blind
        } else if self.lost.total() > 0 || self.silent_cpus > 0 || self.unexplained_drops > 0 {
            Verdict::Lossy
        } else {
            Verdict::Complete
        }
    }

    /// Describes what the excerpt lacks, for people; empty if it is complete.
    pub fn missing(&self) -> String {
        let seconds = |ns: u64| format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1000);
        let mut parts = Vec::new();
        if self.lost.total() > 0 {
            parts.push(format!("{} lost", events(self.lost.total())));
        }
        for reason in REASONS {
            let spans = self.unobserved.iter().filter(|span| span.reason == reason);
            if spans.clone().next().is_some() {
                let ns = spans.map(Unobserved::length_ns).fold(0, u64::saturating_add);
                parts.push(format!("{} without events ({})", seconds(ns), reason.name()));
            }
        }
        if self.blind_ns > 0 {
            parts.push(format!("the kernel emitted no events for {}", seconds(self.blind_ns)));
        }
        if self.silent_cpus > 0 {
            parts.push(format!("events of {} CPUs may be missing at the edges", self.silent_cpus));
        }
        if self.unexplained_drops > 0 {
            parts.push(format!("the socket dropped {} more", events(self.unexplained_drops)));
        }
        parts.join("; ")
    }
}

const REASONS: [UnobservedReason; 5] = [
    UnobservedReason::Pruned,
    UnobservedReason::Stopped,
    UnobservedReason::Missing,
    UnobservedReason::Killed,
    UnobservedReason::Future,
];

fn events(count: u64) -> String {
    if count == 1 { "1 event".into() } else { format!("{count} events") }
}
