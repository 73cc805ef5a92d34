//! Values of the program's maps that are plain memory.

use aya::Pod;

/// Process ids of one slab of the tree.
pub(crate) const SLAB: u32 = 64;

/// `struct counts`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Counts {
    pub(crate) spilled: u64,
    pub(crate) dropped: u64,
    pub(crate) left_out: u64,
}

// SAFETY: numbers without padding between; any bytes are a value.
unsafe impl Pod for Counts {}

/// `struct slab`: of so many process ids, which are in the tree.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Slab(pub(crate) [u8; SLAB as usize]);

// SAFETY: bytes, of which any are a value.
unsafe impl Pod for Slab {}
