//! When segments end, and which of them are kept.

use std::time::Duration;

/// When segments end, and which of them are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Size in bytes at which a segment ends. A small `max_use` reduces it to an eighth of that
    /// limit.
    pub rotate_size: u64,
    /// Age at which a segment ends.
    pub rotate_every: Duration,
    /// Maximum bytes of the store on disk, everything included; `None` for no limit.
    pub max_use: Option<u64>,
    /// Age at which a segment is removed; `None` to keep segments of any age.
    pub max_age: Option<Duration>,
    /// Bytes of the filesystem that the store leaves free; `None` to use all.
    pub keep_free: Option<u64>,
    /// Whether the newest records are written to a journal within 100 ms. A store in memory has no
    /// use for one.
    pub journal: bool,
}

/// Maximum bytes between the sealed blocks of a segment and its journal.
const MAX_HOLE: u64 = 2 << 20;
/// Minimum bytes between the sealed blocks of a segment and its journal.
const MIN_HOLE: u64 = 64 << 10;
/// Minimum size at which a segment ends because of `max_use`.
const MIN_ROTATE_SIZE: u64 = 128 << 10;
/// Part of `max_use` that one segment takes at most, so that retention by whole segments keeps most
/// of the limit in use.
const SEGMENTS_PER_STORE: u64 = 8;

impl Default for StoreOptions {
    /// Segments of 64 MiB or 10 minutes, without limits.
    fn default() -> Self {
        Self {
            rotate_size: 64 << 20,
            rotate_every: Duration::from_secs(600),
            max_use: None,
            max_age: None,
            keep_free: None,
            journal: true,
        }
    }
}

impl StoreOptions {
    /// Returns the size in bytes at which a segment ends, given the limit on file sizes of this
    /// process.
    pub fn effective_rotate_size(&self, size_limit: Option<u64>) -> u64 {
        let share = self.max_use.map(|max| (max / SEGMENTS_PER_STORE).max(MIN_ROTATE_SIZE));
        [share, below(size_limit)].into_iter().flatten().fold(self.rotate_size, u64::min)
    }

    /// Returns the size in bytes at which a segment with an opening of `opening` bytes ends. At
    /// most half of it is the opening, as far as the limit on file sizes allows.
    pub(crate) fn size_due(&self, size_limit: Option<u64>, opening: u64) -> u64 {
        let due = self.effective_rotate_size(size_limit).max(2 * opening);
        below(size_limit).map_or(due, |limit| due.min(limit))
    }

    /// Returns the bytes between the sealed blocks of a segment and its journal.
    pub(crate) fn hole(&self, size_limit: Option<u64>) -> u64 {
        (self.effective_rotate_size(size_limit) / 4).clamp(MIN_HOLE, MAX_HOLE)
    }
}

/// Returns the size at which a segment ends because of a limit on file sizes: a block and the end
/// of the segment still follow.
fn below(size_limit: Option<u64>) -> Option<u64> {
    size_limit.map(|limit| limit / 4 * 3)
}
