//! An intact block to records.

use super::column::{Column, ColumnReader, Values};
use super::details::{Context, DetailsColumns};
use super::notes;
use super::predict::{EventColumns, Predictor};
use super::strings::{Ends, Strings};
use super::usage::UsageColumns;
use crate::capture::format::block::{BlockHeader, Malformed, u32_at};
use crate::capture::format::limit;
use crate::capture::records::{Record, RecordedDatagram};
use crate::ids::MonoNs;
use crate::wire::{Comm, EventBody};

/// The columns of a block. Its memory is reused from block to block.
pub(crate) struct Decoded {
    columns: ColumnReader,
    strings: Ends,
    names: Ends,
    raw: Ends,
    notes: Ends,
    counts: Counts,
    /// Length of the block in bytes, including its header.
    len: usize,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    events: usize,
    details: usize,
    notes: usize,
}

impl Decoded {
    pub(crate) fn new() -> Self {
        Self {
            columns: ColumnReader::new(),
            strings: Ends::default(),
            names: Ends::default(),
            raw: Ends::default(),
            notes: Ends::default(),
            counts: Counts::default(),
            len: 0,
        }
    }

    /// Returns the bytes of memory allocated.
    pub(crate) fn memory(&self) -> usize {
        let ends = [&self.strings, &self.names, &self.raw, &self.notes];
        self.columns.memory() + ends.map(Ends::memory).into_iter().sum::<usize>()
    }

    pub(crate) fn load(&mut self, payload: &[u8], header: &BlockHeader) -> Result<(), Malformed> {
        let (fixed, sections) = payload.split_at_checked(8).ok_or(Malformed("a payload is cut"))?;
        let counts = Counts {
            events: header.events as usize,
            details: u32_at(fixed, 0) as usize,
            notes: u32_at(fixed, 4) as usize,
        };
        if counts.events.max(counts.details).max(counts.notes) > limit::EVENTS
            || counts.events + counts.details + counts.notes != header.records as usize
        {
            return Err(Malformed("its counts contradict each other"));
        }
        let others = counts.details + counts.notes;
        let room = limit::columns(header.len(), counts.events, others)
            .ok_or(Malformed("it claims more records than its bytes can hold"))?;
        self.columns.load(sections, room)?;
        let columns = &self.columns;
        self.strings.load(columns, Column::StringLen, None, Column::StringBytes)?;
        self.names.load(columns, Column::NameLen, None, Column::NameBytes)?;
        self.raw.load(columns, Column::RawLen, None, Column::RawBytes)?;
        self.notes.load(columns, Column::NoteLen, None, Column::NoteBytes)?;
        self.counts = counts;
        self.len = header.len();
        Ok(())
    }

    /// Whether the block holds the record that ends a capture.
    pub(crate) fn has_end(&self) -> bool {
        let mut kinds = self.columns.numbers(Column::NoteKind);
        (0..self.counts.notes).any(|_| notes::is_end(kinds.take()))
    }
}

/// An intact, decoded block.
pub struct Block<'a> {
    decoded: &'a Decoded,
    header: BlockHeader,
    skip: u64,
}

impl<'a> Block<'a> {
    pub(crate) fn new(decoded: &'a Decoded, header: BlockHeader, skip: u64) -> Self {
        Self { decoded, header, skip }
    }

    /// Its records, in order.
    pub fn records(&self) -> Records<'a> {
        let mut records = Records::new(self.decoded);
        for _ in 0..self.skip {
            records.next();
        }
        records
    }

    /// The number of its first record in the capture.
    pub fn first_record(&self) -> u64 {
        self.header.first_record + self.skip
    }

    /// The least and the greatest time of its events, if it has any.
    pub fn times(&self) -> Option<(MonoNs, MonoNs)> {
        (self.header.events > 0).then_some((MonoNs(self.header.first_time), MonoNs(self.header.last_time)))
    }
}

/// The records of a block, in order.
pub struct Records<'a> {
    predictor: Predictor,
    context: Context,
    columns: EventColumns<'a>,
    usage_columns: UsageColumns<'a>,
    details_columns: DetailsColumns<'a>,
    details_at: Values<'a>,
    notes_at: Values<'a>,
    notes_at_details: Values<'a>,
    notes_kind: Values<'a>,
    strings: Strings<'a>,
    names: Strings<'a>,
    raw: Strings<'a>,
    notes: Strings<'a>,
    counts: Counts,
    /// Records given so far.
    given: Counts,
    /// Events before the next details; events and details before the next note.
    next_details: u64,
    next_note: (u64, u64),
    /// Events that come before anything else does.
    plain: usize,
}

impl<'a> Records<'a> {
    fn new(decoded: &'a Decoded) -> Self {
        let columns = &decoded.columns;
        let mut this = Self {
            predictor: Predictor::new(),
            context: Context::for_block(decoded.len),
            columns: EventColumns::new(columns),
            usage_columns: UsageColumns::new(columns),
            details_columns: DetailsColumns::new(columns),
            details_at: columns.numbers(Column::DetailsAt),
            notes_at: columns.numbers(Column::NoteAt),
            notes_at_details: columns.numbers(Column::NoteAtDetails),
            notes_kind: columns.numbers(Column::NoteKind),
            strings: Strings::new(columns.bytes(Column::StringBytes), &decoded.strings),
            names: Strings::new(columns.bytes(Column::NameBytes), &decoded.names),
            raw: Strings::new(columns.bytes(Column::RawBytes), &decoded.raw),
            notes: Strings::new(columns.bytes(Column::NoteBytes), &decoded.notes),
            counts: decoded.counts,
            given: Counts::default(),
            next_details: 0,
            next_note: (0, 0),
            plain: 0,
        };
        this.next_details = this.details_at.take();
        this.next_note = (this.notes_at.take(), this.notes_at_details.take());
        this.plan();
        this
    }

    /// Works out how many events come before the next details or note.
    fn plan(&mut self) {
        let mut until = self.counts.events as u64;
        if self.given.details < self.counts.details {
            until = until.min(self.next_details);
        }
        if self.given.notes < self.counts.notes {
            until = until.min(self.next_note.0);
        }
        self.plain = (until as usize).saturating_sub(self.given.events);
    }

    #[inline]
    fn event(&mut self) -> Record<'a> {
        self.given.events += 1;
        let strings = &mut self.strings;
        let comm = |code| {
            let (name, mut comm) = (strings.number(code).map(|number| strings.at(number)), Comm::default());
            let name = name.unwrap_or_default();
            let len = name.len().min(comm.0.len());
            comm.0[..len].copy_from_slice(&name[..len]);
            comm
        };
        let Some(event) = self.predictor.decode(&mut self.columns, comm) else {
            return RecordedDatagram::Raw(self.raw.take_next()).into();
        };
        let usage = match event.body {
            EventBody::Exec { task } => {
                if self.counts.details > 0 {
                    self.context.saw_exec(task.tgid, event.time);
                }
                None
            }
            EventBody::Exit { task, .. } => {
                self.context.decode_usage(task, &self.predictor, &mut self.usage_columns)
            }
            _ => None,
        };
        Record::Event(RecordedDatagram::Event(event), usage)
    }

    #[cold]
    fn other(&mut self) -> Option<Record<'a>> {
        let details_left = self.given.details < self.counts.details;
        let note_left = self.given.notes < self.counts.notes;
        let events = self.given.events as u64;
        let note_first = self.next_note.0 <= events && self.next_note.1 <= self.given.details as u64;
        let record = if note_left && (note_first || !details_left) {
            let kind = self.notes_kind.take() as u8;
            let body = self.notes.take_next();
            self.given.notes += 1;
            self.next_note.0 = self.next_note.0.saturating_add(self.notes_at.take());
            self.next_note.1 = self.next_note.1.saturating_add(self.notes_at_details.take());
            notes::decode(kind, body)
        } else if details_left {
            let tables = (&mut self.strings, &mut self.names);
            let details = self.context.decode(&self.predictor, &mut self.details_columns, tables);
            self.given.details += 1;
            self.next_details = self.next_details.saturating_add(self.details_at.take());
            Record::Details(Box::new(details))
        } else {
            return None;
        };
        self.plan();
        Some(record)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        if self.plain > 0 {
            self.plain -= 1;
            return Some(self.event());
        }
        self.other()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = |all: Counts| all.events + all.details + all.notes;
        let left = left(self.counts) - left(self.given);
        (left, Some(left))
    }
}
