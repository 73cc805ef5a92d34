//! `struct sockaddr_nl`, and the calls on addresses: `bind`, `connect`, `getsockname`,
//! `getpeername`.

use pmon_core::wire::u32_at;
use rustix::io::Errno;

use crate::seccomp::listener::InterceptedCall;
use crate::sockets::proxy::SocketProxy;
use crate::tracee::memory::TraceeMemory;
use crate::tracee::scattered_copy::ScatteredCopy;

/// Size of `struct sockaddr_nl`.
pub(crate) const SOCKADDR_NL: usize = 12;
/// Size of `struct sockaddr_storage`, the maximum of all addresses.
pub(crate) const SOCKADDR_STORAGE: usize = 128;

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

/// An address of any family, as the kernel copies it before it calls the socket.
pub(crate) struct SocketAddress {
    bytes: [u8; SOCKADDR_STORAGE],
    len: usize,
}

impl SocketAddress {
    /// Reads an address (`move_addr_to_kernel`).
    pub(crate) fn read(memory: TraceeMemory, at: u64, len: u32) -> Result<Self, Errno> {
        let (mut bytes, len) = ([0; SOCKADDR_STORAGE], len as usize);
        memory.read(at, bytes.get_mut(..len).ok_or(Errno::INVAL)?)?;
        Ok(Self { bytes, len })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn family(&self) -> i32 {
        u16::from_ne_bytes([self.bytes[0], self.bytes[1]]).into()
    }

    /// Returns the netlink address; `EINVAL` if it is too short or of another family.
    pub(crate) fn netlink(&self) -> Result<NetlinkAddress, Errno> {
        if self.len < SOCKADDR_NL || self.family() != libc::AF_NETLINK {
            return Err(Errno::INVAL);
        }
        Ok((u32_at(&self.bytes, 4), u32_at(&self.bytes, 8)))
    }
}

/// Executes `bind`.
pub(crate) fn bind(proxy: &mut SocketProxy, call: &InterceptedCall<'_>) -> Result<usize, Errno> {
    let [_, at, len, ..] = call.args();
    let (port, groups) = SocketAddress::read(call.memory(), at, len as u32)?.netlink()?;
    let bound = proxy.socket.bind(port, groups);
    proxy.options.has_group_list |= groups != 0 && bound != Err(Errno::PERM);
    bound.map(|()| 0)
}

/// Executes `connect`.
pub(crate) fn connect(proxy: &mut SocketProxy, call: &InterceptedCall<'_>) -> Result<usize, Errno> {
    let [_, at, len, ..] = call.args();
    let address = SocketAddress::read(call.memory(), at, len as u32)?;
    if address.len < size_of::<libc::sa_family_t>() {
        return Err(Errno::INVAL);
    }
    if address.family() == libc::AF_UNSPEC {
        proxy.socket.disconnect();
        return Ok(0);
    }
    let (port, groups) = address.netlink()?;
    proxy.socket.connect(port, groups).map(|()| 0)
}

/// Executes `getsockname` or `getpeername`, whose result is `address`.
pub(crate) fn return_address(address: NetlinkAddress, call: &InterceptedCall<'_>) -> Result<usize, Errno> {
    let [_, at, len_at, ..] = call.args();
    let (memory, mut copy) = (call.memory(), ScatteredCopy::default());
    let room = memory.u32(len_at)? as i32;
    let pushed = push_name(&mut copy, &encode_address(address), at, len_at, room);
    copy.finish(memory).and(pushed).map(|()| 0)
}

/// Adds an address and its length to a copy (`move_addr_to_user`): first the length, unless `room`
/// is negative, then as much of the address as there is room for.
pub(crate) fn push_name(
    copy: &mut ScatteredCopy,
    address: &[u8; SOCKADDR_NL],
    at: u64,
    len_at: u64,
    room: i32,
) -> Result<(), Errno> {
    let room = usize::try_from(room).map_err(|_negative| Errno::INVAL)?;
    copy.push_integer(len_at, &(address.len() as u32).to_ne_bytes());
    copy.push(at, &address[..address.len().min(room)]);
    Ok(())
}
