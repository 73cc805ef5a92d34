//! A filesystem on which a store makes mistakes with its files.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pmon_store::simulated::SimulatedFilesystem;
use pmon_store::{
    DirectoryState, Disk, FileEntry, Filesystem, SegmentName, StoreLock, StoredFile, SyncRunner, SyncWork,
};

use super::crash::lock;
use super::mistake::Mistake;

/// Last bytes of a finished capture.
const TRAILER_MAGIC: &[u8] = b"pmon-end";

/// Returns a filesystem on which a store makes a mistake with its files, if that is one of them.
pub(super) fn mistaken(fs: &SimulatedFilesystem, mistake: Option<Mistake>) -> Arc<dyn Filesystem> {
    match mistake {
        Some(mistake @ (Mistake::RemovesNewest | Mistake::RenamesBeforeSync)) => {
            Arc::new(MistakenFilesystem { fs: fs.clone(), mistake, unsynced: Arc::default() })
        }
        _ => Arc::new(fs.clone()),
    }
}

/// The files of which a sync was left out, by their names.
type UnsyncedFiles = Arc<Mutex<BTreeMap<String, Arc<dyn Disk>>>>;

struct MistakenFilesystem {
    fs: SimulatedFilesystem,
    mistake: Mistake,
    unsynced: UnsyncedFiles,
}

impl MistakenFilesystem {
    fn disk(&self, name: &str, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        match self.mistake {
            Mistake::RenamesBeforeSync => Arc::new(LateDisk {
                disk,
                name: name.into(),
                is_finished: AtomicBool::new(false),
                unsynced: self.unsynced.clone(),
            }),
            _ => disk,
        }
    }
}

impl Filesystem for MistakenFilesystem {
    fn create(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        Ok(self.disk(name, self.fs.create(name)?))
    }

    fn reopen(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        Ok(self.disk(name, self.fs.reopen(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StoredFile>> {
        self.fs.open(name)
    }

    fn list(&self) -> io::Result<Vec<FileEntry>> {
        self.fs.list()
    }

    fn entry(&self, name: &str) -> io::Result<FileEntry> {
        self.fs.entry(name)
    }

    fn directory(&self) -> io::Result<DirectoryState> {
        self.fs.directory()
    }

    fn sync_runner(&self, work: SyncWork) -> io::Result<Box<dyn SyncRunner>> {
        self.fs.sync_runner(work)
    }

    fn new_uuid(&self) -> [u8; 16] {
        self.fs.new_uuid()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.fs.rename(from, to)?;
        let unsynced = lock(&self.unsynced).remove(from);
        unsynced.map_or(Ok(()), |disk| disk.sync())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let is_segment = |name: &String| SegmentName::parse(name).is_some();
        let newest = self.fs.names().into_iter().rfind(is_segment);
        match newest.filter(|_| self.mistake == Mistake::RemovesNewest && is_segment(&name.to_owned())) {
            Some(newest) => self.fs.remove(&newest),
            None => self.fs.remove(name),
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.fs.sync_directory()
    }

    fn available(&self) -> io::Result<u64> {
        self.fs.available()
    }

    fn lock(&self) -> io::Result<Box<dyn StoreLock>> {
        self.fs.lock()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.fs.path(name)
    }
}

/// A file whose last sync happens only after it has its final name.
struct LateDisk {
    disk: Arc<dyn Disk>,
    name: String,
    /// Whether the end of a capture was written.
    is_finished: AtomicBool,
    unsynced: UnsyncedFiles,
}

impl Disk for LateDisk {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.is_finished.store(bytes.ends_with(TRAILER_MAGIC), Ordering::Relaxed);
        self.disk.write_at(bytes, at)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        self.disk.punch_hole(at, len)
    }

    fn sync(&self) -> io::Result<()> {
        if !self.is_finished.load(Ordering::Relaxed) {
            return self.disk.sync();
        }
        lock(&self.unsynced).insert(self.name.clone(), self.disk.clone());
        Ok(())
    }

    fn size_limit(&self) -> Option<u64> {
        self.disk.size_limit()
    }
}
