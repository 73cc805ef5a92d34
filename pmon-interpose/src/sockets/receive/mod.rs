//! Calls that receive: their arguments, and the delivery of a datagram to their buffers.
//!
//! Arguments are checked when the kernel checks them: a wrong address or length that the kernel
//! reads only after it has taken a datagram out of the queue loses the datagram here, too.

use pmon_core::wire::{u32_at, u64_at};
use pmon_fake::{QueuedDatagram, ReceivedDatagram, Socket};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::seccomp::listener::InterceptedCall;
use crate::sockets::address::{encode_address, push_name};
use crate::sockets::proxy::{MAX_DATAGRAM, SocketProxy};
use crate::sockets::receive::control::write_control_messages;
use crate::sockets::receive::timeout::ReceiveTimeout;
use crate::tracee::memory::{Buffers, MMSGHDR, MSGHDR, NO_OFFSET, TraceeMemory, UIO_MAXIOV};
use crate::tracee::scattered_copy::ScatteredCopy;

mod control;
mod timeout;

// Offsets in `struct msghdr`.
const MSG_NAMELEN: u64 = 8;
const MSG_CONTROLLEN: u64 = 40;
const MSG_FLAGS: u64 = 48;

/// A flag of `recvmsg` and `sendmsg` that the kernel sets itself for 32-bit programs.
pub(crate) const MSG_CMSG_COMPAT: u32 = 0x8000_0000;
/// Flags of `preadv2` and `pwritev2` that sockets support: all up to `RWF_NOSIGNAL` except
/// `RWF_ATOMIC` and `RWF_DONTCACHE`.
const RWF_SUPPORTED: u64 = 0x13F;
const RWF_NOWAIT: u64 = libc::RWF_NOWAIT as u64;

/// Returns whether the call with this number receives.
pub(crate) fn is_receive(nr: i64) -> bool {
    [libc::SYS_read, libc::SYS_readv, libc::SYS_preadv2].contains(&nr)
        || [libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg].contains(&nr)
}

/// Checks the offset of `preadv2` or `pwritev2`: sockets have none.
pub(crate) fn check_offset(offset: u64) -> Result<(), Errno> {
    match offset {
        NO_OFFSET => Ok(()),
        offset if (offset as i64) < 0 => Err(Errno::INVAL),
        _ => Err(Errno::SPIPE),
    }
}

/// Checks the flags of `preadv2` or `pwritev2`; returns the flags of the socket's call.
pub(crate) fn socket_flags(rw_flags: u64) -> Result<u32, Errno> {
    match rw_flags as u32 as u64 {
        flags if flags & !RWF_SUPPORTED != 0 => Err(Errno::OPNOTSUPP),
        flags if flags & RWF_NOWAIT != 0 => Ok(libc::MSG_DONTWAIT as u32),
        _ => Ok(0),
    }
}

/// The arguments of a receiving call.
pub(crate) struct ReceiveCall {
    pub(crate) flags: u32,
    /// The time-out of `recvmmsg`, which the kernel checks only after each datagram.
    pub(crate) timeout: Option<ReceiveTimeout>,
    buffers: ReceiveBuffers,
}

/// The buffers of all datagrams of a call.
enum ReceiveBuffers {
    /// The buffers of one datagram.
    One(MessageBuffers),
    /// An array of `struct mmsghdr`.
    Many { address: u64, count: u32 },
}

/// The buffers of one datagram.
struct MessageBuffers {
    data: Buffers,
    results: ResultBuffers,
}

/// What a call returns besides the data.
enum ResultBuffers {
    /// Nothing.
    None,
    /// The sender, by `recvfrom`.
    Sender { name: u64, name_len_at: u64 },
    /// The fields of a `struct msghdr`.
    Header { at: u64, name: u64, name_room: i32, control: u64, control_room: u64 },
}

/// The reason why a datagram was not delivered.
pub(crate) enum ReceiveError {
    /// The call has failed before it received a datagram.
    NotReceived(Errno),
    /// The datagram was received, but the results cannot be written: it is lost.
    Lost(Errno),
}

/// Memory that all receiving calls use, one after the other.
#[derive(Default)]
pub(crate) struct ReceiveScratch {
    datagram: Vec<u8>,
    copy: ScatteredCopy,
}

impl ReceiveScratch {
    /// Length of the buffer that fits most datagrams.
    const FIRST_LEN: usize = 4096;

    /// Receives the next datagram, which stays in the queue, as far as it fits into `room` bytes;
    /// returns also the number of bytes.
    fn receive(
        &mut self,
        socket: &mut Socket,
        room: usize,
        flags: u32,
    ) -> Result<(ReceivedDatagram, usize), Errno> {
        let flags = RecvFlags::from_bits_retain(flags) | RecvFlags::PEEK | RecvFlags::TRUNC;
        let mut limit = Self::FIRST_LEN;
        loop {
            let len = room.min(limit);
            if self.datagram.len() < len {
                self.datagram.resize(len, 0);
            }
            let datagram = socket.recv(&mut self.datagram[..len], flags)?;
            if !datagram.truncated || len == room {
                return Ok((datagram, datagram.len.min(len)));
            }
            limit = datagram.len.max(MAX_DATAGRAM);
        }
    }
}

impl ReceiveCall {
    /// Reads the arguments of a call; returns `None` if the kernel returns 0 without calling the
    /// socket.
    pub(crate) fn parse(call: &InterceptedCall<'_>) -> Result<Option<Self>, Errno> {
        let memory = call.memory();
        let [_, a, b, c, d, e] = call.args();
        let one = |flags, data, results| {
            let buffers = ReceiveBuffers::One(MessageBuffers { data, results });
            Ok(Some(Self { flags, timeout: None, buffers }))
        };
        match call.nr() {
            libc::SYS_read | libc::SYS_readv | libc::SYS_preadv2 => {
                let rw_flags = if call.nr() == libc::SYS_preadv2 { e } else { 0 };
                let data = match call.nr() {
                    libc::SYS_read => Buffers::of_file_call(a, b)?,
                    libc::SYS_readv => memory.buffers(a, b)?,
                    _ => check_offset(c).and_then(|()| memory.buffers(a, b))?,
                };
                if data.len() == 0 {
                    return Ok(None);
                }
                one(socket_flags(rw_flags)?, data, ResultBuffers::None)
            }
            libc::SYS_recvfrom => {
                let results = match d {
                    0 => ResultBuffers::None,
                    name => ResultBuffers::Sender { name, name_len_at: e },
                };
                one(c as u32, Buffers::one(a, b)?, results)
            }
            libc::SYS_recvmsg if b as u32 & MSG_CMSG_COMPAT != 0 => Err(Errno::INVAL),
            libc::SYS_recvmsg => {
                let MessageBuffers { data, results } = MessageBuffers::read(memory, a)?;
                one(b as u32, data, results)
            }
            _ if c as u32 & MSG_CMSG_COMPAT != 0 => Err(Errno::INVAL),
            _ => {
                let timeout = ReceiveTimeout::read(memory, d)?;
                let buffers = ReceiveBuffers::Many { address: a, count: b as u32 };
                Ok(Some(Self { flags: c as u32, timeout, buffers }))
            }
        }
    }

    pub(crate) fn is_recvmmsg(&self) -> bool {
        matches!(self.buffers, ReceiveBuffers::Many { .. })
    }

    /// Returns the maximum number of datagrams that the call receives.
    pub(crate) fn max_datagrams(&self) -> u64 {
        if let ReceiveBuffers::Many { count, .. } = self.buffers { count.into() } else { 1 }
    }

    /// Copies the next datagram into the buffers number `index`; returns its length. The datagram
    /// stays in the queue.
    pub(crate) fn copy_next(
        &self,
        proxy: &mut SocketProxy,
        pid: u32,
        index: u64,
        scratch: &mut ReceiveScratch,
    ) -> Result<usize, ReceiveError> {
        let memory = TraceeMemory::of(pid);
        match &self.buffers {
            ReceiveBuffers::One(message) => message.copy_next(proxy, memory, self.flags, scratch, None),
            ReceiveBuffers::Many { address, .. } => {
                let header = address.wrapping_add(index * MMSGHDR);
                let message = MessageBuffers::read(memory, header).map_err(ReceiveError::NotReceived)?;
                let len_at = header.wrapping_add(MSGHDR as u64);
                message.copy_next(proxy, memory, self.flags, scratch, Some(len_at))
            }
        }
    }

    /// Removes the copied datagram from the queue, unless the call has `MSG_PEEK`.
    pub(crate) fn dequeue(&self, proxy: &mut SocketProxy) -> Option<QueuedDatagram> {
        if self.flags & libc::MSG_PEEK as u32 != 0 {
            return None;
        }
        proxy.unqueue()
    }
}

impl MessageBuffers {
    /// Reads a `struct msghdr`.
    fn read(memory: TraceeMemory, at: u64) -> Result<Self, Errno> {
        let bytes: [u8; MSGHDR] = memory.bytes(at)?;
        let (name, name_room) = (u64_at(&bytes, 0), u32_at(&bytes, MSG_NAMELEN as usize) as i32);
        if name != 0 && name_room < 0 {
            return Err(Errno::INVAL);
        }
        let count = u64_at(&bytes, 24);
        if count > UIO_MAXIOV {
            return Err(Errno::MSGSIZE);
        }
        let (control, control_room) = (u64_at(&bytes, 32), u64_at(&bytes, MSG_CONTROLLEN as usize));
        let results = ResultBuffers::Header { at, name, name_room, control, control_room };
        Ok(Self { data: memory.buffers(u64_at(&bytes, 16), count)?, results })
    }

    /// Copies the next datagram, and its length to `len_at`.
    fn copy_next(
        &self,
        proxy: &mut SocketProxy,
        memory: TraceeMemory,
        flags: u32,
        scratch: &mut ReceiveScratch,
        len_at: Option<u64>,
    ) -> Result<usize, ReceiveError> {
        let received = scratch.receive(&mut proxy.socket, self.data.len(), flags);
        let (datagram, copied) = received.map_err(ReceiveError::NotReceived)?;
        let len = if flags & libc::MSG_TRUNC as u32 != 0 { datagram.len } else { copied };
        let ReceiveScratch { datagram: bytes, copy } = scratch;
        copy.push_scattered(&bytes[..copied], self.data.as_slice());
        let results = self.results.push(proxy, memory, flags, &datagram, copy);
        if let (Ok(()), Some(at)) = (results, len_at) {
            copy.push_integer(at, &(len as u32).to_ne_bytes());
        }
        // What precedes a wrong argument is written in any case.
        copy.finish(memory).and(results).map_err(ReceiveError::Lost)?;
        Ok(len)
    }
}

impl ResultBuffers {
    /// Adds the results of a datagram to `copy`, which already contains the data; returns the error
    /// of the arguments that are read only then.
    fn push(
        &self,
        proxy: &SocketProxy,
        memory: TraceeMemory,
        flags: u32,
        datagram: &ReceivedDatagram,
        copy: &mut ScatteredCopy,
    ) -> Result<(), Errno> {
        let sender = encode_address((datagram.sender, datagram.groups));
        match *self {
            Self::None => Ok(()),
            Self::Sender { name, name_len_at } => {
                let room = memory.u32(name_len_at)? as i32;
                push_name(copy, &sender, name, name_len_at, room)
            }
            Self::Header { at, name, name_room, control, control_room } => {
                let mut result_flags = flags & libc::MSG_CMSG_CLOEXEC as u32;
                if datagram.truncated {
                    result_flags |= libc::MSG_TRUNC as u32;
                }
                let mut control_len = 0;
                if proxy.options.has_control_messages() {
                    let data = copy.finish(memory);
                    let written = write_control_messages(
                        memory,
                        &proxy.options,
                        datagram.groups,
                        (control, control_room),
                        copy,
                    );
                    data?;
                    control_len = written.len;
                    if written.is_truncated {
                        result_flags |= libc::MSG_CTRUNC as u32;
                    }
                }
                if name != 0 {
                    push_name(copy, &sender, name, at.wrapping_add(MSG_NAMELEN), name_room)?;
                }
                copy.push_integer(at.wrapping_add(MSG_FLAGS), &result_flags.to_ne_bytes());
                copy.push_integer(at.wrapping_add(MSG_CONTROLLEN), &control_len.to_ne_bytes());
                Ok(())
            }
        }
    }
}
