//! A netlink socket of the fake kernel, with the system calls that a program makes on it.

use std::sync::{Arc, Mutex};

use pmon_core::Tgid;
use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, SubscribeOp, SubscribeRequest};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::netlink::connector::{Connector, lock};
use crate::netlink::message::PROC_GROUP;
use crate::netlink::receive_queue::{QueuedDatagram, ReceivedDatagram};
use crate::netlink::socket_state::SocketState;

mod options;

/// The highest automatic port: -4097 as a negative number. The kernel counts down from here where a
/// process's id is taken.
const HIGHEST_AUTO_PORT: u32 = -4097_i32 as u32;

/// A netlink socket of a process on the fake kernel, as `socket(AF_NETLINK, SOCK_DGRAM,
/// NETLINK_CONNECTOR)` opens it.
///
/// The socket receives the events of its [`Kernel`](crate::Kernel) once it is bound to the group of
/// process events and any socket has sent a LISTEN request; [`Socket::listen`] does both. No call
/// blocks: one that would returns `EAGAIN`. Dropping the value closes the socket.
///
/// ```
/// use pmon_fake::{Errno, Kernel, RecvFlags};
///
/// let mut kernel = Kernel::new(1);
/// let mut socket = kernel.socket();
/// socket.set_rcvbuf(832);
/// socket.listen()?;
///
/// // The buffer holds two datagrams: the acknowledgement, and one of ten events.
/// let task = kernel.add_process("test");
/// (0..10).for_each(|_| kernel.rename(task, "renamed"));
/// assert_eq!(socket.memory().drops, 9);
///
/// let mut next = || socket.recv(&mut [0; 1024], RecvFlags::empty()).map(|datagram| datagram.len);
/// assert_eq!(next(), Err(Errno::NOBUFS));
/// assert_eq!([next(), next()], [Ok(76), Ok(76)]);
/// assert_eq!(next(), Err(Errno::AGAIN));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug)]
pub struct Socket {
    connector: Arc<Mutex<Connector>>,
    id: usize,
    /// The process that opened the socket; its id is the first choice for an automatic port.
    owner: Tgid,
}

/// The result of `poll` on a [`Socket`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Whether a receive call would return a datagram, or the end of file (`POLLIN`).
    pub readable: bool,
    /// Whether a receive call would fail (`POLLERR`).
    pub error: bool,
}

impl Socket {
    pub(crate) fn open(connector: &Arc<Mutex<Connector>>, owner: Tgid, privileged: bool) -> Self {
        let sockets = &mut lock(connector).sockets;
        sockets.push(SocketState::new(privileged));
        Self { connector: connector.clone(), id: sockets.len() - 1, owner }
    }

    /// Runs `act` on the connector's state of this socket, with the connector locked.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut SocketState) -> R) -> R {
        act(&mut lock(&self.connector).sockets[self.id])
    }

    /// Closes the socket before it is dropped.
    pub(crate) fn close(&mut self) {
        self.with(SocketState::close);
    }

    /// Binds the socket to a port and to a mask of groups (`bind`).
    ///
    /// Port 0 selects the process's id, or a free port if that is taken.
    ///
    /// # Errors
    /// `EINVAL` if the socket is bound to another port, `EADDRINUSE` if another socket is bound to
    /// this one, `EPERM` if the groups need privileges that the socket lacks.
    pub fn bind(&mut self, port: u32, groups: u32) -> Result<(), Errno> {
        let mut connector = lock(&self.connector);
        let socket = &mut connector.sockets[self.id];
        let bound = socket.bound.then_some(socket.port);
        if bound.is_some_and(|bound| bound != port) {
            return Err(Errno::INVAL);
        }
        // An unprivileged socket may join the groups with odd numbers (`cn_bind`).
        if !socket.privileged && groups & 0xAAAA_AAAA != 0 {
            return Err(Errno::PERM);
        }
        if bound.is_none() && port != 0 && !connector.is_port_free(port) {
            connector.sockets[self.id].port = port;
            return Err(Errno::ADDRINUSE);
        }
        let port = if port == 0 { auto_port(&connector, self.owner) } else { port };
        let socket = &mut connector.sockets[self.id];
        (socket.port, socket.bound) = (port, true);
        connector.set_groups(self.id, groups);
        Ok(())
    }

    /// Returns whether the socket owns a port.
    pub fn is_bound(&self) -> bool {
        lock(&self.connector).sockets[self.id].bound
    }

    /// Returns whether the socket has ever requested events (`PROC_CN_MCAST_LISTEN`).
    pub fn has_subscribed(&self) -> bool {
        self.with(|socket| socket.has_subscribed)
    }

    /// Connects the socket to a port and to the lowest of `groups` (`connect`).
    ///
    /// [`Socket::send`] then sends to this port and group, and only unicasts from this port are
    /// received. No socket needs to have the port. An unbound socket is bound to an automatic port.
    ///
    /// # Errors
    /// `EPERM` if an unprivileged socket connects to anything but the kernel (port and groups 0).
    pub fn connect(&mut self, port: u32, groups: u32) -> Result<(), Errno> {
        let mut connector = lock(&self.connector);
        if !connector.sockets[self.id].privileged && (port, groups) != (0, 0) {
            return Err(Errno::PERM);
        }
        bind_if_unbound(&mut connector, self.id, self.owner);
        connector.sockets[self.id].peer = Some((port, lowest_group(groups)));
        Ok(())
    }

    /// Reverts [`Socket::connect`], except that the socket stays bound (`connect` to `AF_UNSPEC`).
    pub fn disconnect(&mut self) {
        lock(&self.connector).sockets[self.id].peer = None;
    }

    /// Returns the peer (`getpeername`): the port and the group mask of [`Socket::connect`], or
    /// zeros if the socket is not connected.
    pub fn peer_name(&self) -> (u32, u32) {
        lock(&self.connector).sockets[self.id].peer.unwrap_or_default()
    }

    /// Returns the address (`getsockname`): the port and the mask of groups.
    ///
    /// After a `bind` that failed with `EADDRINUSE`, the port is the requested one, which another
    /// socket owns.
    pub fn name(&self) -> (u32, u32) {
        self.with(|socket| (socket.port, socket.groups))
    }

    /// Joins the group with number `group` (`NETLINK_ADD_MEMBERSHIP`).
    ///
    /// # Errors
    /// `EINVAL` if there is no such group, `EPERM` if it needs privileges that the socket lacks.
    pub fn add_membership(&mut self, group: i32) -> Result<(), Errno> {
        self.set_membership(group, true)
    }

    /// Leaves the group with number `group` (`NETLINK_DROP_MEMBERSHIP`); queued datagrams stay
    /// queued.
    ///
    /// # Errors
    /// `EINVAL` if there is no such group.
    pub fn drop_membership(&mut self, group: i32) -> Result<(), Errno> {
        self.set_membership(group, false)
    }

    fn set_membership(&mut self, group: i32, on: bool) -> Result<(), Errno> {
        let bit = match group {
            1..=32 => 1_u32 << (group - 1),
            _ => return Err(Errno::INVAL),
        };
        let mut connector = lock(&self.connector);
        let socket = &mut connector.sockets[self.id];
        if on && !socket.privileged && group % 2 == 0 {
            return Err(Errno::PERM);
        }
        let groups = if on { socket.groups | bit } else { socket.groups & !bit };
        connector.set_groups(self.id, groups);
        Ok(())
    }

    /// Returns the readiness of the socket, as `poll` with a timeout of 0.
    pub fn poll(&self) -> Readiness {
        let mut connector = lock(&self.connector);
        let socket = &mut connector.sockets[self.id];
        let (readable, error) = socket.queue.readiness();
        Readiness { readable: readable || socket.ended, error }
    }

    /// Takes the first datagram out of the queue, regardless of pending errors and faults.
    pub fn unqueue(&mut self) -> Option<QueuedDatagram> {
        self.with(|socket| socket.queue.pop())
    }

    /// Puts a datagram from [`Socket::unqueue`] back to the front of the queue, even where that
    /// exceeds the receive buffer.
    pub fn requeue(&mut self, datagram: QueuedDatagram) {
        self.with(|socket| socket.queue.push_front(datagram));
    }

    /// Returns whether a receive call would return the end of file: the input has ended, and
    /// nothing is queued.
    pub fn is_at_end(&self) -> bool {
        self.with(|socket| socket.ended && socket.queue.readiness() == (false, false))
    }

    /// Returns whether an event that happens now would be sent to this socket.
    ///
    /// That is the case if the socket has a port and is in the group, its last request was not
    /// IGNORE, the kernel counts at least one listener, and the input has not ended.
    pub fn receives_events(&self) -> bool {
        let mut connector = lock(&self.connector);
        let has_listeners = connector.listeners >= 1;
        let socket = &mut connector.sockets[self.id];
        has_listeners && socket.is_addressed_by_kernel() && !socket.ignores_events()
    }

    /// Returns whether the socket has subscribed: it has sent a request, and the last one was not
    /// IGNORE.
    pub fn is_subscribed(&self) -> bool {
        self.with(|socket| socket.has_requested() && !socket.ignores_events())
    }

    /// Sends a datagram (`send`) to the peer of [`Socket::connect`], or else to the kernel; returns
    /// the bytes sent.
    ///
    /// # Errors
    /// As [`Socket::send_to`], except `EPERM`: privileges are checked by [`Socket::connect`].
    pub fn send(&mut self, datagram: &[u8]) -> Result<usize, Errno> {
        self.prepare_send(datagram.len(), None)?;
        let (port, groups) = self.peer_name();
        self.send_checked(datagram, port, groups)
    }

    /// Sends a datagram (`sendto`) to the lowest of `groups` and to a port, of which 0 is the
    /// kernel; returns the bytes sent.
    ///
    /// An unbound socket is bound to an automatic port. If the filter of the socket at the port
    /// truncates the datagram, the truncated length is returned.
    ///
    /// # Errors
    /// `ENODATA` for an empty datagram, `EMSGSIZE` for one that is too long, `EPERM` if an
    /// unprivileged socket sends to anything but the kernel, `ECONNREFUSED` if no socket has the
    /// port or that socket is connected to another port, `EAGAIN` if its receive buffer is full.
    pub fn send_to(&mut self, datagram: &[u8], port: u32, groups: u32) -> Result<usize, Errno> {
        self.prepare_send(datagram.len(), Some((port, groups)))?;
        self.send_checked(datagram, port, groups)
    }

    /// Does what [`Socket::send`] or, with a destination (port and groups), [`Socket::send_to`]
    /// does before the kernel reads the data of `len` bytes: binds the socket, and checks
    /// everything that does not depend on the data.
    ///
    /// # Errors
    /// `ENODATA`, `EPERM` and `EMSGSIZE`, as [`Socket::send_to`].
    pub fn prepare_send(&mut self, len: usize, destination: Option<(u32, u32)>) -> Result<(), Errno> {
        if len == 0 {
            return Err(Errno::NODATA);
        }
        let mut connector = lock(&self.connector);
        let privileged = connector.sockets[self.id].privileged;
        if !privileged && destination.is_some_and(|destination| destination != (0, 0)) {
            return Err(Errno::PERM);
        }
        bind_if_unbound(&mut connector, self.id, self.owner);
        if len > connector.sockets[self.id].send_buffer.max_datagram() {
            return Err(Errno::MSGSIZE);
        }
        Ok(())
    }

    fn send_checked(&mut self, datagram: &[u8], port: u32, groups: u32) -> Result<usize, Errno> {
        let mut connector = lock(&self.connector);
        let group = lowest_group(groups);
        if group != 0 {
            connector.multicast(self.id, datagram, group, port);
        }
        if port != 0 {
            return connector.unicast(self.id, datagram, port, group);
        }
        connector.request(self.id, datagram);
        Ok(datagram.len())
    }

    /// Receives the next datagram without waiting (`recvmsg` with `MSG_DONTWAIT`), and copies it
    /// into `buffer`, as far as it fits.
    ///
    /// After [`Fault::End`](crate::Fault::End), once the queue is empty, a datagram of length 0 is
    /// returned.
    ///
    /// # Errors
    /// `ENOBUFS` if datagrams were dropped, before the datagrams still queued; `EAGAIN` if none is
    /// queued; `EOPNOTSUPP` for `MSG_OOB`; `EINTR` and `EAGAIN` where a fault script injects them.
    pub fn recv(&mut self, buffer: &mut [u8], flags: RecvFlags) -> Result<ReceivedDatagram, Errno> {
        if flags.contains(RecvFlags::OOB) {
            return Err(Errno::OPNOTSUPP);
        }
        let mut connector = lock(&self.connector);
        let socket = &mut connector.sockets[self.id];
        if socket.eintr_calls > 0 {
            socket.eintr_calls -= 1;
            return Err(Errno::INTR);
        }
        if socket.eagain_calls > 0 {
            socket.eagain_calls -= 1;
            return Err(Errno::AGAIN);
        }
        match socket.queue.recv(buffer, flags) {
            Err(Errno::AGAIN) if socket.ended => {
                Ok(ReceivedDatagram { len: 0, truncated: false, sender: 0, groups: 0 })
            }
            received => received,
        }
    }

    /// Subscribes to all events: binds to the group, and sends a LISTEN request.
    ///
    /// The kernel's acknowledgement is the next datagram.
    ///
    /// # Errors
    /// As [`Socket::bind`].
    pub fn listen(&mut self) -> Result<(), Errno> {
        let (port, groups) = self.name();
        self.bind(if self.is_bound() { port } else { 0 }, groups | PROC_GROUP)?;
        let request = SubscribeRequest::new(SubscribeOp::Listen, 0);
        self.send_to(&request.encode(self.name().0, ByteOrder::NATIVE), 0, 0).map(|_| ())
    }
}

/// Binds an unbound socket to an automatic port (`netlink_autobind`).
fn bind_if_unbound(connector: &mut Connector, id: usize, owner: Tgid) {
    if !connector.sockets[id].bound {
        let port = auto_port(connector, owner);
        let socket = &mut connector.sockets[id];
        (socket.port, socket.bound) = (port, true);
    }
}

/// Returns the lowest group of a mask, as a mask.
fn lowest_group(groups: u32) -> u32 {
    groups & groups.wrapping_neg()
}

fn auto_port(connector: &Connector, owner: Tgid) -> u32 {
    let others = (1..=HIGHEST_AUTO_PORT).rev();
    std::iter::once(owner.0).chain(others).find(|&port| connector.is_port_free(port)).unwrap_or(owner.0)
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}

impl Source for Socket {
    type Error = Errno;

    fn receive(&mut self, batch: &mut Batch) -> Result<Received, Errno> {
        let mut connector = lock(&self.connector);
        let socket = &mut connector.sockets[self.id];
        // A source repeats interrupted calls.
        socket.eintr_calls = 0;
        if socket.eagain_calls > 0 {
            socket.eagain_calls -= 1;
            return Ok(Received::Empty);
        }
        if batch.is_full() {
            return Ok(Received::Datagrams(0));
        }
        match socket.queue.drain(|datagram| batch.push(datagram.bytes(), datagram.sender)) {
            Err(Errno::NOBUFS) => Ok(Received::Overrun),
            Err(error) => Err(error),
            Ok(0) if socket.ended => Ok(Received::Closed),
            Ok(0) => Ok(Received::Empty),
            Ok(datagrams) => Ok(Received::Datagrams(datagrams)),
        }
    }

    fn drops(&mut self) -> Result<Option<u64>, Errno> {
        Ok(Some(lock(&self.connector).sockets[self.id].queue.dropped))
    }
}
