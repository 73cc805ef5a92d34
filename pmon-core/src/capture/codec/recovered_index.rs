//! The index of a capture whose recorder could not write one.

use super::column::ColumnWriter;
use super::index::{IndexEntry, IndexWriter};
use crate::capture::format::{BlockHeader, BlockKind, Header, limit};
use crate::ids::MonoNs;

/// Maximum number of blocks that are listed. A capture with more of them gets no index.
const MAX_BLOCKS: usize = 1 << 16;

/// What a recovered index needs of a block.
#[derive(Clone, Copy, Debug)]
pub struct BlockSummary {
    pub(crate) header: BlockHeader,
    /// Whether the block holds an END.
    pub(crate) has_end: bool,
}

/// Lists the blocks of an unfinished capture, and encodes their index and the trailer.
///
/// Readers then seek in the capture. A capture with both an END and a trailer counts as ended
/// cleanly, so one with an END gets no index: its recorder was killed before it could vouch that
/// all records before the END are there.
pub struct RecoveredIndex {
    tag: [u8; 4],
    entries: Vec<IndexEntry>,
    /// Number of the record after the last one.
    next_record: u64,
    /// Whether the capture may have an index: it has no END, and not too many blocks.
    is_possible: bool,
}

impl RecoveredIndex {
    /// Creates the index of a capture with this header.
    pub fn new(header: &Header) -> Self {
        Self { tag: header.tag(), entries: Vec::new(), next_record: 0, is_possible: true }
    }

    /// Adds the next block, which is at `offset` in the file.
    pub fn push(&mut self, block: BlockSummary, offset: u64) {
        let BlockHeader { first_record, records, events, first_time, last_time, .. } = block.header;
        self.next_record = self.next_record.max(first_record.saturating_add(records.into()));
        self.is_possible &= !block.has_end && self.entries.len() < MAX_BLOCKS;
        if self.is_possible {
            let [first_time, last_time] = [first_time, last_time].map(MonoNs);
            self.entries.push(IndexEntry { offset, first_record, records, events, first_time, last_time });
        }
    }

    /// Replaces all blocks from the offset `from` on by `blocks`, which an
    /// [`Encoder`](super::Encoder) has returned, and which are at `offset` in the file.
    pub fn replace(&mut self, from: u64, mut blocks: &[u8], mut offset: u64) {
        self.entries.retain(|entry| entry.offset < from);
        while let Some(header) = BlockHeader::read(blocks) {
            // An END among the replaced blocks was seen when they were added.
            self.push(BlockSummary { header, has_end: false }, offset);
            offset += header.len() as u64;
            blocks = blocks.get(header.len()..).unwrap_or_default();
        }
    }

    /// Returns the index blocks and the trailer, for a file whose last block ends at `end`; `None`
    /// if the capture has an END, no blocks, or too many blocks.
    pub fn encode(&self, end: u64) -> Option<Vec<u8>> {
        if !self.is_possible {
            return None;
        }
        let (mut index, mut columns) = (IndexWriter::default(), ColumnWriter::default());
        let time = self.entries.iter().map(|entry| entry.last_time.0).max()?;
        let header = BlockHeader {
            tag: self.tag,
            kind: BlockKind::Index,
            first_record: self.next_record,
            first_time: time,
            last_time: time,
            ..BlockHeader::default()
        };
        let mut bytes = Vec::new();
        for entries in self.entries.chunks(limit::INDEX) {
            entries.iter().for_each(|&entry| index.push(entry));
            index.flush(header, end + bytes.len() as u64, &mut columns, &mut bytes);
        }
        index.trailer(self.tag, &mut bytes);
        Some(bytes)
    }
}
