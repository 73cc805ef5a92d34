//! Records to bytes.

use thiserror::Error;

use super::column::{self, Column, ColumnWriter};
use super::details::Context;
use super::index::{IndexEntry, IndexWriter};
use super::predict::{Predictor, RAW};
use super::strings::Interner;
use super::{notes, usage};
use crate::capture::format::block::{BLOCK_HEADER, BlockHeader, BlockKind, put_u32};
use crate::capture::format::header::Header;
use crate::capture::format::limit;
use crate::capture::format::meta::MetaError;
use crate::capture::records::{Details, Record, RecordedDatagram, Usage};
use crate::ids::MonoNs;
use crate::wire::{ByteOrder, Comm, Event, EventBody};

/// Why a record is not taken. The encoder is as it was before.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A datagram or string over the limit.
    #[error("{what} of {len} bytes is over the limit of {limit}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The most that a capture holds.
        limit: usize,
    },
    /// A typed event that is not its whole datagram, or a record that this version cannot write.
    #[error("an event or record of unknown kind must be given as raw bytes")]
    Unknown,
    /// The usage of what is no exit.
    #[error("only an exit has a usage")]
    NoExit,
    /// The record's text is over the limit.
    #[error("cannot encode the record")]
    Meta(#[from] MetaError),
}

enum Row {
    Event(Event),
    Raw { start: u32, len: u32 },
}

struct Note {
    events: u32,
    details: u32,
    kind: u8,
    body: Vec<u8>,
}

/// A place among the records that are held.
#[derive(Clone, Copy, Default)]
struct Place {
    events: usize,
    details: usize,
    notes: usize,
}

impl Place {
    fn records(self) -> usize {
        self.events + self.details + self.notes
    }
}

/// The records of one block, in the order in which they came.
#[derive(Default)]
struct Rows {
    events: Vec<Row>,
    raw: Vec<u8>,
    /// Of exits, by their place in `events`.
    usages: Vec<(u32, Usage)>,
    details: Vec<(u32, Box<Details>)>,
    notes: Vec<Note>,
    string_bytes: usize,
    /// At least as many as the arguments' words.
    words: usize,
}

impl Rows {
    fn end(&self) -> Place {
        Place { events: self.events.len(), details: self.details.len(), notes: self.notes.len() }
    }

    fn is_full(&self) -> bool {
        self.events.len() >= limit::FULL_EVENTS
            || self.details.len() >= limit::FULL_DETAILS
            || self.notes.len() >= limit::FULL_DETAILS
            || self.raw.len() >= limit::FULL_BYTES
            || self.string_bytes >= limit::FULL_BYTES
            || self.words >= limit::FULL_WORDS
    }

    fn clear(&mut self) {
        self.events.clear();
        self.raw.clear();
        limit::trim(&mut self.raw);
        self.usages.clear();
        self.details.clear();
        self.notes.clear();
        self.string_bytes = 0;
        self.words = 0;
    }
}

/// Turns records into the bytes of a capture, block by block. It holds the records of one unfinished block.
///
/// The caller writes what the methods return, in order: [`Encoder::header`] once, each [`Encoder::seal`], and
/// [`Encoder::finish`] at the end. Between two seals, [`Encoder::provisional`] gives the newest records in a block
/// of their own, to be kept *somewhere behind* the sealed blocks until the next seal holds them.
pub struct Encoder {
    header: Vec<u8>,
    tag: [u8; 4],
    order: ByteOrder,
    rows: Rows,
    /// Up to where the held records are in provisional blocks.
    provisional: Place,
    /// Blocks that became full before the caller sealed them.
    sealed: Vec<u8>,
    blocks: BlockEncoder,
    index: IndexWriter,
    out: Vec<u8>,
    /// Records in sealed blocks.
    records: u64,
    /// Bytes of the header and of the sealed blocks.
    offset: u64,
    last_time: u64,
}

impl Encoder {
    /// An encoder for a new capture.
    ///
    /// # Errors
    /// When the header's texts are over the limit of 1 MiB.
    pub fn new(header: &Header) -> Result<Self, EncodeError> {
        let bytes = header.encode()?;
        Ok(Self {
            tag: header.tag(),
            order: header.byte_order,
            offset: bytes.len() as u64,
            header: bytes,
            rows: Rows::default(),
            provisional: Place::default(),
            sealed: Vec::new(),
            blocks: BlockEncoder::new(),
            index: IndexWriter::default(),
            out: Vec::new(),
            records: 0,
            last_time: 0,
        })
    }

    /// The file header's bytes.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Takes one datagram, of 256 KiB at the most.
    ///
    /// # Errors
    /// When it is longer.
    pub fn push_datagram(&mut self, datagram: &[u8]) -> Result<(), EncodeError> {
        self.push(&RecordedDatagram::new(datagram, self.order).into())
    }

    /// Takes any record.
    ///
    /// # Errors
    /// When it, or a string in it, is longer than 256 KiB, or of a kind that this version cannot write.
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), EncodeError> {
        if self.is_full() {
            self.seal_block();
        }
        match record {
            Record::Event(RecordedDatagram::Event(event), usage)
                if !matches!(event.body, EventBody::Unknown { .. }) =>
            {
                if let Some(usage) = usage {
                    let EventBody::Exit { .. } = event.body else { return Err(EncodeError::NoExit) };
                    self.rows.usages.push((self.rows.events.len() as u32, **usage));
                }
                self.last_time = self.last_time.max(event.time.0);
                self.rows.events.push(Row::Event(*event));
            }
            Record::Event(RecordedDatagram::Raw(_), Some(_)) => return Err(EncodeError::NoExit),
            Record::Event(RecordedDatagram::Raw(bytes), None) => {
                fits("a datagram", bytes)?;
                let row = Row::Raw { start: self.rows.raw.len() as u32, len: bytes.len() as u32 };
                self.rows.raw.extend_from_slice(bytes);
                self.rows.events.push(row);
            }
            Record::Details(details) => {
                let strings = details.strings();
                for string in strings.into_iter().flatten() {
                    fits("a string", string)?;
                }
                self.rows.string_bytes += strings.into_iter().flatten().map(Vec::len).sum::<usize>();
                let args = details.args.as_deref().unwrap_or_default();
                self.rows.words += 2 + args.iter().filter(|&&byte| byte == 0).count();
                self.rows.details.push((self.rows.events.len() as u32, details.clone()));
            }
            record => {
                let (kind, body) = notes::encode(record)?.ok_or(EncodeError::Unknown)?;
                fits("a note", &body)?;
                self.rows.string_bytes += body.len();
                let Place { events, details, .. } = self.rows.end();
                self.rows.notes.push(Note { events: events as u32, details: details as u32, kind, body });
            }
        }
        Ok(())
    }

    /// Whether the block is as large as it should become: time to [`Encoder::seal`].
    pub fn is_full(&self) -> bool {
        self.rows.is_full()
    }

    /// Records not yet sealed.
    pub fn unsealed(&self) -> usize {
        self.rows.end().records()
    }

    /// Records that are in no block yet, neither sealed nor provisional.
    pub fn pending(&self) -> usize {
        self.rows.end().records() - self.provisional.records()
    }

    /// A block of the records that are in no block yet; empty if there are none. It is not compressed: it does not last.
    pub fn provisional(&mut self) -> &[u8] {
        self.out.clear();
        limit::trim(&mut self.out);
        if self.pending() > 0 {
            let first_record = self.records + self.provisional.records() as u64;
            self.blocks.columns.pack(false);
            self.blocks.encode(&self.rows, self.provisional, self.block(first_record), &mut self.out);
            self.blocks.columns.pack(true);
            self.provisional = self.rows.end();
        }
        &self.out
    }

    /// The block of all records since the last seal; empty if there are none.
    pub fn seal(&mut self) -> &[u8] {
        if self.unsealed() > 0 {
            self.seal_block();
        }
        self.take_sealed()
    }

    /// The index and the trailer. Seal first: records that are not sealed are not in the capture.
    pub fn finish(&mut self) -> &[u8] {
        self.seal_index();
        self.index.trailer(self.tag, &mut self.sealed);
        self.take_sealed()
    }

    fn take_sealed(&mut self) -> &[u8] {
        std::mem::swap(&mut self.out, &mut self.sealed);
        self.sealed.clear();
        limit::trim(&mut self.sealed);
        &self.out
    }

    fn block(&self, first_record: u64) -> BlockHeader {
        BlockHeader {
            tag: self.tag,
            kind: BlockKind::Records,
            payload_len: 0,
            payload_crc: 0,
            first_record,
            records: 0,
            events: 0,
            first_time: self.last_time,
            last_time: self.last_time,
        }
    }

    fn seal_block(&mut self) {
        let start = self.sealed.len();
        let header = self.block(self.records);
        let header = self.blocks.encode(&self.rows, Place::default(), header, &mut self.sealed);
        self.index.push(IndexEntry {
            offset: self.offset,
            first_record: header.first_record,
            records: header.records,
            events: header.events,
            first_time: MonoNs(header.first_time),
            last_time: MonoNs(header.last_time),
        });
        self.records += self.unsealed() as u64;
        self.offset += (self.sealed.len() - start) as u64;
        self.rows.clear();
        self.provisional = Place::default();
        if self.index.is_full() {
            self.seal_index();
        }
    }

    fn seal_index(&mut self) {
        let start = self.sealed.len();
        let header = BlockHeader { kind: BlockKind::Index, ..self.block(self.records) };
        self.index.flush(header, self.offset, &mut self.blocks.columns, &mut self.sealed);
        self.offset += (self.sealed.len() - start) as u64;
    }
}

fn fits(what: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
    let limit = limit::STRING;
    if bytes.len() > limit { Err(EncodeError::TooLong { what, len: bytes.len(), limit }) } else { Ok(()) }
}

/// What encoding a block needs, kept from block to block.
struct BlockEncoder {
    columns: ColumnWriter,
    predictor: Predictor,
    context: Context,
    strings: Interner,
    names: Interner,
}

impl BlockEncoder {
    fn new() -> Self {
        Self {
            columns: ColumnWriter::new(),
            predictor: Predictor::new(),
            context: Context::default(),
            strings: Interner::default(),
            names: Interner::default(),
        }
    }

    /// Appends a block of the records from `from` on to `out`.
    fn encode(
        &mut self,
        rows: &Rows,
        from: Place,
        mut header: BlockHeader,
        out: &mut Vec<u8>,
    ) -> BlockHeader {
        self.predictor.reset();
        self.context.reset();
        let (details, notes) = (&rows.details[from.details..], &rows.notes[from.notes..]);
        let mut pending = details.iter().peekable();
        let usages = rows.usages.partition_point(|&(at, _)| (at as usize) < from.events);
        let mut usages = rows.usages[usages..].iter().peekable();
        let mut times: Option<(u64, u64)> = None;
        for (at, row) in rows.events.iter().enumerate().skip(from.events) {
            while let Some((_, details)) = pending.next_if(|(events, _)| *events as usize <= at) {
                self.encode_details(details);
            }
            match row {
                Row::Event(event) => {
                    let strings = &mut self.strings;
                    let comm = |comm: &Comm| strings.code(Some(trimmed(comm))).0;
                    self.predictor.encode(event, &mut self.columns, comm);
                    match event.body {
                        EventBody::Exec { task } => self.context.saw_exec(task.tgid, event.time),
                        EventBody::Exit { task, .. } => match usages.next_if(|&&(of, _)| of as usize == at) {
                            Some((_, usage)) => {
                                self.context.encode_usage(task, usage, &self.predictor, &mut self.columns);
                            }
                            None => usage::encode_none(&mut self.columns),
                        },
                        _ => {}
                    }
                    let (first, last) = times.unwrap_or((event.time.0, event.time.0));
                    times = Some((first.min(event.time.0), last.max(event.time.0)));
                }
                Row::Raw { start, len } => {
                    self.columns.put(Column::Tag, RAW);
                    self.columns.put(Column::RawLen, u64::from(*len));
                    let bytes = &rows.raw[*start as usize..][..*len as usize];
                    self.columns.put_bytes(Column::RawBytes, bytes);
                }
            }
        }
        for (_, details) in pending {
            self.encode_details(details);
        }
        let mut before = from.events as u32;
        for (events, _) in details {
            self.columns.put(Column::DetailsAt, u64::from(events - before));
            before = *events;
        }
        let (mut events, mut seen) = (from.events as u32, from.details as u32);
        for note in notes {
            self.columns.put(Column::NoteAt, u64::from(note.events - events));
            self.columns.put(Column::NoteAtDetails, u64::from(note.details - seen));
            self.columns.put(Column::NoteKind, note.kind.into());
            self.columns.put(Column::NoteLen, note.body.len() as u64);
            self.columns.put_bytes(Column::NoteBytes, &note.body);
            (events, seen) = (note.events, note.details);
        }
        self.strings.flush(Column::StringLen, Column::StringBytes, &mut self.columns);
        self.names.flush(Column::NameLen, Column::NameBytes, &mut self.columns);

        let end = rows.end();
        header.events = (end.events - from.events) as u32;
        header.records = (end.records() - from.records()) as u32;
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
        let given = details.iter().flat_map(|(_, details)| details.strings()).flatten().map(Vec::len).sum();
        let (events, others) = (header.events as usize, details.len() + notes.len());
        let least = limit::least_len(columns, events, others, given);
        if let Some(missing @ 1..) = least.checked_sub(out.len() - start) {
            column::fill(missing, out);
        }
        header.write(out, start);
        header
    }

    fn encode_details(&mut self, details: &Details) {
        let tables = (&mut self.strings, &mut self.names);
        self.context.encode(details, &self.predictor, &mut self.columns, tables);
    }
}

/// A name without its trailing zeros; what else it holds is kept, even behind a zero.
fn trimmed(comm: &Comm) -> &[u8] {
    let len = comm.0.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &comm.0[..len]
}
