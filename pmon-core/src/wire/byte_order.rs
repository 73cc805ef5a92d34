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
}

/// Defines the reading and the writing of one integer type.
macro_rules! integer {
    ($int:ident, $put:ident) => {
        impl ByteOrder {
            #[inline]
            pub(crate) fn $int(self, bytes: [u8; size_of::<$int>()]) -> $int {
                match self {
                    Self::Little => $int::from_le_bytes(bytes),
                    Self::Big => $int::from_be_bytes(bytes),
                }
            }

            #[inline]
            pub(crate) fn $put(self, to: &mut [u8], value: $int) {
                to.copy_from_slice(&match self {
                    Self::Little => value.to_le_bytes(),
                    Self::Big => value.to_be_bytes(),
                });
            }
        }
    };
}

integer!(u16, put_u16);
integer!(u32, put_u32);
integer!(u64, put_u64);

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
