//! A capture in a regular file that can be read after a crash at any moment.
//!
//! ```text
//! header  sealed block*  (hole)  journal: provisional block*
//! ```
//!
//! Sealed blocks are large, for compression. So that a crash loses 100 ms and no more, newer records are appended to the
//! journal, which begins so far behind the sealed blocks that the next one fits between. That one holds the journal's
//! records too: then the journal is cut off. At any moment, one of the two is whole.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pmon_core::capture::{Encoder, MAX_BLOCK};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::StoreError;
use crate::sink::SinkError;

/// Bytes between the sealed blocks and the journal, at the least: the largest block fits, with an index behind it.
const JOURNAL_GAP: u64 = MAX_BLOCK as u64 + (1 << 20);
const PAGE: u64 = 4096;
/// Records wait no longer for the journal than this and one tick.
const JOURNAL: Duration = Duration::from_millis(40);
/// Records wait no longer for a sealed block than this.
const SEAL: Duration = Duration::from_secs(300);
/// What was written is synced this often.
const SYNC: Duration = Duration::from_millis(900);

pub(super) struct Regular {
    file: File,
    path: PathBuf,
    partial: PathBuf,
    force: bool,
    finished: bool,
    /// Bytes of the header and of the sealed blocks.
    sealed_end: u64,
    /// Where the next provisional block goes, if there is a journal.
    journal_end: Option<u64>,
    fresh_since: Option<Instant>,
    unsealed_since: Option<Instant>,
    /// When the oldest bytes not synced yet were seen.
    dirty_since: Option<Instant>,
    dirty: bool,
}

impl Regular {
    pub(super) fn create(path: &Path, encoder: &Encoder, force: bool) -> Result<Self, StoreError> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { action, path, source }
        };
        let exists = |path: &Path| fs::symlink_metadata(path).is_ok();
        if path.is_dir() {
            return Err(failed("write to", path)(io::ErrorKind::IsADirectory.into()));
        }
        if exists(path) && !force {
            return Err(StoreError::Exists { path: path.into() });
        }
        if force && exists(&partial) {
            fs::remove_file(&partial).map_err(failed("replace", &partial))?;
        }
        // `create_new` is O_EXCL: never through a link, never over a file.
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&partial);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Unfinished { path: partial.clone() },
            _ => StoreError::Io { action: "create", path: partial.clone(), source },
        })?;
        let header = encoder.header();
        file.write_all_at(header, 0).map_err(failed("write to", &partial))?;
        file.sync_all().and_then(|()| sync_directory(path)).map_err(failed("sync", &partial))?;
        Ok(Self {
            file,
            path: path.into(),
            partial,
            force,
            finished: false,
            sealed_end: header.len() as u64,
            journal_end: None,
            fresh_since: None,
            unsealed_since: None,
            dirty_since: None,
            dirty: false,
        })
    }

    pub(super) fn current_path(&self) -> &Path {
        if self.finished { &self.path } else { &self.partial }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.sealed_end + self.journal_end.map_or(0, |end| end - self.journal_start())
    }

    fn journal_start(&self) -> u64 {
        (self.sealed_end + JOURNAL_GAP).next_multiple_of(PAGE)
    }

    pub(super) fn tick(&mut self, encoder: &mut Encoder, now: Instant) -> Result<(), SinkError> {
        if encoder.unsealed() > 0 && now.duration_since(*self.unsealed_since.get_or_insert(now)) >= SEAL {
            self.seal(encoder)?;
        }
        if encoder.fresh() > 0 && now.duration_since(*self.fresh_since.get_or_insert(now)) >= JOURNAL {
            self.journal(encoder)?;
        }
        if self.dirty && now.duration_since(*self.dirty_since.get_or_insert(now)) >= SYNC {
            self.sync()?;
        }
        Ok(())
    }

    /// Writes the block of all records since the last one, and drops the journal.
    pub(super) fn seal(&mut self, encoder: &mut Encoder) -> Result<(), SinkError> {
        (self.fresh_since, self.unsealed_since) = (None, None);
        self.append(encoder.seal())?;
        if self.journal_end.is_some() {
            self.sync()?;
            self.cut()?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, encoder: &mut Encoder) -> Result<(), SinkError> {
        self.seal(encoder)?;
        self.append(encoder.finish())?;
        self.cut()?;
        self.sync()?;
        let flags = if self.force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match renameat_with(CWD, &self.partial, CWD, &self.path, flags).map_err(io::Error::from) {
            Ok(()) => self.finished = true,
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                let path = self.path.display().to_string();
                return Err(SinkError::Exists { path, partial: self.partial.clone(), source });
            }
            Err(source) => return Err(self.failed("rename to", source)),
        }
        sync_directory(&self.path).map_err(|error| self.failed("sync the directory of", error))
    }

    /// Writes the records that are in no block yet behind the journal's last.
    fn journal(&mut self, encoder: &mut Encoder) -> Result<(), SinkError> {
        self.fresh_since = None;
        let at = self.journal_end.unwrap_or_else(|| self.journal_start());
        let block = encoder.provisional();
        self.file.write_all_at(block, at).map_err(|error| self.failed("write to", error))?;
        self.journal_end = Some(at + block.len() as u64);
        self.dirty = true;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        if !bytes.is_empty() {
            self.file.write_all_at(bytes, self.sealed_end).map_err(|error| self.failed("write to", error))?;
            self.sealed_end += bytes.len() as u64;
            self.dirty = true;
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
        (self.dirty, self.dirty_since) = (false, None);
        Ok(())
    }

    fn failed(&self, action: &'static str, source: io::Error) -> SinkError {
        let (path, partial) = (self.path.display().to_string(), Some(self.partial.clone()));
        SinkError::from_io(action, path, partial, source)
    }
}

/// Makes a new name in the directory of `path` safe from power loss.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}
