//! A checked cursor: every read names its field, so that an error can say what was missing and where.

use thiserror::Error;

/// Why bytes are not what they should be. Offsets count from the start of the datagram.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes end before a field does.
    #[error("{field} at offset {offset} needs {needed} bytes, {left} are left")]
    Short {
        /// The field, as the kernel's headers name it.
        field: &'static str,
        /// Where the field begins.
        offset: usize,
        /// Its size in bytes.
        needed: usize,
        /// The bytes that there are.
        left: usize,
    },
    /// A length field contradicts the bytes around it.
    #[error("{field} at offset {offset} is {value}, which is {why}")]
    Length {
        /// The field, as the kernel's headers name it.
        field: &'static str,
        /// Where the field begins.
        offset: usize,
        /// What it says.
        value: usize,
        /// What is wrong with that.
        why: &'static str,
    },
    /// A field has a value that this message cannot have.
    #[error("{field} at offset {offset} is {value:#x}: {why}")]
    Value {
        /// The field, as the kernel's headers name it.
        field: &'static str,
        /// Where the field begins.
        offset: usize,
        /// What it says.
        value: u32,
        /// What was expected.
        why: &'static str,
    },
}

/// The byte order of the machine whose kernel sent a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// Least significant byte first: x86, most ARM.
    Little,
    /// Most significant byte first: s390x.
    Big,
}

impl ByteOrder {
    /// The byte order of this machine.
    pub const NATIVE: Self = if cfg!(target_endian = "big") { Self::Big } else { Self::Little };

    pub(crate) fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    pub(crate) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    pub(crate) fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }

    pub(crate) fn put_u16(self, to: &mut [u8], value: u16) {
        to.copy_from_slice(&match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        });
    }

    pub(crate) fn put_u32(self, to: &mut [u8], value: u32) {
        to.copy_from_slice(&match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        });
    }

    pub(crate) fn put_u64(self, to: &mut [u8], value: u64) {
        to.copy_from_slice(&match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        });
    }
}

/// Reads fields one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
    order: ByteOrder,
}

impl<'a> Cursor<'a> {
    /// A cursor over `bytes`, which begin at `offset` of the datagram.
    pub(crate) fn new(bytes: &'a [u8], offset: usize, order: ByteOrder) -> Self {
        Self { bytes, offset, order }
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The same place, but seeing no more than `len` bytes.
    pub(crate) fn truncated(&self, len: usize) -> Self {
        Self { bytes: &self.bytes[..len.min(self.bytes.len())], ..*self }
    }

    #[inline(always)]
    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let Some((taken, rest)) = self.bytes.split_first_chunk::<N>() else {
            return Err(WireError::Short { field, offset: self.offset, needed: N, left: self.bytes.len() });
        };
        self.bytes = rest;
        self.offset += N;
        Ok(*taken)
    }

    #[inline(always)]
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(|bytes| self.order.u16(bytes))
    }

    #[inline(always)]
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(|bytes| self.order.u32(bytes))
    }

    #[inline(always)]
    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.array(field).map(|bytes| self.order.u64(bytes))
    }
}
