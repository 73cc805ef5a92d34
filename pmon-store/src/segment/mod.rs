//! The segments of a store: names, listing, order, recovery and retention.

mod name;

pub use name::SegmentName;
pub(crate) use name::{UtcSecond, restricted};
