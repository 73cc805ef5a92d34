//! What a store takes on disk, and which segments are removed to make room.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io;
use std::time::SystemTime;

use pmon_core::capture::ClockAnchor;

use crate::disk::{FileEntry, Filesystem};
use crate::segment::RetentionLimits;

/// Unit in which filesystems allocate space.
pub(super) const PAGE: u64 = 4096;

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
    pub(super) start: ClockAnchor,
    pub(super) is_this_boot: bool,
}

/// What the store takes, and what can be removed.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) limits: RetentionLimits,
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
    pub(super) fn new(limits: RetentionLimits) -> Self {
        Self { limits, ..Self::default() }
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

    pub(super) fn count_directory(&mut self, inner: &dyn Filesystem) {
        if let Ok(state) = inner.directory() {
            // One more name may make it grow by a page.
            self.directory_bytes = pages(state.bytes) + PAGE;
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
        self.make_room(inner, growth, pages(len) + PAGE)?;
        if let Some(file) = self.files.get_mut(&id) {
            file.bytes += growth;
            self.used += growth;
        }
        Ok(())
    }

    /// Removes the oldest segments until the store can grow by `growth` bytes, and the filesystem
    /// has `space` bytes more than it must keep free.
    pub(super) fn make_room(&mut self, inner: &dyn Filesystem, growth: u64, space: u64) -> io::Result<()> {
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
    pub(super) fn leave_free(&mut self, inner: &dyn Filesystem, bytes: u64) -> io::Result<()> {
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

/// Returns the time at which a name in the directory was last changed.
pub(super) fn modified(inner: &dyn Filesystem) -> Option<SystemTime> {
    inner.directory().ok().map(|state| state.modified)
}

fn limit_reached(option: &str) -> io::Error {
    let why = format!("the limit {option} is reached, and there is no older segment to remove");
    io::Error::new(io::ErrorKind::StorageFull, why)
}

/// Whether a filesystem, or the quota on it, has no room left.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// Rounds up to whole pages.
pub(super) fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE)
}
