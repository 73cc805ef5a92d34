//! Calls that send: `write`, `sendto`, `sendmsg` and their variants.

use pmon_core::wire::{u32_at, u64_at};
use rustix::io::Errno;

use crate::seccomp::listener::InterceptedCall;
use crate::sockets::address::{NetlinkAddress, SOCKADDR_STORAGE, read_address};
use crate::sockets::proxy::SocketProxy;
use crate::tracee::memory::{CMSGHDR, MMSGHDR, MSGHDR, NO_OFFSET, TraceeMemory, UIO_MAXIOV, checked_len};

/// Returns whether the call with this number sends.
pub(crate) fn is_send(nr: i64) -> bool {
    let file_calls = [libc::SYS_write, libc::SYS_writev, libc::SYS_pwritev2];
    file_calls.contains(&nr) || [libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg].contains(&nr)
}

/// Executes a sending call.
pub(crate) fn send(proxy: &mut SocketProxy, call: &InterceptedCall<'_>) -> Result<usize, Errno> {
    let memory = call.memory();
    let [_, a, b, flags, name, name_len] = call.args();
    match call.nr() {
        libc::SYS_write => send_datagram(proxy, &memory.gather(&[(a, b as usize)])?, None),
        libc::SYS_pwritev2 if flags != NO_OFFSET => Err(Errno::SPIPE),
        libc::SYS_writev | libc::SYS_pwritev2 if b == 0 => Ok(0),
        libc::SYS_writev | libc::SYS_pwritev2 => {
            send_datagram(proxy, &memory.gather(&memory.iovecs(a, b)?)?, None)
        }
        libc::SYS_sendto => {
            check_flags(flags)?;
            let destination = read_name(memory, name, name_len)?;
            send_datagram(proxy, &memory.gather(&[(a, b as usize)])?, destination)
        }
        libc::SYS_sendmsg => send_message(proxy, memory, a, b),
        _ => send_messages(proxy, memory, a, b.min(UIO_MAXIOV), flags),
    }
}

fn send_datagram(
    proxy: &mut SocketProxy,
    datagram: &[u8],
    destination: Option<NetlinkAddress>,
) -> Result<usize, Errno> {
    match destination {
        Some((port, groups)) => proxy.socket.send_to(datagram, port, groups),
        None => proxy.socket.send(datagram),
    }
}

fn send_message(proxy: &mut SocketProxy, memory: TraceeMemory, at: u64, flags: u64) -> Result<usize, Errno> {
    check_flags(flags)?;
    let bytes: [u8; MSGHDR] = memory.bytes(at)?;
    let (name, name_len) = (u64_at(&bytes, 0), checked_len(u32_at(&bytes, 8))?);
    let destination = read_name(memory, name, (name_len as u64).min(SOCKADDR_STORAGE))?;
    let count = u64_at(&bytes, 24);
    if count > UIO_MAXIOV {
        return Err(Errno::MSGSIZE);
    }
    check_control(memory, u64_at(&bytes, 32), u64_at(&bytes, 40))?;
    send_datagram(proxy, &memory.gather(&memory.iovecs(u64_at(&bytes, 16), count)?)?, destination)
}

fn send_messages(
    proxy: &mut SocketProxy,
    memory: TraceeMemory,
    address: u64,
    count: u64,
    flags: u64,
) -> Result<usize, Errno> {
    for at in 0..count {
        let header = address.wrapping_add(at * MMSGHDR);
        let sent = send_message(proxy, memory, header, flags)
            .and_then(|sent| memory.write(header.wrapping_add(MSGHDR as u64), &(sent as u32).to_ne_bytes()));
        match sent {
            Ok(()) => {}
            Err(error) if at == 0 => return Err(error),
            Err(_) => return Ok(at as usize),
        }
    }
    Ok(count as usize)
}

fn check_flags(flags: u64) -> Result<(), Errno> {
    if flags & libc::MSG_OOB as u64 != 0 { Err(Errno::OPNOTSUPP) } else { Ok(()) }
}

/// Checks control messages. A netlink socket accepts only credentials, which the fake kernel
/// ignores.
fn check_control(memory: TraceeMemory, address: u64, len: u64) -> Result<(), Errno> {
    /// Size of `struct ucred`.
    const SIZEOF_UCRED: usize = 12;
    if len > i32::MAX as u64 {
        return Err(Errno::NOBUFS);
    }
    let mut control = &*if address == 0 { Vec::new() } else { memory.vec(address, len as usize)? };
    while control.len() >= CMSGHDR {
        let len = u64_at(control, 0) as usize;
        if len < CMSGHDR || len > control.len() {
            return Err(Errno::INVAL);
        }
        let (level, message_type) = (u32_at(control, 8), u32_at(control, 12));
        if level == libc::SOL_SOCKET as u32
            && (message_type != libc::SCM_CREDENTIALS as u32 || len < CMSGHDR + SIZEOF_UCRED)
        {
            return Err(Errno::INVAL);
        }
        control = control.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(())
}

/// Returns the file descriptors in the control messages of a `sendmsg` call.
pub(crate) fn passed_fds(call: &InterceptedCall<'_>) -> Vec<u32> {
    let memory = call.memory();
    let mut fds = Vec::new();
    let header = memory.bytes::<MSGHDR>(call.args()[1]);
    // If the memory is unreadable, the kernel refuses the call.
    let control = header.and_then(|header| memory.vec(u64_at(&header, 32), u64_at(&header, 40) as usize));
    let control = control.unwrap_or_default();
    let mut rest = &*control;
    while rest.len() >= CMSGHDR {
        let len = (u64_at(rest, 0) as usize).clamp(CMSGHDR, rest.len());
        if (u32_at(rest, 8), u32_at(rest, 12)) == (libc::SOL_SOCKET as u32, libc::SCM_RIGHTS as u32) {
            fds.extend(rest[CMSGHDR..len].chunks_exact(4).map(|fd| u32_at(fd, 0)));
        }
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    fds
}

/// Reads the destination of a datagram; `None` if `at` or `len` is 0.
fn read_name(memory: TraceeMemory, at: u64, len: u64) -> Result<Option<NetlinkAddress>, Errno> {
    if at == 0 || len == 0 { Ok(None) } else { read_address(memory, at, len).map(Some) }
}
