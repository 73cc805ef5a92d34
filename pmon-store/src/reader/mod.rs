//! Reads a store, or several captures, as one recording.
//!
//! * `list`: the captures of a recording, from a directory or from given files.
//! * `order`: their order, if headers are damaged.
//! * `range`: the captures that a range of time needs.
//! * `segments`: the [`SegmentReader`], which reads them one after the other.
//! * `bytes`: the bytes of a capture, from a file, a store or a stream.

mod bytes;
mod list;
mod order;
mod range;
mod segments;

pub use bytes::CaptureBytes;
pub use list::{ListError, SegmentEntry, SegmentList, SegmentSummary};
pub use range::RangeBound;
pub use segments::{SegmentReader, SkippedSegment};

#[cfg(test)]
mod tests;
