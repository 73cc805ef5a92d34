//! The connector's state of one open socket: its address, its receive queue, and the subscription
//! it requested.
//!
//! After `cn_proc_mcast_ctl` and `cn_filter` of `drivers/connector/cn_proc.c`.

use pmon_core::wire::{EventKind, layout, u32_at};
use rustix::io::Errno;

use crate::netlink::filter::ClassicFilter;
use crate::netlink::message::PROC_GROUP;
use crate::netlink::receive_queue::ReceiveQueue;
use crate::netlink::request::ParsedRequest;

/// The mask of all events (`PROC_EVENT_ALL`).
const MASK_ALL: u32 = 0xE000_03C7;
/// The bit of a mask that selects exits with a code other than 0 (`PROC_EVENT_NONZERO_EXIT`).
const MASK_NONZERO_EXIT: u32 = 0x2000_0000;
/// The operation that subscribes (`PROC_CN_MCAST_LISTEN`).
const LISTEN: u32 = 1;
/// The operation that unsubscribes (`PROC_CN_MCAST_IGNORE`).
const IGNORE: u32 = 2;

/// `SO_SNDBUF` of a new socket in bytes: `net.core.wmem_default`.
const WMEM_DEFAULT: u32 = 212_992;
/// The default of `net.core.wmem_max` in bytes since Linux 6.17; it limits `SO_SNDBUF`.
const WMEM_MAX: u32 = 4 << 20;
/// The minimum of `SO_SNDBUF` in bytes (`SOCK_MIN_SNDBUF`).
const SNDBUF_MIN: u32 = 4608;

/// The size of a send buffer, `SO_SNDBUF`, which limits the length of a datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendBuffer {
    pub(crate) bytes: u32,
}

impl Default for SendBuffer {
    fn default() -> Self {
        Self { bytes: WMEM_DEFAULT }
    }
}

impl SendBuffer {
    /// The kernel's overhead of a datagram in bytes.
    const OVERHEAD: u32 = 32;

    /// Sets the size as `SO_SNDBUF` does, or as `SO_SNDBUFFORCE` if `is_forced`.
    pub(crate) fn set(&mut self, bytes: i32, is_forced: bool) {
        // The kernel compares unsigned numbers: a negative size is a large one.
        let bytes = if is_forced { bytes.max(0) as u32 } else { (bytes as u32).min(WMEM_MAX) };
        self.bytes = (bytes.min(i32::MAX as u32 / 2) * 2).max(SNDBUF_MIN);
    }

    /// Returns the maximum length of a datagram.
    pub(crate) fn max_datagram(self) -> usize {
        (self.bytes - Self::OVERHEAD) as usize
    }
}

/// The state of one socket.
#[derive(Debug, Default)]
pub(crate) struct SocketState {
    pub(crate) queue: ReceiveQueue,
    pub(crate) send_buffer: SendBuffer,
    pub(crate) port: u32,
    /// Whether the socket owns its port. After `EADDRINUSE`, `port` is another socket's.
    pub(crate) bound: bool,
    pub(crate) groups: u32,
    /// The rank of the socket's first join among all joins. A multicast is delivered to the highest
    /// rank first.
    pub(crate) join_order: u64,
    /// Port and group of `connect`. A connected socket receives unicasts from this port only.
    pub(crate) peer: Option<(u32, u32)>,
    pub(crate) filter: Option<ClassicFilter>,
    /// Whether `SO_LOCK_FILTER` is set.
    pub(crate) filter_is_locked: bool,
    /// Whether any request was to subscribe.
    pub(crate) has_subscribed: bool,
    /// The last request (`sk_user_data`).
    last_request: Option<LastRequest>,
    pub(crate) open: bool,
    /// Whether the owner has `CAP_NET_ADMIN`.
    pub(crate) privileged: bool,
    /// Number of coming receive calls that fail with `EINTR` (fault `eintr`).
    pub(crate) eintr_calls: u32,
    /// Number of coming receive calls that fail with `EAGAIN` (fault `eagain`).
    pub(crate) eagain_calls: u32,
    /// Whether the input has ended: after the queue, the socket is at end of file (fault `end`).
    pub(crate) ended: bool,
}

/// Operation and mask of a request.
#[derive(Clone, Copy, Debug)]
struct LastRequest {
    operation: u32,
    mask: u32,
}

impl SocketState {
    pub(crate) fn new(privileged: bool) -> Self {
        Self { open: true, privileged, ..Self::default() }
    }

    /// Closes the socket; as in the kernel, the listener count does not change.
    pub(crate) fn close(&mut self) {
        *self = Self { open: false, ..Self::new(self.privileged) };
    }

    /// Applies a request; returns the change of the kernel's listener count and the errno of the
    /// acknowledgement.
    pub(crate) fn apply_request(&mut self, request: &ParsedRequest) -> (i32, u32) {
        let mask = match request.mask.map(|mask| mask & MASK_ALL) {
            None | Some(0) => MASK_ALL,
            Some(mask) => mask,
        };
        let previous = self.last_request.replace(LastRequest { operation: request.operation, mask });
        self.has_subscribed |= request.operation == LISTEN;
        match request.operation {
            LISTEN => (i32::from(previous.is_none_or(|previous| previous.operation != LISTEN)), 0),
            IGNORE => {
                self.last_request = Some(LastRequest { operation: IGNORE, mask: 0 });
                (-i32::from(previous.is_some_and(|previous| previous.operation != IGNORE)), 0)
            }
            _ => (0, Errno::INVAL.raw_os_error() as u32),
        }
    }

    /// Returns whether the socket is a member of the group of process events.
    pub(crate) fn is_in_proc_group(&self) -> bool {
        self.groups & PROC_GROUP != 0
    }

    /// Returns whether the kernel sends an event to the socket, unless its subscription or its
    /// filter excludes it. As in the kernel, a socket without a port compares equal to the sending
    /// kernel and is left out.
    #[inline]
    pub(crate) fn is_addressed_by_kernel(&self) -> bool {
        self.is_in_proc_group() && self.port != 0 && !self.ended
    }

    /// Returns whether the socket has sent a request.
    pub(crate) fn has_requested(&self) -> bool {
        self.last_request.is_some()
    }

    /// Returns whether the socket's last request was to receive no events.
    pub(crate) fn ignores_events(&self) -> bool {
        matches!(self.last_request, Some(LastRequest { operation: IGNORE, .. }))
    }

    /// Returns whether the next event could be handed to the reader at once: nothing is queued,
    /// filtered or masked.
    #[inline]
    pub(crate) fn accepts_directly(&self) -> bool {
        self.is_addressed_by_kernel()
            && self.eagain_calls == 0
            && self.filter.is_none()
            && matches!(self.last_request, None | Some(LastRequest { operation: LISTEN, mask: MASK_ALL }))
            && self.queue.is_idle()
    }

    /// Returns whether the subscription's mask selects an event of the kernel (`cn_filter`).
    #[inline]
    pub(crate) fn mask_selects(&self, datagram: &[u8]) -> bool {
        match self.last_request {
            None | Some(LastRequest { operation: LISTEN, mask: MASK_ALL }) => true,
            Some(LastRequest { operation: IGNORE, .. }) => false,
            Some(LastRequest { mask, .. }) => {
                let what = u32_at(datagram, layout::WHAT.start);
                let code = u32_at(datagram, layout::EXIT_CODE.start);
                let is_failure =
                    mask & MASK_NONZERO_EXIT != 0 && Some(what) == EventKind::Exit.what() && code != 0;
                mask == MASK_ALL || is_failure || mask & what != 0
            }
        }
    }
}
