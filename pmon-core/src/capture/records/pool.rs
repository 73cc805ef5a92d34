//! Memory of records that are no longer needed.

use std::cell::RefCell;

use super::{Details, Usage};

/// Maximum number of boxes of each kind that are kept.
const MAX_KEPT: usize = 4096;

/// Memory of details and usages that are no longer needed, which the records that are read next
/// reuse: see [`Block::records_from`](crate::capture::Block::records_from).
///
/// A reader that passes records to another thread would otherwise allocate memory in one thread and
/// free it in the other, for which allocators are slow.
#[derive(Debug, Default)]
#[allow(clippy::vec_box, reason = "records hold these boxes")]
pub struct RecordPool {
    details: RefCell<Vec<Box<Details>>>,
    usages: RefCell<Vec<Box<Usage>>>,
}

impl RecordPool {
    /// Maximum capacity of the texts of details that are kept, in bytes.
    pub const MAX_TEXT: usize = 512;

    /// Returns whether the pool keeps details: long texts are not kept.
    pub fn keeps(details: &Details) -> bool {
        details.text_capacity() <= Self::MAX_TEXT
    }

    /// Adds details that are no longer needed.
    pub fn add_details(&self, details: Box<Details>) {
        let mut kept = self.details.borrow_mut();
        if kept.len() < MAX_KEPT && Self::keeps(&details) {
            kept.push(details);
        }
    }

    /// Adds a usage that is no longer needed.
    pub fn add_usage(&self, usage: Box<Usage>) {
        let mut kept = self.usages.borrow_mut();
        if kept.len() < MAX_KEPT {
            kept.push(usage);
        }
    }

    pub(crate) fn take_details(&self) -> Option<Box<Details>> {
        self.details.borrow_mut().pop()
    }

    /// Returns a box with this usage.
    pub(crate) fn usage(&self, usage: Usage) -> Box<Usage> {
        match self.usages.borrow_mut().pop() {
            Some(mut kept) => {
                *kept = usage;
                kept
            }
            None => Box::new(usage),
        }
    }
}
