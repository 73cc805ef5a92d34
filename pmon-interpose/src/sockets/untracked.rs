//! Sockets of which the tracee has a copy whose number is not reserved, for instance through
//! `dup2`.
//!
//! Calls on that number are not intercepted: they reach the pair of sockets. From then on all calls
//! on all copies use the pair, and the supervisor moves datagrams between the pair and the fake
//! kernel's socket. Datagrams and requests are delivered; senders' addresses, netlink options and
//! `ENOBUFS` are not. A datagram is in the pair before the tracee receives it, so `/proc` may show
//! a later event.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use crate::sockets::proxy::{Channel, MAX_DATAGRAM, SocketProxy};
use crate::sys::is_ready;

impl SocketProxy {
    /// Lets all data go through the pair from now on.
    pub(crate) fn untrack(&mut self) -> Result<(), Errno> {
        // Afterwards, the pair holds datagrams instead of tokens.
        if self.is_untracked {
            return Ok(());
        }
        self.take_tokens();
        self.is_untracked = true;
        // With the minimum size, the pair is writable only while it holds at most one datagram.
        self.channel.pair_end().map_or(Ok(()), |end| set_socket_send_buffer_size(end, 0))
    }

    /// Returns the supervisor's end and the events to poll it for; `None` if the socket is tracked.
    pub(crate) fn poll_interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let writable = if self.is_ready() || self.is_pair_full { PollFlags::OUT } else { PollFlags::empty() };
        let end = self.channel.pair_end().filter(|_| self.is_untracked)?;
        Some((end.as_fd(), PollFlags::IN | writable))
    }

    /// Moves datagrams in both directions as far as possible without waiting. Returns whether the
    /// pair has room for more.
    pub(crate) fn pump(&mut self) -> Result<bool, Errno> {
        let Channel::Pair { end, .. } = &self.channel else { return Ok(false) };
        let mut bytes = vec![0; MAX_DATAGRAM];
        loop {
            match recv(end, &mut bytes[..], RecvFlags::DONTWAIT) {
                // The tracee's call has already returned: an error cannot be reported.
                Ok((1.., len)) => drop(self.socket.send(&bytes[..len])),
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
        loop {
            self.is_pair_full = !is_ready(end.as_fd(), PollFlags::OUT)?;
            if self.is_pair_full {
                return Ok(false);
            }
            match self.socket.recv(&mut bytes, RecvFlags::empty()) {
                Ok(datagram) if datagram.len == 0 => {
                    shutdown(end, Shutdown::Write)?;
                    return Ok(false);
                }
                Ok(datagram) => {
                    self.received.count(&bytes[..datagram.len], datagram.sender);
                    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                    match send(end, &bytes[..datagram.len], flags) {
                        // The tracee has closed its end, or the datagram exceeds the pair's buffer.
                        // The kernel's own datagrams fit.
                        Ok(_) | Err(Errno::PIPE | Errno::CONNRESET | Errno::MSGSIZE) => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(Errno::AGAIN) => return Ok(true),
                // The tracee can detect the loss by a gap in the sequence numbers.
                Err(error) => self.received.count_error(error),
            }
        }
    }
}
