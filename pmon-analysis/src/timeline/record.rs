//! Records that own their bytes, and their size in memory.

use pmon_core::capture::{
    Blind, ClockAnchor, Details, End, Loss, Record, RecordPool, RecordedDatagram, Snapshot, Unobserved, Usage,
};
use pmon_core::wire::Event;

/// An event with its details and usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineItem {
    /// The event; `None` if the datagram has no readable event.
    pub event: Option<Event>,
    /// The datagram, unless it is the usual form of `event`.
    pub raw: Option<Box<[u8]>>,
    /// Details of the process after an exec.
    pub details: Option<Box<Details>>,
    /// Resource usage of the task or process at an exit.
    pub usage: Option<Box<Usage>>,
}

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnedRecord {
    /// A datagram.
    Event(TimelineItem),
    /// Lost events.
    Loss(Loss),
    /// A time span in which the kernel did not emit all events.
    Blind(Blind),
    /// A time span of which the recording has no events.
    Unobserved(Unobserved),
    /// A reading of the clocks.
    Clock(ClockAnchor),
    /// The end of a scan of `/proc`.
    Snapshot(Snapshot),
    /// Details from a scan of `/proc`, or details that arrived too late to be joined to their exec.
    Details(Box<Details>),
    /// The end of a completed recording.
    End(End),
    /// A record of an unknown kind.
    Unknown {
        /// Record kind.
        kind: u8,
    },
}

/// Overhead of one heap allocation, in bytes.
const ALLOCATION: usize = 16;

impl OwnedRecord {
    /// Returns the memory of the record, in bytes.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.heap_memory()
    }

    /// Passes the records from which this one was joined to `visit`: an event, then its details.
    pub fn visit(&mut self, mut visit: impl FnMut(&Record<'_>)) {
        match self {
            Self::Event(TimelineItem { event, raw, details, usage }) => {
                let datagram = match (raw, event) {
                    (Some(raw), _) => RecordedDatagram::Raw(raw),
                    (None, Some(event)) => RecordedDatagram::Event(*event),
                    (None, None) => return,
                };
                // The boxes move into the records and back, without a copy.
                let record = Record::Event(datagram, usage.take());
                visit(&record);
                if let Record::Event(_, taken) = record {
                    *usage = taken;
                }
                let record = details.take().map(Record::Details);
                record.iter().for_each(&mut visit);
                if let Some(Record::Details(taken)) = record {
                    *details = Some(taken);
                }
            }
            Self::Details(details) => visit(&Record::Details(details.clone())),
            Self::Loss(loss) => visit(&Record::Loss(*loss)),
            Self::Blind(blind) => visit(&Record::Blind(*blind)),
            Self::Unobserved(span) => visit(&Record::Unobserved(*span)),
            Self::Clock(anchor) => visit(&Record::Clock(*anchor)),
            Self::Snapshot(snapshot) => visit(&Record::Snapshot(*snapshot)),
            Self::End(end) => visit(&Record::End(*end)),
            Self::Unknown { kind } => visit(&Record::Unknown { kind: *kind }),
        }
    }

    pub(super) fn heap_memory(&self) -> usize {
        match self {
            Self::Event(TimelineItem { raw, details, usage, .. }) => {
                raw.as_ref().map_or(0, |raw| raw.len() + ALLOCATION)
                    + details.as_deref().map_or(0, memory_of)
                    + usage.as_ref().map_or(0, |_| size_of::<Usage>() + ALLOCATION)
            }
            Self::Details(details) => memory_of(details),
            _ => 0,
        }
    }
}

/// Returns the memory of details in bytes, at least that of the largest ones in a [`RecordPool`]:
/// it must not depend on which ones were reused.
pub(super) fn memory_of(details: &Details) -> usize {
    const REUSED: usize = size_of::<Details>() + 8 * ALLOCATION + RecordPool::MAX_TEXT;
    details.memory().max(REUSED)
}
