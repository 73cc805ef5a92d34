//! The result of a verification.

use pmon_core::accounting::LossByCause;
use pmon_core::capture::{
    End, FencePosition, RingCounts, UnobservedReason, UnreachedCpu, UnreachedReason, Witness,
};
use pmon_core::{Cpu, MonoNs};

use super::fork_check::ForkReport;
use super::problem::Problem;

/// Maximum number of problems described; further ones are only counted.
pub const MAX_PROBLEMS: usize = 16;

/// How complete a capture is, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The capture holds every event from its start to its end.
    Complete,
    /// Events were lost, and all losses are recorded; or a CPU did not deliver the events of a
    /// fence.
    Lossy,
    /// During some time spans, the kernel emitted no events, or not all of them, or the capture has
    /// none. Otherwise as
    /// [`Verdict::Lossy`].
    Blind,
    /// The recorder did not end cleanly, so the capture is valid only up to some time.
    Unsealed,
    /// Parts of the capture cannot be read, or contradict each other.
    Damaged,
}

impl Verdict {
    /// Returns the name of the verdict in all output formats.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Lossy => "lossy",
            Self::Blind => "blind",
            Self::Unsealed => "unsealed",
            Self::Damaged => "damaged",
        }
    }
}

/// The result of a verification.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// Number of datagrams, without self-generated events.
    pub events: u64,
    /// Number of events that the recorder itself caused.
    pub self_generated: u64,
    /// Number of lost events by cause.
    pub lost: LossByCause,
    /// Number of intervals of consecutive lost events.
    pub intervals: u64,
    /// Number of events that are missing from the sequence numbers without a loss record.
    pub missing: u64,
    /// Number of events between two segments that neither has, although one continues the other.
    pub absent: u64,
    /// Description of the recorded events, if the recorder did not record all events.
    pub scope: Option<String>,
    /// Number of events that the recorder excluded by its scope.
    pub excluded: u64,
    /// Counters of the BPF ring; `None` if the recorder used none.
    pub ring: Option<RingCounts>,
    /// Total length in ns of the blind spans reported by the recorder.
    pub blind_ns: u64,
    /// Number of blind spans reported by the recorder.
    pub blinds: u64,
    /// Result of comparing the fork counter with the fork events.
    pub forks: ForkReport,
    /// Number of further blind spans, which the fork counter shows and the recorder does not
    /// report.
    pub unreported_blinds: u64,
    /// Total length in ns of the further blind spans.
    pub unreported_blind_ns: u64,
    /// Number of time spans of which the capture has no events: there was no recorder, or the
    /// captures of that time are not available.
    pub unobserved: u64,
    /// Total length in ns of these spans.
    pub unobserved_ns: u64,
    /// Why there are no events of the first of these spans.
    pub unobserved_reason: Option<UnobservedReason>,
    /// CPUs that fences did not reach.
    pub unreached: Vec<(FencePosition, UnreachedCpu)>,
    /// Latest counts of drops and gaps; `None` if the source has no drop counter, or nothing was
    /// lost.
    pub witness: Option<Witness>,
    /// Number of datagrams that could be read only in part or not at all.
    pub malformed: u64,
    /// The end record, if the capture has one.
    pub end: Option<End>,
    /// Whether the recorder ended cleanly: the capture has an end record, and is intact after it.
    pub is_sealed: bool,
    /// Time of the last event before the first damage or contradiction. All events missing up to
    /// then are accounted for. `None` if there is no such event.
    pub accounted_until: Option<MonoNs>,
    /// Number of unreadable parts.
    pub damaged: u64,
    /// Number of bytes in the unreadable parts.
    pub damaged_bytes: u64,
    /// Number of records known to be lost with the unreadable parts.
    pub missing_records: u64,
    /// The first problems, at most [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
    /// Total number of problems.
    pub problem_count: u64,
}

impl VerifyReport {
    /// Returns the worst verdict that applies.
    pub fn verdict(&self) -> Verdict {
        if self.damaged > 0 || self.problem_count > 0 {
            Verdict::Damaged
        } else if !self.is_sealed {
            Verdict::Unsealed
        } else if self.all_blinds() > 0 || self.unobserved > 0 {
            Verdict::Blind
        } else if self.lost.total() > 0
            || self.absent > 0
            || self.unexplained_drops() > 0
            || self.silent_cpus().next().is_some()
        {
            Verdict::Lossy
        } else {
            Verdict::Complete
        }
    }

    /// Returns the number of all blind spans.
    pub fn all_blinds(&self) -> u64 {
        self.blinds.saturating_add(self.unreported_blinds)
    }

    /// Returns the total length in ns of all blind spans.
    pub fn all_blind_ns(&self) -> u64 {
        self.blind_ns.saturating_add(self.unreported_blind_ns)
    }

    /// Returns the CPUs whose fence event did not arrive. Other events that they emitted around the
    /// fence may be missing too.
    pub fn silent_cpus(&self) -> impl Iterator<Item = (FencePosition, Cpu)> {
        let silent = self.unreached.iter().filter(|(_, unreached)| unreached.why == UnreachedReason::Silent);
        silent.map(|&(position, unreached)| (position, unreached.cpu))
    }

    /// Returns the number of datagrams that the source dropped without a gap in the sequence
    /// numbers.
    pub fn unexplained_drops(&self) -> u64 {
        self.witness.map_or(0, |witness| witness.drops.saturating_sub(witness.gaps))
    }

    pub(super) fn add_problem(&mut self, problem: Problem) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// Checks that the records hold at most as many items as the ring counted. They may hold fewer,
    /// because the capture begins slightly later.
    pub(super) fn check_maximum(&mut self, what: &'static str, stated: u64, found: u64) {
        if found > stated {
            self.add_problem(Problem::Exceeds { what, stated, found });
        }
    }

    /// Checks that a total in the end record equals that of the records.
    pub(super) fn check_total(&mut self, what: &'static str, stated: u64, found: u64) {
        if stated != found {
            self.add_problem(Problem::Total { what, stated, found });
        }
    }
}
