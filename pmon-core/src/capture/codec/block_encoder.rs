//! The records of one block to bytes.

use super::column::{Column, ColumnWriter, fill};
use super::details::DetailsState;
use super::pending::{PendingEvent, PendingRecords, RecordCounts};
use super::predict::{Predictor, RAW};
use super::strings::Interner;
use super::usage;
use crate::capture::format::{BLOCK_HEADER, BlockHeader, limit, put_u32};
use crate::capture::records::Details;
use crate::wire::{Comm, EventBody};

/// State for encoding blocks. It is reset for each block, and its memory is reused.
#[derive(Default)]
pub(super) struct BlockEncoder {
    columns: ColumnWriter,
    predictor: Predictor,
    details: DetailsState,
    strings: Interner,
    names: Interner,
}

impl BlockEncoder {
    /// Returns the column writer, which is empty between blocks.
    pub(super) fn columns(&mut self) -> &mut ColumnWriter {
        &mut self.columns
    }

    /// Appends a block of the records after the first `from` ones to `out`. Returns its header.
    pub(super) fn encode(
        &mut self,
        records: &PendingRecords,
        from: RecordCounts,
        mut header: BlockHeader,
        out: &mut Vec<u8>,
    ) -> BlockHeader {
        self.predictor.reset();
        self.details.reset();
        let (details, notes) = (&records.details[from.details..], &records.notes[from.notes..]);
        let mut next_details = details.iter().peekable();
        let usages = records.usages.partition_point(|&(at, _)| (at as usize) < from.events);
        let mut usages = records.usages[usages..].iter().peekable();
        let mut times: Option<(u64, u64)> = None;
        for (at, event) in records.events.iter().enumerate().skip(from.events) {
            while let Some((_, details)) = next_details.next_if(|(events, _)| *events as usize <= at) {
                self.encode_details(details);
            }
            match event {
                PendingEvent::Event(event) => {
                    let strings = &mut self.strings;
                    let comm = |comm: &Comm| strings.code(Some(trimmed(comm))).0;
                    self.predictor.encode(event, &mut self.columns, comm);
                    match event.body {
                        EventBody::Exec { task } => self.details.add_exec(task.tgid, event.time),
                        EventBody::Exit { task, .. } => match usages.next_if(|&&(of, _)| of as usize == at) {
                            Some((_, usage)) => {
                                self.details.encode_usage(task, usage, &self.predictor, &mut self.columns);
                            }
                            None => usage::encode_none(&mut self.columns),
                        },
                        _ => {}
                    }
                    let (first, last) = times.unwrap_or((event.time.0, event.time.0));
                    times = Some((first.min(event.time.0), last.max(event.time.0)));
                }
                PendingEvent::Raw { start, len } => {
                    self.columns.put(Column::Tag, RAW);
                    self.columns.put(Column::RawLen, u64::from(*len));
                    let bytes = &records.raw[*start as usize..][..*len as usize];
                    self.columns.put_bytes(Column::RawBytes, bytes);
                }
            }
        }
        for (_, details) in next_details {
            self.encode_details(details);
        }
        let mut previous = from.events as u32;
        for (events, _) in details {
            self.columns.put(Column::DetailsAt, u64::from(events - previous));
            previous = *events;
        }
        let (mut previous_events, mut previous_details) = (from.events as u32, from.details as u32);
        for note in notes {
            self.columns.put(Column::NoteAt, u64::from(note.events - previous_events));
            self.columns.put(Column::NoteAtDetails, u64::from(note.details - previous_details));
            self.columns.put(Column::NoteKind, note.kind.into());
            self.columns.put(Column::NoteLen, note.body.len() as u64);
            self.columns.put_bytes(Column::NoteBytes, &note.body);
            (previous_events, previous_details) = (note.events, note.details);
        }
        self.strings.flush(Column::StringLen, Column::StringBytes, &mut self.columns);
        self.names.flush(Column::NameLen, Column::NameBytes, &mut self.columns);

        let counts = records.counts();
        header.events = (counts.events - from.events) as u32;
        header.records = (counts.total() - from.total()) as u32;
        if let Some((first, last)) = times {
            (header.first_time, header.last_time) = (first, last);
        }
        let start = out.len();
        out.resize(start + BLOCK_HEADER, 0);
        put_u32(out, details.len() as u32);
        put_u32(out, notes.len() as u32);
        let columns = self.columns.flush(out);
        // Many identical records compress to less than a reader accepts for their number: add
        // padding.
        let string_bytes =
            details.iter().flat_map(|(_, details)| details.strings()).flatten().map(Vec::len).sum();
        let (events, others) = (header.events as usize, details.len() + notes.len());
        let least = limit::least_len(columns, events, others, string_bytes);
        if let Some(missing @ 1..) = least.checked_sub(out.len() - start) {
            fill(missing, out);
        }
        header.write(out, start);
        header
    }

    fn encode_details(&mut self, details: &Details) {
        let tables = (&mut self.strings, &mut self.names);
        self.details.encode(details, &self.predictor, &mut self.columns, tables);
    }
}

/// Returns a name without its trailing zeros. Bytes after an inner zero are kept.
fn trimmed(comm: &Comm) -> &[u8] {
    let len = comm.0.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &comm.0[..len]
}
