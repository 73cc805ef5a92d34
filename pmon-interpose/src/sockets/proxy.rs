//! A socket of the fake kernel and the descriptor that stands for it in the tracee.
//!
//! The tracee's descriptor is a [native socket](crate::sockets::native), or one end of a
//! `socketpair`, whose other end the supervisor has. All calls on such an end are intercepted,
//! except waiting calls and `close`. While the fake kernel's socket is readable, a one-byte token
//! lies in the pair, so that the tracee's end is readable, too. When the tracee closes its last
//! copy, the supervisor's end hangs up.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use libc::c_int;
use pmon_fake::{MemInfo, QueuedDatagram, Readiness, Socket};
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fstat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use crate::sockets::native::channel::NativeChannel;
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
    /// The pair of an untracked socket was full: the next event is emitted when it has room.
    pub(crate) is_pair_full: bool,
    /// Identifies the tracee's end.
    pub(crate) file: FileId,
    /// Whether data is transferred through the pair; see [`untracked`](crate::sockets::untracked).
    pub(crate) is_untracked: bool,
    pub(crate) channel: Channel,
    /// The task that used the tracee's end last, and its descriptor.
    pub(crate) last_user: (u32, u32),
}

/// What the tracee's descriptor is connected to.
pub(crate) enum Channel {
    /// A pair of sockets.
    Pair {
        /// The supervisor's end.
        end: OwnedFd,
        /// Number of tokens in the pair.
        tokens: u32,
    },
    /// A socket of the kernel.
    Native(NativeChannel),
}

impl Channel {
    pub(crate) fn native(&self) -> Option<&NativeChannel> {
        if let Self::Native(native) = self { Some(native) } else { None }
    }

    pub(crate) fn native_mut(&mut self) -> Option<&mut NativeChannel> {
        if let Self::Native(native) = self { Some(native) } else { None }
    }

    /// Returns the supervisor's end of a pair.
    pub(crate) fn pair_end(&self) -> Option<&OwnedFd> {
        if let Self::Pair { end, .. } = self { Some(end) } else { None }
    }
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
    /// Returns the proxy of a native socket.
    pub(crate) fn new_native(
        socket: Socket,
        socket_type: u32,
        nonblocking: bool,
        native: NativeChannel,
    ) -> Result<Self, Errno> {
        let file = file_id(&fstat(&native.fd)?);
        Ok(Self::over(socket, socket_type, nonblocking, file, Channel::Native(native)))
    }

    /// Returns the proxy of a pair of sockets, and the tracee's end.
    pub(crate) fn new(socket: Socket, socket_type: u32, nonblocking: bool) -> Result<(Self, OwnedFd), Errno> {
        let (end, tracee_end) = pair(nonblocking)?;
        let file = file_id(&fstat(&tracee_end)?);
        let channel = Channel::Pair { end, tokens: 0 };
        Ok((Self::over(socket, socket_type, nonblocking, file, channel), tracee_end))
    }

    fn over(socket: Socket, socket_type: u32, nonblocking: bool, file: FileId, channel: Channel) -> Self {
        Self {
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
            is_pair_full: false,
            file,
            is_untracked: false,
            channel,
            last_user: (0, 0),
        }
    }

    /// Replaces a native socket by a pair, through which all data goes from now on; returns the
    /// tracee's end.
    pub(crate) fn replace_native(&mut self) -> Result<OwnedFd, Errno> {
        let nonblocking = match &self.channel {
            Channel::Native(native) => fcntl_getfl(&native.fd)?.contains(OFlags::NONBLOCK),
            Channel::Pair { .. } => self.nonblocking,
        };
        let (end, tracee_end) = pair(nonblocking)?;
        self.file = file_id(&fstat(&tracee_end)?);
        self.channel = Channel::Pair { end, tokens: 0 };
        self.untrack()?;
        Ok(tracee_end)
    }

    /// Returns what the tracee has done with the socket, and what it has received.
    pub(crate) fn usage(&self) -> SocketUsage {
        SocketUsage {
            is_bound: self.socket.is_bound(),
            has_subscribed: self.socket.has_subscribed(),
            drops: self.memory().drops.into(),
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
        if let Channel::Native(native) = &mut self.channel {
            // An error of the model is on its way to the native socket.
            return native.take_error();
        }
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

    /// Returns whether the tracee may have a copy whose number is not reserved.
    pub(crate) fn has_untracked_copy(&self) -> bool {
        self.is_untracked || self.channel.native().is_some_and(|native| native.has_untracked_copy)
    }

    /// Returns whether the tracee reads the socket slowly: the queue is half full.
    pub(crate) fn is_lagging(&self) -> bool {
        // What the tracee has not received from a native socket limits its flow elsewhere.
        if self.channel.native().is_some() {
            return false;
        }
        let memory = self.socket.memory();
        !self.is_abandoned && self.socket.receives_events() && memory.rmem_alloc > memory.rcvbuf / 2
    }

    /// Returns whether the tracee has closed all copies of its end. Of a native socket, that is
    /// known only from the last search.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.channel {
            Channel::Pair { end, .. } => is_ready(end.as_fd(), PollFlags::empty()) == Ok(true),
            Channel::Native(native) => native.is_closed,
        }
    }

    /// Returns the number of datagrams in the tracee's native socket, as far as it is known.
    pub(crate) fn unread(&self) -> usize {
        self.channel.native().map_or(0, NativeChannel::unread)
    }

    /// Returns a socket of this process's network namespace, which is the tracee's, too.
    pub(crate) fn own_namespace(&self) -> Result<OwnedFd, Errno> {
        match &self.channel {
            Channel::Pair { end, .. } => rustix::io::fcntl_dupfd_cloexec(end, 0),
            Channel::Native(_) => Ok(pair(false)?.0),
        }
    }

    /// Returns `SO_MEMINFO`.
    pub(crate) fn memory(&self) -> MemInfo {
        let model = self.socket.memory();
        self.channel.native().map_or(model, |native| native.memory(model))
    }

    /// Sets the options on the tracee's native socket that the kernel implements.
    pub(crate) fn apply_options(&mut self) -> Result<(), Errno> {
        let Self { channel, socket, options, .. } = self;
        let Some(native) = channel.native_mut() else { return Ok(()) };
        native.set_rcvbuf(socket.memory().rcvbuf)?;
        native.apply_options(socket, options)
    }

    /// Wakes waiting calls because of a new datagram.
    ///
    /// If the pair has a token, `poll` and `select` do not wait. Signals and edge-triggered epoll
    /// sets, also those that contain another set, need a token for each datagram.
    pub(crate) fn wake(&mut self) {
        let has_tokens = matches!(self.channel, Channel::Pair { tokens: 1.., .. });
        if !has_tokens || self.is_async || !self.epolls.is_empty() {
            self.notify();
        }
    }

    /// Wakes waiting calls and causes an edge: adds a token to the pair.
    pub(crate) fn notify(&mut self) {
        if self.is_untracked {
            return;
        }
        if let Channel::Pair { tokens: MAX_TOKENS.., .. } = self.channel {
            self.take_tokens();
        }
        if let Channel::Pair { end, tokens } = &mut self.channel
            && send(&*end, &[0], SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok()
        {
            *tokens += 1;
        }
    }

    /// Makes the tracee's end readable if and only if the fake kernel's socket is.
    pub(crate) fn sync_readiness(&mut self) {
        let Channel::Pair { tokens, .. } = self.channel else { return };
        match (self.is_ready(), tokens) {
            _ if self.is_untracked => {}
            (true, 0) => self.notify(),
            (false, 1..) => self.take_tokens(),
            _ => {}
        }
    }

    /// Removes all tokens from the pair.
    pub(crate) fn take_tokens(&mut self) {
        let Channel::Pair { tokens, .. } = &mut self.channel else { return };
        let (task, fd) = self.last_user;
        // If that task has ended or has closed its descriptor, the tokens stay: a process that has
        // another copy may find it readable once without a reason.
        let Ok(tracee_end) = duplicate_fd(task, fd) else { return };
        if fstat(tracee_end.as_fd()).is_ok_and(|stat| file_id(&stat) == self.file) {
            while recv(&tracee_end, &mut [0], RecvFlags::DONTWAIT).is_ok_and(|(len, _)| len > 0) {}
            *tokens = 0;
        }
    }
}

/// Returns the supervisor's end and the tracee's end of a new pair.
fn pair(nonblocking: bool) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SocketFlags::CLOEXEC;
    let (end, tracee_end) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    if nonblocking {
        rustix::io::ioctl_fionbio(&tracee_end, true)?;
    }
    Ok((end, tracee_end))
}
