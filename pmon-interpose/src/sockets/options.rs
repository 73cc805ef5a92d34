//! `setsockopt` and `getsockopt`, with the options of netlink sockets.

use std::time::Duration;

use pmon_core::wire::u64_at;
use pmon_fake::SockFilter;
use rustix::io::Errno;

use crate::seccomp::call::InterceptedCall;
use crate::sockets::abi::{NETLINK_PKTINFO, SOL_NETLINK};
use crate::sockets::address::encode_address;
use crate::sockets::proxy::SocketProxy;
use crate::tracee::memory::TraceeMemory;

/// Mask of the part of an argument that is an `int`.
const INT_MASK: u64 = 0xFFFF_FFFF;
const SOL_SOCKET: u64 = libc::SOL_SOCKET as u64;
// `NETLINK_ADD_MEMBERSHIP` and so on.
const ADD_MEMBERSHIP: u64 = 1;
const DROP_MEMBERSHIP: u64 = 2;
const BROADCAST_ERROR: u64 = 4;
const NO_ENOBUFS: u64 = 5;
const LISTEN_ALL_NSID: u64 = 8;
const LIST_MEMBERSHIPS: u64 = 9;
const CAP_ACK: u64 = 10;
const EXT_ACK: u64 = 11;
const STRICT_CHK: u64 = 12;
// Options of `SOL_SOCKET` that `libc` does not define on all architectures.
const SO_RCVTIMEO_NEW: u64 = 66;
const SO_SNDTIMEO_NEW: u64 = 67;
const SO_BUF_LOCK: u64 = 72;
const SO_PASSPIDFD: u64 = 76;
/// Default of `SO_SNDBUF`: `net.core.wmem_default`.
const SNDBUF: i32 = 212_992;
/// Minimum of `SO_SNDBUF` (`SOCK_MIN_SNDBUF`).
const SNDBUF_MIN: i32 = 4608;
/// Maximum of `SO_SNDBUF`: `net.core.wmem_max`.
const WMEM_MAX: i32 = 4 << 20;

/// Options of `SOL_SOCKET` that are stored and returned, without an effect.
const STORED_ONLY: [libc::c_int; 21] = [
    libc::SO_DEBUG,
    libc::SO_REUSEADDR,
    libc::SO_BROADCAST,
    libc::SO_KEEPALIVE,
    libc::SO_PRIORITY,
    libc::SO_RCVLOWAT,
    libc::SO_TIMESTAMP,
    libc::SO_TIMESTAMPNS,
    libc::SO_PASSSEC,
    libc::SO_MARK,
    libc::SO_RXQ_OVFL,
    libc::SO_BUSY_POLL,
    libc::SO_NO_CHECK,
    libc::SO_DONTROUTE,
    libc::SO_OOBINLINE,
    libc::SO_BSDCOMPAT,
    libc::SO_TIMESTAMPING,
    libc::SO_WIFI_STATUS,
    libc::SO_NOFCS,
    libc::SO_SELECT_ERR_QUEUE,
    libc::SO_MAX_PACING_RATE,
];

/// Executes `setsockopt`.
pub(crate) fn set(proxy: &mut SocketProxy, call: &InterceptedCall<'_>) -> Result<usize, Errno> {
    let [_, level, option, at, len, _] = call.args();
    let (level, option, len) = (level & INT_MASK, option & INT_MASK, len & INT_MASK);
    let memory = call.memory();
    if len > i32::MAX as u64 {
        return Err(Errno::INVAL);
    }
    let value = |len: u64| if len < 4 { Ok(0) } else { memory.u32(at).map(|value| value as i32) };
    match level {
        SOL_SOCKET => {
            if len < 4 {
                return Err(Errno::INVAL);
            }
            set_socket(proxy, memory, option, (at, len), value(len)?)
        }
        SOL_NETLINK => set_netlink(proxy, option, value(len)?),
        _ => Err(Errno::NOPROTOOPT),
    }?;
    Ok(0)
}

fn set_socket(
    proxy: &mut SocketProxy,
    memory: TraceeMemory,
    option: u64,
    (at, len): (u64, u64),
    value: i32,
) -> Result<(), Errno> {
    match option as libc::c_int {
        libc::SO_RCVBUF => proxy.socket.set_rcvbuf(value),
        libc::SO_RCVBUFFORCE => proxy.socket.force_rcvbuf(value)?,
        libc::SO_SNDBUF => {
            let value = if value < 0 { WMEM_MAX } else { value.min(WMEM_MAX) };
            proxy.options.stored.insert((SOL_SOCKET, option), (value * 2).max(SNDBUF_MIN));
        }
        libc::SO_SNDBUFFORCE => {
            let value = value.clamp(0, i32::MAX / 2) * 2;
            proxy.options.stored.insert((SOL_SOCKET, libc::SO_SNDBUF as u64), value.max(SNDBUF_MIN));
        }
        libc::SO_PASSCRED => proxy.options.passcred = value != 0,
        libc::SO_RCVTIMEO => proxy.options.rcvtimeo = read_timeout(memory, at, len)?,
        _ if option == SO_RCVTIMEO_NEW => proxy.options.rcvtimeo = read_timeout(memory, at, len)?,
        libc::SO_SNDTIMEO => read_timeout(memory, at, len).map(|_| ())?,
        _ if option == SO_SNDTIMEO_NEW => read_timeout(memory, at, len).map(|_| ())?,
        libc::SO_ATTACH_FILTER => proxy.socket.attach_filter(&read_program(memory, at, len)?)?,
        libc::SO_DETACH_FILTER => proxy.socket.detach_filter()?,
        libc::SO_LOCK_FILTER => proxy.socket.lock_filter(value != 0)?,
        // eBPF programs belong to the real kernel.
        libc::SO_ATTACH_BPF => return Err(Errno::BADF),
        libc::SO_REUSEPORT | libc::SO_PEEK_OFF | libc::SO_ZEROCOPY => return Err(Errno::OPNOTSUPP),
        _ if option == SO_PASSPIDFD => return Err(Errno::OPNOTSUPP),
        libc::SO_LINGER => {}
        named if STORED_ONLY.contains(&named) => {
            let is_number =
                [libc::SO_PRIORITY, libc::SO_RCVLOWAT, libc::SO_MARK, libc::SO_BUSY_POLL].contains(&named);
            let value = if is_number { value } else { i32::from(value != 0) };
            proxy.options.stored.insert((SOL_SOCKET, option), value);
        }
        _ => return Err(Errno::NOPROTOOPT),
    }
    Ok(())
}

fn set_netlink(proxy: &mut SocketProxy, option: u64, value: i32) -> Result<(), Errno> {
    match option {
        ADD_MEMBERSHIP => proxy.socket.add_membership(value)?,
        DROP_MEMBERSHIP => proxy.socket.drop_membership(value)?,
        NETLINK_PKTINFO => proxy.options.pktinfo = value != 0,
        NO_ENOBUFS => proxy.socket.set_no_enobufs(value != 0),
        BROADCAST_ERROR | LISTEN_ALL_NSID | CAP_ACK | EXT_ACK | STRICT_CHK => {
            proxy.options.stored.insert((SOL_NETLINK, option), i32::from(value != 0));
        }
        _ => return Err(Errno::NOPROTOOPT),
    }
    Ok(())
}

/// Reads a `struct timeval` of a time-out; 0 means unlimited (`None`), and a negative time expires
/// at once.
fn read_timeout(memory: TraceeMemory, at: u64, len: u64) -> Result<Option<Duration>, Errno> {
    if len < 16 {
        return Err(Errno::INVAL);
    }
    let bytes: [u8; 16] = memory.bytes(at)?;
    let (seconds, micros) = (u64_at(&bytes, 0) as i64, u64_at(&bytes, 8));
    if micros >= 1_000_000 {
        return Err(Errno::DOM);
    }
    if seconds < 0 {
        return Ok(Some(Duration::ZERO));
    }
    let time = Duration::from_secs(seconds as u64) + Duration::from_micros(micros);
    Ok((!time.is_zero()).then_some(time))
}

/// Reads the classic BPF program of a `struct sock_fprog`.
fn read_program(memory: TraceeMemory, at: u64, len: u64) -> Result<Vec<SockFilter>, Errno> {
    if len != 16 {
        return Err(Errno::INVAL);
    }
    let header: [u8; 16] = memory.bytes(at)?;
    let count = usize::from(u16::from_ne_bytes([header[0], header[1]]));
    let bytes = memory.vec(u64_at(&header, 8), count * 8)?;
    let instructions = bytes.chunks_exact(8).map(|bytes| SockFilter {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    });
    Ok(instructions.collect())
}

/// Executes `getsockopt`.
pub(crate) fn get(proxy: &mut SocketProxy, call: &InterceptedCall<'_>) -> Result<usize, Errno> {
    let [_, level, option, at, len_at, _] = call.args();
    let (level, option) = (level & INT_MASK, option & INT_MASK);
    let memory = call.memory();
    let room = memory.u32(len_at)?;
    if room > i32::MAX as u32 {
        return Err(Errno::INVAL);
    }
    let room = room as usize;
    if (level, option) == (SOL_SOCKET, libc::SO_GET_FILTER as u64) {
        return get_filter(proxy, memory, at, room, len_at);
    }
    let (value, len) = match level {
        SOL_SOCKET => {
            let value = get_socket(proxy, option)?;
            let len = value.len().min(room);
            (value, len)
        }
        SOL_NETLINK if option == LIST_MEMBERSHIPS => (proxy.socket.name().1.to_ne_bytes().to_vec(), 4),
        SOL_NETLINK => {
            let value = get_netlink(proxy, option)?;
            if room < 4 {
                return Err(Errno::INVAL);
            }
            (value.to_ne_bytes().to_vec(), 4)
        }
        _ => return Err(Errno::NOPROTOOPT),
    };
    // The list of groups is written in whole words only.
    let written = if level == SOL_NETLINK && room < 4 { 0 } else { value.len().min(room) };
    memory.write(at, &value[..written])?;
    memory.write(len_at, &(len as u32).to_ne_bytes())?;
    Ok(0)
}

/// Executes `SO_GET_FILTER`, whose lengths are numbers of instructions.
fn get_filter(
    proxy: &SocketProxy,
    memory: TraceeMemory,
    at: u64,
    room: usize,
    len_at: u64,
) -> Result<usize, Errno> {
    let filter = proxy.socket.filter().unwrap_or_default();
    if room > 0 {
        if room < filter.len() {
            return Err(Errno::INVAL);
        }
        let bytes = filter.iter().flat_map(|instruction| {
            let SockFilter { code, jt, jf, k } = *instruction;
            let (code, k) = (code.to_ne_bytes(), k.to_ne_bytes());
            [code[0], code[1], jt, jf, k[0], k[1], k[2], k[3]]
        });
        memory.write(at, &bytes.collect::<Vec<u8>>())?;
    }
    memory.write(len_at, &(filter.len() as u32).to_ne_bytes())?;
    Ok(0)
}

fn get_socket(proxy: &mut SocketProxy, option: u64) -> Result<Vec<u8>, Errno> {
    let stored = proxy.options.stored.get(&(SOL_SOCKET, option)).copied();
    let memory = proxy.socket.memory();
    let number = match option as libc::c_int {
        libc::SO_TYPE => proxy.socket_type as i32,
        libc::SO_PROTOCOL => libc::NETLINK_CONNECTOR,
        libc::SO_DOMAIN => libc::AF_NETLINK,
        libc::SO_ACCEPTCONN => 0,
        libc::SO_RCVBUF => memory.rcvbuf as i32,
        libc::SO_SNDBUF => stored.unwrap_or(SNDBUF),
        libc::SO_ERROR => proxy.socket.take_error().map_or(0, Errno::raw_os_error),
        libc::SO_PASSCRED => i32::from(proxy.options.passcred),
        libc::SO_RCVLOWAT => stored.unwrap_or(1),
        libc::SO_SNDLOWAT => 1,
        libc::SO_INCOMING_CPU => -1,
        libc::SO_LOCK_FILTER => i32::from(proxy.socket.is_filter_locked()),
        libc::SO_RCVTIMEO | libc::SO_SNDTIMEO => {
            return Ok(timeval(proxy, option == libc::SO_RCVTIMEO as u64));
        }
        _ if option == SO_RCVTIMEO_NEW || option == SO_SNDTIMEO_NEW => {
            return Ok(timeval(proxy, option == SO_RCVTIMEO_NEW));
        }
        libc::SO_LINGER => return Ok(vec![0; 8]),
        // Process 0, user -1, group -1: there is no peer.
        libc::SO_PEERCRED => return Ok([[0; 4], [0xFF; 4], [0xFF; 4]].concat()),
        libc::SO_PEERNAME => {
            return Ok(encode_address(proxy.socket.peer_name()).to_vec());
        }
        libc::SO_BINDTODEVICE => return Ok(Vec::new()),
        libc::SO_MEMINFO => {
            let words = [memory.rmem_alloc, memory.rcvbuf, 0, SNDBUF as u32, 0, 0, 0, 0, memory.drops];
            return Ok(words.into_iter().flat_map(u32::to_ne_bytes).collect());
        }
        libc::SO_COOKIE => return Ok(proxy.file.1.to_ne_bytes().to_vec()),
        libc::SO_REUSEPORT | libc::SO_ZEROCOPY => 0,
        libc::SO_PEERGROUPS => return Err(Errno::NODATA),
        libc::SO_PEEK_OFF => return Err(Errno::OPNOTSUPP),
        _ if option == SO_PASSPIDFD => return Err(Errno::OPNOTSUPP),
        _ if option == SO_BUF_LOCK => 0,
        named if STORED_ONLY.contains(&named) => stored.unwrap_or(0),
        _ => return Err(Errno::NOPROTOOPT),
    };
    Ok(number.to_ne_bytes().to_vec())
}

fn timeval(proxy: &SocketProxy, of_receiving: bool) -> Vec<u8> {
    let time = proxy.options.rcvtimeo.filter(|_| of_receiving).unwrap_or_default();
    [time.as_secs().to_ne_bytes(), u64::from(time.subsec_micros()).to_ne_bytes()].concat()
}

fn get_netlink(proxy: &SocketProxy, option: u64) -> Result<i32, Errno> {
    match option {
        NETLINK_PKTINFO => Ok(i32::from(proxy.options.pktinfo)),
        NO_ENOBUFS => Ok(i32::from(proxy.socket.no_enobufs())),
        BROADCAST_ERROR | LISTEN_ALL_NSID | CAP_ACK | EXT_ACK | STRICT_CHK => {
            Ok(proxy.options.stored.get(&(SOL_NETLINK, option)).copied().unwrap_or(0))
        }
        _ => Err(Errno::NOPROTOOPT),
    }
}
