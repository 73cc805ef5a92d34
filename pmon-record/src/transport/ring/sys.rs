//! Memory that is mapped from files, and values of BPF maps.

use std::fs::{self, File};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU8;
use std::{io, slice};

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

/// Memory that is mapped from a file.
pub(crate) struct Mapping {
    first: NonNull<u8>,
    len: usize,
}

// SAFETY: the address of the mapping does not depend on the thread, and `Mapping` itself does not access the memory.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of a file.
    ///
    /// # Errors
    /// As `mmap(2)`.
    fn new(file: BorrowedFd<'_>, len: usize, access: libc::c_int, sharing: libc::c_int) -> io::Result<Self> {
        // SAFETY: the kernel chooses an address that is free; nothing else is changed.
        let address = unsafe { libc::mmap(null_mut(), len, access, sharing, file.as_raw_fd(), 0) };
        match NonNull::new(address.cast()) {
            Some(first) if address != libc::MAP_FAILED => Ok(Self { first, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference to it outlives the value.
        unsafe {
            libc::munmap(self.first.as_ptr().cast(), self.len);
        }
    }
}

/// The memory of the map `TREE`, shared with the BPF program: one byte per process id.
pub(crate) struct Marks(Mapping);

impl Marks {
    /// Maps the first `len` bytes of an array map that was created with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub(crate) fn map(array: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        Mapping::new(array, len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED).map(Self)
    }

    /// Returns the byte of a process id; `None` if it is beyond the map.
    pub(crate) fn of(&self, pid: u32) -> Option<&AtomicU8> {
        let at = usize::try_from(pid).ok().filter(|at| *at < self.0.len)?;
        // SAFETY: the mapping has `len` bytes from `first` on, lives as long as `self`, and any byte is an `AtomicU8`.
        Some(unsafe { self.0.first.cast::<AtomicU8>().add(at).as_ref() })
    }
}

/// The bytes of a kernel file that never changes.
pub(crate) enum ConstantFile {
    Mapped(Mapping),
    Copied(Vec<u8>),
}

impl ConstantFile {
    /// Maps the file, or reads it where the kernel cannot map it.
    ///
    /// # Errors
    /// If the file cannot be opened or read.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len() as usize;
        let mapping = Mapping::new(file.as_fd(), len, libc::PROT_READ, libc::MAP_PRIVATE);
        mapping.map(Self::Mapped).or_else(|_| Ok(Self::Copied(fs::read(path)?)))
    }
}

impl Deref for ConstantFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            // SAFETY: the mapping has `len` readable bytes from `first` on, lives as long as `self`, and never changes.
            Self::Mapped(mapping) => unsafe { slice::from_raw_parts(mapping.first.as_ptr(), mapping.len) },
            Self::Copied(bytes) => bytes,
        }
    }
}
