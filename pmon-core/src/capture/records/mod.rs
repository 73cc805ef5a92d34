//! The records of a capture, as types.

mod container;
mod datagram;
mod details;
mod fatal_signal;
mod fence;
mod forks;
mod losses;
mod pool;
mod positions;
mod recording;
mod self_generated;
mod usage;

pub use container::ContainerNames;
pub use datagram::RecordedDatagram;
pub use details::{Credentials, Details, DetailsSubject, MissReason, ProcessContext, argv};
pub use fatal_signal::{FatalSignal, SignalOrigin, SignalSender};
pub use fence::{Fence, FencePosition, UnreachedCpu, UnreachedReason};
pub use forks::{ForkCount, ForkReading};
pub use losses::{Blind, CpuCounts, Excluded, Loss, RingCounts, Witness};
pub use pool::RecordPool;
pub use positions::{CpuPosition, Positions, Unobserved, UnobservedReason};
pub use recording::{ClockAnchor, End, ScopeInfo, Snapshot, SnapshotReason};
pub use self_generated::SelfGenerated;
pub use usage::{ProcessState, Usage};

/// One record of a capture. Records are in the order in which the recorder obtained them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// A datagram; for an exit event, optionally the resources that the task used.
    Event(RecordedDatagram<'a>, Option<Box<Usage>>),
    /// Events that the kernel emitted before the next event and that did not arrive.
    Loss(Loss),
    /// A time span in which the kernel emitted no events, or not all of them.
    Blind(Blind),
    /// The recorder made each CPU emit an event.
    Fence(Fence),
    /// Two independent counts of the events that the source lost.
    Witness(Witness),
    /// A reading of the kernel's fork counter, which can reveal missing events that sequence
    /// numbers and drop counts do not show.
    Forks(ForkReading),
    /// The scope of the recording, if it does not include all events.
    Scope(ScopeInfo),
    /// Events that were left out because they are out of scope.
    Excluded(Excluded),
    /// Counts of the events that did not arrive through the BPF ring.
    Ring(RingCounts),
    /// A reading of the clocks.
    Clock(ClockAnchor),
    /// The end of a scan of `/proc`. The processes that it found are the `Details` records since
    /// the previous snapshot.
    Snapshot(Snapshot),
    /// What is known of a process in addition to its events.
    Details(Box<Details>),
    /// The next sequence number of each CPU at the end of a segment.
    Positions(Positions),
    /// A time span of which the capture has no events.
    Unobserved(Unobserved),
    /// The clean end of the recording. No record follows.
    End(End),
    /// A record of a kind that this version does not support.
    Unknown {
        /// Kind of the record.
        kind: u8,
    },
}

impl<'a> Record<'a> {
    /// Returns a record that borrows nothing.
    ///
    /// # Errors
    /// Returns the bytes of a raw datagram, which the caller must copy, and its usage.
    pub fn detach(self) -> Result<Record<'static>, (&'a [u8], Option<Box<Usage>>)> {
        Ok(match self {
            Self::Event(RecordedDatagram::Event(event), usage) => {
                Record::Event(RecordedDatagram::Event(event), usage)
            }
            Self::Event(RecordedDatagram::Raw(bytes), usage) => return Err((bytes, usage)),
            Self::Loss(loss) => Record::Loss(loss),
            Self::Blind(blind) => Record::Blind(blind),
            Self::Fence(fence) => Record::Fence(fence),
            Self::Witness(witness) => Record::Witness(witness),
            Self::Forks(reading) => Record::Forks(reading),
            Self::Scope(scope) => Record::Scope(scope),
            Self::Excluded(excluded) => Record::Excluded(excluded),
            Self::Ring(counts) => Record::Ring(counts),
            Self::Clock(anchor) => Record::Clock(anchor),
            Self::Snapshot(snapshot) => Record::Snapshot(snapshot),
            Self::Details(details) => Record::Details(details),
            Self::Positions(positions) => Record::Positions(positions),
            Self::Unobserved(span) => Record::Unobserved(span),
            Self::End(end) => Record::End(end),
            Self::Unknown { kind } => Record::Unknown { kind },
        })
    }
}

impl<'a> From<RecordedDatagram<'a>> for Record<'a> {
    /// Creates the record of a datagram without resource usage.
    fn from(datagram: RecordedDatagram<'a>) -> Self {
        Self::Event(datagram, None)
    }
}
