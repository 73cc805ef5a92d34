//! The C structs in a task's memory whose layout depends on the ABI of its call: those of 64-bit
//! programs, and those of 32-bit programs (i386) on x86-64.

use pmon_core::wire::{u32_at, u64_at};

/// The ABI of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abi {
    /// The ABI of this process.
    Native,
    /// The ABI of 32-bit programs on x86-64, with words of four bytes.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no calls of this ABI are handled"))]
    I386,
}

/// A `struct msghdr`.
pub(crate) struct MessageHeader {
    /// Address of the socket address, or 0.
    pub(crate) name: u64,
    pub(crate) name_len: u32,
    /// Address of the `struct iovec` array.
    pub(crate) buffers: u64,
    pub(crate) buffer_count: u64,
    pub(crate) control: u64,
    pub(crate) control_len: u64,
}

/// A `struct cmsghdr`.
pub(crate) struct ControlHeader {
    /// Length of the message, with this header.
    pub(crate) len: usize,
    pub(crate) level: u32,
    pub(crate) message_type: u32,
}

impl Abi {
    /// Returns the values of a 64-bit and of a 32-bit ABI that is this one's.
    fn either<T>(self, native: T, i386: T) -> T {
        match self {
            Self::Native => native,
            Self::I386 => i386,
        }
    }

    /// Returns the `at`th word of a struct.
    fn word(self, bytes: &[u8], at: usize) -> u64 {
        match self {
            Self::Native => u64_at(bytes, 8 * at),
            Self::I386 => u32_at(bytes, 4 * at).into(),
        }
    }

    /// Returns the `at`th word of a struct, a signed number.
    fn signed_word(self, bytes: &[u8], at: usize) -> i64 {
        match self {
            Self::Native => self.word(bytes, at) as i64,
            Self::I386 => i64::from(self.word(bytes, at) as i32),
        }
    }

    /// Size of a word and alignment of control messages.
    pub(crate) fn word_len(self) -> usize {
        self.either(8, 4)
    }

    /// Size of `struct msghdr`.
    pub(crate) fn msghdr_len(self) -> usize {
        self.either(56, 28)
    }

    /// Size of `struct mmsghdr`: a `struct msghdr`, then the length that was transferred.
    pub(crate) fn mmsghdr_len(self) -> u64 {
        self.either(64, 32)
    }

    /// Size of `struct cmsghdr`.
    pub(crate) fn cmsghdr_len(self) -> usize {
        self.either(16, 12)
    }

    /// Size of `struct iovec`.
    pub(crate) fn iovec_len(self) -> usize {
        2 * self.word_len()
    }

    /// Size of `struct timeval`.
    pub(crate) fn timeval_len(self) -> usize {
        2 * self.word_len()
    }

    /// Size of `struct sock_fprog`.
    pub(crate) fn sock_fprog_len(self) -> usize {
        2 * self.word_len()
    }

    /// Decodes a `struct msghdr`.
    pub(crate) fn message_header(self, bytes: &[u8]) -> MessageHeader {
        MessageHeader {
            name: self.word(bytes, 0),
            name_len: u32_at(bytes, self.word_len()),
            buffers: self.word(bytes, 2),
            buffer_count: self.word(bytes, 3),
            control: self.word(bytes, 4),
            control_len: self.word(bytes, 5),
        }
    }

    /// Decodes a `struct iovec`: address, and length, which is negative if it is wrong.
    pub(crate) fn iovec(self, bytes: &[u8]) -> (u64, i64) {
        (self.word(bytes, 0), self.signed_word(bytes, 1))
    }

    /// Decodes the `struct cmsghdr` at the start of control messages; `None` if these are shorter.
    pub(crate) fn control_header(self, bytes: &[u8]) -> Option<ControlHeader> {
        let header = bytes.get(..self.cmsghdr_len())?;
        let (level, message_type) =
            (u32_at(header, self.word_len()), u32_at(header, self.word_len() + size_of::<u32>()));
        Some(ControlHeader { len: self.word(header, 0) as usize, level, message_type })
    }

    /// Decodes a `struct timeval`: seconds and microseconds.
    pub(crate) fn timeval(self, bytes: &[u8]) -> (i64, i64) {
        (self.signed_word(bytes, 0), self.signed_word(bytes, 1))
    }

    /// Encodes a `struct timeval`. Seconds that exceed the range of the ABI are truncated, as by
    /// the kernel.
    pub(crate) fn encode_timeval(self, seconds: u64, micros: u32) -> Vec<u8> {
        match self {
            Self::Native => [seconds.to_ne_bytes(), u64::from(micros).to_ne_bytes()].concat(),
            Self::I386 => [(seconds as u32).to_ne_bytes(), micros.to_ne_bytes()].concat(),
        }
    }

    /// Decodes a `struct sock_fprog`: number and address of the instructions.
    pub(crate) fn sock_fprog(self, bytes: &[u8]) -> (u16, u64) {
        (u16::from_ne_bytes([bytes[0], bytes[1]]), self.word(bytes, 1))
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use libc::{cmsghdr, iovec, mmsghdr, msghdr, sock_fprog, timeval};

    use super::*;

    #[test]
    fn native_structs_are_those_of_the_c_library() {
        let abi = Abi::Native;
        let sizes = [abi.msghdr_len(), abi.mmsghdr_len() as usize, abi.cmsghdr_len(), abi.iovec_len()];
        assert_eq!(
            sizes,
            [size_of::<msghdr>(), size_of::<mmsghdr>(), size_of::<cmsghdr>(), size_of::<iovec>()]
        );
        assert_eq!(
            [abi.timeval_len(), abi.sock_fprog_len()],
            [size_of::<timeval>(), size_of::<sock_fprog>()]
        );
        let bytes: Vec<u8> = (0..56).collect();
        let header = abi.message_header(&bytes);
        for (value, at) in [
            (header.name, offset_of!(msghdr, msg_name)),
            (header.buffers, offset_of!(msghdr, msg_iov)),
            (header.buffer_count, offset_of!(msghdr, msg_iovlen)),
            (header.control, offset_of!(msghdr, msg_control)),
            (header.control_len, offset_of!(msghdr, msg_controllen)),
        ] {
            assert_eq!(value, u64_at(&bytes, at));
        }
        assert_eq!(header.name_len, u32_at(&bytes, offset_of!(msghdr, msg_namelen)));
        let control = abi.control_header(&bytes).unwrap();
        assert_eq!(control.level, u32_at(&bytes, offset_of!(cmsghdr, cmsg_level)));
        assert_eq!(control.message_type, u32_at(&bytes, offset_of!(cmsghdr, cmsg_type)));
        assert_eq!(abi.sock_fprog(&bytes).1, u64_at(&bytes, offset_of!(sock_fprog, filter)));
    }

    #[test]
    fn words_of_32_bit_programs_have_four_bytes() {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        let abi = Abi::I386;
        let header = abi.message_header(&words(&[0xFFFF_0000, 12, 3, 4, 5, 6, 7]));
        assert_eq!((header.name, header.name_len), (0xFFFF_0000, 12));
        assert_eq!([header.buffers, header.buffer_count], [3, 4]);
        assert_eq!([header.control, header.control_len], [5, 6]);
        assert_eq!(abi.iovec(&words(&[0xFFFF_0000, u32::MAX])), (0xFFFF_0000, -1));
        let control = abi.control_header(&words(&[24, 1, 2])).unwrap();
        assert_eq!((control.len, control.level, control.message_type), (24, 1, 2));
        assert!(abi.control_header(&[0; 11]).is_none());
        assert_eq!(abi.timeval(&abi.encode_timeval(7, 9)), (7, 9));
        assert_eq!(abi.timeval(&words(&[u32::MAX, u32::MAX])), (-1, -1));
        assert_eq!(abi.sock_fprog(&words(&[9, 0xFFFF_0000])), (9, 0xFFFF_0000));
    }
}
