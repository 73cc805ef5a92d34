//! A netlink socket for a program under test, and the kernel's side of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::socket_recv_buffer_size;
use rustix::net::{RecvFlags, bind, connect, getsockname, recv};

use super::frame::{MAX_DATAGRAM, attach_filter};
use super::net_namespace::NetNamespace;
use super::overrun::{OverrunInjector, set_rcvbuf};
use super::self_test::{measure_charge, test_overrun};
use super::sender::{KernelSender, UserSender};
use super::sys;
use super::{NativeSocketError, NativeSocketStep};
use crate::netlink::message::PROC_GROUP;
use crate::netlink::receive_queue::{MemInfo, QueuedDatagram};

/// A native netlink socket in a network namespace of its own, and the kernel's side of it.
///
/// The program's end is bound to the group of process events. What this value sends arrives there
/// as if from the kernel, or is dropped while the buffer is full. The end is connected to a socket
/// of this value, which receives what the program sends without an address. What the program sends
/// to an explicit address, port 0 included, has no effect.
#[derive(Debug)]
pub(crate) struct NativeSocket {
    /// A copy of the program's end.
    receiver: OwnedFd,
    /// Identifies the program's end in frames.
    tag: u32,
    kernel: KernelSender,
    /// Receives the program's requests.
    requests: OwnedFd,
    /// Sends datagrams of user space, once it is bound.
    user: UserSender,
    user_is_bound: bool,
    injector: OverrunInjector,
    /// `SO_RCVBUF`, as raised last by the charge of the injector.
    rcvbuf: usize,
    /// `SK_MEMINFO_DROPS` after the last call.
    drops: u32,
    /// Whether a datagram was dropped since the queue was last seen empty.
    maybe_congested: bool,
}

impl NativeSocket {
    /// Opens a socket, and checks that a datagram arrives as it was sent. The first call checks on
    /// another socket that an overrun can be forced.
    ///
    /// # Errors
    /// Returns an error if this system does not allow such sockets.
    pub(crate) fn new() -> Result<Self, NativeSocketError> {
        static IS_TESTED: AtomicBool = AtomicBool::new(false);
        if !IS_TESTED.load(Ordering::Relaxed) {
            let Self { receiver, tag, mut kernel, injector, .. } = Self::open()?;
            test_overrun(&receiver, &mut kernel, tag, &injector)?;
            IS_TESTED.store(true, Ordering::Relaxed);
        }
        Self::open()
    }

    fn open() -> Result<Self, NativeSocketError> {
        let mut namespace = NetNamespace::new()?;
        let tag = namespace.new_tag();
        let [receiver, kernel, requests, user] = [(); 4].map(|()| namespace.open_socket());
        let (receiver, kernel, requests, user) = (receiver?, kernel?, requests?, user?);
        drop(namespace);
        let setup = NativeSocketStep::Setup.failed();
        attach_filter(&receiver, tag).map_err(&setup)?;
        // The program must not replace the filter.
        sys::lock_filter(receiver.as_fd()).map_err(&setup)?;
        let port = std::process::id();
        bind(&receiver, &SocketAddrNetlink::new(port, PROC_GROUP)).map_err(&setup)?;
        bind(&requests, &SocketAddrNetlink::new(0, 0)).map_err(&setup)?;
        let peer = getsockname(&requests).and_then(SocketAddrNetlink::try_from).map_err(&setup)?;
        connect(&receiver, &SocketAddrNetlink::new(peer.pid(), 0)).map_err(&setup)?;
        let user = UserSender::new(user).map_err(&setup)?;
        let mut kernel = KernelSender::new(kernel);
        let charge = measure_charge(&receiver, &mut kernel, tag)?;
        let injector = OverrunInjector::new(&receiver, charge)?;
        let rcvbuf = socket_recv_buffer_size(&receiver).map_err(&setup)?;
        Ok(Self {
            receiver,
            tag,
            kernel,
            requests,
            user,
            user_is_bound: false,
            injector,
            rcvbuf,
            drops: 0,
            maybe_congested: false,
        })
    }

    /// Returns another descriptor of the program's end.
    ///
    /// # Errors
    /// Returns an error if this process has no descriptor left.
    pub(crate) fn receiver(&self) -> std::io::Result<OwnedFd> {
        self.receiver.try_clone()
    }

    /// Returns `SO_MEMINFO` of the program's end, which includes the
    /// [charge](OverrunInjector::charge).
    ///
    /// # Errors
    /// Returns the error of `getsockopt`.
    pub(crate) fn memory(&self) -> Result<MemInfo, Errno> {
        sys::memory(&self.receiver)
    }

    /// Prepares for datagrams: takes account of the program's `SO_RCVBUF`.
    ///
    /// # Errors
    /// Returns the error of a system call.
    pub(crate) fn begin(&mut self) -> Result<(), Errno> {
        let rcvbuf = socket_recv_buffer_size(&self.receiver)?;
        if rcvbuf != self.rcvbuf {
            set_rcvbuf(&self.receiver, rcvbuf + self.injector.charge() as usize)?;
            self.rcvbuf = socket_recv_buffer_size(&self.receiver)?;
        }
        Ok(())
    }

    /// Sends a datagram from the kernel; the kernel drops it if the buffer is full.
    ///
    /// # Errors
    /// `EMSGSIZE` for a datagram of more than `MAX_DATAGRAM` bytes, or
    /// another error of `send`.
    pub(crate) fn send(&mut self, datagram: &[u8]) -> Result<(), Errno> {
        self.kernel.send(self.tag, datagram)
    }

    /// Sends a datagram from user space, from `port`. The port of the first such datagram is the
    /// port of all that follow.
    ///
    /// # Errors
    /// As [`NativeSocket::send`], and `EADDRINUSE` if the port is the program's own.
    pub(crate) fn send_from(&mut self, port: u32, datagram: &[u8]) -> Result<(), Errno> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(Errno::MSGSIZE);
        }
        if !self.user_is_bound {
            self.user.bind(port)?;
            self.user_is_bound = true;
        }
        // The namespace has no socket with the destination port, so that no other socket and not
        // the kernel get the datagram.
        self.user.send(SocketAddrNetlink::new(u32::MAX, PROC_GROUP), self.tag, datagram)
    }

    /// Sends a datagram of the model, from the port that it has there.
    pub(crate) fn deliver(&mut self, datagram: &QueuedDatagram) -> Result<(), Errno> {
        match datagram.sender {
            0 => self.send(datagram.bytes()),
            port => self.send_from(port, datagram.bytes()),
        }
    }

    /// Makes the program's next receive call return `ENOBUFS`, before the datagrams in its queue,
    /// and counts `drops`, at least 1.
    ///
    /// With `congests`, the socket drops everything until a receive call leaves its queue empty, as
    /// after a real overrun.
    ///
    /// # Errors
    /// Returns the error of a system call.
    pub(crate) fn report_overrun(&mut self, drops: u64, congests: bool) -> Result<(), Errno> {
        self.observe_drops()?;
        self.maybe_congested |= congests;
        self.injector.inject(&self.receiver, &mut self.kernel, self.tag, drops, self.maybe_congested)?;
        self.drops = self.memory()?.drops;
        Ok(())
    }

    /// Ends a series of datagrams.
    ///
    /// # Errors
    /// Returns the kernel's refusal of a datagram.
    pub(crate) fn finish(&mut self) -> Result<(), Errno> {
        self.observe_drops()?;
        self.kernel.take_error()
    }

    /// Notes whether the socket may be congested.
    fn observe_drops(&mut self) -> Result<(), Errno> {
        let MemInfo { rmem_alloc, drops, .. } = self.memory()?;
        self.maybe_congested |= drops != self.drops;
        self.maybe_congested &= rmem_alloc > self.injector.charge();
        self.drops = drops;
        Ok(())
    }

    /// Receives what the program has sent, without waiting.
    ///
    /// # Errors
    /// `EAGAIN` if the program has sent nothing.
    pub(crate) fn receive_request(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        recv(&self.requests, buffer, RecvFlags::DONTWAIT).map(|(len, _)| len)
    }
}

impl AsFd for NativeSocket {
    /// Returns a descriptor that is readable when the program has sent a request.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.requests.as_fd()
    }
}
