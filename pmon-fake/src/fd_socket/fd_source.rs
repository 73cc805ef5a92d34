//! A source that reads the consumer's end of an `FdSocket`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pmon_core::batch::{Arrival, Batch};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, NLMSGHDR_LEN, SubscribeOp, SubscribeRequest, layout};
use rustix::event::PollFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::pair_end::is_ready;
use crate::netlink::message::NLMSG_OVERRUN;

/// A [`Source`] that reads the consumer's end of an [`FdSocket`](crate::FdSocket), with one `recv`
/// per datagram.
///
/// An `NLMSG_OVERRUN` becomes [`Received::Overrun`], and the end of file [`Received::Closed`]. All
/// datagrams seem to come from the kernel, and drops are not counted.
///
/// ```
/// use pmon_core::batch::Batch;
/// use pmon_core::source::{Received, Source};
/// use pmon_fake::{FdSource, Kernel, OverrunSignal};
///
/// let mut kernel = Kernel::new(1);
/// let mut fd_socket = kernel.fd_socket()?;
/// fd_socket.set_overrun_signal(OverrunSignal::Message);
/// let mut source = FdSource::new(fd_socket.consumer().unwrap());
/// source.listen()?;
/// fd_socket.pump()?;
///
/// let shell = kernel.add_process("sh");
/// kernel.overrun(pmon_core::Cpu(0), 5);
/// kernel.setsid(shell);
/// fd_socket.pump()?;
///
/// let mut batch = Batch::with_capacity(8);
/// assert_eq!(source.receive(&mut batch)?, Received::Datagrams(1));
/// assert_eq!(source.receive(&mut batch)?, Received::Overrun);
/// assert_eq!(source.receive(&mut batch)?, Received::Datagrams(1));
/// assert_eq!(source.receive(&mut batch)?, Received::Empty);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FdSource {
    fd: OwnedFd,
    /// Whether the next call returns [`Received::Overrun`].
    overrun_pending: bool,
    closed: bool,
}

impl FdSource {
    /// Creates a source that reads `fd`, which may be blocking or not.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, overrun_pending: false, closed: false }
    }

    /// Subscribes to all events.
    ///
    /// # Errors
    /// `EPIPE` if the other end is closed.
    pub fn listen(&mut self) -> Result<(), Errno> {
        self.send(&SubscribeRequest::new(SubscribeOp::Listen, 0).encode(0, ByteOrder::NATIVE))
    }

    /// Sends a request.
    ///
    /// # Errors
    /// As [`FdSource::listen`].
    pub fn send(&mut self, request: &[u8]) -> Result<(), Errno> {
        retry_on_intr(|| send(&self.fd, request, SendFlags::NOSIGNAL)).map(|_| ())
    }
}

impl Source for FdSource {
    type Error = Errno;

    fn receive(&mut self, batch: &mut Batch) -> Result<Received, Errno> {
        let mut datagrams = 0;
        while !self.closed && !self.overrun_pending && !batch.is_full() {
            let Some(slot) = batch.free_slots().next() else { break };
            // With MSG_TRUNC, `recv` returns the length of the datagram even if the slot is
            // shorter.
            let (kept, len) = match recv(&self.fd, &mut *slot, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok(received) => received,
                Err(Errno::AGAIN) => break,
                // ECONNRESET: the other end was closed with a request unread. Its datagrams follow.
                Err(Errno::INTR | Errno::CONNRESET) => continue,
                Err(error) => return Err(error),
            };
            if is_overrun(&slot[..kept]) {
                self.overrun_pending = true;
            } else if len == 0 && is_ready(self.fd.as_fd(), PollFlags::RDHUP)? {
                // Without POLLRDHUP it is an empty datagram.
                self.closed = true;
            } else {
                batch.commit(Arrival { len, sender: 0 });
                datagrams += 1;
            }
        }
        if datagrams > 0 || batch.is_full() {
            return Ok(Received::Datagrams(datagrams));
        }
        Ok(match () {
            () if std::mem::take(&mut self.overrun_pending) => Received::Overrun,
            () if self.closed => Received::Closed,
            () => Received::Empty,
        })
    }
}

/// Returns whether a datagram is an `NLMSG_OVERRUN` message, which is only a header.
fn is_overrun(datagram: &[u8]) -> bool {
    let is_header = datagram.len() == NLMSGHDR_LEN;
    is_header && datagram[layout::NLMSG_TYPE] == NLMSG_OVERRUN.to_ne_bytes()
}

impl AsFd for FdSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
