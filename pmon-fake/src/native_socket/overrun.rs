//! Forced overruns: a socket reports `ENOBUFS` although its buffer is not full.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_recv_buffer_size, socket_recv_buffer_size};

use super::sender::KernelSender;
use super::sys::{self, MessageQueue};
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
/// charge, without being queued. `SO_RCVBUF` must be raised by that charge.
///
/// A notification that is removed would be queued. Therefore the message queues stay open until the
/// injector is dropped.
#[derive(Debug)]
pub struct OverrunInjector {
    _queues: Vec<MessageQueue>,
    /// Bytes of receive buffer that the notifications occupy.
    charge: u32,
}

impl OverrunInjector {
    /// Charges a socket that is not congested, on which a short datagram occupies `datagram` bytes,
    /// and raises its `SO_RCVBUF` by the charge.
    ///
    /// # Errors
    /// Returns an error if no more message queues can be opened, at most 256 per system by default.
    pub fn new(socket: impl AsFd, datagram: u32) -> Result<Self, NativeSocketError> {
        let socket = socket.as_fd();
        let setup = NativeSocketStep::Setup.failed();
        let rcvbuf = socket_recv_buffer_size(socket).map_err(&setup)?;
        set_rcvbuf(socket, 0).map_err(&setup)?;
        let minimum = socket_recv_buffer_size(socket).map_err(&setup)?;
        // The registration of a notification waits for room.
        set_rcvbuf(socket, i32::MAX as usize).map_err(&setup)?;
        // Before Linux 6.16, the buffer is full once the charge without the datagram exceeds it.
        let count = minimum / datagram.max(1) as usize + 1;
        let attach = |_| {
            let queue = MessageQueue::open()?;
            queue.notify(socket, &COOKIE)?;
            Ok(queue)
        };
        let queues: Result<Vec<_>, _> = (0..count).map(attach).collect();
        let queues = queues.map_err(NativeSocketStep::MessageQueue.failed())?;
        let charge = count as u32 * datagram;
        set_rcvbuf(socket, rcvbuf + charge as usize).map_err(&setup)?;
        Ok(Self { _queues: queues, charge })
    }

    /// Returns the bytes of receive buffer that the notifications occupy, which `SO_MEMINFO`
    /// includes.
    pub fn charge(&self) -> u32 {
        self.charge
    }

    /// Makes the kernel drop `drops` datagrams, at least 1, so that the next receive call returns
    /// `ENOBUFS`, before the datagrams that are queued.
    ///
    /// The socket does not stay congested, except with `congested`. With
    /// `NETLINK_NO_ENOBUFS`, only the drops are counted.
    ///
    /// # Errors
    /// Returns the error of a system call.
    pub fn inject(
        &self,
        socket: impl AsFd,
        sender: &mut KernelSender,
        tag: u32,
        drops: u64,
        congested: bool,
    ) -> Result<(), Errno> {
        let socket = socket.as_fd();
        // The datagrams before are not to be dropped.
        sender.flush()?;
        let rcvbuf = socket_recv_buffer_size(socket)?;
        set_rcvbuf(socket, 0)?;
        let sent = (0..drops.clamp(1, MAX_DROPS)).try_for_each(|_| sender.queue(tag, &DROPPED));
        let sent = sent.and_then(|()| sender.flush());
        set_rcvbuf(socket, rcvbuf)?;
        sent?;
        if congested { Ok(()) } else { end_congestion(socket) }
    }
}

/// Ends congestion; a pending error stays.
///
/// # Errors
/// Returns the error of `getsockopt` or `setsockopt`.
pub fn end_congestion(socket: impl AsFd) -> Result<(), Errno> {
    let socket = socket.as_fd();
    // With the option, a socket is never congested.
    if !sys::no_enobufs(socket)? {
        sys::set_no_enobufs(socket, true)?;
        sys::set_no_enobufs(socket, false)?;
    }
    Ok(())
}

/// Sets `SO_RCVBUF` so that `getsockopt` returns `bytes`, within the limits.
///
/// # Errors
/// Returns the error of `setsockopt`.
pub fn set_rcvbuf(socket: impl AsFd, bytes: usize) -> Result<(), Errno> {
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
