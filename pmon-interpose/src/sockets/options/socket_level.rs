//! The options of `SOL_SOCKET`, as of Linux 6.18.

use std::os::fd::AsFd as _;

use libc::c_int;
use pmon_core::wire::{u32_at, u64_at};
use pmon_fake::SockFilter;
use rustix::io::Errno;

use crate::seccomp::listener::InterceptedCall;
use crate::sockets::address::encode_address;
use crate::sockets::options::values::{
    StoredValue, encode_program, encode_timeout, read_program, read_timeout,
};
use crate::sockets::proxy::SocketProxy;
use crate::sys;
use crate::tracee::abi::Abi;

// Options that `libc` does not define on all architectures.
const SO_RCVTIMEO_NEW: c_int = 66;
const SO_SNDTIMEO_NEW: c_int = 67;
const SO_DEVMEM_DONTNEED: c_int = 80;
const SO_PASSRIGHTS: c_int = 83;
/// The value of `SO_BPF_EXTENSIONS` (`SKF_AD_MAX`).
const SKF_AD_MAX: u64 = 64;
/// Maximum length of the name of a network device.
const IFNAME_MAX: usize = 15;

// Bits of `SO_BUF_LOCK`.
const SOCK_SNDBUF_LOCK: u64 = 1;
const SOCK_RCVBUF_LOCK: u64 = 2;

/// All flags of `SO_TXTIME`.
const SOF_TXTIME_FLAGS_MASK: u32 = 3;

/// Sets an option to the value at an address.
pub(super) fn set(
    proxy: &mut SocketProxy,
    call: &mut InterceptedCall<'_>,
    option: c_int,
    (at, len): (u64, usize),
) -> Result<(), Errno> {
    let memory = call.memory();
    if option == libc::SO_BINDTODEVICE {
        return bind_to_device(&memory.vec(at, len.min(IFNAME_MAX))?);
    }
    if len < 4 {
        return Err(Errno::INVAL);
    }
    let value = memory.u32(at)? as i32;
    let SocketProxy { socket, options, .. } = proxy;
    let mut store = |value: u64| options.store(libc::SOL_SOCKET, option, value);
    match option {
        libc::SO_RCVBUF | libc::SO_RCVBUFFORCE => {
            if option == libc::SO_RCVBUF {
                socket.set_rcvbuf(value)
            } else {
                socket.force_rcvbuf(value)?
            }
            options.lock_buffer(SOCK_RCVBUF_LOCK);
        }
        libc::SO_SNDBUF | libc::SO_SNDBUFFORCE => {
            if option == libc::SO_SNDBUF {
                socket.set_sndbuf(value)
            } else {
                socket.force_sndbuf(value)?
            }
            options.lock_buffer(SOCK_SNDBUF_LOCK);
        }
        libc::SO_BUF_LOCK if value as u32 & !3 != 0 => return Err(Errno::INVAL),
        libc::SO_BUF_LOCK => store(value as u64),
        libc::SO_PASSCRED => options.passcred = value != 0,
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW => {
            options.rcvtimeo = read_timeout(memory, abi_of_timeout(memory.abi, option), at, len)?;
        }
        libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW => {
            options.sndtimeo = read_timeout(memory, abi_of_timeout(memory.abi, option), at, len)?;
        }
        libc::SO_ATTACH_FILTER => {
            let program = read_program(memory, at, len, socket.is_filter_locked())?;
            socket.attach_filter(&program)?;
        }
        libc::SO_DETACH_FILTER => socket.detach_filter()?,
        libc::SO_LOCK_FILTER => socket.lock_filter(value != 0)?,
        libc::SO_ATTACH_BPF | libc::SO_ATTACH_REUSEPORT_EBPF => return Err(refuse_ebpf(call, value, len)),
        libc::SO_ATTACH_REUSEPORT_CBPF => {
            read_program(memory, at, len, socket.is_filter_locked())?;
            return Err(Errno::INVAL);
        }
        libc::SO_LINGER if len < 8 => return Err(Errno::INVAL),
        libc::SO_LINGER => {
            let seconds = u32_at(&memory.bytes::<8>(at)?, 4);
            store(if value == 0 { 0 } else { u64::from(seconds) << 32 | 1 });
        }
        libc::SO_TXTIME if len != 8 => return Err(Errno::INVAL),
        libc::SO_TXTIME => {
            let time = memory.bytes::<8>(at)?;
            if u32_at(&time, 4) & !SOF_TXTIME_FLAGS_MASK != 0 {
                return Err(Errno::INVAL);
            }
            store(u64_at(&time, 0));
        }
        libc::SO_MAX_PACING_RATE if len >= 8 => store(u64_at(&memory.bytes::<8>(at)?, 0)),
        libc::SO_MAX_PACING_RATE if value == -1 => store(u64::MAX),
        libc::SO_MAX_PACING_RATE => store(u64::from(value as u32)),
        libc::SO_RCVLOWAT => store(if value < 0 { i32::MAX as u64 } else { value.max(1) as u64 }),
        libc::SO_REUSEPORT if value == 0 => {}
        libc::SO_BUSY_POLL_BUDGET if u16::try_from(value).is_err() => return Err(Errno::INVAL),
        libc::SO_RESERVE_MEM if value < 0 => return Err(Errno::INVAL),
        libc::SO_BSDCOMPAT | libc::SO_CNX_ADVICE | libc::SO_BUSY_POLL_BUDGET => {}
        libc::SO_REUSEPORT | libc::SO_PEEK_OFF | libc::SO_ZEROCOPY | libc::SO_PASSPIDFD => {
            return Err(Errno::OPNOTSUPP);
        }
        libc::SO_RESERVE_MEM | libc::SO_TXREHASH | SO_PASSRIGHTS => return Err(Errno::OPNOTSUPP),
        libc::SO_DETACH_REUSEPORT_BPF => return Err(Errno::INVAL),
        SO_DEVMEM_DONTNEED => return Err(Errno::BADF),
        _ => {
            let kind = StoredValue::of(option).ok_or(Errno::NOPROTOOPT)?;
            let mut value = u64::from(kind.accept(value)?);
            if kind == StoredValue::Timestamping && len == 8 {
                value |= u64::from(u32_at(&memory.bytes::<8>(at)?, 4)) << 32;
            }
            store(value);
        }
    }
    Ok(())
}

/// Returns the ABI that determines the layout of a time-out. The newer options have one layout.
fn abi_of_timeout(abi: Abi, option: c_int) -> Abi {
    if matches!(option, libc::SO_RCVTIMEO | libc::SO_SNDTIMEO) { abi } else { Abi::Native }
}

/// Sets `SO_BINDTODEVICE`: no device has events.
fn bind_to_device(name: &[u8]) -> Result<(), Errno> {
    if name.first().is_none_or(|&byte| byte == 0) { Ok(()) } else { Err(Errno::NODEV) }
}

/// Returns the error of an option that attaches an eBPF program. Such programs belong to the real
/// kernel.
fn refuse_ebpf(call: &mut InterceptedCall<'_>, fd: i32, len: usize) -> Errno {
    let is_other_file = |path: Vec<u8>| path != b"anon_inode:bpf-prog";
    let task = call.task();
    let is_other_file = fd >= 0 && call.tasks.path(task, fd as u32).is_ok_and(is_other_file);
    if len != 4 || is_other_file { Errno::INVAL } else { Errno::BADF }
}

/// Returns the value of an option for a buffer of `room` bytes, and the length that the call
/// returns.
pub(super) fn get(
    proxy: &mut SocketProxy,
    abi: Abi,
    option: c_int,
    room: usize,
) -> Result<(Vec<u8>, usize), Errno> {
    // The lengths of the program are numbers of instructions.
    if option == libc::SO_GET_FILTER {
        let program = proxy.socket.filter().unwrap_or_default();
        let bytes = encode_program(&program);
        return match bytes.len() / size_of::<SockFilter>() {
            count if room == 0 => Ok((Vec::new(), count)),
            count if room < count => Err(Errno::INVAL),
            count => Ok((bytes, count)),
        };
    }
    let mut value = value(proxy, abi, option, room)?;
    value.truncate(room);
    let len = value.len();
    Ok((value, len))
}

fn value(proxy: &mut SocketProxy, abi: Abi, option: c_int, room: usize) -> Result<Vec<u8>, Errno> {
    let SocketProxy { socket, options, .. } = proxy;
    let stored = |default| options.stored(libc::SOL_SOCKET, option, default);
    let number = match option {
        libc::SO_TYPE => u64::from(proxy.socket_type),
        libc::SO_PROTOCOL => libc::NETLINK_CONNECTOR as u64,
        libc::SO_DOMAIN => libc::AF_NETLINK as u64,
        libc::SO_RCVBUF => socket.memory().rcvbuf.into(),
        libc::SO_SNDBUF => socket.sndbuf().into(),
        libc::SO_ERROR => proxy.take_error().map_or(0, Errno::raw_os_error) as u64,
        libc::SO_PASSCRED => options.passcred.into(),
        libc::SO_RCVLOWAT => stored(1),
        libc::SO_SNDLOWAT => 1,
        libc::SO_LOCK_FILTER => socket.is_filter_locked().into(),
        libc::SO_BPF_EXTENSIONS => SKF_AD_MAX,
        libc::SO_BUF_LOCK => stored(0),
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW => {
            return Ok(encode_timeout(abi_of_timeout(abi, option), options.rcvtimeo));
        }
        libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW => {
            return Ok(encode_timeout(abi_of_timeout(abi, option), options.sndtimeo));
        }
        libc::SO_LINGER | libc::SO_TXTIME | libc::SO_TIMESTAMPING | libc::SO_TIMESTAMPING_NEW => {
            return Ok(stored(0).to_ne_bytes().to_vec());
        }
        libc::SO_MAX_PACING_RATE if room >= 8 => return Ok(stored(u64::MAX).to_ne_bytes().to_vec()),
        libc::SO_MAX_PACING_RATE => stored(u64::MAX).min(u32::MAX.into()),
        // Process 0, user -1, group -1: there is no peer.
        libc::SO_PEERCRED => return Ok([[0; 4], [0xFF; 4], [0xFF; 4]].concat()),
        libc::SO_PEERNAME => {
            let peer = encode_address(socket.peer_name());
            return if room > peer.len() { Err(Errno::INVAL) } else { Ok(peer.to_vec()) };
        }
        libc::SO_BINDTODEVICE => return Ok(Vec::new()),
        libc::SO_MEMINFO => {
            let sndbuf = socket.sndbuf();
            let memory = proxy.memory();
            let words = [memory.rmem_alloc, memory.rcvbuf, 0, sndbuf, 0, 0, 0, 0, memory.drops];
            return Ok(words.into_iter().flat_map(u32::to_ne_bytes).collect());
        }
        libc::SO_COOKIE if room < 8 => return Err(Errno::INVAL),
        libc::SO_COOKIE => return Ok(proxy.file.1.to_ne_bytes().to_vec()),
        libc::SO_NETNS_COOKIE if room != 8 => return Err(Errno::INVAL),
        libc::SO_NETNS_COOKIE => {
            return Ok(sys::netns_cookie(proxy.own_namespace()?.as_fd())?.to_ne_bytes().to_vec());
        }
        libc::SO_ACCEPTCONN | libc::SO_REUSEPORT | libc::SO_ZEROCOPY => 0,
        libc::SO_BSDCOMPAT | libc::SO_RESERVE_MEM => 0,
        libc::SO_PEERGROUPS | libc::SO_PEERPIDFD => return Err(Errno::NODATA),
        libc::SO_PEEK_OFF | libc::SO_PASSPIDFD | libc::SO_TXREHASH | SO_PASSRIGHTS => {
            return Err(Errno::OPNOTSUPP);
        }
        _ if StoredValue::of(option).is_some() => stored(StoredValue::default_of(option)),
        _ => return Err(Errno::NOPROTOOPT),
    };
    Ok((number as u32).to_ne_bytes().to_vec())
}
