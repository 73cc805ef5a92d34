//! Records that own their bytes, and their size in memory.

use pmon_core::capture::{Blind, ClockAnchor, Details, End, Loss, Snapshot, Unobserved, Usage};
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

    pub(super) fn heap_memory(&self) -> usize {
        match self {
            Self::Event(TimelineItem { raw, details, usage, .. }) => {
                raw.as_ref().map_or(0, |raw| raw.len() + ALLOCATION)
                    + details.as_deref().map_or(0, Details::memory)
                    + usage.as_ref().map_or(0, |_| size_of::<Usage>() + ALLOCATION)
            }
            Self::Details(details) => details.memory(),
            _ => 0,
        }
    }
}
