//! Blocks as they are stored, for programs that copy them into another capture.
//!
//! Each block of records stands alone. A copy needs only a new header: the tag of the other
//! capture, and new record numbers. The notes of a block can be replaced without decoding its
//! events, because they have columns of their own.

use super::column::{Column, ColumnSet, ColumnWriter, fill, sections};
use super::decode::{Block, DecodedBlock};
use super::delta::undelta32;
use super::notes;
use super::predict::RAW;
use crate::accounting::MAX_CPUS;
use crate::capture::format::{BLOCK_HEADER, BlockHeader, FILE_ORDER, limit, put_u32};
use crate::capture::reader::DamageKind;
use crate::capture::records::Record;
use crate::ids::{Cpu, MonoNs, Seq};
use crate::wire::EventKind;

/// Number of CPUs that the format distinguishes when it predicts sequence numbers.
const SLOTS: usize = 256;
/// Value of the column of details subjects for an exec in an earlier block.
const EARLIER_EXEC: u64 = 0;
/// Value of the column of details subjects for a scan.
const SCAN: u64 = 1;

/// An intact block of records, as it is stored.
#[derive(Clone, Copy)]
pub struct EncodedBlock<'a> {
    header: BlockHeader,
    payload: &'a [u8],
    skip: u64,
}

impl<'a> EncodedBlock<'a> {
    pub(crate) fn new(header: BlockHeader, payload: &'a [u8], skip: u64) -> Self {
        Self { header, payload, skip }
    }

    /// Returns the number of the block's first record, counted over the whole capture.
    pub fn first_record(&self) -> u64 {
        self.header.first_record
    }

    /// Returns the number of records, including those that an earlier block had.
    pub fn records(&self) -> u32 {
        self.header.records
    }

    /// Returns the number of events among the records.
    pub fn events(&self) -> u32 {
        self.header.events
    }

    /// Returns the number of details among the records.
    pub fn details(&self) -> u32 {
        self.count(0)
    }

    /// Returns the number of notes: the records that are neither events nor details.
    pub fn notes(&self) -> u32 {
        self.count(4)
    }

    /// Returns the smallest and the largest time of the block's events that are not raw. The times
    /// mean nothing if all events are raw. `None` without events.
    pub fn times(&self) -> Option<(MonoNs, MonoNs)> {
        (self.header.events > 0).then_some((MonoNs(self.header.first_time), MonoNs(self.header.last_time)))
    }

    /// Returns whether an earlier block had some of the records, so the block cannot be copied.
    pub fn overlaps(&self) -> bool {
        self.skip > 0
    }

    /// Returns the length in bytes, including the block's header.
    pub fn bytes(&self) -> u64 {
        self.header.len() as u64
    }

    /// Appends the block to `out` with another header: the tag, the number of the first record, and
    /// the time that stands in a block without events.
    pub(super) fn copy(&self, place: BlockHeader, out: &mut Vec<u8>) -> BlockHeader {
        let header = self.placed(place);
        let start = out.len();
        out.resize(start + BLOCK_HEADER, 0);
        header.write_fields(&mut out[start..]);
        out.extend_from_slice(self.payload);
        header
    }

    /// Appends the block to `out` with another header and other notes.
    pub(super) fn copy_with_notes(
        &self,
        place: BlockHeader,
        notes: &[Note],
        columns: &mut ColumnWriter,
        out: &mut Vec<u8>,
    ) -> BlockHeader {
        let mut header = self.placed(place);
        header.records = header.events + self.details() + notes.len() as u32;
        let start = out.len();
        out.resize(start + BLOCK_HEADER, 0);
        put_u32(out, self.details());
        put_u32(out, notes.len() as u32);
        let mut kept = 0;
        for section in sections(self.payload.get(8..).unwrap_or_default()).map_while(Result::ok) {
            if !ColumnSet::NOTES.contains(section.column) {
                out.extend_from_slice(section.bytes);
                kept += section.raw_len;
            }
        }
        put_notes(notes, columns);
        kept += columns.flush(out);
        let others = self.details() as usize + notes.len();
        let mut least = limit::least_len(kept, header.events as usize, others, 0);
        if self.details() > 0 {
            // The length of the old block bounds the texts that its details can have.
            least = least.max(self.header.len().min(limit::BYTES / limit::DETAILS_DENSITY));
        }
        if let Some(missing @ 1..) = least.checked_sub(out.len() - start) {
            fill(missing, out);
        }
        header.write(out, start);
        header
    }

    fn placed(&self, place: BlockHeader) -> BlockHeader {
        let BlockHeader { tag, first_record, first_time, last_time, .. } = place;
        let mut header = BlockHeader { tag, first_record, ..self.header };
        if header.events == 0 {
            (header.first_time, header.last_time) = (first_time, last_time);
        }
        header
    }

    fn count(&self, at: usize) -> u32 {
        if self.payload.len() < 8 { 0 } else { FILE_ORDER.u32_at(self.payload, at) }
    }
}

fn put_notes(notes: &[Note], columns: &mut ColumnWriter) {
    let (mut events, mut details) = (0, 0);
    for note in notes {
        columns.put(Column::NoteAt, u64::from(note.events - events));
        columns.put(Column::NoteAtDetails, u64::from(note.details - details));
        columns.put(Column::NoteKind, note.kind.into());
        columns.put(Column::NoteLen, note.body.len() as u64);
        columns.put_bytes(Column::NoteBytes, &note.body);
        (events, details) = (note.events, note.details);
    }
}

/// A record that is neither an event nor details, and its position in its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Number of events of the block before the note.
    pub events: u32,
    /// Number of details of the block before the note.
    pub details: u32,
    kind: u8,
    body: Vec<u8>,
}

impl Note {
    /// Returns the record.
    pub fn record(&self) -> Record<'static> {
        notes::decode(self.kind, &self.body)
    }

    /// Returns the note at the same position with another record; `None` if the record is no note
    /// or exceeds a limit.
    pub fn with_record(&self, record: &Record<'_>) -> Option<Self> {
        let (kind, body) = notes::encode(record).ok()??;
        Some(Self { kind, body, ..*self })
    }
}

/// The sequence numbers of one CPU in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlinedCpu {
    /// The CPU.
    pub cpu: Cpu,
    /// Number of its first event.
    pub first: Seq,
    /// Number of its last event.
    pub last: Seq,
    /// Number of its events.
    pub events: u64,
}

/// What a block contains, as far as a few of its columns show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockOutline {
    /// The CPUs of the events.
    pub cpus: Vec<OutlinedCpu>,
    /// Number of raw events, whose CPUs, times and kinds are not included.
    pub raw: u64,
    /// Number of execs.
    pub execs: u64,
    /// Number of details of execs.
    pub exec_details: u64,
    /// Number of details of execs in earlier blocks.
    pub late_details: u64,
}

/// Decodes parts of [`EncodedBlock`]s. It keeps its memory from block to block: at most 40 MiB.
#[derive(Default)]
pub struct BlockDecoder {
    decoded: DecodedBlock,
}

impl BlockDecoder {
    /// Decodes all records of a block.
    ///
    /// # Errors
    /// Returns the damage if the block contradicts the format.
    pub fn records(&mut self, block: &EncodedBlock<'_>) -> Result<Block<'_>, DamageKind> {
        self.load(block, ColumnSet::ALL)?;
        Ok(Block::new(&self.decoded, block.header, block.skip))
    }

    /// Decodes the notes of a block, in order.
    ///
    /// # Errors
    /// As [`BlockDecoder::records`].
    pub fn notes(&mut self, block: &EncodedBlock<'_>) -> Result<Vec<Note>, DamageKind> {
        if block.notes() == 0 {
            return Ok(Vec::new());
        }
        self.load(block, ColumnSet::NOTES)?;
        let (mut values, mut bodies) = (self.decoded.columns().values(), self.decoded.note_bodies());
        let (mut events, mut details) = (0u64, 0u64);
        let notes = (0..self.decoded.counts().notes).map(|_| {
            // A forged file can have positions after the last event or details.
            events = events.saturating_add(values.take(Column::NoteAt)).min(block.events().into());
            details = details.saturating_add(values.take(Column::NoteAtDetails)).min(block.details().into());
            let kind = values.take(Column::NoteKind) as u8;
            let body = bodies.take_next().to_vec();
            Note { events: events as u32, details: details as u32, kind, body }
        });
        Ok(notes.collect())
    }

    /// Decodes the outline of a block, in a fraction of the time that its records take.
    ///
    /// # Errors
    /// As [`BlockDecoder::records`].
    pub fn outline(&mut self, block: &EncodedBlock<'_>) -> Result<BlockOutline, DamageKind> {
        self.load(block, ColumnSet::OUTLINE)?;
        let mut outline = BlockOutline::default();
        let counts = self.decoded.counts();
        let (mut tags, mut seqs) =
            (self.decoded.columns().numbers(Column::Tag), self.decoded.columns().numbers(Column::Seq));
        let mut slots = [0u32; SLOTS];
        // Index in `outline.cpus` plus 1 of each CPU.
        let mut indexes: Vec<u32> = Vec::new();
        for _ in 0..counts.events {
            let tag = tags.take();
            let (kind, cpu) = (tag & 15, (tag >> 4) as u32);
            if kind >= EventKind::Unknown as u64 || kind == RAW {
                outline.raw += 1;
                continue;
            }
            let slot = &mut slots[cpu as usize % SLOTS];
            *slot = undelta32(seqs.take(), slot.wrapping_add(1));
            outline.execs += u64::from(kind == EventKind::Exec as u64);
            if cpu >= MAX_CPUS {
                continue;
            }
            if indexes.len() <= cpu as usize {
                indexes.resize(cpu as usize + 1, 0);
            }
            let index = &mut indexes[cpu as usize];
            if *index == 0 {
                let seq = Seq(*slot);
                outline.cpus.push(OutlinedCpu { cpu: Cpu(cpu), first: seq, last: seq, events: 0 });
                *index = outline.cpus.len() as u32;
            }
            let outlined = &mut outline.cpus[*index as usize - 1];
            outlined.last = Seq(*slot);
            outlined.events += 1;
        }
        let mut subjects = self.decoded.columns().numbers(Column::DetailsSubject);
        for _ in 0..counts.details {
            let subject = subjects.take();
            outline.exec_details += u64::from(subject != SCAN);
            outline.late_details += u64::from(subject == EARLIER_EXEC);
        }
        Ok(outline)
    }

    fn load(&mut self, block: &EncodedBlock<'_>, set: ColumnSet) -> Result<(), DamageKind> {
        let loaded = self.decoded.load(block.payload, &block.header, set);
        loaded.map_err(|malformed| DamageKind::Malformed(malformed.0))
    }
}
