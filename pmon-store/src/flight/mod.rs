//! The memory of a flight recorder.
//!
//! A flight recorder is a [`StoreWriter`](crate::StoreWriter) over a [`MemoryFilesystem`]: segments
//! without a journal, of which the oldest are removed. Nothing is written to a disk until a clip is
//! requested.

mod file;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::StoreOptions;
use crate::disk::{DirectoryState, Disk, FileEntry, Filesystem, StoreLock, StoredFile};
use crate::segment::RetentionLimits;

use file::{MemoryFile, MemoryReader, Usage};

/// Number of segments into which the time of a flight recorder is divided.
const SEGMENTS: u32 = 32;
/// Minimum and maximum age at which a segment in memory ends.
const MIN_SEGMENT: Duration = Duration::from_secs(1);
const MAX_SEGMENT: Duration = Duration::from_secs(10);

/// Returns the options of a store in memory that holds the last `length` in at most `memory` bytes.
///
/// Whole segments are removed, so the recorder keeps one segment more than `length`.
pub fn flight_options(length: Duration, memory: u64) -> StoreOptions {
    let rotate_every = (length / SEGMENTS).clamp(MIN_SEGMENT, MAX_SEGMENT);
    StoreOptions {
        rotate_every,
        limits: RetentionLimits {
            max_use: Some(memory),
            max_age: Some(length + rotate_every),
            keep_free: None,
        },
        journal: false,
        ..StoreOptions::default()
    }
}

/// A directory of files in memory, of bounded size.
///
/// A file takes whole chunks of 64 KiB. A removed file counts until its last reader is gone, so the
/// limit holds for the memory and not for the names.
pub struct MemoryFilesystem {
    usage: Arc<Usage>,
    state: Mutex<DirectoryContents>,
    is_locked: Arc<AtomicBool>,
}

struct DirectoryContents {
    files: BTreeMap<String, Arc<MemoryFile>>,
    modified: SystemTime,
}

impl MemoryFilesystem {
    /// Creates an empty directory whose files take at most `limit` bytes of memory.
    pub fn new(limit: u64) -> Self {
        Self {
            usage: Arc::new(Usage::new(limit)),
            state: Mutex::new(DirectoryContents { files: BTreeMap::new(), modified: SystemTime::now() }),
            is_locked: Arc::default(),
        }
    }

    /// Returns the memory that the files take, in bytes.
    pub fn used(&self) -> u64 {
        self.usage.used()
    }

    fn state(&self) -> MutexGuard<'_, DirectoryContents> {
        // Each change of the map is complete, whatever panics afterwards.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, name: &str) -> io::Result<Arc<MemoryFile>> {
        self.state().files.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Filesystem for MemoryFilesystem {
    fn create(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let mut state = self.state();
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemoryFile::new(self.usage.clone()));
        state.files.insert(name.into(), file.clone());
        state.modified = SystemTime::now();
        Ok(file)
    }

    fn reopen(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        Ok(self.file(name)?)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StoredFile>> {
        Ok(Box::new(MemoryReader::new(self.file(name)?)))
    }

    fn list(&self) -> io::Result<Vec<FileEntry>> {
        Ok(self.state().files.iter().map(|(name, file)| file.entry(name)).collect())
    }

    fn entry(&self, name: &str) -> io::Result<FileEntry> {
        Ok(self.file(name)?.entry(name))
    }

    fn directory(&self) -> io::Result<DirectoryState> {
        Ok(DirectoryState { bytes: 0, modified: self.state().modified })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.files.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.into(), file);
        state.modified = SystemTime::now();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.modified = SystemTime::now();
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn available(&self) -> io::Result<u64> {
        Ok(self.usage.available())
    }

    fn lock(&self) -> io::Result<Box<dyn StoreLock>> {
        if self.is_locked.swap(true, Ordering::AcqRel) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock(self.is_locked.clone())))
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory").join(name)
    }
}

struct MemoryLock(Arc<AtomicBool>);

impl StoreLock for MemoryLock {
    fn is_held(&self) -> bool {
        true
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
