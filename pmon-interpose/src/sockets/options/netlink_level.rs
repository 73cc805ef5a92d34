//! The options of `SOL_NETLINK`.

use libc::c_int;
use rustix::io::Errno;

use crate::sockets::proxy::SocketProxy;
use crate::tracee::memory::TraceeMemory;

/// Boolean options that are stored and returned, without an effect.
const STORED_FLAGS: [c_int; 5] = [
    libc::NETLINK_BROADCAST_ERROR,
    libc::NETLINK_LISTEN_ALL_NSID,
    libc::NETLINK_CAP_ACK,
    libc::NETLINK_EXT_ACK,
    libc::NETLINK_GET_STRICT_CHK,
];

/// Sets an option to the value at an address.
pub(super) fn set(
    proxy: &mut SocketProxy,
    memory: TraceeMemory,
    option: c_int,
    (at, len): (u64, usize),
) -> Result<(), Errno> {
    let SocketProxy { socket, options, .. } = proxy;
    let value = if len < 4 { 0 } else { memory.u32(at)? as i32 };
    let is_on = value != 0;
    match option {
        libc::NETLINK_ADD_MEMBERSHIP | libc::NETLINK_DROP_MEMBERSHIP => {
            let adds = option == libc::NETLINK_ADD_MEMBERSHIP;
            let done = if adds { socket.add_membership(value) } else { socket.drop_membership(value) };
            options.has_group_list |= done != Err(Errno::PERM);
            return done;
        }
        libc::NETLINK_PKTINFO => options.pktinfo = is_on,
        libc::NETLINK_NO_ENOBUFS => socket.set_no_enobufs(is_on),
        _ if STORED_FLAGS.contains(&option) => options.store(libc::SOL_NETLINK, option, is_on.into()),
        _ => return Err(Errno::NOPROTOOPT),
    }
    Ok(())
}

/// Returns the value of an option, for a buffer of `room` bytes.
pub(super) fn get(proxy: &SocketProxy, option: c_int, room: usize) -> Result<Vec<u8>, Errno> {
    let SocketProxy { socket, options, .. } = proxy;
    let is_on = match option {
        libc::NETLINK_LIST_MEMBERSHIPS if options.has_group_list => {
            return Ok(socket.name().1.to_ne_bytes().to_vec());
        }
        libc::NETLINK_LIST_MEMBERSHIPS => return Ok(Vec::new()),
        libc::NETLINK_PKTINFO => options.pktinfo,
        libc::NETLINK_NO_ENOBUFS => socket.no_enobufs(),
        _ if STORED_FLAGS.contains(&option) => options.stored(libc::SOL_NETLINK, option, 0) != 0,
        _ => return Err(Errno::NOPROTOOPT),
    };
    if room < 4 { Err(Errno::INVAL) } else { Ok(u32::from(is_on).to_ne_bytes().to_vec()) }
}
