//! Reads a store, or several captures, as one recording.
//!
//! * `list`: the captures of a recording, from a directory or from given files.
//! * `entry`: one of them, whose header is read when it is needed.
//! * `order`: their order, if headers are damaged.
//! * `range`: the captures that a range of time needs.
//! * `segments`: the [`SegmentReader`], which reads them one after the other.
//! * `follow`: reads on in a recording that is being written.
//! * `bytes`: the bytes of a capture, from a file, a store or a stream.

mod bytes;
mod entry;
mod follow;
mod list;
mod order;
mod range;
mod segments;

pub use bytes::CaptureBytes;
pub use entry::SegmentEntry;
pub use list::{ListError, SegmentList};
pub use range::RangeBound;
pub use segments::{SegmentReader, SkippedSegment};

#[cfg(test)]
mod tests;
