//! What is compared, and the result of a comparison.

use pmon_core::Cpu;

use super::record::{ComparedRecord, ComparedRef, LossInterval, Side};

/// How records are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffOptions {
    /// Whether to compare the records of each CPU separately, and ignore the order between CPUs.
    pub by_cpu: bool,
    /// Whether to ignore sequence numbers. Events are then compared by time, CPU, kind and content,
    /// losses by CPU and count.
    pub renumbered: bool,
}

/// Number of compared records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffCounts {
    /// Number of datagrams.
    pub events: u64,
    /// Number of loss intervals. Adjacent losses count as one interval.
    pub losses: u64,
    /// Number of lost events.
    pub lost: u64,
    /// Number of blind spans.
    pub blind: u64,
}

impl DiffCounts {
    pub(super) fn add(&mut self, record: &ComparedRef<'_>) {
        match record {
            ComparedRef::Datagram(_) => self.events += 1,
            ComparedRef::Loss(interval) => {
                self.losses += 1;
                self.lost = self.lost.saturating_add(interval.count);
            }
            ComparedRef::Blind(_) => self.blind += 1,
        }
    }
}

/// A sequence of records that are compared in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffStream {
    /// All records, if the CPUs are not compared separately.
    All,
    /// Events and losses of one CPU.
    Cpu(Cpu),
    /// Datagrams without a readable event, or with an impossible CPU number.
    Unattributed,
    /// Blind spans.
    Blind,
}

/// The first difference between two captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Stream that has the difference.
    pub stream: DiffStream,
    /// Number of equal records in the stream before the difference.
    pub before: DiffCounts,
    /// Record of the first capture; `None` if the capture has no further record.
    pub a: Option<ComparedRecord>,
    /// Record of the second capture; `None` if the capture has no further record.
    pub b: Option<ComparedRecord>,
}

/// How far one capture was ahead of the other when the comparison stopped for lack of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFarApart {
    /// Stream with the most waiting records.
    pub stream: DiffStream,
    /// Capture that is ahead.
    pub ahead: Side,
    /// Number of waiting records in that stream.
    pub held: u64,
    /// Number of waiting records in all streams.
    pub held_in_all: u64,
}

/// Whether two captures are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiffOutcome {
    /// The captures are equal.
    Identical,
    /// The captures differ.
    Different(Box<Difference>),
    /// One capture is too far ahead of the other to compare them.
    TooFarApart(TooFarApart),
}

/// Losses that are equal except for their causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CauseDifferences {
    /// Number of such losses.
    pub losses: u64,
    /// The first of them, in the first and in the second capture.
    pub first: (LossInterval, LossInterval),
}

/// Result of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffReport {
    /// Whether the captures are equal.
    pub outcome: DiffOutcome,
    /// Number of records in each capture.
    pub totals: [DiffCounts; 2],
    /// Number of equal records before the first difference.
    pub equal: DiffCounts,
    /// Losses before the first difference that are equal except for their causes.
    pub causes: Option<CauseDifferences>,
}
