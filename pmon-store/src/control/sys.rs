//! The supplementary groups of a peer.

use std::mem::size_of;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Maximum number of groups of a process (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65_536;
/// Number of groups that are read without a second call.
const USUAL_GROUPS: usize = 64;

/// Returns the supplementary groups of the process that connected a Unix socket (`SO_PEERGROUPS`,
/// Linux 4.13); none if the kernel does not report them.
pub(super) fn peer_groups(socket: BorrowedFd<'_>) -> Vec<libc::gid_t> {
    let mut groups = vec![0; USUAL_GROUPS];
    for _ in 0..2 {
        let mut bytes = (groups.len() * size_of::<libc::gid_t>()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `bytes` bytes into the vector, and then the number of
        // bytes that it has written, or needs.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<libc::gid_t>();
        if result == 0 {
            groups.truncate(count);
            return groups;
        }
        // ERANGE: the vector is too short.
        groups.resize(count.clamp(USUAL_GROUPS, MAX_GROUPS), 0);
    }
    Vec::new()
}
