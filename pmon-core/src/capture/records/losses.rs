//! Records that account for events which are not in the capture.

use serde::{Deserialize, Serialize};

use crate::accounting::{Gap, LossCause};
use crate::ids::{Cpu, MonoNs, Seq};

/// Consecutive events of one CPU that were lost for one cause.
///
/// A gap with several causes becomes several losses, one after the other. The number of events of
/// each cause is exact; which of the gap's events had which cause is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// CPU that emitted the events.
    pub cpu: Cpu,
    /// First lost sequence number.
    pub first: Seq,
    /// Last lost sequence number.
    pub last: Seq,
    /// Time of the CPU's last event before the gap.
    pub after: MonoNs,
    /// Time of the CPU's first event after the gap.
    pub before: MonoNs,
    /// Cause of the loss.
    pub cause: LossCause,
}

impl Loss {
    /// Returns the losses of a gap, given its causes and the number of events of each. The numbers
    /// must add up to the gap's count.
    pub fn from_gap(
        gap: Gap,
        causes: impl IntoIterator<Item = (LossCause, u64)>,
    ) -> impl Iterator<Item = Self> {
        let Gap { cpu, mut first, after, before, .. } = gap;
        causes.into_iter().map(move |(cause, count)| {
            let next = first.0.wrapping_add(count as u32);
            let last = Seq(next.wrapping_sub(1));
            Self { cpu, first: std::mem::replace(&mut first, Seq(next)), last, after, before, cause }
        })
    }

    /// Returns the number of events: 1 to 2^32.
    pub fn count(&self) -> u64 {
        u64::from(self.last.0.wrapping_sub(self.first.0)) + 1
    }
}

/// A time span in which the kernel emitted no events, or not all of them.
///
/// The recorder detects it when one of its self-generated events does not arrive, or when the
/// kernel counted more forks ([`ForkReading`](super::ForkReading)) than fork events arrived.
/// Missing events have no sequence numbers and cannot be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blind {
    /// Time of the last event received before the span; for a span shown by the fork counter, the
    /// time of the reading before it.
    pub from: MonoNs,
    /// Time of the first event received after the span, or the end of the recording if there was
    /// none; for a span shown by the fork counter, the time of the reading after it.
    pub until: MonoNs,
}

impl Blind {
    /// Returns the length of the span in ns.
    pub fn length_ns(&self) -> u64 {
        self.until.0.saturating_sub(self.from.0)
    }
}

/// Two independent counts of the events that the source lost since the recording began.
///
/// The count of gaps is larger if the kernel had no memory for a message. The count of drops is
/// larger if the source dropped datagrams without a sequence number (sent by user space), or
/// datagrams that no gap shows (before the first event of their CPU, or after its last).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// Time of the comparison.
    pub time: MonoNs,
    /// The source's own count of drops: `SK_MEMINFO_DROPS` of `SO_MEMINFO`.
    pub drops: u64,
    /// Events missing in the sequence numbers, without those that the recorder discarded.
    pub gaps: u64,
}

/// Number of events of one CPU that were left out because they are out of scope.
///
/// These events have sequence numbers. From the CPU's first event in the capture up to number
/// `last`, `count` numbers belong to excluded events; the others are recorded or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    /// CPU that emitted the events.
    pub cpu: Cpu,
    /// Number of the CPU's last recorded event before this record.
    pub last: Seq,
    /// Number of excluded events.
    pub count: u64,
}

/// Counts of the events that did not arrive through the BPF ring since the recording began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingCounts {
    /// Time of the counts.
    pub time: MonoNs,
    /// Counts of each CPU.
    pub cpus: Vec<CpuCounts>,
}

/// The part of [`RingCounts`] that belongs to one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuCounts {
    /// The CPU.
    pub cpu: Cpu,
    /// Events that the full ring passed to the socket's queue, which may have dropped them.
    pub spilled: u64,
    /// Events that are lost because the ring was full.
    pub dropped: u64,
    /// Events that were out of scope.
    pub excluded: u64,
}
