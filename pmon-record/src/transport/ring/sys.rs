//! Map values that are plain memory, and the map that is shared with the BPF program.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU8;

use aya::Pod;

/// Bytes of one value of the map `TREE`: `struct slab`.
pub(crate) const SLAB: u32 = 64;

/// `struct counts`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Counts {
    pub(crate) spilled: u64,
    pub(crate) dropped: u64,
    pub(crate) excluded: u64,
}

// SAFETY: numbers without padding between; any bytes are a value.
unsafe impl Pod for Counts {}

/// The memory of the map `TREE`, shared with the program: one byte per process id.
pub(crate) struct Marks {
    first: NonNull<AtomicU8>,
    len: usize,
}

// SAFETY: it is shared memory that only atomic operations touch, and whose address does not depend on the thread.
unsafe impl Send for Marks {}

impl Marks {
    /// Maps the first `len` bytes of an array map that was created with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub(crate) fn map(array: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses an address that is free; nothing else is changed.
        let address = unsafe { libc::mmap(null_mut(), len, access, libc::MAP_SHARED, array.as_raw_fd(), 0) };
        match NonNull::new(address.cast()) {
            Some(first) if address != libc::MAP_FAILED => Ok(Self { first, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Returns the byte of a process id; `None` if it is beyond the map.
    pub(crate) fn of(&self, pid: u32) -> Option<&AtomicU8> {
        let at = usize::try_from(pid).ok().filter(|at| *at < self.len)?;
        // SAFETY: the mapping has `len` bytes from `first` on, lives as long as `self`, and any byte is an `AtomicU8`.
        Some(unsafe { self.first.add(at).as_ref() })
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference to it outlives the value.
        unsafe {
            libc::munmap(self.first.as_ptr().cast(), self.len);
        }
    }
}
