//! Calls that receive: their arguments, and the delivery of a datagram to their buffers.

use std::time::{Duration, Instant};

use pmon_core::wire::{u32_at, u64_at};
use pmon_fake::QueuedDatagram;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::seccomp::listener::InterceptedCall;
use crate::sockets::address::encode_address;
use crate::sockets::proxy::{MAX_DATAGRAM, SocketProxy};
use crate::tracee::memory::{CMSGHDR, MMSGHDR, MSGHDR, NO_OFFSET, TraceeMemory, UIO_MAXIOV, checked_len};

// Offsets in `struct msghdr`.
const MSG_NAMELEN: u64 = 8;
const MSG_CONTROLLEN: u64 = 40;
const MSG_FLAGS: u64 = 48;

/// Returns whether the call with this number receives.
pub(crate) fn is_receive(nr: i64) -> bool {
    is_read(nr) || [libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg].contains(&nr)
}

fn is_read(nr: i64) -> bool {
    [libc::SYS_read, libc::SYS_readv, libc::SYS_preadv2].contains(&nr)
}

/// The arguments of a receiving call.
pub(crate) struct ReceiveCall {
    pub(crate) flags: u32,
    /// The time-out of `recvmmsg`, which the kernel checks only after each datagram.
    pub(crate) deadline: Option<Instant>,
    buffers: ReceiveBuffers,
}

/// The buffers of all datagrams of a call.
enum ReceiveBuffers {
    /// The buffers of one datagram.
    One(MessageBuffers),
    /// An array of `struct mmsghdr`.
    Many { address: u64, count: u64 },
}

/// The addresses of the buffers of one datagram; an address of 0 is absent.
#[derive(Default)]
struct MessageBuffers {
    data: Vec<(u64, usize)>,
    name: u64,
    name_room: usize,
    name_len_at: u64,
    control: u64,
    control_room: usize,
    /// Address of the `struct msghdr`.
    header: u64,
}

impl ReceiveCall {
    /// Reads the arguments of a call.
    pub(crate) fn parse(call: &InterceptedCall<'_>) -> Result<Self, Errno> {
        let memory = call.memory();
        let [_, a, b, flags, name, name_len] = call.args();
        let one = |flags, message| Ok(Self { flags, deadline: None, buffers: ReceiveBuffers::One(message) });
        let read = |data| one(0, MessageBuffers { data, ..MessageBuffers::default() });
        match call.nr() {
            libc::SYS_read => read(vec![(a, b as usize)]),
            libc::SYS_preadv2 if flags != NO_OFFSET => Err(Errno::SPIPE),
            libc::SYS_readv | libc::SYS_preadv2 => read(memory.iovecs(a, b)?),
            libc::SYS_recvfrom => {
                let data = vec![(a, b as usize)];
                let mut message = MessageBuffers { data, ..MessageBuffers::default() };
                if name != 0 {
                    message.name = name;
                    message.name_len_at = name_len;
                    message.name_room = checked_len(memory.u32(name_len)?)?;
                }
                one(flags as u32, message)
            }
            libc::SYS_recvmsg => one(b as u32, MessageBuffers::read(memory, a)?),
            _ => {
                let timeout = if name == 0 { None } else { Some(timespec(memory.bytes(name)?)?) };
                let deadline = timeout.and_then(|time| Instant::now().checked_add(time));
                let count = u64::from(b as u32).min(UIO_MAXIOV);
                let buffers = ReceiveBuffers::Many { address: a, count };
                Ok(Self { flags: flags as u32, deadline, buffers })
            }
        }
    }

    /// Returns whether the kernel returns 0 without calling the socket: `read` of no bytes, or
    /// `recvmmsg` of no messages.
    pub(crate) fn is_noop(&self, nr: i64) -> bool {
        match &self.buffers {
            ReceiveBuffers::One(message) => is_read(nr) && message.data.iter().all(|&(_, len)| len == 0),
            ReceiveBuffers::Many { count, .. } => *count == 0,
        }
    }

    /// Returns the maximum number of datagrams that the call receives.
    pub(crate) fn max_datagrams(&self) -> u64 {
        if let ReceiveBuffers::Many { count, .. } = self.buffers { count } else { 1 }
    }

    /// Copies the next datagram into the buffers number `index`; returns its length. The datagram
    /// stays in the queue.
    pub(crate) fn copy_next(&self, proxy: &mut SocketProxy, pid: u32, index: u64) -> Result<usize, Errno> {
        let memory = TraceeMemory(pid);
        match &self.buffers {
            ReceiveBuffers::One(message) => message.copy_next(proxy, memory, self.flags),
            ReceiveBuffers::Many { address, .. } => {
                let header = address.wrapping_add(index * MMSGHDR);
                let message = MessageBuffers::read(memory, header)?;
                let len = message.copy_next(proxy, memory, self.flags)?;
                memory.write(header.wrapping_add(MSGHDR as u64), &(len as u32).to_ne_bytes())?;
                Ok(len)
            }
        }
    }

    /// Removes the copied datagram from the queue, unless the call has `MSG_PEEK`.
    pub(crate) fn dequeue(&self, proxy: &mut SocketProxy) -> Option<QueuedDatagram> {
        if self.flags & libc::MSG_PEEK as u32 != 0 {
            return None;
        }
        proxy.socket.unqueue()
    }
}

impl MessageBuffers {
    /// Reads a `struct msghdr`.
    fn read(memory: TraceeMemory, header: u64) -> Result<Self, Errno> {
        let bytes: [u8; MSGHDR] = memory.bytes(header)?;
        let count = u64_at(&bytes, 24);
        if count > UIO_MAXIOV {
            return Err(Errno::MSGSIZE);
        }
        let name = u64_at(&bytes, 0);
        Ok(Self {
            data: memory.iovecs(u64_at(&bytes, 16), count)?,
            name,
            name_room: checked_len(u32_at(&bytes, MSG_NAMELEN as usize))?,
            name_len_at: if name == 0 { 0 } else { header.wrapping_add(MSG_NAMELEN) },
            control: u64_at(&bytes, 32),
            control_room: u64_at(&bytes, MSG_CONTROLLEN as usize) as usize,
            header,
        })
    }

    fn copy_next(&self, proxy: &mut SocketProxy, memory: TraceeMemory, flags: u32) -> Result<usize, Errno> {
        let room = self.data.iter().fold(0_usize, |sum, &(_, len)| sum.saturating_add(len)).min(MAX_DATAGRAM);
        let mut bytes = vec![0; room];
        let flags_with_peek = RecvFlags::from_bits_retain(flags) | RecvFlags::PEEK;
        let datagram = proxy.socket.recv(&mut bytes, flags_with_peek)?;
        bytes.truncate(datagram.len);
        // One call writes the data and then the results in the header.
        let mut targets = Vec::with_capacity(self.data.len() + 4);
        let mut left = bytes.len();
        for &(at, len) in &self.data {
            let taken = len.min(left);
            left -= taken;
            targets.push((at, taken));
        }
        let mut put = |at: u64, part: &[u8]| {
            targets.push((at, part.len()));
            bytes.extend_from_slice(part);
        };
        if self.name != 0 {
            let address = encode_address((datagram.sender, datagram.groups));
            put(self.name, &address[..self.name_room.min(address.len())]);
            put(self.name_len_at, &(address.len() as u32).to_ne_bytes());
        }
        if self.header != 0 {
            let mut result_flags = flags & libc::MSG_CMSG_CLOEXEC as u32;
            if datagram.truncated {
                result_flags |= libc::MSG_TRUNC as u32;
            }
            let (control, is_truncated) = control_messages(proxy, datagram.groups, self.control_room);
            if is_truncated {
                result_flags |= libc::MSG_CTRUNC as u32;
            }
            put(self.control, &control);
            put(self.header.wrapping_add(MSG_CONTROLLEN), &(control.len() as u64).to_ne_bytes());
            put(self.header.wrapping_add(MSG_FLAGS), &result_flags.to_ne_bytes());
        }
        memory.scatter(&bytes, &targets)?;
        Ok(datagram.len)
    }
}

/// Returns the control messages that the socket's options add to a datagram, at most `room` bytes,
/// and whether they were truncated (`put_cmsg`).
fn control_messages(proxy: &SocketProxy, groups: u32, room: usize) -> (Vec<u8>, bool) {
    let (mut control, mut is_truncated) = (Vec::new(), false);
    let mut push = |level: i32, message_type: i32, data: &[u8]| {
        let left = room - control.len();
        let len = (CMSGHDR + data.len()).min(left);
        is_truncated |= len < CMSGHDR + data.len();
        if left < CMSGHDR {
            return;
        }
        control.extend((len as u64).to_ne_bytes());
        control.extend(level.to_ne_bytes());
        control.extend(message_type.to_ne_bytes());
        control.extend(&data[..len - CMSGHDR]);
        control.resize(control.len().next_multiple_of(8).min(room), 0);
    };
    if proxy.options.pktinfo {
        let group = if groups == 0 { 0 } else { groups.trailing_zeros() + 1 };
        push(libc::SOL_NETLINK, libc::NETLINK_PKTINFO, &group.to_ne_bytes());
    }
    if proxy.options.passcred {
        // The kernel's credentials: process 0, user 0, group 0.
        push(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[0; 12]);
    }
    (control, is_truncated)
}

/// Parses `struct timespec`.
fn timespec(bytes: [u8; 16]) -> Result<Duration, Errno> {
    let seconds = u64_at(&bytes, 0);
    match u32::try_from(u64_at(&bytes, 8)) {
        Ok(nanos @ ..1_000_000_000) if seconds <= i64::MAX as u64 => Ok(Duration::new(seconds, nanos)),
        _ => Err(Errno::INVAL),
    }
}
