//! The consumer's end of a wire, as a source.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use pmon_core::batch::{Arrival, Batch};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, NLMSGHDR_LEN, SubscribeOp, SubscribeRequest, layout};
use rustix::event::PollFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::faults::injector::NLMSG_OVERRUN;
use crate::fd_socket::is_ready;

/// Reads the datagrams of a [`FdSocket`](crate::FdSocket), with a call of `recv` each, as a [`Source`].
///
/// An `NLMSG_OVERRUN` is told as [`Received::Overrun`], the end of the file as [`Received::Closed`]. All senders are the kernel, as far as it
/// can see, and it does not know how many datagrams were dropped.
///
/// ```
/// use pmon_core::batch::Batch;
/// use pmon_core::source::{Received, Source};
/// use pmon_fake::{FdSource, Kernel, OverrunSignal};
///
/// let mut kernel = Kernel::new(1);
/// let mut wire = kernel.fd_socket()?;
/// wire.set_overrun_signal(OverrunSignal::Message);
/// let mut source = FdSource::new(wire.consumer().unwrap());
/// source.listen()?;
/// wire.pump()?;
///
/// let shell = kernel.add_process("sh");
/// kernel.overrun(pmon_core::Cpu(0), 5);
/// kernel.setsid(shell);
/// wire.pump()?;
///
/// let mut batch = Batch::with_capacity(8);
/// assert_eq!(source.receive(&mut batch)?, Received::Frames(1));
/// assert_eq!(source.receive(&mut batch)?, Received::Overrun);
/// assert_eq!(source.receive(&mut batch)?, Received::Frames(1));
/// assert_eq!(source.receive(&mut batch)?, Received::Empty);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FdSource {
    fd: OwnedFd,
    /// Is to be told before anything else.
    overrun: bool,
    closed: bool,
}

impl FdSource {
    /// A source that reads this descriptor; whether that blocks makes no difference.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, overrun: false, closed: false }
    }

    /// Asks for all events.
    ///
    /// # Errors
    /// `EPIPE` if nobody is at the other end.
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
        let mut frames = 0;
        while !self.closed && !self.overrun && !batch.is_full() {
            let Some(slot) = batch.free_slots().next() else { break };
            // MSG_TRUNC: a datagram's real length also where the slot is shorter.
            let (kept, len) = match recv(&self.fd, &mut *slot, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok(received) => received,
                Err(Errno::AGAIN) => break,
                // The other end was closed with a request unread; what it has sent before comes yet.
                Err(Errno::INTR | Errno::CONNRESET) => continue,
                Err(error) => return Err(error),
            };
            if is_overrun(&slot[..kept]) {
                self.overrun = true;
            } else if len == 0 && is_ready(self.fd.as_fd(), PollFlags::RDHUP)? {
                // Otherwise, it is a datagram of no bytes.
                self.closed = true;
            } else {
                batch.commit(Arrival { len, sender: 0 });
                frames += 1;
            }
        }
        if frames > 0 || batch.is_full() {
            return Ok(Received::Datagrams(frames));
        }
        Ok(match () {
            () if std::mem::take(&mut self.overrun) => Received::Overrun,
            () if self.closed => Received::Closed,
            () => Received::Empty,
        })
    }
}

fn is_overrun(datagram: &[u8]) -> bool {
    let is_short = datagram.len() == NLMSGHDR_LEN;
    is_short && datagram[layout::NLMSG_TYPE] == NLMSG_OVERRUN.to_ne_bytes()
}

impl AsFd for FdSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for FdSource {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
