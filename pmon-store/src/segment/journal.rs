//! The journal of an unfinished segment, encoded again.

use std::ops::Range;

use pmon_core::capture::{Block, EncodeError, Encoder, Header};

/// The provisional blocks of a segment that have records which no earlier block has.
pub(super) struct Journal {
    /// First byte of the first block, and first byte after the last one.
    pub(super) bytes: Range<u64>,
    /// Encodes the records; `None` if they must stay as they are.
    pub(super) encoder: Option<JournalEncoder>,
}

/// Encodes the records of provisional blocks into few blocks of normal size.
pub(super) struct JournalEncoder {
    header: Header,
    encoder: Option<Encoder>,
    /// Number of the record after the last one.
    next_record: u64,
    /// Bytes that the blocks may take.
    room: u64,
    /// The encoded blocks; `None` if there is no room, or a record does not fit the format.
    blocks: Option<Vec<Vec<u8>>>,
}

impl JournalEncoder {
    pub(super) fn new(header: Header, room: u64) -> Self {
        Self { header, encoder: None, next_record: 0, room, blocks: Some(Vec::new()) }
    }

    /// Adds the records of the next provisional block.
    pub(super) fn push(&mut self, block: &Block<'_>) {
        if self.blocks.is_some() && self.encode(block).is_err() {
            self.blocks = None;
        }
    }

    fn encode(&mut self, block: &Block<'_>) -> Result<(), EncodeError> {
        // Missing records show only between two blocks.
        if block.first_record() != self.next_record {
            self.seal();
            self.encoder = None;
            self.next_record = block.first_record();
        }
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::resume(&self.header, block)?,
        };
        for record in block.records() {
            encoder.push(&record)?;
            self.next_record += 1;
            if encoder.is_full() {
                self.add(encoder.seal());
            }
        }
        self.encoder = Some(encoder);
        Ok(())
    }

    fn seal(&mut self) {
        if let Some(mut encoder) = self.encoder.take().filter(|encoder| encoder.unsealed() > 0) {
            self.add(encoder.seal());
        }
    }

    fn add(&mut self, block: &[u8]) {
        self.room = self.room.saturating_sub(block.len() as u64);
        self.blocks = self.blocks.take().filter(|_| self.room > 0);
        self.blocks.iter_mut().for_each(|blocks| blocks.push(block.to_vec()));
    }

    /// Returns the blocks in their order; `None` if the records must stay as they are.
    pub(super) fn finish(mut self) -> Option<Vec<Vec<u8>>> {
        self.seal();
        self.blocks
    }
}
