//! A socket filter that accepts the datagrams of one tag, and cuts the tag off.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::sys;

/// The socket that a datagram is for.
///
/// All sockets of a namespace receive what any sender sends. A datagram therefore ends with the tag
/// of its socket, in hexadecimal digits, and with the text `SEQNUM=` and a decimal number and a
/// zero byte, which the kernel appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tag(pub(super) u32);

impl Tag {
    /// Length of a tag in a datagram, in bytes.
    pub(super) const LEN: usize = 8;

    /// Returns the tag as it stands in a datagram. It never contains a `=`.
    pub(super) fn bytes(self) -> [u8; Self::LEN] {
        let digit = |index: usize| b"0123456789abcdef"[(self.0 >> (28 - 4 * index)) as usize & 0xF];
        std::array::from_fn(digit)
    }
}

/// Number of digits of the largest number that the kernel appends.
const MAX_DIGITS: u32 = 20;
/// Length of `SEQNUM`, before the `=`.
const NAME_LEN: u32 = 6;

/// Attaches a filter that accepts only datagrams with this tag, without what follows the datagram
/// proper, and locks it, so that the program under test cannot replace it.
///
/// # Errors
/// Returns the error of `setsockopt`.
pub(super) fn attach_tag_filter(socket: impl AsFd, tag: Tag) -> Result<(), Errno> {
    sys::attach_filter(socket.as_fd(), &tag_filter(tag, sent_digits()))?;
    sys::lock_filter(socket.as_fd())
}

/// Returns the number of digits of the number that the kernel appended last; the count only rises.
fn sent_digits() -> u32 {
    let number = std::fs::read_to_string("/sys/kernel/uevent_seqnum").unwrap_or_default();
    (number.trim().len() as u32).clamp(1, MAX_DIGITS)
}

/// Returns the program. The number has at least `digits` digits.
///
/// Loads relative to the end of a datagram need its length in the index register. The program
/// therefore tries one number of digits after the other, until it finds the `=`. A load before the
/// start of the datagram rejects it.
fn tag_filter(tag: Tag, digits: u32) -> Vec<libc::sock_filter> {
    use libc::{
        BPF_A, BPF_ALU, BPF_B, BPF_IND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_LEN, BPF_MISC, BPF_RET, BPF_SUB,
        BPF_TAX, BPF_TXA, BPF_W,
    };
    let instruction = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let statement = |code: u32, k: u32| instruction(code, 0, 0, k);
    let subtract = |k| statement(BPF_ALU | BPF_SUB | BPF_K, k);
    let to_index = statement(BPF_MISC | BPF_TAX, 0);
    let load_word = |k| statement(BPF_LD | BPF_W | BPF_IND, k);
    let bytes = tag.bytes();
    let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);

    let mut program = Vec::new();
    let tries = digits..=MAX_DIGITS;
    let mut left = tries.clone().count() as u8;
    for digits in tries {
        left -= 1;
        // The last byte is zero; the digits precede it.
        program.extend([
            statement(BPF_LD | BPF_W | BPF_LEN, 0),
            subtract(digits + 2),
            to_index,
            statement(BPF_LD | BPF_B | BPF_IND, 0),
            // Found: skip the other attempts, and the rejection.
            instruction(BPF_JMP | BPF_JEQ | BPF_K, left * 5 + 1, 0, u32::from(b'=')),
        ]);
    }
    program.extend([
        statement(BPF_RET | BPF_K, 0),
        statement(BPF_MISC | BPF_TXA, 0),
        subtract(NAME_LEN + Tag::LEN as u32),
        to_index,
        load_word(0),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, 2, word(0)),
        load_word(4),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, word(4)),
        statement(BPF_RET | BPF_K, 0),
        // The index is the length of the datagram proper.
        statement(BPF_MISC | BPF_TXA, 0),
        statement(BPF_RET | BPF_A, 0),
    ]);
    program
}
