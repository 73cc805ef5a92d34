//! `setsockopt` and `getsockopt`, with the options of netlink sockets.

use std::time::Duration;

use libc::c_int;
use pmon_core::wire::u64_at;
use pmon_fake::SockFilter;
use rustix::io::Errno;

use crate::seccomp::listener::InterceptedCall;
use crate::sockets::address::encode_address;
use crate::sockets::proxy::SocketProxy;
use crate::tracee::memory::{TraceeMemory, checked_len};

// Options of `SOL_SOCKET` that `libc` does not define on all architectures.
const SO_RCVTIMEO_NEW: c_int = 66;
const SO_SNDTIMEO_NEW: c_int = 67;
/// Default of `SO_SNDBUF`: `net.core.wmem_default`.
const SNDBUF: i32 = 212_992;
/// Minimum of `SO_SNDBUF` (`SOCK_MIN_SNDBUF`).
const SNDBUF_MIN: i32 = 4608;
/// Maximum of `SO_SNDBUF`: `net.core.wmem_max`.
const WMEM_MAX: i32 = 4 << 20;

/// Numeric options of `SOL_SOCKET` that are stored and returned, without an effect.
const STORED_NUMBERS: [c_int; 4] = [libc::SO_PRIORITY, libc::SO_RCVLOWAT, libc::SO_MARK, libc::SO_BUSY_POLL];
/// Boolean options of `SOL_SOCKET` that are stored and returned, without an effect.
const STORED_FLAGS: [&[c_int]; 4] = [
    &[libc::SO_DEBUG, libc::SO_REUSEADDR, libc::SO_BROADCAST, libc::SO_KEEPALIVE, libc::SO_TIMESTAMP],
    &[libc::SO_TIMESTAMPNS, libc::SO_PASSSEC, libc::SO_RXQ_OVFL, libc::SO_NO_CHECK, libc::SO_DONTROUTE],
    &[libc::SO_OOBINLINE, libc::SO_BSDCOMPAT, libc::SO_TIMESTAMPING, libc::SO_WIFI_STATUS],
    &[libc::SO_NOFCS, libc::SO_SELECT_ERR_QUEUE, libc::SO_MAX_PACING_RATE],
];

/// Boolean options of `SOL_NETLINK` that are stored and returned, without an effect.
const STORED_NETLINK_FLAGS: [c_int; 5] = [
    libc::NETLINK_BROADCAST_ERROR,
    libc::NETLINK_LISTEN_ALL_NSID,
    libc::NETLINK_CAP_ACK,
    libc::NETLINK_EXT_ACK,
    libc::NETLINK_GET_STRICT_CHK,
];

fn is_stored_flag(option: c_int) -> bool {
    STORED_FLAGS.iter().any(|options| options.contains(&option))
}

/// Executes `setsockopt`.
pub(crate) fn set(proxy: &mut SocketProxy, call: &InterceptedCall<'_>) -> Result<usize, Errno> {
    let [_, level, option, at, len, _] = call.args();
    let (level, option, len) = (level as c_int, option as c_int, checked_len(len as u32)?);
    let memory = call.memory();
    let value = || if len < 4 { Ok(0) } else { memory.u32(at).map(|value| value as i32) };
    match level {
        libc::SOL_SOCKET if len < 4 => Err(Errno::INVAL),
        libc::SOL_SOCKET => set_socket(proxy, memory, option, (at, len), value()?),
        libc::SOL_NETLINK => set_netlink(proxy, option, value()?),
        _ => Err(Errno::NOPROTOOPT),
    }?;
    Ok(0)
}

fn set_socket(
    proxy: &mut SocketProxy,
    memory: TraceeMemory,
    option: c_int,
    (at, len): (u64, usize),
    value: i32,
) -> Result<(), Errno> {
    let SocketProxy { socket, options, .. } = proxy;
    match option {
        libc::SO_RCVBUF => socket.set_rcvbuf(value),
        libc::SO_RCVBUFFORCE => socket.force_rcvbuf(value)?,
        libc::SO_SNDBUF => {
            let value = if value < 0 { WMEM_MAX } else { value.min(WMEM_MAX) };
            options.store(libc::SOL_SOCKET, option, (value * 2).max(SNDBUF_MIN));
        }
        libc::SO_SNDBUFFORCE => {
            let value = value.clamp(0, i32::MAX / 2) * 2;
            options.store(libc::SOL_SOCKET, libc::SO_SNDBUF, value.max(SNDBUF_MIN));
        }
        libc::SO_PASSCRED => options.passcred = value != 0,
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW => options.rcvtimeo = read_timeout(memory, at, len)?,
        libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW => drop(read_timeout(memory, at, len)?),
        libc::SO_ATTACH_FILTER => socket.attach_filter(&read_program(memory, at, len)?)?,
        libc::SO_DETACH_FILTER => socket.detach_filter()?,
        libc::SO_LOCK_FILTER => socket.lock_filter(value != 0)?,
        // eBPF programs belong to the real kernel.
        libc::SO_ATTACH_BPF => return Err(Errno::BADF),
        libc::SO_REUSEPORT | libc::SO_PEEK_OFF | libc::SO_ZEROCOPY | libc::SO_PASSPIDFD => {
            return Err(Errno::OPNOTSUPP);
        }
        libc::SO_LINGER => {}
        _ if STORED_NUMBERS.contains(&option) => options.store(libc::SOL_SOCKET, option, value),
        _ if is_stored_flag(option) => options.store(libc::SOL_SOCKET, option, i32::from(value != 0)),
        _ => return Err(Errno::NOPROTOOPT),
    }
    Ok(())
}

fn set_netlink(proxy: &mut SocketProxy, option: c_int, value: i32) -> Result<(), Errno> {
    match option {
        libc::NETLINK_ADD_MEMBERSHIP => proxy.socket.add_membership(value)?,
        libc::NETLINK_DROP_MEMBERSHIP => proxy.socket.drop_membership(value)?,
        libc::NETLINK_PKTINFO => proxy.options.pktinfo = value != 0,
        libc::NETLINK_NO_ENOBUFS => proxy.socket.set_no_enobufs(value != 0),
        _ if STORED_NETLINK_FLAGS.contains(&option) => {
            proxy.options.store(libc::SOL_NETLINK, option, i32::from(value != 0));
        }
        _ => return Err(Errno::NOPROTOOPT),
    }
    Ok(())
}

/// Reads a `struct timeval` of a time-out; 0 means unlimited (`None`), and a negative time expires
/// at once.
fn read_timeout(memory: TraceeMemory, at: u64, len: usize) -> Result<Option<Duration>, Errno> {
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
fn read_program(memory: TraceeMemory, at: u64, len: usize) -> Result<Vec<SockFilter>, Errno> {
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
    let (level, option) = (level as c_int, option as c_int);
    let memory = call.memory();
    let room = checked_len(memory.u32(len_at)?)?;
    let value = match level {
        libc::SOL_SOCKET => get_socket(proxy, option)?,
        libc::SOL_NETLINK => get_netlink(proxy, option)?.to_ne_bytes().to_vec(),
        _ => return Err(Errno::NOPROTOOPT),
    };
    let (written, len) = match level {
        // The lengths of `SO_GET_FILTER` are numbers of instructions.
        libc::SOL_SOCKET if option == libc::SO_GET_FILTER => match value.len() / size_of::<SockFilter>() {
            count if room == 0 => (0, count),
            count if room < count => return Err(Errno::INVAL),
            count => (value.len(), count),
        },
        // The list of groups is written in whole words only.
        libc::SOL_NETLINK if room < 4 && option == libc::NETLINK_LIST_MEMBERSHIPS => (0, value.len()),
        libc::SOL_NETLINK if room < 4 => return Err(Errno::INVAL),
        _ => (value.len().min(room), value.len().min(room)),
    };
    memory.write(at, &value[..written])?;
    memory.write(len_at, &(len as u32).to_ne_bytes())?;
    Ok(0)
}

fn get_socket(proxy: &mut SocketProxy, option: c_int) -> Result<Vec<u8>, Errno> {
    let stored = proxy.options.stored.get(&(libc::SOL_SOCKET, option)).copied();
    let memory = proxy.socket.memory();
    let number = match option {
        libc::SO_TYPE => proxy.socket_type as i32,
        libc::SO_PROTOCOL => libc::NETLINK_CONNECTOR,
        libc::SO_DOMAIN => libc::AF_NETLINK,
        libc::SO_RCVBUF => memory.rcvbuf as i32,
        libc::SO_SNDBUF => stored.unwrap_or(SNDBUF),
        libc::SO_ERROR => proxy.socket.take_error().map_or(0, Errno::raw_os_error),
        libc::SO_PASSCRED => i32::from(proxy.options.passcred),
        libc::SO_RCVLOWAT => stored.unwrap_or(1),
        libc::SO_SNDLOWAT => 1,
        libc::SO_INCOMING_CPU => -1,
        libc::SO_LOCK_FILTER => i32::from(proxy.socket.is_filter_locked()),
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW => {
            let time = proxy.options.rcvtimeo.unwrap_or_default();
            let micros = u64::from(time.subsec_micros());
            return Ok([time.as_secs().to_ne_bytes(), micros.to_ne_bytes()].concat());
        }
        libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW => return Ok(vec![0; 16]),
        libc::SO_LINGER => return Ok(vec![0; 8]),
        // Process 0, user -1, group -1: there is no peer.
        libc::SO_PEERCRED => return Ok([[0; 4], [0xFF; 4], [0xFF; 4]].concat()),
        libc::SO_PEERNAME => return Ok(encode_address(proxy.socket.peer_name()).to_vec()),
        libc::SO_BINDTODEVICE => return Ok(Vec::new()),
        libc::SO_MEMINFO => {
            let words = [memory.rmem_alloc, memory.rcvbuf, 0, SNDBUF as u32, 0, 0, 0, 0, memory.drops];
            return Ok(words.into_iter().flat_map(u32::to_ne_bytes).collect());
        }
        libc::SO_GET_FILTER => {
            let filter = proxy.socket.filter().unwrap_or_default();
            let bytes = filter.iter().flat_map(|&SockFilter { code, jt, jf, k }| {
                let (code, k) = (code.to_ne_bytes(), k.to_ne_bytes());
                [code[0], code[1], jt, jf, k[0], k[1], k[2], k[3]]
            });
            return Ok(bytes.collect());
        }
        libc::SO_COOKIE => return Ok(proxy.file.1.to_ne_bytes().to_vec()),
        libc::SO_ACCEPTCONN | libc::SO_REUSEPORT | libc::SO_ZEROCOPY | libc::SO_BUF_LOCK => 0,
        libc::SO_PEERGROUPS => return Err(Errno::NODATA),
        libc::SO_PEEK_OFF | libc::SO_PASSPIDFD => return Err(Errno::OPNOTSUPP),
        _ if STORED_NUMBERS.contains(&option) || is_stored_flag(option) => stored.unwrap_or(0),
        _ => return Err(Errno::NOPROTOOPT),
    };
    Ok(number.to_ne_bytes().to_vec())
}

fn get_netlink(proxy: &SocketProxy, option: c_int) -> Result<i32, Errno> {
    match option {
        libc::NETLINK_PKTINFO => Ok(i32::from(proxy.options.pktinfo)),
        libc::NETLINK_NO_ENOBUFS => Ok(i32::from(proxy.socket.no_enobufs())),
        libc::NETLINK_LIST_MEMBERSHIPS => Ok(proxy.socket.name().1 as i32),
        _ if STORED_NETLINK_FLAGS.contains(&option) => {
            Ok(proxy.options.stored.get(&(libc::SOL_NETLINK, option)).copied().unwrap_or(0))
        }
        _ => Err(Errno::NOPROTOOPT),
    }
}
