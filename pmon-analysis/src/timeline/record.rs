//! Records that own their bytes, and their size in memory.

use pmon_core::capture::{Blind, ClockAnchor, Details, End, Loss, Snapshot, Usage};
use pmon_core::wire::Event;

/// One event record, with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineItem {
    /// The event; `None` if the datagram holds none that can be read.
    pub event: Option<Event>,
    /// The datagram, unless it is the usual form of `event`.
    pub raw: Option<Box<[u8]>>,
    /// For an exec, what is known of the process after it.
    pub details: Option<Box<Details>>,
    /// For an exit, what was used until then, if it is known.
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
    /// A time in which nothing was heard.
    Blind(Blind),
    /// What the clocks said.
    Clock(ClockAnchor),
    /// The end of a scan of `/proc`.
    Snapshot(Snapshot),
    /// Details from a scan of `/proc`, or of an exec that was not waited for any longer.
    Details(Box<Details>),
    /// The clean end.
    End(End),
    /// A record of an unknown kind.
    Unknown {
        /// Its kind.
        kind: u8,
    },
}

/// Overhead of one heap allocation, in bytes.
pub(super) const ALLOCATION: usize = 16;

/// Returns the bytes of memory that an entry takes.
pub fn size_of_record(record: &OwnedRecord) -> usize {
    let more = match record {
        OwnedRecord::Event(item) => {
            let TimelineItem { raw, details, usage, .. } = item;
            raw.as_ref().map_or(0, |raw| raw.len() + ALLOCATION)
                + details.as_deref().map_or(0, Details::memory)
                + usage.as_ref().map_or(0, |_| size_of::<Usage>() + ALLOCATION)
        }
        OwnedRecord::Details(details) => details.memory(),
        _ => 0,
    };
    size_of::<OwnedRecord>() + more
}
