//! Bytes to blocks: finds what is intact, and says what is not.

mod checksum;
mod input;
mod seek;

use std::io::{self, Read};

use thiserror::Error;

use crate::capture::codec::decode::{Block, Decoded};
use crate::capture::codec::index::{self, TRAILER};
use crate::capture::format::block::{BLOCK_HEADER, BlockHeader, BlockKind, MARKER};
use crate::capture::format::header::{FIXED, Header, Start};
use crate::capture::format::{MAJOR, limit};
use crate::wire::ByteOrder;
use checksum::Sums;
use input::{Input, SkipHole};

/// How far a reader looks for a first intact block in a file whose header is not one.
const SEARCH: u64 = 16 * limit::BLOCK as u64;

/// Minimum number of zero bytes that the reader takes for the start of a hole.
const HOLE: usize = 4096;

/// Why bytes are not read as a capture.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The bytes are something else.
    #[error("not a pmon capture")]
    NotACapture,
    /// There are no bytes.
    #[error("empty: not a pmon capture, or one whose recorder was stopped before it began")]
    Empty,
    /// Written in a format that this version does not know.
    #[error(
        "capture format {major}.{minor} is newer than this version of pmon reads ({MAJOR}.x): use a newer pmon"
    )]
    Version {
        /// Major version of the file.
        major: u16,
        /// Minor version of the file.
        minor: u16,
    },
    /// The bytes could not be had.
    #[error("cannot read")]
    Io(#[from] io::Error),
}

/// A part of a capture that could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// How long it is; 0 if bytes are missing rather than wrong.
    pub bytes: u64,
    /// What is wrong.
    pub what: DamageKind,
}

/// What is wrong with a part of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageKind {
    /// The file header fails its checksum: what it said is not known.
    Header,
    /// The file ends within a block.
    Torn,
    /// Bytes that are no intact block of this capture.
    Corrupt,
    /// A block that passes its checksums and does not follow the format.
    Malformed(&'static str),
    /// Records that the numbering says were here are missing.
    Missing {
        /// How many.
        records: u64,
    },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { offset, bytes, what } = self;
        match what {
            DamageKind::Header => write!(f, "the file header ({bytes} bytes) is damaged"),
            DamageKind::Torn => {
                write!(f, "the file ends within a block: {bytes} bytes at offset {offset} are unusable")
            }
            DamageKind::Corrupt => write!(f, "{bytes} bytes at offset {offset} are damaged"),
            DamageKind::Malformed(why) => {
                write!(f, "the block at offset {offset} ({bytes} bytes) is malformed: {why}")
            }
            DamageKind::Missing { records } => {
                write!(f, "{records} records are missing before offset {offset}")
            }
        }
    }
}

/// The next thing in a capture.
pub enum Item<'a> {
    /// An intact block.
    Block(Block<'a>),
    /// A part that could not be used.
    Damage(Damage),
}

/// Reads a capture from front to back.
///
/// A block counts only if its header's and its payload's checksums hold and its mark is this capture's; else it
/// never existed, and the search for the next one begins behind its first byte. Records that come twice (a
/// provisional block and the sealed one that replaced it) are given once.
///
/// Whatever a file holds or claims, the reader needs at most 20 MiB for the bytes of a block and 40
/// MiB for its columns. Finding the intact blocks takes time proportional to the file's length: see
/// [`Reader::effort`].
pub struct Reader<R> {
    input: Input<R>,
    header: Option<Header>,
    tag: Option<[u8; 4]>,
    decoded: Decoded,
    next_record: u64,
    queued: Option<Damage>,
    /// The block returned last, and the number of its leading records that were returned before.
    given: Option<(BlockHeader, u64)>,
    seen_end: bool,
    seen_trailer: bool,
    unknown_blocks: u64,
    intact_bytes: u64,
    sums: Sums,
    /// Bytes of payloads that were checksummed separately and did not match.
    wasted: u64,
    searched: u64,
}

/// What stands at the reader's place.
enum Found {
    Block(BlockHeader),
    Trailer,
    Nothing,
}

impl<R: Read> Reader<R> {
    /// Reads the header. A file whose header is damaged opens too, if an intact block follows.
    ///
    /// # Errors
    /// When the bytes are not a capture, of a later format, or cannot be read.
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
    /// As [`Reader::open`].
    pub fn open_sparse(input: R, skip_hole: fn(&mut R) -> io::Result<u64>) -> Result<Self, OpenError> {
        let skip_hole: SkipHole<R> = skip_hole;
        let mut this = Self {
            input: Input::new(input, skip_hole),
            header: None,
            tag: None,
            decoded: Decoded::new(),
            next_record: 0,
            queued: None,
            given: None,
            seen_end: false,
            seen_trailer: false,
            unknown_blocks: 0,
            intact_bytes: 0,
            sums: Sums::default(),
            wasted: 0,
            searched: 0,
        };
        let start = Header::start(this.input.peek(FIXED)?);
        if let Start::Header(len) | Start::Version { len, .. } = start {
            let bytes = this.input.peek(len)?;
            let intact = bytes.len() == len && Header::is_intact(bytes);
            if let (Start::Version { major, minor, .. }, true) = (start, intact) {
                return Err(OpenError::Version { major, minor });
            }
            if let Some(header) = Header::decode(bytes).filter(|_| intact) {
                this.tag = Some(header.tag());
                this.header = Some(header);
                this.intact_bytes = len as u64;
                this.input.consume(len);
                return Ok(this);
            }
        }
        if this.input.peek(1)?.is_empty() {
            return Err(OpenError::Empty);
        }
        let zeros = this.skip_to_block(SEARCH)?.is_none();
        if matches!(this.found()?, Found::Block(_)) {
            let bytes = this.input.offset();
            this.queued = Some(Damage { offset: 0, bytes, what: DamageKind::Header });
            return Ok(this);
        }
        let whole = this.input.offset();
        match start {
            // A header and nothing intact behind it: a capture all the same.
            Start::Header(_) => {
                this.queued = Some(Damage { offset: 0, bytes: whole, what: DamageKind::Header });
                Ok(this)
            }
            _ if zeros && whole > 0 => Err(OpenError::Empty),
            Start::Version { .. } | Start::Foreign => Err(OpenError::NotACapture),
        }
    }

    /// The header; `None` if it is damaged (then the first item says so).
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// The byte order of the datagrams; this machine's if the header is damaged.
    pub fn byte_order(&self) -> ByteOrder {
        self.header.as_ref().map_or(ByteOrder::NATIVE, |header| header.byte_order)
    }

    /// The next block or damage; `None` at the end.
    ///
    /// # Errors
    /// When the input cannot be read. Damage is no error.
    pub fn next_item(&mut self) -> io::Result<Option<Item<'_>>> {
        loop {
            if let Some(damage) = self.queued.take() {
                return Ok(Some(Item::Damage(damage)));
            }
            match self.found()? {
                Found::Block(block) => {
                    self.given = None;
                    if let Some(skip) = self.take_block(block)? {
                        self.given = Some((block, skip));
                        return Ok(Some(Item::Block(Block::new(&self.decoded, block, skip))));
                    }
                }
                Found::Trailer => {
                    self.input.consume(TRAILER);
                    self.intact_bytes += TRAILER as u64;
                    self.seen_trailer = true;
                }
                Found::Nothing if self.input.is_at_end()? => return Ok(None),
                Found::Nothing => self.skip_damage()?,
            }
        }
    }

    /// Returns the block that [`Reader::next_item`] returned last, without its first `taken`
    /// records; `None` if no block was returned since the last other item.
    pub fn rest_of_block(&self, taken: u64) -> Option<Block<'_>> {
        self.given.map(|(block, skip)| Block::new(&self.decoded, block, skip + taken))
    }

    /// Whether the recorder ended cleanly: an END record was read, and the trailer that stands behind it.
    pub fn ended_cleanly(&self) -> bool {
        self.seen_end && self.seen_trailer
    }

    /// Bytes of the header and of the intact blocks so far.
    pub fn intact_bytes(&self) -> u64 {
        self.intact_bytes
    }

    /// How far into the input the reader has come, in bytes.
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// Returns the bytes searched for blocks, moved in memory, and checksummed without a match so
    /// far. For any input, this is at most 16 per byte of input plus 32 MiB.
    pub fn effort(&self) -> u64 {
        self.searched + self.input.moved() + self.wasted + self.sums.summed()
    }

    /// Returns the bytes of memory currently allocated.
    pub fn memory(&self) -> usize {
        self.input.memory() + self.decoded.memory()
    }

    /// Intact blocks of a kind that this version does not know, which were skipped.
    pub fn unknown_blocks(&self) -> u64 {
        self.unknown_blocks
    }

    /// Takes an intact block. If it has records to give, they are in `decoded`, and the answer is how many of the
    /// first were given before.
    fn take_block(&mut self, block: BlockHeader) -> io::Result<Option<u64>> {
        let offset = self.input.offset();
        self.intact_bytes += block.len() as u64;
        self.tag = Some(block.tag);
        let end = block.first_record.saturating_add(block.records.into());
        let mut given = None;
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
                match self.decoded.load(payload, &block) {
                    Ok(()) => {
                        given = Some(self.next_record - block.first_record);
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
        self.input.consume(block.len());
        Ok(given)
    }

    /// Looks at what stands here, and does not move.
    fn found(&mut self) -> io::Result<Found> {
        let bytes = self.input.peek(BLOCK_HEADER)?;
        if let Some(block) =
            BlockHeader::read(bytes).filter(|block| self.tag.is_none_or(|tag| tag == block.tag))
        {
            if self.is_intact(&block)? {
                return Ok(Found::Block(block));
            }
            return Ok(Found::Nothing);
        }
        let is_trailer = self.tag.is_some_and(|tag| {
            bytes.get(..TRAILER).is_some_and(|bytes| index::read_trailer(bytes, tag).is_some())
        });
        Ok(if is_trailer { Found::Trailer } else { Found::Nothing })
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

    /// Passes what is no block, and queues the damage that it is. The zeros before a journal are none.
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

    /// Moves at least one byte on, up to the next intact block or trailer, the end, or `limit` bytes. Gives the place
    /// behind the last byte on the way that is not zero.
    fn skip_to_block(&mut self, limit: u64) -> io::Result<Option<u64>> {
        let from = self.input.offset();
        let mut end_of_bytes = None;
        while self.input.offset() - from < limit {
            let at = self.input.offset();
            let bytes = self.input.peek_all(BLOCK_HEADER)?;
            let Some(rest) = bytes.get(1..) else { break };
            // A trailer does not begin with the marker: it can only be the last bytes.
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
            if !matches!(self.found()?, Found::Nothing) {
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
