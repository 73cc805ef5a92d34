//! Bytes to blocks: finds what is intact, and says what is not.

use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;

use super::block::{BLOCK_HEADER, BlockHeader, BlockKind, MARKER};
use super::column::ColumnReader;
use super::decode::{Block, Decoded};
use super::header::{FIXED, Header, Start};
use super::index::{self, IndexEntry, TRAILER};
use super::{MAJOR, limit};
use crate::ids::MonoNs;
use crate::wire::ByteOrder;

/// How far a reader looks for a first intact block in a file whose header is not one.
const SEARCH: u64 = 4 * limit::BLOCK as u64;
/// How much is read at once.
const CHUNK: usize = 256 << 10;
/// Bytes that may be checksummed in vain for each byte that is passed: bounds the time for a hostile file.
const EFFORT: u64 = 32;

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
/// It needs at most 32 MiB for the bytes of a block and 128 MiB for its columns, whatever a file claims.
pub struct Reader<R> {
    input: Input<R>,
    header: Option<Header>,
    tag: Option<[u8; 4]>,
    decoded: Decoded,
    next_record: u64,
    queued: Option<Damage>,
    seen_end: bool,
    seen_trailer: bool,
    unknown_blocks: u64,
    intact_bytes: u64,
    wasted: u64,
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
        let mut this = Self {
            input: Input::new(input),
            header: None,
            tag: None,
            decoded: Decoded::new(),
            next_record: 0,
            queued: None,
            seen_end: false,
            seen_trailer: false,
            unknown_blocks: 0,
            intact_bytes: 0,
            wasted: 0,
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
            let bytes = this.input.offset;
            this.queued = Some(Damage { offset: 0, bytes, what: DamageKind::Header });
            return Ok(this);
        }
        let whole = this.input.offset;
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
    pub fn frame_order(&self) -> ByteOrder {
        self.header.as_ref().map_or(ByteOrder::NATIVE, |header| header.frame_order)
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
                    if let Some(skip) = self.take_block(block)? {
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
        self.input.offset
    }

    /// Intact blocks of a kind that this version does not know, which were skipped.
    pub fn unknown_blocks(&self) -> u64 {
        self.unknown_blocks
    }

    /// Takes an intact block. If it has records to give, they are in `decoded`, and the answer is how many of the
    /// first were given before.
    fn take_block(&mut self, block: BlockHeader) -> io::Result<Option<u64>> {
        let offset = self.input.offset;
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
            if self.wasted <= EFFORT * (self.input.offset + limit::BLOCK as u64) {
                let payload = self.input.peek(block.len())?.get(BLOCK_HEADER..).unwrap_or_default();
                if block.is_intact(payload) {
                    return Ok(Found::Block(block));
                }
                self.wasted += payload.len() as u64;
            }
            return Ok(Found::Nothing);
        }
        let is_trailer = self.tag.is_some_and(|tag| {
            bytes.get(..TRAILER).is_some_and(|bytes| index::read_trailer(bytes, tag).is_some())
        });
        Ok(if is_trailer { Found::Trailer } else { Found::Nothing })
    }

    /// Passes what is no block, and queues the damage that it is. The zeros before a journal are none.
    fn skip_damage(&mut self) -> io::Result<()> {
        let offset = self.input.offset;
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
        let from = self.input.offset;
        let mut end_of_bytes = None;
        while self.input.offset - from < limit {
            let bytes = self.input.peek(CHUNK)?;
            let Some(rest) = bytes.get(1..) else { break };
            // A trailer does not begin with the marker: it can only be the last bytes.
            let end = if bytes.len() > TRAILER { bytes.len() - TRAILER } else { 1 };
            let skip = rest.iter().position(|&byte| byte == MARKER[0]).map_or(end, |at| at + 1).min(end);
            let last = bytes[..skip].iter().rposition(|&byte| byte != 0);
            end_of_bytes = last.map(|last| self.input.offset + last as u64 + 1).or(end_of_bytes);
            self.input.consume(skip);
            if !matches!(self.found()?, Found::Nothing) {
                break;
            }
        }
        Ok(end_of_bytes)
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Goes to a place from where on no event at or after `time` is missed, near to its first: the index tells.
    /// `false`, and all as it was, if the capture has no index that can be trusted.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub fn seek(&mut self, time: MonoNs) -> io::Result<bool> {
        let back = self.input.offset;
        match self.find(time) {
            Ok(Some(entry)) => {
                self.input.jump(entry.offset)?;
                // As everywhere, what is there counts only if it is intact, and here what the index said.
                let there = match self.found()? {
                    Found::Block(block) => block.first_record == entry.first_record,
                    Found::Trailer | Found::Nothing => false,
                };
                if there {
                    self.next_record = entry.first_record;
                    self.queued = None;
                    return Ok(true);
                }
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) => return Err(error),
        }
        self.input.jump(back)?;
        Ok(false)
    }

    /// The first block that holds an event at or after `time`; the last one if none does.
    fn find(&mut self, time: MonoNs) -> io::Result<Option<IndexEntry>> {
        let Some(tag) = self.tag else { return Ok(None) };
        let len = self.input.inner.seek(SeekFrom::End(0))?;
        let Some(trailer) = len.checked_sub(TRAILER as u64) else { return Ok(None) };
        self.input.jump(trailer)?;
        let Some(mut at) = index::read_trailer(self.input.peek(TRAILER)?, tag) else { return Ok(None) };
        let mut best = None;
        let mut columns = ColumnReader::new();
        let mut bound = trailer;
        while at != 0 {
            // Each index stands before the one that names it: the walk ends.
            if at >= bound {
                return Ok(None);
            }
            bound = at;
            self.input.jump(at)?;
            let Found::Block(block @ BlockHeader { kind: BlockKind::Index, .. }) = self.found()? else {
                return Ok(None);
            };
            let payload = &self.input.peek(block.len())?[BLOCK_HEADER..];
            let Ok((entries, before)) = index::read_index(payload, &mut columns) else { return Ok(None) };
            if entries.iter().any(|entry| entry.offset >= bound) {
                return Ok(None);
            }
            best = best.or(entries.last().copied());
            let first = entries.iter().find(|entry| entry.last_time >= time);
            best = first.copied().or(best);
            // Times of blocks overlap by microseconds at most, but an earlier index may still hold an earlier one.
            at = before;
        }
        Ok(best)
    }
}

/// Buffered input that can be looked at before it is taken.
struct Input<R> {
    inner: R,
    buffer: Vec<u8>,
    /// Where the unread bytes begin and end in the buffer,
    start: usize,
    end: usize,
    /// and where they begin in the input.
    offset: u64,
    at_end: bool,
}

impl<R: Read> Input<R> {
    fn new(inner: R) -> Self {
        Self { inner, buffer: vec![0; CHUNK], start: 0, end: 0, offset: 0, at_end: false }
    }

    /// The next `len` bytes, or what is left if that is less.
    fn peek(&mut self, len: usize) -> io::Result<&[u8]> {
        while self.end - self.start < len && !self.at_end {
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.end.min(self.start.saturating_add(len))])
    }

    /// Reads once, so that what a pipe has is given on at once. Memory grows with the bytes that have come, not with
    /// what a file claims.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            let mut larger = vec![0; 2 * self.buffer.len()];
            larger[..self.end].copy_from_slice(&self.buffer);
            self.buffer = larger;
        }
        let read = loop {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.end += read;
        self.at_end = read == 0;
        Ok(())
    }

    fn consume(&mut self, len: usize) {
        debug_assert!(self.start + len <= self.end);
        self.start += len;
        self.offset += len as u64;
    }

    fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.peek(1)?.is_empty())
    }
}

impl<R: Read + Seek> Input<R> {
    fn jump(&mut self, offset: u64) -> io::Result<()> {
        self.inner.seek(SeekFrom::Start(offset))?;
        (self.start, self.end) = (0, 0);
        self.offset = offset;
        self.at_end = false;
        Ok(())
    }
}
