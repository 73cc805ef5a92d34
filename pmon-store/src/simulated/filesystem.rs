//! The interface of the simulated filesystem to a store.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::directory::Inode;
use super::file::{Contents, SimulatedFile};
use super::state::{FilesystemState, SyncStep, errno};
use super::{Operation, SimulatedFilesystem};
use crate::disk::{DirectoryState, Disk, FileEntry, Filesystem, StoreLock, StoredFile, SyncRunner, SyncWork};

/// Length of a block's trailer, which a reader must not skip with a hole.
const TRAILER: u64 = 24;
/// Bytes that the directory itself takes.
const DIRECTORY_BYTES: u64 = 0;

impl Filesystem for SimulatedFilesystem {
    fn create(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let inode = self.operate(Operation::Create, name, None, |state| {
            state.check_directory()?;
            state.create(name)
        })?;
        Ok(Arc::new(SimulatedDisk::new(self, inode, name)))
    }

    fn reopen(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let inode = self.state().find(name)?;
        Ok(Arc::new(SimulatedDisk::new(self, inode, name)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StoredFile>> {
        let state = self.state();
        let inode = state.find(name)?;
        let file = state.files.get(&inode).cloned().unwrap_or_default();
        Ok(Box::new(SimulatedReader { fs: self.clone(), inode, file, at: 0 }))
    }

    fn list(&self) -> io::Result<Vec<FileEntry>> {
        let state = self.state();
        state.check_directory()?;
        Ok(state.directory.names.keys().filter_map(|name| state.entry(name).ok()).collect())
    }

    fn entry(&self, name: &str) -> io::Result<FileEntry> {
        self.state().entry(name)
    }

    fn directory(&self) -> io::Result<DirectoryState> {
        let state = self.state();
        state.check_directory()?;
        // The number of changes stands for the time of the last one.
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(state.directory.changes());
        Ok(DirectoryState { bytes: DIRECTORY_BYTES, modified })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.operate(Operation::Rename, from, None, |state| {
            state.check_directory()?;
            state.rename(from, to)
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.operate(Operation::Remove, name, None, |state| {
            state.check_directory()?;
            state.remove(name)
        })
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.operate(Operation::SyncDirectory, "", None, |state| {
            state.check_directory()?;
            if state.conditions.has_no_directory_sync {
                return Err(io::ErrorKind::Unsupported.into());
            }
            state.sync_step(SyncStep::Names { changes: state.directory.changes() });
            Ok(())
        })
    }

    fn sync_runner(&self, work: SyncWork) -> io::Result<Box<dyn SyncRunner>> {
        Ok(Box::new(SimulatedSyncs { fs: self.clone(), work, running: None }))
    }

    fn new_uuid(&self) -> [u8; 16] {
        self.state().new_uuid()
    }

    fn available(&self) -> io::Result<u64> {
        let state = self.state();
        state.check_directory()?;
        Ok(state.available())
    }

    fn lock(&self) -> io::Result<Box<dyn StoreLock>> {
        let mut state = self.state();
        state.check_directory()?;
        if std::mem::replace(&mut state.is_locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimulatedLock(self.clone())))
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new("/simulated").join(name)
    }
}

impl FilesystemState {
    fn check_directory(&self) -> io::Result<()> {
        if self.conditions.is_deleted { errno(libc::ENOENT) } else { Ok(()) }
    }

    fn find(&self, name: &str) -> io::Result<Inode> {
        self.check_directory()?;
        self.inode(name)
    }

    fn entry(&self, name: &str) -> io::Result<FileEntry> {
        let inode = self.find(name)?;
        let file = self.files.get(&inode).ok_or(io::ErrorKind::NotFound)?;
        Ok(FileEntry {
            name: name.into(),
            len: file.cached.len,
            allocated: self.allocated(inode),
            modified: SystemTime::UNIX_EPOCH + Duration::from_nanos(file.modified),
        })
    }
}

/// A file that is open for writing.
struct SimulatedDisk {
    fs: SimulatedFilesystem,
    inode: Inode,
    /// Name when it was opened, for the watcher.
    name: String,
}

impl SimulatedDisk {
    fn new(fs: &SimulatedFilesystem, inode: Inode, name: &str) -> Self {
        *fs.state().handles.entry(inode).or_default() += 1;
        Self { fs: fs.clone(), inode, name: name.into() }
    }

    fn change(&self, operation: Operation, change: impl FnOnce(&mut SimulatedFile)) -> io::Result<()> {
        self.fs.operate(operation, &self.name, None, |state| {
            let Some(file) = state.file(self.inode) else { return errno(libc::EBADF) };
            change(file);
            state.update(self.inode);
            Ok(())
        })
    }
}

impl Drop for SimulatedDisk {
    fn drop(&mut self) {
        let mut state = self.fs.state();
        if let Some(handles) = state.handles.get_mut(&self.inode) {
            *handles -= 1;
            if *handles == 0 {
                state.handles.remove(&self.inode);
            }
        }
        state.collect();
    }
}

impl Disk for SimulatedDisk {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let write = Some((self.inode, bytes, at));
        self.fs.operate(Operation::Write, &self.name, write, |state| state.write(self.inode, bytes, at))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Operation::SetLen, |file| file.set_len(len))
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        if self.fs.state().conditions.has_no_punch {
            return errno(libc::EOPNOTSUPP);
        }
        self.change(Operation::PunchHole, |file| file.punch_hole(at, len))
    }

    fn sync(&self) -> io::Result<()> {
        let step = |state: &FilesystemState, is_lost| {
            let changes = state.files.get(&self.inode).map_or(0, |file| file.changes());
            SyncStep::File { inode: self.inode, changes, is_lost }
        };
        let synced = self.fs.operate(Operation::Sync, &self.name, None, |state| {
            let step = step(state, false);
            state.sync_step(step);
            Ok(())
        });
        if synced.is_err() {
            let mut state = self.fs.state();
            let step = step(&state, true);
            state.sync_step(step);
        }
        synced
    }

    fn size_limit(&self) -> Option<u64> {
        self.fs.state().conditions.size_limit
    }
}

/// The work that runs beside the writer, in virtual time.
struct SimulatedSyncs {
    fs: SimulatedFilesystem,
    work: SyncWork,
    /// End and result of the running work; no result if it has not happened yet.
    running: Option<(Duration, Option<io::Result<()>>)>,
}

impl SyncRunner for SimulatedSyncs {
    fn begin(&mut self) {
        let mut state = self.fs.state();
        if state.beginning.is_some() {
            // Other work begins this one, and waits for it.
            let now = state.now;
            drop(state);
            let result = (self.work)();
            self.running = Some((now, Some(result)));
            return;
        }
        if state.conditions.works_late {
            self.running = Some((state.now + state.conditions.sync_takes, None));
            return;
        }
        state.beginning = Some(Vec::new());
        drop(state);
        let result = (self.work)();
        let mut state = self.fs.state();
        let steps = state.beginning.take().unwrap_or_default();
        self.running = Some((state.run(steps), Some(result)));
    }

    fn poll(&mut self) -> Option<io::Result<()>> {
        let now = self.fs.now();
        self.running.take_if(|(end, _)| *end <= now).map(|(_, result)| self.end(result))
    }

    fn wait(&mut self) -> io::Result<()> {
        let Some((end, result)) = self.running.take() else { return Ok(()) };
        let mut state = self.fs.state();
        if state.beginning.is_some() {
            // Other work waits for this one, and not the writer.
            state.end_run(end);
        } else {
            state.set_now(end);
        }
        drop(state);
        self.end(result)
    }
}

impl SimulatedSyncs {
    /// Returns the result of the work, which happens now if it has not happened yet.
    fn end(&mut self, result: Option<io::Result<()>>) -> io::Result<()> {
        result.unwrap_or_else(|| {
            self.fs.state().beginning = Some(Vec::new());
            let result = (self.work)();
            self.fs.state().complete_steps();
            self.fs.state().beginning = None;
            result
        })
    }
}

/// A file that is open for reading.
struct SimulatedReader {
    fs: SimulatedFilesystem,
    inode: Inode,
    /// The file as it was last. A removed file stays like this.
    file: Arc<SimulatedFile>,
    at: u64,
}

impl SimulatedReader {
    fn contents(&mut self) -> &Contents {
        if let Some(file) = self.fs.state().files.get(&self.inode) {
            self.file = file.clone();
        }
        &self.file.cached
    }
}

impl Read for SimulatedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = self.at;
        let bytes = self.contents().read(at, buffer.len());
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}

impl Seek for SimulatedReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.contents().len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl StoredFile for SimulatedReader {
    fn skip_hole(&mut self) -> io::Result<u64> {
        let at = self.at;
        let contents = self.contents();
        let data = contents.next_data(at).unwrap_or(contents.len);
        let to = data.saturating_sub(TRAILER).max(self.at);
        Ok(to - std::mem::replace(&mut self.at, to))
    }
}

/// The lock of a simulated store.
struct SimulatedLock(SimulatedFilesystem);

impl StoreLock for SimulatedLock {
    fn is_held(&self) -> bool {
        !self.0.state().conditions.is_deleted
    }
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.0.state().is_locked = false;
    }
}
