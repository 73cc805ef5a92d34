//! The way to a time, by the index.

use std::io::{self, Read, Seek};

use super::super::block::{BLOCK_HEADER, BlockHeader, BlockKind};
use super::super::column::ColumnReader;
use super::super::index::{self, IndexEntry, TRAILER};
use super::{Found, Reader};
use crate::ids::MonoNs;

impl<R: Read + Seek> Reader<R> {
    /// Goes to a place from where on no event at or after `time` is missed, near to its first: the index tells.
    /// `false`, and all as it was, if the capture has no index that can be trusted.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub fn seek(&mut self, time: MonoNs) -> io::Result<bool> {
        let back = self.input.offset();
        self.sums.restart();
        let found = self.find(time);
        self.sums.restart();
        match found {
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
        self.sums.restart();
        Ok(false)
    }

    /// The first block that holds an event at or after `time`; the last one if none does.
    fn find(&mut self, time: MonoNs) -> io::Result<Option<IndexEntry>> {
        let Some(tag) = self.tag else { return Ok(None) };
        let len = self.input.len()?;
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
            self.input.jump(at)?;
            let Found::Block(block @ BlockHeader { kind: BlockKind::Index, .. }) = self.found()? else {
                return Ok(None);
            };
            // Nor do they overlap: each byte is read once.
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
            // Times of blocks overlap by microseconds at most, but an earlier index may still hold an earlier one.
            at = before;
        }
        Ok(best)
    }
}
