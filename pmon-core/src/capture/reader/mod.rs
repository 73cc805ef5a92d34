//! Reads a file as a sequence of intact blocks and reports the damaged parts.

mod error;
mod input;
mod recording;
mod resume;
mod running_checksums;
mod seek;

use std::io::{self, Read};

use crate::capture::codec::index::{self, TRAILER};
use crate::capture::codec::{Block, ColumnSet, DecodedBlock, EncodedBlock};
use crate::capture::format::{
    BLOCK_HEADER, BlockHeader, BlockKind, FileStart, HEADER_FIXED, Header, MARKER, limit,
};
use crate::wire::ByteOrder;
pub use error::{Damage, DamageKind, OpenError};
pub use recording::{Junction, Part, RecordingReader, SeekRecording, Splicer};
pub use resume::ResumePoint;

use input::BufferedInput;
use running_checksums::RunningChecksums;

/// Number of bytes in which a reader searches the first intact block if the file header is damaged.
const SEARCH: u64 = 16 * limit::BLOCK as u64;

/// Minimum number of zero bytes that the reader takes for the start of a hole.
const HOLE: usize = 4096;

/// The next part of a capture.
pub enum Item<'a> {
    /// An intact block.
    Block(Block<'a>),
    /// A damaged part.
    Damage(Damage),
}

/// The next part of a capture that is not decoded.
pub enum EncodedItem<'a> {
    /// An intact block.
    Block(EncodedBlock<'a>),
    /// A damaged part.
    Damage(Damage),
}

/// Reads a capture from start to end.
///
/// The reader accepts a block only if the checksums of its header and its payload match and its tag
/// is the capture's. Otherwise, it searches the next block from the following byte on. Records that
/// occur twice (in a provisional block and in the sealed block that replaced it) are returned once.
///
/// Whatever a file holds or claims, the reader needs at most 20 MiB for the bytes of a block and 40
/// MiB for its columns. Finding the intact blocks takes time proportional to the file's length: see
/// [`Reader::effort`].
pub struct Reader<R> {
    input: BufferedInput<R>,
    header: Option<Header>,
    is_later: bool,
    tag: Option<[u8; 4]>,
    decoded: DecodedBlock,
    next_record: u64,
    queued: Option<Damage>,
    /// The block returned last, and the number of its first records that an earlier block had.
    last_block: Option<(BlockHeader, u64)>,
    seen_end: bool,
    seen_trailer: bool,
    unknown_blocks: u64,
    intact_bytes: u64,
    /// End of the header and the blocks that follow it without a gap.
    sealed_end: u64,
    sums: RunningChecksums,
    /// Bytes of payloads that were checksummed separately and did not match.
    wasted: u64,
    searched: u64,
}

/// The part of the file at the reader's position.
enum FilePart {
    Block(BlockHeader),
    Trailer,
    Nothing,
}

impl<R: Read> Reader<R> {
    /// Opens a capture and reads its header. A damaged header is accepted if an intact block
    /// follows.
    ///
    /// # Errors
    /// Returns an error if the input is not a capture, has a later major version, or cannot be
    /// read.
    pub fn open(input: R) -> Result<Self, OpenError> {
        Self::open_sparse(input, |_| Ok(0))
    }

    /// Opens a capture in a file that may have holes, such as one whose recorder was killed.
    ///
    /// When the reader finds only zeros, it calls `skip_hole`. If the input is in a hole, the
    /// function must seek to 24 bytes before the end of the hole, or stay if the hole is shorter;
    /// it returns the number of bytes skipped.
    ///
    /// # Errors
    /// Returns the errors of [`Reader::open`].
    pub fn open_sparse(input: R, skip_hole: fn(&mut R) -> io::Result<u64>) -> Result<Self, OpenError> {
        let mut this = Self {
            input: BufferedInput::new(input, skip_hole),
            header: None,
            is_later: false,
            tag: None,
            decoded: DecodedBlock::default(),
            next_record: 0,
            queued: None,
            last_block: None,
            seen_end: false,
            seen_trailer: false,
            unknown_blocks: 0,
            intact_bytes: 0,
            sealed_end: 0,
            sums: RunningChecksums::default(),
            wasted: 0,
            searched: 0,
        };
        let start = Header::start(this.input.peek(HEADER_FIXED)?);
        if let FileStart::Header(len) | FileStart::Version { len, .. } = start {
            let bytes = this.input.peek(len)?;
            let intact = bytes.len() == len && Header::is_intact(bytes);
            if let (FileStart::Version { major, minor, .. }, true) = (start, intact) {
                return Err(OpenError::Version { major, minor });
            }
            if let Some(header) = Header::decode(bytes).filter(|_| intact) {
                this.tag = Some(header.tag());
                this.is_later = Header::is_later(bytes);
                this.header = Some(header);
                (this.intact_bytes, this.sealed_end) = (len as u64, len as u64);
                this.input.consume(len);
                return Ok(this);
            }
        }
        if this.input.peek(1)?.is_empty() {
            return Err(OpenError::Empty);
        }
        let zeros = this.skip_to_block(SEARCH)?.is_none();
        if matches!(this.examine()?, FilePart::Block(_)) {
            let bytes = this.input.offset();
            this.queued = Some(Damage { offset: 0, bytes, what: DamageKind::Header });
            return Ok(this);
        }
        let whole = this.input.offset();
        match start {
            // A header that is not followed by an intact block still identifies a capture.
            FileStart::Header(_) => {
                this.queued = Some(Damage { offset: 0, bytes: whole, what: DamageKind::Header });
                Ok(this)
            }
            _ if zeros && whole > 0 => Err(OpenError::Empty),
            FileStart::Version { .. } | FileStart::Foreign => Err(OpenError::NotACapture),
        }
    }

    /// Returns the header; `None` if it is damaged, which the first item reports.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Returns whether a later minor version of the format wrote the capture. Its blocks can
    /// contain data that this version skips.
    pub fn is_of_later_version(&self) -> bool {
        self.is_later
    }

    /// Returns the byte order of the datagrams, or this machine's if the header is damaged.
    pub fn byte_order(&self) -> ByteOrder {
        self.header.as_ref().map_or(ByteOrder::NATIVE, |header| header.byte_order)
    }

    /// Returns the next block or damage; `None` at the end.
    ///
    /// # Errors
    /// Returns an error if the input cannot be read. Damage is not an error.
    pub fn next_item(&mut self) -> io::Result<Option<Item<'_>>> {
        loop {
            if let Some(damage) = self.queued.take() {
                return Ok(Some(Item::Damage(damage)));
            }
            match self.examine()? {
                FilePart::Block(block) => {
                    self.last_block = None;
                    if let Some(skip) = self.take_block(block, ColumnSet::ALL)? {
                        self.last_block = Some((block, skip));
                        return Ok(Some(Item::Block(Block::new(&self.decoded, block, skip))));
                    }
                }
                part => {
                    if !self.skip_other(&part)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Returns the next block without decoding it, or damage; `None` at the end. A block can then
    /// still contradict the format, which [`BlockDecoder`](super::BlockDecoder) reports.
    ///
    /// # Errors
    /// As [`Reader::next_item`].
    pub fn next_encoded(&mut self) -> io::Result<Option<EncodedItem<'_>>> {
        self.last_block = None;
        loop {
            if let Some(damage) = self.queued.take() {
                return Ok(Some(EncodedItem::Damage(damage)));
            }
            match self.examine()? {
                FilePart::Block(block) => {
                    if let Some(skip) = self.take_block(block, ColumnSet::NOTE_KINDS)? {
                        let payload = &self.input.consumed(block.len())[BLOCK_HEADER..];
                        return Ok(Some(EncodedItem::Block(EncodedBlock::new(block, payload, skip))));
                    }
                }
                part => {
                    if !self.skip_other(&part)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Returns the block that [`Reader::next_item`] returned last, without its first `taken`
    /// records; `None` if no block was returned since the last other item.
    pub fn rest_of_block(&self, taken: u64) -> Option<Block<'_>> {
        self.last_block.map(|(block, skip)| Block::new(&self.decoded, block, skip + taken))
    }

    /// Returns whether the recorder ended cleanly: the `End` record and the trailer were read.
    pub fn ended_cleanly(&self) -> bool {
        self.seen_end && self.seen_trailer
    }

    /// Returns the total length of the header and the intact blocks so far, in bytes.
    pub fn intact_bytes(&self) -> u64 {
        self.intact_bytes
    }

    /// Returns whether the `End` record was read, after which no record follows.
    pub fn has_end(&self) -> bool {
        self.seen_end
    }

    /// Returns the reader's position in the input, in bytes.
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// Returns the bytes searched for blocks, moved in memory, and checksummed without a match so
    /// far. For any input, this is at most 16 per byte of input plus 32 MiB.
    pub fn effort(&self) -> u64 {
        self.searched + self.input.moved() + self.wasted + self.sums.summed()
    }

    /// Returns the currently allocated memory in bytes.
    pub fn memory(&self) -> usize {
        self.input.memory() + self.decoded.memory()
    }

    /// Returns the number of intact blocks that were skipped because their kind is unknown.
    pub fn unknown_blocks(&self) -> u64 {
        self.unknown_blocks
    }

    /// Skips a part that is no block. Returns `false` at the end.
    fn skip_other(&mut self, part: &FilePart) -> io::Result<bool> {
        match part {
            FilePart::Trailer => {
                self.input.consume(TRAILER);
                self.intact_bytes += TRAILER as u64;
                self.seen_trailer = true;
            }
            _ if self.input.is_at_end()? => return Ok(false),
            _ => self.skip_damage()?,
        }
        Ok(true)
    }

    /// Consumes an intact block. If it has new records, decodes these columns of them and returns
    /// how many of the block's first records were returned before.
    fn take_block(&mut self, block: BlockHeader, columns: ColumnSet) -> io::Result<Option<u64>> {
        let offset = self.input.offset();
        self.intact_bytes += block.len() as u64;
        self.tag = Some(block.tag);
        let end = block.first_record.saturating_add(block.records.into());
        let mut skip = None;
        if block.first_record > self.next_record {
            let records = block.first_record - self.next_record;
            self.queued = Some(Damage { offset, bytes: 0, what: DamageKind::Missing { records } });
            self.next_record = block.first_record;
            self.intact_bytes -= block.len() as u64;
            return Ok(None);
        }
        match block.kind {
            BlockKind::Records if end <= self.next_record => {}
            BlockKind::Records => {
                let payload = &self.input.peek(block.len())?[BLOCK_HEADER..];
                match self.decoded.load(payload, &block, columns) {
                    Ok(()) => {
                        skip = Some(self.next_record - block.first_record);
                        self.next_record = end;
                        self.seen_end |= self.decoded.has_end();
                    }
                    Err(malformed) => {
                        let what = DamageKind::Malformed(malformed.0);
                        self.queued = Some(Damage { offset, bytes: block.len() as u64, what });
                        self.next_record = end;
                    }
                }
            }
            BlockKind::Index => {}
            BlockKind::Other(_) => self.unknown_blocks += 1,
        }
        if offset == self.sealed_end {
            self.sealed_end += block.len() as u64;
        }
        self.input.consume(block.len());
        Ok(skip)
    }

    /// Examines the part at the current position without moving.
    fn examine(&mut self) -> io::Result<FilePart> {
        let bytes = self.input.peek(BLOCK_HEADER)?;
        if let Some(block) =
            BlockHeader::read(bytes).filter(|block| self.tag.is_none_or(|tag| tag == block.tag))
        {
            if self.is_intact(&block)? {
                return Ok(FilePart::Block(block));
            }
            return Ok(FilePart::Nothing);
        }
        let is_trailer = self.tag.is_some_and(|tag| {
            bytes.get(..TRAILER).is_some_and(|bytes| index::read_trailer(bytes, tag).is_some())
        });
        Ok(if is_trailer { FilePart::Trailer } else { FilePart::Nothing })
    }

    /// Returns whether the payload after this header matches the header's checksum.
    fn is_intact(&mut self, block: &BlockHeader) -> io::Result<bool> {
        let at = self.input.offset() + BLOCK_HEADER as u64;
        // Payloads of forged headers can overlap. Once too many bytes were wasted, use running
        // checksums, which are computed once.
        let is_direct = self.wasted + u64::from(block.payload_len) <= at + limit::BLOCK as u64;
        let Some(payload) = self.input.peek(block.len())?.get(BLOCK_HEADER..) else { return Ok(false) };
        if payload.len() != block.payload_len as usize {
            return Ok(false);
        }
        if !is_direct {
            return Ok(self.sums.crc(at, payload) == block.payload_crc);
        }
        let is_intact = block.is_intact(payload);
        if !is_intact {
            self.wasted += payload.len() as u64;
        }
        Ok(is_intact)
    }

    /// Skips bytes that are no block and queues them as damage. The zeros before a journal are no
    /// damage.
    fn skip_damage(&mut self) -> io::Result<()> {
        let offset = self.input.offset();
        let looked_like_block = MARKER.starts_with(self.input.peek(MARKER.len())?);
        if let Some(end) = self.skip_to_block(u64::MAX)? {
            let torn = self.input.is_at_end()? && (looked_like_block || self.seen_end);
            let what = if torn { DamageKind::Torn } else { DamageKind::Corrupt };
            self.queued = Some(Damage { offset, bytes: end - offset, what });
        }
        Ok(())
    }

    /// Advances by at least one byte, up to the next intact block or trailer, the end, or `limit`
    /// bytes. Returns the offset after the last skipped byte that is not zero.
    fn skip_to_block(&mut self, limit: u64) -> io::Result<Option<u64>> {
        let from = self.input.offset();
        let mut end_of_bytes = None;
        while self.input.offset() - from < limit {
            let at = self.input.offset();
            let bytes = self.input.peek_all(BLOCK_HEADER)?;
            let Some(rest) = bytes.get(1..) else { break };
            // A trailer does not begin with the marker, so it can only be the last bytes.
            let end = if bytes.len() > TRAILER { bytes.len() - TRAILER } else { 1 };
            let skip = marker(rest).map_or(end, |at| at + 1).min(end);
            self.searched += skip as u64;
            let skipped = &bytes[..skip];
            if skipped.iter().fold(0, |all, byte| all | byte) == 0 {
                // Below this length, reading takes no longer than seeking.
                let may_be_hole = skip == end && skip >= HOLE;
                self.input.consume(skip);
                if may_be_hole {
                    self.input.skip_hole()?;
                }
            } else {
                let last = skipped.iter().rposition(|&byte| byte != 0);
                end_of_bytes = last.map(|last| at + last as u64 + 1).or(end_of_bytes);
                self.input.consume(skip);
            }
            if !matches!(self.examine()?, FilePart::Nothing) {
                break;
            }
        }
        Ok(end_of_bytes)
    }
}

/// Returns the position of the first block marker. Its time does not depend on the bytes, because
/// it examines no candidate separately.
fn marker(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MARKER.len()).position(|window| window == MARKER)
}
