//! The kernel's side of a native netlink socket.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::PumpBlockedOn;
use crate::native_socket::NativeSocket;
use crate::netlink::socket::Socket;

/// A native netlink socket, and the drops of the model that it has reported.
#[derive(Debug)]
pub(super) struct NetlinkEnd {
    native: NativeSocket,
    reported_drops: u64,
}

impl NetlinkEnd {
    pub(super) fn new(native: NativeSocket) -> Self {
        Self { native, reported_drops: 0 }
    }

    /// Receives a request; returns its length. The result is never `None`: a netlink socket does
    /// not report that its peer is closed.
    pub(super) fn receive(&self, request: &mut [u8]) -> Result<Option<usize>, Errno> {
        self.native.receive_request(request).map(Some)
    }

    /// Sends all of the socket's datagrams and overruns to the consumer; what its buffer cannot
    /// hold is dropped.
    pub(super) fn transfer(
        &mut self,
        socket: &Socket,
        datagrams: &mut usize,
    ) -> Result<PumpBlockedOn, Errno> {
        self.native.begin()?;
        let mut sent = Ok(());
        let (overrun, congested, drained, dropped, ended) = socket.with(|socket| {
            let (overrun, congested) = (socket.queue.error.take(), socket.queue.is_congested());
            // A datagram that cannot be sent is removed as well: it would block the others.
            let drained = socket.queue.drain(|datagram| {
                sent = sent.and(self.native.deliver(datagram));
                true
            });
            (overrun, congested, drained, socket.queue.dropped, socket.ended)
        });
        *datagrams += drained?;
        // The datagrams come first: a congested socket has queued none after the overrun.
        if overrun.is_some() {
            self.native.report_overrun(dropped - self.reported_drops, congested)?;
        }
        self.reported_drops = dropped;
        sent?;
        self.native.finish()?;
        Ok(if ended { PumpBlockedOn::ConsumerClose } else { PumpBlockedOn::Kernel })
    }
}

impl AsFd for NetlinkEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.native.as_fd()
    }
}
