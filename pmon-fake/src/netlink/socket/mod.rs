//! A netlink socket of the fake kernel, with the calls that a program makes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pmon_core::Tgid;
use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, SubscribeOp, SubscribeRequest};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::netlink::connector::{Connector, GROUP};
use crate::netlink::member::SocketState;
use crate::netlink::receive_queue::{QueuedDatagram, ReceivedDatagram};

mod options;

/// The longest datagram that can be sent: `SO_SNDBUF` as it is by default, less what each takes.
const LONGEST: usize = 212_992 - 32;
/// The ports given to those who want any, and whose process's own is taken, go down from here: as negative numbers, -4097.
const HIGHEST_PORT: u32 = -4097_i32 as u32;

/// A socket as `socket(AF_NETLINK, SOCK_DGRAM, NETLINK_CONNECTOR)` makes it, of a process on the fake kernel. Nothing blocks: a call
/// that would is refused with `EAGAIN`.
///
/// It hears what happens on its [`Kernel`](crate::Kernel), once it is bound to the group and somebody has asked for events;
/// [`Socket::listen`] does both. Dropping it closes it.
///
/// ```
/// use pmon_fake::{Errno, Kernel, RecvFlags};
///
/// let mut kernel = Kernel::new(1);
/// let mut socket = kernel.socket();
/// socket.set_rcvbuf(832);
/// socket.listen()?;
///
/// // There is room for two datagrams: the acknowledgement, and one of ten events.
/// let task = kernel.add_process("test");
/// (0..10).for_each(|_| kernel.rename(task, "renamed"));
/// assert_eq!(socket.memory().drops, 9);
///
/// let mut next = || socket.recv(&mut [0; 1024], RecvFlags::empty()).map(|datagram| datagram.len);
/// assert_eq!([next(), next(), next(), next()], [Err(Errno::NOBUFS), Ok(76), Ok(76), Err(Errno::AGAIN)]);
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug)]
pub struct Socket {
    connector: Arc<Mutex<Connector>>,
    id: usize,
    /// The port that it gets first of all: its process's id.
    owner: Tgid,
}

/// What `poll` tells of a [`Socket`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// `POLLIN`: a call would bring a datagram, or the end.
    pub readable: bool,
    /// `POLLERR`: a call would bring an error.
    pub error: bool,
}

/// The connector, also after a panic of another thread: a test that has failed anyhow.
pub(crate) fn lock(connector: &Mutex<Connector>) -> MutexGuard<'_, Connector> {
    connector.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Socket {
    pub(crate) fn open(connector: &Arc<Mutex<Connector>>, owner: Tgid, admin: bool) -> Self {
        let id = lock(connector).open(admin);
        Self { connector: connector.clone(), id, owner }
    }

    /// The kernel's side of it; meanwhile nothing else happens there.
    pub(crate) fn with<R>(&mut self, act: impl FnOnce(&mut SocketState) -> R) -> R {
        act(lock(&self.connector).member(self.id))
    }

    /// `close`, before it is dropped.
    pub(crate) fn close(&mut self) {
        lock(&self.connector).close(self.id);
    }

    /// `bind` to a port and to groups, as a mask; port 0 is the process's id, or any that is free.
    ///
    /// # Errors
    /// `EINVAL` if it is bound to another port, `EADDRINUSE` if another socket is bound to that one, `EPERM` if it may not hear
    /// these groups.
    pub fn bind(&mut self, port: u32, groups: u32) -> Result<(), Errno> {
        let mut connector = lock(&self.connector);
        let member = connector.member(self.id);
        let bound = member.bound.then_some(member.port);
        if bound.is_some_and(|bound| bound != port) {
            return Err(Errno::INVAL);
        }
        // Without privilege, the groups with odd numbers (`cn_bind`).
        if !member.admin && groups & 0xAAAA_AAAA != 0 {
            return Err(Errno::PERM);
        }
        if bound.is_none() && port != 0 && !connector.is_free(port) {
            connector.member(self.id).port = port;
            return Err(Errno::ADDRINUSE);
        }
        let port = if port == 0 { free_port(&connector, self.owner) } else { port };
        let member = connector.member(self.id);
        (member.port, member.bound) = (port, true);
        connector.set_groups(self.id, groups);
        Ok(())
    }

    /// Whether it has a port of its own.
    pub fn is_bound(&self) -> bool {
        lock(&self.connector).member(self.id).bound
    }

    /// `connect`: from now on, [`Socket::send`] goes to that port and to the groups, of which only the first counts, and messages to this
    /// socket's port come from that port alone. Nobody need have it. A socket that is not bound is bound by it.
    ///
    /// # Errors
    /// `EPERM` without privilege but to the kernel alone.
    pub fn connect(&mut self, port: u32, groups: u32) -> Result<(), Errno> {
        let mut connector = lock(&self.connector);
        if !connector.member(self.id).admin && (port, groups) != (0, 0) {
            return Err(Errno::PERM);
        }
        bind_if_not(&mut connector, self.id, self.owner);
        connector.member(self.id).peer = Some((port, first(groups)));
        Ok(())
    }

    /// `connect` to `AF_UNSPEC`: as before the first [`Socket::connect`], but that it stays bound.
    pub fn disconnect(&mut self) {
        lock(&self.connector).member(self.id).peer = None;
    }

    /// `getpeername`: the port, and the group as a mask; both are 0 if it is not connected.
    pub fn peer_name(&self) -> (u32, u32) {
        lock(&self.connector).member(self.id).peer.unwrap_or_default()
    }

    /// `getsockname`: the port, and the groups as a mask. After a `bind` that failed with `EADDRINUSE`, the port is the one that was not
    /// to be had, and not this socket's.
    pub fn name(&self) -> (u32, u32) {
        let mut connector = lock(&self.connector);
        let member = connector.member(self.id);
        (member.port, member.groups)
    }

    /// `NETLINK_ADD_MEMBERSHIP` of the group with that number.
    ///
    /// # Errors
    /// `EINVAL` if there is no such group, `EPERM` if it may not hear it.
    pub fn add_membership(&mut self, group: i32) -> Result<(), Errno> {
        self.set_membership(group, true)
    }

    /// `NETLINK_DROP_MEMBERSHIP`. What is queued stays.
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
        let member = connector.member(self.id);
        if on && !member.admin && group % 2 == 0 {
            return Err(Errno::PERM);
        }
        let groups = if on { member.groups | bit } else { member.groups & !bit };
        connector.set_groups(self.id, groups);
        Ok(())
    }

    /// `poll`.
    pub fn poll(&self) -> Readiness {
        let mut connector = lock(&self.connector);
        let member = connector.member(self.id);
        let (readable, error) = member.sock.readiness();
        Readiness { readable: readable || member.ended, error }
    }

    /// Takes the first datagram out of the queue, regardless of pending errors and faults.
    pub fn unqueue(&mut self) -> Option<QueuedDatagram> {
        self.with(|member| member.sock.pop())
    }

    /// Puts a datagram from [`Socket::unqueue`] back to the front of the queue, even where that exceeds the receive buffer.
    pub fn requeue(&mut self, datagram: QueuedDatagram) {
        self.with(|member| member.sock.put_back(datagram));
    }

    /// Returns whether an event that happens now would be sent to this socket: it has a port and is in the group, the kernel counts at
    /// least one listener, and the input has not ended.
    pub fn receives_events(&self) -> bool {
        let mut connector = lock(&self.connector);
        let is_counted = connector.listeners >= 1;
        let member = connector.member(self.id);
        is_counted && member.listens() && member.port != 0 && !member.ended
    }

    /// `send`: to the kernel, or to what it is connected to.
    ///
    /// # Errors
    /// As [`Socket::send_to`]; privilege was asked for when it was connected.
    pub fn send(&mut self, datagram: &[u8]) -> Result<usize, Errno> {
        let (port, groups) = self.peer_name();
        self.send_as(true, datagram, port, groups)
    }

    /// `sendto`: to the groups, of which only the first counts, and to a port; 0 is the kernel. A socket that is not bound is bound
    /// by it. How much was sent: if the port's owner has a filter that cuts it, what is left.
    ///
    /// # Errors
    /// `ENODATA` for nothing, `EMSGSIZE` for too much, `EPERM` without privilege but to the kernel alone, `ECONNREFUSED` if nobody has
    /// that port, or it is connected to another's, `EAGAIN` if its queue is full.
    pub fn send_to(&mut self, datagram: &[u8], port: u32, groups: u32) -> Result<usize, Errno> {
        let admin = lock(&self.connector).member(self.id).admin;
        self.send_as(admin, datagram, port, groups)
    }

    fn send_as(&mut self, admin: bool, datagram: &[u8], port: u32, groups: u32) -> Result<usize, Errno> {
        if datagram.is_empty() {
            return Err(Errno::NODATA);
        }
        if !admin && (port, groups) != (0, 0) {
            return Err(Errno::PERM);
        }
        let mut connector = lock(&self.connector);
        bind_if_not(&mut connector, self.id, self.owner);
        if datagram.len() > LONGEST {
            return Err(Errno::MSGSIZE);
        }
        let group = first(groups);
        if group != 0 {
            connector.multicast(self.id, datagram, group, port);
        }
        if port != 0 {
            return connector.unicast(self.id, datagram, port, group);
        }
        connector.request(self.id, datagram);
        Ok(datagram.len())
    }

    /// `recvmsg`: the next datagram into `buffer`, as much as fits. After [`Fault::End`](crate::Fault::End) and all that was queued, a
    /// datagram of no bytes.
    ///
    /// # Errors
    /// `ENOBUFS` if datagrams were dropped, before those that are queued; `EAGAIN` if none is queued; `EOPNOTSUPP` for `MSG_OOB`; what a
    /// fault script has.
    pub fn recv(&mut self, buffer: &mut [u8], flags: RecvFlags) -> Result<ReceivedDatagram, Errno> {
        if flags.contains(RecvFlags::OOB) {
            return Err(Errno::OPNOTSUPP);
        }
        let mut connector = lock(&self.connector);
        let member = connector.member(self.id);
        if member.interrupted > 0 {
            member.interrupted -= 1;
            return Err(Errno::INTR);
        }
        if member.starved > 0 {
            member.starved -= 1;
            return Err(Errno::AGAIN);
        }
        match member.sock.recv(buffer, flags) {
            Err(Errno::AGAIN) if member.ended => {
                Ok(ReceivedDatagram { len: 0, truncated: false, sender: 0, groups: 0 })
            }
            received => received,
        }
    }

    /// Asks for all events as a client does: binds to the group, if it is not bound yet, and sends the request. The kernel's
    /// acknowledgement is the next datagram.
    ///
    /// # Errors
    /// As [`Socket::bind`].
    pub fn listen(&mut self) -> Result<(), Errno> {
        let (port, groups) = self.name();
        self.bind(if self.is_bound() { port } else { 0 }, groups | GROUP)?;
        let request = SubscribeRequest::new(SubscribeOp::Listen, 0);
        self.send_to(&request.encode(self.name().0, ByteOrder::NATIVE), 0, 0).map(|_| ())
    }
}

/// `netlink_autobind`.
fn bind_if_not(connector: &mut Connector, id: usize, owner: Tgid) {
    if !connector.member(id).bound {
        let port = free_port(connector, owner);
        let member = connector.member(id);
        (member.port, member.bound) = (port, true);
    }
}

/// Of some groups, the first.
fn first(groups: u32) -> u32 {
    groups & groups.wrapping_neg()
}

fn free_port(connector: &Connector, owner: Tgid) -> u32 {
    let others = (1..=HIGHEST_PORT).rev();
    std::iter::once(owner.0).chain(others).find(|&port| connector.is_free(port)).unwrap_or(owner.0)
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
        let member = connector.member(self.id);
        // A call that was interrupted is made anew.
        member.interrupted = 0;
        if member.starved > 0 {
            member.starved -= 1;
            return Ok(Received::Empty);
        }
        if batch.is_full() {
            return Ok(Received::Datagrams(0));
        }
        match member.sock.drain(|skb| batch.push(skb.bytes(), skb.sender())) {
            Err(Errno::NOBUFS) => Ok(Received::Overrun),
            Err(error) => Err(error),
            Ok(0) if member.ended => Ok(Received::Closed),
            Ok(0) => Ok(Received::Empty),
            Ok(frames) => Ok(Received::Datagrams(frames)),
        }
    }

    fn drops(&mut self) -> Result<Option<u64>, Errno> {
        Ok(Some(lock(&self.connector).member(self.id).sock.dropped()))
    }
}
