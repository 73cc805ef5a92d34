//! Lets processes that have ended wait for the scan at the start of a recording.

use pmon_core::capture::Record;

/// Maximum number of records for which processes wait.
const MAX_RECORDS: u32 = 1 << 14;

/// Whether the scan at the start of a recording is still to come. Until then, the ancestors of a
/// process that has ended may lack their own parents.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ScanWait(u32);

impl ScanWait {
    /// Begins to wait at the start of a recording, if its scan follows.
    pub(crate) fn new(has_scan: bool) -> Self {
        Self(if has_scan { MAX_RECORDS } else { 0 })
    }

    /// Observes the next record.
    pub(crate) fn observe(&mut self, record: &Record<'_>) {
        let is_over = matches!(record, Record::Snapshot(_));
        self.0 = if is_over { 0 } else { self.0.saturating_sub(1) };
    }

    /// Ends the wait, because another capture begins, or the recording ends.
    pub(crate) fn end(&mut self) {
        self.0 = 0;
    }

    /// Returns whether the processes that have ended are complete.
    pub(crate) fn is_over(self) -> bool {
        self.0 == 0
    }
}
