//! The kernel's end of a `SOCK_SEQPACKET` pair.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::{OverrunSignal, PumpBlockedOn};
use crate::netlink::message::{NLMSG_OVERRUN, message};
use crate::netlink::socket::Socket;

/// One end of a socket pair, whose other end the consumer has.
#[derive(Debug)]
pub(super) struct PairEnd {
    fd: OwnedFd,
    pub(super) overrun_signal: OverrunSignal,
    /// Whether an `NLMSG_OVERRUN` is still to be sent.
    overrun_pending: bool,
}

impl PairEnd {
    pub(super) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        set_socket_send_buffer_size(&fd, 0)?;
        Ok(Self { fd, overrun_signal: OverrunSignal::default(), overrun_pending: false })
    }

    /// Receives a request; returns its length, or `None` if the consumer has closed its end.
    pub(super) fn receive(&self, request: &mut [u8]) -> Result<Option<usize>, Errno> {
        match recv(&self.fd, request, RecvFlags::DONTWAIT)? {
            // Without POLLRDHUP it is an empty request, which looks the same.
            (0, _) if is_ready(self.as_fd(), PollFlags::RDHUP)? => Ok(None),
            (len, _) => Ok(Some(len)),
        }
    }

    /// Sends the socket's datagrams to the consumer until the pair is full.
    pub(super) fn transfer(
        &mut self,
        socket: &Socket,
        datagrams: &mut usize,
    ) -> Result<PumpBlockedOn, Errno> {
        let Self { fd, overrun_signal, overrun_pending } = self;
        loop {
            if *overrun_pending {
                if !send_datagram(fd.as_fd(), &message(NLMSG_OVERRUN, &[]))? {
                    return Ok(PumpBlockedOn::Consumer);
                }
                *overrun_pending = false;
                *datagrams += 1;
            }
            // A datagram that cannot be sent stays in the queue.
            let mut sent = Ok(true);
            let (drained, ended) = socket.with(|socket| {
                let drained = socket.queue.drain(|datagram| {
                    sent = send_datagram(fd.as_fd(), datagram.bytes());
                    sent == Ok(true)
                });
                (drained, socket.ended)
            });
            match drained {
                Ok(drained) => *datagrams += drained,
                Err(Errno::NOBUFS) => {
                    *overrun_pending = *overrun_signal == OverrunSignal::Message;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if !sent? {
                return Ok(PumpBlockedOn::Consumer);
            }
            if ended {
                shutdown(&*fd, Shutdown::Write)?;
                return Ok(PumpBlockedOn::ConsumerClose);
            }
            return Ok(PumpBlockedOn::Kernel);
        }
    }
}

impl AsFd for PairEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sends a datagram, or returns `false` if the socket pair is full.
fn send_datagram(end: BorrowedFd<'_>, datagram: &[u8]) -> Result<bool, Errno> {
    let sent = match try_send(end, datagram) {
        Err(Errno::MSGSIZE) => {
            // The datagram is longer than the whole send buffer. POLLOUT means that at least three
            // quarters of the buffer are free: at most one event is in transit, and no other long
            // datagram.
            if !is_ready(end, PollFlags::OUT)? {
                return Ok(false);
            }
            // The kernel doubles the requested size, and adds its overhead to the datagram's.
            set_socket_send_buffer_size(end, datagram.len() / 2 + 32)?;
            let sent = try_send(end, datagram);
            set_socket_send_buffer_size(end, 0)?;
            sent
        }
        sent => sent,
    };
    match sent {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Polls one descriptor without waiting; returns whether any of `flags` is set.
pub(super) fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags) -> Result<bool, Errno> {
    let mut fd = [PollFd::from_borrowed_fd(fd, flags)];
    Ok(retry_on_intr(|| poll(&mut fd, Some(&Timespec::default())))? > 0)
}

fn try_send(end: BorrowedFd<'_>, datagram: &[u8]) -> Result<usize, Errno> {
    retry_on_intr(|| send(end, datagram, SendFlags::DONTWAIT | SendFlags::NOSIGNAL))
}
