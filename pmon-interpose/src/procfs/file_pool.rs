//! Files that are written and opened for the tracee, and reused as soon as no process has them open
//! any more.
//!
//! Most programs open a file in `/proc`, read it, and close it. Writing an existing file takes a
//! quarter of the time of creating and removing one.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, ftruncate, mkdirat, openat, statat};
use rustix::io::{Errno, pwrite};
use rustix::path::DecInt;

use crate::sys;

/// Maximum number of files. A tracee that has more files open gets the others by their paths.
const MAX_FILES: u32 = 16;
/// The directory of the files in the tracee's `/proc`.
const DIRECTORY: &str = ".files";

/// What a file of the pool shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PooledEntry {
    pub(crate) id: u32,
    /// Path in the directory of the task `id`.
    pub(crate) path: String,
    /// [`TaskInfo::version`](crate::TaskInfo::version) of the content.
    pub(crate) version: u64,
    /// Owner of the task's files: user and group id.
    pub(crate) owner: (u32, u32),
}

/// The files, which the tracee finds at no path of its own.
pub(crate) struct FilePool {
    /// The directory on the supervisor's mount, which is writable.
    writable: OwnedFd,
    /// The directory on the tracee's mount, which is read-only; `None` before the first use.
    readable: Option<OwnedFd>,
    files: Vec<PooledFile>,
    /// Index of the file that was used last.
    last: usize,
    is_available: bool,
}

struct PooledFile {
    writer: OwnedFd,
    inode: u64,
    len: u64,
    /// The content; `None` while it is being replaced.
    entry: Option<PooledEntry>,
}

impl FilePool {
    /// Creates the directory of the pool in the tracee's `/proc`.
    pub(super) fn new(root: &OwnedFd) -> Result<Self, Errno> {
        mkdirat(root, DIRECTORY, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let writable = openat(root, DIRECTORY, flags, Mode::empty())?;
        Ok(Self { writable, readable: None, files: Vec::new(), last: 0, is_available: true })
    }

    /// Returns the content of the file with this inode number.
    pub(crate) fn entry(&self, inode: u64) -> Option<&PooledEntry> {
        self.files.iter().find(|file| file.inode == inode)?.entry.as_ref()
    }

    /// Opens a file that shows `entry`, for a task. Calls `generate` unless a file shows it
    /// already. Returns `None` if `generate` does, if too many files are open, or if the system
    /// does not support it.
    pub(super) fn open(
        &mut self,
        task: u32,
        entry: PooledEntry,
        flags: OFlags,
        generate: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Option<OwnedFd> {
        if !self.is_available {
            return None;
        }
        if self.readable.is_none() {
            self.readable = self.open_readable(&format!("/proc/{task}/root/proc/{DIRECTORY}"));
            self.is_available = self.readable.is_some();
        }
        let index = match self.files.iter().position(|file| file.entry.as_ref() == Some(&entry)) {
            Some(index) => index,
            None => {
                let index = self.unused()?;
                let content = generate()?;
                let file = &mut self.files[index];
                file.entry = None;
                file.replace(&content).ok()?;
                file.entry = Some(entry);
                index
            }
        };
        self.last = index;
        let readable = self.readable.as_ref()?;
        openat(readable, DecInt::new(index), flags | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    /// Opens the directory on the tracee's mount, if it is the same directory.
    fn open_readable(&self, path: &str) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = openat(CWD, path, flags, Mode::empty()).ok()?;
        let file = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
        (file(&readable).ok()? == file(&self.writable).ok()?).then_some(readable)
    }

    /// Returns the index of a file that no process has open; creates one if there is none.
    fn unused(&mut self) -> Option<usize> {
        let count = self.files.len();
        let in_order = (0..count).map(|at| (self.last + at) % count);
        let unused =
            in_order.into_iter().find(|&index| sys::has_no_other_user(self.files[index].writer.as_fd()));
        if unused.is_some() || count >= MAX_FILES as usize {
            return unused;
        }
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let writer = openat(&self.writable, DecInt::new(count), flags, Mode::from_raw_mode(0o644)).ok()?;
        let inode = statat(&self.writable, DecInt::new(count), AtFlags::SYMLINK_NOFOLLOW).ok()?.st_ino;
        self.files.push(PooledFile { writer, inode, len: 0, entry: None });
        Some(count)
    }
}

impl PooledFile {
    fn replace(&mut self, content: &[u8]) -> Result<(), Errno> {
        let len = content.len() as u64;
        if len < self.len {
            ftruncate(&self.writer, len)?;
        }
        self.len = len;
        let mut written = 0;
        while written < content.len() {
            written += pwrite(&self.writer, &content[written..], written as u64)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read as _;
    use std::path::{Path, PathBuf};
    use std::process;

    use super::*;

    /// Creates a pool in a directory with this name, which the caller removes.
    fn pool(name: &str) -> (PathBuf, FilePool) {
        let parent = if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
        let dir = parent.join(format!("pmon-{name}-{}", process::id()));
        fs::create_dir(&dir).unwrap();
        let root = openat(CWD, &dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mut pool = FilePool::new(&root).unwrap();
        pool.readable = pool.open_readable(dir.join(DIRECTORY).to_str().unwrap());
        (dir, pool)
    }

    fn open(pool: &mut FilePool, id: u32, content: &str) -> Option<OwnedFd> {
        let entry = PooledEntry { id, path: "comm".into(), version: 1, owner: (0, 0) };
        pool.open(process::id(), entry, OFlags::RDONLY, || Some(content.into()))
    }

    fn content(fd: OwnedFd) -> String {
        let mut content = String::new();
        File::from(fd).read_to_string(&mut content).unwrap();
        content
    }

    #[test]
    fn a_file_is_reused_only_after_it_was_closed() {
        let (dir, mut pool) = pool("reused");
        let first = open(&mut pool, 7, "first").unwrap();
        let second = open(&mut pool, 8, "a longer second").unwrap();
        assert_eq!(pool.files.len(), 2);
        let inode = fstat(&second).unwrap().st_ino;
        assert_eq!(pool.entry(inode).unwrap().id, 8);
        assert_eq!(content(second), "a longer second");
        let third = open(&mut pool, 9, "third").unwrap();
        assert_eq!((pool.files.len(), pool.entry(inode).unwrap().id), (2, 9));
        assert_eq!([content(first), content(third)], ["first", "third"]);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn equal_entries_share_a_file_and_not_a_position() {
        let (dir, mut pool) = pool("shared");
        let first = open(&mut pool, 7, "content").unwrap();
        let second = open(&mut pool, 7, "must not be generated").unwrap();
        assert_eq!([content(first), content(second)], ["content", "content"]);
        assert_eq!(pool.files.len(), 1);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_limited_number_of_files_is_open_at_a_time() {
        let (dir, mut pool) = pool("limited");
        let mut opened: Vec<_> = (0..MAX_FILES).map(|id| open(&mut pool, id, "x").unwrap()).collect();
        assert!(open(&mut pool, MAX_FILES, "x").is_none());
        opened.remove(5);
        assert!(open(&mut pool, MAX_FILES, "x").is_some());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_shows_no_rest_of_its_earlier_content() {
        let (dir, mut pool) = pool("rest");
        for (id, text) in [(1, "long content"), (2, "short"), (3, ""), (4, "longer content")] {
            let file = open(&mut pool, id, text).unwrap();
            assert_eq!(content(file), text);
        }
        assert_eq!(pool.files.len(), 1);
        fs::remove_dir_all(dir).unwrap();
    }
}
