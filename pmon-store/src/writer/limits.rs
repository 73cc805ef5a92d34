//! A store's directory within limits: room is made before each write, so the limits hold at every
//! moment.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pmon_core::capture::{ClockAnchor, Meta};

use super::StoreOptions;
use super::ledger::{Ledger, SealedSegment, SegmentStart, is_full, modified};
use super::limited_disk::LimitedDisk;
use crate::disk::{
    DirectoryState, Disk, FileEntry, Filesystem, PAGE, StoreLock, StoredFile, SyncRunner, SyncWork,
};
use crate::file::partial;
use crate::segment::{AgedFile, SegmentFile, SegmentName, StoreListing, StoreMachine, shortened};

/// A directory within the limits of a store.
pub(crate) struct LimitedFilesystem {
    inner: Arc<dyn Filesystem>,
    ledger: Arc<Mutex<Ledger>>,
    machine: StoreMachine,
    boot_id: String,
}

/// The state of a store within its limits.
pub(crate) struct UsageSummary {
    pub(crate) used: u64,
    /// Number of finished segments with an intact header.
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
        options: &StoreOptions,
        earlier: StoreListing,
    ) -> io::Result<Self> {
        let mut ledger = Ledger::new(options.limits, options.kept());
        ledger.directory_modified = modified(&*inner);
        let ledger = Arc::new(Mutex::new(ledger));
        let this = Self { inner, ledger, machine: StoreMachine::of(meta), boot_id: shortened(&meta.boot_id) };
        let listing = StoreListing::of(&*this.inner, this.inner.list()?, earlier);
        this.count(&mut this.lock(), listing);
        Ok(this)
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Replaces the limits, which [`LimitedFilesystem::enforce`] applies. `current_bytes` is the
    /// size of the segments that are being written, without holes.
    pub(crate) fn set_options(&self, options: &StoreOptions, current_bytes: u64) {
        let mut ledger = self.lock();
        (ledger.limits, ledger.kept) = (options.limits, options.kept());
        ledger.current_bytes = current_bytes;
    }

    /// Adds a segment that has got its final name to those that can be removed.
    pub(crate) fn add_sealed(&self, name: &str, start: ClockAnchor) {
        let mut ledger = self.lock();
        ledger.sealed.retain(|segment| segment.name != partial(name));
        if ledger.sealed.iter().all(|segment| segment.name != name) {
            // Segments end in the order in which they began, unless one fails meanwhile.
            let is_later = |other: &SealedSegment| {
                other.start.is_some_and(|other| other.is_this_boot && other.clock.mono > start.mono)
            };
            let at = ledger.sealed.iter().position(is_later).unwrap_or(ledger.sealed.len());
            let start = Some(SegmentStart { clock: start, is_this_boot: true });
            ledger.sealed.insert(at, SealedSegment { name: name.into(), start });
        }
    }

    /// Announces the start of the current segment.
    pub(crate) fn set_current_start(&self, start: ClockAnchor) {
        let mut ledger = self.lock();
        (ledger.current_start, ledger.is_recording) = (Some(start), true);
    }

    /// Announces that no segment can be written.
    pub(crate) fn set_failed(&self) {
        self.lock().is_recording = false;
    }

    /// Removes segments until another one of at least `bytes` can begin. The newest ones are
    /// replaced only if this makes room for more than what is always kept.
    ///
    /// # Errors
    /// When a limit or the filesystem has no room, and removing segments would not make it.
    pub(crate) fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut ledger = self.lock();
        ledger.make_room(&*self.inner, bytes)?;
        let kept = ledger.kept;
        ledger
            .leave_free(&*self.inner, bytes, kept)
            .or_else(|_| ledger.leave_free(&*self.inner, bytes.max(2 * kept), 0))
    }

    /// Returns the bytes that the store can take as long as other programs take no more; `None` if
    /// the free space is unknown.
    pub(crate) fn room(&self) -> Option<u64> {
        self.lock().room(&*self.inner)
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
        let _ = ledger.make_room(&*self.inner, 0);
        let kept = ledger.kept;
        let _ = ledger.keep_free(&*self.inner, 0, kept);
    }

    /// Returns why a segment could not be removed, once.
    pub(crate) fn take_error(&self) -> Option<String> {
        self.lock().last_error.take()
    }

    pub(crate) fn summary(&self) -> UsageSummary {
        let ledger = self.lock();
        let mut readable = ledger.sealed.iter().filter(|segment| segment.start.is_some());
        let oldest = readable.next().map(|segment| segment.name.clone());
        UsageSummary {
            used: ledger.used + ledger.directory_bytes,
            sealed: usize::from(oldest.is_some()) + readable.count(),
            oldest,
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
            (SegmentName::parse_file(name).is_some() || SegmentName::parse_damaged(name).is_some())
                && !counted.contains(name)
                && !ledger.foreign.contains(name)
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
        let (listing, foreign) = listing.of_machine(&self.machine);
        let (mut sealed, mut counted) = (VecDeque::new(), Vec::new());
        for AgedFile { entry, segment } in listing.oldest_first() {
            // An unfinished segment that this process does not write could not be salvaged.
            if !is_open(&entry.name) {
                let start = segment.map(|SegmentFile { summary, .. }| SegmentStart {
                    clock: summary.start,
                    is_this_boot: summary.boot_id == self.boot_id,
                });
                sealed.push_back(SealedSegment { name: entry.name.clone(), start });
            }
            counted.push(entry.clone());
        }
        counted.extend(listing.unreadable);
        counted.extend(listing.others);
        (ledger.sealed, ledger.foreign) = (sealed, foreign);
        ledger.count(counted);
        ledger.count_directory(&*self.inner);
    }
}

impl Filesystem for LimitedFilesystem {
    fn create(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let mut ledger = self.lock();
        ledger.make_room(&*self.inner, PAGE)?;
        let kept = ledger.kept_now();
        ledger.keep_free(&*self.inner, PAGE, kept)?;
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

    fn names(&self) -> io::Result<Vec<String>> {
        self.inner.names()
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

    fn new_uuid(&self) -> [u8; 16] {
        self.inner.new_uuid()
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

pub(super) fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    // A panic while the lock is held leaves at worst a wrong count, which the next recount repairs.
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
