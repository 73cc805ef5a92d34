//! Forced overruns: the tracee's next call on a native socket fails with `ENOBUFS`, although its
//! queue is not full.
//!
//! A registered notification of a message queue is charged to the receive buffer of a netlink
//! socket without a datagram being queued. With three of them, a buffer of the minimum size is
//! full: the kernel drops the next datagram and reports the overrun itself.

use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

use crate::sockets::native::namespace::NetlinkNamespace;
use crate::sockets::native::sys::{create_queue, register_notification, set_option, unlink_queue};

/// Number of notifications that fill a receive buffer of the minimum size, 2304 bytes.
pub(crate) const NOTIFICATIONS: u32 = 3;

/// The notifications that are charged to a socket.
///
/// Closing the queues removes the notifications, and the kernel then queues them to the socket:
/// they must live as long as the tracee may receive.
pub(crate) struct OverrunNotifications {
    _queues: Vec<OwnedFd>,
}

impl OverrunNotifications {
    /// Charges the notifications to a socket. Its receive buffer must have room for them: the
    /// kernel waits for room.
    fn charge(socket: BorrowedFd<'_>) -> Result<Self, Errno> {
        let queues = (0..NOTIFICATIONS).map(|_| {
            let queue = anonymous_queue()?;
            register_notification(queue.as_fd(), socket)?;
            Ok(queue)
        });
        Ok(Self { _queues: queues.collect::<Result<_, Errno>>()? })
    }
}

/// Creates a message queue without a name.
fn anonymous_queue() -> Result<OwnedFd, Errno> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = CString::new(format!("pmon-{}-{number}", std::process::id()));
        let name = name.map_err(|_zero| Errno::INVAL)?;
        match create_queue(&name) {
            // A process of another PID namespace has the same id.
            Err(Errno::EXIST) => {}
            created => {
                let queue = created?;
                unlink_queue(&name)?;
                return Ok(queue);
            }
        }
    }
}

/// Makes the kernel drop a datagram for the socket with this tag, which sets the socket's error to
/// `ENOBUFS`. Afterwards, `SO_RCVBUF` is the minimum.
pub(crate) fn force_overrun(
    namespace: &NetlinkNamespace,
    socket: BorrowedFd<'_>,
    tag: u32,
    notifications: &mut Option<OverrunNotifications>,
) -> Result<(), Errno> {
    if notifications.is_none() {
        end_congestion(socket)?;
        set_rcvbuf(socket, i32::MAX as u32)?;
        *notifications = Some(OverrunNotifications::charge(socket)?);
    }
    set_rcvbuf(socket, 0)?;
    namespace.send(tag, &[0; 4])?;
    // The kernel would drop everything until the tracee has emptied the queue. That is for the
    // model to decide.
    end_congestion(socket)
}

/// Ends congestion; a pending error stays.
fn end_congestion(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    for no_enobufs in [1, 0] {
        set_option(socket, libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, &no_enobufs)?;
    }
    Ok(())
}

/// Sets `SO_RCVBUF` so that the buffer has `bytes`, within the kernel's limits.
pub(crate) fn set_rcvbuf(socket: BorrowedFd<'_>, bytes: u32) -> Result<(), Errno> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &(bytes / 2))
}
