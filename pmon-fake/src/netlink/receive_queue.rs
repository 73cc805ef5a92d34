//! The receive queue of a netlink socket: buffer accounting, overruns (`ENOBUFS`) and congestion.
//!
//! After `net/netlink/af_netlink.c` of Linux 6.18; the `differential` tool of `pmon-testkit`
//! compares the two.

use std::collections::VecDeque;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::netlink::notifier::Notifier;

/// `SO_RCVBUF` of a new socket in bytes: `net.core.rmem_default`.
const RMEM_DEFAULT: u32 = 212_992;
/// The default of `net.core.rmem_max` in bytes since Linux 6.17; it limits `SO_RCVBUF`.
pub(crate) const RMEM_MAX: u32 = 4 << 20;
/// The minimum of `SO_RCVBUF` in bytes (`SOCK_MIN_RCVBUF`).
const RCVBUF_MIN: u32 = 2304;
/// Datagrams of up to this length are stored without an allocation; most have exactly this length.
const INLINE_LEN: usize = pmon_core::wire::EVENT_DATAGRAM_LEN;

/// Returns the bytes of receive buffer that a multicast datagram of `len` bytes occupies
/// (`skb->truesize`).
///
/// This is the memory that the kernel allocates for the data, and the `sk_buff` itself.
pub(crate) fn truesize(len: usize) -> u32 {
    // Up to 256 bytes come from a cache of their own (`skb_small_head_cache`), the others from
    // power-of-two caches.
    if len <= 256 { 832 } else { (len as u32 + 320).next_power_of_two() + 256 }
}

/// Returns the bytes of receive buffer that a unicast datagram of `len` bytes occupies. Above a
/// page of data, the kernel charges only the length.
pub(crate) fn truesize_unicast(len: usize) -> u32 {
    let needed = (len as u32).next_multiple_of(64) + 320;
    if needed > 4096 { needed + 256 } else { truesize(len) }
}

/// A datagram in the queue of a [`Socket`](crate::Socket), or taken out of it by
/// [`Socket::unqueue`](crate::Socket::unqueue).
#[derive(Clone, Debug)]
pub struct QueuedDatagram {
    len: u32,
    /// Bytes of receive buffer that the datagram occupies.
    truesize: u32,
    /// The sender's netlink port; 0 is the kernel.
    pub(crate) sender: u32,
    groups: u32,
    bytes: QueuedBytes,
}

#[derive(Clone, Debug)]
enum QueuedBytes {
    Inline([u8; INLINE_LEN]),
    Boxed(Box<[u8]>),
}

impl QueuedDatagram {
    #[inline]
    fn new(datagram: &[u8], truesize: u32, sender: u32, groups: u32) -> Self {
        let bytes = match <[u8; INLINE_LEN]>::try_from(datagram) {
            Ok(bytes) => QueuedBytes::Inline(bytes),
            Err(_) if datagram.len() < INLINE_LEN => {
                let mut bytes = [0; INLINE_LEN];
                bytes[..datagram.len()].copy_from_slice(datagram);
                QueuedBytes::Inline(bytes)
            }
            Err(_) => QueuedBytes::Boxed(datagram.into()),
        };
        Self { len: datagram.len() as u32, truesize, sender, groups, bytes }
    }

    /// Returns the port of the sender; 0 is the kernel.
    pub fn sender(&self) -> u32 {
        self.sender
    }

    /// Returns the contents of the datagram.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            QueuedBytes::Inline(bytes) => &bytes[..self.len as usize],
            QueuedBytes::Boxed(bytes) => bytes,
        }
    }

    /// Returns the groups that the datagram was sent to.
    pub fn groups(&self) -> u32 {
        self.groups
    }
}

/// The result of one [`Socket::recv`](crate::Socket::recv).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedDatagram {
    /// The return value of `recvmsg`: the bytes copied, or with `MSG_TRUNC` the length of the
    /// datagram.
    pub len: usize,
    /// Whether `MSG_TRUNC` is set in `msg_flags`: the datagram is longer than the buffer.
    pub truncated: bool,
    /// The sender's port (`sockaddr_nl.nl_pid`); 0 is the kernel.
    pub sender: u32,
    /// The groups that the datagram was sent to (`sockaddr_nl.nl_groups`).
    pub groups: u32,
}

/// The values of `SO_MEMINFO` that concern the receiving side of a netlink socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemInfo {
    /// Bytes of receive buffer that the queued datagrams occupy (`SK_MEMINFO_RMEM_ALLOC`).
    pub rmem_alloc: u32,
    /// The size of the receive buffer in bytes (`SK_MEMINFO_RCVBUF`).
    pub rcvbuf: u32,
    /// Datagrams dropped, modulo 2^32 (`SK_MEMINFO_DROPS`).
    pub drops: u32,
}

/// The receive queue of one socket.
#[derive(Debug)]
pub(crate) struct ReceiveQueue {
    datagrams: VecDeque<QueuedDatagram>,
    pub(crate) memory: MemInfo,
    /// Whether the socket drops everything until a receive call leaves the queue empty
    /// (`NETLINK_S_CONGESTED`).
    congested: bool,
    pub(crate) no_enobufs: bool,
    /// The error that the next call returns (`sk_err`).
    pub(crate) error: Option<Errno>,
    /// Datagrams dropped; unlike [`MemInfo::drops`], this count does not wrap.
    pub(crate) dropped: u64,
    /// The number of the scripted overrun that was reported last; 0 is none.
    last_scripted_overrun: u64,
    /// Notified once, when a receive call would return something.
    pub(crate) waiter: Option<Arc<Notifier>>,
}

impl Default for ReceiveQueue {
    fn default() -> Self {
        let memory = MemInfo { rcvbuf: RMEM_DEFAULT, ..MemInfo::default() };
        Self {
            datagrams: VecDeque::new(),
            memory,
            congested: false,
            no_enobufs: false,
            error: None,
            dropped: 0,
            last_scripted_overrun: 0,
            waiter: None,
        }
    }
}

impl ReceiveQueue {
    /// Queues a multicast datagram (`netlink_broadcast_deliver`), or drops it and returns `false`.
    #[inline]
    pub(crate) fn deliver(&mut self, datagram: &[u8], sender: u32, groups: u32) -> bool {
        self.enqueue(datagram, truesize(datagram.len()), sender, groups)
    }

    /// Queues a datagram that occupies `truesize` bytes, or drops it and returns `false`.
    #[inline]
    pub(crate) fn enqueue(&mut self, datagram: &[u8], truesize: u32, sender: u32, groups: u32) -> bool {
        if !self.has_room(truesize) {
            self.overrun();
            return false;
        }
        self.memory.rmem_alloc += truesize;
        self.datagrams.push_back(QueuedDatagram::new(datagram, truesize, sender, groups));
        self.notify_waiter();
        true
    }

    /// Returns whether a datagram that occupies `truesize` bytes would be queued.
    #[inline]
    pub(crate) fn has_room(&self, truesize: u32) -> bool {
        let MemInfo { rmem_alloc, rcvbuf, .. } = self.memory;
        !self.congested && (rmem_alloc == 0 || rmem_alloc + truesize <= rcvbuf)
    }

    /// Drops one datagram for lack of buffer space and makes the socket congested
    /// (`netlink_overrun`).
    fn overrun(&mut self) {
        if !self.no_enobufs && !std::mem::replace(&mut self.congested, true) {
            self.error = Some(Errno::NOBUFS);
            self.notify_waiter();
        }
        self.count_drops(1);
    }

    /// Drops one datagram of the scripted overrun with this number, which is reported once, like a
    /// real overrun during which no datagram is received.
    pub(crate) fn lose(&mut self, overrun: u64) {
        if std::mem::replace(&mut self.last_scripted_overrun, overrun) == overrun {
            self.count_drops(1);
        } else {
            self.overrun();
        }
    }

    /// Counts `datagrams` as dropped and reports `ENOBUFS`, without congestion and regardless of
    /// the buffer's state.
    pub(crate) fn force_drops(&mut self, datagrams: u64) {
        if !self.no_enobufs {
            self.error = Some(Errno::NOBUFS);
            self.notify_waiter();
        }
        self.count_drops(datagrams);
    }

    fn count_drops(&mut self, datagrams: u64) {
        self.dropped += datagrams;
        self.memory.drops = self.dropped as u32;
    }

    #[inline]
    pub(crate) fn notify_waiter(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            waiter.notify();
        }
    }

    /// Receives a datagram without waiting (`netlink_recvmsg`).
    pub(crate) fn recv(&mut self, buffer: &mut [u8], flags: RecvFlags) -> Result<ReceivedDatagram, Errno> {
        let received = self.read_first(buffer, flags);
        if received.is_ok() && !flags.contains(RecvFlags::PEEK) {
            self.remove_first();
        }
        self.end_congestion_if_empty();
        received
    }

    /// Copies the first datagram to `buffer`, or returns and clears the pending error.
    fn read_first(&mut self, buffer: &mut [u8], flags: RecvFlags) -> Result<ReceivedDatagram, Errno> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let datagram = self.datagrams.front().ok_or(Errno::AGAIN)?;
        let bytes = datagram.bytes();
        let copied = bytes.len().min(buffer.len());
        buffer[..copied].copy_from_slice(&bytes[..copied]);
        let len = if flags.contains(RecvFlags::TRUNC) { bytes.len() } else { copied };
        let (truncated, sender, groups) = (copied < bytes.len(), datagram.sender, datagram.groups);
        Ok(ReceivedDatagram { len, truncated, sender, groups })
    }

    /// Removes datagrams as long as `visit` accepts them by returning `true`; returns how many were
    /// removed.
    ///
    /// # Errors
    /// Returns the pending error instead, and clears it.
    #[inline]
    pub(crate) fn drain(&mut self, mut visit: impl FnMut(&QueuedDatagram) -> bool) -> Result<usize, Errno> {
        if let Some(error) = self.error.take() {
            self.end_congestion_if_empty();
            return Err(error);
        }
        let mut removed = 0;
        while let Some(datagram) = self.datagrams.front() {
            if !visit(datagram) {
                break;
            }
            self.remove_first();
            removed += 1;
        }
        self.end_congestion_if_empty();
        Ok(removed)
    }

    #[inline]
    fn remove_first(&mut self) -> Option<QueuedDatagram> {
        let datagram = self.datagrams.pop_front()?;
        self.memory.rmem_alloc -= datagram.truesize;
        Some(datagram)
    }

    /// Removes the first datagram, even if an error is pending.
    pub(crate) fn pop(&mut self) -> Option<QueuedDatagram> {
        let datagram = self.remove_first();
        self.end_congestion_if_empty();
        datagram
    }

    /// Puts a removed datagram back to the front, even if the buffer is full.
    pub(crate) fn push_front(&mut self, datagram: QueuedDatagram) {
        self.memory.rmem_alloc += datagram.truesize;
        self.datagrams.push_front(datagram);
    }

    /// Returns and clears the pending error.
    ///
    /// Congestion of an empty queue ends. In the kernel, a full queue precedes congestion, and the
    /// call that empties the queue ends it. A scripted loss finds the queue empty, and a consumer
    /// that takes its error by `SO_ERROR` or `recvmmsg` might never receive again.
    pub(crate) fn take_error(&mut self) -> Option<Errno> {
        let error = self.error.take();
        self.end_congestion_if_empty();
        error
    }

    /// Ends congestion if the queue is empty (`netlink_rcv_wake`).
    fn end_congestion_if_empty(&mut self) {
        if self.datagrams.is_empty() {
            self.congested = false;
        }
    }

    /// Sets `SO_RCVBUF` with the given `rmem_max`, or `SO_RCVBUFFORCE` where that is `None`.
    pub(crate) fn set_rcvbuf(&mut self, bytes: i32, rmem_max: Option<u32>) {
        let bytes = match rmem_max {
            // The kernel compares unsigned numbers: a negative size is a large one.
            Some(max) => (bytes as u32).min(max),
            None => bytes.max(0) as u32,
        };
        self.memory.rcvbuf = (bytes.min(i32::MAX as u32 / 2) * 2).max(RCVBUF_MIN);
    }

    /// Sets `NETLINK_NO_ENOBUFS`, which also ends congestion.
    pub(crate) fn set_no_enobufs(&mut self, on: bool) {
        self.no_enobufs = on;
        if on {
            self.congested = false;
        }
    }

    /// Returns whether the socket drops everything until its queue is empty.
    pub(crate) fn is_congested(&self) -> bool {
        self.congested
    }

    /// Returns whether no datagram is queued, no error pending, and the socket not congested.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.datagrams.is_empty() && self.error.is_none() && !self.congested
    }

    /// Returns whether a receive call would return a datagram, and whether it would fail (`poll`).
    pub(crate) fn readiness(&self) -> (bool, bool) {
        (!self.datagrams.is_empty(), self.error.is_some())
    }
}
