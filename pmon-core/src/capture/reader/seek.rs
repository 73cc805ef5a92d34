//! Seeking to a time with the index.

use std::io::{self, Read, Seek};

use super::{FilePart, Reader};
use crate::capture::codec::ColumnReader;
use crate::capture::codec::index::{self, IndexEntry, TRAILER};
use crate::capture::format::{BLOCK_HEADER, BlockHeader, BlockKind};
use crate::ids::MonoNs;

impl<R: Read + Seek> Reader<R> {
    /// Moves to a position close before the first event at or after `time`, as the index states it.
    /// Returns `false` and keeps the position if the capture has no trustworthy index.
    ///
    /// # Errors
    /// Returns an error if the input cannot be read.
    pub fn seek(&mut self, time: MonoNs) -> io::Result<bool> {
        let origin = self.input.offset();
        self.sums.restart();
        let found = self.find(time);
        self.sums.restart();
        match found {
            Ok(Some(entry)) => {
                self.input.jump(entry.offset)?;
                // Accept the block only if it is intact and is the one that the index describes.
                let is_expected = match self.examine()? {
                    FilePart::Block(block) => block.first_record == entry.first_record,
                    FilePart::Trailer | FilePart::Nothing => false,
                };
                if is_expected {
                    self.next_record = entry.first_record;
                    self.queued = None;
                    return Ok(true);
                }
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) => return Err(error),
        }
        self.input.jump(origin)?;
        self.sums.restart();
        Ok(false)
    }

    /// Finds the first block with an event at or after `time`, or the last block if there is none.
    fn find(&mut self, time: MonoNs) -> io::Result<Option<IndexEntry>> {
        let Some(tag) = self.tag else { return Ok(None) };
        let len = self.input.len()?;
        let Some(trailer) = len.checked_sub(TRAILER as u64) else { return Ok(None) };
        self.input.jump(trailer)?;
        let Some(mut at) = index::read_trailer(self.input.peek(TRAILER)?, tag) else { return Ok(None) };
        let mut best = None;
        let mut columns = ColumnReader::default();
        let mut bound = trailer;
        while at != 0 {
            // Each index block precedes the one that refers to it, so the loop ends.
            if at >= bound {
                return Ok(None);
            }
            self.input.jump(at)?;
            let FilePart::Block(block @ BlockHeader { kind: BlockKind::Index, .. }) = self.examine()? else {
                return Ok(None);
            };
            // Index blocks must not overlap, so that each byte is read once.
            if at + block.len() as u64 > bound {
                return Ok(None);
            }
            bound = at;
            let payload = &self.input.peek(block.len())?[BLOCK_HEADER..];
            let Ok((entries, before)) = index::read_index(payload, &mut columns) else { return Ok(None) };
            if entries.iter().any(|entry| entry.offset >= bound) {
                return Ok(None);
            }
            best = best.or(entries.last().copied());
            let first = entries.iter().find(|entry| entry.last_time >= time);
            best = first.copied().or(best);
            // Block times overlap by microseconds, so an earlier index can still hold an earlier
            // match.
            at = before;
        }
        Ok(best)
    }
}
