//! The segments of a store: names, listing, order, recovery and retention.

mod journal;
mod list;
mod machine;
mod name;
mod order;
mod recover;
mod retention;
mod rewrite;
mod summary;

pub(crate) use list::{AgedFile, SegmentFile, StoreListing};
pub use machine::StoreMachine;
pub use name::SegmentName;
pub(crate) use name::{CLIP_SUFFIX, UtcSecond, is_clip, restricted};
pub(crate) use order::in_order;
pub(crate) use recover::{EndPositions, Recovery, end_positions, read_records, salvage};
pub use retention::{ExcessSegment, RetentionLimit, RetentionLimits, UnmeetableLimit, VacuumReport, vacuum};
pub use summary::SegmentSummary;
pub(crate) use summary::shortened;
