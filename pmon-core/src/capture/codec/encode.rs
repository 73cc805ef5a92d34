//! Records to the bytes of a capture.

use super::block_encoder::BlockEncoder;
use super::decode::Block;
use super::encoded_block::{EncodedBlock, Note};
use super::error::EncodeError;
use super::index::{IndexEntry, IndexWriter};
use super::pending::{PendingRecords, RecordCounts};
use crate::capture::format::{BlockHeader, BlockKind, Header, limit};
use crate::capture::records::{Record, RecordedDatagram};
use crate::ids::MonoNs;
use crate::wire::ByteOrder;

/// Encodes records into the bytes of a capture, block by block. It holds the records of one
/// unfinished block.
///
/// The caller writes the bytes that the methods return, in order: [`Encoder::header`] once, each
/// [`Encoder::seal`], and [`Encoder::finish`] at the end. Between two seals,
/// [`Encoder::provisional`] returns the newest records in a block of their own. The caller stores
/// such blocks anywhere after the sealed ones until the next seal, which contains their records.
pub struct Encoder {
    header: Vec<u8>,
    tag: [u8; 4],
    order: ByteOrder,
    records: PendingRecords,
    /// Number of pending records that are in provisional blocks.
    provisional: RecordCounts,
    /// Blocks that became full before the caller sealed them.
    sealed: Vec<u8>,
    blocks: BlockEncoder,
    index: IndexWriter,
    out: Vec<u8>,
    /// Number of records in sealed blocks.
    sealed_records: u64,
    /// Length of the header and the sealed blocks in bytes.
    offset: u64,
    last_time: u64,
}

impl Encoder {
    /// Creates an encoder for a new capture.
    ///
    /// # Errors
    /// Returns an error if the header's texts exceed the limit of 1 MiB.
    pub fn new(header: &Header) -> Result<Self, EncodeError> {
        let bytes = header.encode()?;
        Ok(Self {
            tag: header.tag(),
            order: header.byte_order,
            offset: bytes.len() as u64,
            header: bytes,
            records: PendingRecords::default(),
            provisional: RecordCounts::default(),
            sealed: Vec::new(),
            blocks: BlockEncoder::default(),
            index: IndexWriter::default(),
            out: Vec::new(),
            sealed_records: 0,
            last_time: 0,
        })
    }

    /// Creates an encoder that continues a capture: `block` has the next record.
    ///
    /// # Errors
    /// As [`Encoder::new`].
    pub fn resume(header: &Header, block: &Block<'_>) -> Result<Self, EncodeError> {
        // Without events, this is the largest time before the block.
        let last_time = block.summary().header.first_time;
        Ok(Self { sealed_records: block.first_record(), last_time, ..Self::new(header)? })
    }

    /// Returns the bytes of the file header.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Appends one datagram of at most 256 KiB.
    ///
    /// # Errors
    /// Returns an error if the datagram is longer.
    pub fn push_datagram(&mut self, datagram: &[u8]) -> Result<(), EncodeError> {
        self.push(&RecordedDatagram::new(datagram, self.order).into())
    }

    /// Appends any record.
    ///
    /// # Errors
    /// Returns an error if the record or a string in it is longer than 256 KiB, or if this version
    /// cannot write its kind.
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), EncodeError> {
        if self.is_full() {
            self.seal_block();
        }
        self.records.push(record)?;
        if let Record::Event(RecordedDatagram::Event(event), _) = record {
            self.last_time = self.last_time.max(event.time.0);
        }
        Ok(())
    }

    /// Appends a copy of a block of another capture with the same byte order. The records of the
    /// block are not decoded. The caller should call [`Encoder::seal`] next.
    ///
    /// `notes` replace those of the block: a part of them, in order, or others at the same
    /// positions. With `None`, the block keeps its notes. The block must not
    /// [overlap](EncodedBlock::overlaps) an earlier one.
    pub fn push_block(&mut self, block: &EncodedBlock<'_>, notes: Option<&[Note]>) {
        if self.unsealed() > 0 {
            self.seal_block();
        }
        let start = self.sealed.len();
        let place = self.block(self.sealed_records);
        let header = match notes {
            None => block.copy(place, &mut self.sealed),
            Some(notes) => block.copy_with_notes(place, notes, self.blocks.columns(), &mut self.sealed),
        };
        self.last_time = self.last_time.max(header.last_time);
        self.add_sealed(header, start);
    }

    /// Returns whether the block has reached its target size; the caller should then call
    /// [`Encoder::seal`].
    pub fn is_full(&self) -> bool {
        self.records.is_full()
    }

    /// Returns the number of records that are not sealed yet.
    pub fn unsealed(&self) -> usize {
        self.records.counts().total()
    }

    /// Returns the number of records that are in no block yet, neither sealed nor provisional.
    pub fn pending(&self) -> usize {
        self.unsealed() - self.provisional.total()
    }

    /// Returns a block of the records that are in no block yet; empty if there are none. The block
    /// is not compressed, because it is replaced soon.
    pub fn provisional(&mut self) -> &[u8] {
        limit::clear(&mut self.out);
        if self.pending() > 0 {
            let first_record = self.sealed_records + self.provisional.total() as u64;
            let header = self.block(first_record);
            self.blocks.columns().set_compression(false);
            self.blocks.encode(&self.records, self.provisional, header, &mut self.out);
            self.blocks.columns().set_compression(true);
            self.provisional = self.records.counts();
        }
        &self.out
    }

    /// Returns the block of all records since the last seal; empty if there are none.
    pub fn seal(&mut self) -> &[u8] {
        if self.unsealed() > 0 {
            self.seal_block();
        }
        self.take_sealed()
    }

    /// Returns the index and the trailer. Call [`Encoder::seal`] before: unsealed records do not
    /// become part of the capture.
    pub fn finish(&mut self) -> &[u8] {
        self.seal_index();
        self.index.trailer(self.tag, &mut self.sealed);
        self.take_sealed()
    }

    fn take_sealed(&mut self) -> &[u8] {
        std::mem::swap(&mut self.out, &mut self.sealed);
        limit::clear(&mut self.sealed);
        &self.out
    }

    fn block(&self, first_record: u64) -> BlockHeader {
        BlockHeader {
            tag: self.tag,
            first_record,
            first_time: self.last_time,
            last_time: self.last_time,
            ..BlockHeader::default()
        }
    }

    fn seal_block(&mut self) {
        let start = self.sealed.len();
        let header = self.block(self.sealed_records);
        let header = self.blocks.encode(&self.records, RecordCounts::default(), header, &mut self.sealed);
        self.records.clear();
        self.provisional = RecordCounts::default();
        self.add_sealed(header, start);
    }

    /// Adds the block in `sealed` from `start` on to the index.
    fn add_sealed(&mut self, header: BlockHeader, start: usize) {
        self.index.push(IndexEntry {
            offset: self.offset,
            first_record: header.first_record,
            records: header.records,
            events: header.events,
            first_time: MonoNs(header.first_time),
            last_time: MonoNs(header.last_time),
        });
        self.sealed_records += u64::from(header.records);
        self.offset += (self.sealed.len() - start) as u64;
        if self.index.is_full() {
            self.seal_index();
        }
    }

    fn seal_index(&mut self) {
        let start = self.sealed.len();
        let header = BlockHeader { kind: BlockKind::Index, ..self.block(self.sealed_records) };
        self.index.flush(header, self.offset, self.blocks.columns(), &mut self.sealed);
        self.offset += (self.sealed.len() - start) as u64;
    }
}
