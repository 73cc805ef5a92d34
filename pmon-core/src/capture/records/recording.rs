//! Records about the recording as a whole: clocks, scope, snapshots, totals.

use serde::{Deserialize, Serialize};

use crate::accounting::LossByCause;
use crate::ids::MonoNs;

/// One reading of the three clocks, which converts event times to wall-clock times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockAnchor {
    /// `CLOCK_MONOTONIC`.
    pub mono: MonoNs,
    /// `CLOCK_BOOTTIME` in ns; this clock also advances during suspend.
    pub boot_ns: u64,
    /// `CLOCK_REALTIME` in ns since 1970-01-01T00:00Z.
    pub real_ns: i64,
}

impl ClockAnchor {
    /// Returns the reading of the clocks at another monotonic time, earlier or later, if the wall
    /// clock was not set and the machine not suspended in between. A time outside of the range of
    /// its clock becomes the nearest one.
    #[must_use]
    pub fn at(self, mono: MonoNs) -> Self {
        let passed = i128::from(mono.0) - i128::from(self.mono.0);
        let boot_ns = (i128::from(self.boot_ns) + passed).clamp(0, u64::MAX.into()) as u64;
        let real_ns = i128::from(self.real_ns) + passed;
        let real_ns = real_ns.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        Self { mono, boot_ns, real_ns }
    }
}

/// The scope of a recording that does not include all events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeInfo {
    /// Description of the recorded events, for people.
    pub text: String,
}

/// The end of a scan of `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Time at which the scan began.
    pub started: MonoNs,
    /// Time at which the scan ended.
    pub ended: MonoNs,
    /// Number of processes found; as many `Details` records precede this one.
    pub processes: u32,
    /// Why the recorder made the scan.
    pub reason: SnapshotReason,
    /// Whether the scan shows a single moment. A scan that reads one process after the other does
    /// not; its result as a whole was never true.
    pub atomic: bool,
}

/// Why the recorder scanned `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SnapshotReason {
    /// The recording began.
    Start,
    /// Events were lost.
    Loss,
    /// The kernel emitted no events for some time.
    Blind,
    /// A segment begins. The processes are those of the recorder's own table.
    Segment,
}

/// The totals of a recording that ended cleanly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Time of the end.
    pub time: MonoNs,
    /// Number of recorded datagrams.
    pub events: u64,
    /// Number of datagrams that were not recorded because user space sent them.
    pub rejected: u64,
    /// Number of datagrams without a readable event
    /// ([`is_malformed`](super::RecordedDatagram::is_malformed)) or truncated because of their
    /// length. Includes discarded ones.
    pub malformed: u64,
    /// Total length of all `Blind` records, in ns.
    pub blind_ns: u64,
    /// The source's count of drops; `None` if it does not count them.
    pub drops: Option<u64>,
    /// Lost events of all `Loss` records.
    pub lost: LossByCause,
}
