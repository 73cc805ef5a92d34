//! The index: where each block is and what times it holds. A hint for seeking, never trusted without a check.

use super::column::{Column, ColumnReader, ColumnWriter, delta64, undelta64};
use crate::capture::format::block::{BLOCK_HEADER, BlockHeader, Malformed, put_u32, u32_at, u64_at};
use crate::capture::format::limit;
use crate::ids::MonoNs;

/// Bytes of the trailer, the last of a finished capture.
pub(crate) const TRAILER: usize = 24;
const TRAILER_MAGIC: [u8; 8] = *b"pmon-end";

/// What the index says of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) offset: u64,
    pub(crate) first_record: u64,
    pub(crate) records: u32,
    pub(crate) events: u32,
    pub(crate) first_time: MonoNs,
    pub(crate) last_time: MonoNs,
}

/// Collects entries, and writes them out as index blocks, each of which names the one before.
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

    /// Appends an index block, which will stand at `offset` of the file.
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

    /// Appends the trailer.
    pub(crate) fn trailer(&self, tag: [u8; 4], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.last_index.to_le_bytes());
        out.extend_from_slice(&tag);
        put_u32(out, crc32c::crc32c(&out[start..]));
        out.extend_from_slice(&TRAILER_MAGIC);
    }
}

/// Reads a trailer: where the last index block is, if these are a trailer's bytes.
pub(crate) fn read_trailer(bytes: &[u8], tag: [u8; 4]) -> Option<u64> {
    let valid = bytes.len() == TRAILER
        && bytes[16..] == TRAILER_MAGIC
        && bytes[8..12] == tag
        && u32_at(bytes, 12) == crc32c::crc32c(&bytes[..12]);
    valid.then(|| u64_at(bytes, 0))
}

/// Reads an index block's payload: its entries, and where the index block before it is (0: nowhere).
pub(crate) fn read_index(
    payload: &[u8],
    columns: &mut ColumnReader,
) -> Result<(Vec<IndexEntry>, u64), Malformed> {
    let (fixed, sections) = payload.split_at_checked(20).ok_or(Malformed("an index is cut"))?;
    let room = limit::columns(BLOCK_HEADER + payload.len(), 0, 0).unwrap_or_default();
    columns.load(sections, room)?;
    let count = u32_at(fixed, 0) as usize;
    let mut offsets = columns.numbers(Column::IndexOffset);
    if count > offsets.len() {
        return Err(Malformed("an index has fewer entries than it says"));
    }
    let mut records = columns.numbers(Column::IndexRecords);
    let mut events = columns.numbers(Column::IndexEvents);
    let mut firsts = columns.numbers(Column::IndexFirstTime);
    let mut lasts = columns.numbers(Column::IndexLastTime);
    let (mut at, mut first, mut last, mut first_record) = (0, 0, 0, u64_at(fixed, 12));
    let entries = (0..count).map(|_| {
        at = undelta64(offsets.take(), at);
        first = undelta64(firsts.take(), first);
        last = undelta64(lasts.take(), last);
        let entry = IndexEntry {
            offset: at,
            first_record,
            records: records.take() as u32,
            events: events.take() as u32,
            first_time: MonoNs(first),
            last_time: MonoNs(last),
        };
        first_record = first_record.wrapping_add(entry.records.into());
        entry
    });
    Ok((entries.collect(), u64_at(fixed, 4)))
}
