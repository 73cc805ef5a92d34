//! The index: the offset and the times of each block.
//!
//! A reader uses the index only to seek, and verifies the block that it finds.

use std::ops::Range;

use super::column::{Column, ColumnReader, ColumnWriter};
use super::delta::{delta64, undelta64};
use crate::capture::format::{BLOCK_HEADER, BlockHeader, FILE_ORDER, Malformed, limit, put_u32};
use crate::ids::MonoNs;

/// Bytes of the trailer, which ends a finished capture.
pub(crate) const TRAILER: usize = 24;
const TRAILER_MAGIC: [u8; 8] = *b"pmon-end";

// Byte ranges of the trailer's fields.
const LAST_INDEX: Range<usize> = 0..8;
const TAG: Range<usize> = 8..12;
const CRC: Range<usize> = 12..16;
const MAGIC: Range<usize> = 16..24;

/// Bytes of an index's payload before its sections.
const INDEX_FIXED: usize = 20;

/// Entry of the index: one block of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) offset: u64,
    pub(crate) first_record: u64,
    pub(crate) records: u32,
    pub(crate) events: u32,
    pub(crate) first_time: MonoNs,
    pub(crate) last_time: MonoNs,
}

/// Collects entries and writes them as index blocks. Each index block has the offset of the
/// previous one.
#[derive(Default)]
pub(crate) struct IndexWriter {
    entries: Vec<IndexEntry>,
    last_index: u64,
}

impl IndexWriter {
    pub(crate) fn push(&mut self, entry: IndexEntry) {
        self.entries.push(entry);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= limit::INDEX
    }

    /// Appends an index block to `out`; `offset` is its position in the file.
    pub(crate) fn flush(
        &mut self,
        header: BlockHeader,
        offset: u64,
        columns: &mut ColumnWriter,
        out: &mut Vec<u8>,
    ) {
        let (mut at, mut first, mut last) = (0, 0, 0);
        let start = out.len();
        out.resize(start + BLOCK_HEADER, 0);
        put_u32(out, self.entries.len() as u32);
        out.extend_from_slice(&self.last_index.to_le_bytes());
        out.extend_from_slice(&self.entries.first().map_or(0, |entry| entry.first_record).to_le_bytes());
        for entry in self.entries.drain(..) {
            columns.put(Column::IndexOffset, delta64(entry.offset, at));
            columns.put(Column::IndexRecords, entry.records.into());
            columns.put(Column::IndexEvents, entry.events.into());
            columns.put(Column::IndexFirstTime, delta64(entry.first_time.0, first));
            columns.put(Column::IndexLastTime, delta64(entry.last_time.0, last));
            (at, first, last) = (entry.offset, entry.first_time.0, entry.last_time.0);
        }
        columns.flush(out);
        header.write(out, start);
        self.last_index = offset;
    }

    /// Appends the trailer to `out`.
    pub(crate) fn trailer(&self, tag: [u8; 4], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.last_index.to_le_bytes());
        out.extend_from_slice(&tag);
        put_u32(out, crc32c::crc32c(&out[start..]));
        out.extend_from_slice(&TRAILER_MAGIC);
    }
}

/// Reads a trailer and returns the offset of the last index block; `None` if the bytes are no
/// trailer.
pub(crate) fn read_trailer(bytes: &[u8], tag: [u8; 4]) -> Option<u64> {
    let valid = bytes.len() == TRAILER
        && bytes[MAGIC] == TRAILER_MAGIC
        && bytes[TAG] == tag
        && FILE_ORDER.u32_at(bytes, CRC.start) == crc32c::crc32c(&bytes[..CRC.start]);
    valid.then(|| FILE_ORDER.u64_at(bytes, LAST_INDEX.start))
}

/// Reads the payload of an index block. Returns its entries and the offset of the previous index
/// block, or 0 if there is none.
pub(crate) fn read_index(
    payload: &[u8],
    columns: &mut ColumnReader,
) -> Result<(Vec<IndexEntry>, u64), Malformed> {
    let (fixed, sections) = payload.split_at_checked(INDEX_FIXED).ok_or(Malformed("an index is cut"))?;
    let room = limit::columns(BLOCK_HEADER + payload.len(), 0, 0).unwrap_or_default();
    columns.load(sections, room)?;
    let count = FILE_ORDER.u32_at(fixed, 0) as usize;
    if count > columns.numbers(Column::IndexOffset).len() {
        return Err(Malformed("an index has fewer entries than it says"));
    }
    let mut values = columns.values();
    let (mut at, mut first, mut last, mut first_record) = (0, 0, 0, FILE_ORDER.u64_at(fixed, 12));
    let entries = (0..count).map(|_| {
        at = undelta64(values.take(Column::IndexOffset), at);
        first = undelta64(values.take(Column::IndexFirstTime), first);
        last = undelta64(values.take(Column::IndexLastTime), last);
        let entry = IndexEntry {
            offset: at,
            first_record,
            records: values.take(Column::IndexRecords) as u32,
            events: values.take(Column::IndexEvents) as u32,
            first_time: MonoNs(first),
            last_time: MonoNs(last),
        };
        first_record = first_record.wrapping_add(entry.records.into());
        entry
    });
    Ok((entries.collect(), FILE_ORDER.u64_at(fixed, 4)))
}
