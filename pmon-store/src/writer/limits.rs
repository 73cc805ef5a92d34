//! A store's directory within limits: room is made before each write, so the limits hold at every
//! moment.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pmon_core::capture::{ClockAnchor, Meta};

use super::ledger::{Ledger, PAGE, SealedSegment, is_full, modified, pages};
use crate::disk::{DirectoryState, Disk, FileEntry, Filesystem, StoreLock, StoredFile, SyncRunner, SyncWork};
use crate::file::{PARTIAL, partial};
use crate::segment::{
    RetentionLimits, SegmentFile, SegmentName, StoreListing, is_recorder_file, is_store_file, restricted,
};

/// A directory within the limits of a store.
pub(crate) struct LimitedFilesystem {
    inner: Arc<dyn Filesystem>,
    ledger: Arc<Mutex<Ledger>>,
    machine: StoreMachine,
}

/// The machine whose files a store counts and removes.
#[derive(Clone)]
pub(crate) struct StoreMachine {
    /// Host as it stands in names.
    host: String,
    machine_id: String,
    boot_id: String,
}

impl StoreMachine {
    pub(crate) fn of(meta: &Meta) -> Self {
        let Meta { host, machine_id, boot_id, .. } = meta;
        Self { host: restricted(host), machine_id: machine_id.clone(), boot_id: boot_id.clone() }
    }

    /// Whether this machine recorded a segment. The host's name can change.
    fn recorded(&self, segment: &SegmentFile) -> bool {
        let id = &segment.header.meta.machine_id;
        segment.name.host() == self.host || !id.is_empty() && *id == self.machine_id
    }

    /// Whether a file that is no readable segment belongs to this machine's store.
    fn owns(&self, name: &str) -> bool {
        let is_ours = || name.strip_prefix(&*self.host).is_some_and(|rest| rest.starts_with('-'));
        is_store_file(name) && (is_recorder_file(name) || is_ours())
    }
}

/// The state of a store within its limits.
pub(crate) struct UsageSummary {
    pub(crate) used: u64,
    /// Number of finished segments.
    pub(crate) sealed: usize,
    pub(crate) oldest: Option<String>,
    pub(crate) pruned: u64,
    pub(crate) unsynced_directory: Option<String>,
}

impl LimitedFilesystem {
    /// Counts the files of the store. `earlier` is a listing of it, whose headers are not read
    /// again.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub(crate) fn new(
        inner: Arc<dyn Filesystem>,
        meta: &Meta,
        limits: RetentionLimits,
        earlier: StoreListing,
    ) -> io::Result<Self> {
        let mut ledger = Ledger::new(limits);
        ledger.directory_modified = modified(&*inner);
        let ledger = Arc::new(Mutex::new(ledger));
        let this = Self { inner, ledger, machine: StoreMachine::of(meta) };
        let listing = StoreListing::of(&*this.inner, this.inner.list()?, earlier);
        this.count(&mut this.lock(), listing);
        Ok(this)
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Replaces the limits. [`LimitedFilesystem::enforce`] applies them.
    pub(crate) fn set_limits(&self, limits: RetentionLimits) {
        self.lock().limits = limits;
    }

    /// Adds a segment that has got its final name to those that can be removed.
    pub(crate) fn add_sealed(&self, name: &str, start: ClockAnchor) {
        let mut ledger = self.lock();
        ledger.sealed.retain(|segment| segment.name != partial(name));
        if ledger.sealed.iter().all(|segment| segment.name != name) {
            // Segments end in the order in which they began, unless one fails meanwhile.
            let at =
                ledger.sealed.partition_point(|other| !other.is_this_boot || other.start.mono <= start.mono);
            ledger.sealed.insert(at, SealedSegment { name: name.into(), start, is_this_boot: true });
        }
    }

    /// Announces the start of the current segment.
    pub(crate) fn set_current_start(&self, start: ClockAnchor) {
        self.lock().current_start = Some(start);
    }

    /// Removes segments until `bytes` can be written.
    ///
    /// # Errors
    /// When a limit or the filesystem has no room for them, although no segment is left to remove.
    pub(crate) fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut ledger = self.lock();
        ledger.make_room(&*self.inner, bytes, bytes)?;
        let is_full = |_| io::Error::new(io::ErrorKind::StorageFull, "the filesystem is full");
        ledger.leave_free(&*self.inner, bytes).map_err(is_full)
    }

    /// Removes the segments that the limits do not allow at the time `now`, and counts the files
    /// again if the directory has changed.
    pub(crate) fn enforce(&self, now: ClockAnchor) {
        let mut ledger = self.lock();
        if modified(&*self.inner) != ledger.directory_modified {
            // An error here shows again in the next write.
            let _ = self.recount(&mut ledger);
        }
        ledger.remove_old(&*self.inner, now);
        // Nothing is to be written, so it does not matter whether there is room.
        let _ = ledger.make_room(&*self.inner, 0, 0);
    }

    /// Returns why a segment could not be removed, once.
    pub(crate) fn take_error(&self) -> Option<String> {
        self.lock().last_error.take()
    }

    pub(crate) fn summary(&self) -> UsageSummary {
        let ledger = self.lock();
        UsageSummary {
            used: ledger.used + ledger.directory_bytes,
            sealed: ledger.sealed.len(),
            oldest: ledger.sealed.front().map(|segment| segment.name.clone()),
            pruned: ledger.pruned,
            unsynced_directory: ledger.unsynced_directory.clone(),
        }
    }

    /// Lists the directory, and counts its files. Reads headers only if there is a new segment.
    fn recount(&self, ledger: &mut Ledger) -> io::Result<()> {
        ledger.directory_modified = modified(&*self.inner);
        let entries = self.inner.list()?;
        let counted: HashSet<&str> = ledger.files.values().map(|file| &*file.name).collect();
        let is_new = |name: &str| {
            let stem = name.strip_suffix(PARTIAL).unwrap_or(name);
            SegmentName::parse(stem).is_some() && !counted.contains(name) && !ledger.foreign.contains(name)
        };
        if entries.iter().any(|entry| is_new(&entry.name)) {
            self.count(ledger, StoreListing::of(&*self.inner, entries, StoreListing::default()));
            return Ok(());
        }
        let names: HashSet<&str> = entries.iter().map(|entry| &*entry.name).collect();
        ledger.sealed.retain(|segment| names.contains(&*segment.name));
        let is_counted = |name: &str| counted.contains(name) || self.machine.owns(name);
        let is_ours: Vec<bool> = entries
            .iter()
            .map(|entry| is_counted(&entry.name) && !ledger.foreign.contains(&entry.name))
            .collect();
        let ours = entries.into_iter().zip(is_ours).filter_map(|(entry, is_ours)| is_ours.then_some(entry));
        ledger.count(ours.collect());
        ledger.count_directory(&*self.inner);
        Ok(())
    }

    /// Counts the files of a listing.
    fn count(&self, ledger: &mut Ledger, listing: StoreListing) {
        let is_open = |name: &str| ledger.files.values().any(|file| file.is_open && file.name == name);
        let (mut sealed, mut foreign, mut counted) = (VecDeque::new(), HashSet::new(), Vec::new());
        for segment in listing.segments {
            if !self.machine.recorded(&segment) {
                foreign.insert(segment.entry.name);
                continue;
            }
            // An unfinished segment that this process does not write could not be salvaged.
            if !is_open(&segment.entry.name) {
                sealed.push_back(SealedSegment {
                    name: segment.entry.name.clone(),
                    start: segment.header.meta.start,
                    is_this_boot: segment.header.meta.boot_id == self.machine.boot_id,
                });
            }
            counted.push(segment.entry);
        }
        for entry in listing.others.into_iter().chain(listing.unreadable) {
            match self.machine.owns(&entry.name) {
                true => counted.push(entry),
                false => drop(foreign.insert(entry.name)),
            }
        }
        (ledger.sealed, ledger.foreign) = (sealed, foreign);
        ledger.count(counted);
        ledger.count_directory(&*self.inner);
    }
}

impl Filesystem for LimitedFilesystem {
    fn create(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let mut ledger = self.lock();
        ledger.make_room(&*self.inner, PAGE, PAGE)?;
        let disk = loop {
            match ledger.change(&*self.inner, || self.inner.create(name)) {
                // A filesystem can also run out of inodes.
                Err(error) if is_full(&error) && ledger.prune_oldest(&*self.inner).is_some() => {}
                created => break created?,
            }
        };
        let id = ledger.add(name);
        ledger.count_directory(&*self.inner);
        drop(ledger);
        Ok(Arc::new(LimitedDisk { disk, id, inner: self.inner.clone(), ledger: self.ledger.clone() }))
    }

    fn reopen(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let disk = self.inner.reopen(name)?;
        let mut ledger = self.lock();
        let id = ledger.id_of(name).unwrap_or_else(|| ledger.add(name));
        if let Some(file) = ledger.files.get_mut(&id) {
            file.is_open = true;
        }
        drop(ledger);
        Ok(Arc::new(LimitedDisk { disk, id, inner: self.inner.clone(), ledger: self.ledger.clone() }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StoredFile>> {
        self.inner.open(name)
    }

    fn list(&self) -> io::Result<Vec<FileEntry>> {
        self.inner.list()
    }

    fn entry(&self, name: &str) -> io::Result<FileEntry> {
        self.inner.entry(name)
    }

    fn directory(&self) -> io::Result<DirectoryState> {
        self.inner.directory()
    }

    fn sync_runner(&self, work: SyncWork) -> io::Result<Box<dyn SyncRunner>> {
        self.inner.sync_runner(work)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut ledger = self.lock();
        ledger.change(&*self.inner, || self.inner.rename(from, to))?;
        if let Some(id) = ledger.id_of(from)
            && let Some(file) = ledger.files.get_mut(&id)
        {
            file.name = to.into();
        }
        if let Some(segment) = ledger.sealed.iter_mut().find(|segment| segment.name == from) {
            segment.name = to.into();
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut ledger = self.lock();
        ledger.change(&*self.inner, || self.inner.remove(name))?;
        ledger.forget(name);
        ledger.sealed.retain(|segment| segment.name != name);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let synced = self.inner.sync_directory();
        if let Err(error) = &synced
            && error.kind() == io::ErrorKind::Unsupported
        {
            let path = self.inner.path("");
            let why = format!("the filesystem of {} cannot make names durable: {error}", path.display());
            self.lock().unsynced_directory = Some(why);
        }
        synced
    }

    fn available(&self) -> io::Result<u64> {
        self.inner.available()
    }

    fn lock(&self) -> io::Result<Box<dyn StoreLock>> {
        self.inner.lock()
    }

    fn lock_owner(&self) -> Option<u32> {
        self.inner.lock_owner()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.inner.path(name)
    }
}

/// A file of a store within its limits.
struct LimitedDisk {
    disk: Arc<dyn Disk>,
    id: u64,
    inner: Arc<dyn Filesystem>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Disk for LimitedDisk {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let len = bytes.len() as u64;
        lock(&self.ledger).reserve(&*self.inner, self.id, at + len, len)?;
        loop {
            match self.disk.write_at(bytes, at) {
                Err(error) if is_full(&error) => {
                    if lock(&self.ledger).prune_oldest(&*self.inner).is_none() {
                        return Err(error);
                    }
                }
                written => return written,
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)?;
        let mut ledger = lock(&self.ledger);
        let ledger = &mut *ledger;
        if let Some(file) = ledger.files.get_mut(&self.id) {
            ledger.used = ledger.used - file.bytes + pages(len);
            file.bytes = pages(len);
        }
        Ok(())
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        self.disk.punch_hole(at, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }

    fn size_limit(&self) -> Option<u64> {
        self.disk.size_limit()
    }
}

impl Drop for LimitedDisk {
    fn drop(&mut self) {
        if let Some(file) = lock(&self.ledger).files.get_mut(&self.id) {
            file.is_open = false;
        }
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    // A panic while the lock is held leaves at worst a wrong count, which the next recount repairs.
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
