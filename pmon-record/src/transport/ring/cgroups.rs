//! Paths of cgroups. The BPF program writes each path into the ring once, before the first exec in
//! that cgroup (`bpf/record.h`).
//!
//! The drain thread keeps the paths and adds one to each exec, so a dropped chunk loses no path.

use std::collections::HashMap;

/// Maximum bytes of paths in each of the two generations. Hostile processes can create any number
/// of cgroups with paths of 4 KiB.
const MAX_BYTES: usize = 2 << 20;
/// Approximate overhead of a path, in bytes.
const OVERHEAD: usize = 96;

/// Flag of a path that has not been received, besides those in `bpf/record.h`.
pub(super) const NOT_RECEIVED: u16 = 8;
/// An unknown path in the form of a datagram's metadata: length 0 and state.
const UNKNOWN: [u8; 4] = [0, 0, NOT_RECEIVED.to_ne_bytes()[0], NOT_RECEIVED.to_ne_bytes()[1]];

/// Paths by cgroup id, in the form of a datagram's metadata: length, state and names.
///
/// If there are too many, the older half is dropped, and the BPF program must send those paths
/// again.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    new: HashMap<u64, Box<[u8]>>,
    old: HashMap<u64, Box<[u8]>>,
    /// Bytes of the paths in `new`.
    bytes: usize,
    has_dropped: bool,
}

impl Cgroups {
    /// Keeps a path.
    pub(super) fn insert(&mut self, id: u64, head: &[u8], names: &[u8]) {
        if self.bytes >= MAX_BYTES {
            self.old = std::mem::take(&mut self.new);
            (self.bytes, self.has_dropped) = (0, true);
        }
        let path: Box<[u8]> = [head, names].concat().into();
        self.bytes += path.len() + OVERHEAD;
        if let Some(before) = self.new.insert(id, path) {
            self.bytes -= before.len() + OVERHEAD;
        }
    }

    /// Returns the path of a cgroup.
    pub(super) fn find(&self, id: u64) -> &[u8] {
        self.new.get(&id).or_else(|| self.old.get(&id)).map_or(&UNKNOWN, |path| path)
    }

    /// Whether paths have been dropped since the last call.
    pub(super) fn take_dropped(&mut self) -> bool {
        std::mem::take(&mut self.has_dropped)
    }
}

#[cfg(test)]
mod tests;
