//! The control messages that `recvmsg` returns.

use crate::sockets::proxy::ProxyOptions;
use crate::tracee::memory::{CMSGHDR, TraceeMemory, check_range};
use crate::tracee::scattered_copy::ScatteredCopy;

/// What was written to the buffer for control messages.
#[derive(Default)]
pub(super) struct WrittenControl {
    pub(super) len: u64,
    /// Whether the buffer was too short.
    pub(super) is_truncated: bool,
}

/// Writes the control messages that the socket's options add to a datagram (`put_cmsg`). A fault
/// leaves out the message, without an error.
pub(super) fn write_control_messages(
    memory: TraceeMemory,
    options: &ProxyOptions,
    groups: u32,
    (address, room): (u64, u64),
    copy: &mut ScatteredCopy,
) -> WrittenControl {
    let mut written = WrittenControl::default();
    let mut put = |level: i32, message_type: i32, data: &[u8]| {
        let (at, room) = (address.wrapping_add(written.len), room - written.len);
        if address == 0 || room < CMSGHDR as u64 {
            written.is_truncated = true;
            return;
        }
        let full = CMSGHDR + data.len();
        let len = room.min(full as u64);
        written.is_truncated |= len < full as u64;
        if check_range(at, len).is_err() {
            return;
        }
        copy.push_integer(at, &len.to_ne_bytes());
        copy.push_integer(at.wrapping_add(8), &level.to_ne_bytes());
        copy.push_integer(at.wrapping_add(12), &message_type.to_ne_bytes());
        copy.push(at.wrapping_add(CMSGHDR as u64), &data[..len as usize - CMSGHDR]);
        if copy.finish(memory).is_ok() {
            written.len += (full.next_multiple_of(8) as u64).min(room);
        }
    };
    if options.pktinfo {
        let group = if groups == 0 { 0 } else { groups.trailing_zeros() + 1 };
        put(libc::SOL_NETLINK, libc::NETLINK_PKTINFO, &group.to_ne_bytes());
    }
    if options.passcred {
        // The kernel's credentials: process 0, user 0, group 0.
        put(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[0; 12]);
    }
    written
}
