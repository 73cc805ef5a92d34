//! Numbers of records, by the three lists that a block keeps them in.

/// Numbers of events, details and notes.
#[derive(Clone, Copy, Default)]
pub(super) struct RecordCounts {
    pub(super) events: usize,
    pub(super) details: usize,
    pub(super) notes: usize,
}

impl RecordCounts {
    pub(super) fn total(self) -> usize {
        self.events + self.details + self.notes
    }
}
