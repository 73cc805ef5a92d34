//! The result of an excerpt.

use pmon_analysis::Verdict;
use pmon_core::MonoNs;
use pmon_core::accounting::LossByCause;
use pmon_core::capture::{ClockAnchor, Unobserved};

/// What an excerpt contains, and what it lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CutReport {
    /// First time of the range.
    pub from: MonoNs,
    /// Last time of the range.
    pub until: MonoNs,
    /// Reading of the clocks that belongs to `from`.
    pub clock: ClockAnchor,
    /// Number of events, without self-generated ones.
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
    /// Number of CPUs whose events at the start or at the end may be missing.
    pub silent_cpus: u64,
    /// Number of blocks copied without decoding their events.
    pub copied_blocks: u64,
    /// Number of blocks whose records were decoded and encoded again.
    pub encoded_blocks: u64,
    /// Size of the excerpt in bytes.
    pub bytes: u64,
    /// The verdict that a verification of the excerpt returns.
    pub verdict: Option<Verdict>,
}
