//! When segments end, and which of them are kept.

use std::time::Duration;

use crate::segment::RetentionLimits;

/// When segments end, and which of them are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Size in bytes at which a segment ends. A small [`RetentionLimits::max_use`], or little
    /// space in the filesystem, reduces it to an eighth of that.
    pub rotate_size: u64,
    /// Age at which a segment ends.
    pub rotate_every: Duration,
    /// Limits beyond which the oldest segments are removed.
    pub limits: RetentionLimits,
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
/// Maximum bytes of the newest segments that a lack of space does not remove.
const MAX_KEPT: u64 = 256 << 10;
/// Part of `max_use` that one segment takes at most, so that retention by whole segments keeps most
/// of the limit in use.
const SEGMENTS_PER_STORE: u64 = 8;

impl Default for StoreOptions {
    /// Segments of 64 MiB or 10 minutes, without limits.
    fn default() -> Self {
        Self {
            rotate_size: 64 << 20,
            rotate_every: Duration::from_secs(600),
            limits: RetentionLimits::default(),
            journal: true,
        }
    }
}

impl StoreOptions {
    /// Returns the options for a store that can take `room` bytes.
    pub(crate) fn within(&self, room: Option<u64>) -> Self {
        let max_use = [self.limits.max_use, room].into_iter().flatten().min();
        Self { limits: RetentionLimits { max_use, ..self.limits }, ..*self }
    }

    /// Returns the bytes of the newest segments, including the current one, that stay when it needs
    /// space. Otherwise a store would be empty after others have filled the disk.
    pub(crate) fn kept(&self) -> u64 {
        (2 * self.effective_rotate_size(None)).min(MAX_KEPT)
    }

    /// Returns the size in bytes at which a segment ends, given the limit on file sizes of this
    /// process.
    pub(crate) fn effective_rotate_size(&self, size_limit: Option<u64>) -> u64 {
        let share = self.limits.max_use.map(|max| (max / SEGMENTS_PER_STORE).max(MIN_ROTATE_SIZE));
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
