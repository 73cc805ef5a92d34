//! Calls that send: `write`, `sendto`, `sendmsg` and their variants.

use pmon_core::wire::u32_at;
use rustix::io::Errno;

use crate::seccomp::listener::InterceptedCall;
use crate::sockets::address::{SOCKADDR_STORAGE, SocketAddress};
use crate::sockets::proxy::SocketProxy;
use crate::sockets::receive::{MSG_CMSG_COMPAT, check_offset, socket_flags};
use crate::tracee::abi::{Abi, MessageHeader};
use crate::tracee::memory::{Buffers, TraceeMemory, UIO_MAXIOV};
use crate::tracee::scattered_copy::ScatteredCopy;

/// Size of `struct ucred`.
const UCRED: usize = 12;
/// Maximum bytes of control messages (`net.core.optmem_max`).
const OPTMEM_MAX: u64 = 128 << 10;

/// Returns whether the call with this number sends.
pub(crate) fn is_send(nr: i64) -> bool {
    let file_calls = [libc::SYS_write, libc::SYS_writev, libc::SYS_pwritev2];
    file_calls.contains(&nr) || [libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg].contains(&nr)
}

/// A datagram to be sent. Its data is still in the memory of the tracee.
struct OutgoingDatagram {
    data: Buffers,
    /// The destination; empty or absent for that of `connect`.
    address: Option<SocketAddress>,
    control: Vec<u8>,
}

/// Executes a sending call.
pub(crate) fn send(proxy: &mut SocketProxy, call: &InterceptedCall<'_>) -> Result<usize, Errno> {
    let memory = call.memory();
    let [_, a, b, c, d, e] = call.args();
    let file_call = |data| OutgoingDatagram { data, address: None, control: Vec::new() };
    match call.nr() {
        libc::SYS_write => file_call(Buffers::of_file_call(a, b)?).send(proxy, memory, 0),
        libc::SYS_writev | libc::SYS_pwritev2 => {
            let is_positioned = call.nr() == libc::SYS_pwritev2;
            if is_positioned {
                check_offset(c)?;
            }
            let data = memory.buffers(a, b)?;
            if data.len() == 0 {
                return Ok(0);
            }
            let flags = if is_positioned { socket_flags(e)? } else { 0 };
            file_call(data).send(proxy, memory, flags)
        }
        libc::SYS_sendto => {
            let data = Buffers::one(a, b)?;
            let address = if d == 0 { None } else { Some(SocketAddress::read(memory, d, e as u32)?) };
            OutgoingDatagram { data, address, control: Vec::new() }.send(proxy, memory, c as u32)
        }
        libc::SYS_sendmsg => send_message(proxy, memory, a, b as u32),
        _ => send_messages(proxy, memory, a, u64::from(b as u32).min(UIO_MAXIOV), c as u32),
    }
}

/// Executes `sendmsg` with the `struct msghdr` at an address.
fn send_message(proxy: &mut SocketProxy, memory: TraceeMemory, at: u64, flags: u32) -> Result<usize, Errno> {
    check_flags(memory, flags)?;
    OutgoingDatagram::read(memory, at)?.send(proxy, memory, flags)
}

/// Executes `sendmmsg`; returns the number of datagrams sent.
fn send_messages(
    proxy: &mut SocketProxy,
    memory: TraceeMemory,
    address: u64,
    count: u64,
    flags: u32,
) -> Result<usize, Errno> {
    check_flags(memory, flags)?;
    let mut copy = ScatteredCopy::default();
    for at in 0..count {
        let header = address.wrapping_add(at * memory.abi.mmsghdr_len());
        let sent = send_message(proxy, memory, header, flags).and_then(|sent| {
            copy.push_integer(
                header.wrapping_add(memory.abi.msghdr_len() as u64),
                &(sent as u32).to_ne_bytes(),
            );
            copy.finish(memory)
        });
        match sent {
            Ok(()) => {}
            Err(error) if at == 0 => return Err(error),
            Err(_) => return Ok(at as usize),
        }
    }
    Ok(count as usize)
}

/// Refuses a flag that only the kernel may set. It sets this flag itself for 32-bit programs.
fn check_flags(memory: TraceeMemory, flags: u32) -> Result<(), Errno> {
    let is_refused = memory.abi == Abi::Native && flags & MSG_CMSG_COMPAT != 0;
    if is_refused { Err(Errno::INVAL) } else { Ok(()) }
}

impl OutgoingDatagram {
    /// Reads a `struct msghdr` and what it refers to, except the data.
    fn read(memory: TraceeMemory, at: u64) -> Result<Self, Errno> {
        let MessageHeader { name, name_len, buffers, buffer_count, control, control_len } =
            memory.abi.message_header(&memory.vec(at, memory.abi.msghdr_len())?);
        let address = match name {
            0 => None,
            _ if name_len as i32 >= 0 => {
                Some(SocketAddress::read(memory, name, name_len.min(SOCKADDR_STORAGE as u32))?)
            }
            _ => return Err(Errno::INVAL),
        };
        if buffer_count > UIO_MAXIOV {
            return Err(Errno::MSGSIZE);
        }
        let data = memory.buffers(buffers, buffer_count)?;
        if control_len >= OPTMEM_MAX {
            return Err(Errno::NOBUFS);
        }
        Ok(Self { data, address, control: memory.vec(control, control_len as usize)? })
    }

    /// Sends the datagram, with the checks in the order of the kernel: the data is read last.
    fn send(&self, proxy: &mut SocketProxy, memory: TraceeMemory, flags: u32) -> Result<usize, Errno> {
        if flags & libc::MSG_OOB as u32 != 0 {
            return Err(Errno::OPNOTSUPP);
        }
        let len = self.data.len();
        if len == 0 {
            return Err(Errno::NODATA);
        }
        check_control(memory.abi, &self.control)?;
        let address = self.address.as_ref().filter(|address| !address.is_empty());
        let destination = address.map(SocketAddress::netlink).transpose()?;
        proxy.socket.prepare_send(len, destination)?;
        let datagram = memory.gather(&self.data)?;
        match destination {
            Some((port, groups)) => proxy.socket.send_to(&datagram, port, groups),
            None => proxy.socket.send(&datagram),
        }
    }
}

/// Checks control messages. A netlink socket accepts only credentials, which the fake kernel
/// ignores.
fn check_control(abi: Abi, mut control: &[u8]) -> Result<(), Errno> {
    let header_len = abi.cmsghdr_len();
    while let Some(header) = abi.control_header(control) {
        let len = header.len;
        if len < header_len || len > control.len() {
            return Err(Errno::INVAL);
        }
        let is_credentials = header.message_type == libc::SCM_CREDENTIALS as u32 && len == header_len + UCRED;
        if header.level == libc::SOL_SOCKET as u32 && !is_credentials {
            return Err(Errno::INVAL);
        }
        control = control.get(len.next_multiple_of(abi.word_len())..).unwrap_or_default();
    }
    Ok(())
}

/// Returns the file descriptors in the control messages of a `sendmsg` call.
pub(crate) fn passed_fds(call: &InterceptedCall<'_>) -> Vec<u32> {
    let memory = call.memory();
    let mut fds = Vec::new();
    let abi = memory.abi;
    let header = memory.vec(call.args()[1], abi.msghdr_len()).map(|bytes| abi.message_header(&bytes));
    // If the memory is unreadable, the kernel refuses the call.
    let control = header.and_then(|header| memory.vec(header.control, header.control_len as usize));
    let control = control.unwrap_or_default();
    let mut rest = &*control;
    while let Some(header) = abi.control_header(rest) {
        let len = header.len.clamp(abi.cmsghdr_len(), rest.len());
        if (header.level, header.message_type) == (libc::SOL_SOCKET as u32, libc::SCM_RIGHTS as u32) {
            fds.extend(rest[abi.cmsghdr_len()..len].chunks_exact(4).map(|fd| u32_at(fd, 0)));
        }
        rest = rest.get(len.next_multiple_of(abi.word_len())..).unwrap_or_default();
    }
    fds
}
