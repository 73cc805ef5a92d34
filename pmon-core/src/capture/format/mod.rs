//! The parts of a capture file around the coded records: versions, file header, block headers,
//! limits.

mod block;
mod header;
pub(crate) mod limit;
pub(crate) mod meta;

pub(crate) use block::{BLOCK_HEADER, BlockHeader, BlockKind, MARKER};
pub(crate) use header::{FileStart, HEADER_FIXED};
pub use header::{Header, Meta, Namespaces, SegmentInfo, SegmentReason, SignalTracing, TransportInfo};
pub use limit::BLOCK as MAX_BLOCK;
pub use meta::MetaError;
use thiserror::Error;

use crate::wire::ByteOrder;

/// Major version of the format. A reader refuses any other.
///
/// * 1: the first version.
pub const MAJOR: u16 = 1;

/// Minor version of the format. A reader accepts any minor version and skips unknown records.
///
/// * 0: the first version.
/// * 1: resource usage of exits; file name and process context of execs; counts of excluded events.
/// * 2: readings of the fork counter; state of the process after an exit; thread counts.
/// * 3: segments of a store: machine, reason and positions in the header; positions at the end;
///   unobserved spans; the causes `storage` and `restart`.
/// * 4: the origin of the signal that killed a process.
/// * 5: the names of containers.
pub const MINOR: u16 = 5;

/// Byte order of all numbers in a capture, except those inside datagrams.
pub(crate) const FILE_ORDER: ByteOrder = ByteOrder::Little;

/// A block whose checksums match but whose content contradicts the format.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Appends a little-endian number.
pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}
