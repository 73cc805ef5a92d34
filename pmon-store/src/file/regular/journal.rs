//! The journal: provisional blocks of the records that are in no durable sealed block.

use std::time::{Duration, Instant};

use pmon_core::capture::Encoder;
use pmon_record::SinkError;

use super::{RegularFile, write_all};

const PAGE: u64 = 4096;
/// Maximum bytes of blocks that wait in memory for a sync. Beyond it, the writer thread waits.
const MAX_HELD: usize = 8 << 20;
/// Bytes that a journal may need. If the limit on file sizes leaves less, there is no journal.
const MIN_JOURNAL_SPACE: u64 = 4 << 20;
/// Time after which a failed journal is tried again.
const JOURNAL_RETRY: Duration = Duration::from_secs(60);

/// The provisional blocks after the hole.
pub(super) struct Journal {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Whether the journal has records that are in no sealed block.
    pub(super) is_live: bool,
}

impl Journal {
    /// Whether `bytes` fit between the sealed blocks and the journal.
    pub(super) fn leaves_room(&self, sealed_end: u64, bytes: &[u8]) -> bool {
        sealed_end + bytes.len() as u64 <= self.start
    }
}

/// The next step before the journal is cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TruncationState {
    /// The next block must be sealed.
    AwaitSeal,
    /// A sync must begin.
    BeginSync,
    /// The running sync must succeed.
    AwaitSync,
}

impl RegularFile {
    /// Appends the records that are in no block yet to the journal, or seals them if that is
    /// impossible.
    pub(super) fn append_to_journal(&mut self, encoder: &mut Encoder, now: Instant) -> Result<(), SinkError> {
        if !self.options.journal {
            self.fresh_since = None;
            return Ok(());
        }
        let is_off = self.no_journal_until.is_some_and(|until| now < until);
        let next = (self.sealed_end + self.options.hole).next_multiple_of(PAGE);
        let (start, at) = self.journal.as_ref().map_or((next, next), |journal| (journal.start, journal.end));
        let has_room = self.disk.size_limit().is_none_or(|limit| at + MIN_JOURNAL_SPACE <= limit);
        if is_off || self.journal.is_none() && !has_room {
            return self.seal(encoder);
        }
        let block = encoder.provisional();
        let len = block.len() as u64;
        if let Err((_, _)) = write_all(&*self.disk, block, at) {
            // Removes the incomplete block. If this fails as well, so does the seal, which reports
            // the error.
            let _ = self.disk.set_len(if self.journal.is_some() { at } else { self.sealed_end });
            self.no_journal_until = Some(now + JOURNAL_RETRY);
            return self.seal(encoder);
        }
        self.fresh_since = None;
        self.journal = Some(Journal { start, end: at + len, is_live: true });
        self.dirty_since.get_or_insert(self.now);
        Ok(())
    }

    /// Writes the records since the last block to the journal, and keeps their sealed block in
    /// memory. Returns whether this was possible.
    pub(super) fn hold(&mut self, encoder: &mut Encoder) -> bool {
        // While the journal is off, it lacks the records of its failed block.
        let is_off = self.no_journal_until.is_some_and(|until| self.now < until);
        let Some(journal) = self.journal.as_mut().filter(|_| !is_off && self.held.len() < MAX_HELD) else {
            return false;
        };
        let block = encoder.provisional();
        if write_all(&*self.disk, block, journal.end).is_err() {
            // Removes the incomplete block. If this fails as well, readers skip it.
            let _ = self.disk.set_len(journal.end);
            return false;
        }
        journal.end += block.len() as u64;
        journal.is_live = true;
        self.held.extend_from_slice(encoder.seal());
        self.fresh_since = None;
        self.dirty_since.get_or_insert(self.now);
        true
    }

    /// Writes a block that does not fit into the hole to a new journal first, so that its records
    /// are in the file while the block overwrites the current journal. Only in this case, the
    /// writer thread waits for a sync.
    pub(super) fn copy_to_journal(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let len = bytes.len() as u64;
        let end = self.journal.as_ref().map_or(self.sealed_end, |journal| journal.end);
        let start = end.max(self.sealed_end + len).next_multiple_of(PAGE);
        let copied =
            write_all(&*self.disk, bytes, start).map_err(|(_, error)| self.failed("write to", error));
        if let Err(error) = copied.and_then(|()| self.sync()) {
            self.holds_all = false;
            // The original error is reported. If this fails as well, readers skip the copy.
            let _ = self.disk.set_len(end);
            return Err(error);
        }
        self.journal = Some(Journal { start, end: start + len, is_live: false });
        Ok(())
    }

    /// Seals the journal's unsealed records, so the whole journal can be cut off.
    pub(super) fn seal_live(&mut self, encoder: &mut Encoder) -> Result<(), SinkError> {
        if let Some(journal) = self.journal.as_mut().filter(|journal| journal.is_live) {
            journal.is_live = false;
            (self.fresh_since, self.unsealed_since) = (None, None);
            self.append_sealed(encoder)?;
        }
        Ok(())
    }

    /// Cuts off everything after the sealed blocks.
    pub(super) fn truncate_journal(&mut self) -> Result<(), SinkError> {
        self.disk.set_len(self.sealed_end).map_err(|error| self.failed("truncate", error))?;
        (self.journal, self.truncation) = (None, TruncationState::AwaitSeal);
        Ok(())
    }
}
