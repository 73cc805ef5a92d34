//! What a store takes on disk, and which segments are removed to make room.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::time::SystemTime;

use pmon_core::capture::ClockAnchor;

use crate::disk::{FileEntry, Filesystem, PAGE, pages};
use crate::segment::{RetentionLimits, is_clip};

/// A file of the store, as it counts for the limits.
pub(super) struct CountedFile {
    pub(super) name: String,
    /// The larger one of the file's length and its allocated bytes, in whole pages.
    pub(super) bytes: u64,
    /// Whether this process is writing the file.
    pub(super) is_open: bool,
}

/// A segment that can be removed: a finished one, or one that could not be finished so far.
pub(super) struct SealedSegment {
    pub(super) name: String,
    /// `None` if the header is damaged.
    pub(super) start: Option<SegmentStart>,
}

/// When a segment began.
#[derive(Clone, Copy)]
pub(super) struct SegmentStart {
    pub(super) clock: ClockAnchor,
    pub(super) is_this_boot: bool,
}

/// What the store takes, and what can be removed.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) limits: RetentionLimits,
    /// Bytes of the newest segments that a lack of space does not remove: see
    /// [`StoreOptions::kept`](super::StoreOptions::kept).
    pub(super) kept: u64,
    /// Bytes of the segments that are being written, without holes.
    pub(super) current_bytes: u64,
    /// Whether a segment is being recorded. Only a segment that begins may replace all others.
    pub(super) is_recording: bool,
    pub(super) files: BTreeMap<u64, CountedFile>,
    next_id: u64,
    /// Sum of the bytes of all files.
    pub(super) used: u64,
    pub(super) directory_bytes: u64,
    pub(super) directory_modified: Option<SystemTime>,
    /// Segments that can be removed, oldest first.
    pub(super) sealed: VecDeque<SealedSegment>,
    /// Names of the segments that other machines recorded.
    pub(super) foreign: HashSet<String>,
    /// Start of the segment after the sealed ones.
    pub(super) current_start: Option<ClockAnchor>,
    pub(super) pruned: u64,
    pub(super) last_error: Option<String>,
    /// Why the directory cannot be synced.
    pub(super) unsynced_directory: Option<String>,
}

impl Ledger {
    /// Returns the ledger of an empty store.
    pub(super) fn new(limits: RetentionLimits, kept: u64) -> Self {
        Self { limits, kept, ..Self::default() }
    }

    /// Replaces the counts of all files that this process does not write.
    pub(super) fn count(&mut self, entries: Vec<FileEntry>) {
        let mut open: BTreeMap<String, (u64, u64)> = self
            .files
            .iter()
            .filter(|(_, file)| file.is_open)
            .map(|(&id, file)| (file.name.clone(), (id, file.bytes)))
            .collect();
        self.files.clear();
        for entry in entries {
            let bytes = entry.usage();
            // Reserved bytes may be written at this moment.
            let (id, bytes, is_open) = match open.remove(&entry.name) {
                Some((id, reserved)) => (id, reserved.max(pages(entry.allocated)), true),
                None => (self.take_id(), bytes, false),
            };
            self.files.insert(id, CountedFile { name: entry.name, bytes, is_open });
        }
        self.used = self.files.values().map(|file| file.bytes).sum();
    }

    pub(super) fn count_directory(&mut self, inner: &dyn Filesystem) {
        if let Ok(state) = inner.directory() {
            self.directory_bytes = state.usage();
        }
    }

    /// Changes a name in the directory, without taking this for a change by another process.
    pub(super) fn change<T>(&mut self, inner: &dyn Filesystem, change: impl FnOnce() -> T) -> T {
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

    pub(super) fn id_of(&self, name: &str) -> Option<u64> {
        self.files.iter().find(|(_, file)| file.name == name).map(|(&id, _)| id)
    }

    pub(super) fn add(&mut self, name: &str) -> u64 {
        let id = self.take_id();
        self.files.insert(id, CountedFile { name: name.into(), bytes: 0, is_open: true });
        id
    }

    pub(super) fn forget(&mut self, name: &str) {
        if let Some(file) = self.id_of(name).and_then(|id| self.files.remove(&id)) {
            self.used -= file.bytes;
        }
    }

    /// Makes room for a file that ends at `end` after a write of `len` bytes, and counts them.
    pub(super) fn reserve(&mut self, inner: &dyn Filesystem, id: u64, end: u64, len: u64) -> io::Result<()> {
        // A file that another process removed counts for nothing.
        let Some(file) = self.files.get(&id) else { return Ok(()) };
        let growth = pages(end).saturating_sub(file.bytes);
        if is_clip(&file.name) {
            self.check_clips(inner, growth)?;
        }
        self.make_room(inner, growth)?;
        // Without holes, the filesystem allocates everything up to the end.
        self.keep_free(inner, growth.max(pages(len)) + PAGE, self.kept_now())?;
        if let Some(file) = self.files.get_mut(&id) {
            file.bytes += growth;
            self.used += growth;
        }
        Ok(())
    }

    /// Checks that clips may grow by `growth` bytes together. Half of the space of the store stays
    /// for segments, because clips are never removed and would otherwise end the recording.
    fn check_clips(&self, inner: &dyn Filesystem, growth: u64) -> io::Result<()> {
        let clips: u64 = self.files.values().filter(|file| is_clip(&file.name)).map(|file| file.bytes).sum();
        let is_exceeded = |space: Option<u64>| space.is_some_and(|space| clips + growth > space / 2);
        if is_exceeded(self.limits.max_use) {
            return Err(full("the clips have half of --max-use already; remove or move some of them"));
        }
        if is_exceeded(self.room(inner)) {
            return Err(full(
                "the clips have half of the space that the filesystem and --keep-free leave \
                             to the store already; remove or move some of them",
            ));
        }
        Ok(())
    }

    /// Returns the bytes that the store can take as long as other programs take no more; `None` if
    /// the free space is unknown.
    pub(super) fn room(&self, inner: &dyn Filesystem) -> Option<u64> {
        let available = inner.available().ok()?;
        // The counted bytes of an open segment include a hole, which is available.
        let is_open_segment = |file: &&CountedFile| file.is_open && !is_clip(&file.name);
        let open: u64 = self.files.values().filter(is_open_segment).map(|file| file.bytes).sum();
        let used = self.used - open + self.current_bytes;
        Some((used + available).saturating_sub(self.limits.keep_free.unwrap_or(0)))
    }

    /// Removes the oldest segments until the store can grow by `growth` bytes within its maximum
    /// size.
    ///
    /// If no removal suffices, all segments stay: without them, the limit would be exceeded as
    /// well.
    pub(super) fn make_room(&mut self, inner: &dyn Filesystem, growth: u64) -> io::Result<()> {
        while let Some(max) = self.limits.max_use
            && let excess = (self.used + self.directory_bytes + growth).saturating_sub(max)
            && excess > 0
        {
            if self.removable(0) < excess || self.prune_oldest(inner).is_none() {
                return Err(full(
                    "the limit --max-use is reached, and removing older segments is not enough",
                ));
            }
        }
        Ok(())
    }

    /// Makes room as [`Ledger::leave_free`], if there is a limit.
    pub(super) fn keep_free(&mut self, inner: &dyn Filesystem, space: u64, kept: u64) -> io::Result<()> {
        match self.limits.keep_free {
            Some(_) => self.leave_free(inner, space, kept),
            None => Ok(()),
        }
    }

    /// Removes the oldest segments until the filesystem has `space` bytes more than it must keep
    /// free. The newest segments stay that have `kept` bytes together.
    ///
    /// If other programs take so much that no removal suffices, all segments stay: without them,
    /// the limit would be exceeded as well.
    pub(super) fn leave_free(&mut self, inner: &dyn Filesystem, space: u64, kept: u64) -> io::Result<()> {
        let keep_free = self.limits.keep_free;
        // Without a known amount of free space, there is no such limit.
        let Ok(available) = inner.available() else { return Ok(()) };
        let mut missing = keep_free.unwrap_or(0).saturating_add(space).saturating_sub(available);
        if missing == 0 {
            return Ok(());
        }
        let why = match keep_free {
            Some(_) => "the limit --keep-free is reached, and removing older segments is not enough",
            None => "the filesystem is full, and removing older segments is not enough",
        };
        if self.removable(kept) < missing {
            return Err(full(why));
        }
        while missing > 0 {
            let freed = self.prune_oldest(inner).ok_or_else(|| full(why))?;
            missing = missing.saturating_sub(freed);
        }
        Ok(())
    }

    /// Returns the bytes of the segments that can be removed, so that the newest ones stay that
    /// have `kept` bytes together, including those being written.
    pub(super) fn removable(&self, kept: u64) -> u64 {
        let sizes: HashMap<&str, u64> =
            self.files.values().map(|file| (file.name.as_str(), file.bytes)).collect();
        let (mut stay, mut removable) = (self.current_bytes, 0);
        for segment in self.sealed.iter().rev() {
            let bytes = sizes.get(segment.name.as_str()).copied().unwrap_or_default();
            *if stay < kept { &mut stay } else { &mut removable } += bytes;
        }
        removable
    }

    /// Returns the bytes of the newest segments that stay while a segment is written.
    pub(super) fn kept_now(&self) -> u64 {
        if self.is_recording { self.kept } else { 0 }
    }

    /// Removes the oldest finished segment, and returns its bytes; `None` if there is none.
    pub(super) fn prune_oldest(&mut self, inner: &dyn Filesystem) -> Option<u64> {
        let mut at = 0;
        while let Some(oldest) = self.sealed.get(at).map(|segment| segment.name.clone()) {
            let bytes = self.id_of(&oldest).and_then(|id| self.files.get(&id)).map(|file| file.bytes);
            match self.change(inner, || inner.remove(&oldest)) {
                Ok(()) => {
                    self.pruned += 1;
                    self.forget(&oldest);
                    self.sealed.remove(at);
                    return Some(bytes.unwrap_or_default());
                }
                // Another process has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.forget(&oldest);
                    self.sealed.remove(at);
                }
                // The segment stays the first one to remove.
                Err(error) => {
                    let path = inner.path(&oldest);
                    self.last_error = Some(format!("cannot remove {}: {error}", path.display()));
                    at += 1;
                }
            }
        }
        None
    }

    /// Removes the segments that end earlier than the maximum age before `now`.
    pub(super) fn remove_old(&mut self, inner: &dyn Filesystem, now: ClockAnchor) {
        let Some(max_age) = self.limits.max_age.map(|age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX))
        else {
            return;
        };
        loop {
            // A segment ends where the next one starts.
            let current = self.current_start.map(|clock| SegmentStart { clock, is_this_boot: true });
            let Some(end) = self.sealed.iter().skip(1).find_map(|next| next.start).or(current) else {
                return;
            };
            let age = match end.is_this_boot {
                true => now.mono.0.saturating_sub(end.clock.mono.0),
                false => u64::try_from(now.real_ns.saturating_sub(end.clock.real_ns)).unwrap_or(0),
            };
            if self.sealed.is_empty() || age <= max_age || self.prune_oldest(inner).is_none() {
                return;
            }
        }
    }
}

/// Returns the time at which a name in the directory was last changed.
pub(super) fn modified(inner: &dyn Filesystem) -> Option<SystemTime> {
    inner.directory().ok().map(|state| state.modified)
}

fn full(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, why)
}

/// Whether a filesystem, or the quota on it, has no room left.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}
