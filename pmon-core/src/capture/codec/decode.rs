//! Decodes the records of an intact block.

use std::cell::Cell;

use super::column::{Column, ColumnReader, ColumnSet, ColumnValues};
use super::details::DetailsState;
use super::notes;
use super::pending::RecordCounts;
use super::predict::Predictor;
use super::recovered_index::BlockSummary;
use super::strings::{StringEnds, StringReader};
use crate::capture::format::{BlockHeader, FILE_ORDER, Malformed, limit};
use crate::capture::records::{Record, RecordPool, RecordedDatagram};
use crate::ids::MonoNs;
use crate::wire::{Comm, EventBody};

/// What the events and details of a block are predicted from.
#[derive(Default)]
struct Predictions {
    events: Predictor,
    details: DetailsState,
}

impl Predictions {
    /// Returns to the initial state, for a block of `len` bytes.
    fn reset(&mut self, len: usize) {
        self.events.reset();
        self.details.reset();
        self.details.limit_to_block(len);
    }
}

/// The decompressed columns of a block. Their memory is reused for the next block.
#[derive(Default)]
pub(crate) struct DecodedBlock {
    columns: ColumnReader,
    strings: StringEnds,
    names: StringEnds,
    raw: StringEnds,
    notes: StringEnds,
    counts: RecordCounts,
    /// Length of the block in bytes, including its header.
    len: usize,
    /// Memory for the next [`Records`].
    predictions: Cell<Option<Box<Predictions>>>,
}

impl DecodedBlock {
    /// Returns the allocated memory in bytes.
    pub(crate) fn memory(&self) -> usize {
        let ends = [&self.strings, &self.names, &self.raw, &self.notes];
        self.columns.memory() + ends.map(StringEnds::memory).into_iter().sum::<usize>()
    }

    /// Loads a set of the columns of a payload; the others stay empty.
    pub(crate) fn load(
        &mut self,
        payload: &[u8],
        header: &BlockHeader,
        set: ColumnSet,
    ) -> Result<(), Malformed> {
        let (fixed, sections) = payload.split_at_checked(8).ok_or(Malformed("a payload is cut"))?;
        let counts = RecordCounts {
            events: header.events as usize,
            details: FILE_ORDER.u32_at(fixed, 0) as usize,
            notes: FILE_ORDER.u32_at(fixed, 4) as usize,
        };
        if counts.events.max(counts.details).max(counts.notes) > limit::EVENTS
            || counts.total() != header.records as usize
        {
            return Err(Malformed("its counts contradict each other"));
        }
        let others = counts.details + counts.notes;
        let room = limit::columns(header.len(), counts.events, others)
            .ok_or(Malformed("it claims more records than its bytes can hold"))?;
        self.columns.load_columns(sections, room, set)?;
        let columns = &self.columns;
        self.strings.load(columns, Column::StringLen, Column::StringBytes)?;
        self.names.load(columns, Column::NameLen, Column::NameBytes)?;
        self.raw.load(columns, Column::RawLen, Column::RawBytes)?;
        self.notes.load(columns, Column::NoteLen, Column::NoteBytes)?;
        self.counts = counts;
        self.len = header.len();
        Ok(())
    }

    /// Returns the decompressed columns.
    pub(super) fn columns(&self) -> &ColumnReader {
        &self.columns
    }

    /// Returns the numbers of records.
    pub(super) fn counts(&self) -> RecordCounts {
        self.counts
    }

    /// Returns the bodies of the notes.
    pub(super) fn note_bodies(&self) -> StringReader<'_> {
        StringReader::new(self.columns.bytes(Column::NoteBytes), &self.notes)
    }

    /// Returns whether the block holds an `End` record.
    pub(crate) fn has_end(&self) -> bool {
        let mut kinds = self.columns.numbers(Column::NoteKind);
        (0..self.counts.notes).any(|_| notes::is_end(kinds.take()))
    }
}

/// An intact block of records.
pub struct Block<'a> {
    decoded: &'a DecodedBlock,
    header: BlockHeader,
    skip: u64,
}

impl<'a> Block<'a> {
    pub(crate) fn new(decoded: &'a DecodedBlock, header: BlockHeader, skip: u64) -> Self {
        Self { decoded, header, skip }
    }

    /// Returns what an [index](super::RecoveredIndex) states of the block.
    pub fn summary(&self) -> BlockSummary {
        BlockSummary { header: self.header, has_end: self.decoded.has_end() }
    }

    /// Returns the records in order.
    pub fn records(&self) -> Records<'a> {
        self.skipped(Records::new(self.decoded))
    }

    /// Returns the records in order, in the memory of records that are no longer needed.
    pub fn records_from(&self, pool: &'a RecordPool) -> Records<'a> {
        let mut records = Records::new(self.decoded);
        records.pool = Some(pool);
        self.skipped(records)
    }

    fn skipped(&self, mut records: Records<'a>) -> Records<'a> {
        for _ in 0..self.skip {
            records.next();
        }
        records
    }

    /// Returns the number of the first record in the capture.
    pub fn first_record(&self) -> u64 {
        self.header.first_record + self.skip
    }

    /// Returns the length of the whole block in the file, in bytes.
    pub fn stored_len(&self) -> usize {
        self.header.len()
    }

    /// Returns the smallest and the largest time of the block's events; `None` without events.
    pub fn times(&self) -> Option<(MonoNs, MonoNs)> {
        (self.header.events > 0).then_some((MonoNs(self.header.first_time), MonoNs(self.header.last_time)))
    }
}

/// Iterator over the records of a [`Block`].
pub struct Records<'a> {
    decoded: &'a DecodedBlock,
    pool: Option<&'a RecordPool>,
    /// `None` only while the iterator is dropped.
    predictions: Option<Box<Predictions>>,
    columns: ColumnValues<'a>,
    strings: StringReader<'a>,
    names: StringReader<'a>,
    raw: StringReader<'a>,
    notes: StringReader<'a>,
    counts: RecordCounts,
    /// Number of records returned so far.
    returned: RecordCounts,
    /// Number of events before the next details.
    next_details: u64,
    /// Numbers of events and of details before the next note.
    next_note: (u64, u64),
    /// Number of events before the next details or note.
    events_next: usize,
}

impl<'a> Records<'a> {
    fn new(decoded: &'a DecodedBlock) -> Self {
        let columns = &decoded.columns;
        let mut predictions = decoded.predictions.take().unwrap_or_default();
        predictions.reset(decoded.len);
        let mut this = Self {
            decoded,
            pool: None,
            predictions: Some(predictions),
            columns: columns.values(),
            strings: StringReader::new(columns.bytes(Column::StringBytes), &decoded.strings),
            names: StringReader::new(columns.bytes(Column::NameBytes), &decoded.names),
            raw: StringReader::new(columns.bytes(Column::RawBytes), &decoded.raw),
            notes: StringReader::new(columns.bytes(Column::NoteBytes), &decoded.notes),
            counts: decoded.counts,
            returned: RecordCounts::default(),
            next_details: 0,
            next_note: (0, 0),
            events_next: 0,
        };
        this.next_details = this.columns.take(Column::DetailsAt);
        this.next_note = (this.columns.take(Column::NoteAt), this.columns.take(Column::NoteAtDetails));
        this.update_events_next();
        this
    }

    /// Updates the number of events before the next details or note.
    fn update_events_next(&mut self) {
        let mut until = self.counts.events as u64;
        if self.returned.details < self.counts.details {
            until = until.min(self.next_details);
        }
        if self.returned.notes < self.counts.notes {
            until = until.min(self.next_note.0);
        }
        self.events_next = (until as usize).saturating_sub(self.returned.events);
    }

    #[inline]
    fn event(&mut self) -> Option<Record<'a>> {
        let Predictions { events: predictor, details } = self.predictions.as_deref_mut()?;
        self.returned.events += 1;
        let strings = &mut self.strings;
        let comm = |code| {
            let (name, mut comm) = (strings.number(code).map(|number| strings.at(number)), Comm::default());
            let name = name.unwrap_or_default();
            let len = name.len().min(comm.0.len());
            comm.0[..len].copy_from_slice(&name[..len]);
            comm
        };
        let Some(event) = predictor.decode(&mut self.columns, comm) else {
            return Some(RecordedDatagram::Raw(self.raw.take_next()).into());
        };
        let usage = match event.body {
            EventBody::Exec { task } => {
                if self.counts.details > 0 {
                    details.add_exec(task.tgid, event.time);
                }
                None
            }
            EventBody::Exit { task, .. } => {
                details.decode_usage(task, predictor, &mut self.columns, self.pool)
            }
            _ => None,
        };
        Some(Record::Event(RecordedDatagram::Event(event), usage))
    }

    #[cold]
    fn other(&mut self) -> Option<Record<'a>> {
        let details_left = self.returned.details < self.counts.details;
        let note_left = self.returned.notes < self.counts.notes;
        let events = self.returned.events as u64;
        let is_note_next = self.next_note.0 <= events && self.next_note.1 <= self.returned.details as u64;
        let record = if note_left && (is_note_next || !details_left) {
            let kind = self.columns.take(Column::NoteKind) as u8;
            let body = self.notes.take_next();
            self.returned.notes += 1;
            self.next_note.0 = self.next_note.0.saturating_add(self.columns.take(Column::NoteAt));
            self.next_note.1 = self.next_note.1.saturating_add(self.columns.take(Column::NoteAtDetails));
            notes::decode(kind, body)
        } else if details_left {
            let tables = (&mut self.strings, &mut self.names);
            let Predictions { events, details } = self.predictions.as_deref_mut()?;
            let details = details.decode(events, &mut self.columns, tables, self.pool);
            self.returned.details += 1;
            self.next_details = self.next_details.saturating_add(self.columns.take(Column::DetailsAt));
            Record::Details(details)
        } else {
            return None;
        };
        self.update_events_next();
        Some(record)
    }
}

impl Drop for Records<'_> {
    fn drop(&mut self) {
        self.decoded.predictions.set(self.predictions.take());
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        if self.events_next > 0 {
            self.events_next -= 1;
            return self.event();
        }
        self.other()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.counts.total() - self.returned.total();
        (left, Some(left))
    }
}
