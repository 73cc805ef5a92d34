//! The formats of option values: numbers, time-outs, BPF programs.

use std::time::Duration;

use libc::c_int;
use pmon_fake::SockFilter;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::tracee::abi::Abi;
use crate::tracee::memory::TraceeMemory;

/// Maximum number of instructions of a filter (`BPF_MAXINSNS`).
const BPF_MAXINSNS: u16 = 4096;
/// All flags of `SO_TIMESTAMPING` (`SOF_TIMESTAMPING_MASK`).
const SOF_TIMESTAMPING_MASK: i32 = (1 << 19) - 1;

// Options of `SOL_SOCKET` that `libc` does not define.
const SO_RCVPRIORITY: c_int = 82;

/// The values that an option without an effect accepts, of which it returns the last one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StoredValue {
    /// Zero or not zero, returned as 0 or 1.
    Flag,
    Number,
    /// A number that is not negative.
    NonNegative,
    /// Flags of `SO_TIMESTAMPING`.
    Timestamping,
}

impl StoredValue {
    /// Returns the values of an option of `SOL_SOCKET`; `None` if the option is not stored.
    pub(super) fn of(option: c_int) -> Option<Self> {
        Some(match option {
            libc::SO_DEBUG | libc::SO_REUSEADDR | libc::SO_BROADCAST | libc::SO_KEEPALIVE => Self::Flag,
            libc::SO_TIMESTAMP | libc::SO_TIMESTAMPNS | libc::SO_PASSSEC | libc::SO_RXQ_OVFL => Self::Flag,
            libc::SO_NO_CHECK | libc::SO_DONTROUTE | libc::SO_OOBINLINE | libc::SO_WIFI_STATUS => Self::Flag,
            libc::SO_NOFCS | libc::SO_SELECT_ERR_QUEUE | libc::SO_PREFER_BUSY_POLL => Self::Flag,
            libc::SO_TIMESTAMP_NEW | libc::SO_TIMESTAMPNS_NEW | libc::SO_RCVMARK => Self::Flag,
            SO_RCVPRIORITY => Self::Flag,
            libc::SO_PRIORITY | libc::SO_MARK | libc::SO_INCOMING_CPU => Self::Number,
            libc::SO_BUSY_POLL | libc::SO_BINDTOIFINDEX => Self::NonNegative,
            libc::SO_TIMESTAMPING | libc::SO_TIMESTAMPING_NEW => Self::Timestamping,
            _ => return None,
        })
    }

    /// Returns the value to store.
    pub(super) fn accept(self, value: i32) -> Result<u32, Errno> {
        match self {
            Self::Flag => Ok((value != 0).into()),
            Self::NonNegative if value < 0 => Err(Errno::INVAL),
            Self::Timestamping if value & !SOF_TIMESTAMPING_MASK != 0 => Err(Errno::INVAL),
            Self::Number | Self::NonNegative | Self::Timestamping => Ok(value as u32),
        }
    }

    /// Returns the value before any is set.
    pub(super) fn default_of(option: c_int) -> u64 {
        if option == libc::SO_INCOMING_CPU { u32::MAX.into() } else { 0 }
    }
}

/// Reads a `struct timeval` of a time-out; 0 means unlimited (`None`), and a negative time expires
/// at once. The kernel rounds up to its clock ticks. `abi` determines the layout of the struct.
pub(super) fn read_timeout(
    memory: TraceeMemory,
    abi: Abi,
    at: u64,
    len: usize,
) -> Result<Option<Duration>, Errno> {
    if len < abi.timeval_len() {
        return Err(Errno::INVAL);
    }
    let (seconds, micros) = abi.timeval(&memory.vec(at, abi.timeval_len())?);
    let micros = u64::try_from(micros).map_err(|_negative| Errno::DOM)?;
    if micros >= 1_000_000 {
        return Err(Errno::DOM);
    }
    if seconds < 0 {
        return Ok(Some(Duration::ZERO));
    }
    let time = Duration::from_secs(seconds as u64) + Duration::from_micros(micros);
    if time.is_zero() { Ok(None) } else { in_ticks(time) }
}

/// Rounds a time-out as the kernel does, by means of a socket of this process.
fn in_ticks(time: Duration) -> Result<Option<Duration>, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(time))?;
    socket_timeout(&socket, Timeout::Recv)
}

/// Encodes the `struct timeval` of a time-out.
pub(super) fn encode_timeout(abi: Abi, time: Option<Duration>) -> Vec<u8> {
    let time = time.unwrap_or_default();
    abi.encode_timeval(time.as_secs(), time.subsec_micros())
}

/// Reads the classic BPF program of a `struct sock_fprog`.
pub(super) fn read_program(
    memory: TraceeMemory,
    at: u64,
    len: usize,
    is_locked: bool,
) -> Result<Vec<SockFilter>, Errno> {
    let abi = memory.abi;
    if len != abi.sock_fprog_len() {
        return Err(Errno::INVAL);
    }
    let header = memory.vec(at, len)?;
    if is_locked {
        return Err(Errno::PERM);
    }
    let (count, program) = abi.sock_fprog(&header);
    if program == 0 || !(1..=BPF_MAXINSNS).contains(&count) {
        return Err(Errno::INVAL);
    }
    let bytes = memory.vec(program, usize::from(count) * 8)?;
    let instructions = bytes.chunks_exact(8).map(|bytes| SockFilter {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    });
    Ok(instructions.collect())
}

/// Encodes a classic BPF program.
pub(super) fn encode_program(program: &[SockFilter]) -> Vec<u8> {
    let bytes = program.iter().flat_map(|&SockFilter { code, jt, jf, k }| {
        let (code, k) = (code.to_ne_bytes(), k.to_ne_bytes());
        [code[0], code[1], jt, jf, k[0], k[1], k[2], k[3]]
    });
    bytes.collect()
}
