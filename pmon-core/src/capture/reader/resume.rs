//! Reads on in a capture that is being written.

use std::io::{self, Read, Seek};

use super::{FilePart, Reader};

/// A position from which a capture that is being written is read on: see [`Reader::resume`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ResumePoint {
    /// End of the sealed blocks, after which the next one is written.
    sealed_end: u64,
    /// End of the bytes that were read, after which the journal grows.
    offset: u64,
    next_record: u64,
    seen_end: bool,
    seen_trailer: bool,
}

impl<R: Read + Seek> Reader<R> {
    /// Returns the reader's position. At the end of the file, or after damage that may be a block
    /// which is being written, pass it to [`Reader::resume`].
    pub fn resume_point(&self) -> ResumePoint {
        ResumePoint {
            sealed_end: self.sealed_end,
            offset: self.input.offset(),
            next_record: self.next_record,
            seen_end: self.seen_end,
            seen_trailer: self.seen_trailer,
        }
    }

    /// Returns to a position, to read what the recorder has written since. Records that were
    /// returned before are not returned again, although blocks may be read again.
    ///
    /// A recorder appends provisional blocks to the journal, writes a sealed block before it that
    /// has the same records, and cuts the journal off. The reader therefore continues after the
    /// sealed blocks if there is another one, or if `whole` is set, and otherwise after the
    /// journal's last block that was read.
    ///
    /// # Errors
    /// Returns an error if the input cannot be read.
    pub fn resume(&mut self, point: &ResumePoint, whole: bool) -> io::Result<()> {
        (self.queued, self.last_block) = (None, None);
        (self.next_record, self.sealed_end) = (point.next_record, point.sealed_end);
        (self.seen_end, self.seen_trailer) = (point.seen_end, point.seen_trailer);
        self.go_to(point.sealed_end)?;
        if !whole && point.offset > point.sealed_end && !matches!(self.examine()?, FilePart::Block(_)) {
            self.go_to(point.offset)?;
        }
        Ok(())
    }

    fn go_to(&mut self, offset: u64) -> io::Result<()> {
        self.sums.restart();
        self.input.jump(offset)
    }
}
