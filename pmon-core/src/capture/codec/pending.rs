//! The records that wait for the end of their block.

use super::error::EncodeError;
use super::notes;
use crate::capture::format::limit;
use crate::capture::records::{Details, Record, RecordedDatagram, Usage};
use crate::wire::{Event, EventBody};

pub(super) enum PendingEvent {
    Event(Event),
    /// Bytes `start..start + len` of [`PendingRecords::raw`].
    Raw {
        start: u32,
        len: u32,
    },
}

pub(super) struct PendingNote {
    /// Number of events before the note.
    pub(super) events: u32,
    /// Number of details before the note.
    pub(super) details: u32,
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
}

/// Numbers of events, details and notes.
#[derive(Clone, Copy, Default)]
pub(super) struct RecordCounts {
    pub(super) events: usize,
    pub(super) details: usize,
    pub(super) notes: usize,
}

impl RecordCounts {
    pub(super) fn total(self) -> usize {
        self.events + self.details + self.notes
    }
}

/// The records of one block.
#[derive(Default)]
pub(super) struct PendingRecords {
    pub(super) events: Vec<PendingEvent>,
    /// Bytes of the raw datagrams, end to end.
    pub(super) raw: Vec<u8>,
    /// Usages of exits, each with the exit's index in `events`.
    pub(super) usages: Vec<(u32, Usage)>,
    /// Details, each with the number of events before it.
    pub(super) details: Vec<(u32, Box<Details>)>,
    pub(super) notes: Vec<PendingNote>,
    /// Total length of the strings in details and of the notes, in bytes.
    string_bytes: usize,
    /// Upper bound of the number of words in the arguments.
    words: usize,
}

impl PendingRecords {
    pub(super) fn counts(&self) -> RecordCounts {
        RecordCounts { events: self.events.len(), details: self.details.len(), notes: self.notes.len() }
    }

    /// Returns whether the records are enough for a block.
    pub(super) fn is_full(&self) -> bool {
        self.events.len() >= limit::FULL_EVENTS
            || self.details.len() >= limit::FULL_DETAILS
            || self.notes.len() >= limit::FULL_DETAILS
            || self.raw.len() >= limit::FULL_BYTES
            || self.string_bytes >= limit::FULL_BYTES
            || self.words >= limit::FULL_WORDS
    }

    /// Appends a record; on an error, nothing changes.
    #[inline]
    pub(super) fn push(&mut self, record: &Record<'_>) -> Result<(), EncodeError> {
        match record {
            Record::Event(RecordedDatagram::Event(event), usage)
                if !matches!(event.body, EventBody::Unknown { .. }) =>
            {
                if let Some(usage) = usage {
                    let EventBody::Exit { .. } = event.body else { return Err(EncodeError::NoExit) };
                    self.usages.push((self.events.len() as u32, **usage));
                }
                self.events.push(PendingEvent::Event(*event));
            }
            Record::Event(RecordedDatagram::Raw(_), Some(_)) => return Err(EncodeError::NoExit),
            Record::Event(RecordedDatagram::Raw(bytes), None) => {
                check_len("a datagram", bytes)?;
                let event = PendingEvent::Raw { start: self.raw.len() as u32, len: bytes.len() as u32 };
                self.raw.extend_from_slice(bytes);
                self.events.push(event);
            }
            Record::Details(details) => {
                let strings = details.strings();
                for string in strings.into_iter().flatten() {
                    check_len("a string", string)?;
                }
                self.string_bytes += strings.into_iter().flatten().map(Vec::len).sum::<usize>();
                let args = details.args.as_deref().unwrap_or_default();
                self.words += 2 + args.iter().filter(|&&byte| byte == 0).count();
                self.details.push((self.events.len() as u32, details.clone()));
            }
            record => {
                let (kind, body) = notes::encode(record)?.ok_or(EncodeError::Unknown)?;
                check_len("a note", &body)?;
                self.string_bytes += body.len();
                let RecordCounts { events, details, .. } = self.counts();
                self.notes.push(PendingNote { events: events as u32, details: details as u32, kind, body });
            }
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.events.clear();
        limit::clear(&mut self.raw);
        self.usages.clear();
        self.details.clear();
        self.notes.clear();
        self.string_bytes = 0;
        self.words = 0;
    }
}

fn check_len(what: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
    let limit = limit::STRING;
    if bytes.len() > limit { Err(EncodeError::TooLong { what, len: bytes.len(), limit }) } else { Ok(()) }
}
