//! A socket of the fake kernel and the descriptor that stands for it in the tracee.
//!
//! The tracee's descriptor is one end of a `socketpair`; the supervisor has the other end. All
//! calls on the descriptor are intercepted, except waiting calls and `close`. While the fake
//! kernel's socket is readable, a one-byte token lies in the pair, so that the tracee's end is
//! readable, too. When the tracee closes its last copy, the supervisor's end hangs up.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use libc::c_int;
use pmon_fake::{QueuedDatagram, Readiness, Socket};
use rustix::event::PollFlags;
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use crate::sockets::usage::SocketUsage;
use crate::sys::is_ready;
use crate::tracee::fds::{FileId, duplicate_fd, file_id};

/// Maximum bytes of a datagram in either direction.
pub(crate) const MAX_DATAGRAM: usize = 1 << 18;
/// Maximum number of tokens in a pair. Each token wakes an edge-triggered `epoll`.
const MAX_TOKENS: u32 = 64;

/// A socket of the tracee.
pub(crate) struct SocketProxy {
    pub(crate) socket: Socket,
    /// The number of the socket in the order of opening.
    pub(crate) number: u64,
    /// What the tracee has received from the socket; [`SocketProxy::usage`] completes it.
    pub(crate) received: SocketUsage,
    /// `SOCK_RAW` or `SOCK_DGRAM`.
    pub(crate) socket_type: u32,
    pub(crate) nonblocking: bool,
    /// Whether a signal announces each datagram (`O_ASYNC`).
    pub(crate) is_async: bool,
    pub(crate) options: ProxyOptions,
    /// The epoll sets that contain the socket.
    pub(crate) epolls: Vec<EpollInterest>,
    /// A nonblocking call has found the queue empty, and no other call has been made since.
    pub(crate) found_empty: bool,
    /// The queue was half full while the tracee slept: the tracee does not read this socket.
    pub(crate) is_abandoned: bool,
    /// Identifies the tracee's end.
    pub(crate) file: FileId,
    /// Whether data is transferred through the pair; see [`untracked`](crate::sockets::untracked).
    pub(crate) is_untracked: bool,
    /// The supervisor's end of the pair.
    pub(crate) end: OwnedFd,
    /// Number of tokens in the pair.
    tokens: u32,
    /// The task that used the tracee's end last, and its descriptor.
    pub(crate) last_user: (u32, u32),
}

/// Options of a socket that the fake kernel does not implement.
#[derive(Default)]
pub(crate) struct ProxyOptions {
    /// Whether `recvmsg` returns `NETLINK_PKTINFO`.
    pub(crate) pktinfo: bool,
    /// Whether `recvmsg` returns `SCM_CREDENTIALS`.
    pub(crate) passcred: bool,
    /// `SO_RCVTIMEO`; `None` is unlimited.
    pub(crate) rcvtimeo: Option<Duration>,
    /// `SO_SNDTIMEO`, without an effect.
    pub(crate) sndtimeo: Option<Duration>,
    /// Options without an effect, by level and name.
    pub(crate) stored: BTreeMap<(c_int, c_int), u64>,
    /// Whether the kernel has allocated the list of groups, which it does for the first one.
    pub(crate) has_group_list: bool,
}

impl ProxyOptions {
    pub(crate) fn store(&mut self, level: c_int, option: c_int, value: u64) {
        self.stored.insert((level, option), value);
    }

    /// Returns a stored value, or the default.
    pub(crate) fn stored(&self, level: c_int, option: c_int, default: u64) -> u64 {
        self.stored.get(&(level, option)).copied().unwrap_or(default)
    }

    /// Records in `SO_BUF_LOCK` that the size of a buffer was set.
    pub(crate) fn lock_buffer(&mut self, bit: u64) {
        *self.stored.entry((libc::SOL_SOCKET, libc::SO_BUF_LOCK)).or_default() |= bit;
    }

    /// Returns whether `recvmsg` returns control messages.
    pub(crate) fn has_control_messages(&self) -> bool {
        self.pktinfo || self.passcred
    }
}

/// The registration of a socket in an epoll set.
pub(crate) struct EpollInterest {
    /// Descriptor of the epoll set.
    pub(crate) set: u32,
    /// Requested events.
    pub(crate) events: u32,
    /// The data that `epoll_wait` returns.
    pub(crate) data: u64,
}

impl SocketProxy {
    /// Returns the proxy and the tracee's end of the pair.
    pub(crate) fn new(socket: Socket, socket_type: u32, nonblocking: bool) -> Result<(Self, OwnedFd), Errno> {
        let flags = SocketFlags::CLOEXEC;
        let (end, tracee_end) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        if nonblocking {
            rustix::io::ioctl_fionbio(&tracee_end, true)?;
        }
        let proxy = Self {
            socket,
            number: 0,
            received: SocketUsage::default(),
            socket_type,
            nonblocking,
            is_async: false,
            options: ProxyOptions::default(),
            epolls: Vec::new(),
            found_empty: false,
            is_abandoned: false,
            file: file_id(&fstat(&tracee_end)?),
            is_untracked: false,
            end,
            tokens: 0,
            last_user: (0, 0),
        };
        Ok((proxy, tracee_end))
    }

    /// Returns what the tracee has done with the socket, and what it has received.
    pub(crate) fn usage(&self) -> SocketUsage {
        SocketUsage {
            is_bound: self.socket.is_bound(),
            has_subscribed: self.socket.has_subscribed(),
            drops: self.socket.memory().drops.into(),
            ..self.received
        }
    }

    /// Takes a datagram out of the queue that the tracee has received, and counts it.
    pub(crate) fn unqueue(&mut self) -> Option<QueuedDatagram> {
        let datagram = self.socket.unqueue();
        if let Some(datagram) = &datagram {
            self.received.count(datagram.bytes(), datagram.sender());
        }
        datagram
    }

    /// Takes the pending error, and counts it.
    pub(crate) fn take_error(&mut self) -> Option<Errno> {
        let error = self.socket.take_error();
        error.into_iter().for_each(|error| self.received.count_error(error));
        error
    }

    /// Puts a datagram back into the queue whose call was interrupted.
    pub(crate) fn requeue(&mut self, datagram: QueuedDatagram) {
        self.received.uncount(datagram.bytes(), datagram.sender());
        self.socket.requeue(datagram);
    }

    /// Returns whether a receiving call would return a datagram or an error.
    pub(crate) fn is_ready(&self) -> bool {
        let Readiness { readable, error } = self.socket.poll();
        readable || error
    }

    /// Returns whether the tracee reads the socket slowly: the queue is half full.
    pub(crate) fn is_lagging(&self) -> bool {
        let memory = self.socket.memory();
        !self.is_abandoned && self.socket.receives_events() && memory.rmem_alloc > memory.rcvbuf / 2
    }

    /// Returns whether the tracee has closed all copies of its end.
    pub(crate) fn is_closed(&self) -> bool {
        is_ready(self.end.as_fd(), PollFlags::empty()) == Ok(true)
    }

    /// Wakes waiting calls because of a new datagram.
    ///
    /// If the pair has a token, `poll` and `select` do not wait. Signals and edge-triggered epoll
    /// sets, also those that contain another set, need a token for each datagram.
    pub(crate) fn wake(&mut self) {
        if self.tokens == 0 || self.is_async || !self.epolls.is_empty() {
            self.notify();
        }
    }

    /// Wakes waiting calls and causes an edge: adds a token to the pair.
    pub(crate) fn notify(&mut self) {
        if self.is_untracked {
            return;
        }
        if self.tokens >= MAX_TOKENS {
            self.take_tokens();
        }
        if send(&self.end, &[0], SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok() {
            self.tokens += 1;
        }
    }

    /// Makes the tracee's end readable if and only if the fake kernel's socket is.
    pub(crate) fn sync_readiness(&mut self) {
        match (self.is_ready(), self.tokens) {
            _ if self.is_untracked => {}
            (true, 0) => self.notify(),
            (false, 1..) => self.take_tokens(),
            _ => {}
        }
    }

    /// Removes all tokens from the pair.
    pub(crate) fn take_tokens(&mut self) {
        let (task, fd) = self.last_user;
        // If that task has ended or has closed its descriptor, the tokens stay: a process that has
        // another copy may find it readable once without a reason.
        let Ok(tracee_end) = duplicate_fd(task, fd) else { return };
        if fstat(tracee_end.as_fd()).is_ok_and(|stat| file_id(&stat) == self.file) {
            while recv(&tracee_end, &mut [0], RecvFlags::DONTWAIT).is_ok_and(|(len, _)| len > 0) {}
            self.tokens = 0;
        }
    }
}
