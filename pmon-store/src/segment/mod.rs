//! The segments of a store: names, listing, order, recovery and retention.

mod list;
mod name;
mod order;
mod recover;
mod retention;

pub use list::{SegmentFile, StoreListing};
pub use name::SegmentName;
pub(crate) use name::{UtcSecond, is_recorder_file, is_store_file, restricted};
pub(crate) use order::{OrderKey, in_order};
pub(crate) use recover::{EndPositions, Recovery, end_positions, read_records, salvage};
pub use retention::{ExcessSegment, RetentionLimit, RetentionLimits, VacuumReport, vacuum};
