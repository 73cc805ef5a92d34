//! The socket of the proc connector, as a source of datagrams.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, CN_IDX_PROC, Operation, Request};
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, send, socket_with, sockopt};

use crate::sys::Mailbox;

/// A `NETLINK_CONNECTOR` socket (`netlink(7)`, `Documentation/driver-api/connector.rst`).
pub(crate) struct Socket {
    fd: OwnedFd,
    mailbox: Mailbox,
}

impl Socket {
    /// Opens a socket; it receives nothing yet.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(CONNECTOR))?;
        Ok(Self { fd, mailbox: Mailbox::new() })
    }

    /// Joins the group of process events, on a port that the kernel chooses.
    pub(crate) fn bind(&self) -> io::Result<()> {
        Ok(bind(&self.fd, &SocketAddrNetlink::new(0, CN_IDX_PROC))?)
    }

    /// Asks for `bytes` of buffer, without bound if privileged, and returns what the kernel then accounts with.
    pub(crate) fn enlarge(&self, bytes: usize) -> io::Result<u64> {
        // The kernel doubles the number in an int.
        let bytes = bytes.min(i32::MAX as usize / 2);
        if sockopt::set_socket_recv_buffer_size_force(&self.fd, bytes).is_err() {
            sockopt::set_socket_recv_buffer_size(&self.fd, bytes)?;
        }
        Ok(sockopt::socket_recv_buffer_size(&self.fd)? as u64)
    }

    /// Sends a subscription request to the kernel.
    pub(crate) fn request(&self, operation: Operation, ack: u32) -> io::Result<()> {
        let request = Request::new(operation, ack).encode(std::process::id(), ByteOrder::NATIVE);
        rustix::io::retry_on_intr(|| send(&self.fd, &request, SendFlags::empty()))?;
        Ok(())
    }
}

impl Source for Socket {
    type Error = io::Error;

    fn receive(&mut self, batch: &mut Batch) -> Result<Received, io::Error> {
        loop {
            let error = match self.mailbox.receive(self.fd.as_fd(), batch) {
                Ok(received) => return Ok(Received::Frames(received)),
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN) => return Ok(Received::Empty),
                Some(libc::ENOBUFS) => return Ok(Received::Overrun),
                _ => return Err(error),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
