//! Reads a recording: one capture, or several that continue each other, as a single sequence of
//! records.

use std::io::{self, Read, Seek};

use super::{Damage, Item, Reader};
use crate::capture::codec::Block;
use crate::capture::format::Header;
use crate::capture::records::{DetailsSubject, FencePosition, Record, SnapshotReason, Unobserved};
use crate::ids::MonoNs;
use crate::wire::ByteOrder;

/// The next part of a recording.
pub enum Part<'a> {
    /// An intact block of the current capture.
    Block(Block<'a>),
    /// A damaged part of the current capture.
    Damage(Damage),
    /// Another capture begins: see [`RecordingReader::header`] and [`RecordingReader::junction`].
    Segment,
}

/// How a capture is connected with its neighbours in the recording that is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Junction {
    /// Whether no event happened between the previous capture and this one, except those in loss
    /// records. The opening of this capture then repeats what is known.
    pub continues: bool,
    /// Whether the next capture continues this one, so that the recording does not end here.
    pub is_followed: bool,
    /// Whether the machine was booted since the previous capture: the monotonic clock restarted,
    /// and no process is the same.
    pub is_reboot: bool,
    /// The time without events before this capture, if its length is known.
    pub unobserved: Option<Unobserved>,
}

/// Reads a recording from start to end: one capture, or the segments that continue each other.
///
/// The parts hold all records of each capture. A consumer that wants the records of one continuous
/// recording passes them through a [`Splicer`].
pub trait RecordingReader {
    /// Returns the header of the current capture; `None` if it is damaged.
    fn header(&self) -> Option<&Header>;

    /// Returns the byte order of the datagrams of the current capture.
    fn byte_order(&self) -> ByteOrder;

    /// Returns how the current capture is connected with its neighbours.
    fn junction(&self) -> Junction {
        Junction::default()
    }

    /// Returns the next part; `None` at the end of the recording.
    ///
    /// # Errors
    /// Returns an error if the input cannot be read. Damage is not an error.
    fn next_part(&mut self) -> io::Result<Option<Part<'_>>>;

    /// Returns the block that was returned last, without its first `taken` records.
    fn rest_of_block(&self, taken: u64) -> Option<Block<'_>>;

    /// Returns the number of bytes read so far.
    fn offset(&self) -> u64;

    /// Returns the total length of the headers and the intact blocks so far, in bytes.
    fn intact_bytes(&self) -> u64;

    /// Returns the number of intact blocks that were skipped because their kind is unknown.
    fn unknown_blocks(&self) -> u64;

    /// Returns whether the recorder ended the current capture cleanly.
    fn ended_cleanly(&self) -> bool;

    /// Returns the currently allocated memory in bytes.
    fn memory(&self) -> usize;
}

/// A recording that can be read from a given time on.
pub trait SeekRecording: RecordingReader {
    /// Moves to a position close before the first event at or after `time`. Returns `false` and
    /// keeps the position if there is no trustworthy index.
    ///
    /// # Errors
    /// Returns an error if the input cannot be read.
    fn seek(&mut self, time: MonoNs) -> io::Result<bool>;
}

impl<R: Read> RecordingReader for Reader<R> {
    fn header(&self) -> Option<&Header> {
        self.header()
    }

    fn byte_order(&self) -> ByteOrder {
        self.byte_order()
    }

    fn next_part(&mut self) -> io::Result<Option<Part<'_>>> {
        Ok(self.next_item()?.map(|item| match item {
            Item::Block(block) => Part::Block(block),
            Item::Damage(damage) => Part::Damage(damage),
        }))
    }

    fn rest_of_block(&self, taken: u64) -> Option<Block<'_>> {
        self.rest_of_block(taken)
    }

    fn offset(&self) -> u64 {
        self.offset()
    }

    fn intact_bytes(&self) -> u64 {
        self.intact_bytes()
    }

    fn unknown_blocks(&self) -> u64 {
        self.unknown_blocks()
    }

    fn ended_cleanly(&self) -> bool {
        self.ended_cleanly()
    }

    fn memory(&self) -> usize {
        self.memory()
    }
}

impl<R: Read + Seek> SeekRecording for Reader<R> {
    fn seek(&mut self, time: MonoNs) -> io::Result<bool> {
        self.seek(time)
    }
}

/// Selects the records of one continuous recording from the records of its segments: omits the
/// openings and the ends that only let each segment be read alone.
///
/// Create one for each capture of the recording.
#[derive(Clone, Copy, Debug, Default)]
pub struct Splicer {
    /// Whether the records so far belong to an opening that repeats what is known.
    is_opening: bool,
    is_followed: bool,
}

impl Splicer {
    /// Creates a splicer for a capture that is connected with its neighbours like this.
    pub fn new(junction: Junction) -> Self {
        Self { is_opening: junction.continues, is_followed: junction.is_followed }
    }

    /// Returns whether the next record belongs to the continuous recording.
    #[inline]
    pub fn keeps(&mut self, record: &Record<'_>) -> bool {
        match record {
            Record::Event(..) => {
                self.is_opening = false;
                true
            }
            record => self.keeps_other(record),
        }
    }

    fn keeps_other(&mut self, record: &Record<'_>) -> bool {
        match record {
            Record::Details(details) if matches!(details.subject, DetailsSubject::Snapshot { .. }) => {
                !self.is_opening
            }
            Record::Snapshot(snapshot) if snapshot.reason == SnapshotReason::Segment => !self.is_opening,
            Record::Scope(_) => !self.is_opening,
            Record::Fence(fence) if fence.position == FencePosition::Start => {
                !std::mem::take(&mut self.is_opening)
            }
            Record::Fence(_) | Record::Positions(_) | Record::End(_) => !self.is_followed,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tgid;
    use crate::capture::records::{Details, End, Fence, MissReason, ScopeInfo, Snapshot};

    fn details() -> Record<'static> {
        let subject = DetailsSubject::Snapshot { tgid: Tgid(1) };
        Record::Details(Box::new(Details::missed(subject, MissReason::Gone)))
    }

    fn fence(position: FencePosition) -> Record<'static> {
        Record::Fence(Fence { time: MonoNs(1), position, unreached: vec![] })
    }

    fn segment() -> Vec<Record<'static>> {
        let snapshot = Snapshot {
            started: MonoNs(1),
            ended: MonoNs(1),
            processes: 1,
            reason: SnapshotReason::Segment,
            atomic: true,
        };
        vec![
            details(),
            Record::Snapshot(snapshot),
            Record::Scope(ScopeInfo { text: String::new() }),
            fence(FencePosition::Start),
            details(),
            fence(FencePosition::End),
            Record::End(End::default()),
        ]
    }

    fn kept(continues: bool, is_followed: bool) -> Vec<bool> {
        let mut splicer = Splicer::new(Junction { continues, is_followed, ..Junction::default() });
        segment().iter().map(|record| splicer.keeps(record)).collect()
    }

    #[test]
    fn a_capture_without_neighbours_keeps_all_its_records() {
        assert!(kept(false, false).into_iter().all(|kept| kept));
    }

    #[test]
    fn an_opening_and_an_end_within_a_recording_are_omitted() {
        assert_eq!(kept(true, true), [false, false, false, false, true, false, false]);
        assert_eq!(kept(true, false), [false, false, false, false, true, true, true]);
        assert_eq!(kept(false, true), [true, true, true, true, true, false, false]);
    }

    #[test]
    fn details_after_the_first_event_are_no_part_of_the_opening() {
        let mut splicer = Splicer::new(Junction { continues: true, ..Junction::default() });
        assert!(!splicer.keeps(&details()));
        let event = Record::Event(crate::capture::RecordedDatagram::Raw(b""), None);
        assert!(splicer.keeps(&event) && splicer.keeps(&details()));
    }
}
