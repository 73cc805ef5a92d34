//! The receiving half of a netlink socket, as the kernel keeps it: a queue, what it is charged, and congestion.
//!
//! After `net/netlink/af_netlink.c` of Linux 6.18; `pmon-testkit/src/differential` compares the two.

use std::collections::VecDeque;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::netlink::notifier::Notifier;

/// `SO_RCVBUF` of a new socket: `net.core.rmem_default`.
const RMEM_DEFAULT: u32 = 212_992;
/// What `SO_RCVBUF` is cut to: `net.core.rmem_max`, as it is since Linux 6.17.
pub(crate) const RMEM_MAX: u32 = 4 << 20;
/// The least that `SO_RCVBUF` can be (`SOCK_MIN_RCVBUF`).
const RCVBUF_MIN: u32 = 2304;

/// What a queued datagram of `len` bytes takes of the buffer: with its `sk_buff`, the memory that the kernel's allocator
/// gives for it (`skb->truesize`).
pub(crate) fn charge(len: usize) -> u32 {
    // Up to 256 bytes share a cache of their own (`skb_small_head_cache`); the others come in powers of two.
    if len <= 256 { 832 } else { (len as u32 + 320).next_power_of_two() + 256 }
}

/// The same for one that goes to a port and to no group: from a page on, it takes no more than it needs.
pub(crate) fn charge_alone(len: usize) -> u32 {
    let needed = (len as u32).next_multiple_of(64) + 320;
    if needed > 4096 { needed + 256 } else { charge(len) }
}

/// A datagram in the queue of a [`Socket`](crate::Socket), or taken out of it by [`Socket::unqueue`](crate::Socket::unqueue).
#[derive(Clone, Debug)]
pub struct QueuedDatagram {
    len: u32,
    /// What it takes of the buffer.
    charge: u32,
    sender: u32,
    groups: u32,
    bytes: Bytes,
}

#[derive(Clone, Debug)]
enum Bytes {
    Short([u8; SHORT]),
    Long(Box<[u8]>),
}

/// Most datagrams have no more bytes: these need no memory of their own.
const SHORT: usize = pmon_core::wire::EVENT_DATAGRAM_LEN;

impl QueuedDatagram {
    #[inline]
    fn new(datagram: &[u8], charge: u32, sender: u32, groups: u32) -> Self {
        let bytes = match <[u8; SHORT]>::try_from(datagram) {
            Ok(bytes) => Bytes::Short(bytes),
            Err(_) if datagram.len() < SHORT => {
                let mut bytes = [0; SHORT];
                bytes[..datagram.len()].copy_from_slice(datagram);
                Bytes::Short(bytes)
            }
            Err(_) => Bytes::Long(datagram.into()),
        };
        Self { len: datagram.len() as u32, charge, sender, groups, bytes }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Short(bytes) => &bytes[..self.len as usize],
            Bytes::Long(bytes) => bytes,
        }
    }

    /// The netlink port it came from.
    #[inline]
    pub(crate) fn sender(&self) -> u32 {
        self.sender
    }
}

/// What a call of `recvmsg` brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedDatagram {
    /// What `recvmsg` returns: the bytes that were copied, or with `MSG_TRUNC` those that the datagram has.
    pub len: usize,
    /// Whether `MSG_TRUNC` is set in `msg_flags`: the datagram has more bytes than were copied.
    pub truncated: bool,
    /// The sender's address, `sockaddr_nl.nl_pid`: 0 is the kernel.
    pub sender: u32,
    /// The sender's address, `sockaddr_nl.nl_groups`: the groups that it was sent to.
    pub groups: u32,
}

/// `SO_MEMINFO`, as far as it says anything of a netlink socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemInfo {
    /// What is queued, as charged (`SK_MEMINFO_RMEM_ALLOC`), in bytes.
    pub rmem_alloc: u32,
    /// The room (`SK_MEMINFO_RCVBUF`), in bytes.
    pub rcvbuf: u32,
    /// Datagrams dropped (`SK_MEMINFO_DROPS`).
    pub drops: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ReceiveQueue {
    queue: VecDeque<QueuedDatagram>,
    memory: MemInfo,
    congested: bool,
    no_enobufs: bool,
    /// `sk_err`: what the next call returns.
    error: Option<Errno>,
    /// All drops: `SK_MEMINFO_DROPS` wraps.
    dropped: u64,
    /// Who wants to know of the next thing that a call would bring.
    sleeper: Option<Arc<Notifier>>,
}

impl Default for ReceiveQueue {
    fn default() -> Self {
        let memory = MemInfo { rcvbuf: RMEM_DEFAULT, ..MemInfo::default() };
        Self {
            queue: VecDeque::new(),
            memory,
            congested: false,
            no_enobufs: false,
            error: None,
            dropped: 0,
            sleeper: None,
        }
    }
}

impl ReceiveQueue {
    /// A datagram for this socket (`netlink_broadcast_deliver`); `false` if it was dropped.
    #[inline]
    pub(crate) fn deliver(&mut self, datagram: &[u8], sender: u32, groups: u32) -> bool {
        self.deliver_charged(datagram, charge(datagram.len()), sender, groups)
    }

    /// The same of one that takes so much of the buffer: it was longer.
    #[inline]
    pub(crate) fn deliver_charged(&mut self, datagram: &[u8], charge: u32, sender: u32, groups: u32) -> bool {
        if !self.has_room(charge) {
            self.overrun();
            return false;
        }
        self.memory.rmem_alloc += charge;
        self.queue.push_back(QueuedDatagram::new(datagram, charge, sender, groups));
        self.wake_sleeper();
        true
    }

    /// Whether a datagram that takes so much would be taken.
    #[inline]
    pub(crate) fn has_room(&self, charge: u32) -> bool {
        let MemInfo { rmem_alloc, rcvbuf, .. } = self.memory;
        !self.congested && (rmem_alloc == 0 || rmem_alloc + charge <= rcvbuf)
    }

    /// `netlink_overrun`: one datagram is dropped. Until all that is queued was read, so is what comes.
    fn overrun(&mut self) {
        if !self.no_enobufs && !std::mem::replace(&mut self.congested, true) {
            self.error = Some(Errno::NOBUFS);
            self.wake_sleeper();
        }
        self.drop(1);
    }

    /// So many datagrams are dropped, and neither more nor less, however full the queue.
    pub(crate) fn lose(&mut self, datagrams: u64) {
        if !self.no_enobufs {
            self.error = Some(Errno::NOBUFS);
            self.wake_sleeper();
        }
        self.drop(datagrams);
    }

    fn drop(&mut self, datagrams: u64) {
        self.dropped += datagrams;
        self.memory.drops = self.dropped as u32;
    }

    /// Rings `bell` once, when a call would bring something.
    pub(crate) fn sleep(&mut self, bell: &Arc<Notifier>) {
        self.sleeper = Some(bell.clone());
    }

    #[inline]
    pub(crate) fn wake_sleeper(&mut self) {
        if let Some(bell) = self.sleeper.take() {
            bell.ring();
        }
    }

    /// `recvmsg` with `MSG_DONTWAIT` (`netlink_recvmsg`).
    pub(crate) fn recv(&mut self, buffer: &mut [u8], flags: RecvFlags) -> Result<ReceivedDatagram, Errno> {
        let received = self.take(flags.contains(RecvFlags::PEEK), |skb| {
            let bytes = skb.bytes();
            let copied = bytes.len().min(buffer.len());
            buffer[..copied].copy_from_slice(&bytes[..copied]);
            let len = if flags.contains(RecvFlags::TRUNC) { bytes.len() } else { copied };
            ReceivedDatagram { len, truncated: copied < bytes.len(), sender: skb.sender, groups: skb.groups }
        });
        self.wake();
        received
    }

    /// Gives queued datagrams to `visit` as long as it wants one, without a call for each.
    #[inline]
    pub(crate) fn drain(&mut self, mut visit: impl FnMut(&QueuedDatagram) -> bool) -> Result<usize, Errno> {
        if let Some(error) = self.error.take() {
            self.wake();
            return Err(error);
        }
        let mut taken = 0;
        while let Some(skb) = self.queue.front() {
            if !visit(skb) {
                break;
            }
            self.memory.rmem_alloc -= skb.charge;
            self.queue.pop_front();
            taken += 1;
        }
        self.wake();
        Ok(taken)
    }

    fn take<R>(&mut self, peek: bool, read: impl FnOnce(&QueuedDatagram) -> R) -> Result<R, Errno> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let skb = self.queue.front().ok_or(Errno::AGAIN)?;
        let result = read(skb);
        if !peek {
            self.memory.rmem_alloc -= skb.charge;
            self.queue.pop_front();
        }
        Ok(result)
    }

    /// Takes a datagram out, whatever else a call would say.
    pub(crate) fn pop(&mut self) -> Option<QueuedDatagram> {
        let skb = self.queue.pop_front()?;
        self.memory.rmem_alloc -= skb.charge;
        self.wake();
        Some(skb)
    }

    /// Puts it back where it was.
    pub(crate) fn put_back(&mut self, skb: QueuedDatagram) {
        self.memory.rmem_alloc += skb.charge;
        self.queue.push_front(skb);
    }

    /// `netlink_rcv_wake`: an empty queue ends congestion.
    fn wake(&mut self) {
        if self.queue.is_empty() {
            self.congested = false;
        }
    }

    /// `SO_RCVBUF`, where it is at most `rmem_max`, or `SO_RCVBUFFORCE`, where that is `None`.
    pub(crate) fn set_rcvbuf(&mut self, bytes: i32, rmem_max: Option<u32>) {
        let bytes = match rmem_max {
            // A negative number is a large one to this comparison, in the kernel.
            Some(most) => (bytes as u32).min(most),
            None => bytes.max(0) as u32,
        };
        self.memory.rcvbuf = (bytes.min(i32::MAX as u32 / 2) * 2).max(RCVBUF_MIN);
    }

    /// `NETLINK_NO_ENOBUFS`.
    pub(crate) fn set_no_enobufs(&mut self, on: bool) {
        self.no_enobufs = on;
        if on {
            self.congested = false;
        }
    }

    pub(crate) fn no_enobufs(&self) -> bool {
        self.no_enobufs
    }

    /// `SO_MEMINFO`.
    pub(crate) fn memory(&self) -> MemInfo {
        self.memory
    }

    /// All datagrams dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// `SO_ERROR`.
    pub(crate) fn take_error(&mut self) -> Option<Errno> {
        self.error.take()
    }

    /// Whether nothing is queued, and nothing wrong.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.error.is_none() && !self.congested
    }

    /// What `poll` tells: whether a call would bring a datagram, and whether it would fail.
    pub(crate) fn readiness(&self) -> (bool, bool) {
        (!self.queue.is_empty(), self.error.is_some())
    }
}
