//! Calls that send, and those about addresses.

use pmon_core::wire::{u32_at, u64_at};
use rustix::io::Errno;

use crate::sockets::proxy::Held;
use crate::sockets::receive::address;
use crate::sys::Notification;
use crate::tracee::{CMSGHDR, MMSGHDR, MSGHDR, Memory, UIO_MAXIOV};

/// `struct sockaddr_nl`.
const ADDRESS: usize = 12;
/// `struct sockaddr_storage`: no address is longer.
const LONGEST: u64 = 128;

/// The offset of `preadv2` and `pwritev2` by which they are `readv` and `writev`.
pub(crate) const NO_OFFSET: u64 = u64::MAX;

/// A port and groups, as a mask.
type Address = (u32, u32);

/// The call's answer.
pub(crate) fn send(held: &mut Held, notification: &Notification) -> Result<usize, Errno> {
    let memory = Memory(notification.pid);
    let [_, a, b, flags, name, name_len] = notification.data.args;
    match i64::from(notification.data.nr) {
        libc::SYS_write => to(held, &memory.gather(&[(a, b as usize)])?, None),
        libc::SYS_pwritev2 if flags != NO_OFFSET => Err(Errno::SPIPE),
        libc::SYS_writev | libc::SYS_pwritev2 if b == 0 => Ok(0),
        libc::SYS_writev | libc::SYS_pwritev2 => to(held, &memory.gather(&memory.buffers(a, b)?)?, None),
        libc::SYS_sendto => {
            check_flags(flags)?;
            let to_whom = if name == 0 { None } else { named(memory, name, name_len)? };
            to(held, &memory.gather(&[(a, b as usize)])?, to_whom)
        }
        libc::SYS_sendmsg => message(held, memory, a, b),
        _ => many(held, memory, a, b.min(UIO_MAXIOV), flags),
    }
}

fn to(held: &mut Held, datagram: &[u8], whom: Option<Address>) -> Result<usize, Errno> {
    match whom {
        Some((port, groups)) => held.socket.send_to(datagram, port, groups),
        None => held.socket.send(datagram),
    }
}

fn message(held: &mut Held, memory: Memory, header: u64, flags: u64) -> Result<usize, Errno> {
    check_flags(flags)?;
    let bytes: [u8; MSGHDR] = memory.bytes(header)?;
    let (name, name_len) = (u64_at(&bytes, 0), u32_at(&bytes, 8));
    if name_len > i32::MAX as u32 {
        return Err(Errno::INVAL);
    }
    let whom = if name == 0 { None } else { named(memory, name, u64::from(name_len).min(LONGEST))? };
    let count = u64_at(&bytes, 24);
    if count > UIO_MAXIOV {
        return Err(Errno::MSGSIZE);
    }
    check_control(memory, u64_at(&bytes, 32), u64_at(&bytes, 40))?;
    to(held, &memory.gather(&memory.buffers(u64_at(&bytes, 16), count)?)?, whom)
}

fn many(held: &mut Held, memory: Memory, address: u64, count: u64, flags: u64) -> Result<usize, Errno> {
    for at in 0..count {
        let header = address.wrapping_add(at * MMSGHDR);
        let sent = message(held, memory, header, flags)
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

/// Control messages: nothing can be sent along but who one is, and that is known.
fn check_control(memory: Memory, address: u64, len: u64) -> Result<(), Errno> {
    if len > i32::MAX as u64 {
        return Err(Errno::NOBUFS);
    }
    let mut control = &*if address == 0 { Vec::new() } else { memory.vec(address, len as usize)? };
    while control.len() >= CMSGHDR {
        let len = u64_at(control, 0) as usize;
        if len < CMSGHDR || len > control.len() {
            return Err(Errno::INVAL);
        }
        let (level, kind) = (u32_at(control, 8), u32_at(control, 12));
        if level == libc::SOL_SOCKET as u32
            && (kind != libc::SCM_CREDENTIALS as u32 || len < CMSGHDR + ADDRESS)
        {
            return Err(Errno::INVAL);
        }
        control = control.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(())
}

/// The file descriptors that a call of `sendmsg` passes on.
pub(crate) fn passed_on(notification: &Notification) -> Vec<u32> {
    let memory = Memory(notification.pid);
    let mut fds = Vec::new();
    let header = memory.bytes::<MSGHDR>(notification.data.args[1]);
    // What cannot be read is the kernel's to refuse.
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

/// The address of a datagram, if there is one.
fn named(memory: Memory, at: u64, len: u64) -> Result<Option<Address>, Errno> {
    if len == 0 { Ok(None) } else { read_address(memory, at, len).map(Some) }
}

fn read_address(memory: Memory, at: u64, len: u64) -> Result<Address, Errno> {
    if len > LONGEST || len < ADDRESS as u64 {
        return Err(Errno::INVAL);
    }
    let bytes: [u8; ADDRESS] = memory.bytes(at)?;
    if family(&bytes) != libc::AF_NETLINK as u16 {
        return Err(Errno::INVAL);
    }
    Ok((u32_at(&bytes, 4), u32_at(&bytes, 8)))
}

fn family(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |bytes| u16::from_ne_bytes(*bytes))
}

/// `bind`.
pub(crate) fn bind(held: &mut Held, notification: &Notification) -> Result<usize, Errno> {
    let [_, at, len, ..] = notification.data.args;
    let (port, groups) = read_address(Memory(notification.pid), at, len)?;
    held.socket.bind(port, groups).map(|()| 0)
}

/// `connect`.
pub(crate) fn connect(held: &mut Held, notification: &Notification) -> Result<usize, Errno> {
    let [_, at, len, ..] = notification.data.args;
    let memory = Memory(notification.pid);
    if !(2..=LONGEST).contains(&len) {
        return Err(Errno::INVAL);
    }
    if family(&memory.bytes::<2>(at)?) == libc::AF_UNSPEC as u16 {
        held.socket.disconnect();
        return Ok(0);
    }
    let (port, groups) = read_address(memory, at, len)?;
    held.socket.connect(port, groups).map(|()| 0)
}

/// `getsockname` and `getpeername`.
pub(crate) fn tell_address((port, groups): Address, notification: &Notification) -> Result<usize, Errno> {
    let [_, at, len_at, ..] = notification.data.args;
    let memory = Memory(notification.pid);
    let room = memory.u32(len_at)?;
    if room > i32::MAX as u32 {
        return Err(Errno::INVAL);
    }
    let address = address(port, groups);
    memory.write(at, &address[..address.len().min(room as usize)])?;
    memory.write(len_at, &(address.len() as u32).to_ne_bytes())?;
    Ok(0)
}
