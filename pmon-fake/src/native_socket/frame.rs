//! The frames that carry a datagram to a native socket, and the filter that unwraps them.
//!
//! A frame to the kernel starts with a `struct nlmsghdr`. The kernel removes that header from the
//! datagram, but not from memory: the filter still reads it (`SKF_NET_OFF`), and finds the tag of
//! the receiving socket and the length of the datagram there. A frame from a port of user space is
//! delivered as it is; tag and length are at its end.

use std::os::fd::AsFd;

use libc::sock_filter;
use rustix::io::Errno;

use super::sys;

/// Size of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// `NLMSG_MIN_TYPE`: the kernel repeats messages of at least this type.
const MESSAGE_TYPE: u16 = 0x10;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// Maximum bytes of a datagram from the kernel: `UEVENT_BUFFER_SIZE` less the header and what the
/// kernel appends (`SEQNUM=`, up to 20 digits, and a zero byte).
pub const MAX_DATAGRAM: usize = 2048 - HEADER - 28;
/// Size of the tag and the length at the end of a frame from user space.
const TRAILER: usize = 8;

/// `SKF_NET_OFF`: an offset from the start of the skb's memory.
const NET_OFF: u32 = -0x10_0000_i32 as u32;
/// Offset of the datagram's length in a frame to the kernel (`nlmsg_seq`).
const LEN_AT: u32 = 8;
/// Offset of the tag in a frame to the kernel (`nlmsg_pid`).
const TAG_AT: u32 = 12;

/// Appends the frame that the kernel repeats to the socket with this tag.
pub(super) fn push_kernel_frame(out: &mut Vec<u8>, tag: u32, datagram: &[u8]) {
    out.extend(((HEADER + datagram.len()) as u32).to_ne_bytes());
    out.extend(MESSAGE_TYPE.to_ne_bytes());
    out.extend(REQUEST.to_ne_bytes());
    // A classic filter loads words in network order.
    out.extend((datagram.len() as u32).to_be_bytes());
    out.extend(tag.to_be_bytes());
    out.extend_from_slice(datagram);
}

/// Returns the frame that a socket of user space sends to the socket with this tag.
pub(super) fn user_frame(tag: u32, datagram: &[u8]) -> Vec<u8> {
    let mut frame = datagram.to_vec();
    // The filter rejects a frame without room for the fields of a frame to the kernel.
    frame.resize(datagram.len().max(HEADER - TRAILER), 0);
    frame.extend(tag.to_be_bytes());
    frame.extend((datagram.len() as u32).to_be_bytes());
    frame
}

/// Attaches the filter of a socket with this tag: it accepts frames with the tag, and cuts them to
/// their datagrams.
///
/// # Errors
/// Returns the error of `setsockopt`.
pub fn attach_filter(socket: impl AsFd, tag: u32) -> Result<(), Errno> {
    sys::attach_filter(socket.as_fd(), &unwrapping_filter(tag))
}

fn unwrapping_filter(tag: u32) -> Vec<sock_filter> {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let load_at_x = (libc::BPF_LD | libc::BPF_W | libc::BPF_IND) as u16;
    let load_len = (libc::BPF_LD | libc::BPF_W | libc::BPF_LEN) as u16;
    let equals = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let subtract = (libc::BPF_ALU | libc::BPF_SUB | libc::BPF_K) as u16;
    let (to_x, accept) = ((libc::BPF_MISC | libc::BPF_TAX) as u16, (libc::BPF_RET | libc::BPF_A) as u16);
    let reject = (libc::BPF_RET | libc::BPF_K) as u16;
    let op = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    let skip_unless = |k, jf| sock_filter { code: equals, jt: 0, jf, k };
    vec![
        op(load, NET_OFF.wrapping_add(TAG_AT)),
        skip_unless(tag, 2),
        op(load, NET_OFF.wrapping_add(LEN_AT)),
        op(accept, 0),
        op(load_len, 0),
        op(subtract, TRAILER as u32),
        op(to_x, 0),
        op(load_at_x, 0),
        skip_unless(tag, 2),
        op(load_at_x, 4),
        op(accept, 0),
        op(reject, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_frame_is_a_request_of_its_own_length() {
        let mut frame = vec![7];
        push_kernel_frame(&mut frame, 0x0102_0304, &[9; 76]);
        let frame = &frame[1..];
        assert_eq!(frame.len(), HEADER + 76);
        assert_eq!(frame[..4], 92_u32.to_ne_bytes());
        assert_eq!(frame[4..8], [16_u16.to_ne_bytes(), 1_u16.to_ne_bytes()].concat());
        assert_eq!(frame[8..16], [0, 0, 0, 76, 1, 2, 3, 4]);
        assert_eq!(frame[16..], [9; 76]);
    }

    #[test]
    fn a_user_frame_ends_with_tag_and_length() {
        assert_eq!(user_frame(5, &[9; 9]), [[9; 9].as_slice(), &[0, 0, 0, 5, 0, 0, 0, 9]].concat());
        assert_eq!(user_frame(5, &[9; 3]), [9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3]);
    }
}
