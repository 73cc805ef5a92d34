//! A store's directory within limits: room is made before each write, so the limits hold at every
//! moment.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use pmon_core::capture::{ClockAnchor, Meta};

use crate::disk::{DirectoryState, Disk, FileEntry, Filesystem, StoreLock, StoredFile, SyncRunner, SyncWork};
use crate::segment::{
    RetentionLimits, SegmentFile, StoreListing, is_recorder_file, is_store_file, restricted,
};

/// Unit in which filesystems allocate space.
const PAGE: u64 = 4096;

/// A file of the store, as it counts for the limits.
struct CountedFile {
    name: String,
    /// The larger one of the file's length and its allocated bytes, in whole pages.
    bytes: u64,
    /// Whether this process is writing the file.
    is_open: bool,
}

/// A finished segment, which can be removed.
struct SealedSegment {
    name: String,
    start: ClockAnchor,
    is_this_boot: bool,
}

/// What the store takes, and what can be removed.
#[derive(Default)]
struct Ledger {
    limits: RetentionLimits,
    files: BTreeMap<u64, CountedFile>,
    next_id: u64,
    /// Sum of the bytes of all files.
    used: u64,
    directory_bytes: u64,
    directory_modified: Option<SystemTime>,
    /// Finished segments, oldest first.
    sealed: VecDeque<SealedSegment>,
    /// Start of the segment after the sealed ones.
    current_start: Option<ClockAnchor>,
    pruned: u64,
    last_error: Option<String>,
    /// Why the directory cannot be synced.
    unsynced_directory: Option<String>,
}

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
    pub(crate) last_error: Option<String>,
    pub(crate) unsynced_directory: Option<String>,
}

impl LimitedFilesystem {
    /// Counts the files of the store.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub(crate) fn new(inner: Arc<dyn Filesystem>, meta: &Meta, limits: RetentionLimits) -> io::Result<Self> {
        let ledger = Arc::new(Mutex::new(Ledger { limits, ..Ledger::default() }));
        let this = Self { inner, ledger, machine: StoreMachine::of(meta) };
        this.recount(&mut this.lock())?;
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

    /// Returns whether `bytes` can be written; removes segments if necessary.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let mut ledger = self.lock();
        let has_room = ledger.make_room(&*self.inner, bytes, bytes).is_ok();
        has_room && ledger.leave_free(&*self.inner, bytes).is_ok()
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

    pub(crate) fn summary(&self) -> UsageSummary {
        let ledger = self.lock();
        UsageSummary {
            used: ledger.used + ledger.directory_bytes,
            sealed: ledger.sealed.len(),
            oldest: ledger.sealed.front().map(|segment| segment.name.clone()),
            pruned: ledger.pruned,
            last_error: ledger.last_error.clone(),
            unsynced_directory: ledger.unsynced_directory.clone(),
        }
    }

    /// Lists the directory, and counts its files.
    fn recount(&self, ledger: &mut Ledger) -> io::Result<()> {
        ledger.directory_modified = modified(&*self.inner);
        let listing = StoreListing::read(&*self.inner)?;
        let is_open = |name: &str| ledger.files.values().any(|file| file.is_open && file.name == name);
        let mut sealed = VecDeque::new();
        let mut counted = Vec::new();
        for segment in listing.segments.into_iter().filter(|segment| self.machine.recorded(segment)) {
            if !segment.is_partial && !is_open(&segment.entry.name) {
                sealed.push_back(SealedSegment {
                    name: segment.entry.name.clone(),
                    start: segment.header.meta.start,
                    is_this_boot: segment.header.meta.boot_id == self.machine.boot_id,
                });
            }
            counted.push(segment.entry);
        }
        let others = listing.others.into_iter().chain(listing.unreadable);
        counted.extend(others.filter(|entry| self.machine.owns(&entry.name)));
        ledger.sealed = sealed;
        ledger.count(counted);
        ledger.count_directory(&*self.inner);
        Ok(())
    }
}

impl Ledger {
    /// Replaces the counts of all files that this process does not write.
    fn count(&mut self, entries: Vec<FileEntry>) {
        let mut open: BTreeMap<String, (u64, u64)> = self
            .files
            .iter()
            .filter(|(_, file)| file.is_open)
            .map(|(&id, file)| (file.name.clone(), (id, file.bytes)))
            .collect();
        self.files.clear();
        for entry in entries {
            let bytes = pages(entry.usage());
            // Reserved bytes may be written at this moment.
            let (id, bytes, is_open) = match open.remove(&entry.name) {
                Some((id, reserved)) => (id, reserved.max(pages(entry.allocated)), true),
                None => (self.take_id(), bytes, false),
            };
            self.files.insert(id, CountedFile { name: entry.name, bytes, is_open });
        }
        self.used = self.files.values().map(|file| file.bytes).sum();
    }

    fn count_directory(&mut self, inner: &dyn Filesystem) {
        if let Ok(state) = inner.directory() {
            // One more name may make it grow by a page.
            self.directory_bytes = pages(state.bytes) + PAGE;
        }
    }

    /// Changes a name in the directory, without taking this for a change by another process.
    fn change<T>(&mut self, inner: &dyn Filesystem, change: impl FnOnce() -> T) -> T {
        let is_known = modified(inner) == self.directory_modified;
        let result = change();
        if is_known {
            self.directory_modified = modified(inner);
        }
        result
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn id_of(&self, name: &str) -> Option<u64> {
        self.files.iter().find(|(_, file)| file.name == name).map(|(&id, _)| id)
    }

    fn add(&mut self, name: &str) -> u64 {
        let id = self.take_id();
        self.files.insert(id, CountedFile { name: name.into(), bytes: 0, is_open: true });
        id
    }

    fn forget(&mut self, name: &str) {
        if let Some(file) = self.id_of(name).and_then(|id| self.files.remove(&id)) {
            self.used -= file.bytes;
        }
    }

    /// Makes room for a file that ends at `end` after a write of `len` bytes, and counts them.
    fn reserve(&mut self, inner: &dyn Filesystem, id: u64, end: u64, len: u64) -> io::Result<()> {
        // A file that another process removed counts for nothing.
        let Some(file) = self.files.get(&id) else { return Ok(()) };
        let growth = pages(end).saturating_sub(file.bytes);
        self.make_room(inner, growth, pages(len) + PAGE)?;
        if let Some(file) = self.files.get_mut(&id) {
            file.bytes += growth;
            self.used += growth;
        }
        Ok(())
    }

    /// Removes the oldest segments until the store can grow by `growth` bytes, and the filesystem
    /// has `space` bytes more than it must keep free.
    fn make_room(&mut self, inner: &dyn Filesystem, growth: u64, space: u64) -> io::Result<()> {
        while let Some(max) = self.limits.max_use
            && self.used + self.directory_bytes + growth > max
        {
            if self.prune_oldest(inner).is_none() {
                return Err(limit_reached("--max-use"));
            }
        }
        match self.limits.keep_free {
            Some(keep) => self.leave_free(inner, keep + space),
            None => Ok(()),
        }
    }

    /// Removes the oldest segments until the filesystem has `bytes` bytes available.
    fn leave_free(&mut self, inner: &dyn Filesystem, bytes: u64) -> io::Result<()> {
        // Without a known amount of free space, there is no such limit.
        let Ok(available) = inner.available() else { return Ok(()) };
        let mut missing = bytes.saturating_sub(available);
        while missing > 0 {
            let Some(freed) = self.prune_oldest(inner) else { return Err(limit_reached("--keep-free")) };
            missing = missing.saturating_sub(freed);
        }
        Ok(())
    }

    /// Removes the oldest finished segment, and returns its bytes; `None` if there is none.
    fn prune_oldest(&mut self, inner: &dyn Filesystem) -> Option<u64> {
        while let Some(oldest) = self.sealed.pop_front() {
            let bytes = self.id_of(&oldest.name).and_then(|id| self.files.get(&id)).map(|file| file.bytes);
            match self.change(inner, || inner.remove(&oldest.name)) {
                Ok(()) => {
                    self.pruned += 1;
                    self.forget(&oldest.name);
                    return Some(bytes.unwrap_or_default());
                }
                // Another process has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.forget(&oldest.name),
                Err(error) => {
                    let path = inner.path(&oldest.name);
                    self.last_error = Some(format!("cannot remove {}: {error}", path.display()));
                }
            }
        }
        None
    }

    /// Removes the segments that end earlier than the maximum age before `now`.
    fn remove_old(&mut self, inner: &dyn Filesystem, now: ClockAnchor) {
        let Some(max_age) = self.limits.max_age.map(|age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX))
        else {
            return;
        };
        loop {
            // A segment ends where the next one starts.
            let end = match (self.sealed.get(1), self.current_start) {
                (Some(next), _) => (next.start, next.is_this_boot),
                (None, Some(start)) => (start, true),
                (None, None) => return,
            };
            let age = match end {
                (start, true) => now.mono.0.saturating_sub(start.mono.0),
                (start, false) => u64::try_from(now.real_ns.saturating_sub(start.real_ns)).unwrap_or(0),
            };
            if self.sealed.is_empty() || age <= max_age || self.prune_oldest(inner).is_none() {
                return;
            }
        }
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

/// Returns the time at which a name in the directory was last changed.
fn modified(inner: &dyn Filesystem) -> Option<SystemTime> {
    inner.directory().ok().map(|state| state.modified)
}

fn limit_reached(option: &str) -> io::Error {
    let why = format!("the limit {option} is reached, and there is no older segment to remove");
    io::Error::new(io::ErrorKind::StorageFull, why)
}

/// Whether a filesystem, or the quota on it, has no room left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    // A panic while the lock is held leaves at worst a wrong count, which the next recount repairs.
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rounds up to whole pages.
fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE)
}
