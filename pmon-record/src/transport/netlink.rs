//! The socket of the proc connector, as a source of datagrams.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, CN_IDX_PROC, SubscribeOp, SubscribeRequest};
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, send, socket_with, sockopt};

use crate::sys::{self, Mailbox};

/// An operation that the kernel does not define.
const INVALID: u32 = 7;

/// A `NETLINK_CONNECTOR` socket (`netlink(7)`, `Documentation/driver-api/connector.rst`).
pub(crate) struct Socket {
    fd: OwnedFd,
    mailbox: Mailbox,
    /// Whether the kernel counts it among its listeners: that count does not go down by itself when it is closed.
    listens: bool,
    /// Datagrams dropped, of which the kernel tells the lower 32 bits.
    drops: u64,
}

impl Socket {
    /// Opens a socket; it receives nothing yet.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(CONNECTOR))?;
        Ok(Self { fd, mailbox: Mailbox::new(), listens: false, drops: 0 })
    }

    /// Joins the group of process events, on a port that the kernel chooses.
    pub(crate) fn bind(&self) -> io::Result<()> {
        Ok(bind(&self.fd, &SocketAddrNetlink::new(0, CN_IDX_PROC))?)
    }

    /// Makes `bytes` of buffer, without bound if privileged, and returns what the kernel then accounts with.
    pub(crate) fn enlarge(&self, bytes: usize) -> io::Result<u64> {
        // The kernel doubles what it is asked for, in an int.
        let asked = bytes.div_ceil(2).min(i32::MAX as usize / 2);
        if sockopt::set_socket_recv_buffer_size_force(&self.fd, asked).is_err() {
            sockopt::set_socket_recv_buffer_size(&self.fd, asked)?;
        }
        Ok(sockopt::socket_recv_buffer_size(&self.fd)? as u64)
    }

    /// Has it take datagrams again as soon as there is room after an overrun; it then reports none.
    pub(crate) fn no_enobufs(&self) -> io::Result<()> {
        sys::no_enobufs(self.fd.as_fd())
    }

    /// Asks the kernel for events; its acknowledgement carries `ack` plus 1.
    pub(crate) fn listen(&mut self, ack: u32) -> io::Result<()> {
        self.request(SubscribeOp::Listen, ack)?;
        self.listens = true;
        Ok(())
    }

    /// Asks the kernel for no more events.
    pub(crate) fn ignore(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.listens) { self.request(SubscribeOp::Ignore, 0) } else { Ok(()) }
    }

    /// Makes the kernel count one more listener, even after this socket is closed. The
    /// acknowledgement carries `ack` plus 1.
    pub(crate) fn add_listener(&self, ack: u32) -> io::Result<()> {
        // Since Linux 6.6, the kernel counts a listening socket again only after a different
        // request.
        self.send(&Self::encode(SubscribeOp::Listen, ack, Some(INVALID)))?;
        self.send(&Self::encode(SubscribeOp::Listen, ack, None))
    }

    fn request(&self, operation: SubscribeOp, ack: u32) -> io::Result<()> {
        self.send(&Self::encode(operation, ack, None))
    }

    /// Encodes a request, with `number` as its operation if given.
    fn encode(operation: SubscribeOp, ack: u32, number: Option<u32>) -> Vec<u8> {
        let mut request = SubscribeRequest::new(operation, ack).encode(std::process::id(), ByteOrder::NATIVE);
        if let (Some(number), Some(place)) = (number, request.last_chunk_mut()) {
            *place = number.to_ne_bytes();
        }
        request
    }

    fn send(&self, request: &[u8]) -> io::Result<()> {
        rustix::io::retry_on_intr(|| send(&self.fd, request, SendFlags::empty()))?;
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // If it fails, the kernel keeps emitting events without a listener, at some cost.
        let _ = self.ignore();
    }
}

impl Source for Socket {
    type Error = io::Error;

    fn receive(&mut self, batch: &mut Batch) -> Result<Received, io::Error> {
        loop {
            let error = match self.mailbox.receive(self.fd.as_fd(), batch) {
                Ok(received) => return Ok(Received::Datagrams(received)),
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

    fn drops(&mut self) -> Result<Option<u64>, io::Error> {
        let Some(drops) = sys::drops(self.fd.as_fd())? else { return Ok(None) };
        self.drops += u64::from(drops.wrapping_sub(self.drops as u32));
        Ok(Some(self.drops))
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
