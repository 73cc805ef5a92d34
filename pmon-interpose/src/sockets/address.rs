//! `struct sockaddr_nl`, and the calls on addresses: `bind`, `connect`, `getsockname`,
//! `getpeername`.

use pmon_core::wire::u32_at;
use rustix::io::Errno;

use crate::seccomp::listener::InterceptedCall;
use crate::sockets::proxy::SocketProxy;
use crate::tracee::memory::{TraceeMemory, checked_len};

/// Size of `struct sockaddr_nl`.
pub(crate) const SOCKADDR_NL: usize = 12;
/// Size of `struct sockaddr_storage`, the maximum of all addresses.
pub(crate) const SOCKADDR_STORAGE: u64 = 128;

/// A netlink address: a port, and a mask of groups.
pub(crate) type NetlinkAddress = (u32, u32);

/// Encodes `struct sockaddr_nl`.
pub(crate) fn encode_address((port, groups): NetlinkAddress) -> [u8; SOCKADDR_NL] {
    let mut address = [0; SOCKADDR_NL];
    address[..2].copy_from_slice(&(libc::AF_NETLINK as u16).to_ne_bytes());
    address[4..8].copy_from_slice(&port.to_ne_bytes());
    address[8..].copy_from_slice(&groups.to_ne_bytes());
    address
}

/// Reads `struct sockaddr_nl`; `EINVAL` for another family.
pub(crate) fn read_address(memory: TraceeMemory, at: u64, len: u64) -> Result<NetlinkAddress, Errno> {
    if len > SOCKADDR_STORAGE || len < SOCKADDR_NL as u64 {
        return Err(Errno::INVAL);
    }
    let bytes: [u8; SOCKADDR_NL] = memory.bytes(at)?;
    if family(&bytes) != libc::AF_NETLINK as u16 {
        return Err(Errno::INVAL);
    }
    Ok((u32_at(&bytes, 4), u32_at(&bytes, 8)))
}

/// Returns the family of an address.
pub(crate) fn family(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |bytes| u16::from_ne_bytes(*bytes))
}

/// Executes `bind`.
pub(crate) fn bind(proxy: &mut SocketProxy, call: &InterceptedCall<'_>) -> Result<usize, Errno> {
    let [_, at, len, ..] = call.args();
    let (port, groups) = read_address(call.memory(), at, len)?;
    proxy.socket.bind(port, groups).map(|()| 0)
}

/// Executes `connect`.
pub(crate) fn connect(proxy: &mut SocketProxy, call: &InterceptedCall<'_>) -> Result<usize, Errno> {
    let [_, at, len, ..] = call.args();
    let memory = call.memory();
    if !(2..=SOCKADDR_STORAGE).contains(&len) {
        return Err(Errno::INVAL);
    }
    if family(&memory.bytes::<2>(at)?) == libc::AF_UNSPEC as u16 {
        proxy.socket.disconnect();
        return Ok(0);
    }
    let (port, groups) = read_address(memory, at, len)?;
    proxy.socket.connect(port, groups).map(|()| 0)
}

/// Executes `getsockname` or `getpeername`, whose result is `address`.
pub(crate) fn return_address(address: NetlinkAddress, call: &InterceptedCall<'_>) -> Result<usize, Errno> {
    let [_, at, len_at, ..] = call.args();
    let memory = call.memory();
    let room = checked_len(memory.u32(len_at)?)?;
    let address = encode_address(address);
    memory.write(at, &address[..address.len().min(room)])?;
    memory.write(len_at, &(address.len() as u32).to_ne_bytes())?;
    Ok(0)
}
