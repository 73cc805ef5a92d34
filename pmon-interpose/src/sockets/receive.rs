//! Calls that receive: what they ask for, and what they get.

use pmon_core::wire::{u32_at, u64_at};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::sockets::options::{PKTINFO, SOL_NETLINK};
use crate::sockets::proxy::Held;
use crate::sockets::send::NO_OFFSET;
use crate::sys::Notification;
use crate::tracee::{CMSGHDR, MMSGHDR, MSGHDR, Memory, UIO_MAXIOV};
use pmon_fake::QueuedDatagram;

/// The longest datagram that can come.
const LONGEST: usize = 1 << 18;
/// Where the parts of a `struct msghdr` are.
const NAMELEN: u64 = 8;
const CONTROLLEN: u64 = 40;
const FLAGS: u64 = 48;
const SCM_CREDENTIALS: u32 = 2;

/// A call that receives.
pub(crate) struct Receive {
    pub(crate) flags: u32,
    /// When `recvmmsg` is content with what it has, as it finds with each datagram.
    pub(crate) until: Option<Instant>,
    /// Where each datagram goes.
    messages: Messages,
}

enum Messages {
    /// One, into these buffers, its sender's address to there, and its length.
    One(Message),
    /// `recvmmsg`: so many `struct mmsghdr`.
    Many { address: u64, count: u64 },
}

/// Where one datagram goes, and what else is told of it; an address of 0 is nowhere.
#[derive(Default)]
struct Message {
    buffers: Vec<(u64, usize)>,
    name: u64,
    room: usize,
    name_len_at: u64,
    control: u64,
    control_room: usize,
    /// The `struct msghdr`.
    header: u64,
}

impl Receive {
    /// What the call asks for.
    pub(crate) fn parse(notification: &Notification) -> Result<Self, Errno> {
        let memory = Memory(notification.pid);
        let [_, a, b, flags, name, name_len] = notification.data.args;
        let one = |flags, message| Ok(Self { flags, until: None, messages: Messages::One(message) });
        let buffers = |buffers| one(0, Message { buffers, ..Message::default() });
        match i64::from(notification.data.nr) {
            libc::SYS_read => buffers(vec![(a, b as usize)]),
            libc::SYS_preadv2 if flags != NO_OFFSET => Err(Errno::SPIPE),
            libc::SYS_readv | libc::SYS_preadv2 => buffers(memory.buffers(a, b)?),
            libc::SYS_recvfrom => {
                let mut message = Message { buffers: vec![(a, b as usize)], ..Message::default() };
                if name != 0 {
                    message.name = name;
                    message.name_len_at = name_len;
                    message.room = room(memory.u32(name_len)?)?;
                }
                one(flags as u32, message)
            }
            libc::SYS_recvmsg => one(b as u32, Message::read(memory, a)?),
            _ => {
                let timeout = if name == 0 { None } else { Some(timeout(memory.bytes(name)?)?) };
                let until = timeout.and_then(|time| Instant::now().checked_add(time));
                let messages = Messages::Many { address: a, count: u64::from(b as u32).min(UIO_MAXIOV) };
                Ok(Self { flags: flags as u32, until, messages })
            }
        }
    }

    /// Whether it is a call of no socket, which returns before any is asked: `read` of nothing.
    pub(crate) fn wants_nothing(&self, nr: i64) -> bool {
        let Messages::One(Message { buffers, .. }) = &self.messages else { return self.count() == 0 };
        matches!(nr, libc::SYS_read | libc::SYS_readv | libc::SYS_preadv2)
            && buffers.iter().all(|&(_, len)| len == 0)
    }

    /// How many datagrams it takes at the most.
    pub(crate) fn count(&self) -> u64 {
        if let Messages::Many { count, .. } = self.messages { count } else { 1 }
    }

    /// Gives it the next datagram, as its so-maniest, and the answer if that was all; the datagram stays queued until it has its answer.
    pub(crate) fn give(&self, held: &mut Held, pid: u32, at: u64) -> Result<usize, Errno> {
        let memory = Memory(pid);
        match &self.messages {
            Messages::One(message) => message.give(held, memory, self.flags),
            Messages::Many { address, .. } => {
                let header = address.wrapping_add(at * MMSGHDR);
                let len = Message::read(memory, header)?.give(held, memory, self.flags)?;
                memory.write(header.wrapping_add(MSGHDR as u64), &(len as u32).to_ne_bytes())?;
                Ok(len)
            }
        }
    }

    /// Takes what was given out of the queue, unless it was only looked at.
    pub(crate) fn take(&self, held: &mut Held) -> Option<QueuedDatagram> {
        if self.flags & libc::MSG_PEEK as u32 != 0 {
            return None;
        }
        held.socket.unqueue()
    }
}

impl Message {
    fn read(memory: Memory, header: u64) -> Result<Self, Errno> {
        let bytes: [u8; MSGHDR] = memory.bytes(header)?;
        let count = u64_at(&bytes, 24);
        if count > UIO_MAXIOV {
            return Err(Errno::MSGSIZE);
        }
        let name = u64_at(&bytes, 0);
        Ok(Self {
            buffers: memory.buffers(u64_at(&bytes, 16), count)?,
            name,
            room: room(u32_at(&bytes, NAMELEN as usize))?,
            name_len_at: if name == 0 { 0 } else { header.wrapping_add(NAMELEN) },
            control: u64_at(&bytes, 32),
            control_room: u64_at(&bytes, CONTROLLEN as usize) as usize,
            header,
        })
    }

    fn give(&self, held: &mut Held, memory: Memory, flags: u32) -> Result<usize, Errno> {
        let room = self.buffers.iter().fold(0_usize, |sum, &(_, len)| sum.saturating_add(len)).min(LONGEST);
        let mut bytes = vec![0; room];
        let how = RecvFlags::from_bits_retain(flags) | RecvFlags::PEEK;
        let datagram = held.socket.recv(&mut bytes, how)?;
        bytes.truncate(datagram.len);
        // First what came, then what is told of it, all in one go.
        let mut places = Vec::with_capacity(self.buffers.len() + 4);
        let mut left = bytes.len();
        for &(at, len) in &self.buffers {
            let taken = len.min(left);
            left -= taken;
            places.push((at, taken));
        }
        let mut put = |at: u64, part: &[u8]| {
            places.push((at, part.len()));
            bytes.extend_from_slice(part);
        };
        if self.name != 0 {
            let address = address(datagram.sender, datagram.groups);
            put(self.name, &address[..self.room.min(address.len())]);
            put(self.name_len_at, &(address.len() as u32).to_ne_bytes());
        }
        if self.header != 0 {
            let mut told = flags & libc::MSG_CMSG_CLOEXEC as u32;
            if datagram.truncated {
                told |= libc::MSG_TRUNC as u32;
            }
            let (control, is_cut) = held.control(datagram.groups, self.control_room);
            if is_cut {
                told |= libc::MSG_CTRUNC as u32;
            }
            put(self.control, &control);
            put(self.header.wrapping_add(CONTROLLEN), &(control.len() as u64).to_ne_bytes());
            put(self.header.wrapping_add(FLAGS), &told.to_ne_bytes());
        }
        memory.scatter(&bytes, &places)?;
        Ok(datagram.len)
    }
}

impl Held {
    /// What the socket's options add to a datagram: control messages, as much of them as fits, and whether that is not all (`put_cmsg`).
    fn control(&self, groups: u32, room: usize) -> (Vec<u8>, bool) {
        let (mut control, mut is_cut) = (Vec::new(), false);
        let mut push = |level: u32, kind: u32, data: &[u8]| {
            let left = room - control.len();
            let len = (CMSGHDR + data.len()).min(left);
            is_cut |= len < CMSGHDR + data.len();
            if left < CMSGHDR {
                return;
            }
            control.extend((len as u64).to_ne_bytes());
            control.extend(level.to_ne_bytes());
            control.extend(kind.to_ne_bytes());
            control.extend(&data[..len - CMSGHDR]);
            control.resize(control.len().next_multiple_of(8).min(room), 0);
        };
        if self.pktinfo {
            let group = if groups == 0 { 0 } else { groups.trailing_zeros() + 1 };
            push(SOL_NETLINK as u32, PKTINFO as u32, &group.to_ne_bytes());
        }
        if self.passcred {
            // The kernel's: no process, and root.
            push(libc::SOL_SOCKET as u32, SCM_CREDENTIALS, &[0; 12]);
        }
        (control, is_cut)
    }
}

/// `struct sockaddr_nl`.
pub(crate) fn address(port: u32, groups: u32) -> [u8; 12] {
    let mut address = [0; 12];
    address[..2].copy_from_slice(&(libc::AF_NETLINK as u16).to_ne_bytes());
    address[4..8].copy_from_slice(&port.to_ne_bytes());
    address[8..].copy_from_slice(&groups.to_ne_bytes());
    address
}

/// `struct timespec`.
fn timeout(bytes: [u8; 16]) -> Result<Duration, Errno> {
    let seconds = u64_at(&bytes, 0);
    match u32::try_from(u64_at(&bytes, 8)) {
        Ok(nanos @ ..1_000_000_000) if seconds <= i64::MAX as u64 => Ok(Duration::new(seconds, nanos)),
        _ => Err(Errno::INVAL),
    }
}

/// Room for an address, as the program says.
fn room(len: u32) -> Result<usize, Errno> {
    if len > i32::MAX as u32 { Err(Errno::INVAL) } else { Ok(len as usize) }
}
