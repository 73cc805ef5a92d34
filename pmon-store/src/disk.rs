//! The system calls of a store, behind two traits: simulations and memory replace them.
//!
//! [`Filesystem`] is one directory, [`Disk`] is one file in it that is being written. [`Directory`]
//! implements both for a real directory. No implementation reads a clock for its caller.

mod directory;
mod real;
mod sync_thread;

use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use pmon_record::random_uuid;

pub(crate) use directory::LOCK_NAME;
pub use directory::{Directory, RECORDER_NAME, recorder_of_file};
pub(crate) use real::{RealDisk, rename_to_new, supported_directory_sync, supported_file_sync};
pub(crate) use sync_thread::SyncThread;

/// A file that is being written.
///
/// Several threads may call it at once.
pub trait Disk: Send + Sync {
    /// Writes a part of `bytes` at an offset, as `pwrite(2)`, and returns the number of bytes
    /// written.
    ///
    /// # Errors
    /// Those of `pwrite(2)`.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// Writes bytes that the file has already, so that the next sync writes them to the disk. Needs
    /// no room within the limits of a store.
    ///
    /// # Errors
    /// Those of `pwrite(2)`.
    fn rewrite_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.write_at(bytes, at)
    }

    /// Sets the length of the file, as `ftruncate(2)`.
    ///
    /// # Errors
    /// Those of `ftruncate(2)`.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Zeroes a range of bytes without changing the file's length, as `fallocate(2)` with
    /// `FALLOC_FL_PUNCH_HOLE`.
    ///
    /// # Errors
    /// Those of `fallocate(2)`; the caller then writes zeros instead.
    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()>;

    /// Makes all written data and the file's length durable, as `fdatasync(2)`. A filesystem that
    /// cannot do so is no error.
    ///
    /// # Errors
    /// Those of `fdatasync(2)`. An error means that any data written since the last successful call
    /// may be lost. The next call can succeed without them: the kernel takes the pages for written.
    fn sync(&self) -> io::Result<()>;

    /// Returns the maximum size in bytes that this process may give the file (`RLIMIT_FSIZE`);
    /// `None` if there is no limit.
    fn size_limit(&self) -> Option<u64>;
}

/// A file that is being read.
pub trait StoredFile: Read + Seek + Send {
    /// If the position is in a hole, seeks to 24 bytes before the end of the hole, or stays if the
    /// hole is shorter. Returns the number of bytes skipped. This is the function that
    /// [`Reader::open_sparse`](pmon_core::capture::Reader::open_sparse) needs.
    ///
    /// # Errors
    /// Those of `lseek(2)`. A file without support for holes is no error.
    fn skip_hole(&mut self) -> io::Result<u64> {
        Ok(0)
    }
}

/// The steps of a sync. They are repeated for each sync.
pub type SyncWork = Box<dyn FnMut() -> io::Result<()> + Send>;

/// Runs the syncs of a file one after the other while the writer thread continues.
pub trait SyncRunner: Send {
    /// Begins a sync of everything written so far. No sync may be running.
    fn begin(&mut self);

    /// Returns the result of the running sync, if it has ended since.
    fn poll(&mut self) -> Option<io::Result<()>>;

    /// Waits for the running sync.
    ///
    /// # Errors
    /// The error of the sync.
    fn wait(&mut self) -> io::Result<()>;
}

/// A regular file in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// The file's name.
    pub name: String,
    /// Length in bytes (`st_size`).
    pub len: u64,
    /// Allocated bytes (`st_blocks` * 512).
    pub allocated: u64,
    /// Time of the last modification.
    pub modified: SystemTime,
}

impl FileEntry {
    /// Returns the bytes that the file counts for in the limits of a store: the larger one of its
    /// length and its allocated bytes, in whole pages.
    pub fn usage(&self) -> u64 {
        pages(self.len.max(self.allocated))
    }
}

/// The state of a directory itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryState {
    /// Bytes that the directory itself takes.
    pub bytes: u64,
    /// Time at which a name was last added, removed or renamed.
    pub modified: SystemTime,
}

impl DirectoryState {
    /// Returns the bytes that the directory counts for in the limits of a store. One more name may
    /// make it grow by a page.
    pub(crate) fn usage(&self) -> u64 {
        pages(self.bytes) + PAGE
    }
}

/// Unit in which filesystems allocate space.
pub(crate) const PAGE: u64 = 4096;

/// Rounds up to whole pages.
pub(crate) fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE)
}

/// The lock of a store. Dropping it, or the end of the process, releases it.
pub trait StoreLock: Send + Sync {
    /// Returns whether the lock still protects the store: its file was not removed or replaced.
    fn is_held(&self) -> bool;
}

/// Appends to a file.
pub(crate) struct DiskWriter {
    disk: Arc<dyn Disk>,
    at: u64,
}

impl DiskWriter {
    /// Creates a writer that begins at the start of the file.
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, at: 0 }
    }

    /// Returns the number of bytes written.
    pub(crate) fn bytes(&self) -> u64 {
        self.at
    }
}

impl Write for DiskWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.disk.write_at(bytes, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One directory of regular files. Names are single components of a path.
///
/// Several threads may call it at once.
pub trait Filesystem: Send + Sync {
    /// Creates a file, mode 0600. An existing `name` is an error of kind `AlreadyExists`; links are
    /// not followed.
    ///
    /// # Errors
    /// Those of `open(2)`.
    fn create(&self, name: &str) -> io::Result<Arc<dyn Disk>>;

    /// Opens an existing regular file for writing, without truncating it.
    ///
    /// # Errors
    /// Those of `open(2)`.
    fn reopen(&self, name: &str) -> io::Result<Arc<dyn Disk>>;

    /// Opens an existing regular file for reading.
    ///
    /// # Errors
    /// Those of `open(2)`.
    fn open(&self, name: &str) -> io::Result<Box<dyn StoredFile>>;

    /// Returns the regular files, in no particular order. Files that disappear meanwhile, and those
    /// whose names are not UTF-8, are left out.
    ///
    /// # Errors
    /// Those of `opendir(3)` and `stat(2)`.
    fn list(&self) -> io::Result<Vec<FileEntry>>;

    /// Returns the names of the regular files, as [`Filesystem::list`] does, without their sizes. A
    /// real directory makes no system call per file.
    ///
    /// # Errors
    /// Those of `opendir(3)`.
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.list()?.into_iter().map(|entry| entry.name).collect())
    }

    /// Returns one regular file; an error of kind `NotFound` if there is none.
    ///
    /// # Errors
    /// Those of `stat(2)`.
    fn entry(&self, name: &str) -> io::Result<FileEntry>;

    /// Returns the state of the directory itself.
    ///
    /// # Errors
    /// Those of `stat(2)`.
    fn directory(&self) -> io::Result<DirectoryState>;

    /// Returns a runner of syncs that performs `work` for each, on a thread of its own. A
    /// simulation runs them in virtual time.
    ///
    /// # Errors
    /// When the thread cannot be started.
    fn sync_runner(&self, work: SyncWork) -> io::Result<Box<dyn SyncRunner>> {
        Ok(Box::new(SyncThread::new(work)?))
    }

    /// Returns the UUID of a new capture. A simulation returns the same ones in each run.
    fn new_uuid(&self) -> [u8; 16] {
        random_uuid()
    }

    /// Renames a file. An existing `to` is an error of kind `AlreadyExists`.
    ///
    /// # Errors
    /// Those of `rename(2)`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of `unlink(2)`; `NotFound` if another process removed it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names in the directory durable.
    ///
    /// # Errors
    /// Those of `fsync(2)`. `Unsupported` means that the filesystem cannot do this at all.
    fn sync_directory(&self) -> io::Result<()>;

    /// Returns the bytes of the filesystem that are available to this process
    /// (`f_bavail` of `statvfs(3)`).
    ///
    /// # Errors
    /// Those of `statvfs(3)`.
    fn available(&self) -> io::Result<u64>;

    /// Locks the store against other recorders, and creates the directory if it is missing.
    ///
    /// # Errors
    /// `WouldBlock` if another process has the lock, otherwise those of `open(2)` and `mkdir(2)`.
    fn lock(&self) -> io::Result<Box<dyn StoreLock>>;

    /// Returns the process that has the lock, if that is known.
    fn lock_owner(&self) -> Option<u32> {
        None
    }

    /// Returns the path of a file as messages show it; that of the directory if `name` is empty.
    fn path(&self, name: &str) -> PathBuf;
}
