//! Buffered input with lookahead. The bytes moved within memory are at most a constant multiple of
//! the bytes read, whatever lengths the caller requests.

use std::io::{self, Read, Seek, SeekFrom};

use crate::capture::codec::index::TRAILER;
use crate::capture::format::limit;

/// Bytes per read.
const CHUNK: usize = 256 << 10;
/// Maximum size of the buffer: a block plus a quarter, so that unread bytes are rarely moved.
const LARGEST: usize = limit::BLOCK / 4 * 5;

/// Seeks an input whose position is in a hole of its file close to the end of the hole. Returns the
/// number of bytes skipped, all of them zero.
pub(crate) type SkipHole<R> = fn(&mut R) -> io::Result<u64>;

/// An input together with the bytes that were read but not yet consumed.
pub(crate) struct BufferedInput<R> {
    inner: R,
    skip_hole: SkipHole<R>,
    buffer: Vec<u8>,
    /// Start of the unconsumed bytes in the buffer.
    start: usize,
    /// End of the unconsumed bytes in the buffer.
    end: usize,
    /// Offset of the first unconsumed byte in the input.
    offset: u64,
    at_end: bool,
    /// Bytes moved within the buffer so far.
    moved: u64,
}

impl<R: Read> BufferedInput<R> {
    pub(crate) fn new(inner: R, skip_hole: SkipHole<R>) -> Self {
        let buffer = vec![0; CHUNK];
        Self { inner, skip_hole, buffer, start: 0, end: 0, offset: 0, at_end: false, moved: 0 }
    }

    /// Returns the input offset of the first unconsumed byte.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the number of bytes moved within memory so far.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// Returns the allocated memory in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the next `len` bytes, or the remaining ones if there are fewer.
    pub(crate) fn peek(&mut self, len: usize) -> io::Result<&[u8]> {
        let bytes = self.peek_all(len)?;
        Ok(&bytes[..bytes.len().min(len)])
    }

    /// Returns all buffered bytes: at least `len`, unless fewer remain.
    pub(crate) fn peek_all(&mut self, len: usize) -> io::Result<&[u8]> {
        while self.end - self.start < len && !self.at_end {
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Reads once, so that bytes from a pipe are passed on immediately. The buffer grows with the
    /// bytes received, not with the lengths that a file claims.
    fn fill(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.buffer.len() {
            // Bytes are moved only after at least a quarter as many have been consumed.
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

    pub(crate) fn consume(&mut self, len: usize) {
        debug_assert!(self.start + len <= self.end);
        self.start += len;
        self.offset += len as u64;
    }

    /// Returns the `len` bytes that were consumed last. They stay until the next call that reads.
    pub(crate) fn consumed(&self, len: usize) -> &[u8] {
        &self.buffer[self.start.saturating_sub(len)..self.start]
    }

    /// Skips a hole of the file if all buffered bytes are zero. The last zeros stay in the buffer,
    /// because a trailer can begin with them.
    pub(crate) fn skip_hole(&mut self) -> io::Result<()> {
        if self.at_end || self.buffer[self.start..self.end].iter().any(|&byte| byte != 0) {
            return Ok(());
        }
        let skipped = (self.skip_hole)(&mut self.inner)?;
        if skipped > 0 {
            // The kept zeros now represent the last ones of the hole instead of the first.
            let kept = TRAILER.min(self.end - self.start);
            self.offset += skipped + (self.end - self.start - kept) as u64;
            self.start = self.end - kept;
        }
        Ok(())
    }

    pub(crate) fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.peek(1)?.is_empty())
    }
}

impl<R: Read + Seek> BufferedInput<R> {
    /// Returns the length of the input and leaves the input at its end.
    pub(crate) fn len(&mut self) -> io::Result<u64> {
        self.inner.seek(SeekFrom::End(0))
    }

    pub(crate) fn jump(&mut self, offset: u64) -> io::Result<()> {
        self.inner.seek(SeekFrom::Start(offset))?;
        (self.start, self.end) = (0, 0);
        self.offset = offset;
        self.at_end = false;
        Ok(())
    }
}
