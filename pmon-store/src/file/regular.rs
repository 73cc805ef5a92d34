//! A capture in a regular file that can be read after a crash at any moment.
//!
//! ```text
//! header  sealed block*  (hole)  journal: provisional block*
//! ```
//!
//! Sealed blocks are large, for compression. To limit the loss in a crash to 100 ms, newer records
//! are appended to the journal, which begins far enough after the sealed blocks that the next ones
//! fit in between. A new sealed block contains the journal's records too; then the journal is cut
//! off. At any moment, one of the two is complete.
//!
//! The journal may be durable while the sealed block that replaces it is not yet. The journal then
//! stays until a sync has succeeded that began after the block was written. New records are
//! appended to it meanwhile, so the writer thread waits for no sync unless the hole is full. No
//! further block is written behind the first one until that sync has succeeded: a power loss could
//! leave the second block intact and the first one torn, and readers would skip the records of the
//! first one in the journal. A full block is held in memory, and its records are in the journal.
//!
//! If a journal is impossible (a small limit on file sizes, a full disk), blocks are sealed as
//! often as it would be written.

mod journal;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pmon_core::capture::Encoder;
use pmon_record::{KeptRecords, SinkError};

use super::claim::ClaimedNames;
use super::names::{CaptureNames, SegmentNames};
use super::sync::Syncer;
use super::{CaptureFileError, CaptureFileOptions, FileParts};
use crate::disk::{Disk, Filesystem, SyncRunner, SyncThread, supported_file_sync};
use journal::{Journal, TruncationState};

/// Maximum time between the reception of a record and its entry in the journal, less one tick.
const JOURNAL_DELAY: Duration = Duration::from_millis(40);
/// Number of records that are sealed at once, because they compress nearly as well as a full block.
const WORTH_SEALING: usize = 2048;
/// Maximum time until a record is in a sealed block.
const SEAL_DELAY: Duration = Duration::from_secs(3600);
/// Age of records that must stay in the journal until their block is durable. Together with
/// [`SYNC_INTERVAL`], it is less than the second that a power loss may cost.
const JOURNAL_KEPT: Duration = Duration::from_millis(250);
/// Time between the starts of two syncs.
const SYNC_INTERVAL: Duration = Duration::from_millis(700);
/// Time between checks of a running sync.
const SYNC_POLL_INTERVAL: Duration = Duration::from_millis(40);

/// A capture in a regular file.
pub(super) struct RegularFile {
    disk: Arc<dyn Disk>,
    pub(super) names: Box<dyn CaptureNames>,
    options: CaptureFileOptions,
    syncer: Syncer,
    /// Bytes of the header.
    header_len: u64,
    /// Bytes of the header and of the sealed blocks.
    sealed_end: u64,
    journal: Option<Journal>,
    truncation: TruncationState,
    /// Sealed blocks that wait for the sync of the one before them. The journal has their records.
    held: Vec<u8>,
    /// Whether no block was lost: each one that the encoder has returned is in the file.
    pub(super) holds_all: bool,
    /// Time until which no journal is written.
    no_journal_until: Option<Instant>,
    /// Time of the last tick or record.
    now: Instant,
    /// Time at or after which the current records were received.
    received_at: Option<Instant>,
    /// Reception time of the oldest record that is in no block.
    fresh_since: Option<Instant>,
    /// Reception time of the oldest record that is in no sealed block.
    unsealed_since: Option<Instant>,
    /// Time at which the oldest bytes that are not synced were written.
    dirty_since: Option<Instant>,
}

impl RegularFile {
    /// Begins a capture in a file at `path`. `parts` wraps the created file.
    pub(super) fn create(
        path: &Path,
        encoder: &Encoder,
        force: bool,
        parts: impl FnOnce(File) -> FileParts,
        operations: Box<dyn super::names::NameOperations>,
        now: Instant,
    ) -> Result<Self, CaptureFileError> {
        let (mut names, file) = ClaimedNames::new(path, force, operations)?;
        // Also syncs the file's mode and owner.
        let synced = supported_file_sync(file.sync_all());
        let FileParts { disk, options } = parts(file);
        let begun = synced
            .and_then(|()| write_all(&*disk, encoder.header(), 0).map_err(|(_, error)| error))
            .and_then(|()| disk.sync())
            .and_then(|()| names.sync_directory())
            .and_then(|()| {
                let disk = disk.clone();
                SyncThread::new(Box::new(move || disk.sync()))
            });
        match begun {
            Ok(thread) => Ok(Self::new(disk, Box::new(names), options, Box::new(thread), encoder, now)),
            Err(source) => {
                let path = names.current().to_owned();
                // The original error is reported. An error here would hide it.
                let _ = names.discard();
                Err(CaptureFileError::Io { action: "begin", path, source })
            }
        }
    }

    /// Begins a capture in a file of a filesystem. The first sync of the sync thread makes its name
    /// durable.
    pub(super) fn create_in(
        filesystem: Arc<dyn Filesystem>,
        name: &str,
        encoder: &Encoder,
        options: CaptureFileOptions,
        now: Instant,
    ) -> Result<Self, CaptureFileError> {
        let (mut names, disk) = SegmentNames::create(filesystem.clone(), name)?;
        let begun = write_all(&*disk, encoder.header(), 0).map_err(|(_, error)| error).and_then(|()| {
            let (disk, mut is_named) = (disk.clone(), false);
            let directory = filesystem.clone();
            filesystem.sync_runner(Box::new(move || {
                disk.sync()?;
                if !is_named {
                    super::names::sync_supported(&*directory)?;
                    is_named = true;
                }
                Ok(())
            }))
        });
        match begun {
            Ok(runner) => {
                let mut this = Self::new(disk, Box::new(names), options, runner, encoder, now);
                this.dirty_since = Some(now);
                Ok(this)
            }
            Err(source) => {
                let path = names.current().to_owned();
                // The original error is reported. An error here would hide it.
                let _ = names.discard();
                Err(CaptureFileError::Io { action: "begin", path, source })
            }
        }
    }

    fn new(
        disk: Arc<dyn Disk>,
        names: Box<dyn CaptureNames>,
        options: CaptureFileOptions,
        runner: Box<dyn SyncRunner>,
        encoder: &Encoder,
        now: Instant,
    ) -> Self {
        Self {
            disk,
            names,
            options,
            syncer: Syncer::new(runner, now),
            header_len: encoder.header().len() as u64,
            sealed_end: encoder.header().len() as u64,
            journal: None,
            truncation: TruncationState::AwaitSeal,
            held: Vec::new(),
            holds_all: true,
            no_journal_until: None,
            now,
            received_at: None,
            fresh_since: None,
            unsealed_since: None,
            dirty_since: None,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.sealed_end + self.journal.as_ref().map_or(0, |journal| journal.end - journal.start)
    }

    pub(super) fn size_limit(&self) -> Option<u64> {
        self.disk.size_limit()
    }

    /// Announces that the next records were received at `time` or later.
    pub(super) fn received_at(&mut self, time: Instant) {
        self.received_at = Some(time);
        self.now = self.now.max(time);
    }

    /// Records that the encoder has received a record.
    pub(super) fn note_record(&mut self) {
        if self.fresh_since.is_none() {
            let now = self.received_at.unwrap_or(self.now);
            self.fresh_since = Some(now);
            self.unsealed_since.get_or_insert(now);
        }
    }

    /// Performs the steps that are due. Returns the time of the next one.
    pub(super) fn tick(&mut self, encoder: &mut Encoder, now: Instant) -> Result<Option<Instant>, SinkError> {
        self.now = self.now.max(now);
        let is_due = |since: Option<Instant>, after| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= after)
        };
        let has_synced = self.syncer.poll().map_err(|error| self.unsynced(error))?;
        if has_synced && self.truncation == TruncationState::AwaitSync {
            self.seal_live(encoder)?;
            self.truncate_journal()?;
        }
        if is_due(self.unsealed_since, SEAL_DELAY) {
            self.seal(encoder)?;
        }
        if is_due(self.fresh_since, JOURNAL_DELAY) {
            if encoder.pending() < WORTH_SEALING || self.truncation != TruncationState::AwaitSeal {
                self.append_to_journal(encoder, now)?
            } else {
                self.seal(encoder)?
            }
        }
        if !self.syncer.is_busy()
            && (self.truncation == TruncationState::BeginSync || is_due(self.dirty_since, SYNC_INTERVAL))
        {
            self.begin_sync();
        }
        let due = [
            (self.unsealed_since, SEAL_DELAY),
            (self.fresh_since, JOURNAL_DELAY),
            (self.dirty_since, SYNC_INTERVAL),
        ];
        let due = due.into_iter().filter_map(|(since, after)| Some(since? + after));
        Ok(due.chain(self.syncer.is_busy().then(|| now + SYNC_POLL_INTERVAL)).min())
    }

    /// Writes a block of all records since the last one, and cuts off the journal, or marks it to
    /// wait for a sync.
    pub(super) fn seal(&mut self, encoder: &mut Encoder) -> Result<(), SinkError> {
        if self.truncation != TruncationState::AwaitSeal && self.hold(encoder) {
            return Ok(());
        }
        self.await_seal()?;
        self.fresh_since = None;
        // A power loss may lose the records of the last second. Older ones must stay in the journal
        // until the block is durable.
        let is_old = self.unsealed_since.take();
        let is_old = is_old.is_some_and(|since| self.now.saturating_duration_since(since) >= JOURNAL_KEPT);
        self.append_sealed(encoder)?;
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.is_live = false;
        if !is_old {
            return self.truncate_journal();
        }
        self.truncation = TruncationState::BeginSync;
        if !self.syncer.is_busy() {
            self.begin_sync();
        }
        Ok(())
    }

    /// Appends the blocks that were held, and one of all records since then.
    ///
    /// A power loss can leave one of them torn and a later one intact; readers then skip the
    /// records of the torn one in the journal. All of them were received after the block that the
    /// last sync made durable, so this loses no record that is older than promised.
    fn append_sealed(&mut self, encoder: &mut Encoder) -> Result<(), SinkError> {
        if self.held.is_empty() {
            return self.append(encoder.seal());
        }
        let mut blocks = std::mem::take(&mut self.held);
        blocks.extend_from_slice(encoder.seal());
        self.append(&blocks)
    }

    /// Waits until the last sealed block is durable, if the journal has its records.
    fn await_seal(&mut self) -> Result<(), SinkError> {
        match self.truncation {
            TruncationState::AwaitSeal => return Ok(()),
            TruncationState::BeginSync => self.sync()?,
            TruncationState::AwaitSync => self.syncer.wait().map_err(|error| self.unsynced(error))?,
        }
        self.truncation = TruncationState::AwaitSeal;
        Ok(())
    }

    /// Seals the remaining records, writes the index, and gives the file its name once everything
    /// is synced.
    pub(super) fn finish(&mut self, encoder: &mut Encoder) -> Result<(), SinkError> {
        self.await_seal()?;
        self.fresh_since = None;
        self.append_sealed(encoder)?;
        let end = self.sealed_end;
        if let Err(error) = self.close(encoder) {
            // Data that may not be on the disk must not read as ended cleanly.
            let written = self.sealed_end - end;
            self.sealed_end = end;
            self.remove_incomplete(written);
            return Err(error);
        }
        self.names.publish()
    }

    /// Writes the index and the trailer, and syncs everything.
    ///
    /// The sealed blocks are durable before the index is written. Otherwise, a power loss could
    /// leave the index intact and the last block torn, and readers would skip the journal.
    fn close(&mut self, encoder: &mut Encoder) -> Result<(), SinkError> {
        if self.journal.is_some() {
            self.sync()?;
            self.truncate_journal()?;
        }
        self.append(encoder.finish())?;
        self.sync()
    }

    /// Appends bytes to the sealed blocks.
    fn append(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let is_copied =
            self.journal.as_ref().is_some_and(|journal| !journal.leaves_room(self.sealed_end, bytes));
        if is_copied {
            self.copy_to_journal(bytes)?;
        }
        if let Err((written, error)) = write_all(&*self.disk, bytes, self.sealed_end) {
            self.holds_all = is_copied;
            self.remove_incomplete(written as u64);
            return Err(self.failed("write to", error));
        }
        self.sealed_end += bytes.len() as u64;
        self.dirty_since.get_or_insert(self.now);
        Ok(())
    }

    /// Removes an incomplete block after the sealed ones, so the capture ends with whole blocks.
    fn remove_incomplete(&self, written: u64) {
        // The original error is reported already. If this fails as well, readers skip the
        // incomplete block.
        let _ = match &self.journal {
            None => self.disk.set_len(self.sealed_end),
            Some(_) => self.disk.punch_hole(self.sealed_end, written).or_else(|_| {
                write_all(&*self.disk, &vec![0; written as usize], self.sealed_end)
                    .map_err(|(_, error)| error)
            }),
        };
    }

    /// Begins a sync on the sync thread.
    fn begin_sync(&mut self) {
        if self.truncation == TruncationState::BeginSync {
            self.truncation = TruncationState::AwaitSync;
        }
        self.dirty_since = None;
        self.syncer.begin(self.now);
    }

    /// Syncs everything written so far, and waits for the result.
    fn sync(&mut self) -> Result<(), SinkError> {
        let synced = self.syncer.wait().and_then(|()| {
            self.syncer.begin(self.now);
            self.syncer.wait()
        });
        synced.map_err(|error| self.unsynced(error))?;
        self.dirty_since = None;
        Ok(())
    }

    fn failed(&self, action: &'static str, source: io::Error) -> SinkError {
        let has_records = self.sealed_end > self.header_len || self.journal.is_some();
        let kept = if has_records { KeptRecords::In(self.names.current().into()) } else { KeptRecords::None };
        SinkError::from_io(action, self.names.shown_path(), kept, source)
    }

    fn unsynced(&self, source: io::Error) -> SinkError {
        let unsafe_for = self.now.saturating_duration_since(self.syncer.safe_until);
        SinkError::Unsynced { partial: self.names.current().into(), unsafe_for, source }
    }
}

/// Writes all of `bytes` at an offset, or returns the number of bytes written and the error.
fn write_all(disk: &dyn Disk, bytes: &[u8], at: u64) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match disk.write_at(&bytes[written..], at + written as u64) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}
