//! The netlink socket of the proc connector.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, CN_IDX_PROC, SubscribeOp, SubscribeRequest, layout};
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, send, socket_with, sockopt};

use crate::sys::{self, RecvmmsgBuffers};

/// An operation that the kernel does not define.
const INVALID_OP: u32 = 7;

/// A `NETLINK_CONNECTOR` socket (`netlink(7)`, `Documentation/driver-api/connector.rst`).
pub(crate) struct NetlinkSocket {
    fd: OwnedFd,
    buffers: RecvmmsgBuffers,
    /// Whether the kernel counts the socket as a listener. Closing the socket does not lower that
    /// count.
    is_listening: bool,
    /// Number of dropped datagrams. The kernel reports only the lower 32 bits.
    drops: u64,
}

impl NetlinkSocket {
    /// Opens a socket, which receives no events yet.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(CONNECTOR))?;
        Ok(Self { fd, buffers: RecvmmsgBuffers::new(), is_listening: false, drops: 0 })
    }

    /// Continues with a socket that another recorder has bound, and with which it has requested
    /// events.
    pub(crate) fn adopt(fd: OwnedFd) -> Self {
        Self { fd, buffers: RecvmmsgBuffers::new(), is_listening: true, drops: 0 }
    }

    /// Keeps the request for events when this value is dropped, because another copy of the
    /// descriptor remains.
    pub(crate) fn keep_listening(&mut self) {
        self.is_listening = false;
    }

    /// Joins the multicast group of process events. The kernel chooses the port.
    pub(crate) fn bind(&self) -> io::Result<()> {
        Ok(bind(&self.fd, &SocketAddrNetlink::new(0, CN_IDX_PROC))?)
    }

    /// Requests a receive buffer of `bytes` bytes, beyond `net.core.rmem_max` if privileged.
    /// Returns the effective size, as the kernel accounts for it.
    pub(crate) fn set_buffer(&self, bytes: usize) -> io::Result<u64> {
        // The kernel doubles the requested size, in an `int`.
        let requested = bytes.div_ceil(2).min(i32::MAX as usize / 2);
        if sockopt::set_socket_recv_buffer_size_force(&self.fd, requested).is_err() {
            sockopt::set_socket_recv_buffer_size(&self.fd, requested)?;
        }
        Ok(sockopt::socket_recv_buffer_size(&self.fd)? as u64)
    }

    /// Makes the socket accept datagrams as soon as it has space again after an overrun. It then
    /// reports no overruns (`NETLINK_NO_ENOBUFS`).
    pub(crate) fn set_no_enobufs(&self) -> io::Result<()> {
        sys::set_option(self.fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, 1)
    }

    /// Requests events. The kernel's acknowledgement has the number `ack` + 1.
    pub(crate) fn listen(&mut self, ack: u32) -> io::Result<()> {
        self.request(SubscribeOp::Listen as u32, ack)?;
        self.is_listening = true;
        Ok(())
    }

    /// Ends the request for events.
    pub(crate) fn ignore(&mut self) -> io::Result<()> {
        let was_listening = std::mem::take(&mut self.is_listening);
        if was_listening { self.request(SubscribeOp::Ignore as u32, 0) } else { Ok(()) }
    }

    /// Makes the kernel count one more listener, even after this socket is closed. The
    /// acknowledgement has the number `ack` + 1.
    pub(crate) fn add_listener(&self, ack: u32) -> io::Result<()> {
        // Since Linux 6.6, the kernel counts a listening socket again only after a different
        // request.
        self.request(INVALID_OP, ack)?;
        self.request(SubscribeOp::Listen as u32, ack)
    }

    /// Sends a request with any operation, even one that the kernel does not define.
    fn request(&self, op: u32, ack: u32) -> io::Result<()> {
        let request = SubscribeRequest::new(SubscribeOp::Listen, ack);
        let mut request = request.encode(std::process::id(), ByteOrder::NATIVE);
        request[layout::MCAST_OP].copy_from_slice(&op.to_ne_bytes());
        rustix::io::retry_on_intr(|| send(&self.fd, &request, SendFlags::empty()))?;
        Ok(())
    }
}

impl Drop for NetlinkSocket {
    fn drop(&mut self) {
        // If this fails, the kernel keeps emitting events without a listener, at some cost.
        let _ = self.ignore();
    }
}

impl Source for NetlinkSocket {
    type Error = io::Error;

    fn receive(&mut self, batch: &mut Batch) -> Result<Received, io::Error> {
        loop {
            let error = match self.buffers.receive(self.fd.as_fd(), batch) {
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

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
