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
}

/// Defines the reading and the writing of one integer type.
macro_rules! integer {
    ($int:ident, $put:ident, $at:ident) => {
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

            /// Reads the integer at offset `at`; 0 if the bytes end before it does.
            #[inline]
            pub(crate) fn $at(self, bytes: &[u8], at: usize) -> $int {
                bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&bytes| self.$int(bytes))
            }
        }

        /// Reads the integer at offset `at`, in this machine's byte order; 0 if the bytes end
        /// before it does.
        #[inline]
        pub fn $at(bytes: &[u8], at: usize) -> $int {
            ByteOrder::NATIVE.$at(bytes, at)
        }
    };
}

integer!(u16, put_u16, u16_at);
integer!(u32, put_u32, u32_at);
integer!(u64, put_u64, u64_at);
