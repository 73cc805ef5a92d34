//! A real directory.

use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::statvfs;

use super::{
    DirectoryState, Disk, FileEntry, Filesystem, RealDisk, StoreLock, StoredFile, rename_to_new,
    supported_directory_sync,
};

/// Name of the file whose lock protects a store. It contains the process id of the recorder.
pub(crate) const LOCK_NAME: &str = ".lock";
/// Name of the file that identifies the socket of a store's last recorder.
pub const RECORDER_NAME: &str = ".recorder";

/// A real directory, by its path.
///
/// Each call resolves the path, so a directory that was replaced meanwhile is used from then on.
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Returns the directory at `path`, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns the regular files whose names are UTF-8.
    fn files(&self) -> io::Result<Vec<(String, DirEntry)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // The file type costs no system call on most filesystems.
            if entry.file_type().is_ok_and(|kind| kind.is_file())
                && let Ok(name) = entry.file_name().into_string()
            {
                files.push((name, entry));
            }
        }
        Ok(files)
    }
}

impl Filesystem for Directory {
    fn create(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        // `create_new` is O_EXCL: it neither follows a link nor replaces a file.
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.at(name))?;
        Ok(Arc::new(RealDisk(opened)))
    }

    fn reopen(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(RealDisk(open_regular(OpenOptions::new().write(true), &self.at(name))?)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StoredFile>> {
        Ok(Box::new(open_regular(OpenOptions::new().read(true), &self.at(name))?))
    }

    fn list(&self) -> io::Result<Vec<FileEntry>> {
        let mut entries = Vec::new();
        for (name, entry) in self.files()? {
            if let Ok(meta) = entry.metadata() {
                entries.extend(file_entry(name, &meta));
            }
        }
        Ok(entries)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.files()?.into_iter().map(|(name, _)| name).collect())
    }

    fn entry(&self, name: &str) -> io::Result<FileEntry> {
        let meta = fs::symlink_metadata(self.at(name))?;
        file_entry(name.into(), &meta).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn directory(&self) -> io::Result<DirectoryState> {
        let meta = fs::metadata(&self.path)?;
        let bytes = meta.size().max(meta.blocks() * 512);
        Ok(DirectoryState { bytes, modified: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH) })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        rename_to_new(&self.at(from), &self.at(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.at(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        match File::open(&self.path).and_then(|directory| directory.sync_all()) {
            // Files may be created in a directory that is not readable.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            Err(error) => {
                supported_directory_sync(Err(error))?;
                Err(io::ErrorKind::Unsupported.into())
            }
            Ok(()) => Ok(()),
        }
    }

    fn available(&self) -> io::Result<u64> {
        let state = statvfs(&self.path)?;
        Ok(state.f_bavail.saturating_mul(state.f_frsize))
    }

    fn lock(&self) -> io::Result<Box<dyn StoreLock>> {
        if !self.path.is_dir() {
            DirBuilder::new().mode(0o700).create(&self.path)?;
        }
        let path = self.at(LOCK_NAME);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        let mut file = opened?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) if is_unsupported(&error) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let lock = FileLock { path, identity: identity(&file.metadata()?), file: file.try_clone()? };
        // The process id is for messages only. A full disk must not prevent the recorder from
        // starting.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Box::new(lock))
    }

    fn lock_owner(&self) -> Option<u32> {
        let mut text = String::new();
        let file = open_regular(OpenOptions::new().read(true), &self.at(LOCK_NAME)).ok()?;
        file.take(32).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.at(name) }
    }
}

impl Directory {
    /// Returns the process that is recording into the store, if it has the lock and is in the PID
    /// namespace of this process.
    ///
    /// Does not take the lock, because that could refuse a recorder that is starting.
    pub fn recorder(&self) -> Option<u32> {
        let lock = fs::symlink_metadata(self.at(LOCK_NAME)).ok()?;
        let owner = self.lock_owner();
        holder(|entry| {
            let is_device = entry.device == (libc::major(lock.dev()), libc::minor(lock.dev()));
            // Some filesystems show another device there.
            entry.inode == lock.ino() && (is_device || owner == Some(entry.pid))
        })
    }
}

/// Returns the process that is recording into a capture of its own, if it is in the PID namespace
/// of this process.
///
/// Some filesystems show another device in `/proc/locks`, so this may be a process that has locked
/// a file with the same number on another filesystem.
pub fn recorder_of_file(path: &Path) -> Option<u32> {
    let inode = fs::metadata(path).ok()?.ino();
    holder(|entry| entry.inode == inode)
}

/// Returns the process of the first lock that meets a condition.
fn holder(is_wanted: impl Fn(&FileLockEntry) -> bool) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().filter_map(FileLockEntry::parse).find(is_wanted).map(|entry| entry.pid)
}

/// A lock of `flock(2)` in `/proc/locks` (`proc_locks(5)`).
struct FileLockEntry {
    pid: u32,
    device: (u32, u32),
    inode: u64,
}

impl FileLockEntry {
    /// Parses `1: FLOCK  ADVISORY  WRITE 700 fe:00:131 0 EOF`.
    fn parse(line: &str) -> Option<Self> {
        // A process that waits for a lock has `->` before the kind.
        let mut fields = line.split_whitespace().skip(1);
        let (kind, _, _) = (fields.next()?, fields.next()?, fields.next()?);
        let (pid, file) = (fields.next()?.parse().ok()?, fields.next()?);
        let mut parts = file.split(':');
        let mut device = || u32::from_str_radix(parts.next()?, 16).ok();
        let device = (device()?, device()?);
        let inode = parts.next()?.parse().ok()?;
        (kind == "FLOCK").then_some(Self { pid, device, inode })
    }
}

/// The lock of a store in a real directory.
struct FileLock {
    path: PathBuf,
    identity: (u64, u64),
    file: File,
}

impl StoreLock for FileLock {
    fn is_held(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|meta| identity(&meta) == self.identity)
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // A process that was forked meanwhile may have a copy of the descriptor.
        let _ = self.file.unlock();
    }
}

/// Returns the device and the inode of a file.
fn identity(meta: &fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// Whether a filesystem has no locks. Only the names of its files then protect a store.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOLCK))
}

/// Opens a regular file without waiting for the reader or writer of a FIFO.
fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

fn file_entry(name: String, meta: &fs::Metadata) -> Option<FileEntry> {
    meta.is_file().then(|| FileEntry {
        name,
        len: meta.len(),
        allocated: meta.blocks() * 512,
        modified: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_of_a_store_is_refused_and_names_the_first_process() {
        let directory = tempfile::tempdir().unwrap();
        let store = Directory::new(directory.path().join("new"));
        let lock = store.lock().unwrap();
        let refused = Directory::new(store.path("")).lock().err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(store.lock_owner(), Some(std::process::id()));
        assert!(lock.is_held());
        assert_eq!(store.recorder(), Some(std::process::id()));
        fs::remove_file(store.path(LOCK_NAME)).unwrap();
        assert!(!lock.is_held());
        drop(lock);
        drop(store.lock().unwrap());
        // The file of a recorder that has ended names its process still.
        assert_eq!((store.recorder(), store.lock_owner()), (None, Some(std::process::id())));
    }

    #[test]
    fn only_regular_files_are_listed_and_opened() {
        let directory = tempfile::tempdir().unwrap();
        let store = Directory::new(directory.path());
        store.create("a").unwrap().write_at(b"abc", 0).unwrap();
        fs::create_dir(store.path("b")).unwrap();
        std::os::unix::fs::symlink(store.path("a"), store.path("c")).unwrap();
        let names: Vec<_> = store.list().unwrap().into_iter().map(|entry| (entry.name, entry.len)).collect();
        assert_eq!(names, [("a".to_owned(), 3)]);
        assert_eq!(store.names().unwrap(), ["a"]);
        assert_eq!(store.create("a").err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        for name in ["b", "c", "d"] {
            assert!(store.open(name).is_err() && store.reopen(name).is_err() && store.entry(name).is_err());
        }
    }
}
