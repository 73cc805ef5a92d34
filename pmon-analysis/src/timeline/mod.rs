//! The records of a capture in order, with the details of each exec joined to the exec event.

mod joiner;
mod record;

pub use joiner::{DetailsJoiner, MAX_HELD, MAX_HELD_BYTES, MAX_WAIT_NS};
pub use record::{OwnedRecord, TimelineItem};
