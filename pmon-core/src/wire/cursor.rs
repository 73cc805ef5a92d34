//! A checked cursor. Each read names its field, so that an error says what is missing and where.

use thiserror::Error;

use super::byte_order::ByteOrder;

/// Why bytes are not a valid message. Offsets count from the start of the datagram.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes end before a field does.
    #[error("{field} at offset {offset} needs {needed} bytes, {left} are left")]
    Short {
        /// Name of the field in the kernel's headers.
        field: &'static str,
        /// Offset at which the field begins.
        offset: usize,
        /// Size of the field, in bytes.
        needed: usize,
        /// Number of bytes from the offset to the end.
        left: usize,
    },
    /// A length field contradicts the bytes around it.
    #[error("{field} at offset {offset} is {value}, which is {why}")]
    Length {
        /// Name of the field in the kernel's headers.
        field: &'static str,
        /// Offset at which the field begins.
        offset: usize,
        /// Value of the field.
        value: usize,
        /// The contradiction.
        why: &'static str,
    },
    /// A field has a value that is not valid in this message.
    #[error("{field} at offset {offset} is {value:#x}: {why}")]
    Value {
        /// Name of the field in the kernel's headers.
        field: &'static str,
        /// Offset at which the field begins.
        offset: usize,
        /// Value of the field.
        value: u32,
        /// The values that would be valid.
        why: &'static str,
    },
}

/// Reads fields one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
    order: ByteOrder,
}

impl<'a> Cursor<'a> {
    /// Creates a cursor over `bytes`, which begin at `offset` in the datagram.
    pub(crate) fn new(bytes: &'a [u8], offset: usize, order: ByteOrder) -> Self {
        Self { bytes, offset, order }
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns a cursor at the same offset that ends after at most `len` bytes.
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
