//! `setsockopt` and `getsockopt`, with the options of netlink sockets.

use libc::c_int;
use rustix::io::Errno;

use crate::seccomp::listener::InterceptedCall;
use crate::sockets::proxy::SocketProxy;
use crate::tracee::scattered_copy::ScatteredCopy;

mod netlink_level;
mod socket_level;
mod values;

/// Executes `setsockopt`.
pub(crate) fn set(proxy: &mut SocketProxy, call: &mut InterceptedCall<'_>) -> Result<usize, Errno> {
    let [_, level, option, at, len, _] = call.args();
    let (level, option) = (level as c_int, option as c_int);
    let len = usize::try_from(len as c_int).map_err(|_negative| Errno::INVAL)?;
    match level {
        libc::SOL_SOCKET => socket_level::set(proxy, call, option, (at, len)),
        libc::SOL_NETLINK => netlink_level::set(proxy, call.memory(), option, (at, len)),
        _ => Err(Errno::NOPROTOOPT),
    }?;
    Ok(0)
}

/// Executes `getsockopt`.
pub(crate) fn get(proxy: &mut SocketProxy, call: &InterceptedCall<'_>) -> Result<usize, Errno> {
    let [_, level, option, at, len_at, _] = call.args();
    let (level, option, memory) = (level as c_int, option as c_int, call.memory());
    if ![libc::SOL_SOCKET, libc::SOL_NETLINK].contains(&level) {
        return Err(Errno::NOPROTOOPT);
    }
    let room = usize::try_from(memory.u32(len_at)? as c_int).map_err(|_negative| Errno::INVAL)?;
    let mut copy = ScatteredCopy::default();
    let len_bytes = |len: usize| (len as u32).to_ne_bytes();
    let mut written = Ok(());
    if level == libc::SOL_SOCKET {
        let (value, len) = socket_level::get(proxy, memory.abi, option, room)?;
        copy.push(at, &value);
        copy.push_integer(len_at, &len_bytes(len));
    } else {
        let value = netlink_level::get(proxy, option, room)?;
        if option == libc::NETLINK_LIST_MEMBERSHIPS {
            // A fault does not keep the kernel from writing the length.
            copy.push_integer(at, &value[..value.len().min(room / 4 * 4)]);
            written = copy.finish(memory);
        }
        copy.push_integer(len_at, &len_bytes(value.len()));
        if option != libc::NETLINK_LIST_MEMBERSHIPS {
            copy.push(at, &value);
        }
    }
    copy.finish(memory).and(written).map(|()| 0)
}
