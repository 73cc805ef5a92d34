//! Reading and writing integers in either byte order.

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

    /// Reads the integer at offset `at`; 0 if the bytes end before it does.
    #[inline]
    pub(crate) fn u32_at(self, bytes: &[u8], at: usize) -> u32 {
        bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&bytes| self.u32(bytes))
    }

    /// Reads the integer at offset `at`; 0 if the bytes end before it does.
    #[inline]
    pub(crate) fn u64_at(self, bytes: &[u8], at: usize) -> u64 {
        bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&bytes| self.u64(bytes))
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

/// Reads the integer at offset `at`, in this machine's byte order; 0 if the bytes end before it
/// does.
#[inline]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    ByteOrder::NATIVE.u32_at(bytes, at)
}

/// Reads the integer at offset `at`, in this machine's byte order; 0 if the bytes end before it
/// does.
#[inline]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    ByteOrder::NATIVE.u64_at(bytes, at)
}
