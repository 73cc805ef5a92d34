//! Forced overruns: a socket reports `ENOBUFS` although its buffer is not full.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_recv_buffer_size, socket_recv_buffer_size};

use super::sender::KernelSender;
use super::sys::{self, MessageQueue};
use super::tag_filter::Tag;
use super::{NativeSocketError, NativeSocketStep};

/// Length of the data of a message queue's notification (`NOTIFY_COOKIE_LEN`).
pub(super) const COOKIE_LEN: usize = 32;
/// The notification, which the program receives if the injector is dropped while the socket is
/// open: a message that readers ignore.
const COOKIE: [u8; COOKIE_LEN] = noop();
/// The datagram that is sent to be dropped.
const DROPPED: [u8; 16] = noop();
/// The maximum number of drops that one forced overrun adds to `SK_MEMINFO_DROPS`.
const MAX_DROPS: u64 = 65_536;

/// Makes a socket drop datagrams at any time, even while its queue is empty.
///
/// With `SO_RCVBUF` at its minimum, the kernel still queues a datagram if nothing else is charged
/// to the socket. The notifications of POSIX message queues, registered for the socket, are such a
/// charge, without being queued. The injector raises `SO_RCVBUF` by that charge, and again after
/// the program has set it.
///
/// A notification that is removed would be queued. Therefore the message queues stay open until the
/// injector is dropped.
#[derive(Debug)]
pub(super) struct OverrunInjector {
    _cookies: Vec<MessageQueue>,
    /// Bytes of receive buffer that the notifications occupy.
    charge: usize,
    /// `SO_RCVBUF`, as raised last.
    rcvbuf: usize,
}

impl OverrunInjector {
    /// Charges an empty socket, on which a short datagram occupies `truesize` bytes.
    ///
    /// # Errors
    /// Returns an error if no more message queues can be opened, at most 256 per system by default.
    pub(super) fn new(socket: impl AsFd, truesize: u32) -> Result<Self, NativeSocketError> {
        let socket = socket.as_fd();
        let setup = NativeSocketStep::Setup.failed();
        let rcvbuf = socket_recv_buffer_size(socket).map_err(&setup)?;
        set_rcvbuf(socket, 0).map_err(&setup)?;
        let minimum = socket_recv_buffer_size(socket).map_err(&setup)?;
        set_rcvbuf(socket, rcvbuf).map_err(&setup)?;
        // Before Linux 6.16, the buffer is full once the charge without the datagram exceeds it.
        let count = minimum / truesize.max(1) as usize + 1;
        let attach = |_| {
            let queue = MessageQueue::open()?;
            queue.notify(socket, &COOKIE)?;
            Ok(queue)
        };
        let cookies: Result<Vec<_>, _> = (0..count).map(attach).collect();
        let cookies = cookies.map_err(NativeSocketStep::MessageQueue.failed())?;
        let mut injector = Self { _cookies: cookies, charge: count * truesize as usize, rcvbuf: 0 };
        injector.raise_rcvbuf(socket).map_err(&setup)?;
        Ok(injector)
    }

    /// Returns the bytes of receive buffer that the notifications occupy, which `SO_MEMINFO`
    /// includes.
    pub(super) fn charge(&self) -> usize {
        self.charge
    }

    /// Raises `SO_RCVBUF` by the charge, if the program has set it since the last call.
    ///
    /// # Errors
    /// Returns the error of `getsockopt` or `setsockopt`.
    pub(super) fn raise_rcvbuf(&mut self, socket: impl AsFd) -> Result<(), Errno> {
        let socket = socket.as_fd();
        let rcvbuf = socket_recv_buffer_size(socket)?;
        if rcvbuf != self.rcvbuf {
            set_rcvbuf(socket, rcvbuf + self.charge)?;
            self.rcvbuf = socket_recv_buffer_size(socket)?;
        }
        Ok(())
    }

    /// Makes the kernel drop `drops` datagrams, at least 1, so that the next receive call returns
    /// `ENOBUFS`, before the datagrams that are queued.
    ///
    /// The socket does not stay congested, except with `congested`. With
    /// `NETLINK_NO_ENOBUFS`, only the drops are counted.
    ///
    /// # Errors
    /// Returns the error of a system call.
    pub(super) fn inject(
        &mut self,
        socket: impl AsFd,
        sender: &mut KernelSender,
        tag: Tag,
        drops: u64,
        congested: bool,
    ) -> Result<(), Errno> {
        let socket = socket.as_fd();
        set_rcvbuf(socket, 0)?;
        let sent = (0..drops.clamp(1, MAX_DROPS)).try_for_each(|_| sender.send(tag, &DROPPED));
        set_rcvbuf(socket, self.rcvbuf)?;
        sent?;
        if !congested && !sys::no_enobufs(socket)? {
            // Setting the option ends congestion; the error stays pending.
            sys::set_no_enobufs(socket, true)?;
            sys::set_no_enobufs(socket, false)?;
        }
        Ok(())
    }
}

/// Sets `SO_RCVBUF` so that `getsockopt` returns `bytes`, within the limits.
fn set_rcvbuf(socket: BorrowedFd<'_>, bytes: usize) -> Result<(), Errno> {
    set_socket_recv_buffer_size(socket, bytes / 2)
}

/// Returns an `NLMSG_NOOP` message.
const fn noop<const LEN: usize>() -> [u8; LEN] {
    const NLMSG_NOOP: [u8; 2] = 1_u16.to_ne_bytes();
    let mut message = [0; LEN];
    [message[0], message[1], message[2], message[3]] = (LEN as u32).to_ne_bytes();
    [message[4], message[5]] = NLMSG_NOOP;
    message
}
