//! The segments of a store: names, listing, order, recovery and retention.

mod list;
mod name;

pub use list::{SegmentFile, StoreListing, in_order};
pub use name::SegmentName;
pub(crate) use name::{UtcSecond, restricted};
