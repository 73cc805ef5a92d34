//! How a capture continues others: positions in the sequence numbers, and time spans without a
//! recorder.

use serde::{Deserialize, Serialize};

use crate::ids::{Cpu, MonoNs, Seq};

/// The position of one CPU in its sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuPosition {
    /// The CPU.
    pub cpu: Cpu,
    /// Number that the CPU's next event must have, unless events are lost.
    pub next: Seq,
    /// Time of the CPU's last event.
    pub time: MonoNs,
}

/// The positions of all CPUs at the end of a segment, from which the next segment continues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// Time of the division between the segments.
    pub time: MonoNs,
    /// Position of each CPU that has emitted an event since the recording began.
    pub cpus: Vec<CpuPosition>,
    /// The source's count of drops since the socket was opened (`SK_MEMINFO_DROPS`); `None` if it
    /// does not count them. A recorder that continues with the same socket compares with it.
    pub source_drops: Option<u64>,
}

/// A time span of which the capture has no events, although they were requested or the capture
/// continues an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unobserved {
    /// Start of the span.
    pub from: MonoNs,
    /// End of the span.
    pub until: MonoNs,
    /// Why there are no events.
    pub reason: UnobservedReason,
}

impl Unobserved {
    /// Returns the length of the span in ns.
    pub fn length_ns(&self) -> u64 {
        self.until.0.saturating_sub(self.from.0)
    }
}

/// Why a capture has no events of a time span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum UnobservedReason {
    /// No recorder was running.
    Stopped,
    /// The segments of that time were removed by retention, or left the memory of a flight
    /// recorder.
    Pruned,
    /// The segments of that time are missing or damaged.
    Missing,
    /// The recorder was killed, and its last events were not written.
    Killed,
    /// The time was in the future when the excerpt was made.
    Future,
}

impl UnobservedReason {
    /// Returns the reason's name in every interface of pmon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Pruned => "pruned",
            Self::Missing => "missing",
            Self::Killed => "killed",
            Self::Future => "future",
        }
    }
}
