//! The parts of a capture file around the coded records: versions, file header, block headers, limits.

pub(crate) mod block;
pub(crate) mod header;
pub(crate) mod limit;
pub(crate) mod meta;

/// Major version of the format. A reader refuses any other.
///
/// * 1: the first version.
pub const MAJOR: u16 = 1;

/// Minor version of the format. A reader accepts any minor version and skips what it does not know.
///
/// * 0: the first version.
/// * 1: an exit's resource usage; an exec's file name and process context; counts of excluded
///   events.
/// * 2: readings of the kernel's fork counter; the state of the process after an exit; thread
///   counts of processes found by a snapshot.
pub const MINOR: u16 = 2;
