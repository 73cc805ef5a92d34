//! Buffered input that can be looked at before it is taken. Whatever is asked for, the bytes that it moves in memory are at most a
//! constant times those that it reads.

use std::io::{self, Read, Seek, SeekFrom};

use super::index::TRAILER;
use super::limit;

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;
/// The largest buffer: a block, and a quarter of it as room to read on, so that the bytes before it are moved rarely.
const LARGEST: usize = limit::BLOCK / 4 * 5;

/// Moves an input that stands within a hole of its file near to the hole's end. Gives the number of bytes, all zero, that it passed.
pub(super) type SkipHole<R> = fn(&mut R) -> io::Result<u64>;

/// An input, and the bytes of it that were read and not taken.
pub(super) struct Input<R> {
    inner: R,
    skip_hole: SkipHole<R>,
    buffer: Vec<u8>,
    /// Where the unread bytes begin in the buffer.
    start: usize,
    /// Where the unread bytes end in the buffer.
    end: usize,
    /// Where the unread bytes begin in the input.
    offset: u64,
    at_end: bool,
    /// Bytes that were moved within the buffer.
    moved: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(inner: R, skip_hole: SkipHole<R>) -> Self {
        let buffer = vec![0; CHUNK];
        Self { inner, skip_hole, buffer, start: 0, end: 0, offset: 0, at_end: false, moved: 0 }
    }

    /// How far it was taken, in bytes.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that were moved within memory.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        self.buffer.len()
    }

    /// The next `len` bytes, or what is left if that is less.
    pub(super) fn peek(&mut self, len: usize) -> io::Result<&[u8]> {
        let bytes = self.peek_all(len)?;
        Ok(&bytes[..bytes.len().min(len)])
    }

    /// All bytes that were read, at least `len` of them unless fewer are left.
    pub(super) fn peek_all(&mut self, len: usize) -> io::Result<&[u8]> {
        while self.end - self.start < len && !self.at_end {
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Reads once, so that what a pipe has is given on at once. Memory grows with the bytes that have come, not with
    /// what a file claims.
    fn fill(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.buffer.len() {
            // Each time that bytes are moved, at least a quarter as many have been taken before.
            if self.start < self.buffer.len() / 5 {
                self.moved += self.end as u64;
                let larger = (2 * self.buffer.len()).min(LARGEST).max(self.buffer.len() + CHUNK);
                self.buffer.resize(larger, 0);
            } else {
                self.moved += (self.end - self.start) as u64;
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
        }
        let room = self.buffer.len().min(self.end + CHUNK);
        let read = loop {
            match self.inner.read(&mut self.buffer[self.end..room]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.end += read;
        self.at_end = read == 0;
        Ok(())
    }

    pub(super) fn consume(&mut self, len: usize) {
        debug_assert!(self.start + len <= self.end);
        self.start += len;
        self.offset += len as u64;
    }

    /// Passes a hole of the file, where only zeros are left of what was read. A trailer may begin with zeros, so that as many are left.
    pub(super) fn skip_hole(&mut self) -> io::Result<()> {
        if self.at_end || self.buffer[self.start..self.end].iter().any(|&byte| byte != 0) {
            return Ok(());
        }
        let skipped = (self.skip_hole)(&mut self.inner)?;
        if skipped > 0 {
            // What is kept are then the hole's last zeros, and no longer its first.
            let kept = TRAILER.min(self.end - self.start);
            self.offset += skipped + (self.end - self.start - kept) as u64;
            self.start = self.end - kept;
        }
        Ok(())
    }

    pub(super) fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.peek(1)?.is_empty())
    }
}

impl<R: Read + Seek> Input<R> {
    /// The length of the input, which then stands at its end.
    pub(super) fn len(&mut self) -> io::Result<u64> {
        self.inner.seek(SeekFrom::End(0))
    }

    pub(super) fn jump(&mut self, offset: u64) -> io::Result<()> {
        self.inner.seek(SeekFrom::Start(offset))?;
        (self.start, self.end) = (0, 0);
        self.offset = offset;
        self.at_end = false;
        Ok(())
    }
}
