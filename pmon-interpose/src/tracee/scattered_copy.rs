//! Copies to the memory of a task that made a call, in the order in which the kernel writes.

use rustix::io::Errno;

use crate::tracee::memory::{PAGE, TraceeMemory};

/// Parts that one system call copies one after the other, up to the first fault.
#[derive(Default)]
pub(crate) struct ScatteredCopy {
    bytes: Vec<u8>,
    /// Address and length of each part of `bytes`.
    targets: Vec<(u64, usize)>,
}

impl ScatteredCopy {
    /// Adds bytes that fill these buffers, one after the other.
    pub(crate) fn push_scattered(&mut self, bytes: &[u8], buffers: &[(u64, usize)]) {
        let mut left = bytes.len();
        for &(at, len) in buffers {
            let taken = len.min(left);
            left -= taken;
            if taken > 0 {
                self.targets.push((at, taken));
            }
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds bytes that are written up to a fault, as by `copy_to_user`.
    pub(crate) fn push(&mut self, at: u64, bytes: &[u8]) {
        self.push_scattered(bytes, &[(at, bytes.len())]);
    }

    /// Adds an integer, which a fault leaves unwritten as a whole, as by `put_user`.
    pub(crate) fn push_integer(&mut self, at: u64, bytes: &[u8]) {
        let in_page = ((PAGE - at % PAGE) as usize).min(bytes.len());
        // If the integer crosses the end of a page, the next page is the one that may not be
        // mapped.
        let (head, tail) = bytes.split_at(in_page);
        self.push(at.wrapping_add(in_page as u64), tail);
        self.push(at, head);
    }

    /// Copies all parts and removes them.
    pub(crate) fn finish(&mut self, memory: TraceeMemory) -> Result<(), Errno> {
        let copied = memory.scatter(&self.bytes, &self.targets);
        self.bytes.clear();
        self.targets.clear();
        copied
    }
}
