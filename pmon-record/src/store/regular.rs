//! A capture in a regular file that can be read after a crash at any moment.
//!
//! ```text
//! header  sealed block*  (hole)  journal: provisional block*
//! ```
//!
//! Sealed blocks are large, for compression. So that a crash loses 100 ms and no more, newer records are appended to the
//! journal, which begins so far behind the sealed blocks that the next one fits between. That one holds the journal's
//! records too: then the journal is cut off. At any moment, one of the two is whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use pmon_core::capture::{Encoder, MAX_BLOCK};

use super::StoreError;
use super::claim::Claim;
use super::sync::Syncer;
use crate::sink::SinkError;

/// Bytes between the sealed blocks and the journal, at the least: the largest block fits, with an index behind it.
const JOURNAL_GAP: u64 = MAX_BLOCK as u64 + (1 << 20);
const PAGE: u64 = 4096;
/// Records wait no longer for the journal than this and one tick, since they were taken from the source,
const JOURNAL: Duration = Duration::from_millis(40);
/// unless there are so many that a sealed block of them compresses nearly as well as a larger one, and spares the journal.
const WORTH_SEALING: usize = 2048;
/// Records wait no longer for a sealed block than this.
const SEAL: Duration = Duration::from_secs(3600);
/// What was written is synced this often.
const SYNC: Duration = Duration::from_millis(700);

pub(super) struct Regular {
    file: File,
    claim: Claim,
    syncer: Syncer,
    /// Bytes of the header and of the sealed blocks.
    sealed_end: u64,
    /// Where the next provisional block goes, if there is a journal.
    journal_end: Option<u64>,
    /// When the records that come now were taken from the source, at the earliest.
    taken_at: Option<Instant>,
    fresh_since: Option<Instant>,
    unsealed_since: Option<Instant>,
    /// When the oldest bytes not synced yet were written.
    dirty_since: Option<Instant>,
}

impl Regular {
    pub(super) fn create(path: &Path, encoder: &Encoder, force: bool) -> Result<Self, StoreError> {
        let (mut claim, file) = Claim::new(path, force)?;
        let begun = file
            .write_all_at(encoder.header(), 0)
            .and_then(|()| file.sync_all())
            .and_then(|()| claim.sync_directory())
            .and_then(|()| Syncer::new(&file));
        let syncer = begun.map_err(|source| {
            let path = claim.current().to_owned();
            // What is to be said is why it failed.
            let _ = claim.withdraw();
            StoreError::Io { action: "begin", path, source }
        })?;
        Ok(Self {
            file,
            claim,
            syncer,
            sealed_end: encoder.header().len() as u64,
            journal_end: None,
            taken_at: None,
            fresh_since: None,
            unsealed_since: None,
            dirty_since: None,
        })
    }

    pub(super) fn current_path(&self) -> &Path {
        self.claim.current()
    }

    pub(super) fn discard(&mut self) -> io::Result<()> {
        self.claim.withdraw()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.sealed_end + self.journal_end.map_or(0, |end| end - self.journal_start())
    }

    fn journal_start(&self) -> u64 {
        (self.sealed_end + JOURNAL_GAP).next_multiple_of(PAGE)
    }

    /// The records that come from now on were taken from the source then, at the earliest.
    pub(super) fn taken_at(&mut self, time: Instant) {
        self.taken_at = Some(time);
    }

    /// A record has come.
    pub(super) fn recorded(&mut self) {
        if self.fresh_since.is_none() {
            let now = self.taken_at.unwrap_or_else(Instant::now);
            self.fresh_since = Some(now);
            self.unsealed_since.get_or_insert(now);
        }
    }

    /// Does what is due, and says when the next thing will be.
    pub(super) fn tick(&mut self, encoder: &mut Encoder, now: Instant) -> Result<Option<Instant>, SinkError> {
        let is_due = |since: Option<Instant>, after| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= after)
        };
        if is_due(self.unsealed_since, SEAL) {
            self.seal(encoder)?;
        }
        if is_due(self.fresh_since, JOURNAL) {
            if encoder.fresh() < WORTH_SEALING { self.journal(encoder)? } else { self.seal(encoder)? }
        }
        let is_syncing = self.syncer.is_busy().map_err(|error| self.failed("sync", error))?;
        if !is_syncing && is_due(self.dirty_since, SYNC) {
            self.dirty_since = None;
            self.syncer.begin();
        }
        let due = [(self.unsealed_since, SEAL), (self.fresh_since, JOURNAL), (self.dirty_since, SYNC)];
        Ok(due.into_iter().filter_map(|(since, after)| Some(since? + after)).min())
    }

    /// Writes the block of all records since the last one, and drops the journal.
    pub(super) fn seal(&mut self, encoder: &mut Encoder) -> Result<(), SinkError> {
        self.fresh_since = None;
        // What came within the last second, a power loss may cost. What is older is safe in the journal, until the block is.
        let is_old = self.unsealed_since.take().is_some_and(|since| since.elapsed() >= SYNC);
        self.append(encoder.seal())?;
        if self.journal_end.is_some() {
            if is_old {
                self.sync()?;
            }
            self.cut()?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, encoder: &mut Encoder) -> Result<(), SinkError> {
        self.seal(encoder)?;
        self.append(encoder.finish())?;
        self.cut()?;
        self.sync()?;
        match self.claim.publish() {
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                let path = self.claim.path().display().to_string();
                Err(SinkError::Exists { path, partial: self.claim.current().into(), source })
            }
            published => published.map_err(|error| self.failed("rename to", error)),
        }
    }

    /// Writes the records that are in no block yet behind the journal's last.
    fn journal(&mut self, encoder: &mut Encoder) -> Result<(), SinkError> {
        self.fresh_since = None;
        let at = self.journal_end.unwrap_or_else(|| self.journal_start());
        let block = encoder.provisional();
        self.file.write_all_at(block, at).map_err(|error| self.failed("write to", error))?;
        self.journal_end = Some(at + block.len() as u64);
        self.dirty_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        if !bytes.is_empty() {
            self.file.write_all_at(bytes, self.sealed_end).map_err(|error| self.failed("write to", error))?;
            self.sealed_end += bytes.len() as u64;
            self.dirty_since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// Cuts off what is behind the sealed blocks.
    fn cut(&mut self) -> Result<(), SinkError> {
        self.file.set_len(self.sealed_end).map_err(|error| self.failed("truncate", error))?;
        self.journal_end = None;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SinkError> {
        self.file.sync_data().map_err(|error| self.failed("sync", error))?;
        self.dirty_since = None;
        Ok(())
    }

    fn failed(&self, action: &'static str, source: io::Error) -> SinkError {
        let (path, partial) = (self.claim.path().display().to_string(), Some(self.claim.current().into()));
        SinkError::from_io(action, path, partial, source)
    }
}
