//! Settings and counters of an assembler.

use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::wire::ByteOrder;
use pmon_core::{MonoNs, Tgid};

/// Numbers of recorded and missing events since the recording began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AssemblerCounters {
    /// Number of recorded datagrams.
    pub events: u64,
    /// Number of recorded datagrams that the recorder itself caused: fences and heartbeats.
    pub self_generated: u64,
    /// Numbers of lost events, over all `Loss` records.
    pub lost: LossByCause,
    /// Number of gaps in the sequence numbers, each of one or more events lost in a row.
    pub gaps: u64,
    /// Number of datagrams that were not recorded because user space sent them.
    pub rejected: u64,
    /// Number of truncated datagrams and datagrams without a readable event; see
    /// [`End::malformed`](pmon_core::capture::End::malformed).
    pub malformed: u64,
    /// Number of overruns that the source reported. Each stands for any number of lost events.
    pub overruns: u64,
    /// Number of datagrams that the source dropped, by its own count; `None` if it does not count.
    pub drops: Option<u64>,
    /// Total time in ns of all `Blind` records, in which the kernel did not emit all events.
    pub blind_ns: u64,
    /// Number of `Blind` records.
    pub blind_records: u64,
    /// Number of recorded details of which something is missing.
    pub details_missed: u64,
}

/// Settings of an [`Assembler`](super::Assembler).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssemblerSettings {
    /// Byte order of the datagrams.
    pub order: ByteOrder,
    /// The recorder's process, whose fences and heartbeats are counted as self-generated.
    pub recorder: Tgid,
    /// Whether details are recorded after each exec.
    pub details: bool,
    /// Number of datagrams that the source dropped before the recording began.
    pub drops_before: u64,
    /// Time of the recording's begin, not before `drops_before` was read.
    ///
    /// Earlier first events of a CPU are not recorded. So any loss after a CPU's first event was
    /// dropped after `drops_before` was read.
    pub since: MonoNs,
    /// Cause of the losses that the source counts.
    pub drop_cause: LossCause,
    /// Whether the heartbeat thread will read the count of forks.
    pub forks: bool,
}

impl AssemblerSettings {
    /// Creates settings for a recording by the process `recorder`, without details, from a socket
    /// that has dropped nothing before.
    pub fn new(order: ByteOrder, recorder: Tgid) -> Self {
        Self {
            order,
            recorder,
            details: false,
            drops_before: 0,
            since: MonoNs(0),
            drop_cause: LossCause::Socket,
            forks: false,
        }
    }
}
