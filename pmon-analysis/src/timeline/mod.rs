//! The records of a capture in order, with each exec and its details brought together.

mod joiner;
mod record;

pub use joiner::{DetailsJoiner, MAX_HELD, MAX_HELD_BYTES, MAX_WAIT_NS};
pub use record::{OwnedRecord, TimelineItem, size_of_record};
